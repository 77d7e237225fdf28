"""Classifiers over timm backbones are pruned and folded, and reload from their configuration alone."""

import pytest
import torch
from torch import nn

from hfvision import CNNBackbone, CNNConfig, CNNForImageClassification, fold
from hfvision.compression.groups import find_groups
from hfvision.compression.prune import magnitude_importance, prune

BACKBONES = ["timm/test_efficientnet", "timm/resnet10t", "timm/mobilenetv3_small_050"]
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def classifier(backbone: str) -> CNNForImageClassification:
    """With statistics and scales as after a training."""
    torch.manual_seed(0)
    model = CNNForImageClassification(CNNConfig(backbone=backbone, image_size=64, num_labels=5))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.1), (module.running_var, 0.5), (module.bias, -0.2)):
                tensor.data.uniform_(low, low + 1)
            module.weight.data.uniform_(0.5, 1.5)
    return model.eval()


@torch.inference_mode()
def logits(model: nn.Module) -> torch.Tensor:
    return model(pixel_values=IMAGES).logits


@pytest.fixture(scope="module", params=BACKBONES)
def parent(request) -> CNNForImageClassification:
    return classifier(request.param)


@pytest.fixture(scope="module")
def pruned(parent):
    return prune(parent, magnitude_importance(parent), 0.5)


def test_pruned_outputs_are_those_of_the_parent_without_the_channels(parent, pruned):
    assert pruned.after["params"] <= 0.5 * pruned.before["params"]
    assert pruned.model.num_parameters() == pruned.after["params"]
    masked = classifier(parent.config.backbone)
    for group in find_groups(parent):
        gone = torch.ones(group.size, dtype=torch.bool)
        gone[pruned.kept[group.name]] = False
        for consumer in group.consumers:
            masked.get_submodule(consumer.module).weight.data[:, gone] = 0
    torch.testing.assert_close(logits(pruned.model), logits(masked), rtol=1e-3, atol=1e-4)


def test_pruned_networks_reload_from_their_configuration(pruned, tmp_path):
    pruned.model.save_pretrained(tmp_path)
    again = CNNForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), logits(pruned.model))
    backbone = CNNBackbone.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        maps = backbone(IMAGES, output_hidden_states=True).hidden_states
    assert [each.shape[1] for each in maps] == backbone.num_features
    smaller = prune(again, magnitude_importance(again), 0.6)
    assert smaller.model.num_parameters() < 0.31 * pruned.before["params"]
    assert logits(smaller.model).isfinite().all()


def test_folded_networks_compute_the_same_and_reload(parent, pruned, tmp_path):
    for number, model in enumerate((parent, pruned.model)):
        folded = fold(model)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(logits(folded), logits(model), rtol=1e-3, atol=1e-4)
        folded.save_pretrained(tmp_path / str(number))
        again = CNNForImageClassification.from_pretrained(tmp_path / str(number))
        torch.testing.assert_close(logits(again), logits(folded))


def test_backbones_that_normalize_elsewhere_are_not_folded():
    with pytest.raises(ValueError, match="'timm/densenet121' cannot be folded: outputs would differ"):
        fold(classifier("timm/densenet121"))


@pytest.mark.parametrize(
    "change",
    [
        lambda widths: widths | {"conv_stem": [10**6, 3]},
        lambda widths: widths | {"conv_stem": [0, 3]},
        lambda widths: widths | {"other": [1, 1]},
        lambda widths: {"conv_stem": [8, 3]},
    ],
    ids=["wide", "none", "unknown", "missing"],
)
def test_widths_of_another_network_are_refused(change):
    model = prune(classifier(BACKBONES[0]), magnitude_importance(classifier(BACKBONES[0])), 0.9).model
    config = CNNConfig(backbone=BACKBONES[0], backbone_widths=change(model.config.backbone_widths))
    with pytest.raises(ValueError, match="backbone_widths are not those of this timm backbone"):
        CNNForImageClassification(config)
    with pytest.raises(Exception, match="backbone_widths need a timm model"):
        CNNConfig(backbone_widths={})
