"""Low-resolution images as cameras, phones and the web make them: blurred, resized, noisy, compressed.

Each image has a key, which alone decides what happens to it: not the batch, the device or the number of threads.
Resizing always maps the whole image onto the whole image and every blur is symmetric, so nothing is shifted.
"""

import math
from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from .blur_kernels import Shape, filter_image, gaussian_kernel, sinc_kernel
from .degradation_presets import PRESETS, Degradation, Range
from .keyed import scramble
from .noise import gaussian_noise, poisson_noise, sensor_noise
from .resize import downscale, quantize_8bit, through_jpeg, through_webp

DEGRADE = 201  # stream of the keyed random numbers
MACROBLOCK = 16  # side of what JPEG with 4:2:0 and WebP code together, in pixels


PRESETS["blind"] = PRESETS["photo"]  # the name that recipes before version 0.2 use


@torch.no_grad()
def degrade(x: Tensor, scale: int, keys: Tensor, degradation: Degradation = PRESETS["photo"]) -> Tensor:
    """The low-resolution images that cameras and the web make of large ones.

    Args:
        x: float (N, C, H, W) in [0, 1], C of 1 or 3, sides that are multiples of `scale`.
        scale: how many times smaller.
        keys: int64 (N,), from [`data.transforms.keyed.image_keys`]; what happens to an image depends on its key alone.
        degradation: what may happen; see [`PRESETS`].

    Returns:
        Float (N, C, H/scale, W/scale) with values n/255 in [0, 1], on the device of `x`; all but
        the preset bicubic are computed on the CPU.

    Raises:
        ValueError: for sides that are no multiples of `scale`.
    """
    if any(side % scale for side in x.shape[-2:]):
        raise ValueError(f"Sides must be multiples of scale {scale}, got {x.shape[-2]}×{x.shape[-1]}.")
    if degradation == PRESETS["bicubic"]:
        return downscale(x, scale)
    seeds = [seed % 2**64 for seed in scramble(keys.cpu() + DEGRADE).tolist()]
    with torch.autocast("cpu", enabled=False):
        pairs = zip(x.float().cpu(), seeds, strict=True)
        small = [degrade_image(image, scale, degradation, Random(seed)) for image, seed in pairs]
    return torch.stack(small).to(x)


def degrade_image(image: Tensor, scale: int, degradation: Degradation, rng: Random) -> Tensor:
    """One image, float32 (C, H, W) on the CPU, as [`degrade`] makes it smaller."""
    process = rng.choices((shrunk_by_bicubic, camera, second_order, shuffled), degradation.shares)[0]
    return quantize_8bit(process(image.contiguous(), scale, degradation, rng))


def shrunk_by_bicubic(image: Tensor, scale: int, degradation: Degradation, rng: Random) -> Tensor:
    return downscale(image[None], scale)[0]


def camera(image: Tensor, scale: int, degradation: Degradation, rng: Random) -> Tensor:
    if rng.random() < degradation.camera_blur:
        sigma = scale * rng.uniform(*degradation.camera_sigma)
        sigmas = (sigma, sigma * rng.uniform(0.7, 1))
        side = kernel_side(image, 2 * math.ceil(2.5 * sigma) + 1)
        image = filter_image(image, gaussian_kernel(side, sigmas, rng.uniform(0, math.pi)))
    image = resize(image, small_size(image, scale), rng.choice(FILTERS)).clamp_(0, 1)
    if rng.random() < degradation.camera_noise:
        image = sensor_noise(image, log_uniform(degradation.camera_shot, rng), rng)
    if rng.random() < degradation.camera_codec:
        image = compressed(image, degradation.camera_quality, degradation, rng)
    return image


def second_order(image: Tensor, scale: int, degradation: Degradation, rng: Random) -> Tensor:
    target = small_size(image, scale)
    least, most = degradation.sizes[0]
    image = random_blur(image, scale, 0, degradation, rng)
    size = random_size(image.shape[-2:], 0, (least / scale, most), degradation, rng)
    image = random_resize(image, size, degradation, rng)
    image = compressed(random_noise(image, 0, degradation, rng), degradation.quality, degradation, rng)
    if rng.random() < degradation.second_blur:
        image = random_blur(image, scale, 1, degradation, rng)
    image = random_resize(image, random_size(target, 1, degradation.sizes[1], degradation, rng), degradation, rng)
    image = random_noise(image, 1, degradation, rng)
    compressed_last = rng.random() < 0.5
    if not compressed_last:
        image = compressed(image, degradation.quality, degradation, rng)
    image = random_resize(image, target, degradation, rng)
    if rng.random() < degradation.final_sinc:
        side = kernel_side(image, random_side(degradation, rng))
        image = filter_image(image, sinc_kernel(side, rng.uniform(math.pi / 3, math.pi)))
    return compressed(image, degradation.quality, degradation, rng) if compressed_last else image


