"""Kills long jobs at file events and at random moments, lets them go on, and counts how many end at the same bytes.

    python scripts/stress_kills.py                      # 50 kills a job, about half an hour on one core
    python scripts/stress_kills.py --kills 4 --jobs upscale quantize

Every job is a `hfvision` command on generated data, run in a child forked from this process, which has imported
everything. A file event is a file opened to be written, a rename, a removal, a new folder or an fsync below the
folder of the job: a hook in the child counts them and kills the child with SIGKILL before a chosen one. Then the same
command runs to its end. Its results must be, byte for byte, those of a run that nobody killed, and no temporary file
may be left.

The exit code is 0 if that is so for all kills, else 1.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with a pool of threads must not be forked

import numpy as np
import torch
from PIL import Image

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
)
from hfvision.cli.main import main as hfvision_main

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
RESULTS = ("*.safetensors", "*.png", "config.json", "preprocessor_config.json")
NOT_RESULTS = {"checkpoints", "curve.png", "confusion_validation.png", "confusion_test.png"}
PATIENCE = 600  # seconds for one run


@dataclass
class Job:
    """A command that is killed.

    Attributes:
        words: after `hfvision`, without `--out`. The same words must go on after a kill.
        events: of an undisturbed run.
        seconds: that an undisturbed run takes.
        results: of an undisturbed run.
        outcomes: of each kill, at `event` or `moment`: what was wrong afterwards, or None.
    """

    words: list[str]
    events: int = 0
    seconds: float = 0.0
    results: dict[str, bytes] = field(default_factory=dict)
    outcomes: list[tuple[str, str | None]] = field(default_factory=list)


def make_jobs(folder: Path) -> dict[str, Job]:
    """The jobs, on data and models written to `folder`."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    for place, count in (("images/cat", 12), ("images/dog", 12), ("photos", 4)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / place / f"{number}.png")
    classifier, upscaler, images = (str(folder / name) for name in ("classifier", "upscaler", "images"))
    names = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    sizes = {"stage_widths": [[[8]], [[12]]], "stage_strides": [1, 2]}
    CNNForImageClassification(CNNConfig(**sizes, **names)).save_pretrained(classifier)
    ImageClassificationProcessor(size={"height": 32, "width": 32}).save_pretrained(classifier)
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    SRGANForImageSuperResolution(config).save_pretrained(upscaler)
    SRGANImageProcessor().save_pretrained(upscaler)
    train = ["--data", images, "--epochs", "2", "--batch-size", "8", "--augment", "none", "--checkpoint-minutes", "0"]
    cut = ["--target-params", "0.7", "--importance-images", "8", "--teacher", classifier]
    return {
        "train": Job(["train", "classifier", "--model", classifier, *train, "--resume"]),
        "upscale": Job(["upscale", str(folder / "photos"), "--model", upscaler, "--resume"]),
        "quantize": Job(["quantize", classifier, "--method", "bf16", "--force"]),
        "prune": Job(["prune", classifier, *cut, *train, "--resume"]),
    }


class Events:
    """Counts the file events of this process below a folder, and kills it before a chosen one."""

    def __init__(self, folder: Path, counter: Path | None = None, fatal: int | None = None):
        self.folder, self.counter, self.fatal, self.count = str(folder), counter, fatal, 0

    def install(self) -> None:
        sys.addaudithook(self.hear)
        fsync = os.fsync

        def counted(descriptor: int) -> None:
            self.happen()
            fsync(descriptor)

        os.fsync = counted

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        counts = (writes or event in EVENTS) and isinstance(arguments[0], str | bytes | os.PathLike)
        if counts and os.fsdecode(arguments[0]).startswith(self.folder):
            self.happen()

    def happen(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def run(job: Job, folder: Path, *, fatal: int | None = None, moment: float | None = None) -> tuple[int, int]:
    """Run a job in a child, to its end or to its death at event `fatal` or after `moment` seconds.

    Returns:
        The exit code, negative for a signal, and the number of events, where the child came to its end.
    """
    told, log = folder / "events", folder / "log.txt"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("a") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            events = Events(folder / "runs", fatal=fatal)
            events.install()
            code = hfvision_main([*job.words, "--out", str(folder / "runs" / "out")])
            events.folder = "/nowhere"
            told.write_text(str(events.count))
        finally:
            os._exit(code)
    start = time.monotonic()
    while (status := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - start > (PATIENCE if moment is None else moment):
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)
            break
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status[1])
    return code, int(told.read_text()) if code == 0 else 0


