"""Pictures and tables that people look at."""

import itertools

import pytest
import torch
from PIL import Image, ImageChops

from hfvision.metrics.calibration import reliability
from hfvision.tasks.classification.evaluate import format_evaluation
from hfvision.utils.plots import confusion_picture, reliability_diagram, side_by_side, training_curve


def opened(path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def differ(a: Image.Image, b: Image.Image) -> bool:
    return a.size != b.size or ImageChops.difference(a, b).getbbox() is not None


@pytest.fixture
def history():
    return [
        {"epoch": 1, "loss": 2.0, "learning_rate": 0.1, "accuracy": 0.2, "validation_accuracy": 0.3},
        {"epoch": 2, "loss": 1.0, "learning_rate": 0.0, "accuracy": 0.6, "validation_accuracy": 0.5},
    ]


def test_captions_draw_the_signs_they_are_written_with(tmp_path):
    signs = ["×", "–", "…", "²"]
    for number, sign in enumerate(signs):
        side_by_side({sign: Image.new("RGB", (40, 8))}, tmp_path / f"{number}.png")
    pictures = [opened(tmp_path / f"{number}.png") for number in range(len(signs))]
    assert all(differ(a, b) for a, b in itertools.combinations(pictures, 2))


def test_a_training_curve_draws_what_the_history_has(history, tmp_path):
    bare = [{key: entry[key] for key in ("epoch", "loss", "learning_rate")} for entry in history]
    without_validation = [{k: v for k, v in entry.items() if k != "validation_accuracy"} for entry in history]
    upscaler = [entry | {"validation_psnr": 30.0 + entry["epoch"]} for entry in bare]
    drawn = {"all": history, "bare": bare, "training": without_validation, "one": history[:1], "upscaler": upscaler}
    for name, entries in drawn.items():
        training_curve(entries, tmp_path / f"{name}.png")
    pictures = {path.stem: opened(path) for path in tmp_path.iterdir()}
    assert pictures["all"].width > 1.5 * pictures["bare"].width
    assert pictures["all"].size == pictures["training"].size
    assert differ(pictures["all"], pictures["training"])
    assert pictures["upscaler"].size == pictures["all"].size
    assert "one" in pictures


@pytest.mark.parametrize("classes", [2, 10, 43, 100])
def test_a_confusion_picture_is_large_enough_for_its_classes(classes, tmp_path):
    matrix = (torch.eye(classes, dtype=torch.long) * 90 + 1).tolist()
    names = [f"speed limit of {number} km/h" for number in range(classes)]
    confusion_picture(matrix, names, tmp_path / "confusion.png")
    picture = opened(tmp_path / "confusion.png")
    per_class = min(picture.size) / classes
    assert per_class >= (30 if classes <= 60 else 8)
    assert max(picture.size) <= 2500


def test_a_confusion_picture_takes_a_class_without_images(tmp_path):
    confusion_picture([[5, 1], [0, 0]], ["cat", "dog"], tmp_path / "confusion.png")
    confusion_picture([[5, 1], [1, 0]], ["cat", "dog"], tmp_path / "other.png")
    assert differ(opened(tmp_path / "confusion.png"), opened(tmp_path / "other.png"))


def test_a_reliability_diagram_shows_over_confidence(tmp_path):
    logits = torch.tensor([[3.0, 0.0]]).expand(40, 2)
    for name, wrong in (("calibrated", 2), ("sure", 20)):
        labels = (torch.arange(40) < wrong).long()
        bins = {key: values.tolist() for key, values in reliability(logits, labels)._asdict().items()}
        reliability_diagram(bins, tmp_path / f"{name}.png")
    assert differ(opened(tmp_path / "calibrated.png"), opened(tmp_path / "sure.png"))


def test_the_worst_of_many_classes_are_listed():
    classes = {
        f"class {number}": {"images": 1000, "precision": 1.0, "recall": 0.5, "f1": 0.5 + number / 1000}
        for number in range(43)
    }
    record = {
        "model": "model",
        "data": {"source": "photos/", "split": "test"},
        "images": 43000,
        "top1": 0.5,
        "top1_interval": (0.49, 0.51),
        "nll": 1.5,
        "ece": 0.01,
        "classes": classes,
        "tta": "none",
        "parameters": 1234567,
        "speed": {
            "images_per_second": 1000.0,
            "latency_ms": {"median": 1.0, "p90": 2.0},
            "device": "cpu",
            "threads": 1,
            "dtype": "float32",
        },
    }
    printed = format_evaluation(record)
    assert "top-5" not in printed
    assert "50.00%, 95% interval 49.00% to 51.00%" in printed
    assert "1,234,567 parameters" in printed
    listed = [line for line in printed.splitlines() if line.startswith("class ")]
    assert [line.split("  ")[0] for line in listed] == [f"class {number}" for number in range(20)]
