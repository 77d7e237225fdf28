"""The demo on a free port of the loopback, with small models beside the shipped ones."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
def running_demo(models: Sequence[str] = ()) -> Iterator[str]:
    """The address of the demo with these models beside the shipped ones."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from hfvision.demo.app import build, launch_options

    demo = build(models)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    try:
        yield url
    finally:
        demo.close()
