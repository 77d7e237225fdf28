"""Measures how fast a data set grows: 120,000 colour images of 32×32 to 1,000,000, augmented and stored as PNG.

    python scripts/benchmark_expand.py --cache-dir cache --processes 2

The source is random crops of the sample photographs at half their size. Printed as JSON: seconds, CPU seconds, peak
memory of all processes together, size on disk, and seconds of the second call, which finds the cache. The cache takes
2.1 GB and is left for you to delete. It takes about six minutes of CPU time, which the processes share. Runs on
Linux, which it asks about memory.
"""

import argparse
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import datasets
import numpy as np
import psutil
from PIL import Image

from hfvision import sample_photos
from hfvision.data.datasets.expand import expand_dataset
from hfvision.data.io.images import read_image, to_rgb
from hfvision.data.transforms.augmentation import PRESETS
from hfvision.records import environment, write_record


def crops(count: int, side: int = 32):
    """Rows of an image and its photograph's number as label."""
    photos = [to_rgb(read_image(path)).reduce(2) for path in sample_photos().values()]
    generator = np.random.default_rng(0)
    for label in generator.integers(len(photos), size=count):
        photo = photos[label]
        left, top = generator.integers(photo.width - side), generator.integers(photo.height - side)
        crop = photo.crop((left, top, left + side, top + side))
        yield {"image": Image.fromarray(np.asarray(crop)), "label": label}


class PeakMemory(threading.Thread):
    """Samples the memory of this process and its children until `stop` is set, in KiB, as Linux counts it.

    `own` is the peak of what they hold themselves, pages that they share counted once; `mapped`, of that and of the
    parts of files that are mapped into memory, which the system takes back when it needs them.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.own, self.mapped, self.stop = 0, 0, threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        while not self.stop.wait(1):
            used = {"Pss:": 0, "Pss_Anon:": 0}
            for member in [process, *process.children(recursive=True)]:
                with suppress(OSError):
                    for line in Path(f"/proc/{member.pid}/smaps_rollup").read_text().splitlines():
                        name, *rest = line.split()
                        if name in used:
                            used[name] += int(rest[0])
            self.own, self.mapped = max(self.own, used["Pss_Anon:"]), max(self.mapped, used["Pss:"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cache-dir", type=Path, required=True, help="folder for the data sets")
    parser.add_argument("--augment", choices=sorted(PRESETS), default="strong")
    parser.add_argument("--source", type=int, default=120_000, help="images to start from (default 120000)")
    parser.add_argument("--target", type=int, default=1_000_000, help="images to make (default 1000000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(sample_photos()))}
    )
    source = datasets.Dataset.from_generator(
        crops, features=features, gen_kwargs={"count": args.source}, cache_dir=str(args.cache_dir)
    )
    seconds, cpu_seconds, memory = [], [], PeakMemory()
    memory.start()
    for _ in range(2):
        expanded = None
        start, cpu_start = time.perf_counter(), sum(os.times()[:4])
        expanded = expand_dataset(source, args.target / args.source, PRESETS[args.augment], num_proc=args.processes)
        seconds.append(round(time.perf_counter() - start, 2))
        cpu_seconds.append(round(sum(os.times()[:4]) - cpu_start))
    memory.stop.set()
    memory.join()
    figures = {
        "augment": args.augment,
        "images": [len(source), len(expanded)],
        "processes": args.processes,
        "seconds": seconds[0],
        "cpu_seconds": cpu_seconds[0],
        "images_per_second": round(len(expanded) / seconds[0]),
        "seconds_cached": seconds[1],
        "peak_memory_mb": round(memory.own * 1024 / 1e6),
        "peak_with_mapped_files_mb": round(memory.mapped * 1024 / 1e6),
        "result_mb": round(sum(Path(file["filename"]).stat().st_size for file in expanded.cache_files) / 1e6),
        "load_average": os.getloadavg()[1],
    }
    print(json.dumps(figures | {"environment": environment()}, indent=2))
    if args.json:
        write_record(args.json, figures)


if __name__ == "__main__":
    main()
