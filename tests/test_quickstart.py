import json

import pytest
from PIL import Image
from transformers import AutoModelForImageClassification, AutoModelForImageToImage

from hfvision.hub.loading import load_model
from hfvision.quickstart import run_quickstart


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "quickstart"
    return out, run_quickstart(out, seed=1, epochs=2, hardening_epochs=2, compression_epochs=1, steps=150)


def test_photographs_are_named_at_once(run):
    out, record = run
    answers = record["photographs"]["answers"]
    assert answers["coffee"]["label"] == "espresso"
    assert "cat" in answers["cat"]["label"]
    report = (out / "report.md").read_text()
    assert all(f"| {name} | {answer['label']} | {answer['score']:.1%} |" in report for name, answer in answers.items())


def test_both_models_learn(run):
    _, record = run
    assert record["classifier"]["accuracy"] > 0.7
    assert record["upscaler"]["gain_db"] > 0.2
    before, after = record["hardening"]["accuracy"].values()
    assert after["attacked"] > before["attacked"] + 0.15
    assert after["clean"] > 0.6
    assert record["classifier"]["history"][-1]["loss"] < record["classifier"]["history"][0]["loss"]


def test_models_load_and_the_record_is_written(run):
    out, record = run
    classifier = AutoModelForImageClassification.from_pretrained(out / "classifier")
    assert classifier.config.id2label[9] == "Ankle boot"
    upscaler = AutoModelForImageToImage.from_pretrained(out / "upscaler")
    assert upscaler.config.fused
    assert upscaler.num_parameters() == record["upscaler"]["parameters"]
    for name, row in record["compression"]["models"].items():
        folder = out / name.replace(", ", "-")
        model, _ = load_model(str(folder), "image-classification")
        assert row["top1"] > record["classifier"]["accuracy"] - 0.1
        if name == "pruned":
            assert model.num_parameters() == row["parameters"] < 0.19 * record["classifier"]["parameters"]
        assert f"| {name} | {row['top1']:.1%} |" in (out / "report.md").read_text()
    written = json.loads((out / "record.json").read_text())
    assert written["classifier"]["accuracy"] == record["classifier"]["accuracy"]
    assert written["environment"]["libraries"]["hfvision"]


def test_report_shows_the_recorded_figures_and_pictures_that_are_there(run):
    out, record = run
    report = (out / "report.md").read_text()
    assert f"{record['classifier']['accuracy']:.1%}" in report
    assert f"{record['upscaler']['psnr_y']['bicubic']:.2f} dB" in report
    for picture in (
        "predictions.png",
        "classifier/curve.png",
        "classifier/confusion_test.png",
        "attack.png",
        "upscaler.png",
    ):
        assert f"({picture})" in report
        with Image.open(out / picture) as image:
            assert len(set(image.convert("L").get_flattened_data())) > 50, f"{picture} shows next to nothing"
    with Image.open(out / "cat_x2.png") as image:
        assert image.size == (902, 600)


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        run_quickstart(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
