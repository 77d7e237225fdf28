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
        tokens = 16 + (model.config.pooling == "cls")
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


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_to_the_bit(name, tmp_path):
    config = VisionTransformerConfig.from_preset(name, num_labels=5, image_size=32)
    model = VisionTransformerForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    pixel_values = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(pixel_values).logits, reloaded(pixel_values).logits)


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
    with pytest.raises(ValueError, match="cannot be cut into patches of 4"):
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
    ],
)
def test_configs_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        VisionTransformerConfig(**fields)
