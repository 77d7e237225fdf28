"""From labelled splits to uint8 batches of one size: what the image processor makes of them, before it normalises."""

import multiprocessing
import os
from collections.abc import Iterator
from itertools import count
from math import prod
from pathlib import Path
from typing import Any, Literal

import datasets
import fsspec
import torch
from datasets.distributed import split_dataset_by_node
from datasets.utils.file_utils import is_local_path
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers.image_processing_utils import BaseImageProcessor

from ...models.image_processing_classification import flatten_pil
from ...utils.console import progress_bar
from ..io.images import read_image
from .columns import features_of
from .splits import digest

CHUNK_PIXELS = 2**22  # decoded before they are resized, at once: photographs are large
WORKER_IMAGES = 2000  # fewer are read sooner than worker processes start


class BadImageError(ValueError):
    """An image cannot be read. A DataLoader puts the traceback of its worker before the message: it is left out."""

    def __init__(self, message: str):
        super().__init__(message.rstrip().rpartition(f"{type(self).__name__}: ")[2])


class PixelReader:
    """Encoded images to the pixels that `processor` would normalise.

    Args:
        processor: any image processor that brings all images to one size.
    """

    def __init__(self, processor: BaseImageProcessor):
        self.processor = processor
        self.mode = "L" if getattr(processor, "num_channels", 3) == 1 else "RGB"
        self.shape: torch.Size | None = None

    def decode(self, data: bytes) -> Image.Image:
        """The image, upright, on white, 8 bit, RGB or L as the processor takes it; ValueError if it is unreadable."""
        image = read_image(data)
        return image if image.mode == self.mode else flatten_pil(image, self.mode)

    def pixels(self, images: list[Image.Image]) -> Tensor:
        """uint8 (N, C, H, W).

        Raises:
            ValueError: if the processor gives several sizes, or something else than 8-bit pixels.
        """
        made = self.processor(images, do_rescale=False, do_normalize=False)["pixel_values"]
        made = [torch.as_tensor(image) for image in made]
        name = type(self.processor).__name__
        if made[0].dtype != torch.uint8:
            raise ValueError(
                f"{name} gives {made[0].dtype}, not 8-bit pixels, with do_rescale=False: it is not taken."
            )
        self.shape = self.shape or made[0].shape
        for image in made:
            if image.shape != self.shape:
                raise ValueError(
                    f"{name} gives images of {self.shape[1]}×{self.shape[2]} and {image.shape[1]}×{image.shape[2]} "
                    "pixels: set its size to one height and width, or a crop_size."
                )
        return torch.stack(made)


def encoded(image: dict[str, Any] | None) -> bytes:
    """The bytes of the file that a row of `datasets.Image(decode=False)` has or names."""
    if image is None or (image["bytes"] is None and image["path"] is None):
        raise ValueError("There is no image.")
    if image["bytes"] is not None:
        return image["bytes"]
    if is_local_path(image["path"]):  # whatever characters the name has that mean something in an address
        return Path(image["path"]).read_bytes()
    with fsspec.open(image["path"], "rb") as file:
        return file.read()  # pyright: ignore[reportAttributeAccessIssue]: the stubs forget that it may be a file


def bad_image(place: str, image: dict[str, Any] | None, error: Exception) -> str:
    path = (image or {}).get("path")
    return f"{place}{f' ({path})' if path else ''} cannot be read: {error}"


class LazyImages(Dataset):
    """Reads the images of a split whenever they are asked for; see [`prepare_images`].

    Attributes:
        labels: int64 (N,), of all rows.
        shape: (C, H, W) of every image.
    """

    def __init__(
        self, split: datasets.Dataset, processor: BaseImageProcessor, on_bad_image: Literal["stop", "skip"] = "stop"
    ):
        self.split = split.cast_column("image", datasets.Image(decode=False))
        self.name = str(split.split or "data")
        self.on_bad_image = on_bad_image
        self.labels = torch.from_numpy(split.select_columns("label").with_format("numpy")[:]["label"]).long()
        self.reader = PixelReader(processor)
        self.shape = tuple(self.reader.pixels([self.picture(0, self.split[0]["image"])[1]]).shape[1:])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        found, images, parts, area = [], [], [], 0
        for row in zip(indices, self.split[indices]["image"], strict=True):
            index, image = self.picture(*row)
            found.append(index)
            images.append(image)
            area += image.width * image.height
            if area > CHUNK_PIXELS or len(found) == len(indices):
                parts.append(self.reader.pixels(images))
                images, area = [], 0
        index = torch.tensor(found)
        batch = {"images": torch.cat(parts), "labels": self.labels[index], "index": index}
        return batch | {"read": index == torch.tensor(indices)}

    def picture(self, index: int, image: dict[str, Any] | None) -> tuple[int, Image.Image]:
        """Row `index`, or the next readable one where bad images are skipped, and its picture."""
        for _ in range(len(self)):
            try:
                return index, self.reader.decode(encoded(image))
            except (ValueError, OSError) as error:
                if self.on_bad_image == "stop":
                    raise self.error(index, image, error) from None
            index = (index + 1) % len(self)
            image = self.split[index]["image"]
        raise ValueError(f"None of the {len(self)} images of the split {self.name} can be read.")

    def error(self, index: int, image: dict[str, Any] | None, error: Exception) -> BadImageError:
        return BadImageError(bad_image(f"Row {index} of the split {self.name}", image, error))

    def check(self, index: int) -> BadImageError | None:
        """What is wrong with row `index`, if anything."""
        image = self.split[index]["image"]
        try:
            self.reader.decode(encoded(image))
        except (ValueError, OSError) as error:
            return self.error(index, image, error)
        return None


