import pytest
import torch
import transformers
from model_checks import ClassifierChecks
from transformers import AutoModelForImageClassification

from hfvision import VisionTransformerConfig, VisionTransformerForImageClassification, convert_vit
from hfvision.models.vit.configuration_vit import PRESETS


class ViTChecks(ClassifierChecks):
    model_class = VisionTransformerForImageClassification
    auto_class = AutoModelForImageClassification

    def inputs(self):
        generator = torch.Generator().manual_seed(1)
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator), "labels": torch.tensor([0, 2])}

    def gradcheck_input(self):
        return self.inputs()["pixel_values"][:1, :, :8, :8]

    def test_attentions_on_request(self):
        model = self.model()
        model.set_attn_implementation("eager")
        with torch.no_grad():
            attentions = model(self.inputs()["pixel_values"], output_attentions=True).attentions
        heads = model.config.per_layer("num_attention_heads")
        tokens = 16 + (model.config.pooling == "cls") + model.config.distillation_token
        assert [tuple(a.shape) for a in attentions] == [(2, h, tokens, tokens) for h in heads]
        torch.testing.assert_close(attentions[0].sum(-1), torch.ones_like(attentions[0][..., 0]))

    def test_eager_and_sdpa_agree(self):
        model = self.model()
        model.set_attn_implementation("eager")
        eager = self.output(model)
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(self.output(model), eager)


class TestClassTokenViT(ViTChecks):
    def config(self):
        return VisionTransformerConfig(
            image_size=16,
            patch_size=4,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=32,
            num_labels=3,
            initializer_range=0.2,
        )


class TestPrunedMeanViT(ViTChecks):
    def config(self):
        return VisionTransformerConfig(
            image_size=16,
            patch_size=4,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=[3, 1, 2],
            head_dim=8,
            intermediate_size=[32, 5, 17],
            pooling="mean",
            num_labels=3,
            initializer_range=0.2,
        )


class TestStemViT(ViTChecks):
    def config(self):
        return VisionTransformerConfig(
            image_size=16,
            patch_size=4,
            stem_widths=[6, 8, 12],
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=32,
            pooling="mean",
            num_labels=3,
            initializer_range=0.2,
        )


class DistilledChecks(ViTChecks):
    pooling: str

    def config(self):
        return VisionTransformerConfig(
            image_size=16,
            patch_size=4,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=32,
            pooling=self.pooling,
            distillation_token=True,
            num_labels=3,
            initializer_range=0.2,
        )

    def test_logits_are_the_mean_of_two_heads(self):
        model = self.model()
        with torch.no_grad():
            outputs = model(self.inputs()["pixel_values"], labels=self.inputs()["labels"])
            tokens = model.vit(self.inputs()["pixel_values"]).last_hidden_state
        pooled = tokens[:, 0] if self.pooling == "cls" else tokens[:, 1:].mean(1)
        token = tokens[:, 1] if self.pooling == "cls" else tokens[:, 0]
        with torch.no_grad():
            torch.testing.assert_close(outputs.cls_logits, model.classifier(pooled))
            torch.testing.assert_close(outputs.distillation_logits, model.distillation_classifier(token))
        torch.testing.assert_close(outputs.logits, (outputs.cls_logits + outputs.distillation_logits) / 2)
        losses = [
            torch.nn.functional.cross_entropy(logits, self.inputs()["labels"])
            for logits in (outputs.cls_logits, outputs.distillation_logits)
        ]
        torch.testing.assert_close(outputs.loss, sum(losses) / 2)


class TestDistilledClassTokenViT(DistilledChecks):
    pooling = "cls"


class TestDistilledMeanViT(DistilledChecks):
    pooling = "mean"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_positions_of_the_extra_tokens_are_not_interpolated(pooling):
    config = VisionTransformerConfig.from_preset("cifar", pooling=pooling, distillation_token=True)
    embeddings = VisionTransformerForImageClassification(config).vit.embeddings
    prefix = 1 + (pooling == "cls")
    with torch.no_grad():
        embeddings.position_embeddings[:, prefix:] = 3.0
        positions = embeddings.positions(6, 10)
    assert positions.shape == (1, prefix + 60, config.hidden_size)
    assert torch.equal(positions[:, :prefix], embeddings.position_embeddings[:, :prefix])
    torch.testing.assert_close(positions[:, prefix:], torch.full_like(positions[:, prefix:], 3.0))


