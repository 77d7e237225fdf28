"""Training a classifier from the command line or Python: a folder of images in, a model for `pipeline` out."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, pipeline

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor
from hfvision.cli.main import main
from hfvision.hub.checkpoints import checkpoint
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.train import train_classifier

QUICK = ["--model", "cnn:tiny", "--epochs", "3", "--batch-size", "8", "--learning-rate", "0.01", "--augment", "none"]


def write_images(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Class folders of 32×32 images: noise on a colour of the class."""
    random = np.random.default_rng(seed)
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            colour = np.zeros(3)
            colour[number] = 150
            pixels = random.integers(0, 100, (32, 32, 3)) + colour
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos"), {"red": 20, "green": 20, "blue": 20})


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "colours"
    assert main(["train", "classifier", "--data", str(photos), "--out", str(out), *QUICK]) == 0
    return out


def test_one_command_makes_a_model_for_the_pipeline(trained, photos):
    classify = pipeline("image-classification", model=str(trained), trust_remote_code=True)
    for name in ("red", "green", "blue"):
        assert classify(str(photos / name / "0.png"))[0]["label"] == name


def test_what_it_writes_says_how_it_was_made(trained, photos):
    record = json.loads((trained / "record.json").read_text())
    command = record["training"]["command"]
    assert command.startswith("hfvision train classifier --output-dir ")
    assert f"--epochs 3 --batch-size 8 --learning-rate 0.01 --data {photos} --model cnn:tiny --augment none" in command
    assert record["training"]["data"]["classes"] == ["blue", "green", "red"]
    assert record["training"]["data"]["images"] == 54
    assert record["validation"]["images"] == 6
    assert record["validation"]["top1"] > 0.8
    history = json.loads((trained / "metrics.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert history == record["training"]["history"]
    assert yaml.safe_load((trained / "config.yaml").read_text())["learning_rate"] == 0.01
    assert f"# {trained.name}\n" in (trained / "README.md").read_text()
    for picture in ("curve.png", "confusion_validation.png"):
        with Image.open(trained / picture) as image:
            assert min(image.size) > 200


def test_the_saved_configuration_trains_the_same_model_again(trained, tmp_path):
    arguments = ["--config", str(trained / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(["train", "classifier", *arguments]) == 0
    first, again = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_finished_training_is_not_overwritten(trained, photos, capsys):
    before = (trained / "model.safetensors").read_bytes()
    assert main(["train", "classifier", "--data", str(photos), "--out", str(trained), *QUICK]) == 2
    assert (
        "holds a training already: resume it with --resume, or choose another --output-dir" in capsys.readouterr().err
    )
    assert (trained / "model.safetensors").read_bytes() == before


def test_held_in_memory_or_read_from_disk_the_training_is_the_same(photos, trained, tmp_path):
    arguments = ["--data", str(photos), "--out", str(tmp_path), *QUICK, "--memory-limit", "0"]
    assert main(["train", "classifier", *arguments]) == 0
    memory, disk = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    assert all(torch.equal(memory[name], disk[name]) for name in memory)


def test_a_stream_trains_too(photos, tmp_path):
    config = ClassifierTrainingConfig(
        data=str(photos),
        out=tmp_path,
        streaming=True,
        steps_per_epoch=6,
        model="cnn:tiny",
        epochs=3,
        batch_size=8,
        learning_rate=0.01,
        augment="none",
    )
    assert train_classifier(config)["validation"]["top1"] > 0.8


@pytest.mark.parametrize(("dora", "keep"), [(False, "best"), (True, "best"), (False, "last")])
def test_low_rank_adapters_are_saved_apart_and_merged(trained, photos, tmp_path, dora, keep):
    config = ClassifierTrainingConfig(
        data=str(photos),
        out=tmp_path,
        model=str(trained),
        lora_rank=2,
        dora=dora,
        epochs=2,
        batch_size=8,
        learning_rate=0.01,
        augment="none",
        ema=0.5,
        keep=keep,
    )
    assert train_classifier(config)["validation"]["top1"] > 0.8
    merged = AutoModelForImageClassification.from_pretrained(tmp_path)
    base = AutoModelForImageClassification.from_pretrained(trained)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        start = base(images).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(images).logits
        assert torch.allclose(merged(images).logits, adapted, atol=1e-4)
        assert not torch.allclose(start, adapted, atol=1e-2)
    adapter = sum(tensor.numel() for tensor in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values())
    assert adapter < 0.2 * merged.num_parameters()


def test_a_linear_probe_leaves_the_backbone_as_it_was(trained, photos, tmp_path):
    config = ClassifierTrainingConfig(
        data=str(photos), out=tmp_path, model=str(trained), freeze="backbone", epochs=1, batch_size=8, augment="none"
    )
    train_classifier(config)
    before, after = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_a_pretrained_model_gets_a_new_head_and_a_random_start_is_said_to_need_more_images(photos, tmp_path, capsys):
    common = ["train", "classifier", "--data", str(photos), "--image-size", "32", "--epochs", "1"]
    pretrained = ["--model", "imagenet-lite0", "--freeze", "backbone", "--out", str(tmp_path / "pretrained")]
    assert main([*common, *pretrained]) == 0
    assert "random weights" not in capsys.readouterr().err
    shipped, made = (
        load_file(Path(folder) / "model.safetensors")
        for folder in (checkpoint("imagenet-lite0"), tmp_path / "pretrained")
    )
    assert made["classifier.weight"].shape[0] == 3
    for name in made.keys() - {"classifier.weight", "classifier.bias"}:
        assert torch.equal(made[name], shipped[name].to(made[name].dtype)), name
    assert main([*common, "--model", "cnn:tiny", "--out", str(tmp_path / "random")]) == 0
    error = capsys.readouterr().err
    assert "cnn:tiny starts with random weights, which usually need at least 500 images per class" in error
    assert "there are 54 for 3 classes. To fine-tune a pretrained model: --model imagenet-lite0" in error


@pytest.mark.parametrize(
    ("kind", "fields"), [("soft", "{distillation_token: true}"), ("hard", None), ("features", None)]
)
def test_a_vit_learns_from_a_cnn(trained, photos, tmp_path, kind, fields):
    config = ClassifierTrainingConfig(
        data=str(photos),
        out=tmp_path,
        model="vit:cifar",
        model_fields=fields,
        teacher=str(trained),
        distillation=kind,
        distillation_weight=0.9,
        epochs=4,
        batch_size=8,
        learning_rate=2e-3,
        augment="none",
        optimizer="nmuon",
    )
    assert train_classifier(config)["validation"]["top1"] > 0.6
    names = list(load_file(tmp_path / "model.safetensors"))
    assert not any(name.startswith("distillation_projections") for name in names)
    assert any(name.startswith("distillation_classifier") for name in names) == (fields is not None)


def test_mixup_whitening_layer_decay_and_balance_go_together(photos, tmp_path):
    config = ClassifierTrainingConfig(
        data=str(photos),
        out=tmp_path,
        model="cnn:cifar",
        whiten=True,
        mixup=0.2,
        layer_decay=0.8,
        balance="sampling",
        augment="strong",
        epochs=1,
        batch_size=16,
        tta="flip_shift",
    )
    record = train_classifier(config)
    assert record["validation"]["tta"] == "flip_shift"
    stem = AutoModelForImageClassification.from_pretrained(tmp_path).cnn.encoder.stem[0].convolution.weight
    assert torch.equal(stem[:12], -stem[12:])


def test_rare_classes_count_more_where_asked(tmp_path):
    data = write_images(tmp_path / "data", {"common": 40, "rare": 4})
    common = {"data": str(data), "model": "cnn:tiny", "epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    recalls = []
    for balance in ("none", "weights", "sampling"):
        config = ClassifierTrainingConfig(**common, augment="none", balance=balance, out=tmp_path / balance)
        recalls.append(train_classifier(config)["training"]["history"][0]["loss"])
    assert len(set(recalls)) == 3


def test_an_image_that_cannot_be_read_stops_or_is_left_out(tmp_path, capsys):
    data = write_images(tmp_path / "data", {"red": 12, "green": 12})
    (data / "red" / "5.png").write_bytes((data / "red" / "5.png").read_bytes()[:200])
    arguments = ["train", "classifier", "--data", str(data), "--validation", "0", *QUICK]
    assert main([*arguments, "--out", str(tmp_path / "stop")]) == 2
    error = capsys.readouterr().err
    assert "5.png" in error
    assert "cannot be read" in error
    assert main([*arguments, "--out", str(tmp_path / "skip"), "--bad-images", "skip"]) == 0
    assert "left out: " in capsys.readouterr().err
    record = json.loads((tmp_path / "skip" / "record.json").read_text())
    assert record["training"]["data"] == record["training"]["data"] | {"images": 23, "unreadable": 1}


def test_a_full_disk_ends_in_one_line_and_keeps_the_model(photos, trained, tmp_path, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        code = main(["train", "classifier", "--data", str(photos), "--out", str(tmp_path / "full"), *QUICK])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("hfvision: error: ")
    assert not list((tmp_path / "full").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "data must name the images to train on"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--data", "fashion_mnist", "--epoch", "3"], "unknown option --epoch: did you mean --epochs?"),
        (["--data", "fashion_mnist", "--augment", "wild"], "--augment: invalid choice 'wild'"),
        (["--data", "fashion_mnist", "--model", "cnn:huge"], "There is no preset 'cnn:huge'"),
        (["--data", "fashion_mnist", "--dora"], "dora needs lora_rank"),
        (["--data", "fashion_mnist", "--model-fields", "wide"], "model_fields must be a mapping"),
        (["--data", "fashion_mnist", "--model-fields", "{depth: 3}"], "has no field 'depth'"),
        (["--data", "fashion_mnist", "--teacher", "no/such-model"], "no/such-model"),
        (["--data", "fashion_mnist", "--model", "cnn:tiny", "--whiten"], "whiten needs a CNN whose stem"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, tmp_path, capsys):
    assert main(["train", "classifier", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hfvision: error: ")
    assert message in error


def test_a_configuration_with_an_unknown_key_is_refused(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("data: fashion_mnist\nlearning_rat: 0.1\n")
    assert main(["train", "classifier", "--config", str(tmp_path / "config.yaml")]) == 2
    assert "unknown options: learning_rat: did you mean learning_rate?" in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused(photos, tmp_path, capsys):
    teacher = tmp_path / "teacher"
    CNNForImageClassification(CNNConfig(num_labels=7)).save_pretrained(teacher)
    ImageClassificationProcessor().save_pretrained(teacher)
    arguments = ["--data", str(photos), "--out", str(tmp_path / "out"), "--teacher", str(teacher), *QUICK]
    assert main(["train", "classifier", *arguments]) == 2
    assert "cannot be the teacher. The model knows 7 classes" in capsys.readouterr().err
