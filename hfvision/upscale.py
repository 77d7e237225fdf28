"""Upscales photographs: a PIL image in, a larger PIL image out, and files to files."""

import os
import tempfile
from pathlib import Path

import torch
from PIL import Image

from .data.images import find_images, read_image
from .loading import load_model
from .models.srgan.pipeline_srgan import SuperResolutionPipeline


def load_upscaler(model: str, *, trust_remote_code: bool = False) -> SuperResolutionPipeline:
    """The super-resolution pipeline of a Hub id, folder or shipped checkpoint; errors as `loading.load_model`."""
    network, processor = load_model(model, "image-super-resolution", trust_remote_code=trust_remote_code)
    return SuperResolutionPipeline(model=network, image_processor=processor)


def upscale(image: str | Path | Image.Image, model: str | SuperResolutionPipeline) -> Image.Image:
    """An image upscaled by a super-resolution model.

    Grey stays grey and 16-bit grey 16-bit, transparency goes through the network too, the ICC profile is kept.

    Args:
        image: path or PIL image of any mode, of any size of at least 1×1.
        model: a Hub id, a folder, a shipped checkpoint, or what [`load_upscaler`] returned.

    Returns:
        A PIL image exactly `scale` times as wide and high, of the mode L, LA, I;16, RGB or RGBA.

    Raises:
        ValueError, FileNotFoundError: for a file that is no readable image, or a model that cannot be loaded.
    """
    upscaler = load_upscaler(model) if isinstance(model, str) else model
    with torch.inference_mode():
        return upscaler(read_image(image))


def output_paths(source: Path, out: Path | None, scale: int) -> list[tuple[Path, Path]]:
    """Pairs of image and result: `photo.jpg` becomes `photo_x2.png`, beside it or under `out`, subfolders kept.

    `out` with a picture's suffix names the result itself where `source` is a file.
    """
    images = find_images(source)
    if out is not None and out.suffix.lower() in Image.registered_extensions():
        if source.is_dir():
            raise ValueError(f"--out {out} names a file, but {source} is a folder: give a folder for the results.")
        return [(source, out)]
    pairs = []
    for image in images:
        folder = image.parent if out is None else out / image.relative_to(source if source.is_dir() else source.parent)
        folder = folder if out is None else folder.parent
        pairs.append((image, folder / f"{image.stem}_x{scale}.png"))
    targets = [target for _, target in pairs]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise ValueError(f"Two images would both become {twice}: rename one of them.")
    return pairs


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image in the format of its suffix, ICC profile included; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=path.suffix, prefix=f".{path.stem}", dir=path.parent)
    os.close(handle)
    try:
        image.save(temporary, icc_profile=image.info.get("icc_profile"))
        Path(temporary).replace(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be written: {error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