class MemoryImages(Dataset):
    """Decoded images of a split; see [`prepare_images`].

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        index: int64 (N,), the rows of the split that they come from.
        bad_images: one sentence for each row that could not be read and was left out.
    """

    def __init__(self, images: Tensor, labels: Tensor, index: Tensor, bad_images: list[str]):
        self.images, self.labels, self.index, self.bad_images = images, labels, index, bad_images
        self.shape = tuple(images.shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | Tensor) -> dict[str, Tensor]:
        return {"images": self.images[index], "labels": self.labels[index], "index": self.index[index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self[torch.tensor(indices)]


def prepare_images(
    split: datasets.Dataset | datasets.IterableDataset,
    processor: BaseImageProcessor,
    *,
    memory_limit: int = 4 * 2**30,
    on_bad_image: Literal["stop", "skip"] = "stop",
    num_proc: int | None = None,
) -> MemoryImages | LazyImages:
    """A split as a data set of batches that need only be divided by 255 and normalised.

    Its batches (`__getitems__`) are dicts of `images` uint8 (B, C, H, W), the very pixels that
    `processor(read_image(…))` rescales and normalises, `labels` int64 (B,), and `index` int64 (B,), the row in the
    split. A single item has no dimension B. Sets whose pixels fit into `memory_limit` are decoded once, here; others
    whenever they are asked for, with equal results. A stream is read to its end into memory; its `index` is as in
    [`IterableImages`], which streams training images.

    Args:
        split: with the columns `image` and `label`; see `load_image_dataset`.
        processor: any image processor that brings all images to one size.
        memory_limit: in bytes, for N·C·H·W pixels.
        on_bad_image: what an image that cannot be read does. `stop` raises; `skip` leaves it out of a set in memory,
            whose `bad_images` then names it. In a set that is not in memory its place is taken by the next readable
            row, so that no batch is smaller, and the batch's bool (B,) `read`, there in all such batches, is False.
        num_proc: processes that decode (default: one a core, up to 8).

    Raises:
        ValueError: if there are no images, a bad one (with split, row and reason), they are not of one size, or a
            stream does not fit into `memory_limit`.
    """
    if isinstance(split, datasets.IterableDataset):
        return read_stream(split, processor, memory_limit, on_bad_image)
    if len(split) == 0:
        raise ValueError(f"The split {split.split or 'data'} has no images.")
    lazy = LazyImages(split, processor, on_bad_image)
    if len(lazy) * prod(lazy.shape) > memory_limit:
        return lazy
    lazy.on_bad_image = "skip"
    images = torch.empty((len(lazy), *lazy.shape), dtype=torch.uint8)
    read = torch.ones(len(lazy), dtype=torch.bool)
    bad_images = []
    done = 0
    with progress_bar(total=len(lazy), desc=f"reading {lazy.name}", unit="image", mininterval=0.5) as bar:
        for batch in reading_loader(lazy, num_proc):
            rows = slice(done, done + len(batch["images"]))
            images[rows], read[rows] = batch["images"], batch["read"]
            for row in (done + torch.nonzero(~batch["read"])[:, 0]).tolist():
                error = lazy.check(row)
                if error is not None and on_bad_image == "stop":
                    raise error
                bad_images.append(str(error))
            done = rows.stop
            bar.update(len(batch["images"]))
    if not bad_images:
        return MemoryImages(images, lazy.labels, torch.arange(len(lazy)), [])
    return MemoryImages(images[read], lazy.labels[read], torch.nonzero(read)[:, 0], bad_images)


def reading_loader(lazy: LazyImages, num_proc: int | None) -> DataLoader:
    if num_proc is None:
        enough = len(lazy) >= WORKER_IMAGES and multiprocessing.get_start_method() == "fork"
        num_proc = min(8, len(os.sched_getaffinity(0))) if enough else 0
    batch_size = max(1, min(256, 2**20 // prod(lazy.shape)))  # containers may share little memory among processes
    return DataLoader(lazy, batch_size, num_workers=num_proc if num_proc > 1 else 0, collate_fn=as_it_is)


def as_it_is(batch: Any) -> Any:
    return batch


def read_stream(
    stream: datasets.IterableDataset,
    processor: BaseImageProcessor,
    memory_limit: int,
    on_bad_image: Literal["stop", "skip"],
) -> MemoryImages:
    name = str(stream.split or "data")
    bad_images: list[str] = []
    items: list[dict[str, Tensor]] = []
    raw = stream.cast_column("image", datasets.Image(decode=False))
    rows = stream_items(raw, PixelReader(processor), name, on_bad_image, bad_images)
    for item in progress_bar(rows, desc=f"reading {name}", unit="image", mininterval=0.5):
        items.append(item)
        if len(items) * item["images"].numel() > memory_limit:
            raise ValueError(
                f"The stream {name} does not fit into {memory_limit / 2**30:g} GiB after {len(items)} images: raise "
                "memory_limit, or read it without streaming."
            )
    if not items:
        raise ValueError(f"The stream {name} has no readable images.")
    images, labels, index = (torch.stack([item[key] for item in items]) for key in ("images", "labels", "index"))
    return MemoryImages(images, labels, index, bad_images)


def stream_items(
    stream: datasets.IterableDataset,
    reader: PixelReader,
    name: str,
    on_bad_image: Literal["stop", "skip"],
    bad_images: list[str],
) -> Iterator[dict[str, Tensor]]:
    """The prepared images of a stream; what could not be read is added to `bad_images`."""
    classes = len(features_of(stream)["label"].names)
    for number, row in enumerate(stream):
        try:
            data = encoded(row["image"])
            image = reader.decode(data)
        except (ValueError, OSError) as error:
            bad_images.append(bad_image(f"Image {number} of the stream {name}", row["image"], error))
            if on_bad_image == "stop":
                raise BadImageError(bad_images[-1]) from None
            continue
        if row["label"] not in range(classes):
            raise ValueError(f"Labels must be 0 to {classes - 1}, but the stream {name} has {row['label']}.")
        yield {
            "images": reader.pixels([image])[0],
            "labels": torch.tensor(row["label"]),
            "index": torch.tensor(digest(data)),
        }


class IterableImages(IterableDataset):
    """An endless stream of prepared images for training: it begins again, in another order, when it ends.

    Items are dicts of `images` uint8 (C, H, W), `labels` int64 () and `index` int64 (), here a digest of the image
    file: the same wherever and whenever the image is met. Worker processes share the files of the stream among them.
    The order depends on seed, epoch, and the numbers of processes and workers.

    Args:
        split: with the columns `image` and `label`.
        processor: as for [`prepare_images`].
        seed: of the order.
        buffer_size: images, still encoded, of which the next is drawn.
        process_index: this process's number, from 0.
        num_processes: how many processes share the stream.
        on_bad_image: `stop` raises ValueError where an image cannot be read, `skip` leaves it out.
    """

    def __init__(
        self,
        split: datasets.IterableDataset,
        processor: BaseImageProcessor,
        *,
        seed: int = 0,
        buffer_size: int = 1000,
        process_index: int = 0,
        num_processes: int = 1,
        on_bad_image: Literal["stop", "skip"] = "stop",
    ):
        stream = split.cast_column("image", datasets.Image(decode=False)).shuffle(seed=seed, buffer_size=buffer_size)
        self.stream = split_dataset_by_node(stream, process_index, num_processes)
        self.name = str(split.split or "data")
        self.on_bad_image: Literal["stop", "skip"] = on_bad_image
        self.reader = PixelReader(processor)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for turn in count():
            self.stream.set_epoch(self.epoch + (turn << 20))
            bad_images: list[str] = []
            item = None
            for item in stream_items(self.stream, self.reader, self.name, self.on_bad_image, bad_images):
                yield item
            if item is None and bad_images:
                raise ValueError(f"None of the {len(bad_images)} images of the stream {self.name} can be read.")
            if item is None:  # a worker process for which there is no file
                return