def shuffled(image: Tensor, scale: int, degradation: Degradation, rng: Random) -> Tensor:
    target, left = small_size(image, scale), scale
    if scale == 4 and rng.random() < degradation.halved:
        image, left = random_resize(image, small_size(image, 2), degradation, rng), 2

    def add_noise(x: Tensor) -> Tensor:
        return random_gaussian_noise(x, degradation.shuffled_sigmas, degradation, rng)

    def compress(x: Tensor) -> Tensor:
        share = degradation.shuffled_jpeg
        return compressed(x, degradation.quality, degradation, rng) if rng.random() < share else x

    def expose(x: Tensor) -> Tensor:
        share = degradation.shuffled_sensor
        shot = log_uniform(degradation.sensor_shot, rng)
        return sensor_noise(x.clamp(0, 1), shot, rng) if rng.random() < share else x

    steps = [
        lambda x: shuffled_blur(x, left, degradation, rng),
        lambda x: shuffled_blur(x, left, degradation, rng),
        add_noise,
        compress,
        expose,
    ]
    rng.shuffle(steps)
    first, second = sorted(rng.sample(range(len(steps) + 2), 2))
    steps.insert(first, lambda x: shuffled_resize(x, left, target, degradation, rng))
    steps.insert(second, lambda x: random_resize(x, target, degradation, rng))
    for step in steps:
        image = step(image)
    return compressed(image, degradation.quality, degradation, rng)


def shuffled_blur(image: Tensor, left: int, degradation: Degradation, rng: Random) -> Tensor:
    """By an isotropic or anisotropic Gaussian; `left` is how many times the image is still to be shrunk at first."""
    side = kernel_side(image, random_side(degradation, rng))
    if rng.random() < 0.5:
        first, second = (max(0.1, left * math.sqrt(0.5 * rng.random())) for _ in range(2))
    else:
        first = second = max(0.1, 0.7 * left * rng.random())
    return filter_image(image, gaussian_kernel(side, (first, second), rng.uniform(0, math.pi)))


def shuffled_resize(image: Tensor, left: int, target: Sequence[int], degradation: Degradation, rng: Random) -> Tensor:
    """To a random size, or through a Gaussian to the last one by picking pixels."""
    if rng.random() < 0.75:
        factor = rng.uniform(1, 2 * left)
        return random_resize(image, [max(1, round(side / factor)) for side in image.shape[-2:]], degradation, rng)
    sigma = rng.uniform(0.1, 0.6 * left)
    image = filter_image(image, gaussian_kernel(kernel_side(image, degradation.kernel_sides[1]), (sigma, sigma)))
    return resize(image, target, "bilinear", antialias=False)


