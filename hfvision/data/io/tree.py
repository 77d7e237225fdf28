"""Lists the images in a folder, and names everything else there with the reason why it is not one."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ...utils.files import TEMPORARY
from .images import FORMATS, HEIF_SUFFIXES, IMAGE_SUFFIXES, INSTALL_HEIF, MAX_PIXELS, is_raw, pillow_errors

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# What file managers and archives leave behind.
SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found")
NAMED = 20  # files that a warning names for each reason
MANIFEST = re.compile(r"upscale-[0-9]+\.jsonl")


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
        unreadable: folders that cannot be listed.
        left_out: everything else.
        counts: images in each folder and below it.
    """

    root: Path
    images: list[Path] = field(default_factory=list)
    metadata: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    counts: Counter[Path] = field(default_factory=Counter)

    def inside(self, folder: Path) -> list[Path]:
        """The images in `folder` and below it."""
        return [path for path in self.images if path.is_relative_to(folder)]

    def children(self, folder: Path) -> list[Path]:
        """The folders directly in `folder`."""
        return [path for path in self.folders if path.parent == folder]

    def check_readable(self) -> None:
        """Raise ValueError where folders cannot be listed."""
        if self.unreadable:
            names = ", ".join(map(printable, self.unreadable))
            raise ValueError(
                f"These folders may not be read, permission denied: {names}. Allow it, or move them away."
            )


def find_images(path: str | Path, also: Collection[str] = ()) -> list[Path]:
    """The image `path`, or the images in the folder `path` and below it, sorted.

    In a folder, files with one of `IMAGE_SUFFIXES` are images, and others that Pillow identifies as such. A warning
    names the files and folders that are left out, with the reasons. Folders below that may not be read are in the list
    too, so that whoever reads them says that they cannot be.

    Args:
        path: file or folder.
        also: lower-case suffixes of other files to find, as of videos.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the folder holds no image, or may not be read.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    tree = read_tree(path)
    tree.left_out.add("no images", *tree.metadata)
    if path in tree.unreadable:
        raise ValueError(f"The folder {printable(path)} may not be read: permission denied.")
    found, parts = [*tree.images, *tree.unreadable], []
    for reason, paths in tree.left_out.paths.items():
        files = [file for file in paths if not (TEMPORARY.fullmatch(file.name) or MANIFEST.fullmatch(file.name))]
        others = [file for file in files if not (file.suffix.lower() in also or is_image(file))]
        found += [file for file in files if file not in others]
        if others:
            more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            names = ", ".join(printable(file.relative_to(path)) for file in others[:NAMED])
            parts.append(f"{names}{more} ({reason})")
    if parts:
        warnings.warn(f"Left out of {printable(path)}: {'; '.join(parts)}.", stacklevel=2)
    if not found:
        what = "images or videos" if also else "images"
        raise ValueError(f"The folder {printable(path)} holds no {what} of formats that can be read.")
    return sorted(found)


def is_image(file: Path) -> bool:
    """Whether Pillow identifies a file as an image, whatever its suffix; not a hidden one."""
    if file.name.startswith(".") or not file.is_file():
        return False
    try:
        with pillow_errors(str(file), MAX_PIXELS), Image.open(file, formats=FORMATS) as image:
            return not is_raw(image, file.name)
    except ValueError:
        return False


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
    except OSError:
        tree.unreadable.append(folder)
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