def test_a_teacher_network_of_deit_gives_equal_logits():
    """transformers' DeiT with the same weights: same order of tokens, same heads."""
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    deit = transformers.DeiTForImageClassificationWithTeacher(
        transformers.DeiTConfig(**sizes, intermediate_size=32, layer_norm_eps=1e-6, num_labels=3)
    ).eval()
    for parameter in deit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    config = VisionTransformerConfig(**sizes, intermediate_size=32, num_labels=3, distillation_token=True)
    ours = VisionTransformerForImageClassification(config).eval()
    renames = {
        "deit.": "vit.",
        "cls_classifier": "classifier",
        "vit.encoder.layer.": "vit.layers.",
        "patch_embeddings.projection": "projection",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "vit.layernorm": "vit.norm",
    }
    state = {}
    for key, tensor in deit.state_dict().items():
        for old, new in renames.items():
            key = key.replace(old, new)
        state[key] = tensor
    ours.load_state_dict(state)
    pixel_values = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixel_values).logits, deit(pixel_values).logits, atol=1e-5, rtol=1e-5)


def test_stochastic_depth_drops_whole_branches_of_images_in_training_alone():
    torch.manual_seed(0)
    config = VisionTransformerConfig.from_preset("cifar", num_hidden_layers=3, drop_path_rate=0.6)
    model = VisionTransformerForImageClassification(config).train()
    assert [layer.drop_path.rate for layer in model.vit.layers] == pytest.approx([0.2, 0.4, 0.6])
    branch = torch.ones(4000, 2, 3)
    dropped = model.vit.layers[2].drop_path(branch)
    assert dropped.unique().tolist() == pytest.approx([0.0, 2.5])
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(model.eval().vit.layers[2].drop_path(branch), branch)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_to_the_bit(name, tmp_path):
    config = VisionTransformerConfig.from_preset(name, num_labels=5, image_size=32)
    model = VisionTransformerForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, reloaded.state_dict()[name]), name
    pixel_values = torch.randn(1, 3, 32, 32)
    with torch.no_grad():  # where a weight lies in memory may change the last bit of a product
        torch.testing.assert_close(model(pixel_values).logits, reloaded(pixel_values).logits, atol=1e-6, rtol=1e-5)


@pytest.fixture
def transformers_vit():
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=32,
            patch_size=8,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=40,
            num_labels=5,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
def test_converted_checkpoint_gives_equal_logits(transformers_vit, size):
    converted = convert_vit(transformers_vit)
    pixel_values = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = transformers_vit(pixel_values, interpolate_pos_encoding=True).logits
        torch.testing.assert_close(converted(pixel_values).logits, expected, atol=1e-5, rtol=1e-5)
    assert converted.config.id2label == transformers_vit.config.id2label


def test_image_sides_must_fit_the_patches():
    model = VisionTransformerForImageClassification(VisionTransformerConfig.from_preset("cifar"))
    assert model(torch.randn(1, 3, 40, 24)).logits.shape == (1, 2)
    with pytest.raises(ValueError, match="cannot be cut into patches of 8"):
        model(torch.randn(1, 3, 30, 32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 100, "num_attention_heads": 3}, "head_dim must be given"),
        ({"num_attention_heads": [3, 3], "head_dim": 8}, "one number of at least 1 for each of the 12 layers"),
        ({"intermediate_size": [0] * 12}, "intermediate_size"),
        ({"image_size": 30}, "multiple of patch_size"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"),
        ({"pooling": "max"}, "pooling"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"stem_widths": [8, 16]}, "at least 4 widths"),
        ({"stem_widths": [8, 8, 8, 0]}, "widths of at least 1"),
        ({"stem_widths": [8, 16], "patch_size": 14}, "power of 2"),
    ],
)
def test_configs_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        VisionTransformerConfig(**fields)
