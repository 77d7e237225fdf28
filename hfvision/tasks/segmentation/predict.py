"""Segments photographs of any size by a trained segmenter, in tiles where they are large."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names
from ...data.datasets.segmentation import show_mask
from ...data.image_source import ImageLike, load_image
from ...data.io.images import read_image, to_rgb
from ...hub.loading import ModelLike
from ...hub.memory import load_once
from ...utils.files import atomic_write
from .pictures import overlay, palette

MARGIN = 128  # pixels of context around a tile


@dataclass(frozen=True, repr=False)
class Segmentation:
    """The class of each pixel of an image.

    Attributes:
        image: the image, 8-bit RGB.
        mask: int64 (H, W), numbers of classes.
        names: of the classes, by number.
    """

    image: Image.Image
    mask: Tensor
    names: list[str]

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class, 0 to 1, by name."""
        counts = self.mask.flatten().bincount(minlength=len(self.names)) / self.mask.numel()
        return dict(zip(self.names, counts.tolist(), strict=True))

    def to_pil(self) -> Image.Image:
        """The mask as an image with a palette, whose values are the classes."""
        return show_mask(self.mask, palette(self.names))

    def overlay(self) -> Image.Image:
        """The image with its classes in colour, RGB."""
        return overlay(self.image, self.mask, self.names)

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items() if share)
        return f"Segmentation({self.mask.shape[1]}×{self.mask.shape[0]}: {found})"


def segment(image: ImageLike, model: ModelLike, *, tile: int = 1024, trust_remote_code: bool = False) -> Segmentation:
    """Find the class of each pixel of an image.

    >>> config = hfvision.CNNSegmentationConfig.from_preset("unet", num_labels=2)
    >>> model = hfvision.CNNForSemanticSegmentation(config)
    >>> found = hfvision.segment(hfvision.sample_photos()["cat"], (model, hfvision.ImageSegmentationProcessor()))
    >>> found.mask.shape
    torch.Size([300, 451])

    Args:
        image: path, address, bytes, PIL image or array of any size, see [`load_image`].
        model: a segmenter by Hub id or folder, or a loaded one. The last models that were named are kept in memory,
            see [`hub.memory.load_once`].
        tile: side in pixels of the tiles that large images go through in; see [`segment_image`].
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such image or model.
        ValueError: for what is no readable image, or no segmenter that can be loaded.
    """
    loaded = load_once(model, "image-segmentation", trust_remote_code=trust_remote_code)
    return segmentation_of(load_image(image), *loaded, tile=tile)


def segmentation_of(
    image: Image.Image, model: PreTrainedModel, processor: BaseImageProcessor, *, tile: int = 1024
) -> Segmentation:
    """[`segment`] for an image that is read and a model that is loaded; arguments as for [`segment_image`]."""
    mask = segment_image(image, model, processor, tile=tile)
    return Segmentation(to_rgb(image), mask, class_names(model.config))


@torch.inference_mode()
def segment_image(
    image: Image.Image, model: PreTrainedModel, processor: BaseImageProcessor, *, tile: int = 1024
) -> Tensor:
    """The class of each pixel of an image: int64 (H, W).

    Args:
        image: PIL image of any mode and size.
        model: a segmenter, as of [`loading.load_model`].
        processor: its image processor. If it keeps the size of images, large ones are processed in tiles with 128
            pixels of context; one that resizes gets the whole image.
        tile: side of the tiles in pixels.

    Raises:
        ValueError: for a processor that does not post-process semantic segmentation.
    """
    image = to_rgb(image)
    post_process: Any = getattr(processor, "post_process_semantic_segmentation", None)
    if post_process is None:
        raise ValueError(f"{type(processor).__name__} has no post-processing of semantic segmentation.")

    def classes(part: Image.Image) -> Tensor:
        outputs = model(**processor(part, return_tensors="pt").to(model.device, model.dtype))
        sizes = [(part.height, part.width)]
        found = cast(Any, processor).post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return found[0].cpu()

    if getattr(processor, "do_resize", True) or max(image.size) <= tile + MARGIN:
        return classes(image)
    mask = torch.empty(image.height, image.width, dtype=torch.long)
    for top in range(0, image.height, tile):
        for left in range(0, image.width, tile):
            above, before = max(0, top - MARGIN), max(0, left - MARGIN)
            below, after = min(image.height, top + tile + MARGIN), min(image.width, left + tile + MARGIN)
            found = classes(image.crop((before, above, after, below)))[top - above :, left - before :]
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            mask[rows, columns] = found[:tile, :tile]
    return mask


def segment_file(
    source: Path,
    target: Path,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    *,
    as_overlay: bool = False,
    tile: int = 1024,
) -> dict[str, float]:
    """Write the mask of an image file as a PNG whose values are classes, with a palette; or the image with its classes
    in color. Arguments are as for [`segment`].

    Returns:
        The share of the pixels of each class, by name.

    Raises:
        FileNotFoundError, ValueError: if the image cannot be read.
    """
    found = segmentation_of(read_image(source), model, processor, tile=tile)
    picture = found.overlay() if as_overlay else found.to_pil()
    with atomic_write(target) as temporary:
        picture.save(temporary, format="PNG")
    return found.shares
