"""Folding: the same outputs from fewer operations, and a configuration that rebuilds the folded model."""

import pytest
import torch
from torch import nn

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    SRGANConfig,
    SRGANForImageSuperResolution,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.compression.fold import fold


def trained(model):
    """Every normalisation with scales and statistics as after a training, and no weights that are all zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.5),
                (module.running_var, 0.5),
                (module.bias, -0.5),
                (module.running_mean, -0.5),
            ):
                tensor.data.copy_(torch.rand(len(tensor), generator=generator) + low)
    return model.eval()


def cnn(**fields):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "stage_strides": [1, 2], "num_labels": 5}
    return trained(CNNForImageClassification(CNNConfig(**sizes | fields)))


def vit(**fields):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 32}
    return trained(VisionTransformerForImageClassification(VisionTransformerConfig(**sizes | fields)))


def upscaler(**fields):
    torch.manual_seed(0)
    sizes = {"scale": 2, "hidden_size": 8, "block_widths": [[8], [6]]}
    return trained(SRGANForImageSuperResolution(SRGANConfig(**sizes | fields)))


MODELS = {
    "pooled first": lambda: cnn(stem_width=6, stage_widths=[[[8, 10]], [[12]]], downsample="pool_first"),
    "pooled last": lambda: cnn(stage_widths=[[[8]], [[12, 9]]], downsample="pool_last"),
    "basic": lambda: cnn(stem_width=6, stem_pool=True, stage_widths=[[[6, 6]] * 2, [[8, 8]]], block_type="basic"),
    "bottleneck": lambda: cnn(stem_width=6, stage_widths=[[[4, 4, 8]] * 2, [[4, 4, 8]]], block_type="bottleneck"),
    "stem of a ViT": lambda: vit(stem_widths=[8, 12, 16]),
    "normalised upscaler": lambda: upscaler(norm=True, upsampler="stepwise"),
    "branched upscaler": lambda: upscaler(branch_expansion=2),
}


def answer(model, pixel_values):
    with torch.inference_mode():
        return next(iter(model(pixel_values).values()))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_output_is_the_same_and_the_folded_model_reloads(make, tmp_path):
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixel_values = torch.rand(2, 3, 16, 16)
    expected = answer(model, pixel_values)
    folded = fold(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert folded.num_parameters() < model.num_parameters()
    torch.testing.assert_close(answer(folded, pixel_values), expected, atol=1e-5, rtol=1e-5)
    folded.save_pretrained(tmp_path)
    assert torch.equal(answer(type(model).from_pretrained(tmp_path), pixel_values), answer(folded, pixel_values))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.config.to_dict() != folded.config.to_dict()


def test_what_has_nothing_to_fold_is_copied():
    model = cnn(stage_widths=[[[8]], [[12]]], norm="group")
    folded = fold(model)
    pixel_values = torch.rand(2, 3, 16, 16)
    assert torch.equal(answer(folded, pixel_values), answer(model, pixel_values))
    assert folded is not model


def test_scales_that_max_pooling_does_not_let_through_are_refused():
    model = cnn(stage_widths=[[[8]], [[12]]], downsample="pool_first")
    model.cnn.encoder.stages[1].blocks[0].layers[0].normalization.weight.data[:3] = -1
    with pytest.raises(ValueError, match="negative, as it is for 3 of 12 channels"):
        fold(model)
