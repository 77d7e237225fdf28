"""Passes damaged images through `hfvision classify`, `upscale` and `explain`, and counts what they survive.

    pip download --no-binary pillow --no-deps pillow && tar xzf pillow-*.tar.gz
    python scripts/stress_inputs.py --images pillow-*/Tests/images

The images are those of `--images`, such as the many malformed ones that Pillow's source distribution carries for its
own tests, and `--count` files made from the photographs in the package: reduced to 96 pixels, saved in every format
that is read, then cut off or with bits flipped. A file survives where each command gives a result, or refuses it in
one sentence. Tracebacks, hangs and crashes make the exit code 1, and the files that caused them are kept in `--out`.
The commands run in a process of their own, which loads the models once and is started anew after a hang or crash.

Takes about five minutes of CPU time.
"""

import argparse
import io
import multiprocessing
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image, features

PHOTOS = Path(__file__).resolve().parents[1] / "hfvision/data/samples/photos"
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpg": {"format": "JPEG"},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "webp": {"format": "WEBP"},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "lzw.tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "jpeg.tif": {"format": "TIFF", "compression": "jpeg"},
    "ppm": {"format": "PPM"},
    "jp2": {"format": "JPEG2000"},
    "avif": {"format": "AVIF"},
}
RAW = re.compile(r"\b\w+(Error|Exception): |\w\.error: ")  # of a library, where a sentence should be
OUTCOMES = ("result", "refusal", "traceback", "hang", "crash")


def run_commands(connection: Connection) -> None:
    """Answer each path that comes in with what the commands made of it: pairs of outcome and what was said."""
    import functools
    from contextlib import redirect_stderr, redirect_stdout

    from hfvision.cli.main import main
    from hfvision.hub import loading
    from hfvision.tasks.super_resolution import upscale

    loading.load_model = upscale.load_model = functools.cache(loading.load_model)

    def outcome(arguments: list[str]) -> tuple[str, str]:
        out, err = io.StringIO(), io.StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = main(arguments)
        except BaseException:  # whatever leaves the command is what is looked for
            return "traceback", traceback.format_exc()
        said = [line for line in err.getvalue().splitlines() if line.startswith("hfvision: error: ")]
        if code == 0:
            return "result", ""
        if len(said) == 1 and len(said[0]) < 2000 and not RAW.search(said[0]):
            return "refusal", said[0]
        return "traceback", f"exit code {code} without one sentence: {err.getvalue()}"

    connection.send("ready")
    while (path := connection.recv()) is not None:
        with tempfile.TemporaryDirectory() as folder:
            picture = str(Path(folder, "picture.png"))
            commands = (
                ["classify", path, "--model", "cnn-cifar10-small"],
                ["upscale", path, "--model", "sr-tiny-x2", "--out", picture],
                ["explain", path, "--model", "cnn-cifar10-small", "--out", str(Path(folder, "heat.png"))],
            )
            connection.send([(command[0], *outcome(command)) for command in commands])


class Worker:
    """A process that answers paths, started anew when it hangs for longer than `timeout` seconds or ends.

    Args:
        target: what the process runs: it says that it is ready, then answers each path until it gets None.
        timeout: seconds for one path.
    """

    def __init__(self, target: Callable[[Connection], None], timeout: float):
        self.target, self.timeout, self.process = target, timeout, None
        self.connection: Connection

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=self.target, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()

    def run(self, path: Path) -> list[tuple[str, str, str]]:
        """What came of a file: command, outcome, and what was said, for each command."""
        if self.process is None:
            self.start()
        try:
            self.connection.send(str(path))
            if self.connection.poll(self.timeout):
                return self.connection.recv()
            said = f"no answer in {self.timeout:g} seconds"
            outcome = "hang"
        except (EOFError, OSError):
            self.process.join()
            outcome, said = "crash", f"exit code {self.process.exitcode}"
        self.close()
        return [("commands", outcome, said)]

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def damaged_photos(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write `count` damaged files of the packaged photographs, one after the other, the same for the same seed."""
    sources = []
    for path in sorted(file for file in PHOTOS.iterdir() if file.suffix in (".jpg", ".png")):
        photo = Image.open(path).convert("RGB")
        photo.thumbnail((96, 96))
        for suffix, options in FORMATS.items():
            if suffix != "avif" or features.check("avif"):
                photo.save(buffer := io.BytesIO(), **options)
                sources.append((f"{path.stem}.{suffix}", buffer.getvalue()))
    chance = random.Random(seed)
    for number in range(count):
        name, data = chance.choice(sources)
        path = folder / f"{number:05d}_{name}"
        path.write_bytes(damage(data, chance))
        yield path


def damage(data: bytes, chance: random.Random) -> bytes:
    """A file cut off, with one to eight bits flipped (half of the times in its first 200 bytes), or both."""
    kind = chance.choice(("cut", "flip", "flip", "both"))
    changed = bytearray(data)
    if kind != "cut":
        last = chance.choice((200, len(data))) - 1
        for _ in range(chance.randint(1, 8)):
            changed[chance.randint(0, min(last, len(data) - 1))] ^= 1 << chance.randrange(8)
    return bytes(changed[: chance.randrange(len(data))] if kind != "flip" else changed)


def stress(name: str, paths: Iterator[Path], worker: Worker, out: Path) -> Counter[str]:
    """Count the worst outcome of each file, print those that did not survive, and keep their files."""
    counts: Counter[str] = Counter()
    for path in paths:
        found = worker.run(path)
        worst = max((outcome for _, outcome, _ in found), key=OUTCOMES.index)
        counts[worst] += 1
        if worst in OUTCOMES[2:]:
            out.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, out)
            for command, outcome, said in found:
                if outcome in OUTCOMES[2:]:
                    print(f"{path}: {outcome} of {command}: {said}", file=sys.stderr)
    tried, survived = counts.total(), counts["result"] + counts["refusal"]
    figures = ", ".join(f"{outcome} {counts[outcome]}" for outcome in OUTCOMES)
    print(f"{name}: {tried} tried, {survived} survived ({figures})", flush=True)
    return counts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images, as Tests/images of Pillow's source")
    parser.add_argument("--count", type=int, default=2000, help="damaged photographs to make (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default 0)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one file (default 120)")
    parser.add_argument("--out", type=Path, default=Path("runs/stress_inputs"), help="folder for files not survived")
    args = parser.parse_args(argv)
    if args.images is not None and not args.images.is_dir():
        parser.error(f"--images {args.images} is no folder")
    worker, failed = Worker(run_commands, args.timeout), 0
    with tempfile.TemporaryDirectory() as folder:
        groups = {}
        if args.images is not None:
            groups[str(args.images)] = iter(sorted(path for path in args.images.rglob("*") if path.is_file()))
        groups["damaged photographs"] = damaged_photos(Path(folder), args.count, args.seed)
        for name, paths in groups.items():
            counts = stress(name, paths, worker, args.out)
            failed += sum(counts[outcome] for outcome in OUTCOMES[2:])
    worker.close()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
