"""Lists the images in a folder, and names everything else there with the reason why it is not one."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .images import HEIF_SUFFIXES, IMAGE_SUFFIXES, INSTALL_HEIF

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# What file managers and archives leave behind.
SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("__MACOSX", "__pycache__")


@dataclass
class LeftOut:
    """Files and folders that are not used, by reason: what they are called in the plural."""

    paths: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, reason: str, *paths: Path) -> None:
        if paths:
            self.paths.setdefault(reason, []).extend(paths)

    def describe(self, root: Path) -> str:
        """One sentence, with a count and an example for each reason; empty where nothing was left out."""
        parts = []
        for reason, paths in self.paths.items():
            shown = paths[0].relative_to(root) if paths[0].is_relative_to(root) else paths[0]
            parts.append(f"{reason}: {len(paths)} ({'such as ' if len(paths) > 1 else ''}{printable(shown)})")
        return f"Left out of {printable(root)}: {'; '.join(parts)}." if parts else ""


@dataclass
class Tree:
    """What a folder holds, at any depth, sorted by name.

    Attributes:
        root: the folder.
        images: files with one of `IMAGE_SUFFIXES`.
        metadata: files with one of `METADATA_NAMES`.
        folders: all folders, empty ones too.
        left_out: everything else.
        counts: images in each folder and below it.
    """

    root: Path
    images: list[Path] = field(default_factory=list)
    metadata: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    counts: Counter[Path] = field(default_factory=Counter)

    def inside(self, folder: Path) -> list[Path]:
        """The images in `folder` and below it."""
        return [path for path in self.images if path.is_relative_to(folder)]

    def children(self, folder: Path) -> list[Path]:
        """The folders directly in `folder`."""
        return [path for path in self.folders if path.parent == folder]


def printable(path: str | Path) -> str:
    """A name with control characters, and bytes that are no UTF-8, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def read_tree(root: Path) -> Tree:
    """List a folder and what is below it. Symbolic links are followed, except those to a folder above themselves."""
    tree = Tree(root)
    walk(root, tree, ())
    return tree


def walk(folder: Path, tree: Tree, above: tuple[Path, ...]) -> None:
    if folder.is_symlink() and any(folder.samefile(path) for path in above):
        tree.left_out.add("links to a folder above them", folder)
        return
    above = (*above, folder)
    if folder != tree.root:
        tree.folders.append(folder)
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        tree.left_out.add(f"folders that cannot be read ({error.strerror})", folder)
        return
    for entry in entries:
        path = folder / entry.name
        if path.is_dir() if entry.is_symlink() else entry.is_dir():
            if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
                tree.left_out.add("hidden folders", path)
            else:
                walk(path, tree, above)
        elif entry.name.lower() not in SYSTEM_FILES:
            reason = reason_to_leave_out(entry)
            if reason is not None:
                tree.left_out.add(reason, path)
            elif entry.name.lower() in METADATA_NAMES:
                tree.metadata.append(path)
            else:
                tree.images.append(path)
                tree.counts.update(above)


def reason_to_leave_out(entry: "os.DirEntry[str]") -> str | None:
    """What such files are called where they are no images; None for an image or a metadata file."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if entry.name.startswith("."):
        return "hidden files"
    if not Path(entry.path).is_file() if entry.is_symlink() else not entry.is_file():
        return "broken links" if entry.is_symlink() else "special files"
    if suffix in IMAGE_SUFFIXES or entry.name.lower() in METADATA_NAMES:
        return None
    if suffix in HEIF_SUFFIXES:
        return f"{suffix} files, which {INSTALL_HEIF} makes readable"
    return f"{suffix} files, which are not read as images" if suffix else "files without a suffix"
