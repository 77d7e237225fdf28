"""Patch whitening: a first convolution that is computed from the data."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from ...data.transforms.normalize import Normalize


@torch.no_grad()
def whiten_stem(
    model: PreTrainedModel, normalize: Normalize, dataset: Dataset, images: int = 5000, epsilon: float = 5e-4
) -> None:
    """Set the stem's convolution to the eigenvectors of the images' patches, scaled to unit variance, and freeze it.

    Each eigenvector is used with both signs, since an activation follows (Page 2018, "How to train your ResNet";
    Jordan 2024, arXiv:2404.00498, section 3.2). The stem needs 2·channels·kernel² filters, as the preset `cifar` has.

    Args:
        model: a CNN without a timm backbone.
        normalize: the model's.
        dataset: prepared training images, with `__getitems__`.
        images: how many of them are used, evenly spaced.
        epsilon: added to the variances.

    Raises:
        ValueError: for a model without such a stem.
    """
    config: Any = model.config
    width = getattr(config, "stem_width", None)
    patch = getattr(config, "num_channels", 0) * getattr(config, "stem_kernel_size", 0) ** 2
    if width is None or width != 2 * patch or getattr(config, "stem_norm", True):
        raise ValueError(
            f"whiten needs a CNN whose stem has {2 * patch} filters without normalization, as cnn:cifar; this one "
            f"has {width}."
        )
    convolution = model.get_submodule("cnn.encoder.stem.0.convolution")
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    data: Any = dataset
    chosen = torch.linspace(0, len(data) - 1, min(images, len(data))).long().tolist()
    pixels = normalize(data.__getitems__(chosen)["images"])
    side = config.stem_kernel_size
    patches = pixels.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, patch)
    covariance = patches.T @ patches / len(patches)
    variances, vectors = torch.linalg.eigh(covariance.double())
    filters = (vectors / (variances + epsilon).sqrt()).T.float().reshape(patch, -1, side, side)
    convolution.weight.copy_(torch.cat([filters, -filters]))
    convolution.bias.zero_()
    convolution.weight.requires_grad_(False)
