"""Evaluation: the figures of a classifier on a split, in Python, on the command line and on two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor, sample_dataset
from hfvision.cli.main import main
from hfvision.data.datasets.class_names import match_classes
from hfvision.data.datasets.prepare import MemoryImages, prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.metrics.calibration import expected_calibration_error, negative_log_likelihood
from hfvision.tasks.classification.evaluate import evaluate_classifier, predict_logits

SPLITS = sample_dataset("fashion_mnist")
NAMES = SPLITS["test"].features["label"].names
PROCESSOR = ImageClassificationProcessor(
    size={"height": 28, "width": 28}, num_channels=1, image_mean=[0.5], image_std=[0.5]
)
NORMALIZE = Normalize.from_processor(PROCESSOR)


def make_model(names=NAMES) -> CNNForImageClassification:
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return CNNForImageClassification(CNNConfig.from_preset("tiny", num_channels=1, **labels))


@pytest.fixture(scope="module")
def model() -> CNNForImageClassification:
    """Trained for a moment, so that most images are right."""
    model = make_model().train()
    images = prepare_images(SPLITS["train"].select(range(1600)), PROCESSOR, num_proc=1)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for epoch in range(2):
        for rows in torch.randperm(1600, generator=torch.Generator().manual_seed(epoch)).split(50):
            batch = images.__getitems__(rows.tolist())
            cross_entropy(model(NORMALIZE(batch["images"])).logits, batch["labels"]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    model.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> MemoryImages:
    return prepare_images(SPLITS["test"].select(range(203)), PROCESSOR, num_proc=1)


@torch.inference_mode()
def by_hand(model, pixels):
    return model(NORMALIZE(pixels)).logits


@pytest.mark.parametrize("batch_size", [1000, 64, 29])
def test_logits_come_in_order_whatever_the_batch_size(model, images, batch_size):
    logits, labels = predict_logits(model, images, NORMALIZE, batch_size=batch_size)
    assert torch.equal(labels, images.labels)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, by_hand(model, images.images), rtol=1e-4, atol=1e-4)


def test_logits_are_of_evaluation_mode_and_leave_random_numbers_alone(model, images):
    before = torch.get_rng_state()
    logits, _ = predict_logits(model.train(), images, NORMALIZE)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(logits, by_hand(model, images.images), rtol=1e-4, atol=1e-4)


def test_augmentation_averages_over_views(model, images):
    logits, _ = predict_logits(model, images, NORMALIZE, tta="flip")
    expected = (by_hand(model, images.images) + by_hand(model, images.images.flip(3))) / 2
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    moved, _ = predict_logits(model, images, NORMALIZE, tta="flip_shift")
    assert not torch.allclose(moved, logits, atol=1e-3)
    with pytest.raises(ValueError, match="tta must be"):
        predict_logits(model, images, NORMALIZE, tta="turn")


def test_half_precision_models_are_taken(images):
    logits, _ = predict_logits(make_model().bfloat16(), images, NORMALIZE)
    expected = by_hand(make_model().eval(), images.images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)


def test_images_that_cannot_be_read_do_not_count(model):
    split = SPLITS["test"].select(range(12)).cast_column("image", datasets.Image(decode=False))
    rows = [dict(row) for row in split]
    rows[5]["image"] = {"bytes": b"no image", "path": None}
    split = datasets.Dataset.from_list(rows, features=split.features).cast_column("image", datasets.Image())
    lazy = prepare_images(split, PROCESSOR, memory_limit=0, on_bad_image="skip")
    logits, labels = predict_logits(model, lazy, NORMALIZE, batch_size=4)
    kept = [number for number in range(12) if number != 5]
    assert labels.tolist() == [rows[number]["label"] for number in kept]
    whole = prepare_images(SPLITS["test"].select(kept), PROCESSOR)
    torch.testing.assert_close(logits, by_hand(model, whole.images), rtol=1e-4, atol=1e-4)


def test_figures_agree_with_the_logits(model, images):
    record = evaluate_classifier(model, images, PROCESSOR)
    logits = by_hand(model, images.images)
    right = logits.argmax(1) == images.labels
    assert record["images"] == 203
    assert record["top1"] == pytest.approx(right.double().mean().item())
    assert record["top1"] > 0.5
    low, high = record["top1_interval"]
    assert low < record["top1"] < high
    assert record["top1"] < record["top5"] <= 1
    assert record["nll"] == pytest.approx(negative_log_likelihood(logits, images.labels), rel=1e-4)
    assert record["ece"] == pytest.approx(expected_calibration_error(logits, images.labels), abs=1e-3)
    assert list(record["classes"]) == NAMES
    trouser = record["classes"]["Trouser"]
    assert trouser["images"] == (images.labels == 1).sum()
    assert trouser["recall"] == pytest.approx(right[images.labels == 1].double().mean().item())
    matrix = torch.tensor(record["confusion_matrix"])
    assert matrix.trace() == right.sum()
    assert matrix.sum(1).tolist() == images.labels.bincount(minlength=10).tolist()
    assert sum(record["reliability"]["images"]) == 203
    assert record["parameters"] == model.num_parameters()
    assert 0 < record["speed"]["latency_ms"]["median"] <= record["speed"]["latency_ms"]["p90"]
    json.dumps(record)


def test_classes_in_another_order_are_matched_by_name(model, images):
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    names = [NAMES[number] for number in order]
    labels = torch.argsort(order)[images.labels]
    moved = MemoryImages(images.images, labels, images.index, [])
    record, other = (
        evaluate_classifier(model, images, PROCESSOR),
        evaluate_classifier(model, moved, PROCESSOR, names=names),
    )
    assert other["top1"] == record["top1"]
    assert list(other["classes"]) == names
    assert {name: other["classes"][name] for name in NAMES} == record["classes"]


def test_classes_without_names_are_matched_by_number():
    nameless = ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert match_classes(nameless, ["cat", "dog", "ship"]) == [0, 1, 2]
    assert match_classes(["dog", "cat", "ship"], ["0", "1", "2"]) == [0, 1, 2]
    assert match_classes(["dog", "cat", "ship"], ["cat", "ship", "dog"]) == [1, 2, 0]


@pytest.mark.parametrize(
    ("model_names", "data_names", "message"),
    [
        (["cat", "dog"], ["cat", "dog", "ship"], "knows 2 classes .* the data has 3"),
        (["cat", "dog"], ["cat", "ship"], "'dog' only in the model, 'ship' only in the data"),
        (["cat", "cat", "dog"], ["cat", "dog", "ship"], "not those of the data"),
    ],
)
def test_other_classes_are_refused(model_names, data_names, message):
    with pytest.raises(ValueError, match=message):
        match_classes(model_names, data_names)


def evaluate(*arguments) -> None:
    assert main(["evaluate", "classifier", *map(str, arguments)]) == 0


def test_the_command_prints_and_writes(folder, tmp_path, capsys):
    evaluate(folder, "--data", "fashion_mnist", "--out", tmp_path / "out", "--tta", "flip")
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert f"{written['top1']:.2%}" in printed
    assert "1,000 images, 10 classes" in printed
    assert all(name in printed for name in NAMES)
    assert written["data"]["split"] == "test"
    assert written["tta"] == "flip"
    assert "libraries" in written["environment"]
    for name in ("confusion.png", "reliability.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            picture.verify()


def test_two_processes_count_no_image_twice(folder, tmp_path, capsys):
    SPLITS["test"].select(range(23)).to_parquet(tmp_path / "few.parquet")
    options = [folder, "--data", tmp_path / "few.parquet", "--split", "train", "--batch-size", 4]
    evaluate(*options, "--json")
    alone = json.loads(capsys.readouterr().out)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "hfvision", "evaluate", "classifier", *map(str, options), "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    together = json.loads(done.stdout)
    assert together["images"] == 23
    for name in ("nll", "ece"):
        assert together.pop(name) == pytest.approx(alone.pop(name), rel=1e-5)
    for name in ("speed", "reliability"):
        del together[name], alone[name]
    assert together == alone


def test_json_is_all_that_is_printed(folder, tmp_path, capsys):
    SPLITS["test"].select(range(10)).to_parquet(tmp_path / "few.parquet")
    evaluate(folder, "--data", tmp_path / "few.parquet", "--split", "train", "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == 10
    assert record["model"] == str(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda options: options | {"--split": "test"}, "no split 'test': choose --split train or validation"),
        (lambda options: options | {"--data": "nowhere/"}, "nowhere"),
        (lambda options: options | {"--out": "few.parquet"}, "is a file"),
        (lambda options: options | {"--out": "done"}, "use --force"),
        (lambda options: options | {"--data": "two.parquet"}, "knows 10 classes"),
    ],
)
def test_bad_input_ends_in_one_line(folder, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    few = datasets.DatasetDict(test=SPLITS["test"].select(range(30)))
    few["test"].to_parquet("few.parquet")
    two = few["test"].filter(lambda row: row["label"] < 2)
    two.cast_column("label", datasets.ClassLabel(names=NAMES[:2])).to_parquet("two.parquet")
    (tmp_path / "done").mkdir()
    (tmp_path / "done/evaluation.json").write_text('{"environment": {}}')
    options = change({"--data": "few.parquet", "--split": "train"})
    words = [word for pair in options.items() for word in pair]
    assert main(["evaluate", "classifier", str(folder), *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hfvision: error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert (tmp_path / "done/evaluation.json").read_text() == '{"environment": {}}'
