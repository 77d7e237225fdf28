"""Distance of two images in the feature space of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor


def feature_distance(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Squared distance of unit-normalized features, averaged over positions and then over stages.

    This is LPIPS (Zhang et al. 2018, arXiv:1801.03924, equation 1) with equal weights for all channels, its "baseline"
    without learned weights.

    Args:
        features, targets: one float tensor (N, C, H, W) for each stage, the same shapes in both; N, C, H and W may
            differ between stages but for N.

    Returns:
        Float (N,), from 0 for equal features to 4; differentiable.

    Raises:
        ValueError: if there are no stages, or their shapes differ.
    """
    shapes = [tuple(feature.shape) for feature in features], [tuple(target.shape) for target in targets]
    if not features or shapes[0] != shapes[1]:
        raise ValueError(f"Features must be of the same stages and shapes, got {shapes[0]} and {shapes[1]}.")
    stages = [
        (unit_normalize(feature) - unit_normalize(target)).square().sum(1).mean((1, 2))
        for feature, target in zip(features, targets, strict=True)
    ]
    return torch.stack(stages).mean(0)


def unit_normalize(features: Tensor) -> Tensor:
    """Features (N, C, H, W) over their norm at each position, in float32."""
    features = features.float()
    return features * (features.square().sum(1, keepdim=True) + 1e-10).rsqrt()
