"""Anomaly detectors of either method, loaded from their folder, and images as they take them."""

from pathlib import Path
from typing import Literal

from torch import Tensor

from ...data.io.images import read_image
from ...models.image_processing_classification import flatten_pil
from .gan import AnomalyDetector, load_gan_detector, stack_images
from .patchcore import FILE, SMALLEST, PatchCore, load_patchcore

Method = Literal["patchcore", "gan"]


def load_detector(folder: str | Path, method: Method | None = None) -> PatchCore | AnomalyDetector:
    """The detector of a folder that `hfvision detect fit` has written to.

    Args:
        folder: with the files of [`save_patchcore`], or a GAN and those of [`save_normality`].
        method: which of the two; by default PatchCore where it is there.

    Raises:
        FileNotFoundError: if there is no such detector.
        ValueError: if its files cannot be read or do not fit each other.
    """
    if method is None and not any((Path(folder) / name).is_file() for name in (FILE, "config.json")):
        raise FileNotFoundError(
            f"There is no model in {folder}: make one with hfvision detect fit {folder} --normal IMAGES."
        )
    if method == "patchcore" or (method is None and (Path(folder) / FILE).is_file()):
        return load_patchcore(folder)
    return load_gan_detector(folder)


def read_pixels(path: Path, size: int, num_channels: int) -> Tensor:
    """An image file as uint8 (1, num_channels, size, size).

    Raises:
        FileNotFoundError, ValueError: for a file that is no image, or one of too few pixels.
    """
    image = read_image(path)
    if min(image.size) < SMALLEST:
        raise ValueError(f"{path} has {image.width}×{image.height} pixels: at least {SMALLEST} a side are needed.")
    return stack_images([flatten_pil(image, "L" if num_channels == 1 else "RGB")], size, num_channels)
