"""Blur kernels of degraded photographs, all symmetric about their center, so that nothing is shifted.

They are those of Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833, sections 3.1 and 3.3).
"""

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2
from torch.nn.functional import pad

Shape = Literal["gaussian", "generalized", "plateau"]


def gaussian_kernel(
    side: int, sigmas: tuple[float, float], angle: float = 0.0, shape: Shape = "gaussian", beta: float = 1.0
) -> Tensor:
    """A Gaussian kernel, or one of its relatives.

    Args:
        side: of the square kernel, odd.
        sigmas: standard deviations along the two axes, in pixels.
        angle: of the first axis to the rows, in radians.
        shape: with q² = x²/σ₁² + y²/σ₂², "gaussian" is exp(-q²/2), "generalized" exp(-q²ᵝ/2), "plateau" 1/(q²ᵝ + 1).
        beta: above 1 the kernel has a flatter top and steeper flanks.

    Returns:
        Float32 (side, side), of sum 1.
    """
    x, y = offsets(side)
    cos, sin = math.cos(angle), math.sin(angle)
    distance = ((x * cos + y * sin) / sigmas[0]) ** 2 + ((y * cos - x * sin) / sigmas[1]) ** 2
    if shape == "plateau":
        kernel = 1 / (distance**beta + 1)
    else:
        kernel = (-0.5 * (distance**beta if shape == "generalized" else distance)).exp()
    return (kernel / kernel.sum()).float()


def sinc_kernel(side: int, cutoff: float) -> Tensor:
    """The circular ideal low-pass filter, cut to a square: it blurs, and rings beside edges.

    Args:
        side: of the square kernel, odd.
        cutoff: frequency in radians a pixel, above 0 and at most π.

    Returns:
        Float32 (side, side), of sum 1.
    """
    x, y = offsets(side)
    radius = (x**2 + y**2).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).float()


def offsets(side: int) -> tuple[Tensor, Tensor]:
    """Columns and rows counted from the center, each float64 (side, side)."""
    steps = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return x, y


def filter_image(image: Tensor, kernel: Tensor) -> Tensor:
    """An image, float32 (C, H, W), filtered by a symmetric kernel (k, k), k < 2·min(H, W), mirrored at its borders.

    By FFT, which for kernels of 7 to 21 pixels is up to six times faster on a CPU than a convolution.
    """
    height, width = image.shape[-2:]
    reach = kernel.shape[0] // 2
    padded = pad(image[None], (reach,) * 4, mode="reflect")[0]
    size = [fast_length(side) for side in padded.shape[-2:]]
    spectrum = rfft2(padded, s=size).mul_(rfft2(kernel, s=size))
    # the first 2·reach rows and columns hold what the circular convolution carries over from the other side
    return irfft2(spectrum, s=size)[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width].contiguous()


@cache
def fast_length(length: int) -> int:
    """The smallest even number of at least `length` without prime factors above 5, as fast FFTs need it."""
    candidate = length + length % 2
    while 30 ** candidate.bit_length() % candidate:
        candidate += 2
    return candidate
