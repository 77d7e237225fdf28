"""A segmenter is quantized, pruned, distilled and benchmarked by the same commands as other models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForSemanticSegmentation

from hfvision import CNNForSemanticSegmentation, CNNSegmentationConfig, ImageSegmentationProcessor
from hfvision.cli.main import main
from hfvision.hub.loading import load_model
from hfvision.tasks.distill import pixel_logits, soft_target_loss
from hfvision.tasks.segmentation.compression import measure_masks

TASK = "image-segmentation"
NAMES = ["background", "disc"]
CALIBRATE = ["--images", "12"]
TRAIN = ["--crop", "32", "--batch-size", "4", "--steps-per-epoch", "4", "--epochs", "1", "--mixed-precision", "no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A segmenter that has learned a little, and drawn discs of sides that no stride divides."""
    folder, rng = tmp_path_factory.mktemp("segmenter"), np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for number in range(count):
            mask = Image.new("L", (45, 37))
            x, y = rng.integers(8, 30, 2).tolist()
            ImageDraw.Draw(mask).ellipse((x - 7, y - 7, x + 7, y + 7), fill=255)
            pixels = np.asarray(mask)[..., None] * 0.6 + rng.normal(50, 15, (37, 45, 3))
            for part, picture in (("images", Image.fromarray(pixels.clip(0, 255).astype(np.uint8))), ("masks", mask)):
                (folder / "data" / split / part).mkdir(parents=True, exist_ok=True)
                picture.save(folder / "data" / split / part / f"{number}.png")
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}
    config = CNNSegmentationConfig(
        image_size=32, stage_widths=[[[8, 16]], [[32]], [[40]]], stage_strides=[1, 2, 2], **labels
    )
    CNNForSemanticSegmentation(config).save_pretrained(folder / "start")
    ImageSegmentationProcessor().save_pretrained(folder / "start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        command = ["train", "segmenter", "--data", str(folder / "data"), "--model", str(folder / "start")]
        options = ["--classes", *NAMES, "--learning-rate", "0.01", "--out", str(folder / "parent")]
        assert main([*command, *options, *TRAIN[:-3], "2", "--steps-per-epoch", "15", *TRAIN[-2:]]) == 0
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, folder):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))


def logits(model, pixels):
    with torch.inference_mode():
        return model(pixel_values=pixels).logits.float()


def test_int8_takes_any_size_and_is_benchmarked_beside_its_parent(folder, tmp_path, capsys):
    pytest.importorskip("nncf")
    parent, data, out = str(folder / "parent"), str(folder / "data"), tmp_path / "int8"
    assert main(["quantize", parent, "--calibration", data, *CALIBRATE, "--out", str(out)]) == 0
    (step,) = json.loads((out / "record.json").read_text())["compression"]
    assert step["validation"]["metric"] == "dice"
    assert step["validation"]["images"] == 4
    assert step["validation"]["agreement"] > 0.97
    assert step["validation"]["after"] == pytest.approx(step["validation"]["before"], abs=0.05)
    card = (out / "README.md").read_text()
    assert "Dice on 4 validation images" in card
    assert "of the pixels" in card
    float_model, _ = load_model(parent, TASK)
    model, _ = load_model(str(out), TASK)
    for sides in ((37, 45), (64, 64), (5, 70)):
        pixels = torch.rand(2, 3, *sides, generator=torch.Generator().manual_seed(1))
        expected, found = logits(float_model, pixels), logits(model, pixels)
        assert found.shape == expected.shape
        assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.9
    photo = str(next((folder / "data" / "test" / "images").iterdir()))
    assert main(["segment", photo, "--model", str(out), "--out", str(tmp_path / "masks")]) == 0
    assert Image.open(next((tmp_path / "masks").iterdir())).size == (45, 37)
    capsys.readouterr()
    command = ["benchmark", parent, str(out), "--data", data, "--engines", "eager", "openvino"]
    assert main([*command, "--batch", "1", "--rounds", "2", "--out", str(tmp_path / "report")]) == 0
    assert "Dice" in capsys.readouterr().out
    results = json.loads((tmp_path / "report" / "benchmark.json").read_text())["results"]
    eager, openvino, int8 = results.values()
    assert eager["agreement"] == openvino["agreement"] == 1
    assert eager["dice"] == openvino["dice"]
    assert (int8["engine"], int8["images"]) == ("int8", 4)
    assert main(["benchmark", parent, "cnn-cifar10", "--rounds", "1"]) == 2
    assert "different images or tasks" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["bf16", "onnx", "quanto"])