def results_of(folder: Path) -> dict[str, bytes]:
    """The files that must be the same; not those that tell times or temporary names."""
    out = folder / "runs" / "out"
    found = {path for pattern in RESULTS for path in out.rglob(pattern)}
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in found
        if not NOT_RESULTS & set(path.relative_to(out).parts)
    }


def try_kill(job: Job, base: Path, **kill: Any) -> tuple[bool, str | None]:
    """Whether the job was killed before its end, and what was wrong with what the next run left; None for nothing."""
    folder = Path(tempfile.mkdtemp(dir=base))
    (folder / "runs").mkdir()
    try:
        killed = run(job, folder, **kill)[0] == -signal.SIGKILL
        code, _ = run(job, folder)
        wrong = None
        if code != 0:
            wrong = f"exit code {code}: {(folder / 'log.txt').read_text().strip().splitlines()[-1]}"
        elif (results := results_of(folder)) != job.results:
            names = sorted(n for n in {*results, *job.results} if results.get(n) != job.results.get(n))
            wrong = f"other bytes in {', '.join(names)}"
        elif left := [path.name for path in (folder / "runs").rglob(".hfvision-tmp-*")]:
            wrong = f"left {', '.join(left)}"
        return killed, wrong
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(job: Job, base: Path) -> None:
    """An undisturbed run, which tells what is right, and a second one, which must agree."""
    for number in range(2):
        folder = Path(tempfile.mkdtemp(dir=base))
        (folder / "runs").mkdir()
        start = time.monotonic()
        code, events = run(job, folder)
        if code != 0:
            raise SystemExit(f"hfvision {' '.join(job.words)} fails by itself:\n{(folder / 'log.txt').read_text()}")
        results = results_of(folder)
        if number and results != job.results:
            raise SystemExit(f"hfvision {' '.join(job.words)} gives other results each time.")
        job.events, job.seconds, job.results = events, time.monotonic() - start, results
        shutil.rmtree(folder)


def stress(job: Job, kills: int, base: Path, random_numbers: random.Random, report: Callable[[str], None]) -> None:
    """Kill a job at `kills` moments and at as many events, or at all events if there are fewer."""
    measure(job, base)
    chosen = sorted(random_numbers.sample(range(1, job.events + 1), min(kills, job.events)))
    for event in chosen:
        _, wrong = try_kill(job, base, fatal=event)
        job.outcomes.append(("event", wrong))
        if wrong:
            report(f"killed at event {event} of {job.events}: {wrong}")
    left, tries = kills, 0
    while left and tries < 3 * kills:
        moment, tries = random_numbers.uniform(0, job.seconds), tries + 1
        killed, wrong = try_kill(job, base, moment=moment)
        if killed or wrong:
            left -= 1
            job.outcomes.append(("moment", wrong))
        if wrong:
            report(f"killed after {moment:.3f} of {job.seconds:.3f} s: {wrong}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="random moments a job, and file events (default 50)")
    parser.add_argument("--jobs", nargs="+", help="of train, upscale, quantize, prune (default all)")
    parser.add_argument("--seed", type=int, default=0, help="of events and moments (default 0)")
    args = parser.parse_args()
    random_numbers, good, total = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory(prefix="stress-kills-") as folder:
        jobs = make_jobs(Path(folder))
        for name in args.jobs or jobs:
            job = jobs[name]
            stress(job, args.kills, Path(folder), random_numbers, lambda text, name=name: print(f"{name}: {text}"))
            for where, text in (("event", f"file events of {job.events}"), ("moment", "random moments")):
                outcomes = [wrong for kind, wrong in job.outcomes if kind == where]
                same = outcomes.count(None)
                print(
                    f"{name:10}{same:4} of {len(outcomes):3} went on to the same bytes, killed at {text}", flush=True
                )
                good, total = good + same, total + len(outcomes)
    print(f"{good} of {total} kills went on to the same bytes")
    return int(good < total)


if __name__ == "__main__":
    raise SystemExit(main())
