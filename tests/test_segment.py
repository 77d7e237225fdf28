"""Training, evaluating and using a segmenter: by function and by command, resumed, from a classifier, refused."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import hf_hub_download
from PIL import Image, ImageDraw
from torch.nn.functional import one_hot
from transformers import AutoModelForSemanticSegmentation, pipeline

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    CNNForSemanticSegmentation,
    CNNSegmentationConfig,
    ImageClassificationProcessor,
    ImageSegmentationProcessor,
    SegmenterTrainingConfig,
    load_segmenter,
    push_folder,
    segment,
)
from hfvision.cli.main import main
from hfvision.data.datasets.segmentation import MaskedImages, load_mask_dataset, name_classes
from hfvision.data.transforms.normalize import Normalize
from hfvision.tasks.segmentation.evaluate import evaluate_segmenter, image_scores, segment_pixels
from hfvision.tasks.segmentation.losses import soft_dice_loss
from hfvision.tasks.segmentation.pictures import overlay
from hfvision.tasks.segmentation.train import rarity_weights, train_segmenter

SMALL = "{stage_widths: [[[8]], [[12]]], stage_strides: [1, 2]}"
FAST = {"model_fields": SMALL, "crop": 32, "batch_size": 8, "steps_per_epoch": 12, "epochs": 2, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Bright discs on dark noise, of various sizes: images and masks, train and test."""
    folder = tmp_path_factory.mktemp("data") / "discs"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for number in range(count):
            size = (int(rng.integers(30, 60)), int(rng.integers(30, 60)))
            mask = Image.new("L", size)
            for x, y, radius in rng.integers((0, 0, 4), (*size, 9), (4, 3)).tolist():
                ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
            pixels = np.asarray(mask) * 0.6 + rng.normal(45, 15, size[::-1])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / split / "images" / f"{number}.png")
            mask.save(folder / split / "masks" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(discs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "discs"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
    classes = ["--classes", "background", "disc"]
    assert main(["train", "segmenter", "--data", str(discs), "--out", str(out), *classes, *options]) == 0
    return out


def test_training_finds_the_discs_and_leaves_what_is_promised(trained):
    record = json.loads((trained / "record.json").read_text())
    assert record["test"]["dice"] > 0.8
    low, high = record["test"]["dice_interval"]
    assert low <= record["test"]["dice"] <= high
    assert len(record["test"]["each"]) == 4
    assert record["training"]["data"]["classes"] == ["background", "disc"]
    history = json.loads((trained / "metrics.json").read_text())
    assert {"loss", "dice", "validation_dice"} <= set(history[0])
    for name in ("curve.png", "masks_test.png", "masks_validation.png"):
        assert Image.open(trained / name).size[0] > 300
    assert not list(trained.glob("*.bin"))
    assert "hfvision train segmenter" in record["training"]["command"]


def test_stock_pipeline_and_command_find_the_same(trained, discs, tmp_path, capsys):
    photo = discs / "test" / "images" / "0.png"
    found = pipeline("image-segmentation", model=str(trained))(str(photo))
    expected = next(np.asarray(part["mask"]) for part in found if part["label"] == "disc") > 0
    assert main(["segment", str(photo), "--model", str(trained), "--out", str(tmp_path), "--json"]) == 0
    mask = Image.open(tmp_path / "0_mask.png")
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), expected)
    (result,) = json.loads(capsys.readouterr().out)
    assert result["shares"]["disc"] == pytest.approx(expected.mean(), abs=1e-6)
    assert main(["segment", str(photo), "--model", str(trained), "--out", str(tmp_path), "--overlay"]) == 0
    assert Image.open(tmp_path / "0_overlay.png").size == mask.size
    assert main(["segment", str(photo), "--model", str(trained), "--out", str(tmp_path)]) == 2
    assert "use --force" in capsys.readouterr().err


def test_evaluation_by_command_agrees_with_the_training_and_with_counting(trained, discs, tmp_path, capsys):
    command = ["evaluate", "segmenter", str(trained), "--data", str(discs), "--out", str(tmp_path / "report")]
    assert main(command) == 0
    assert "Dice" in capsys.readouterr().out
    record = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert record["each"] == pytest.approx(json.loads((trained / "record.json").read_text())["test"]["each"], abs=0.01)
    assert Image.open(tmp_path / "report" / "masks.png").size[0] > 300
    model = AutoModelForSemanticSegmentation.from_pretrained(trained)
    mask = segment(discs / "test/images/1.png", (model, ImageSegmentationProcessor.from_pretrained(trained))).mask
    true = torch.from_numpy(np.asarray(Image.open(discs / "test/masks/1.png")) > 0)
    both = ((mask == 1) & true).sum()
    assert record["each"][1] == pytest.approx((2 * both / ((mask == 1).sum() + true.sum())).item(), abs=1e-6)
    assert main(command) == 2
    assert main([*command, "--force", "--by", "kind"]) == 2
    assert "There is no column 'kind'" in capsys.readouterr().err


