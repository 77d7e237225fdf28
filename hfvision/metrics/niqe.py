"""Naturalness image quality evaluator: how far the statistics of an image are from those of pristine photographs."""

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv2d, pad

from ..data.transforms.resize import quantize_8bit, resize_bicubic
from .psnr import check_images, rgb_to_y

BLOCK = 96
WINDOW = 7
SHAPES = torch.arange(200, 10001, dtype=torch.float64) / 1000  # among which alpha is searched


def niqe(images: Tensor, *, crop: int = 0) -> Tensor:
    """The distance of each image from pristine photographs; lower is more natural, about 3 to 6 for photographs.

    Mittal, Soundararajan, Bovik 2013, "Making a 'completely blind' image quality analyzer": normalised luminance and
    products of its neighbours, in blocks of 96×96 pixels and, after MATLAB's bicubic, of 48×48 of half the size, each
    described by 18 features; the distance is between the Gaussian of the blocks' features and that of the authors'
    photographs, whose mean and covariance are carried as they released them, from the package basicsr 1.4.2
    (Apache 2.0, copyright 2018-2022 BasicSR Authors). The originals of Set14 have 4.92 with `crop=4`. There is no
    reference: an image that is sharp and wrong may score well, so give PSNR beside it.

    Args:
        images: float (N, C, H, W) in [0, 1], C of 1 or 3; of colour images the luma ([`psnr.rgb_to_y`]) counts. Luma
            is rounded to 8 bit, as MATLAB's is; round images to 8 bit first, too, to get the figures of papers.
        crop: pixels left out at each side; papers leave out as many as the scale.

    Returns:
        Float64 (N,); NaN for an image with fewer than two blocks that are not flat.

    Raises:
        ValueError: for images in which two blocks have no place (96×192 without `crop`), values out of [0, 1] by more
            than 1e-3, or NaN.
    """
    check_images(images, images, crop)
    height, width = (side - 2 * crop for side in images.shape[-2:])
    if (height // BLOCK) * (width // BLOCK) < 2:
        raise ValueError(
            f"NIQE needs two blocks of {BLOCK}×{BLOCK} pixels, got height {height}, width {width} after crop={crop}."
        )
    images = images.double().clamp(0, 1)
    luma = quantize_8bit(rgb_to_y(images) if images.shape[1] == 3 else images)
    luma = luma[..., crop : crop + height // BLOCK * BLOCK, crop : crop + width // BLOCK * BLOCK]
    return torch.stack([distance(image[None]) for image in luma])


def distance(luma: Tensor) -> Tensor:
    """NIQE of luma (1, 1, H, W) in [0, 1], float64, sides of multiples of 96."""
    features = torch.cat(
        [
            block_features(normalised(255 * image), size)
            for image, size in ((luma, BLOCK), (resize_bicubic(luma, 0.5), BLOCK // 2))
        ],
        dim=1,
    )
    complete = features[~features.isnan().any(1)]
    if len(complete) < 2:
        return features.new_tensor(float("nan"))
    mean, covariance = (tensor.to(luma.device) for tensor in pristine_model())
    gap = mean - features.nanmean(0)
    return (gap @ torch.linalg.pinv((covariance + complete.T.cov()) / 2) @ gap).sqrt()


@cache
def pristine_model() -> tuple[Tensor, Tensor]:
    """Mean (36,) and covariance (36, 36) of the features of pristine photographs, float64."""
    tensors = load_file(Path(__file__).with_suffix(".safetensors"))
    return tensors["mean"], tensors["covariance"]


def normalised(image: Tensor) -> Tensor:
    """Equation 1: (1, 1, H, W) in 0..255 without its local mean, divided by its local standard deviation plus 1."""
    offsets = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    gauss = torch.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    gauss = gauss / gauss.sum()

    def local_mean(x: Tensor) -> Tensor:
        x = pad(x, (WINDOW // 2,) * 4, mode="replicate")
        return conv2d(conv2d(x, gauss.view(1, 1, -1, 1)), gauss.view(1, 1, 1, -1))

    mean = local_mean(image)
    difference = image - mean
    difference = torch.where(difference.abs() < 1e-9, 0, difference)  # flat, but for what rounding leaves
    return difference / ((local_mean(image**2) - mean**2).abs().sqrt() + 1)


def block_features(image: Tensor, size: int) -> Tensor:
    """The 18 features (blocks, 18) of the blocks of `size` pixels of a normalised image (1, 1, H, W)."""
    blocks = image[0, 0].unfold(0, size, size).unfold(1, size, size).flatten(0, 1)
    alpha, left, right = asymmetric_gaussian(blocks)
    features = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = asymmetric_gaussian(blocks * blocks.roll(shift, (1, 2)))
        mean = (right - left) * gamma(2 / alpha) / gamma(1 / alpha)
        features += [alpha, mean, left, right]
    return torch.stack(features, dim=1)


def asymmetric_gaussian(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape and the left and the right scale, each (N,), of the asymmetric generalised Gaussian (equation 4) that has
    the moments of each block (N, height, width); scales are NaN where a block has no value on a side."""
    values = blocks.flatten(1)
    left, right = ((values.square() * side).sum(1).div(side.sum(1)).sqrt() for side in (values < 0, values > 0))
    ratio = left / right
    wanted = values.abs().mean(1) ** 2 / values.square().mean(1)
    wanted = wanted * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes = SHAPES.to(values.device)
    given = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))  # rises with the shape
    nearest = torch.bucketize(wanted, (given[1:] + given[:-1]) / 2)
    alpha = torch.where(wanted.isnan(), shapes[0], shapes[nearest])
    scale = (gamma(1 / alpha) / gamma(3 / alpha)).sqrt()
    return alpha, left * scale, right * scale


def gamma(x: Tensor) -> Tensor:
    """The gamma function of positive numbers."""
    return torch.lgamma(x).exp()
