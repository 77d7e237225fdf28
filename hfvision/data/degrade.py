"""Making the small image from the large one: exactly as the super-resolution literature does, by MATLAB's `imresize`,
or as cameras and the web do."""

from io import BytesIO
from math import ceil
from numbers import Real

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from ..models.srgan.modeling_srgan import keys_kernel
from .keyed import normal, uniform

DEGRADE = 201  # of the keyed random numbers


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
    if isinstance(scale_or_size, Real):
        if not 0 < scale_or_size < float("inf"):
            raise ValueError(f"The scale must be a positive number, got {scale_or_size}.")
        scales = (scale_or_size, scale_or_size)
        # 3 · (1/3 in floating point) may come out a hair above 1
        size = tuple(ceil(length * scale_or_size - 1e-9) for length in x.shape[-2:])
    else:
        size = tuple(scale_or_size)
        if len(size) != 2 or any(length < 1 or length != int(length) for length in size):
            raise ValueError(f"The size must be two positive whole numbers (height, width), got {scale_or_size}.")
        size = tuple(map(int, size))
        scales = tuple(new / old for new, old in zip(size, x.shape[-2:], strict=True))
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


def degrade(x: Tensor, scale: int, keys: Tensor) -> Tensor:
    """The low-resolution image as cameras and the web make it: blurred, resized twice, noisy, compressed.

    One round of the degradations of Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833, section 3.1): an anisotropic
    Gaussian blur; a resize to a random size between the large and the small one, by one of three filters, and from
    there to the small one; Gaussian noise, for half of the images grey; JPEG for three images of four.

    Args:
        x: float (N, C, H, W) in [0, 1], C of 1 or 3, sides that are multiples of `scale`.
        scale: how many times smaller.
        keys: int64 (N,), from [`data.keyed.image_keys`]; what happens to an image depends on its key alone.

    Returns:
        Float (N, C, H/scale, W/scale) with values n/255 in [0, 1].
    """
    u = uniform(keys, 9, DEGRADE).cpu()
    images = zip(blur(x, 0.1 + 0.6 * scale * u[:, :2], torch.pi * u[:, 2]), u[:, 3:], keys, strict=True)
    return torch.stack([shrink(image, scale, draws, key) for image, draws, key in images])


def blur(x: Tensor, sigmas: Tensor, angles: Tensor) -> Tensor:
    """Each image (N, C, H, W) through a Gaussian of its own: `sigmas` (N, 2) in pixels along two axes, turned."""
    reach = min(10, *(side - 1 for side in x.shape[-2:]))
    offsets = torch.arange(-reach, reach + 1.0)
    y, x_offset = torch.meshgrid(offsets, offsets, indexing="ij")
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    along, across = x_offset * cos + y * sin, y * cos - x_offset * sin
    kernels = (-0.5 * ((along / sigmas[:, :1, None]) ** 2 + (across / sigmas[:, 1:, None]) ** 2)).exp()
    kernels = (kernels / kernels.sum((1, 2), keepdim=True)).to(x.device, x.dtype)
    count, channels = x.shape[:2]
    padded = pad(x, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    kernels = kernels.repeat_interleave(channels, 0)[:, None]
    return conv2d(padded, kernels, groups=count * channels).view_as(x)


def shrink(image: Tensor, scale: int, draws: Tensor, key: Tensor) -> Tensor:
    """One image (C, H, W) resized twice, noisy and compressed, (C, H/scale, W/scale); six `draws` in [0, 1)."""
    size, first, second, noise, grey, quality = draws.tolist()
    target = [side // scale for side in image.shape[-2:]]
    middle = [round(side * (1 + size * (scale - 1))) for side in target]
    for sides, which in ((middle, first), (target, second)):
        mode = ("area", "bilinear", "bicubic")[int(3 * which)]
        antialias = {} if mode == "area" else {"antialias": True}
        image = interpolate(image[None], sides, mode=mode, **antialias)[0]
    grain = normal(key[None], image.numel(), DEGRADE + 1).view_as(image)
    grain = grain[:1] if grey < 0.5 else grain
    image = quantize_8bit(image + 15 / 255 * noise * grain)
    if quality < 0.75:
        coded = through_jpeg((image * 255).round().to(torch.uint8).cpu(), 40 + round(55 * quality / 0.75))
        image = coded.to(image.device, image.dtype) / 255
    return image


def through_jpeg(image: Tensor, quality: int) -> Tensor:
    """An image, uint8 (C, H, W) on the CPU with C of 1 or 3, as JPEG of a quality from 1 to 95 leaves it."""
    with BytesIO() as file:
        to_pil_image(image).save(file, "JPEG", quality=quality)
        return pil_to_tensor(Image.open(file))
