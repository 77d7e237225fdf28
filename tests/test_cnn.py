import json

import pytest
import torch
from model_checks import ClassifierChecks
from safetensors.torch import load_file, save_file
from torch.nn.functional import adaptive_avg_pool2d
from transformers import AutoBackbone, AutoModel, AutoModelForImageClassification, ResNetConfig, ResNetModel

from hfvision import CNNBackbone, CNNConfig, CNNForImageClassification, CNNModel
from hfvision.models.cnn.configuration_cnn import PRESETS


class CNNChecks(ClassifierChecks):
    model_class = CNNForImageClassification
    auto_class = AutoModelForImageClassification

    def inputs(self):
        generator = torch.Generator().manual_seed(1)
        return {
            "pixel_values": torch.randn(2, self.config().num_channels, 16, 16, generator=generator),
            "labels": torch.tensor([0, 2]),
        }

    def gradcheck_input(self):
        return self.inputs()["pixel_values"][:1, :, :8, :8]


class TestPlainCNN(CNNChecks):
    def config(self):
        return CNNConfig(
            image_size=16,
            stage_widths=[[[5, 6]], [[7]]],
            stage_strides=[2, 2],
            downsample="pool_first",
            hidden_act="gelu",
            classifier_hidden_size=9,
            num_labels=3,
        )


class TestResidualCNN(CNNChecks):
    def config(self):
        return CNNConfig(
            image_size=16,
            stem_width=8,
            stage_widths=[[[4, 8], [5, 8]], [[6, 10]]],
            stage_strides=[1, 2],
            block_type="basic",
            hidden_act="gelu",
            num_labels=3,
        )


class TestTextbookCNN(CNNChecks):
    def config(self):
        return CNNConfig.from_preset(
            "textbook",
            num_channels=1,
            stage_widths=[[[4]], [[6]]],
            pool_size=2,
            classifier_hidden_size=8,
            num_labels=3,
        )


class TestTimmCNN(CNNChecks):
    def config(self):
        return CNNConfig(backbone="timm/test_convnext", image_size=16, num_labels=3, classifier_hidden_size=6)

    def inputs(self):
        inputs = super().inputs()
        inputs["pixel_values"] = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        return inputs

    def gradcheck_input(self):
        return self.inputs()["pixel_values"][:1]

    def test_gradients_are_right_in_float64(self):
        pytest.skip("timm's own layers are timm's to test; the head is the same as the other CNNs'")

    def test_own_initialisation(self):
        """timm's initialisation is kept: its convolutions are not drawn again."""
        model = CNNForImageClassification(self.config())
        assert model.cnn.encoder.stem[0].weight.std() < 0.03


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_round_trip_to_the_bit(preset, tmp_path):
    config = CNNConfig.from_preset(preset, num_labels=5)
    model = CNNForImageClassification(config).eval()
    pixel_values = torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, reloaded.state_dict()[name]), name
    with torch.no_grad():  # where a weight lies in memory may change the last bit of a product
        torch.testing.assert_close(model(pixel_values).logits, reloaded(pixel_values).logits)


def test_textbook_network_is_the_textbooks():
    model = CNNForImageClassification(CNNConfig.from_preset("textbook", num_labels=10))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")}
    assert list(shapes.values()) == [(64, 3, 3, 3), (128, 64, 3, 3), (256, 128 * 7 * 7), (10, 256)]


def test_textbook_network_keeps_the_batch_at_any_size():
    model = CNNForImageClassification(CNNConfig.from_preset("textbook", num_labels=10)).eval()
    for size in (28, 32, 224):
        assert model(torch.randn(2, 3, size, size)).logits.shape == (2, 10)


def test_full_flatten_takes_its_own_size_alone():
    config = CNNConfig.from_preset("textbook", image_size=32, pool_size=None, num_labels=10)
    model = CNNForImageClassification(config).eval()
    assert model.hidden[0].in_features == 128 * 8 * 8
    assert model(torch.randn(2, 3, 32, 32)).logits.shape == (2, 10)
    with pytest.raises(ValueError, match="images of 32×32 pixels only"):
        model(torch.randn(2, 3, 28, 28))


def test_resnet_shapes_are_the_papers():
    """Parameters of He et al.'s networks with 1,000 classes, as torchvision counts them."""
    for name, parameters in (("resnet18", 11_689_512), ("resnet50", 25_557_032)):
        with torch.device("meta"):
            model = CNNForImageClassification(CNNConfig.from_preset(name, num_labels=1000))
        assert model.num_parameters() == parameters


