"""Upscales photographs: an image in, a larger image out, and files to files."""

import json
import struct
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import torch
from PIL import Image

from ...data.image_source import ImageLike, image_file
from ...data.io.encoding import VideoEncoding
from ...data.io.images import Photo, read_photo, to_pil
from ...data.io.writing import check_format, split_metadata, write_image
from ...hub.checkpoints import list_checkpoints
from ...hub.loading import ModelLike, load_model
from ...hub.memory import load_once
from ...models.srgan.pipeline_srgan import SuperResolutionPipeline
from ...utils.files import atomic_write
from .tiles import Precision, upscale_pixels

# Of several shipped checkpoints of a scale the first that is there: fidelity before speed, invented detail last.
PREFERENCE = ("sr-light", "sr-tiny", "sr-gan")
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


def shipped_upscalers() -> dict[int, str]:
    """The shipped checkpoint for each scale, by `PREFERENCE`."""
    found: dict[int, list[str]] = {}
    for name, folder in list_checkpoints().items():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") == "hfvision_srgan":
            found.setdefault(config["scale"], []).append(name)

    def rank(name: str) -> int:
        return next((i for i, prefix in enumerate(PREFERENCE) if name.startswith(prefix)), len(PREFERENCE))

    return {scale: min(names, key=rank) for scale, names in sorted(found.items())}


def nearest_scale(factor: float | None, scales: Collection[int]) -> int:
    """The least scale that reaches `factor`, else the largest; 2 for None."""
    return 2 if factor is None else min((s for s in scales if s >= factor), default=max(scales, default=2))


@dataclass
class Upscaling:
    """How images are to be upscaled: by what, to which size, and how it is computed.

    Attributes:
        model: a Hub id, a folder, a shipped checkpoint, what [`load_model`] or [`load_upscaler`] returned, or any
            network that has `config.scale` and gives an output with `reconstruction` when it is called with
            `pixel_values`. None: the shipped checkpoint of that scale, or the nearest to the wanted size that is not
            below it.
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
        name = self.model
        if name is None:
            shipped = shipped_upscalers()
            wanted = self.scale or nearest_scale(factor, shipped)
            if wanted not in shipped:
                there = ", ".join(f"×{scale}" for scale in shipped) or "none"
                raise ValueError(
                    f"The package carries no model for ×{wanted} (it has {there}): give a model, or say outscale "
                    f"{wanted} for the nearest one and interpolation."
                )
            name = shipped[wanted]
        if isinstance(name, str | PathLike):
            name = fspath(name)
            if name not in self.loaded:
                options = {"trust_remote_code": self.trust_remote_code, "float32": True}
                loaded = load_once(name, "image-super-resolution", **options)
                network: Any = loaded.model
                check_upscaler(network, loaded.processor)
                self.loaded[name] = network if self.device is None else network.to(self.device)
            name = self.loaded[name]
        elif isinstance(name, tuple):
            name = name[0]
        network = name.model if isinstance(name, SuperResolutionPipeline) else name
        if self.scale not in (None, network.config.scale):
            raise ValueError(f"This model upscales ×{network.config.scale}, not ×{self.scale}.")
        return network

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
        options: fields of [`Upscaling`], as `scale=4`, `outscale=2.5` or `fit=(3840, 2160)`.

    Returns:
        A PIL image of the mode L, LA, I;16, RGB or RGBA; an array of as many dimensions for an array.

    Raises:
        ValueError, FileNotFoundError: for a file that is no readable image, a model that cannot be loaded, or a file
            of 16-bit color, which no PIL image can hold: [`upscale_file`] takes it.
    """
    upscaling = Upscaling(model, **options)
    if isinstance(image, np.ndarray):
        pixels = image[..., None] if image.ndim == 2 else image
        result = np.concatenate(list(upscaling.strips(pixels)))
        return result[..., 0] if image.ndim == 2 else result
    photo = read_photo(image_file(image))
    if photo.pixels.dtype == np.uint16 and photo.pixels.shape[2] > 1:
        raise ValueError(
            f"{image} has colors of 16 bits, which PIL images cannot hold: use upscale_file(), or give upscale() the "
            "pixels of hfvision.read_photo() as an array."
        )
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
