"""The application to chest X-rays, from drawn images to models, figures, pictures and cards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from transformers import pipeline

from hfvision.data.datasets.classification import load_image_dataset

SCRIPT = Path(__file__).parents[1] / "scripts" / "application_xray.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "xray"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--out", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "AUROC" in done.stdout
    return out


def test_the_classifier_finds_what_is_drawn_and_knows_how_sure_it_is(run):
    figures = json.loads((run / "xray.json").read_text())["binary"]
    assert figures["auroc"] > 0.9
    assert figures["groups"] == 80
    point = figures["operating_point"]
    assert point["sensitivity"] + point["specificity"] > 1.6
    record = json.loads((run / "classifier" / "record.json").read_text())
    calibration = record["calibration"]
    assert calibration["after"]["ece"] < calibration["before"]["ece"]
    chest = load_image_dataset(run / "data")["test"][0]["image"]
    classify = pipeline("image-classification", model=str(run / "classifier"))
    assert {answer["label"] for answer in classify(chest)} == {"NORMAL", "PNEUMONIA"}


def test_no_patient_is_on_both_sides(run):
    config = json.loads((run / "trained" / "record.json").read_text())["training"]["config"]
    assert config["validation_group"] == "patient"
    assert config["flip"] is None
    assert config["augment"] == "upright"  # which mirrors nothing: tests/test_augment.py
    data = load_image_dataset(run / "data", validation=config["validation"], validation_group="patient")
    sides = [set(split["group"]) for split in data.values()]
    assert len(set.union(*sides)) == sum(map(len, sides))


def test_sizes_side_by_side(run):
    rows = json.loads((run / "xray.json").read_text())["sizes"]
    assert list(rows) == ["original", "half the size", "bicubic", "restored", "16 bits"]
    assert rows["restored"]["psnr"] == pytest.approx(rows["bicubic"]["psnr"], abs=2)
    assert all(0.5 < rows[name]["auroc"] <= 1 for name in list(rows)[:4])
    assert rows["16 bits"]["mode"] == "I;16"
    assert rows["16 bits"]["levels"] > 256


def test_pictures_and_cards(run):
    for name in ("explained", "restored", "classifier/roc", "classifier/abstention", "classifier/reliability"):
        assert len(Image.open(run / f"{name}.png").convert("L").getcolors()) > 10
    for folder in ("classifier", "upscaler"):
        assert "Not a medical device" in " ".join((run / folder / "README.md").read_text().split())
    card = " ".join((run / "classifier" / "README.md").read_text().split())
    assert "As a test for PNEUMONIA" in card
    assert "calibrated by temperature scaling" in card
    assert "no probability" not in card


def test_data_that_is_not_there_is_said(tmp_path):
    words = [sys.executable, SCRIPT, "--data", tmp_path, "--out", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "train.parquet" in done.stderr
    assert "Traceback" not in done.stderr