def test_resnet18_computes_what_transformers_resnet_computes():
    torch.manual_seed(0)
    theirs = ResNetModel(
        ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    ).eval()
    ours = CNNModel(CNNConfig.from_preset("resnet18")).eval()
    state = dict(zip(ours.state_dict(), [None] * len(ours.state_dict()), strict=True))
    source = theirs.state_dict()
    shortcuts = {key: value for key, value in source.items() if "shortcut" in key}
    rest = [value for key, value in source.items() if "shortcut" not in key]
    ours_rest = [key for key in state if "shortcut" not in key]
    ours_shortcuts = [key for key in state if "shortcut" in key]
    ours.load_state_dict(
        dict(zip(ours_rest, rest, strict=True)) | dict(zip(ours_shortcuts, shortcuts.values(), strict=True))
    )
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, got = theirs(pixel_values), ours(pixel_values)
    torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state)
    torch.testing.assert_close(got.pooler_output, expected.pooler_output.flatten(1))


def test_pruned_widths_reload_with_identity_and_projected_shortcuts(tmp_path):
    config = CNNConfig(
        stem_width=6,
        stage_widths=[[[3, 6], [5, 6]], [[2, 6]]],
        stage_strides=[1, 1],
        block_type="basic",
        shortcut_projections=[[True, False], [False]],
        num_labels=2,
    )
    model = CNNForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    reloaded = CNNForImageClassification.from_pretrained(tmp_path)
    assert reloaded.config.shortcut_projections == [[True, False], [False]]
    pixel_values = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values).logits, reloaded(pixel_values).logits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage_strides": [2]}, "stage_strides"),
        ({"stage_widths": [[[0]], [[4]], [[4]]]}, "at least 1"),
        ({"stage_widths": [[], [[4]], [[4]]]}, "at least one width"),
        ({"block_type": "bottleneck"}, "has 3 convolutions"),
        ({"pool_size": 0}, "pool_size must be at least 1 or None"),
        ({"classifier_dropout": 1.5}, "classifier_dropout"),
        ({"shortcut_projections": [[True], [True], [True]]}, "block_type"),
        (
            {
                "block_type": "basic",
                "stage_widths": [[[4, 4]]],
                "stage_strides": [2],
                "shortcut_projections": [[False]],
            },
            "needed projection",
        ),
        ({"backbone": "timm/test_resnet", "backbone_kwargs": {"drop_pth": 1}}, "does not take backbone_kwargs"),
        ({"backbone": "timm/test_resnet", "backbone_kwargs": {"num_classes": 4}}, "cannot hold 'num_classes'"),
        ({"backbone_kwargs": {"drop_rate": 0.1}}, "need a timm model"),
        ({"backbone": "timm/convnext_attto"}, "has no model called 'convnext_attto'"),
    ],
)
def test_configs_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        CNNForImageClassification(CNNConfig(**fields))


def test_images_that_vanish_are_refused():
    model = CNNForImageClassification(CNNConfig.from_preset("cifar"))
    assert model.eval()(torch.randn(1, 3, 9, 9)).logits.shape == (1, 2)
    with pytest.raises(ValueError, match="needs at least 9×9"):
        model(torch.randn(1, 3, 8, 8))


def test_backbone_gives_the_feature_maps_that_are_asked_for(tmp_path):
    config = CNNConfig.from_preset("tiny", out_features=["stage1", "stage3"])
    backbone = CNNBackbone(config).eval()
    feature_maps = backbone(torch.randn(1, 3, 32, 32)).feature_maps
    assert [tuple(feature_map.shape[1:]) for feature_map in feature_maps] == [(32, 16, 16), (128, 4, 4)]
    assert backbone.channels == [32, 128]
    assert isinstance(AutoBackbone.from_config(config), CNNBackbone)

    classifier = CNNForImageClassification(CNNConfig.from_preset("tiny")).eval()
    classifier.save_pretrained(tmp_path)
    pixel_values = torch.randn(1, 3, 32, 32)
    loaded = CNNBackbone.from_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        last = loaded(pixel_values).feature_maps[-1]
        expected = classifier(pixel_values, output_hidden_states=True).hidden_states[-1]
        assert torch.equal(last, expected)
        torch.testing.assert_close(base(pixel_values).pooler_output, adaptive_avg_pool2d(expected, 1).flatten(1))


