"""Images with masks that say the class of each pixel: found in folders, parquet files or on the Hub, and read."""

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from ...models.image_processing_classification import flatten_pil
from ...utils.console import progress_bar
from ...utils.types import DataSource, unwrap
from ..io.images import MAX_PIXELS, check_size, open_image, pillow_errors, read_image
from ..io.tree import Tree, read_tree
from .columns import IMAGE_NAMES
from .folders import SPLIT_OF, image_column
from .prepare import bad_image, encoded
from .sources import find_parquet, name_splits, open_source, without_streams
from .splits import choose_groups, choose_validation

IGNORED = 255  # the label of pixels that do not count
MASK_NAMES = (
    "mask",
    "masks",
    "segmentation",
    "segmentation_mask",
    "annotation",
    "annotations",
    "label",
    "labels",
    "gt",
)
IMAGE_FOLDERS, MASK_FOLDERS = ("images", "image"), ("masks", "mask", "labels", "annotations")
LAYOUT = "Put images into {0}/images and masks of the same names into {0}/masks."


def load_mask_dataset(
    source: DataSource,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_column: str | None = None,
    mask_column: str | None = None,
    validation_group: str | None = None,
) -> datasets.DatasetDict:
    """Images and their masks as splits with the columns `image` and `mask` (`datasets.Image`), and what else there is.

    Splits are `train` and, where there are such images, `validation` and `test`. Where the source has no validation
    split, a part of `train` is set aside: always the same for the same seed.

    Args:
        source: a folder with the folders `images` and `masks`, or with `train`, `val`, `test` folders that have these;
            a mask has its image's name, whatever the suffix. Or a parquet file, a folder of them (`train*.parquet`,
            …), a folder of `save_to_disk`, a Hub id `user/name`, or a loaded `datasets.Dataset` or `DatasetDict`,
            with a column of images and one of masks.
        validation: part of the training images, at least 0 and below 1; 0 makes no validation split.
        seed: of that choice.
        image_column: where it cannot be told by type and name (`image`, `img`, …).
        mask_column: where it cannot be told by type and name (`mask`, `annotation`, `label`, …).
        validation_group: images that agree in it, as those of one patient, stay on one side of that choice.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: for a source of another form, an image or a mask without its partner, or columns that are not
            there or cannot be told.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be at least 0 and below 1, got {validation}.")
    source = unwrap(source)
    folder = Path(source) if isinstance(source, str | PathLike) else None
    if folder is not None and folder.is_dir() and not is_tabular(folder):
        splits = pair_folders(folder)
    else:
        splits = without_streams(open_source(source, streaming=False), source)
    columns = find_columns(splits["train"].features, image_column, mask_column)
    for name, split in splits.items():
        if missing := [column for column in columns.values() if column not in split.features]:
            raise ValueError(f"The split {name} has no column {missing[0]!r}; it has: {', '.join(split.features)}.")
        renamed = {column: wanted for wanted, column in columns.items() if column != wanted}
        others = [column for column in ("image", "mask") if column in split.features and column in renamed.values()]
        split = split.remove_columns(others).rename_columns(renamed)
        for column in ("image", "mask"):
            split = split.cast_column(column, datasets.Image())
        splits[name] = split
    if "validation" not in splits and validation:
        train = splits["train"]
        chosen = choose_rows(train, validation, seed, validation_group)
        splits["train"] = train.select(np.flatnonzero(~chosen))
        splits["validation"] = train.select(np.flatnonzero(chosen))
    return splits


def is_tabular(folder: Path) -> bool:
    return bool(find_parquet(folder)) or any(folder.glob("*.json"))


def find_columns(features: datasets.Features, image: str | None, mask: str | None) -> dict[str, str]:
    """The columns of the images and of the masks."""
    for given in filter(None, (image, mask)):
        if given not in features:
            raise ValueError(f"There is no column {given!r}; there are: {', '.join(features)}.")
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    masks = [mask] if mask else [name for name in images if name.lower() in MASK_NAMES and name != image]
    others = [name for name in images if name not in masks]
    named = [image] if image else [name for name in others if name.lower() in IMAGE_NAMES] or others
    for what, found in (("mask", masks), ("image", named)):
        if len(found) != 1:
            problem = f"Several columns may be the {what}" if found else f"No column is known as the {what}"
            raise ValueError(f"{problem}: choose with --{what}-column one of {', '.join(found or features)}.")
    return {"image": named[0], "mask": masks[0]}


def pair_folders(folder: Path) -> datasets.DatasetDict:
    """The splits of a folder of images and masks, paired by name; a warning names what else lies there."""
    tree = read_tree(folder)
    tree.check_readable()
    roots = [path for path in tree.children(folder) if path.name.lower() in SPLIT_OF] or [folder]
    splits, used = {}, set()
    for root in roots:
        name = "train" if root == folder else root.name
        if SPLIT_OF[name.lower()] != "train" and len(roots) > 1 and not folders_of(tree, root, MASK_FOLDERS):
            tree.left_out.add(f"images of {name} without masks", *tree.inside(root))
            tree.left_out.add("folders without images", *([] if tree.counts[root] else [root]))
            used.update(tree.inside(root))
            continue
        images = partners(tree, root, IMAGE_FOLDERS, "images")
        masks = partners(tree, root, MASK_FOLDERS, "masks")
        for one, other, what in ((images, masks, "mask"), (masks, images, "image")):
            if lonely := sorted(set(one) - set(other)):
                more = f" and {len(lonely) - 1} more have none" if len(lonely) > 1 else ""
                raise ValueError(f"{one[lonely[0]]} has no {what} of the same name beside it{more}.")
        pairs = {"image": [images[key] for key in sorted(images)], "mask": [masks[key] for key in sorted(masks)]}
        rows = {column: image_column(paths) for column, paths in pairs.items()}
        features = datasets.Features(image=datasets.Image(), mask=datasets.Image())
        splits[name] = datasets.Dataset.from_dict(rows, features=features, split=datasets.NamedSplit(name))
        used.update(pairs["image"], pairs["mask"])
    tree.left_out.add("images in other folders", *(path for path in tree.images if path not in used))
    tree.left_out.add("metadata files, which masks do not need", *tree.metadata)
    if text := tree.left_out.describe(folder):
        warnings.warn(text, stacklevel=3)
    return without_streams(name_splits(datasets.DatasetDict(splits), folder), folder)


def folders_of(tree: Tree, root: Path, names: Sequence[str]) -> list[Path]:
    """The folders in `root` that have one of these names, and images."""
    return [path for path in tree.children(root) if path.name.lower() in names and tree.counts[path]]


def partners(tree: Tree, root: Path, names: Sequence[str], what: str) -> dict[str, Path]:
    """The image files in the folder of `root` that has one of these names, by their name without suffix."""
    found = [path for path in tree.children(root) if path.name.lower() in names]
    if len(found) != 1:
        problem = "has several folders" if found else "has no folder"
        raise ValueError(f"{root} {problem} of {what}. {LAYOUT.format(root)}")
    files: dict[str, Path] = {}
    for path in tree.inside(found[0]):
        key = str(path.relative_to(found[0]).with_suffix(""))
        if key in files:
            raise ValueError(f"{files[key]} and {path} have one name: it must tell which mask is whose.")
        files[key] = path
    if not files:
        raise ValueError(f"The folder {found[0]} holds no {what}. {LAYOUT.format(root)}")
    return files


def choose_rows(train: datasets.Dataset, part: float, seed: int, validation_group: str | None) -> np.ndarray:
    """bool (N,): about `part` of the rows, in whole groups where there is a column of them: [`choose_validation`] or
    [`choose_groups`] with all images as one class.

    Raises:
        ValueError: if there is no such column, or only one image or group.
    """
    one_class = np.zeros(len(train), dtype=np.int64)
    if validation_group is None:
        chosen = choose_validation(one_class, part, seed)
    elif validation_group in train.features:
        chosen = choose_groups(one_class, train[validation_group][:], part, seed)
    else:
        raise ValueError(f"There is no column {validation_group!r}; there are: {', '.join(train.features)}.")
    if not chosen.any():
        raise ValueError(f"{len(train)} images are too few to set some aside: add images, or give validation=0.")
    return chosen


def read_mask(data: bytes) -> np.ndarray:
    """The values of a mask as they are stored, uint8 (H, W): grey values, or the numbers of a palette's colours.

    Raises:
        ValueError: for a file that cannot be read, colours without a palette, or values above 255.
    """
    with open_image(data, MAX_PIXELS) as image:
        check_size(image, "The mask", MAX_PIXELS)
        with pillow_errors("The mask", MAX_PIXELS):
            image.load()
            image = ImageOps.exif_transpose(image)
        if image.mode in ("RGB", "RGBA", "LA"):
            bands = image.split()
            if image.mode != "LA" and any(bands[0].tobytes() != band.tobytes() for band in bands[1:3]):
                raise ValueError("it has colours: save it as grey values 0, 1, 2, … or with a palette")
            image = bands[0]
        values = np.asarray(image)
    if values.dtype == bool or (values.dtype == np.uint8 and values.ndim == 2):
        return values.astype(np.uint8)
    if values.ndim != 2 or values.min() < 0 or values.max() > 255:
        raise ValueError(f"its values must be 0 to 255, got {values.min()} to {values.max()}")
    return values.astype(np.uint8)


class MaskedImages(Dataset):
    """Images with their masks, held in memory as far as they fit, else read whenever they are asked for.

    `dataset[i]` is a pair of uint8 (C, H, W) and uint8 (H, W), whose values are classes, or 255 where a pixel does not
    count.

    Args:
        rows: with the columns `image` and `mask`, from [`load_mask_dataset`].
        num_channels: C, 3 or 1.
        memory_limit: bytes of decoded images and masks that may be held.

    Attributes:
        values: the values that occur in the masks, as they are stored.
        classes: uint8 (256,), the class of each value; set by [`name_classes`].

    Raises:
        ValueError: for an image or a mask that cannot be read, or a pair of different sizes; the message names it.
    """

    def __init__(self, rows: datasets.Dataset, num_channels: int = 3, memory_limit: float = 4e9):
        for column in ("image", "mask"):
            rows = rows.cast_column(column, datasets.Image(decode=False))
        self.rows = rows
        self.mode = "L" if num_channels == 1 else "RGB"
        self.name = str(rows.split or "data")
        self.classes = torch.arange(256, dtype=torch.uint8)
        self.held: list[tuple[Tensor, Tensor]] = []
        self.values: dict[int, int] = {}  # and the first row that has it
        size = 0
        for number in progress_bar(
            range(len(rows)), desc=f"reading {self.name}", unit="image", mininterval=0.5, leave=False
        ):
            image, mask = self.read(number)
            for value in mask.unique().tolist():
                self.values.setdefault(value, number)
            size += image.numel() + mask.numel()
            if size <= memory_limit:
                self.held.append((image, mask))

    def read(self, number: int) -> tuple[Tensor, Tensor]:
        row = self.rows[number]
        place = self.place(number)
        try:
            image = read_image(encoded(row["image"]))
            pixels = pil_to_tensor(image if image.mode == self.mode else flatten_pil(image, self.mode))
        except (ValueError, OSError) as error:
            raise ValueError(bad_image(place, row["image"], error)) from error
        try:
            mask = torch.from_numpy(read_mask(encoded(row["mask"])).copy())
        except (ValueError, OSError) as error:
            raise ValueError(bad_image(f"The mask of {place}", row["mask"], error)) from error
        if pixels.shape[1:] != mask.shape:
            sizes = [f"{width}×{height}" for height, width in (mask.shape, pixels.shape[1:])]
            raise ValueError(f"The mask of {place} has {sizes[0]} pixels and its image {sizes[1]}: they must agree.")
        return pixels, mask

    def place(self, number: int) -> str:
        path = (self.rows[number]["image"] or {}).get("path")
        return f"row {number} of {self.name}" + (f" ({path})" if path else "")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, mask = self.held[number] if number < len(self.held) else self.read(number)
        return image, self.classes[mask.long()]


def name_classes(splits: dict[str, MaskedImages], names: Sequence[str] = ()) -> list[str]:
    """Make the values of masks classes, alike in all splits, and give the names of the classes.

    Where all values are 0 and 255, these are the classes 0 and 1; otherwise values are the numbers of classes, and
    255 is for pixels that do not count.

    Args:
        splits: changed in place.
        names: of the classes by number. Where not given, `background` and `foreground` for two, else "0", "1", ….

    Raises:
        ValueError: for a value above the last class, a gap among the values where no names are given, or one class
            alone.
    """
    used = sorted(set().union(*(images.values for images in splits.values())))
    black_and_white = set(used) <= {0, IGNORED} and IGNORED in used and len(names) in (0, 2)
    numbers = [0, 1] if black_and_white else [value for value in used if value != IGNORED]
    if gaps := sorted(set(range(max(numbers, default=0))) - set(numbers)) if not names else []:
        raise ValueError(
            f"The masks have the values {few_numbers(used)}, but none has {gaps[0]}: they must be 0, 1, 2, … without "
            "gaps, as no JPEG file holds them; or name all classes with --classes."
        )
    if not names:
        names = ["background", "foreground"] if numbers == [0, 1] else [str(number) for number in numbers]
    names = list(names)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"Masks need two classes or more, of different names, got {', '.join(names) or 'none'} (their values are "
            f"{', '.join(map(str, used))}): name the classes with --classes."
        )
    if black_and_white:
        for images in splits.values():
            images.classes = torch.where(images.classes == 255, 1, images.classes).to(torch.uint8)
        return names
    for images in splits.values():
        if wrong := sorted(value for value in images.values if len(names) <= value != IGNORED):
            raise ValueError(
                f"The mask of {images.place(images.values[wrong[0]])} has the value {wrong[0]}: with {len(names)} "
                f"classes, masks hold 0 to {len(names) - 1}, or 255 where a pixel does not count."
            )
    return names


def few_numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:6])) + (" …" if len(values) > 6 else "")


def show_mask(mask: Tensor, colours: Sequence[tuple[int, int, int]]) -> Image.Image:
    """A mask of classes, integers (H, W), as a PNG with a palette: values are classes, shown in `colours`."""
    image = Image.fromarray(mask.to(torch.uint8).cpu().numpy(), mode="P")
    image.putpalette([band for colour in colours for band in colour])
    return image
