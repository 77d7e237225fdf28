"""The demo on a free port of the loopback, with small models beside the shipped ones."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor, checkpoint

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def make_models(folder: Path) -> list[str]:
    """A hardened classifier, a compressed form of it, and a GAN trained further from sr-tiny-x2."""
    names = {"id2label": dict(enumerate(CIFAR10)), "label2id": {name: i for i, name in enumerate(CIFAR10)}}
    torch.manual_seed(0)
    sizes = {"image_size": 32, "stage_widths": [[[8]], [[12]]], "stage_strides": [2, 2]}
    for name in ("tough", "tough-small"):
        CNNForImageClassification(CNNConfig(**sizes, **names)).save_pretrained(folder / name)
        ImageClassificationProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / name)
    shutil.copytree(checkpoint("sr-tiny-x2"), folder / "gan-x2")
    records = {
        "tough": {"training": {"config": {"adversarial": "fast"}}},
        "tough-small": {"parent": str(folder / "tough")},
        "gan-x2": {"training": {"config": {"gan": "relativistic"}}},
    }
    for name, record in records.items():
        (folder / name / "record.json").write_text(json.dumps(record))
    return [str(folder / name) for name in records]


@contextmanager
def running_demo(models: Sequence[str] = (), **options: Any) -> Iterator[str]:
    """The address of the demo with these models beside the shipped ones; `options` are those of `Blocks.launch`."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from hfvision.demo.app import build, launch_options, sign_in_mcp

    demo = build(models)
    options = launch_options() | options
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **options)
    sign_in_mcp(demo)
    try:
        yield url
    finally:
        demo.close()


@contextmanager
def demo_process(folder: Path, port: int, *arguments: str) -> Iterator[subprocess.Popen]:
    """`hfvision demo` in a process of its own that answers on this port and keeps its files in `folder`."""
    command = [sys.executable, "-m", "hfvision", "demo", "--port", str(port), *arguments]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            assert server.poll() is None, server.stdout.read().decode()
            time.sleep(0.2)
        yield server
    finally:
        server.kill()
        server.wait()
