"""Image processor of the super-resolution networks: any size, never resized, and back to PIL."""

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.processing_utils import ImagesKwargs

LUMA = (0.299, 0.587, 0.114)


class SRGANImageProcessorKwargs(ImagesKwargs, total=False):
    """
    num_channels (`int`): 3 for colour, 1 for grey: what every image is brought to.
    """

    num_channels: int


class SRGANImageProcessor(TorchvisionBackend):
    """Brings images to `pixel_values` in [0, 1], float32 (N, num_channels, height, width), at their own size.

    PIL images of any mode are taken upright and without their transparency ([`SRGANImageProcessor.alpha`] gives that
    as an image of its own); 16-bit grey keeps its 16 bits. Images of one call must agree in size.
    """

    valid_kwargs = SRGANImageProcessorKwargs
    do_resize = False
    do_normalize = False
    do_rescale = True
    num_channels = 3

    def process_image(self, image, num_channels=None, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] -- options of this class
        num_channels = num_channels or self.num_channels
        depth = 255.0
        if isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image)
            if image.mode == "F":
                raise ValueError(
                    "Images of floating-point pixels (mode F) are not taken: convert to 8 or 16 bits first."
                )
            if image.mode.startswith("I"):
                depth = 65535.0
                image = np.asarray(image).astype(np.float32)[None]
                if image.min() < 0 or image.max() > depth:
                    raise ValueError(f"Grey values must fit in 16 bits, got {image.min():.0f} to {image.max():.0f}.")
            else:
                image = image.convert("LA") if image.mode == "La" else image
                image = image.convert("L" if mode_of(image) in ("L", "LA") else "RGB")
        kwargs["do_convert_rgb"] = False
        tensor = super().process_image(image, **kwargs)
        if tensor.is_floating_point() and depth == 255.0:
            raise ValueError("Super-resolution takes PIL images or uint8 arrays; got a floating-point array.")
        tensor = tensor.float() / depth
        if tensor.shape[0] == 1 and num_channels == 3:
            tensor = tensor.expand(3, -1, -1)
        if tensor.shape[0] == 3 and num_channels == 1:
            tensor = to_grey(tensor)
        if tensor.shape[0] != num_channels:
            raise ValueError(f"An image of {tensor.shape[0]} channels cannot be made one of {num_channels}.")
        return tensor

    def _preprocess(self, images, return_tensors=None, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride] -- options of this class
        shapes = {tuple(image.shape[-2:]) for image in images}
        if len(shapes) > 1:
            raise ValueError(
                f"Images of one batch must agree in size, got (height, width) {sorted(shapes)}: "
                "super-resolution does not resize; pass them one by one."
            )
        return BatchFeature(data={"pixel_values": torch.stack(list(images))}, tensor_type=return_tensors)

    @staticmethod
    def alpha(image: Image.Image) -> Image.Image | None:
        """The transparency of `image` as a grey image, upright; None for an opaque one."""
        if mode_of(image) not in ("LA", "RGBA"):
            return None
        image = image.convert("LA") if image.mode == "La" else image
        return ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")

    def post_process_super_resolution(self, outputs, images=None) -> list[Image.Image]:
        """Reconstructions as PIL images.

        Args:
            outputs: the model's output, or its `reconstruction`, float (N, C, H, W); clamped to [0, 1].
            images: the N images that went in, to give grey for grey and 16 bits for 16 bits. Without them the result
                is RGB, or grey for a model of one channel.

        Returns:
            N images of the mode `RGB`, `L` or `I;16`, of size (W, H).
        """
        batch = getattr(outputs, "reconstruction", outputs).detach().float().cpu().clamp(0, 1)
        modes = ["L" if batch.shape[1] == 1 else "RGB"] * len(batch)
        if images is not None:
            modes = [mode_of(image) for image in images]
        results = []
        for tensor, mode in zip(batch, modes, strict=True):
            if mode not in ("RGB", "RGBA") and tensor.shape[0] == 3:
                tensor = to_grey(tensor)
            array = to_integers(tensor, np.uint16 if mode == "I;16" else np.uint8)
            results.append(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))
        return results


def to_grey(image: torch.Tensor) -> torch.Tensor:
    """The luma (…, 1, H, W) of colour images (…, 3, H, W)."""
    return (image * torch.tensor(LUMA)[:, None, None]).sum(-3, keepdim=True)


def to_integers(image: torch.Tensor, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """An image (C, H, W) in [0, 1] as integers (H, W, C), clamped and rounded to the nearest."""
    largest = np.iinfo(dtype).max
    return image.permute(1, 2, 0).clamp(0, 1).mul_(largest).round_().numpy().astype(dtype)


def mode_of(image: Image.Image) -> str:
    """`L`, `LA`, `RGB`, `RGBA` or `I;16`: what the image holds once palette, CMYK and the like are resolved."""
    if image.mode.startswith("I"):
        return "I;16"
    if image.mode in ("1", "L", "LA", "La"):
        return "LA" if image.has_transparency_data else "L"
    return "RGBA" if image.has_transparency_data else "RGB"


__all__ = ["SRGANImageProcessor"]