def test_a_resumed_training_ends_at_the_same_weights(discs, tmp_path):
    options = FAST | {"data": str(discs), "turn": True, "ema": 0.9, "colour": 0.3}
    whole = SegmenterTrainingConfig(out=tmp_path / "whole", **options)
    train_segmenter(whole)
    interrupted = SegmenterTrainingConfig(out=tmp_path / "halves", checkpoint_minutes=0, **options)
    with pytest.MonkeyPatch.context() as patch:
        import hfvision.tasks.segmentation.train as module

        calls = []

        def stop(*args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return counted(*args, **kwargs)

        counted = module.count_overlaps
        patch.setattr(module, "count_overlaps", stop)
        with pytest.raises(KeyboardInterrupt):
            train_segmenter(interrupted)
    train_segmenter(SegmenterTrainingConfig(out=tmp_path / "halves", checkpoint_minutes=0, resume=True, **options))
    first, second = (
        AutoModelForSemanticSegmentation.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "halves")
    )
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def test_a_vit_learns_too(discs, tmp_path):
    fields = (
        "{patch_size: 4, stem_widths: null, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, "
        "intermediate_size: 64, decoder_widths: [24, 16]}"
    )
    options = FAST | {"model": "vit:cifar", "model_fields": fields, "learning_rate": 0.005, "steps_per_epoch": 20}
    record = train_segmenter(SegmenterTrainingConfig(data=str(discs), out=tmp_path / "vit", **options))
    assert record["test"]["dice"] > 0.7


def test_a_start_from_a_classifier_or_a_segmenter_keeps_what_fits(tmp_path):
    config = CNNConfig(stage_widths=[[[5]], [[7]]], stage_strides=[1, 2], num_labels=9)
    classifier = CNNForImageClassification(config)
    classifier.save_pretrained(tmp_path / "classifier")
    ImageClassificationProcessor(image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path / "classifier")
    model, processor = load_segmenter(str(tmp_path / "classifier"), names=["sky", "sea"])
    assert list(processor.image_mean) == [0.1, 0.2, 0.3]
    assert model.config.id2label == {0: "sky", 1: "sea"}
    for name, weight in model.cnn.state_dict().items():
        assert torch.equal(weight, classifier.cnn.state_dict()[name]), name
    model.save_pretrained(tmp_path / "segmenter")
    processor.save_pretrained(tmp_path / "segmenter")
    same, _ = load_segmenter(str(tmp_path / "segmenter"), names=["up", "down"])
    assert torch.equal(same.head.weight, model.head.weight)
    with pytest.warns(UserWarning, match=r"fresh head for 3 classes \(a, b, c\); it had 2"):
        other, _ = load_segmenter(str(tmp_path / "segmenter"), names=["a", "b", "c"])
    assert other.head.weight.shape[0] == 3
    assert torch.equal(other.decoder[0].layers[0].convolution.weight, model.decoder[0].layers[0].convolution.weight)


