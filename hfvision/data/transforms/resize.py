"""Making the small image from the large one exactly as the super-resolution literature does, by MATLAB's `imresize`,
and what JPEG and WebP make of an image."""

from collections.abc import Sequence
from io import BytesIO
from math import ceil
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from ...models.srgan.generator_srgan import keys_kernel


def resize_bicubic(x: Tensor, scale_or_size: float | tuple[int, int], antialias: bool = True) -> Tensor:
    """Bicubic resizing equal to MATLAB's `imresize(x, scale_or_size, "bicubic")`.

    The cubic kernel of Keys (1981, "Cubic convolution interpolation for digital image processing") with a = -0.5;
    when shrinking, the kernel is stretched by the inverse scale (antialiasing); pixel centres at half-integers;
    boundaries mirrored with the edge pixel repeated. Weights are computed in float64, the image is resized in its own
    dtype (float32 for half precision). `torch.nn.functional.interpolate` differs: a = -0.75 without antialiasing, and
    windows cut and renormalised at the border with it.

    Args:
        x: float (N, C, H, W), of any range, dtype and device; the result may overshoot its range.
        scale_or_size: a factor > 0, giving (ceil(H·factor), ceil(W·factor)) pixels, or the size (height, width).
        antialias: as MATLAB's option `Antialiasing`; only shrinking is affected.

    Returns:
        Float tensor (N, C, height, width) of the same dtype and device; differentiable.

    Raises:
        ValueError: for a tensor that is not float NCHW, or a size or factor that is not positive.
    """
    if x.ndim != 4 or not x.is_floating_point() or 0 in x.shape[-2:]:
        raise ValueError(f"Expected a float tensor (N, C, H, W), got {x.dtype} of shape {tuple(x.shape)}.")
    if not isinstance(scale_or_size, Sequence):
        if not 0 < scale_or_size < float("inf"):
            raise ValueError(f"The scale must be a positive number, got {scale_or_size}.")
        scales = [scale_or_size, scale_or_size]
        # 3 · (1/3 in floating point) may come out a hair above 1
        size = [ceil(length * scale_or_size - 1e-9) for length in x.shape[-2:]]
    else:
        if len(scale_or_size) != 2 or any(length < 1 or length != int(length) for length in scale_or_size):
            raise ValueError(f"The size must be two positive whole numbers (height, width), got {scale_or_size}.")
        size = [int(length) for length in scale_or_size]
        scales = [new / old for new, old in zip(size, x.shape[-2:], strict=True)]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows, columns = (
        bicubic_weights(old, new, scale, antialias).to(x.device, dtype)
        for old, new, scale in zip(x.shape[-2:], size, scales, strict=True)
    )
    with torch.autocast(x.device.type, enabled=False):
        return (rows @ x.to(dtype) @ columns.T).to(x.dtype)


def bicubic_weights(length: int, new_length: int, scale: float, antialias: bool = True) -> Tensor:
    """The matrix (new_length, length), float64, that resizes one dimension; each row sums to 1."""
    stretch = min(scale, 1.0) if antialias else 1.0
    centres = (torch.arange(new_length, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = ceil(4 / stretch) + 2
    positions = (centres - 2 / stretch).floor()[:, None] + torch.arange(taps)
    weights = keys_kernel((centres[:, None] - positions) * stretch)
    weights = weights / weights.sum(1, keepdim=True)
    mirrored = positions.long() % (2 * length)
    mirrored = torch.minimum(mirrored, 2 * length - 1 - mirrored)
    return torch.zeros(new_length, length, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def quantize_8bit(x: Tensor) -> Tensor:
    """Clamped to [0, 1] and rounded to the nearest of the 256 levels n/255; float in and out, any shape."""
    return (x.clamp(0, 1) * 255).round() / 255


def modcrop(x: Tensor, scale: int) -> Tensor:
    """(…, H, W) with the right and the bottom cut so that both sides are multiples of `scale`.

    Raises:
        ValueError: where nothing would be left.
    """
    height, width = (length - length % scale for length in x.shape[-2:])
    if not height or not width:
        raise ValueError(f"An image of height {x.shape[-2]} and width {x.shape[-1]} is smaller than scale {scale}.")
    return x[..., :height, :width]


def downscale(x: Tensor, scale: float) -> Tensor:
    """The low-resolution image of the protocol: antialiased bicubic by 1/`scale`, rounded to 8 bit.

    Args:
        x: float (N, C, H, W) in [0, 1]; sides that are multiples of `scale` (see [`modcrop`]) align exactly.
        scale: how many times smaller, above 0, usually 2, 3 or 4.

    Returns:
        Float (N, C, ceil(H/scale), ceil(W/scale)) with values n/255 in [0, 1].
    """
    return quantize_8bit(resize_bicubic(x, 1 / scale))


def through_jpeg(image: Tensor, quality: int, subsampling: str = "4:2:0") -> Tensor:
    """An image, uint8 (C, H, W) on the CPU with C of 1 or 3, as JPEG of a quality from 1 to 95 leaves it.

    `subsampling` of the chroma is "4:2:0", "4:2:2" or "4:4:4".
    """
    return through_file(image, "JPEG", quality=quality, subsampling=subsampling)


def through_webp(image: Tensor, quality: int) -> Tensor:
    """An image, uint8 (C, H, W) on the CPU with C of 1 or 3, as lossy WebP of a quality from 0 to 100 leaves it."""
    return through_file(image, "WEBP", quality=quality, method=2)


def through_file(image: Tensor, format: str, **options: Any) -> Tensor:
    picture = to_pil_image(image)
    with BytesIO() as file:
        picture.save(file, format, **options)
        return pil_to_tensor(Image.open(file).convert(picture.mode))
