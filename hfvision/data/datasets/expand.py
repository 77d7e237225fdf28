"""Data sets made larger by augmented copies that are computed once and kept."""

import io
import math
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from ..io.images import read_image
from ..transforms.augment import augment_pil
from ..transforms.augmentation import Augmentation
from ..transforms.keyed import image_keys
from .prepare import bad_image, encoded

if TYPE_CHECKING:
    import datasets


def expand_dataset(
    dataset: "datasets.Dataset",
    factor: float,
    augmentation: Augmentation,
    *,
    seed: int = 0,
    num_proc: int | None = None,
) -> "datasets.Dataset":
    """The images of a data set, then augmented copies of them, `factor` times as many in all.

    Each copy is varied in its own way and stored losslessly (PNG); the originals keep their bytes. A last copy that
    is not whole is of images chosen at random. The same arguments always give the same images, whatever `num_proc`,
    and a second call reads the cache of datasets. Memory stays at some hundred MB a process for images up to 224×224;
    the disk holds the result, about 2.5 kB for a colour photograph of 32×32.

    Args:
        dataset: with a column `image` (`datasets.Image`), of any modes and sizes; other columns are copied.
        factor: 1 or more; the result has round(len · factor) rows.
        augmentation: how the copies vary; mixup and cutmix are for batches and play no part.
        seed: other seeds give other copies.
        num_proc: processes that share the work.

    Returns:
        A `datasets.Dataset` of the same columns. The images of the copies are grey where the originals are, else RGB.

    Raises:
        ValueError: for a factor below 1, a data set without images, a column `image` of another kind, or an image
            that cannot be read.
    """
    import datasets

    if not 1 <= factor < math.inf:
        raise ValueError(f"factor must be 1 or more, got {factor}.")
    feature = dataset.features.get("image")
    if not isinstance(feature, datasets.Image) or not len(dataset):
        raise ValueError(f"Expected rows with images in a column `image`, got {len(dataset)} rows of {feature}.")
    files = dataset.with_format(None).cast_column("image", datasets.Image(decode=False))
    originals = torch.arange(len(files))
    whole, rest = divmod(round(len(files) * factor), len(files))
    chosen = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))[:rest]
    return files.select(torch.cat([originals.repeat(whole), chosen]).numpy()).map(
        vary,
        fn_kwargs={"originals": len(files), "seed": seed, "augmentation": augmentation},
        with_indices=True,
        batched=True,
        batch_size=64,
        features=dataset.features,
        num_proc=num_proc,
        desc="Augmenting",
    )


def vary(
    rows: dict[str, list[Any]], places: list[int], originals: int, seed: int, augmentation: Augmentation
) -> dict[str, list[Any]]:
    """Encoded images at `places` of the expanded set: the first `originals` as they are, the others varied."""
    images = rows["image"]
    first = next((i for i, place in enumerate(places) if place >= originals), len(places))
    sources = [read(image) for image in images[first:]]
    keys = image_keys(seed, 0, torch.tensor(places[first:], dtype=torch.long))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the processes share the cores already
    try:
        varied = augment_pil(sources, keys, augmentation)
    finally:
        torch.set_num_threads(threads)
    return {"image": images[:first] + [{"bytes": encode_png(image), "path": None} for image in varied]}


def encode_png(image: Tensor) -> bytes:
    file = io.BytesIO()
    to_pil_image(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def read(image: dict[str, Any] | None) -> Image.Image:
    try:
        return read_image(encoded(image))
    except (ValueError, OSError) as error:
        raise ValueError(bad_image("An image of the data set", image, error)) from None