def random_blur(image: Tensor, scale: int, number: int, degradation: Degradation, rng: Random) -> Tensor:
    side = random_side(degradation, rng)
    if rng.random() < degradation.sinc:
        cutoff = rng.uniform(math.pi / (3 if side < 13 else 5), math.pi)
        return filter_image(image, sinc_kernel(kernel_side(image, side), cutoff))
    kind = rng.choices(range(6), degradation.kernel_shares)[0]
    sigmas = [scale / 4 * rng.uniform(*degradation.sigmas[number]) for _ in range(2)]
    if kind % 2 == 0:
        sigmas[1] = sigmas[0]
    shapes: tuple[tuple[Shape, tuple[float, float]], ...] = (
        ("gaussian", (1, 1)),
        ("generalized", degradation.generalized_beta),
        ("plateau", degradation.plateau_beta),
    )
    shape, betas = shapes[kind // 2]
    beta = rng.uniform(betas[0], 1) if rng.random() < 0.5 else rng.uniform(1, betas[1])
    kernel = gaussian_kernel(kernel_side(image, side), (sigmas[0], sigmas[1]), rng.uniform(0, math.pi), shape, beta)
    return filter_image(image, kernel)


def random_side(degradation: Degradation, rng: Random) -> int:
    return rng.randrange(degradation.kernel_sides[0], degradation.kernel_sides[1] + 1, 2)


def kernel_side(image: Tensor, side: int) -> int:
    """The side of a kernel that an image (C, H, W) is large enough to be filtered by."""
    return min(side, 2 * min(image.shape[-2:]) - 1)


def random_noise(image: Tensor, number: int, degradation: Degradation, rng: Random) -> Tensor:
    if rng.random() < 0.5:
        return random_gaussian_noise(image, degradation.gaussian_sigmas[number], degradation, rng)
    strength = rng.uniform(*degradation.poisson_strengths[number])
    return poisson_noise(image.clamp(0, 1), strength, rng.random() < degradation.grey_noise, rng)


def random_gaussian_noise(image: Tensor, sigmas: Range, degradation: Degradation, rng: Random) -> Tensor:
    shares = degradation.grey_noise, degradation.correlated_noise
    channels = rng.choices(("grey", "correlated", "color"), (*shares, 1 - sum(shares)))[0]
    return gaussian_noise(image, rng.uniform(*sigmas) / 255, channels, rng)


FILTERS = ("area", "bilinear", "bicubic")


def random_resize(image: Tensor, size: Sequence[int], degradation: Degradation, rng: Random) -> Tensor:
    return resize(image, size, rng.choice(FILTERS), antialias=rng.random() >= degradation.aliased)


def random_size(sides: Sequence[int], number: int, factors: Range, degradation: Degradation, rng: Random) -> list[int]:
    """`sides` times a random factor: above 1, below 1 or 1."""
    way = rng.choices(("up", "down", "keep"), degradation.resize_shares[number])[0]
    factor = {"up": rng.uniform(1, factors[1]), "down": rng.uniform(factors[0], 1), "keep": 1}[way]
    return [max(1, round(factor * side)) for side in sides]


def small_size(image: Tensor, scale: int) -> list[int]:
    return [side // scale for side in image.shape[-2:]]


def resize(image: Tensor, size: Sequence[int], mode: str, antialias: bool = True) -> Tensor:
    """An image (C, H, W) at another size (height, width), by "area", "bilinear" or "bicubic"."""
    if list(image.shape[-2:]) == list(size):
        return image
    if mode == "area":
        rows, columns = (area_weights(old, new) for old, new in zip(image.shape[-2:], size, strict=True))
        return rows @ image @ columns.T
    return interpolate(image[None], list(size), mode=mode, antialias=antialias)[0]


def area_weights(length: int, new_length: int) -> Tensor:
    """The matrix (new_length, length) by which each new pixel is the mean of what it covers of the old ones.

    `torch.nn.functional.interpolate(mode="area")` counts pixels that are covered in part as whole ones, which shifts
    details by up to half a pixel.
    """
    ends = torch.linspace(0, length, new_length + 1, dtype=torch.float64)
    starts = torch.arange(length)
    covered = torch.minimum(ends[1:, None], starts + 1) - torch.maximum(ends[:-1, None], starts)
    return (covered.clamp_min(0) * (new_length / length)).float()


def compressed(image: Tensor, quality: tuple[int, int], degradation: Degradation, rng: Random) -> Tensor:
    """An image (C, H, W), clamped and rounded to 8 bit, as JPEG or WebP of a random quality leaves it.

    Its blocks begin at a random place, as in an image that was cut out of a larger one.
    """
    top, left = (rng.randrange(min(MACROBLOCK, side)) for side in image.shape[-2:])
    pixels = (pad(image[None], (left, 0, top, 0), mode="reflect")[0].clamp(0, 1) * 255).round().to(torch.uint8)
    level = rng.randint(*quality)
    if rng.random() < degradation.webp:
        coded = through_webp(pixels, level)
    else:
        coded = through_jpeg(pixels, level, "4:4:4" if rng.random() < degradation.full_chroma else "4:2:0")
    return coded[:, top:, left:] / 255


def log_uniform(bounds: Range, rng: Random) -> float:
    return math.exp(rng.uniform(*map(math.log, bounds)))
