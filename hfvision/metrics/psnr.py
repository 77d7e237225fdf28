"""Peak signal-to-noise ratio, as the super-resolution literature reports it."""

import torch
from torch import Tensor


def rgb_to_y(x: Tensor) -> Tensor:
    """Luma by ITU-R BT.601 with its "studio" range, as MATLAB's `rgb2ycbcr`: 16/255 for black to 235/255 for white.

    Args:
        x: float (N, 3, H, W) in [0, 1].

    Returns:
        Float (N, 1, H, W).
    """
    weights = x.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return ((x * weights).sum(1, keepdim=True) + 16) / 255


def check_images(prediction: Tensor, target: Tensor, crop: int) -> None:
    """Raise ValueError for what cannot be compared: other shapes, values out of [0, 1] by more than 1e-3, NaN."""
    if prediction.shape != target.shape or prediction.ndim != 4:
        raise ValueError(
            f"Images to compare must be of one shape (N, C, H, W), got {tuple(prediction.shape)} "
            f"and {tuple(target.shape)}."
        )
    if prediction.shape[1] not in (1, 3) or not prediction.numel():
        raise ValueError(f"Images must have 1 or 3 channels and some pixels, got {tuple(prediction.shape)}.")
    if crop < 0 or 2 * crop >= min(prediction.shape[-2:]):
        raise ValueError(f"crop={crop} leaves nothing of images of {tuple(prediction.shape[-2:])} pixels.")
    for name, images in (("prediction", prediction), ("target", target)):
        if not images.is_floating_point():
            raise ValueError(f"The {name} must be float in [0, 1], got {images.dtype}: divide by 255.")
        low, high = (bound.item() for bound in images.aminmax())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(f"The {name} must be in [0, 1], got values from {low:g} to {high:g}.")


def comparable(prediction: Tensor, target: Tensor, crop: int, y_channel: bool) -> tuple[Tensor, Tensor]:
    """Both images checked, in float64, on their luma where `y_channel` and colour, without `crop` border pixels."""
    check_images(prediction, target, crop)
    pair = []
    for images in (prediction, target):
        images = images.double().clamp(0, 1)
        if y_channel and images.shape[1] == 3:
            images = rgb_to_y(images)
        pair.append(images[..., crop : images.shape[-2] - crop, crop : images.shape[-1] - crop])
    return tuple(pair)


def psnr(prediction: Tensor, target: Tensor, *, crop: int = 0, y_channel: bool = True) -> Tensor:
    """Peak signal-to-noise ratio of each image, 10·log10(1 / mean squared error).

    Args:
        prediction, target: float (N, C, H, W) in [0, 1], C of 1 or 3. Values are compared as they are: round to 8 bit
            first to get the figures of papers.
        crop: pixels left out at each side; papers leave out as many as the scale.
        y_channel: compare luma ([`rgb_to_y`]) instead of RGB. Grey images are compared as they are.

    Returns:
        Float64 (N,), in dB; infinite for identical images.

    Raises:
        ValueError: for shapes that differ, values out of [0, 1] by more than 1e-3, or NaN.
    """
    prediction, target = comparable(prediction, target, crop, y_channel)
    return -10 * torch.log10((prediction - target).square().mean((1, 2, 3)))
