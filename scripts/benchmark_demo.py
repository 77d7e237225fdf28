"""Measures the demo as a service: how soon it opens, how fast it answers, what it loses, and whether memory grows.

    python scripts/benchmark_demo.py --requests 500 --people 20

The server is a process of its own, as `hfvision demo` starts it. Requests are half of them classifications, half
upscalings of a photograph of 128×96 pixels, by so many people at once. Memory is that of the server's process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from gradio_client import Client, handle_file
from PIL import Image

from hfvision import sample_photos
from hfvision.records import environment
from hfvision.utils.markdown import markdown_table


def memory_mb(process: int) -> float:
    """Resident memory of a process on Linux, in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(url: str) -> float:
    """Seconds until the server answers."""
    start = time.perf_counter()
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5)
            return time.perf_counter() - start
        except OSError:
            time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--people", type=int, default=20, help="at once")
    parser.add_argument("--port", type=int, default=17861)
    args = parser.parse_args()
    url = f"http://127.0.0.1:{args.port}"
    command = [sys.executable, "-m", "hfvision", "demo", "--port", str(args.port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        opened = wait_for(url)
        photo = Path(tempfile.mkdtemp()) / "photo.png"
        Image.open(sample_photos()["cat"]).resize((128, 96)).save(photo)
        people = [Client(url, verbose=False) for _ in range(args.people)]

        def ask(number: int) -> float | None:
            person, start = people[number % args.people], time.perf_counter()
            try:
                if number % 2:
                    person.predict(handle_file(photo), api_name="/classify_image")
                else:
                    person.predict(handle_file(photo), 2, api_name="/upscale_image")
            except Exception as error:
                print(f"request {number}: {error}", file=sys.stderr)
                return None
            return time.perf_counter() - start

        with ThreadPoolExecutor(args.people) as pool:
            list(pool.map(ask, range(2 * args.people)))
            before, start = memory_mb(server.pid), time.perf_counter()
            times = list(pool.map(ask, range(args.requests)))
            seconds, after = time.perf_counter() - start, memory_mb(server.pid)
    finally:
        server.kill()
        server.wait()
    answered = [each for each in times if each is not None]
    rows = [
        ["seconds until it opens", f"{opened:.1f}"],
        ["requests answered", f"{len(answered)} of {args.requests}, {args.people} people at once"],
        ["requests a second", f"{len(answered) / seconds:.1f}"],
        ["seconds an answer, median", f"{median(answered):.2f}"],
        ["memory before and after, MB", f"{before:.0f} → {after:.0f}"],
    ]
    print(markdown_table(["the demo", ""], rows))
    print(json.dumps(environment()))
    return int(len(answered) < args.requests)


if __name__ == "__main__":
    sys.exit(main())
