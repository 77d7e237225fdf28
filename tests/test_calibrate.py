"""Temperature scaling, and two-class evaluation, of a model whose true probabilities are known."""

import io
import json

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image
from transformers import AutoModelForImageClassification

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.cli.main import main
from hfvision.data.transforms.normalize import Normalize
from hfvision.metrics.calibration import fit_temperature, negative_log_likelihood
from hfvision.tasks.classification.calibrate import calibrate, scale_logits

TRUE, SURE = 8.0, 40.0  # log odds of "ill" a unit of brightness, and what the model takes them for
PROCESSOR = ImageClassificationProcessor(
    size={"height": 8, "width": 8}, num_channels=1, image_mean=[0.0], image_std=[1.0]
)
NORMALIZE = Normalize((0.0,), (1.0,))


def write_images(folder, split: str, count: int, seed: int) -> None:
    """Images of one grey level; brighter ones are likelier ill; three images a patient."""
    generator = torch.Generator().manual_seed(seed)
    bright = torch.rand(count, generator=generator)
    ill = torch.rand(count, generator=generator) < torch.sigmoid(TRUE * (bright - 0.5))
    rows = []
    for number in range(count):
        file = io.BytesIO()
        Image.new("L", (8, 8), round(255 * bright[number].item())).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    names = ClassLabel(names=["ill", "well"])
    features = Features({"image": datasets.Image(), "label": names, "patient": Value("string")})
    columns = {"image": rows, "label": (~ill).long().tolist()}
    columns["patient"] = [f"{split} {number // 3}" for number in range(count)]
    Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xrays")
    write_images(folder, "train", 3000, 0)
    write_images(folder, "test", 1500, 1)
    return folder


@pytest.fixture
def model(tmp_path):
    """A network of the right order and far too sure, whose classes are not in the order of the data's."""
    config = CNNConfig(
        num_channels=1, image_size=8, stage_widths=[[[1]]], stage_strides=[1], norm="none", num_labels=2
    )
    config.id2label, config.label2id = {0: "well", 1: "ill"}, {"well": 0, "ill": 1}
    net = CNNForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
            if parameter.ndim == 4:
                parameter[:, :, 1, 1] = 1
        net.classifier.weight.copy_(torch.tensor([[-SURE / 2], [SURE / 2]]))
        net.classifier.bias.copy_(torch.tensor([SURE / 4, -SURE / 4]))
    folder = tmp_path / "sure"
    net.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    record = {"training": {"config": {"validation": 0.3, "validation_group": "patient", "seed": 4}}}
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def test_temperature_undoes_a_factor():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5000, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    best = fit_temperature(logits, labels)
    assert best == pytest.approx(1, abs=0.05)
    assert fit_temperature(5 * logits, labels) == pytest.approx(5 * best)
    likelihood = [negative_log_likelihood(logits / (best * change), labels) for change in (0.99, 1, 1.01)]
    assert min(likelihood) == likelihood[1]


def test_no_temperature_is_best():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="All 2 predictions are right"):
        fit_temperature(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="nothing of the labels"):
        fit_temperature(logits, torch.tensor([1, 0]))


def test_calibrated_model_is_as_sure_as_it_is_right(data, model, tmp_path):
    out = tmp_path / "calibrated"
    record = calibrate(str(model), str(data), out)
    found = record["calibration"]
    assert found["temperature"] == pytest.approx(SURE / TRUE, rel=0.15)
    assert found["before"]["ece"] > 0.1
    assert found["after"]["ece"] < 0.04
    assert found["after"]["nll"] < found["before"]["nll"]
    assert found["measured_on"] == "test"
    assert record["training"]["config"]["seed"] == 4
    pixels = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        before, after = (
            AutoModelForImageClassification.from_pretrained(folder)(pixel_values=pixels).logits
            for folder in (model, out)
        )
    assert torch.allclose(after * found["temperature"], before, atol=1e-4)
    assert (out / "reliability.png").is_file()
    assert json.loads((out / "record.json").read_text())["calibration"] == found.to_json()
    with pytest.raises(ValueError, match="holds a model already"):
        calibrate(str(model), str(data), out)


