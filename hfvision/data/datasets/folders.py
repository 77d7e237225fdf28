"""Folders of images as data sets: their splits, classes and metadata."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ..io.tree import LeftOut, Tree, printable, read_tree
from .metadata import Rows, label_of, read_metadata

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "validate", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
LAYOUT = (
    "Put each image into a folder with its class's name: {0}/cat/1.jpg, {0}/dog/2.jpg; or name them in "
    "{0}/metadata.csv, with the columns file_name and label."
)
PARQUET = "Parquet files are read from the folder that is named, and from its folders data, train, val and test."
# A folder of these alone is no class.
DOCUMENTS = frozenset(
    {".csv", ".html", ".ipynb", ".json", ".jsonl", ".log", ".md", ".py", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
)

# The images of each split, and the class of each where folders tell it.
Labelled = dict[str, tuple[list[Path], list[str] | None]]


def read_image_folder(root: Path) -> tuple[datasets.DatasetDict, LeftOut]:
    """The splits of a folder of class folders, or of `train`, `val`, `test` folders of these, and what is left out.

    The class is the first folder below the split, however deep an image lies in it. Where a `metadata.csv`, `.jsonl`
    or `.parquet` with the column `file_name` names images, its other columns are there too, and a label among them
    takes the place of the folder's name.

    Raises:
        ValueError: for a folder without images, or whose layout does not tell the split or the class of an image.
    """
    tree = read_tree(root)
    try:
        return read_splits(tree), tree.left_out
    except ValueError as error:
        left_out = tree.left_out.describe(root)
        raise ValueError(f"{error} {left_out}".strip()) from error


def read_splits(tree: Tree) -> datasets.DatasetDict:
    root = tree.root
    tree.check_readable()
    if not tree.images:
        hint = PARQUET if any(".parquet" in reason for reason in tree.left_out.paths) else LAYOUT.format(root)
        raise ValueError(f"The folder {printable(root)} holds no images and no parquet files. {hint}")
    rows = read_metadata(tree)
    has_label = any(label_of(row) is not None for row in rows.values())
    splits: Labelled = {}
    for split, folder in find_splits(tree, rows).items():
        images = tree.inside(folder)
        from_folders = not has_label and (not rows or has_classes(tree, folder))
        if not from_folders:
            tree.left_out.add("images that the metadata does not name", *(i for i in images if i not in rows))
            images = [path for path in images if path in rows]
        if split != "train" and has_label and all(label_of(rows[path]) is None for path in images):
            tree.left_out.add(f"images of {folder.name} without a label", *images)
        else:
            splits[split] = images, classes_of(images, folder, tree) if from_folders else None
    names = set(splits["train"][1] or ())
    if len(names) == 1:
        problem = f"All training images are of one class, {names.pop()!r}: at least two are needed."
        raise ValueError(f"{problem} {LAYOUT.format(root)}")
    return build_splits(leave_out_unlabelled(splits, tree.left_out), rows)


def find_splits(tree: Tree, rows: Rows) -> dict[str, Path]:
    """The folder of each split that has labels: the root as `train` where its folders are classes."""
    root, inside = tree.root, tree.children(tree.root)
    named = {path: SPLIT_OF[path.name.lower()] for path in inside if path.name.lower() in SPLIT_OF}
    others = [path for path in inside if path not in named and tree.counts[path]]
    labelled = [path for path in named if has_classes(tree, path) or any(i in rows for i in tree.inside(path))]
    if labelled and others:
        names = ", ".join(printable(path.name) for path in others)
        raise ValueError(f"{printable(root)} has folders of splits and others, {names}: move the others away.")
    if "train" not in (named[path] for path in labelled):
        if not others and (labelled or any(split == "train" and tree.counts[path] for path, split in named.items())):
            shown = ", ".join(path.name for path in named)
            raise ValueError(
                f"{printable(root)} has the folders {shown}, but no class folders to train on. "
                f"{LAYOUT.format(root / 'train')}"
            )
        refuse_unnamed_splits(tree)
        return {"train": root}
    splits: dict[str, Path] = {}
    for path, split in named.items():
        if path not in labelled:
            tree.left_out.add(f"images of {path.name} without class folders", *tree.inside(path))
        elif split in splits:
            raise ValueError(f"{printable(root)} has two folders of one split: {splits[split].name}, {path.name}.")
        else:
            splits[split] = path
    tree.left_out.add("images outside of the folders of splits", *(p for p in tree.images if p.parent == root))
    tree.left_out.add("folders without images", *(path for path in inside if not tree.counts[path]))
    return splits


def refuse_unnamed_splits(tree: Tree) -> None:
    """Raise ValueError for folders such as `training_set` and `test_set`, with folders in them, taken for classes."""
    likely = [
        path
        for path in tree.children(tree.root)
        if has_classes(tree, path) and SPLIT_OF.keys() & re.split(r"[\W_]+", path.name.lower())
    ]
    if len(likely) > 1:
        names = ", ".join(printable(path.name) for path in likely)
        raise ValueError(
            f"The folders {names} of {printable(tree.root)} look like splits: call them train, val and test."
        )


def has_classes(tree: Tree, folder: Path) -> bool:
    return any(tree.counts[path] for path in tree.children(folder))


def classes_of(images: Sequence[Path], folder: Path, tree: Tree) -> list[str]:
    """The class of each image: the name of the first folder below `folder`."""
    inside = tree.children(folder)
    full = [path for path in inside if tree.counts[path]]
    if len(full) == 1 and folder == tree.root:
        below = [path.name.lower() for path in tree.children(full[0]) if tree.counts[path]]
        if len(below) > 1 or SPLIT_OF.keys() & below:
            raise ValueError(
                f"All images lie in the one folder {printable(full[0])}: if the folders in it are the classes or "
                "splits, name it."
            )
    classes, depth = [], len(folder.parts)
    for path in images:
        parts = path.parts[depth:]
        if len(parts) == 1:
            raise ValueError(f"The image {printable(path)} lies in no class folder. {LAYOUT.format(folder)}")
        if len(parts) > 2 and parts[1].lower() in SPLIT_OF:
            wanted = printable(folder / parts[1] / parts[0])
            raise ValueError(f"{printable(path)}: splits lie inside of class folders. Put them first, as {wanted}.")
        classes.append(os.fsencode(path.parts[depth]).decode("utf-8", "backslashreplace"))
    for path in inside:
        if not tree.counts[path]:
            leave_out_empty(tree, path)
    return classes


def leave_out_empty(tree: Tree, folder: Path) -> None:
    """Note a class folder without images; refuse it where it may hold images of a format that is not read."""
    files = [path for paths in tree.left_out.paths.values() for path in paths if path.is_relative_to(folder)]
    if any(path.suffix.lower() not in DOCUMENTS and not path.name.startswith(".") for path in files):
        raise ValueError(
            f"The folder {printable(folder)} has no image that can be read: convert its files to JPEG or PNG, or move "
            "it away."
        )
    tree.left_out.add("folders without images", folder)


def leave_out_unlabelled(splits: Labelled, left_out: LeftOut) -> Labelled:
    """The splits without those whose images are all in one folder that is no class, such as `test/unknown`."""
    kept = {}
    for name, (images, labels) in splits.items():
        if name == "train" or not labels or len(set(labels)) > 1 or labels[0] in (splits["train"][1] or ()):
            kept[name] = images, labels
        else:
            reason = f"images of {name} in the folder {printable(labels[0])}, which is no class of train"
            left_out.add(reason, *images)
    return kept


def build_splits(splits: Labelled, rows: Rows) -> datasets.DatasetDict:
    names = sorted(set(splits["train"][1] or ()))
    numbers = {name: number for number, name in enumerate(names)}
    columns = [name for name in dict.fromkeys(n for row in rows.values() for n in row) if name != "image"]
    made, types = {}, {}
    for name in columns:
        try:
            types[name] = pa.array([row.get(name) for row in rows.values()]).type
        except pa.ArrowException as error:
            raise ValueError(f"The metadata's column {name!r} has values of several kinds: {error}") from error
    for split, (images, labels) in splits.items():
        table: dict[str, Any] = {"image": image_column(images)}
        features: dict[str, Any] = {"image": datasets.Image()}
        for name, kind in types.items():
            table[name] = pa.array([rows.get(path, {}).get(name) for path in images], kind)
            features[name] = datasets.features.features.generate_from_arrow_type(kind)
        if labels is not None:
            if unknown := sorted(set(labels) - set(names)):
                raise ValueError(f"The split {split} has the class {unknown[0]!r}, of which train has no image.")
            table["label"] = pa.array([numbers[label] for label in labels], pa.int64())
            features["label"] = datasets.ClassLabel(names=names)
        made[split] = datasets.Dataset.from_dict(
            table, features=datasets.Features(features), split=datasets.NamedSplit(split)
        )
    return datasets.DatasetDict(made)


def image_column(paths: Sequence[Path]) -> pa.StructArray:
    """As `datasets.Image` stores them: paths, or the files themselves where a name is no UTF-8."""
    names, contents = [], []
    for path in paths:
        name = str(path.absolute())
        plain = name.isascii() or name == name.encode("utf-8", "replace").decode()
        names.append(name if plain else printable(name))
        contents.append(None if plain else path.read_bytes())
    columns = {"bytes": pa.array(contents, pa.binary()), "path": pa.array(names, pa.string())}
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))
