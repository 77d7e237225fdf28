"""Upscales photographs: an image in, a larger image out, and files to files."""

import struct
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch
from PIL import Image

from ...data.image_source import ImageLike, image_file
from ...data.io.encoding import VideoEncoding
from ...data.io.images import Photo, read_photo, to_pil
from ...data.io.writing import check_format, split_metadata, write_image
from ...hub.loading import ModelLike, load_model
from ...hub.memory import load_once
from ...models.srgan.pipeline_srgan import SuperResolutionPipeline
from ...utils.files import atomic_write
from .blend import blend
from .choose import NETWORKS, PARTNERS, Choice, choose, shipped_upscalers
from .quality import ImageSource, source_quality
from .tiles import Precision, upscale_pixels

IN_INFO = ("icc_profile", "exif", "xmp", "dpi", "comment", "text")


def load_upscaler(
    model: ModelLike, *, trust_remote_code: bool = False, device: torch.device | str | None = None
) -> SuperResolutionPipeline:
    """The super-resolution pipeline, in float32, of a model.

    >>> load_upscaler("sr-tiny-x2").model.config.scale
    2

    Args:
        model: Hub id, folder or name of a shipped checkpoint, or a loaded model, as for [`load_model`].
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.
        device: where to compute; the CPU where not given.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: as [`load_model`], and for an upscaler of another
            family than SR-GAN.
    """
    network, processor = load_model(model, "image-super-resolution", trust_remote_code=trust_remote_code)
    check_upscaler(network, processor)
    place = torch.device(device) if isinstance(device, str) else device
    return SuperResolutionPipeline(model=network.float(), image_processor=processor, device=place)


def check_upscaler(network: Any, processor: Any) -> None:
    """Raise ValueError for an upscaler of another family than SR-GAN."""
    if not hasattr(processor, "post_process_super_resolution"):
        raise ValueError(
            f"{type(network).__name__} is of type {network.config.model_type!r}; hfvision upscales with its SR-GAN "
            "family."
        )


def nearest_scale(factor: float | None, scales: Collection[int]) -> int:
    """The least scale that reaches `factor`, else the largest; for None 2, or the least where that is not there."""
    if factor is None:
        return 2 if 2 in scales or not scales else min(scales)
    return min((scale for scale in scales if scale >= factor), default=max(scales, default=2))