def test_large_images_go_through_in_tiles_and_come_out_the_same():
    torch.manual_seed(0)
    config = CNNSegmentationConfig(stage_widths=[[[6]], [[8]]], stage_strides=[1, 2], num_labels=3)
    model, processor = CNNForSemanticSegmentation(config).eval(), ImageSegmentationProcessor()
    pixels = np.random.default_rng(0).integers(0, 255, (300, 410, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    whole = segment(photo, (model, processor)).mask
    assert whole.shape == (300, 410)
    assert len(whole.unique()) > 1
    assert (segment(photo, (model, processor), tile=100).mask == whole).float().mean() > 0.9999


def test_test_time_augmentation_is_the_mean_of_the_ways_an_image_can_lie():
    class Column(torch.nn.Module):
        """Sees class 1 in the left column of whatever it is shown."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pixel_values):
            class Output:
                logits = torch.zeros(1, 2, *pixel_values.shape[-2:])

            Output.logits[:, 0] = 50
            Output.logits[:, 1, :, 0] = 100
            return Output

    image = torch.zeros(1, 3, 5, 7, dtype=torch.uint8)
    normalize = Normalize((0.0,) * 3, (1.0,) * 3)
    flip = segment_pixels(Column(), image, normalize, "flip")[0, 1]
    torch.testing.assert_close(flip[2], torch.tensor([0.5, 0, 0, 0, 0, 0, 0.5]))
    turn = segment_pixels(Column(), image, normalize, "turn")[0, 1]
    assert turn.shape == (5, 7)
    torch.testing.assert_close(turn[0], torch.tensor([0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.5]))
    torch.testing.assert_close(turn[2], torch.tensor([0.25, 0, 0, 0, 0, 0, 0.25]))
    with pytest.raises(ValueError, match="tta must be"):
        segment_pixels(Column(), image, normalize, "twist")


def test_dice_loss_is_zero_for_certain_truth_and_ignores_what_does_not_count():
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    certain = 100.0 * one_hot(labels, 3).movedim(-1, 1)
    assert soft_dice_loss(certain, labels) < 1e-6
    assert soft_dice_loss(certain.roll(1, 1), labels) > 0.9
    half = labels.clone()
    half[:, 4:] = 255
    wrong_below = certain.clone()
    wrong_below[:, :, 4:] = certain.roll(1, 1)[:, :, 4:]
    assert soft_dice_loss(wrong_below, half) < 1e-6


def test_images_without_the_class_count_as_right_where_nothing_is_found():
    counts = torch.tensor([[[90, 90, 100], [0, 10, 0]], [[100, 100, 100], [0, 0, 0]]])
    assert image_scores(counts, ["background", "disc"]).tolist() == [0, 1]


def test_figures_by_kind_are_those_of_its_images(discs, trained, tmp_path):
    rows = load_mask_dataset(discs)["test"].add_column("kind", ["b", "a", "b", "a"])
    images = MaskedImages(rows)
    name_classes({"test": images})
    model = AutoModelForSemanticSegmentation.from_pretrained(trained)
    record = evaluate_segmenter(model, images, ImageSegmentationProcessor.from_pretrained(trained), by="kind")
    each = record["each"]
    assert record["groups"]["a"]["dice"] == pytest.approx((each[1] + each[3]) / 2)
    assert record["groups"]["b"]["images"] == 2
    assert record["dice"] == pytest.approx(sum(each) / 4)
    assert math.isclose(record["iou"], record["classes"]["disc"]["iou"])
    with pytest.raises(ValueError, match="no column 'species'; there are: image, mask, kind"):
        evaluate_segmenter(model, images, ImageSegmentationProcessor(), by="species")


def test_crops_of_rare_kinds_are_drawn_more_often():
    weights = rarity_weights(["a", "b", "b", "b", "b"], 7)
    assert weights.tolist() == [1, 0.5, 0.5, 0.5, 0.5, 1, 0.5]


def test_overlay_colours_the_class_and_leaves_the_background():
    photo = Image.new("RGB", (20, 10), (100, 100, 100))
    mask = torch.zeros(10, 20, dtype=torch.long)
    mask[2:8, 5:15] = 1
    pixels = np.asarray(overlay(photo, mask, ["background", "cell"])).astype(int)
    changed = (pixels != 100).any(-1)
    assert np.array_equal(changed, mask.numpy() == 1)
    assert np.abs(pixels[2, 5] - 100).sum() > np.abs(pixels[5, 10] - 100).sum(), "the outline is stronger"


def test_card_tells_figures_and_limits(trained):
    assert main(["card", str(trained), "--license", "apache-2.0", "--data-name", "drawn discs", "--hide-paths"]) == 0
    card = (trained / "README.md").read_text()
    record = json.loads((trained / "record.json").read_text())
    assert "pipeline_tag: image-segmentation" in card
    assert f"Dice {record['test']['dice']:.4f}" in card
    assert "not a medical device" in card
    assert 'pipeline("image-segmentation"' in card
    assert "top-1" not in card


def test_pushed_with_a_space_and_used_without_hfvision(trained, discs, hub, run_isolated, tmp_path):
    folder = tmp_path / "discs"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints"))
    assert main(["card", str(folder), "--hide-paths"]) == 0
    push_folder(folder, "ada/discs", with_space=True)
    photo = discs / "test" / "images" / "0.png"
    printed = run_isolated(
        f"""
        from transformers import pipeline
        segment = pipeline("image-segmentation", model="ada/discs", trust_remote_code=True)
        print({{part["label"]: part["mask"].size for part in segment({str(photo)!r})}})
        """
    )
    size = Image.open(photo).size
    assert printed.strip() == str({"background": size, "disc": size})
    app = Path(hf_hub_download("ada/discs", "app.py", repo_type="space")).read_text()
    compile(app, "app.py", "exec")
    assert 'pipeline("image-segmentation", model="ada/discs", trust_remote_code=True)' in app


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "data must name images with masks"),
        ({"crop": 4}, "crop must be at least 16"),
        ({"zoom": 9}, "zoom must be from 0"),
        ({"dice_weight": -1}, "dice_weight must not be negative"),
        ({"model": "rnn:tiny"}, "no family 'rnn'"),
        ({"model": "cnn:huge"}, "No CNN preset is called 'huge'"),
        ({"balance": True}, "balance needs by"),
        ({"by": "kind"}, "There is no column 'kind'"),
        ({"classes": ["only"]}, "two classes or more"),
        ({"model": "sr-tiny-x2", "model_fields": None}, "does not do image-segmentation"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(discs, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train_segmenter(SegmenterTrainingConfig(**FAST | {"data": str(discs), "out": tmp_path / "out"} | options))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_application_runs(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "application_nuclei.py"
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", tmp_path / "out"],
        env=os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "transformers' pipeline, first test image: {'background'" in done.stdout
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["dice"] > 0.8
    assert "not a medical device" in (tmp_path / "out" / "README.md").read_text()
