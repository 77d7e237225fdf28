"""Structural similarity, as the super-resolution literature reports it."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from .psnr import comparable

WINDOW = 11
SIGMA = 1.5


def ssim(prediction: Tensor, target: Tensor, *, crop: int = 0, y_channel: bool = True) -> Tensor:
    """Structural similarity of each image, 1 for identical ones.

    Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity":
    Gaussian window 11×11 with sigma 1.5, K1 = 0.01, K2 = 0.03, values in 0..255, averaged over the places where the
    whole window lies inside the image.

    Args:
        prediction, target: float (N, C, H, W) in [0, 1], C of 1 or 3, at least 11×11 pixels without `crop`. Values are
            compared as they are: round to 8 bit first to get the figures of papers.
        crop: pixels left out at each side; papers leave out as many as the scale.
        y_channel: compare luma ([`psnr.rgb_to_y`]) instead of the mean over RGB. Grey images are compared as they are.

    Returns:
        Float64 (N,), at most 1.

    Raises:
        ValueError: for shapes that differ, values out of [0, 1] by more than 1e-3, NaN, or images below 11×11.
    """
    a, b = comparable(prediction, target, crop, y_channel)
    images, channels, height, width = a.shape
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW}×{WINDOW} pixels, got height {height}, width {width} after crop={crop}.")
    a, b = (255 * x.reshape(-1, 1, height, width) for x in (a, b))
    offsets = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    gauss = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    gauss = gauss / gauss.sum()

    def local_mean(x: Tensor) -> Tensor:
        return conv2d(conv2d(x, gauss.view(1, 1, -1, 1)), gauss.view(1, 1, 1, -1))

    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = local_mean(a * a) - mean_a**2 + local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return similarity.view(images, channels, -1).mean((1, 2))
