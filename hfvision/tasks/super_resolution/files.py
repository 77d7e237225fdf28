"""Files to upscale, and what they become."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...data.io.encoding import FORMATS
from ...data.io.images import HEIF_SUFFIXES, read_photo
from ...data.io.tree import find_images
from ...data.io.writing import check_format
from ...utils.files import distinct_targets
from .choose import Choice
from .upscale import Upscaling, write_photo

VIDEO_SUFFIXES = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
        *(".264", ".265", ".divx", ".dv", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2v"),
        *(".mjpeg", ".mjpg", ".nut", ".ogm", ".qt", ".rm", ".rmvb", ".y4m"),
    }
)
# Formats that somebody may want a result in, rather than a folder of that name.
UNWRITABLE = HEIF_SUFFIXES | {".dng", ".exr", ".hdr", ".jxl", ".jxr", ".psd", ".svg"}


def upscale_file(
    source: str | Path, target: str | Path, upscaling: Upscaling, *, force: bool = False
) -> Choice | None:
    """Upscale an image or video into a file in the format of its suffix, which is there whole or not at all.

    PNG and TIFF are written as they are computed, so that an image of any size needs no more memory than its source.
    16 bits stay 16 bits, and metadata is kept as far as the format holds it.

    Returns:
        what was chosen for this file, None where there was nothing to choose.

    Raises:
        ValueError, FileNotFoundError: for a source that cannot be read, a format that cannot hold the result, or,
            without `force`, an existing target. The source itself is never replaced.
        ImportError: if it takes PyAV and that is not installed.
    """
    source, target = Path(source), Path(target)
    refuse_existing(source, target, force)
    if source.suffix.lower() in VIDEO_SUFFIXES:
        from .video import upscale_video

        return upscale_video(source, target, upscaling)
    photo = read_photo(source)
    height, width = photo.pixels.shape[:2]
    size = upscaling.size(width, height)
    check_format(target, size, photo.pixels)
    upscaling, choice = upscaling.choose_for(source, (width, height))
    write_photo(target, upscaling.strips(photo.pixels), size, photo)
    return choice


def refuse_existing(source: Path, target: Path, force: bool) -> None:
    if target.exists() and (target.samefile(source) or not force):
        hint = "choose another --out" if target.samefile(source) else "use --force to replace it"
        raise ValueError(f"{target} exists already: {hint}.")


def output_paths(sources: Sequence[Path], out: Path | None, label: str) -> list[tuple[Path, Path]]:
    """Pairs of file and result: `photo.jpg` becomes `photo_x2.png`, `film.mov` `film_x2.mov`, beside it or under
    `out`, subfolders kept. Names that would be alike are told apart: see [`files.distinct_targets`].

    `out` with a suffix of a picture or video names the result itself, for one file. Of a folder, what is under `out`
    and what is a result of another file of it are no sources.

    Raises:
        ValueError, FileNotFoundError: for sources without images, a source that is named twice, or a result that would
            replace a source.
    """
    if out is not None and not out.is_dir() and is_media(out):
        if len(sources) > 1 or sources[0].is_dir():
            raise ValueError(f"--out {out} names one file: give a folder for the results of several images.")
        return [(find_images(sources[0])[0], out)]
    if out is not None and not out.is_dir() and out.suffix.lower() in UNWRITABLE:
        raise ValueError(f"{out} cannot be written: {out.suffix} is no format for it; choose .png.")
    results, seen = [], set()
    for source in sources:
        root = source if source.is_dir() else source.parent
        found = []
        for path in find_images(source, VIDEO_SUFFIXES):
            if path.absolute() in seen:
                continue
            seen.add(path.absolute())
            folder = path.parent if out is None else out / path.parent.relative_to(root)
            found.append((path, folder, f"_{label}{result_suffix(path)}"))
        if source.is_dir():
            made = {target.resolve() for target in distinct_targets(found)}
            below = out.resolve() if out is not None and out.resolve() != root.resolve() else None
            found = [
                (path, *rest)
                for path, *rest in found
                if path.resolve() not in made and not (below and path.resolve().is_relative_to(below))
            ]
        results += found
    if not results:
        raise ValueError(f"All images of {sources[0]} are results already: give others.")
    pairs = list(zip((path for path, *_ in results), distinct_targets(results), strict=True))
    if replaced := {path.resolve() for path, _ in pairs} & {target.resolve() for _, target in pairs}:
        raise ValueError(f"{min(replaced)} exists already, as a source: choose another --out.")
    return pairs


def result_suffix(path: Path) -> str:
    """Of the result of an image or a film: films that are not written in their own format become Matroska files."""
    suffix = path.suffix.lower()
    return path.suffix if suffix in FORMATS else ".mkv" if suffix in VIDEO_SUFFIXES else ".png"


def is_media(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES | set(Image.registered_extensions())
