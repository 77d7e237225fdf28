"""Upscales many files: each once, by one process or many, and goes on where it was interrupted.

Every process takes its share of the sorted list and keeps a manifest of its own beside the results: a line of JSON a
file, written when the result is whole. A video, which takes long and may be encoded to other bytes another time, has a
line when it is begun too.
"""

import filecmp
import json
import os
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...data.io.tree import printable
from ...utils.console import each, output
from ...utils.files import temporary_path
from .choose import Choice
from .files import VIDEO_SUFFIXES, refuse_existing, upscale_file
from .upscale import Upscaling

Pair = tuple[Path, Path]


def share_of(pairs: Sequence[Pair], rank: int, count: int) -> list[Pair]:
    """What the process `rank` of `count` does: every pair is in just one share.

    Raises:
        ValueError: if `accelerate launch` was to start several processes, and this one cannot see the others: on CPUs
            it starts them through MPI alone, and each would do everything.
    """
    launched = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    if count == 1 and launched and "RANK" not in os.environ:
        raise ValueError(
            "accelerate launch started this process without the others: on CPUs start them by torchrun, as "
            "torchrun --standalone --nproc-per-node 2 -m hfvision upscale …"
        )
    return list(pairs[rank::count])


def upscale_files(
    pairs: Sequence[Pair],
    upscaling: Upscaling,
    *,
    manifest: Path | None = None,
    resume: bool = False,
    force: bool = False,
) -> list[dict[str, Any]]:
    """Upscale files one by one; a broken one among many is named and passed over.

    Args:
        pairs: source and target of each.
        manifest: the file to note what is done in, `upscale-0.jsonl`; those beside it are read too.
        resume: pass over targets that the manifests name as made of the same source in the same way. A target that
            they do not name is made again and compared: it may be the last one of a process that was killed.
        force: replace existing targets.

    Returns:
        an entry for each file upscaled: `source`, `target`, `seconds`, and what tells it from others.

    Raises:
        ValueError: before anything is done, if a target exists and may not be replaced.
        IncompleteBatchError: at the end, if some of several files could not be upscaled.
    """
    settings = settings_of(upscaling)
    done = read_manifests(manifest.parent) if manifest is not None and resume else {}
    left, unsure, begun = [], set(), set()
    for source, target in pairs:
        noted = done.get(str(target))
        if target.exists() and noted is not None and same(noted, entry_of(source, target, settings)):
            if not noted.get("begun"):
                continue
            begun.add(target)
        elif target.exists() and noted is None and resume and not force:
            unsure.add(target)
        else:
            refuse_existing(source, target, force)
        left.append((source, target))
    if len(left) < len(pairs):
        output(f"{len(pairs) - len(left)} of {len(pairs)} files were already upscaled.")

    choices: dict[Path, Choice | None] = {}

    def work(pair: Pair) -> dict[str, Any]:
        entry, start = entry_of(*pair, settings), time.perf_counter()
        if manifest is not None and pair[0].suffix.lower() in VIDEO_SUFFIXES:
            append_line(manifest, entry | {"begun": True})
        if pair[1] in unsure:
            compare_with_existing(*pair, upscaling)
        else:
            choices[pair[1]] = upscale_file(*pair, upscaling, force=force or pair[1] in begun)
        entry["seconds"] = round(time.perf_counter() - start, 3)
        if manifest is not None:
            append_line(manifest, entry)
        return entry

    entries = []
    for (source, target), entry in each(left, work, lambda pair: pair[0], "upscaled"):
        entries.append(entry)
        choice = choices.get(target)
        why = f" ({choice.kind}: {choice.reason})" if choice else ""
        output(f"{printable(source)} → {printable(target)}{why}")
    return entries


def compare_with_existing(source: Path, target: Path, upscaling: Upscaling) -> None:
    """Raise ValueError if `target` is not, byte for byte, what `source` becomes."""
    with temporary_path(target) as again:
        upscale_file(source, again, upscaling)
        if not filecmp.cmp(again, target, shallow=False):
            raise ValueError(f"{target} exists already and is not what {source} becomes: use --force to replace it.")


def settings_of(upscaling: Upscaling) -> dict[str, Any]:
    """What the results depend on."""
    names = {f.name for f in fields(upscaling)} - {"loaded", "device", "tile", "trust_remote_code"}
    values = {name: getattr(upscaling, name) for name in sorted(names)}
    return {
        name: value if isinstance(value, int | float | tuple | None) else str(value) for name, value in values.items()
    }


def entry_of(source: Path, target: Path, settings: dict[str, Any]) -> dict[str, Any]:
    status = source.stat()
    told = {"source": str(source), "target": str(target), "bytes": status.st_size, "modified": status.st_mtime_ns}
    return json.loads(json.dumps(told | {"settings": settings}, default=str))


def same(noted: dict[str, Any], entry: dict[str, Any]) -> bool:
    return {name: noted.get(name) for name in entry} == entry


def read_manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of all processes by target, the last of each; a line that was cut off counts as none."""
    found = {}
    for path in sorted(folder.glob("upscale-*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                found[entry["target"]] = entry
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    return found


def append_line(path: Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
