"""Patch whitening: a first convolution that is computed, not learned."""

import torch
from torch.utils.data import Dataset

from ...data.transforms.normalize import Normalize
from ...models.cnn.modeling_cnn import CNNForImageClassification


@torch.no_grad()
def whiten_stem(
    model: CNNForImageClassification, normalize: Normalize, dataset: Dataset, images: int = 5000, epsilon: float = 5e-4
) -> None:
    """Set the stem's convolution to the eigenvectors of the images' patches, scaled to unit variance, and freeze them.

    Each eigenvector is there with both signs, since an activation follows (Page 2018, "How to train your ResNet";
    Jordan 2024, arXiv:2404.00498, section 3.2). The stem needs 2·channels·kernel² filters, as the preset `cifar` has.

    Args:
        model: a CNN with a stem of its own.
        normalize: what comes before the model.
        dataset: prepared training images, of which `images` spread over the set are used.
        epsilon: added to the variances.

    Raises:
        ValueError: for a model without such a stem.
    """
    config = getattr(model, "config", None)
    width = getattr(config, "stem_width", None)
    patch = getattr(config, "num_channels", 0) * getattr(config, "stem_kernel_size", 0) ** 2
    if width is None or width != 2 * patch or getattr(config, "stem_norm", True):
        raise ValueError(
            f"whiten needs a CNN whose stem has {2 * patch} filters without normalisation, as cnn:cifar; this one "
            f"has {width}."
        )
    convolution = model.cnn.encoder.stem[0].convolution
    chosen = torch.linspace(0, len(dataset) - 1, min(images, len(dataset))).long().tolist()
    pixels = normalize(dataset.__getitems__(chosen)["images"])
    side = config.stem_kernel_size
    patches = pixels.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, patch)
    covariance = patches.T @ patches / len(patches)
    variances, vectors = torch.linalg.eigh(covariance.double())
    filters = (vectors / (variances + epsilon).sqrt()).T.float().reshape(patch, -1, side, side)
    convolution.weight.copy_(torch.cat([filters, -filters]))
    convolution.bias.zero_()
    convolution.weight.requires_grad_(False)
