"""Upscales many files: each once, by one process or many, and goes on where it was interrupted.

Every process takes its share of the sorted list and keeps a manifest of its own beside the results: a line of JSON a
file, written when the result is whole.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .upscale import Upscaling, refuse_existing, upscale_file

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
        resume: pass over what the manifests say is done of the same source in the same way, and is there.
        force: replace targets that are there already.

    Returns:
        an entry for each file upscaled: `source`, `target`, `seconds`, and what tells it from others.

    Raises:
        ValueError: before anything is done, if a target is there already; at the end, if files could not be upscaled.
    """
    settings = settings_of(upscaling)
    done = read_manifests(manifest.parent) if manifest is not None and resume else {}
    left = []
    for source, target in pairs:
        if not (target.exists() and same(done.get(str(target)), entry_of(source, target, settings))):
            refuse_existing(source, target, force)
            left.append((source, target))
    if len(left) < len(pairs):
        tqdm.write(f"{len(pairs) - len(left)} of {len(pairs)} files are done already.")
    entries, failures = [], []
    for source, target in tqdm(left, unit="file", disable=len(left) < 2):
        entry, start = entry_of(source, target, settings), time.perf_counter()
        try:
            upscale_file(source, target, upscaling, force=force)
        except (ValueError, OSError, ArithmeticError) as error:
            if len(pairs) == 1:
                raise
            failures.append(error)
            tqdm.write(f"{source}: {error}")
            continue
        entries.append(entry | {"seconds": round(time.perf_counter() - start, 3)})
        if manifest is not None:
            append_line(manifest, entries[-1])
        tqdm.write(f"{source} → {target}")
    if failures:
        raise ValueError(f"{len(failures)} of {len(pairs)} files could not be upscaled. The first: {failures[0]}")
    return entries


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


def same(noted: dict[str, Any] | None, entry: dict[str, Any]) -> bool:
    return noted is not None and {name: noted.get(name) for name in entry} == entry


def read_manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of all processes by target, the last of each; a line that was cut off counts as none."""
    found = {}
    for path in sorted(folder.glob("upscale-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                found[entry["target"]] = entry
            except (ValueError, KeyError, TypeError):
                continue
    return found


def append_line(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
