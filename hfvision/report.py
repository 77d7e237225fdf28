"""Records, reports and pictures: what a run leaves for people to look at. Files are written whole or not at all."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

LIBRARIES = ("hfvision", "torch", "torchvision", "transformers", "accelerate", "datasets", "timm")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, to write to; it becomes `path` when all went well.

    The folder is made where needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a run's figures as JSON, with the versions and the machine they came from."""
    write_text(path, json.dumps(record | {"environment": environment()}, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Versions of the libraries and a description of the machine."""
    return {
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpu_cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A GitHub table; the first column is text, the others are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def side_by_side(images: dict[str, Image.Image], path: Path) -> None:
    """Write a PNG with the images in one row, pixel for pixel, each under its caption; images agree in height."""
    margin, caption = 8, 20
    width = sum(image.width + margin for image in images.values()) + margin
    canvas = Image.new("RGB", (width, max(i.height for i in images.values()) + caption + 2 * margin), "white")
    draw, left = ImageDraw.Draw(canvas), margin
    for text, image in images.items():
        draw.text((left, margin), text, fill="black", font_size=13)
        canvas.paste(image.convert("RGB"), (left, caption + margin))
        left += image.width + margin
    with written_whole(path) as temporary:
        canvas.save(temporary)


def prediction_grid(images: Sequence[Image.Image], captions: Sequence[str], correct: Sequence[bool], path: Path):
    """Write a PNG grid of small images with a caption each: green where `correct`, red elsewhere."""
    from matplotlib.figure import Figure

    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.35 * columns, 1.6 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, image, caption, right in zip(axes, images, captions, correct, strict=False):
        axis.imshow(image.convert("RGB"), interpolation="nearest")
        axis.set_title(caption, fontsize=8, color="#1a7f37" if right else "#cf222e")
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)


def training_curve(history: Sequence[dict[str, float]], path: Path) -> None:
    """Write a PNG of the mean loss over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot([entry["epoch"] for entry in history], [entry["loss"] for entry in history], marker="o")
    axis.set_xlabel("epoch")
    axis.set_ylabel("mean training loss")
    axis.grid(alpha=0.3)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)
