"""Segments photographs of any size by a trained segmenter, in tiles where they are large."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names
from ...data.datasets.segmentation import show_mask
from ...data.io.images import read_image, to_rgb
from ...utils.files import written_whole
from .pictures import overlay, palette

MARGIN = 128  # pixels around a tile that are seen with it


@torch.inference_mode()
def segment(image: Image.Image, model: PreTrainedModel, processor: BaseImageProcessor, *, tile: int = 1024) -> Tensor:
    """The class of each pixel of an image: int64 (H, W).

    Args:
        image: PIL image of any mode and size.
        model: a segmenter, as of [`loading.load_model`].
        processor: its image processor. Where it keeps the size of images, large ones go through in tiles, each seen
            with 128 pixels around it; one that resizes gets the whole image.
        tile: side of the tiles in pixels.
    """
    image = to_rgb(image)

    def classes(part: Image.Image) -> Tensor:
        outputs = model(**processor(part, return_tensors="pt").to(model.device, model.dtype))
        sizes = [(part.height, part.width)]
        return processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0].cpu()

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
    in colour. Arguments are as for [`segment`].

    Returns:
        The share of the pixels of each class, by name.

    Raises:
        FileNotFoundError, ValueError: if the image cannot be read.
    """
    image = read_image(source)
    mask = segment(image, model, processor, tile=tile)
    names = class_names(model.config)
    picture = overlay(to_rgb(image), mask, names) if as_overlay else show_mask(mask, palette(names))
    with written_whole(target) as temporary:
        picture.save(temporary, format="PNG")
    shares = mask.flatten().bincount(minlength=len(names)) / mask.numel()
    return dict(zip(names, shares.tolist(), strict=True))
