"""Pictures of masks: over their images, and of the best, the middle and the worst of a split."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_segmentation_masks

from ...data.datasets.segmentation import MaskedImages
from ...data.transforms.normalize import Normalize
from ...utils.plots import image_grid
from .evaluate import TestTimeAugmentation, segment_pixels


def palette(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """A color for each class: black for one called `background`, distinct hues for the others."""
    colors = []
    for number, name in enumerate(names):
        red, green, blue = (round(255 * x) for x in colorsys.hsv_to_rgb((0.1 + 0.618 * (number - 1)) % 1, 0.85, 1))
        colors.append((0, 0, 0) if name.lower() == "background" else (red, green, blue))
    return colors


def overlay(image: Image.Image, mask: Tensor, names: Sequence[str], alpha: float = 0.35) -> Image.Image:
    """The image with its classes in color, outlined; the background, and ignored pixels (255), are unchanged.

    Args:
        image: of any mode.
        mask: classes, integers (H, W), of the image's size.
        names: of the classes.
        alpha: of the color inside the outlines.
    """
    shown = [number for number, name in enumerate(names) if name.lower() != "background"]
    colors: list[str | tuple[int, int, int]] = [palette(names)[number] for number in shown]
    masks = torch.stack([mask == number for number in shown])
    inside = 1 - max_pool2d(1 - masks[None].float(), 3, stride=1, padding=1)[0]
    pixels = draw_segmentation_masks(pil_to_tensor(image.convert("RGB")), masks, alpha, colors)
    return to_pil_image(draw_segmentation_masks(pixels, masks & (inside == 0), 1.0, colors))


def best_and_worst(
    model: nn.Module,
    images: MaskedImages,
    normalize: Normalize,
    names: Sequence[str],
    each: Sequence[float],
    path: Path,
    *,
    tta: TestTimeAugmentation = "none",
    groups: Sequence[str] | None = None,
) -> None:
    """Write a PNG of the images with the best, the middle and the worst Dice coefficient: image, truth, prediction.

    Args:
        each: the images' Dice coefficients, as of [`evaluate_segmenter`].
        groups: of the images: the three of every group then.
    """
    rows, captions = [], []
    values = list(groups) if groups is not None else [""] * len(each)
    for group in sorted(set(values)):
        order = sorted((i for i, value in enumerate(values) if value == group), key=lambda i: each[i])
        places = {0: "worst", len(order) // 2: "middle", len(order) - 1: "best"}  # of one or two images fewer
        for place, what in reversed(places.items()):
            image, mask = images[order[place]]
            device = next(model.parameters()).device
            found = segment_pixels(model, image[None].to(device), normalize, tta)[0].argmax(0).cpu()
            photo = to_pil_image(image)
            rows.append([photo, overlay(photo, mask, names), overlay(photo, found, names)])
            score = f"{group + ', ' if group else ''}{what}: Dice {each[order[place]]:.3f}"
            captions.append(f"{score}. The image, the true mask, the mask found")
    image_grid(rows, captions, path, cell=256)