def test_without_a_test_split_one_half_measures(data, model, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "train.parquet").write_bytes((data / "train.parquet").read_bytes())
    found = calibrate(str(model), str(tmp_path / "one"), tmp_path / "out")["calibration"]
    assert found["measured_on"] == "the other half of validation"
    assert 400 < found["images"] < 500
    assert found["after"]["ece"] < found["before"]["ece"]


def test_both_heads_of_a_distilled_transformer_are_scaled():
    torch.manual_seed(0)
    config = VisionTransformerConfig.from_preset("cifar", num_labels=3, distillation_token=True)
    net = VisionTransformerForImageClassification(config).eval()
    image = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    normalize = Normalize((0.5,) * 3, (0.5,) * 3)
    with torch.no_grad():
        before = net(pixel_values=normalize(image[None])).logits
        scale_logits(net, 0.25, image, normalize)
        assert torch.allclose(net(pixel_values=normalize(image[None])).logits, before / 4, atol=1e-6)


def test_logits_that_no_linear_layer_gives_are_refused(model):
    net = AutoModelForImageClassification.from_pretrained(model)
    net.classifier = torch.nn.Sequential(net.classifier, torch.nn.Tanh())
    weights = net.classifier[0].weight.clone()
    with pytest.raises(ValueError, match="not scaled"):
        scale_logits(net, 0.2, torch.full((1, 8, 8), 200, dtype=torch.uint8), NORMALIZE)
    assert torch.equal(net.classifier[0].weight, weights)


def test_commands(data, model, tmp_path, capsys):
    out = tmp_path / "calibrated"
    assert main(["calibrate", str(model), "--data", str(data), "--out", str(out)]) == 0
    assert "temperature" in capsys.readouterr().out
    report = tmp_path / "report"
    words = ["evaluate", "binary", str(out), "--data", str(data), "--positive", "ill", "--out", str(report)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "1,500 images of 500 groups" in printed
    record = json.loads((report / "binary.json").read_text())
    point = record["operating_point"]
    assert record["auroc"] == pytest.approx(0.9085, abs=0.02)  # the integral over all pairs of brightnesses
    assert record["auroc_interval"][0] < record["auroc"] < record["auroc_interval"][1]
    assert point["threshold"] == pytest.approx(0.5, abs=0.12)
    assert point["sensitivity_interval"][0] < point["sensitivity"] < point["sensitivity_interval"][1]
    assert "validation images" in point["chosen"]
    assert record["ece"] < 0.04
    at = record["abstention"]["at"]
    assert at["80%"] < at["100%"] == pytest.approx(1 - point["accuracy"])
    for name in ("roc", "abstention", "reliability"):
        assert Image.open(report / f"{name}.png").width > 300
    assert main([*words, "--force", "--threshold", "0.9"]) == 0
    strict = json.loads((report / "binary.json").read_text())["operating_point"]
    assert strict["specificity"] > point["specificity"]
    assert strict["threshold"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--positive", "cat"], "no class 'cat': choose 'ill' or 'well'"),
        (["--positive", "ill", "--threshold", "1.5"], "above 0 and below 1, got 1.5"),
        (["--positive", "ill", "--split", "validation"], "say --threshold"),
        (["--positive", "ill", "--validation-group", "ward"], "no column 'ward'"),
    ],
)
def test_what_cannot_be_evaluated_is_said(data, model, capsys, words, message):
    assert main(["evaluate", "binary", str(model), "--data", str(data), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_three_classes_are_refused(tmp_path, capsys):
    CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=10, num_channels=1)).save_pretrained(tmp_path)
    PROCESSOR.save_pretrained(tmp_path)
    assert main(["evaluate", "binary", str(tmp_path), "--data", "fashion_mnist", "--positive", "Coat"]) == 2
    assert "this evaluation is for two" in capsys.readouterr().err
