"""Output files and folders: written atomically, checked before the work, and never over files of others."""

import errno
import json
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from safetensors import SafetensorError

from .console import logger

# A temporary file or folder says who is writing it: a checksum of the host's name, the process, and a random part.
TEMPORARY = re.compile(r"\.hfvision-tmp-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}(\.[A-Za-z0-9]{1,10})?")
HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
OTHER_HOST_SECONDS = 24 * 3600  # after which another host's temporary files count as abandoned
PROBE = 1 << 20  # bytes that must fit on the disk before work begins
NAME_BYTES = 255  # of a file name, on all common file systems
MODEL_FILES = frozenset(
    {"config.json", "model.safetensors", "model.safetensors.index.json", "preprocessor_config.json", "record.json"}
    | {"openvino_model.bin", "openvino_model.xml", "model.onnx", "model.onnx.data", "quanto_qmap.json"}
    | {"README.md", "metrics.json", "curve.png", "adapter", "discriminator"}
    | {"pytorch_model.bin", "adapter_config.json", "adapter_model.safetensors"}
)
REPORTS = frozenset({"evaluation.json", "superres.json", "robustness.json", "binary.json"})  # that a card tells of

_mine: set[Path] = set()
_cleaned: set[Path] = set()


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of `path`, with its suffix, that [`remove_abandoned`] recognizes."""
    suffix = path.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", path.suffix) else ""
    return path.with_name(f".hfvision-tmp-{HOST}-{os.getpid()}-{secrets.token_hex(4)}{suffix}")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose process is gone; once for each folder and process."""
    folder = folder.resolve()
    if folder in _cleaned or not folder.is_dir():
        return
    _cleaned.add(folder)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if (match := TEMPORARY.fullmatch(entry.name)) and is_abandoned(entry, match[1], int(match[2])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        Path(entry.path).unlink()


def is_abandoned(entry: os.DirEntry, host: str, process: int) -> bool:
    written = entry.stat(follow_symlinks=False).st_mtime
    if host != HOST:
        return written < time.time() - OTHER_HOST_SECONDS
    if process == os.getpid():
        return Path(entry.path) not in _mine
    try:
        return psutil.Process(process).create_time() > written + 1  # the number has been given to another process
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix; whatever is there afterwards is removed.

    The folder is made where needed, and what killed processes left in it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    temporary = temporary_beside(path.parent.resolve() / path.name)
    _mine.add(temporary)
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        _mine.discard(temporary)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, to write to; it becomes `path` when all went well.

    The folder is made where needed.
    """
    with temporary_path(path) as temporary:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)


def flush_to_disk(path: Path) -> None:
    """Return when a file, or a folder's list of files, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder of the same name to write to; it becomes `folder` when all went well.

    A new or empty `folder` appears at once. In one that holds files, each file is replaced at once, the weights last;
    other files stay.

    Raises:
        OSError: if something cannot be written, as on a full disk.
    """
    try:
        with temporary_path(folder) as outer:
            temporary = outer / folder.name  # the card of a model is titled after its folder
            temporary.mkdir(parents=True)
            yield temporary
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            for path in files:
                path.chmod(temporary.stat().st_mode & 0o666)  # safetensors writes for the owner alone
                flush_to_disk(path)
            with suppress(OSError):  # of a folder that holds files, or that something is mounted at
                temporary.rename(folder)
                flush_to_disk(folder.absolute().parent)
                return
            files.sort(key=lambda path: (path.suffix == ".safetensors", path.name != "record.json"))
            for path in files:
                target = folder / path.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{folder} could not be written ({error}); what was there before still is.") from error


@contextmanager
def atomic_model_folder(folder: Path) -> Iterator[Path]:
    """As [`atomic_folder`] for a model; what is left there of an earlier model, and reports on it, is removed.

    Files of other names stay, and so does a report that hfvision did not write.
    """
    replaces = (folder / "config.json").is_file()
    with atomic_folder(folder) as temporary:
        yield temporary
        new = {path.name for path in temporary.iterdir()}
    if not replaces:
        return
    weights = {path.name for path in folder.glob("model-*-of-*.safetensors")}
    reports = {name for name in REPORTS if "environment" in read_json(folder / name)}
    old = [
        name for name in sorted(((MODEL_FILES - {"README.md"}) | weights | reports) - new) if (folder / name).is_file()
    ]
    for name in old:
        (folder / name).unlink()
    if old:
        logger.info(f"Removed from {folder}, files of the earlier model: {', '.join(old)}")


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fitted_name(stem: str, tail: str) -> str:
    """`stem` + `tail` as a file name; a stem too long for one is cut, and a checksum tells it from others.

    Args:
        stem: any text, with surrogates for bytes that are not UTF-8.
        tail: the end of the name, which is kept.
    """
    if len(os.fsencode(stem + tail)) <= NAME_BYTES:
        return stem + tail
    tail = f"~{zlib.crc32(os.fsencode(stem)):08x}{tail}"
    while len(os.fsencode(stem + tail)) > NAME_BYTES:
        stem = stem[:-1]
    return stem + tail


def distinct_targets(results: Sequence[tuple[Path, Path, str]]) -> list[Path]:
    """A file name for the result of each source, no two alike.

    Args:
        results: each source, the folder of its result, and what the result's name ends in, as `_x2.png`.

    Returns:
        `folder/stem_x2.png`; where two would be alike, with the suffix of the source, `stem_jpg_x2.png`, else with the
        name of its folder, `folder_stem_x2.png`, else with a checksum of its path.

    Raises:
        ValueError: if two sources are one file.
    """

    def name(source: Path, level: int) -> str:
        with_suffix = "_".join(filter(None, [source.stem, source.suffix[1:]]))
        parent = source.absolute().parent.name
        checksum = f"{source.stem}~{zlib.crc32(os.fsencode(source.absolute())):08x}"
        return (source.stem, with_suffix, f"{parent}_{source.stem}", f"{parent}_{with_suffix}", checksum)[level]

    levels = [0] * len(results)
    while True:
        parts = zip(results, levels, strict=True)
        targets = [folder / fitted_name(name(source, level), tail) for (source, folder, tail), level in parts]
        counts = Counter(targets)
        alike = [index for index, target in enumerate(targets) if counts[target] > 1]
        if not alike:
            return targets
        if max(levels[index] for index in alike) == 4:
            raise ValueError(f"{results[alike[0]][0]} is named twice: give it once.")
        for index in alike:
            levels[index] += 1


def check_folder(out: Path | None) -> None:
    """Make sure, before any work, that files can be written to the folder `out`, which need not exist yet.

    Raises:
        ValueError: if `out`, or a part of its path, is a file.
        OSError: if its disk is full or read-only, or the folder may not be written to.
    """
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give the name of a folder.")
    there = out.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise ValueError(f"--out {out} cannot be a folder: {there} is a file.")
    try:
        with temporary_path(there / "probe") as probe, probe.open("wb") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "the disk is full" if full else (error.strerror or str(error)).lower()
        raise OSError(f"Nothing can be written to {out}: {why}. Choose another folder.") from None


def check_file(path: Path | None, *, force: bool = False) -> None:
    """Make sure that the file `path` can be written, as [`check_folder`]; without `force` it must not exist.

    Raises:
        ValueError: if it exists, or is a folder.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file.")
    if path.exists() and not force:
        raise ValueError(f"{path} exists already: use --force to replace it, or choose another name.")
    check_folder(path.parent)


def check_report(out: Path | None, *names: str, force: bool = False) -> None:
    """Make sure that a report can be written to the folder `out` and replaces nothing but an earlier one.

    Args:
        out: folder; None for no report.
        names: of the files of the report. An earlier one is recognized by a JSON file of hfvision in the folder.
        force: replace an earlier report.

    Raises:
        ValueError: if one of the files exists and may not be replaced.
        OSError: if the folder cannot be written to.
    """
    check_folder(out)
    if out is None:
        return
    there = [name for name in names if (out / name).exists()]
    if not there:
        return
    if not any("environment" in read_json(path) for path in out.glob("*.json")):
        raise ValueError(f"{out / there[0]} exists and is not of a report by hfvision: choose another --out.")
    if not force:
        raise ValueError(f"{out / there[0]} exists already: use --force to replace the report.")


def check_model_folder(out: Path, *, force: bool = False) -> None:
    """Make sure that a model can be written to the folder `out` and replaces nothing but a model made by hfvision.

    Files of other names in the folder are no obstacle: they stay.

    Args:
        out: the folder, which need not exist.
        force: replace an earlier model.

    Raises:
        ValueError: if the folder holds checkpoints of a training, files of a model or report that hfvision did not
            make, or, without `force`, a model.
        OSError: if the folder cannot be written to.
    """
    check_folder(out)
    if has_checkpoints(out):
        raise ValueError(f"{out} holds the checkpoints of a training: choose another --out.")
    if holds_own_model(out) and not force:
        raise ValueError(f"{out} holds a model already: use --force to replace it, or choose another --out.")


def check_training_folder(out: Path, *, resume: bool = False) -> None:
    """Make sure that a training can write to the folder `out`, as [`check_model_folder`].

    Whether it may go on from checkpoints there is for the training to say.
    """
    check_folder(out)
    if not has_checkpoints(out) and holds_own_model(out) and not resume:
        raise ValueError(
            f"{out} holds a model already: use --resume if it is of this training, or choose another --out."
        )


def holds_own_model(out: Path) -> bool:
    """Whether a folder holds a model made by hfvision; ValueError for files of other models."""
    there = sorted(name for name in MODEL_FILES if (out / name).exists())
    if there and not is_own_model(out):
        raise ValueError(f"{out} holds {there[0]}, which hfvision did not make: choose another --out.")
    return bool(there)


def remove_model(folder: Path) -> None:
    """Remove the model, its records and its checkpoints from a folder that hfvision made; other files stay."""
    for name in MODEL_FILES:
        if (folder / name).is_file():
            (folder / name).unlink()
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        shutil.rmtree(checkpoint)


def has_checkpoints(out: Path) -> bool:
    return any((out / "checkpoints").glob("step-*"))


def is_own_model(folder: Path) -> bool:
    """Whether hfvision made what is in a folder: a record with its environment, or a model of one of its families."""
    family = read_json(folder / "config.json").get("model_type")
    return "environment" in read_json(folder / "record.json") or str(family).startswith("hfvision_")


def read_json(path: Path) -> dict:
    """The object in a JSON file; empty where there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
