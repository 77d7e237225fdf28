"""The recipes: all of them are read, by the trainer or by Accelerate, and the one for a CPU trains."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from PIL import Image
from transformers import pipeline

from hfvision.engine.options import parse_options
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.start import load_start
from hfvision.tasks.segmentation.config import SegmenterTrainingConfig
from hfvision.tasks.segmentation.start import load_segmenter
from hfvision.tasks.super_resolution.config import SuperResTrainingConfig
from hfvision.tasks.super_resolution.train import load_generator

SCRIPTS = Path(__file__).parents[1] / "scripts"
MACHINES = sorted((SCRIPTS / "recipes").glob("accelerate_*.yaml"))
UPSCALERS = sorted((SCRIPTS / "recipes").glob("sr_*.yaml"))
SEGMENTERS = [SCRIPTS / "recipes" / "nuclei.yaml"]
TRAININGS = sorted(set((SCRIPTS / "recipes").glob("*.yaml")) - {*MACHINES, *UPSCALERS, *SEGMENTERS})


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_trainings_are_read_and_their_models_exist(path):
    config = parse_options(ClassifierTrainingConfig, ["--config", str(path)], "train", "")
    assert config.out != ClassifierTrainingConfig(data="x").out
    config.augmentation()
    if config.model.startswith("runs/"):
        assert f"--out {config.model}\n" in path.read_text().split("out:")[0]
        return
    model, processor = load_start(config.model, names=["a", "b"], num_channels=config.num_channels)
    assert model.num_labels == 2
    assert processor.num_channels == model.config.num_channels


@pytest.mark.parametrize("path", UPSCALERS, ids=lambda path: path.stem)
def test_trainings_of_upscalers_are_read_and_start_where_another_ended(path):
    config = parse_options(SuperResTrainingConfig, ["--config", str(path)], "train", "")
    assert config.out.name == path.stem.replace("_", "-")
    starts = {f"runs/{other.stem.replace('_', '-')}" for other in UPSCALERS if other != path}
    if config.model not in starts:
        assert config.scale in (None, load_generator(config.model, config.overrides()).config.scale)
    assert config.teacher in (None, *starts)


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_trainings_of_segmenters_are_read_and_their_models_exist(path):
    config = parse_options(SegmenterTrainingConfig, ["--config", str(path)], "train", "")
    assert config.out.name == path.stem
    model, _ = load_segmenter(config.model, names=config.classes, overrides=config.overrides())
    assert model.config.id2label == dict(enumerate(config.classes))


def test_batches_and_rise_are_those_of_the_papers():
    settings = {
        path.stem: parse_options(ClassifierTrainingConfig, ["--config", str(path)], "train", "") for path in TRAININGS
    }
    resnet, vit = settings["gpu8_imagenet_resnet50"], settings["gpu8_imagenet_vit_small"]
    assert (8 * resnet.batch_size, 8 * vit.batch_size) == (2048, 1024)
    assert resnet.warmup * resnet.epochs == pytest.approx(5)
    assert vit.warmup * vit.epochs * 1_281_167 / 1024 == pytest.approx(10_000, rel=0.02)


def test_the_dry_run_of_imagenet_resumes_to_the_bit_and_estimates(tmp_path):
    out = tmp_path / "dry"
    done = subprocess.run(
        [sys.executable, SCRIPTS / "application_imagenet.py", "--quick", "--out", out],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((out / "dry_run.json").read_text())
    dry, (one, eight) = record["dry_run"], record["estimate"]
    assert dry["resumed_to_the_bit"]
    assert 1 <= dry["killed_at_step"] < dry["steps"]
    assert dry["loss"] == pytest.approx(math.log(1000), rel=0.1)
    assert dry["stream_loss"] == pytest.approx(math.log(1000), rel=0.1)
    assert 0 <= dry["top1"] <= dry["top5"] <= 0.2
    assert len(list((out / "images" / "train").iterdir())) == 1000
    reads = record["reading"]["images_per_second"]
    assert 12 * reads == pytest.approx(one["reads"]) == pytest.approx(eight["reads"] / 8)
    images = 100 * (1_281_167 / min(one["trains"], one["reads"]) + 50_000 / min(3 * one["trains"], one["reads"]))
    assert one["hours"] == pytest.approx(images / 3600)
    assert one["price"] == pytest.approx(2 * one["hours"])
    assert 8 < eight["gigabytes"] == one["gigabytes"] < 16
    assert "the same weights to the bit" in done.stdout


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_accelerate_reads_what_describes_machines(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == 8 * config.num_machines
    known = set(vars(launch_command_parser().parse_args(["script.py"])))
    assert set(config.fsdp_config) <= known, "accelerate would leave out a misspelled one without a word"


def test_accelerate_launch_trains_by_the_recipe_for_a_cpu(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, low in (("dark", 0), ("bright", 155)):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(low, low + 100, (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    out = tmp_path / "out"
    recipe = ["--config", SCRIPTS / "recipes" / "cpu.yaml", "--data", tmp_path / "images", "--out", out]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    done = subprocess.run(
        [*command, SCRIPTS / "train_classifier.py", *recipe, "--epochs", "6", "--batch_size", "16"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    classify = pipeline("image-classification", model=str(out))
    photo = tmp_path / "images" / "test" / "bright" / "0.png"
    assert classify(str(photo))[0]["label"] == "bright"
