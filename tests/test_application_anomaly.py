"""The recipe for anomalies, in its quick form: clothes of some kinds are normal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hfvision import load_image_dataset, sample_dataset
from hfvision.cli.main import main

SCRIPT = Path(__file__).parents[1] / "scripts" / "application_anomaly.py"
KINDS = ["unseen", "occluded", "defaced", "broken"]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "anomaly"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--out", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "AUROC" in done.stdout
    return folder


def test_each_kind_has_its_figures_beside_the_baselines(out):
    record = json.loads((out / "anomaly.json").read_text())
    areas = record["auroc"]
    assert {"PatchCore", "GAN", "bicubic error", "classifier features"} <= set(areas)
    assert all(list(row) == [*KINDS, "mean"] for row in areas.values())
    assert areas["GAN"]["mean"] == pytest.approx(sum(areas["GAN"][kind] for kind in KINDS) / 4)
    for kind in ("occluded", "defaced", "broken"):
        low, high = record["intervals"]["GAN"][kind]
        assert low < areas["GAN"][kind] < high
        assert areas["GAN"][kind] > 0.5
    assert areas["GAN"]["broken"] > 0.8  # the trainings are short
    alarms = record["alarms"]["GAN"]
    assert alarms["broken"] > 3 * alarms["normal"]
    assert alarms["normal"] < 0.2
    assert areas["PatchCore"]["mean"] > areas["GAN"]["mean"]
    assert all(value > 0.7 for value in record["pixel_auroc"]["PatchCore"].values())
    assert record["patchcore"]["model"] == "imagenet-lite0"
    with Image.open(out / "anomaly.png") as picture:
        assert min(picture.size) > 400


def test_unseen_classes_are_in_no_training(out):
    unseen = json.loads((out / "anomaly.json").read_text())["unseen"]
    assert len(unseen) == 2
    names = sample_dataset()["train"].features["label"].names
    kept = load_image_dataset(out / "normal")
    assert kept["train"].features["label"].names == [name for name in names if name not in unseen]
    assert len(kept["train"]) + len(kept["validation"]) == 4800


def test_the_command_takes_the_detectors(out, tmp_path, capsys):
    sample_dataset()["test"][0]["image"].save(tmp_path / "new.png")
    for folder in ("gan", "patchcore"):
        assert main(["detect", "anomalies", str(tmp_path / "new.png"), "--model", str(out / folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["results"][0]["image"].endswith("new.png")
    assert "no proof that an image is in order" in " ".join((out / "gan" / "README.md").read_text().split())