def test_other_forms(folder, tmp_path, method):
    pytest.importorskip({"bf16": "torch", "onnx": "onnxscript", "quanto": "optimum.quanto"}[method])
    assert main(["quantize", str(folder / "parent"), "--method", method, "--out", str(tmp_path / "small")]) == 0
    pixels = torch.rand(3, 3, 37, 45)
    expected = logits(load_model(str(folder / "parent"), TASK)[0], pixels)
    if method == "onnx":
        from onnxruntime import InferenceSession

        session = InferenceSession(tmp_path / "small" / "model.onnx")
        found = torch.from_numpy(session.run(None, {"pixel_values": pixels.numpy()})[0])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    else:
        model, _ = load_model(str(tmp_path / "small"), TASK)
        assert (logits(model, pixels.to(model.dtype)).argmax(1) == expected.argmax(1)).float().mean() > 0.95


def test_pruned_to_a_third_and_distilled(folder, tmp_path, capsys):
    parent, data, out = str(folder / "parent"), str(folder / "data"), tmp_path / "small"
    command = ["prune", parent, "--data", data, "--target-macs", "0.333", "--importance-images", "16"]
    assert main([*command, *TRAIN, "--learning-rate", "0.01", "--out", str(out)]) == 0
    assert "dice" in capsys.readouterr().out
    record = json.loads((out / "record.json").read_text())
    cut, trained = record["compression"]
    assert cut["macs"]["after"] <= 0.333 * cut["macs"]["before"]
    assert (trained["step"], trained["settings"]["teacher"]) == ("distill", "parent")
    assert trained["validation"]["metric"] == "dice"
    small = AutoModelForSemanticSegmentation.from_pretrained(out)
    assert small.num_parameters() == cut["parameters"]["after"]
    assert all(len(widths) == 2 for widths in small.config.decoder_widths)

    student = tmp_path / "student"
    command = ["distill", parent, str(out), "--data", data, *TRAIN, "--distillation", "features"]
    assert main([*command, "--out", str(student)]) == 0
    record = json.loads((student / "record.json").read_text())
    assert [step["step"] for step in record["compression"]] == ["prune", "distill", "distill"]
    load_model(str(student), TASK)
    assert main(["distill", parent, "cnn:unet", "--data", data, "--distillation-weight", "2", *TRAIN]) == 2
    assert "distillation_weight must be from 0 to 1, got 2" in capsys.readouterr().err


def test_only_counted_pixels_learn_from_the_teacher():
    student, teacher = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    counted = torch.zeros(1, 4, 4, dtype=torch.bool)
    counted[0, 1, 2] = True
    loss = soft_target_loss(pixel_logits(student, counted), pixel_logits(teacher, counted), 2.0)
    expected = soft_target_loss(student[:, :, 1, 2], teacher[:, :, 1, 2], 2.0)
    assert loss == expected
    assert pixel_logits(student[..., :2, :2], counted).shape == (1, 3)


def test_dice_of_right_masks_is_one():
    class Images:
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return torch.full((3, 5, 7), 100 * number, dtype=torch.uint8), torch.full((5, 7), number)

    def run(pixels):
        return torch.stack([50 - pixels[:, 0], pixels[:, 0] - 50], 1)

    masks, dice = measure_masks(run, Images(), lambda images: images.float(), NAMES)
    assert dice == 1
    assert [mask.unique().tolist() for mask in masks] == [[0], [1]]
