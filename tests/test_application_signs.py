"""The recipe for traffic signs, in its quick form: every stage is there, and done once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures

from hfvision import ClassifierTrainingConfig, load_image_dataset
from hfvision.data.transforms.augmentation import PRESETS
from hfvision.engine.options import parse_options

SCRIPTS = Path(__file__).parents[1] / "scripts"
STAGES = ["trained", "against corruptions", "against attack", "pruned", "pruned, int8"]


def run(*words) -> str:
    command = [sys.executable, SCRIPTS / "application_signs.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "signs"
    run("--quick", "--out", folder)
    return folder


def test_every_stage_has_its_row_and_its_model(out):
    record = json.loads((out / "signs.json").read_text())
    rows = record["stages"]
    assert list(rows) == STAGES
    assert all(0.5 < rows[name][key] <= 1 for name in STAGES for key in ("clean", "corrupted"))
    assert rows["against attack"]["attacked"] > rows["trained"]["attacked"]
    assert rows["pruned"]["bytes"] < 0.6 * rows["trained"]["bytes"]
    assert rows["pruned, int8"]["bytes"] < 0.6 * rows["pruned"]["bytes"]
    table = (out / "signs.md").read_text().splitlines()
    assert [line.split(" | ")[0].lstrip("| ") for line in table[2 : 2 + len(STAGES)]] == STAGES
    with Pictures.open(out / "signs.png") as picture:
        assert min(picture.size) > 300
    for folder in ("trained", "against-corruptions", "against-attack", "pruned", "int8"):
        assert "Not for steering a vehicle" in " ".join((out / folder / "README.md").read_text().split())


def test_what_is_finished_is_not_done_again(out):
    weights = out / "pruned" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (out / "signs.md").unlink()
    run("--quick", "--out", out)
    assert weights.stat().st_mtime_ns == before
    assert (out / "signs.md").is_file()


def test_the_recipe_never_mirrors_a_sign():
    config = parse_options(ClassifierTrainingConfig, ["--config", str(SCRIPTS / "recipes" / "signs.yaml")], "", "")
    assert config.augment == "upright"
    assert not config.augmentation().flip
    assert PRESETS["classic"].flip
    assert config.tta == "none"


def test_frames_of_one_sign_stay_together(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from application_signs import write_signs

    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"]), "track": Value("int64")})
    picture = Pictures.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
    for split, tracks in (("train", 8), ("test", 2)):
        rows = [(label, track) for label in (0, 1) for track in range(tracks) for _ in range(3)]
        table = {"image": [picture] * len(rows), "label": [r[0] for r in rows], "track": [r[1] for r in rows]}
        Dataset.from_dict(table, features=features).to_parquet(tmp_path / "raw" / f"{split}.parquet")
    splits = load_image_dataset(write_signs(str(tmp_path / "raw"), tmp_path / "data"), validation_group="sign")
    signs = {name: set(split["group"][:]) for name, split in splits.items()}
    assert signs["train"] | signs["validation"] == {f"train-{label}-{track}" for label in (0, 1) for track in range(8)}
    assert not signs["train"] & signs["validation"]
    assert not signs["train"] & signs["test"]