def test_timm_backbone_gives_timms_features():
    model = CNNModel(CNNConfig(backbone="timm/test_resnet")).eval()
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model(pixel_values, output_hidden_states=True)
        assert torch.equal(outputs.pooler_output, model.encoder(pixel_values))
    assert len(outputs.hidden_states) > 1


@pytest.mark.parametrize(
    "fields", [{"backbone": "timm/test_resnet"}, {"stage_widths": [[[4]], [[6]]], "stage_strides": [1, 2]}]
)
def test_a_network_for_colour_becomes_one_for_grey_images(tmp_path, fields):
    colour = CNNForImageClassification(CNNConfig(**fields)).eval()
    colour.save_pretrained(tmp_path)
    grey, report = CNNForImageClassification.from_pretrained(
        tmp_path, num_channels=1, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert len(report["mismatched_keys"]) == 1
    pixel_values = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = colour(pixel_values.expand(-1, 3, -1, -1)).logits
        torch.testing.assert_close(grey(pixel_values).logits, expected, atol=1e-4, rtol=1e-4)
    config = CNNConfig.from_pretrained(tmp_path, num_channels=1)
    again = CNNForImageClassification.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert all(torch.equal(a, b) for a, b in zip(grey.parameters(), again.parameters(), strict=True))


def test_statistics_missing_from_a_file_are_those_of_a_new_timm_model(tmp_path):
    model = CNNForImageClassification(CNNConfig(backbone="timm/test_resnet"))
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "running" not in name and "conv1" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = CNNForImageClassification.from_pretrained(tmp_path)
    for name, tensor in loaded.state_dict().items():
        if "running_mean" in name:
            assert not tensor.any(), name
        elif "running_var" in name:
            assert (tensor == 1).all(), name
        elif name in kept:
            assert torch.equal(tensor, kept[name]), name
        elif tensor.is_floating_point():
            torch.testing.assert_close(tensor.std(), weights[name].std(), atol=0.05, rtol=0.3)


def test_timm_transformers_take_images_of_any_size_and_timms_own_options(tmp_path):
    options = {"drop_path_rate": 0.2, "global_pool": "avg"}
    model = CNNForImageClassification(CNNConfig(backbone="timm/test_vit", backbone_kwargs=options)).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.backbone_kwargs == options
    assert loaded.cnn.encoder.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    for size in ((160, 160), (32, 48), (50, 33)):
        pixel_values = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits)
    doubled = CNNModel(CNNConfig(backbone="timm/test_resnet", backbone_kwargs={"global_pool": "catavgmax"}))
    assert doubled(torch.randn(2, 3, 32, 32)).pooler_output.shape == (2, doubled.out_features)


def test_backbone_over_timm_gives_its_feature_maps_and_takes_a_classifiers_weights(tmp_path):
    classifier = CNNForImageClassification(CNNConfig(backbone="timm/test_resnet")).eval()
    classifier.save_pretrained(tmp_path)
    backbone = CNNBackbone.from_pretrained(tmp_path, out_features=["stage2", "stage5"])
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = backbone(pixel_values).feature_maps
        states = classifier(pixel_values, output_hidden_states=True).hidden_states
    assert backbone.channels == [maps[0].shape[1], maps[1].shape[1]]
    assert torch.equal(maps[0], states[1])
    assert torch.equal(maps[1], states[4])
    backbone.save_pretrained(tmp_path / "backbone")
    assert CNNBackbone.from_pretrained(tmp_path / "backbone").out_features == ["stage2", "stage5"]


def test_folders_of_version_0_1_over_timm_load(tmp_path):
    """They hold names of stages that a timm backbone does not have."""
    CNNForImageClassification(CNNConfig(backbone="timm/test_resnet")).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    old = {"stage_names": ["stem", "stage1", "stage2", "stage3"], "out_features": ["stage3"], "out_indices": [3]}
    config = json.loads(file.read_text())
    del config["backbone_kwargs"]
    file.write_text(json.dumps(config | old))
    assert CNNForImageClassification.from_pretrained(tmp_path).config.out_features is None
    assert CNNBackbone.from_pretrained(tmp_path).out_features == ["stage5"]