@dataclass
class Upscaling:
    """How images are to be upscaled: by what, to which size, and how it is computed.

    Attributes:
        model: a Hub id, a folder, a shipped checkpoint, what [`load_model`] or [`load_upscaler`] returned, or any
            network that has `config.scale` and gives an output with `reconstruction` when it is called with
            `pixel_values`. None: the shipped checkpoint of `kind` and scale, or of the nearest scale that reaches the
            wanted size.
        kind: where no model is given, `clean` for images without noise and compression, `photo` for others, `gan` for
            sharper ones with invented detail; `auto`: `photo` or `clean` by the file, see [`choose.choose`].
        denoise: share of the photo network, 0 to 1; the rest is the clean network. By the file where not given.
        scale: 2, 3 or 4, of the network; 2 where neither this nor a model or size is given.
        outscale: how many times larger the result is, where it is not the network's scale: the rest is Lanczos.
        fit: (width, height) of a box that the result fills as far as its shape lets it.
        tile: side of the tiles in pixels of the input; automatic where not given.
        dtype: `auto`, `fp32`, `bf16` or `fp16`: see [`tiles.choose_dtype`].
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.
        device: where to compute; the CPU where not given, or where the model is.
        encoding: how films are encoded.

    Raises:
        ValueError: for values that do not fit each other.
    """

    model: Any = None
    kind: Literal["auto", "photo", "clean", "gan"] = "auto"
    denoise: float | None = None
    scale: int | None = None
    outscale: float | None = None
    fit: tuple[int, int] | None = None
    tile: int | None = None
    dtype: Precision = "auto"
    trust_remote_code: bool = False
    device: torch.device | str | None = None
    encoding: VideoEncoding = field(default_factory=VideoEncoding)
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if self.outscale is not None and self.fit is not None:
            raise ValueError("outscale and fit both say the size of the result: give one of them.")
        if self.outscale is not None and not 0 < self.outscale <= 16:
            raise ValueError(f"outscale must be above 0 and at most 16, got {self.outscale}.")
        if self.fit is not None and min(self.fit) < 1:
            raise ValueError(f"fit must be a width and a height of at least 1, got {self.fit}.")
        if self.tile is not None and self.tile < 1:
            raise ValueError(f"tile must be at least 1, got {self.tile}.")
        if self.kind not in ("auto", *NETWORKS):
            raise ValueError(f"kind must be auto, {', '.join(NETWORKS)}, got {self.kind!r}.")
        if self.denoise is not None and not 0 <= self.denoise <= 1:
            raise ValueError(f"denoise must be from 0 to 1, got {self.denoise}.")
        if self.model is not None and (self.kind != "auto" or self.denoise is not None):
            raise ValueError("kind and denoise choose among the models of the package: leave them out, or the model.")
        if self.denoise is not None and self.kind not in ("auto", "photo"):
            raise ValueError(f"denoise is a share of the photo network: it has no effect on kind {self.kind}.")

    def factor(self, width: int, height: int) -> float | None:
        """How many times larger an image of this size becomes; None where the network says it."""
        if self.fit is not None:
            return min(self.fit[0] / width, self.fit[1] / height)
        return self.outscale

    def network(self, factor: float | None = None) -> Any:
        """The network for this factor.

        Raises:
            ValueError, FileNotFoundError: if it is not there, cannot be loaded, or has another scale than `scale`.
        """
        name = self.shipped(factor) if self.model is None else self.model
        if isinstance(name, str | PathLike):
            name = self.load(fspath(name))
        elif isinstance(name, tuple):
            name = name[0]
        network = name.model if isinstance(name, SuperResolutionPipeline) else name
        if self.scale not in (None, network.config.scale):
            raise ValueError(f"This model upscales ×{network.config.scale}, not ×{self.scale}.")
        return network

    def shipped(self, factor: float | None) -> str:
        """The name of the shipped checkpoint for this factor, by `kind`; `auto` counts as `clean`."""
        kind = "clean" if self.kind == "auto" else self.kind
        there = shipped_upscalers(kind)
        wanted = self.scale or nearest_scale(factor, there)
        if wanted not in there:
            scales = ", ".join(f"×{scale}" for scale in there) or "none"
            raise ValueError(
                f"The package carries no {kind} model for ×{wanted} (it has {scales}): give a model, or say outscale "
                f"{wanted} for the nearest one and interpolation."
            )
        return there[wanted]

    def load(self, name: str) -> Any:
        """The network of this name, in float32; a photo network with its share of the clean one."""
        share = 1.0 if self.denoise is None or name not in PARTNERS else self.denoise
        key = name if share == 1 else f"{name} {share}"
        if key not in self.loaded:
            options = {"trust_remote_code": self.trust_remote_code, "float32": True}
            loaded = load_once(name, "image-super-resolution", **options)
            network: Any = loaded.model
            check_upscaler(network, loaded.processor)
            if share < 1:
                clean: Any = load_once(PARTNERS[name], "image-super-resolution", **options).model
                network = blend(clean, network, share)
            self.loaded[key] = network if self.device is None else network.to(self.device)
        return self.loaded[key]

    def choose_for(self, source: ImageSource, size: tuple[int, int]) -> tuple["Upscaling", Choice | None]:
        """The same with a definite kind and denoise share, by the quality of an image.

        Args:
            source: the image, for [`quality.source_quality`].
            size: its width and height.

        Returns:
            itself and None where nothing is left to choose; the clean kind where the package carries no photo network
            of the scale.
        """
        if self.model is not None or self.kind != "auto":
            return self, None
        photo, clean = shipped_upscalers("photo"), shipped_upscalers("clean")
        if (self.scale or nearest_scale(self.factor(*size), clean)) not in photo:
            return self, None
        choice = choose(source_quality(source))
        if self.denoise is not None:
            choice = replace(choice, kind="photo", denoise=self.denoise)
        share = choice.denoise if choice.kind == "photo" else None
        return replace(self, kind=choice.kind, denoise=share), choice

    def label(self) -> str:
        """What names of results say: `x2`, `x2.5` or `3840x2160`."""
        if self.fit is not None:
            return f"{self.fit[0]}x{self.fit[1]}"
        return f"x{self.network().config.scale if self.outscale is None else self.outscale:g}"

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the result for an image of this size."""
        factor = self.factor(width, height) or self.network().config.scale
        return max(1, round(width * factor)), max(1, round(height * factor))

    def strips(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        """The result for uint8 or uint16 (H, W, C), from top to bottom: see [`tiles.upscale_pixels`]."""
        height, width = pixels.shape[:2]
        network, size = self.network(self.factor(width, height)), self.size(width, height)
        return upscale_pixels(pixels, network, size=size, tile=self.tile, precision=self.dtype)


class UpscaleOptions(TypedDict, total=False):
    """The options of [`upscale`]: fields of [`Upscaling`]."""

    kind: Literal["auto", "photo", "clean", "gan"]
    denoise: float | None
    scale: int | None
    outscale: float | None
    fit: tuple[int, int] | None
    tile: int | None
    dtype: Precision
    trust_remote_code: bool
    device: torch.device | str | None


@overload
def upscale(image: np.ndarray, model: Any = None, **options: Unpack[UpscaleOptions]) -> np.ndarray: ...
@overload
def upscale(
    image: str | PathLike[str] | bytes | Image.Image, model: Any = None, **options: Unpack[UpscaleOptions]
) -> Image.Image: ...
def upscale(image: ImageLike, model: Any = None, **options: Unpack[UpscaleOptions]) -> Image.Image | np.ndarray:
    """An image upscaled by a super-resolution network.

    Grey stays grey and 16-bit grey 16-bit, transparency goes through the network too, the ICC profile and other
    metadata are kept in `.info`.

    >>> hfvision.upscale(hfvision.sample_photos()["cat"], "sr-tiny-x2").size
    (902, 600)
    >>> hfvision.upscale(np.zeros((20, 30, 3), dtype=np.uint8), "sr-tiny-x2", outscale=1.5).shape
    (30, 45, 3)

    Args:
        image: path, address, bytes, or PIL image of any mode; or uint8 or uint16 array (H, W) or (H, W, C) of grey,
            grey and alpha, RGB or RGBA.
        model: an upscaler, see [`Upscaling`]. The last models that were named are kept in memory, see
            [`hub.memory.load_once`].
        options: fields of [`Upscaling`], as `scale=4`, `outscale=2.5`, `fit=(3840, 2160)` or `kind="clean"`.

    Returns:
        A PIL image of the mode L, LA, I;16, RGB or RGBA; an array of as many dimensions for an array.

    Raises:
        ValueError, FileNotFoundError: for a file that is no readable image, a model that cannot be loaded, or a file
            of 16-bit color, which no PIL image can hold: [`upscale_file`] takes it.
    """
    upscaling = Upscaling(model, **options)
    if isinstance(image, np.ndarray):
        pixels = image[..., None] if image.ndim == 2 else image
        upscaling, _ = upscaling.choose_for(pixels, pixels.shape[1::-1])
        result = np.concatenate(list(upscaling.strips(pixels)))
        return result[..., 0] if image.ndim == 2 else result
    photo = read_photo(image_file(image))
    if photo.pixels.dtype == np.uint16 and photo.pixels.shape[2] > 1:
        raise ValueError(
            f"{image} has colors of 16 bits, which PIL images cannot hold: use upscale_file(), or give upscale() the "
            "pixels of hfvision.read_photo() as an array."
        )
    upscaling, _ = upscaling.choose_for(image_file(image), photo.pixels.shape[1::-1])
    picture = to_pil(np.concatenate(list(upscaling.strips(photo.pixels))))
    picture.info.clear()
    picture.info.update(photo.metadata)
    return picture


def write_photo(path: Path, strips: Iterator[np.ndarray], size: tuple[int, int], photo: Photo) -> None:
    metadata, left_out = split_metadata(path.suffix, photo.pixels, photo.metadata)
    if left_out:
        reasons = ", ".join(f"{name} ({why})" if why else name for name, why in left_out.items())
        message = f"{path} is written without {reasons}: the format cannot hold it."
        warnings.warn(message, stacklevel=2)
    try:
        with atomic_write(path) as temporary:
            write_image(temporary, strips, size, metadata)
    except (OSError, KeyError, OverflowError, struct.error) as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image in the format of its suffix, with its metadata; the file is there whole or not at all."""
    pixels = np.asarray(image)
    photo = Photo(pixels.reshape(*pixels.shape[:2], -1), {n: image.info[n] for n in IN_INFO if n in image.info})
    check_format(path, image.size, photo.pixels)
    write_photo(path, iter([photo.pixels]), image.size, photo)
