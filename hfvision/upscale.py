"""Upscales photographs: a PIL image in, a larger PIL image out, and files to files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from .data.images import find_images, read_image
from .loading import load_model
from .models.srgan.pipeline_srgan import SuperResolutionPipeline
from .report import written_whole


def load_upscaler(model: str, *, trust_remote_code: bool = False) -> SuperResolutionPipeline:
    """The super-resolution pipeline of a Hub id, folder or shipped checkpoint; errors as `loading.load_model`."""
    network, processor = load_model(model, "image-super-resolution", trust_remote_code=trust_remote_code)
    if not hasattr(processor, "post_process_super_resolution"):
        raise ValueError(
            f"{model} is of type {network.config.model_type!r}; hfvision upscales with its SR-GAN family."
        )
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


def output_paths(sources: Sequence[Path], out: Path | None, scale: int) -> list[tuple[Path, Path]]:
    """Pairs of image and result: `photo.jpg` becomes `photo_x2.png`, beside it or under `out`, subfolders kept.

    `out` with a picture's suffix names the result itself, for one file.

    Raises:
        ValueError, FileNotFoundError: for sources without images, or two results of one name.
    """
    pairs = []
    for source in sources:
        root = source if source.is_dir() else source.parent
        for image in find_images(source):
            folder = image.parent if out is None else out / image.parent.relative_to(root)
            pairs.append((image, folder / f"{image.stem}_x{scale}.png"))
    if out is not None and out.suffix.lower() in Image.registered_extensions():
        if len(sources) > 1 or sources[0].is_dir():
            raise ValueError(f"--out {out} names one file: give a folder for the results of several images.")
        return [(sources[0], out)]
    target, times = Counter(target for _, target in pairs).most_common(1)[0]
    if times > 1:
        raise ValueError(f"Two images would both become {target}: rename one of them.")
    return pairs


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image in the format of its suffix, ICC profile included; the file is there whole or not at all."""
    try:
        with written_whole(path) as temporary:
            image.save(temporary, icc_profile=image.info.get("icc_profile"))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be written: {error}") from error
