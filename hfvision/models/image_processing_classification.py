"""Image processor of the classifiers, CNN and ViT: resize, crop, normalise."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs
from transformers.utils.constants import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

LONGEST = 16  # times the visible length: of longer images only the middle is resized before a center crop


class ImageClassificationProcessorKwargs(ImagesKwargs, total=False):
    """
    num_channels (`int`): 3 for colour, 1 for grey: what every image is brought to.
    """

    num_channels: int


class ImageClassificationProcessor(TorchvisionBackend):
    """Brings an image of any kind to the network's `pixel_values`, float32 (N, num_channels, height, width).

    PIL images of every mode are taken: EXIF orientation is applied, transparency laid on white, 16-bit grey scaled
    (not clipped), and grey made RGB, or RGB grey where `num_channels` is 1. Then `size`, `crop_size`, `image_mean` and
    `image_std` apply as in transformers; the center crop rounds as torchvision's and timm's does.
    """

    valid_kwargs = ImageClassificationProcessorKwargs
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    size = {"height": 224, "width": 224}
    do_resize = True
    do_rescale = True
    do_normalize = True
    num_channels = 3

    def process_image(self, image, num_channels=None, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] -- options of this class
        num_channels = num_channels or self.num_channels
        if isinstance(image, Image.Image):
            image = flatten_pil(image, "L" if num_channels == 1 else "RGB")
        kwargs["do_convert_rgb"] = False
        tensor = super().process_image(image, **kwargs)
        if tensor.shape[0] == 1 and num_channels == 3:
            tensor = tensor.expand(3, -1, -1)
        if tensor.shape[0] == 4 and num_channels == 3:
            tensor = tensor[:3]
        if tensor.shape[0] != num_channels:
            raise ValueError(f"An image of {tensor.shape[0]} channels cannot be made one of {num_channels}.")
        return tensor

    def center_crop(self, image, size, **kwargs):
        height_and_width: Any = [size.height, size.width]
        return tvF.center_crop(image, height_and_width)

    def _preprocess(self, images, num_channels=None, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] -- options of this class
        size, crop_size = kwargs["size"], kwargs["crop_size"]
        if kwargs["do_resize"] and kwargs["do_center_crop"] and size.shortest_edge and not size.longest_edge:
            visible = max(1, max(crop_size.height, crop_size.width) / size.shortest_edge)
            images = [middle(image, round(LONGEST * visible * min(image.shape[-2:]))) for image in images]
        return super()._preprocess(images, **kwargs)


def middle(image, longest):
    """The middle of a (C, H, W) image with a side of more than `longest` pixels: resizing all of it takes memory."""
    return tvF.center_crop(image, [min(side, longest) for side in image.shape[-2:]])


def flatten_pil(image: Image.Image, mode: str) -> Image.Image:
    """The picture as a person sees it, in the mode `RGB` or `L`: upright, on white, 16 bits brought to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(
                f"Grey values must fit in 16 bits, got {grey.min()} to {grey.max()}: scale the image first."
            )
        image = Image.fromarray((grey / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError("Images of floating-point pixels (mode F) are not taken: convert to 8 or 16 bits first.")
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("RGB").convert(mode)


__all__ = ["ImageClassificationProcessor"]
