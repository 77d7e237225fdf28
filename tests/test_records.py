"""Records of models are typed, versioned, and read back as they were written."""

import json
import shutil
from pathlib import Path

import pytest

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor, list_checkpoints
from hfvision.cli.main import main
from hfvision.records import (
    ClassifierFigures,
    CompressionStep,
    Evaluation,
    ModelRecord,
    NewerRecordError,
    Training,
    TrainingData,
    UpscalerFigures,
    read_record,
    read_record_file,
    record_text,
    write_record,
)

FIGURES = {"images": 2, "top1": 0.5, "top1_interval": [0.1, 0.9], "nll": 0.7, "ece": 0.1, "tta": "none"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "cnn"
    CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3)).save_pretrained(folder)
    ImageClassificationProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "cnn"))


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("name", list_checkpoints())
def test_shipped_record_round_trip(name):
    path = list_checkpoints()[name] / "record.json"
    record, stored = read_record_file(path), json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(record_text(record)) == stored
    assert isinstance(record.evaluation, Evaluation)
    kind = UpscalerFigures if name.startswith("sr-") else ClassifierFigures
    assert record.evaluation.results
    assert all(type(figures) is kind for figures in record.evaluation.results.values())
    assert record.data_name
    assert not record.extra.keys() - {"record_version"}, "every part of a shipped record is typed"


def test_written_record_is_read_back_with_version_and_environment(tmp_path):
    step = CompressionStep(step="quantize", method="openvino", settings={"bits": 8, "max_drop": None})
    test = ClassifierFigures.from_json(FIGURES, "test")
    record = ModelRecord(parent="large", compression=[step], test=test, training=Training(seconds=1.5))
    write_record(tmp_path / "record.json", record)
    stored = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert stored["record_version"] == ModelRecord.version
    assert "torch" in stored["environment"]["libraries"]
    again = read_record(tmp_path)
    assert (again.parent, again.compression, again.test, again.training) == ("large", [step], test, record.training)
    write_record(tmp_path / "record.json", again)
    assert json.loads((tmp_path / "record.json").read_text(encoding="utf-8")) == stored


def test_figures_that_are_not_finite_are_null(tmp_path):
    figures = ClassifierFigures.from_json(FIGURES | {"nll": float("nan")}, "test")
    write_record(tmp_path / "record.json", ModelRecord(test=figures))
    read = read_record(tmp_path).test
    assert isinstance(read, ClassifierFigures)
    assert read.nll is None


def test_values_are_also_read_by_their_json_keys():
    record = read_record(list_checkpoints()["cnn-cifar10-small-int8"])
    assert record["about"]["licence"] == record.about.license == "apache-2.0"
    assert record["compression"][0]["step"] == record.compression[0].step
    assert "training" in record
    assert "robustness" not in record
    with pytest.raises(KeyError):
        record["robustness"]


def test_evaluations_beside_the_record_replace_those_in_it(tmp_path):
    write_json(tmp_path / "record.json", {"evaluation": {"results": {"none": FIGURES}, "data": "old"}})
    write_json(tmp_path / "evaluation.json", FIGURES | {"data": {"source": "new", "split": "test"}, "model": "x"})
    assert isinstance(read_record(tmp_path).evaluation, ClassifierFigures)
    assert isinstance(read_record(tmp_path, reports=False).evaluation, Evaluation)


def test_record_without_version_and_with_listed_photographs_is_read(tmp_path):
    old = {"command": "train", "data": ["CC0 photographs", "textures"], "photos": 739, "steps": 500, "seed": 3}
    write_json(tmp_path / "record.json", {"training": old | {"seconds": 60}})
    record = read_record(tmp_path)
    assert record.data == TrainingData(sources=["CC0 photographs", "textures"], photographs=739)
    assert record.data_name == "CC0 photographs; textures"
    assert (record.settings.steps, record.settings.seed) == (500, 3)


def test_folder_without_a_record_has_an_empty_one(tmp_path):
    assert read_record(tmp_path) == ModelRecord()


@pytest.mark.parametrize("file", ["record.json", "robustness.json"])
def test_record_of_a_later_version_asks_for_an_update(file, model, capsys):
    write_json(model / file, {"record_version": 99, "training": {"epochs": "many"}})
    with pytest.raises(NewerRecordError, match=rf"{file} is a record of version 99.*update hfvision"):
        read_record(model)
    assert main(["card", str(model), "--force"]) == 2
    assert "update hfvision" in capsys.readouterr().err


def test_classify_works_beside_a_record_of_a_later_version(model, capsys):
    write_json(model / "record.json", {"record_version": 99})
    photo = Path(__file__).parents[1] / "docs" / "images" / "upscaler.png"
    assert main(["classify", str(photo), "--model", str(model)]) == 0
    assert "update hfvision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"record_version": "x"}, "record_version must be a whole number"),
        ({"training": {"config": {"epochs": "x"}}}, r"training\.config\.epochs must be a whole number, got 'x'"),
        ({"training": {"history": [{"loss": "low"}]}}, r"training\.history\[0\]\.loss must be a number, got 'low'"),
        ({"compression": [{}]}, r"compression\[0\] must have a 'step'"),
        ({"test": FIGURES | {"top1_interval": [0.1]}}, r"test\.top1_interval must be a list of 2 values"),
        ({"about": {"data": [{"name": 5}]}}, r"about\.data\[0\]\.name must be text, got 5"),
    ],
)
def test_damaged_record_names_the_field(record, message, model, capsys):
    write_json(model / "record.json", record)
    with pytest.raises(ValueError, match=rf"record\.json: {message}"):
        read_record(model)
    assert main(["card", str(model), "--force"]) == 2
    assert "record.json" in capsys.readouterr().err


OLD_CARD = """---\nlibrary_name: transformers\n---

<!-- Written by `hfvision card` from record.json: change that, not this. -->

# cnn
"""
OLD_SHORT_CARD = """---\nlibrary_name: transformers\n---

# cnn

Class `CNNForImageClassification` of hfvision; its code travels with the weights. The
configuration spells out the width of every layer.
"""


@pytest.mark.parametrize(
    ("change", "generated"),
    [
        (lambda text: text, True),
        (lambda text: text + "\nIt was made for our garden.\n", False),
        (lambda text: OLD_CARD, True),
        (lambda text: OLD_SHORT_CARD, True),
        (lambda text: OLD_SHORT_CARD + "\nIt was made for our garden.\n", False),
        (lambda text: "# Mine\n", False),
    ],
)
def test_only_generated_cards_are_replaced_unasked(change, generated, model, capsys):
    card = model / "README.md"
    card.write_text(change(card.read_text(encoding="utf-8")), encoding="utf-8")
    assert (main(["card", str(model)]) == 0) is generated
    assert ("--force" in capsys.readouterr().err) is not generated
    if generated:
        assert "<!-- hfvision-card " in card.read_text(encoding="utf-8")
        assert main(["card", str(model)]) == 0, "its own card is replaced, too"
