"""Start-up costs: CPU seconds of commands beside those of importing torch and transformers, in one run.

    python scripts/benchmark_startup.py --runs 3
    python scripts/benchmark_startup.py --quickstart   # the time of `hfvision quickstart`, too

Prints the environment and a Markdown table of medians. On a machine that does other work, CPU seconds are still
comparable with each other, and wall time is not.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from PIL import Image

COMMAND = [sys.executable, "-m", "hfvision"]
PYTHON = [sys.executable, "-c"]


def cases(folder: Path) -> dict[str, tuple[list[str], int]]:
    """What is measured: name to command line and expected exit code."""
    image = folder / "image.png"
    Image.new("RGB", (32, 24), "teal").save(image)
    return {
        "hfvision --help": ([*COMMAND, "--help"], 0),
        "hfvision --version": ([*COMMAND, "--version"], 0),
        "hfvision train classifier --help": ([*COMMAND, "train", "classifier", "--help"], 0),
        "hfvision info --list": ([*COMMAND, "info", "--list"], 0),
        "hfvision classify missing.png (refused)": ([*COMMAND, "classify", "missing.png"], 2),
        "hfvision upscale, 32×24 px": (
            [*COMMAND, "upscale", str(image), "--out", str(folder / "x2.png"), "--force"],
            0,
        ),
        "hfvision classify, one image": ([*COMMAND, "classify", str(image)], 0),
        "import hfvision": ([*PYTHON, "import hfvision"], 0),
        "import torch": ([*PYTHON, "import torch"], 0),
        "from transformers import PreTrainedModel": ([*PYTHON, "from transformers import PreTrainedModel"], 0),
        "from transformers import AutoModelForImageClassification": (
            [*PYTHON, "from transformers import AutoModelForImageClassification"],
            0,
        ),
    }


def measure(command: list[str], expected: int) -> tuple[float, float]:
    """CPU and wall seconds of a command. Raises RuntimeError for another exit code than `expected`."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != expected:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each, after one that is not counted (default: 3)")
    parser.add_argument("--quickstart", action="store_true", help="measure hfvision quickstart, too")
    args = parser.parse_args()
    print(
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}, ",
        end="",
    )
    print(f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[0]:.1f}\n")
    print("| command | CPU seconds | wall seconds |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (command, expected) in cases(Path(folder)).items():
            measure(command, expected)
            cpu, wall = zip(*(measure(command, expected) for _ in range(args.runs)), strict=True)
            print(f"| `{name}` | {statistics.median(cpu):.2f} | {statistics.median(wall):.2f} |", flush=True)
        if args.quickstart:
            cpu, wall = measure([*COMMAND, "quickstart", "--output-dir", str(Path(folder, "quickstart"))], 0)
            print(f"| `hfvision quickstart` | {cpu:.0f} | {wall:.0f} |")


if __name__ == "__main__":
    main()
