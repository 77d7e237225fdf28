"""The verbs as people use them: strings for paths, objects for models and data."""

import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hub_server import HubServer
from PIL import Image

import hfvision
from hfvision.hub.memory import load_once, model_folder

TESTS = Path(__file__).parent
SMALL = "cnn-cifar10-small"


def test_the_script_of_a_notebook_runs(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(TESTS / "notebook_script.py"))
    printed = capsys.readouterr().out
    assert "ClassifierFigures(top-1 " in printed
    assert "cat" in printed
    assert "(902, 600)" in printed
    assert "tester/clothes" in printed
    assert (tmp_path / "runs/clothes/start/config.json").is_file()
    assert "DatasetDict in memory" in (tmp_path / "runs/clothes/config.yaml").read_text()


def test_type_checkers_know_the_public_names():
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "-p", str(TESTS / "pyrightconfig.json")]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    report = json.loads(subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout)
    found = {
        (Path(each["file"]).name, each["range"]["start"]["line"])
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }
    lines = (TESTS / "typed_names.py").read_text().splitlines()
    assert found == {("typed_names.py", n) for n, line in enumerate(lines) if line.endswith("# expected")}


def test_an_image_is_a_path_bytes_a_pil_image_or_an_array(tmp_path: Path):
    path = hfvision.sample_photos()["cat"]
    image = Image.open(path)
    expected = hfvision.classify(path, SMALL)
    for given in (str(path), path.read_bytes(), image, np.asarray(image)):
        assert hfvision.classify(given, SMALL) == expected
    with pytest.raises(TypeError, match="got int"):
        hfvision.load_image(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float64"):
        hfvision.load_image(np.zeros((2, 2, 3)))
    with pytest.raises(ConnectionError, match="cannot be reached"):
        hfvision.load_image("http://127.0.0.1:9/cat.png")


def test_a_named_model_is_loaded_once_and_anew_when_its_folder_changes(tmp_path: Path):
    model, processor = hfvision.load_model(SMALL)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    first = load_once(tmp_path, "image-classification")
    assert load_once(str(tmp_path)).model is first.model
    with torch.no_grad():
        next(model.parameters()).zero_()
    model.save_pretrained(tmp_path)
    again = load_once(tmp_path)
    assert again.model is not first.model
    assert not next(again.model.parameters()).any()
    with pytest.raises(ValueError, match="does not do image-segmentation"):
        load_once(tmp_path, "image-segmentation")


def test_a_loaded_model_is_named_by_its_folder_unless_its_weights_have_changed():
    loaded = hfvision.load_model(SMALL)
    with model_folder(loaded) as name:
        assert name == SMALL
    with torch.no_grad():
        next(loaded.model.parameters()).zero_()
    with model_folder(loaded) as name:
        assert not next(hfvision.load_model(name).model.parameters()).any()
    assert not Path(name).exists()


def test_loaded_data_is_not_changed_and_streams_are_refused_where_rows_are_counted():
    clothes = hfvision.sample_dataset()["test"].select(range(100))
    data = datasets.DatasetDict(train=clothes, test=clothes)
    splits = hfvision.load_image_dataset(data, validation=0.2)
    assert set(splits) == {"train", "validation", "test"}
    assert set(data) == {"train", "test"}
    assert len(data["train"]) == 100
    with pytest.raises(TypeError, match="got int"):
        hfvision.load_image_dataset(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is a stream"):
        hfvision.load_mask_dataset(clothes.to_iterable_dataset())


def test_a_model_without_its_image_processor_says_what_to_give():
    model = hfvision.CNNForImageClassification(hfvision.CNNConfig.from_preset("tiny"))
    with pytest.raises(ValueError, match=r"give both, as \(model, processor\)"):
        hfvision.classify(hfvision.sample_photos()["cat"], model)
    with pytest.raises(TypeError, match="got int"):
        hfvision.classify(hfvision.sample_photos()["cat"], 3)  # type: ignore[arg-type]
