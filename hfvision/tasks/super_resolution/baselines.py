"""The upscalers of an evaluation: networks, and as baselines interpolations and OpenCV's networks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from ...data.transforms.resize import quantize_8bit, resize_bicubic
from ...models.srgan.image_processing_srgan import to_grey
from ...models.srgan.tiles_srgan import reconstruct

Dtype = Literal["fp32", "bf16"]
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16")
OPENCV_NETWORK = re.compile(r"(edsr|espcn|fsrcnn|lapsrn)(?:-small)?_x(\d)\.pb", re.IGNORECASE)


@dataclass(frozen=True)
class Upscaler:
    """An upscaler with its own image format, so that conversions are not part of its time.

    Attributes:
        name: for tables.
        scale: upscaling factor.
        run: the part that is timed, from the output of `prepare` to the input of `finish`.
        dtype: of the computation.
        prepare: converts a float tensor (1, C, H, W) in [0, 1], C of 1 or 3.
        finish: converts the result to a tensor (1, 1 or 3, H·scale, W·scale).
    """

    name: str
    scale: int
    run: Callable[[Any], Any]
    dtype: Literal["fp32", "bf16", "uint8"] = "fp32"
    prepare: Callable[[Tensor], Any] = Tensor.float
    finish: Callable[[Any], Tensor] = Tensor.float

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Float (1, C, H, W) in [0, 1] to float32 (1, C, H·scale, W·scale), rounded to 8 bit; C of 1 or 3.

        Color results for gray images are converted to luma, gray results for color images to three equal channels.
        """
        image = self.finish(self.run(self.prepare(x))).float().cpu()
        if image.shape[1] != x.shape[1]:
            image = to_grey(image) if x.shape[1] == 1 else image.expand(-1, 3, -1, -1)
        return quantize_8bit(image)


def network(name: str, model: Any, dtype: Dtype = "fp32") -> Upscaler:
    """A model with `config.scale` that gives `.reconstruction` for `pixel_values`.

    Its convolutions run in `dtype` by autocast, in channels_last, on the model's device. A color model gets gray
    images as three equal channels, a gray model gets the luma of color images.
    """
    channels = getattr(model.config, "num_channels", 3)
    device = getattr(model, "device", torch.device("cpu"))
    if isinstance(model, nn.Module):
        model = model.float().to(memory_format=torch.channels_last)

    def prepare(x: Tensor) -> Tensor:
        x = to_grey(x.float()) if channels < x.shape[1] else x.float().expand(-1, channels, -1, -1)
        return x.to(device).contiguous(memory_format=torch.channels_last)

    def run(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16"):
            return reconstruct(model, x)

    return Upscaler(name, model.config.scale, run, dtype, prepare)


def interpolations(scale: int) -> list[Upscaler]:
    """MATLAB's bicubic, which papers compare with, Pillow's Lanczos, and OpenCV's both where it is installed."""

    def lanczos(image: Image.Image) -> Image.Image:
        return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)

    def to_pil(x: Tensor) -> Image.Image:
        return to_pil_image(quantize_8bit(x[0]))

    def from_pil(image: Image.Image) -> Tensor:
        return pil_to_tensor(image)[None] / 255

    found = [
        Upscaler(f"bicubic ×{scale}", scale, lambda x: resize_bicubic(x, scale)),
        Upscaler(f"Lanczos (Pillow) ×{scale}", scale, lanczos, "uint8", to_pil, from_pil),
    ]
    try:
        import cv2  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        return found

    def resize(image: np.ndarray, kernel: int) -> np.ndarray:
        return cv2.resize(image, None, fx=scale, fy=scale, interpolation=kernel)

    kernels = {"bicubic": cv2.INTER_CUBIC, "Lanczos": cv2.INTER_LANCZOS4}
    return found + [
        Upscaler(f"{name} (OpenCV) ×{scale}", scale, partial(resize, kernel=kernel), "uint8", to_array, from_array)
        for name, kernel in kernels.items()
    ]


def to_array(x: Tensor) -> np.ndarray:
    """(1, C, H, W) in [0, 1] to uint8 (H, W, 3) in OpenCV's order, blue first."""
    image = (quantize_8bit(x[0]) * 255).round().to(torch.uint8).expand(3, -1, -1)
    return np.ascontiguousarray(image.flip(0).permute(1, 2, 0).numpy())


def from_array(image: np.ndarray) -> Tensor:
    """The reverse of [`to_array`]."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)[None] / 255


def opencv_networks(files: Sequence[Path]) -> list[Upscaler]:
    """Networks of OpenCV's `dnn_superres`, of files named as OpenCV's own: `FSRCNN_x2.pb`, `ESPCN_x4.pb` …

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if `dnn_superres` is not installed.
        ValueError: if a name does not say the network and its scale, or the file cannot be read.
    """
    upscalers = []
    for file in files:
        named = OPENCV_NETWORK.fullmatch(file.name)
        if named is None:
            raise ValueError(f"{file} must be named after its network and scale, as FSRCNN_x2.pb or EDSR_x4.pb.")
        if not file.is_file():
            raise FileNotFoundError(f"There is no file {file}.")
        try:
            from cv2 import dnn_superres, error  # pyright: ignore[reportMissingImports]  # optional
        except ImportError:
            raise ImportError(
                "OpenCV's networks need its contributed modules: pip install opencv-contrib-python-headless"
            ) from None
        net = dnn_superres.DnnSuperResImpl_create()
        try:
            net.readModel(str(file))
            net.setModel(named[1].lower(), int(named[2]))
        except error as failure:
            raise ValueError(f"{file} cannot be read by OpenCV: {failure}") from failure
        name = f"{file.stem.partition('_')[0]} (OpenCV) ×{named[2]}"
        upscalers.append(
            Upscaler(name, int(named[2]), net.upsample, dtype="fp32", prepare=to_array, finish=from_array)
        )
    return upscalers
