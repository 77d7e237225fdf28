"""Temporal stability: what does not move in a video should not change in its upscaled version either."""

from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from .psnr import check_images, rgb_to_y


def luma(images: Tensor) -> Tensor:
    """(N, 1, H, W): BT.601 luma of colour, grey as it is."""
    return rgb_to_y(images) if images.shape[1] == 3 else images


def static_pixels(before: Tensor, after: Tensor, *, tolerance: float = 2 / 255, radius: int = 3) -> Tensor:
    """Where nothing moves from one frame to the next.

    A pixel is static if neither it nor any pixel within `radius` changes its luma by more than `tolerance`: upscalers
    look at the neighbourhood, so that what moves near a pixel may rightly change it.

    Args:
        before, after: float (N, C, H, W) in [0, 1], C of 1 or 3: N pairs of frames of the source.
        tolerance: of the luma; 2/255 lets pass what 8 bits and mild compression do to a still picture.
        radius: in pixels, of a square.

    Returns:
        Bool (N, 1, H, W).

    Raises:
        ValueError: for shapes that differ or values out of [0, 1].
    """
    check_images(after, before, 0)
    change = (luma(after) - luma(before)).abs()
    return max_pool2d(change, 2 * radius + 1, stride=1, padding=radius) <= tolerance + 1e-6


def flicker(before: Tensor, after: Tensor, static: Tensor) -> tuple[Tensor, Tensor]:
    """The change of static regions from one frame to the next: the mean absolute difference of luma there.

    Over a whole video it is the sum of what this returns first, divided by the sum of what it returns second.

    Args:
        before, after: float (N, C, H·s, W·s) in [0, 1], C of 1 or 3: N pairs of frames, of the source itself or of
            its version s times as large, s whole.
        static: bool (N, 1, H, W), from [`static_pixels`] of the source.

    Returns:
        Float64 (N,), the sum of absolute differences over static pixels, and int64 (N,), how many those are, both
        counted in the large frames.

    Raises:
        ValueError: for shapes that do not fit, or values out of [0, 1].
    """
    check_images(after, before, 0)
    scale = before.shape[-1] // static.shape[-1]
    if before.shape[-2:] != tuple(scale * side for side in static.shape[-2:]) or len(static) != len(before):
        raise ValueError(
            f"Frames of {tuple(before.shape)} are no whole multiple of the static pixels' {tuple(static.shape)}."
        )
    mask = interpolate(static.double(), scale_factor=scale, mode="nearest")
    change = (luma(after.double()) - luma(before.double())).abs()
    return (change * mask).sum((1, 2, 3)), mask.sum((1, 2, 3)).long()
