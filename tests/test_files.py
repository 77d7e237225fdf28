"""No command removes or replaces what hfvision did not make, and an --out that cannot be written is noticed first."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
)
from hfvision.cli.main import main
from hfvision.records import write_record


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with an untrained `classifier` and an untrained ×2 `upscaler`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=2)).save_pretrained(folder / "classifier")
    ImageClassificationProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "classifier")
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    SRGANForImageSuperResolution(config).save_pretrained(folder / "upscaler")
    SRGANImageProcessor().save_pretrained(folder / "upscaler")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A labelled set of two classes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(6):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def commands(models: Path, images: Path) -> dict[str, list[str]]:
    """Every command that writes to a folder `--out`, without that option."""
    classifier, upscaler, data = (str(path) for path in (models / "classifier", models / "upscaler", images))
    photo = str(images / "cat" / "0.png")
    train = ["--data", data, "--epochs", "1", "--batch-size", "4"]
    return {
        "quantize": ["quantize", classifier, "--method", "bf16"],
        "prune": ["prune", classifier, "--data", data, "--target-params", "0.9", "--finetune", "false"],
        "distill": ["distill", classifier, "cnn:tiny", *train],
        "calibrate": ["calibrate", classifier, "--data", data],
        "blend": ["blend", upscaler, upscaler],
        "train classifier": ["train", "classifier", "--model", "cnn:tiny", *train],
        "train superres": ["train", "superres", "--model", "fast-tiny", *train, "--scale", "2", "--crop", "8"],
        "train segmenter": ["train", "segmenter", *train],
        "evaluate classifier": ["evaluate", "classifier", classifier, "--data", data],
        "evaluate binary": ["evaluate", "binary", classifier, "--data", data, "--positive", "cat"],
        "evaluate robustness": ["evaluate", "robustness", classifier, "--data", data],
        "evaluate superres": ["evaluate", "superres", upscaler, "--data", data],
        "evaluate segmenter": ["evaluate", "segmenter", classifier, "--data", data],
        "benchmark": ["benchmark", classifier, "--data", data],
        "quickstart": ["quickstart"],
        "video summarize": ["video", "summarize", photo],
        "upscale": ["upscale", photo, data, "--model", upscaler],
        "segment": ["segment", photo, data, "--model", classifier],
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused in one line, which it gives."""

    def run(words: list[str]) -> str:
        assert main([str(word) for word in words]) == 2, words
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("hfvision: error: ")
        assert not any("Traceback" in line for line in lines)
        return lines[-1]

    return run


def test_an_out_that_cannot_be_written_is_noticed_before_the_first_step(
    models, images, tmp_path, refused, monkeypatch
):
    def never(*args, **kwargs):
        raise AssertionError("a step was taken")

    (tmp_path / "file").write_text("")
    for name, words in commands(models, images).items():
        assert "file" in refused([*words, "--out", tmp_path / "file" / "below"]), name
    monkeypatch.setattr(torch.nn.Module, "__call__", never)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # as a disk that is almost full
    try:
        for name, words in commands(models, images).items():
            assert "Nothing can be written to" in refused([*words, "--out", tmp_path / "full"]), name
        graph = ["info", models / "classifier", "--graph", tmp_path / "graph.svg"]
        assert "disk is full" in refused(graph)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if Path("/proc/self").exists():
        for name in ("quantize", "train classifier", "upscale"):
            assert "Nothing can be written to" in refused([*commands(models, images)[name], "--out", "/proc/out"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_command_touches_a_training_or_files_of_somebody(models, images, tmp_path, refused):
    training, own, foreign = (tmp_path / name for name in ("training", "own", "foreign"))
    (training / "checkpoints" / "step-00000010").mkdir(parents=True)
    (training / "checkpoints" / "step-00000010" / "state.json").write_text("{}")
    (training / "checkpoints" / "step-00000010" / "model.safetensors").write_bytes(b"weights")
    own.mkdir()
    for name in ("README.md", "report.md", "confusion.png", "roc.png", "superres_x2.png", "benchmark.png"):
        (own / name).write_text("mine")
    for name in ("timeline.png", "attack.png", "masks.png"):
        (own / name).write_text("mine")
    foreign.mkdir()
    (foreign / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    (foreign / "model.safetensors").write_bytes(b"weights")
    before = contents(tmp_path)
    models_made = ("quantize", "prune", "distill", "calibrate", "blend", "train classifier", "train superres")
    forced = ("quantize", "calibrate", "blend", "quickstart", "video summarize", "benchmark")
    for name, words in commands(models, images).items():
        force = ["--force"] if name in forced or name.startswith("evaluate") else []
        places = [own] if name not in ("upscale", "segment") else []
        places += [foreign, training] if name in models_made else []
        for place in places:
            refused([*words, "--out", place, *force])
    assert contents(tmp_path) == before
    (tmp_path / "runs" / "classifier" / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert "not of a quickstart" in refused(["quickstart", "--out", tmp_path / "runs", "--force"])
    assert (tmp_path / "runs" / "classifier" / "checkpoints" / "step-00000001").is_dir()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "record.json").write_text(json.dumps({"command": "hfvision quickstart --seed 0"}))
    assert "use --force to replace it" in refused(["quickstart", "--out", tmp_path / "again"])
    graph = ["info", models / "classifier", "--graph", own / "README.md"]
    assert "exists already" in refused(graph)
    assert main([*map(str, graph), "--force"]) == 0
    assert "mermaid" in (own / "README.md").read_text()


def test_a_model_is_replaced_by_force_and_files_beside_it_stay(models, tmp_path, refused):
    out = tmp_path / "small"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "sub").mkdir()
    (out / "sub" / "photo.png").write_bytes(b"mine")
    write_record(out / "evaluation.json", {})
    quantize = ["quantize", str(models / "upscaler"), "--method", "bf16", "--out", str(out)]
    assert main(quantize) == 0
    first = contents(out)
    assert first["notes.txt"] == first["sub/photo.png"] == b"mine"
    assert "evaluation.json" in first, "there was no model that it could be of"
    assert "use --force" in refused(quantize)
    assert main([*quantize, "--force"]) == 0
    again = contents(out)
    assert again.keys() == first.keys() - {"evaluation.json"}
    assert again["model.safetensors"] == first["model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    for name in ("openvino_model.bin", "openvino_model.xml", "quanto_qmap.json", "model-00001-of-00002.safetensors"):
        (out / name).write_bytes(b"of the model before")
    write_record(out / "evaluation.json", {})
    (out / "robustness.json").write_text('{"mine": 1}')
    assert main(["blend", str(models / "upscaler"), str(models / "upscaler"), "--out", str(out), "--force"]) == 0
    model = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    left = {path.name for path in out.iterdir() if path.suffix != ".py"}
    assert left == model | {"notes.txt", "sub", "robustness.json"}
    train = ["train", "superres", "--data", str(tmp_path), "--scale", "2", "--out", str(out)]
    assert "holds a model already: use --resume" in refused(train)


def test_a_report_is_recognized_by_its_record(models, images, tmp_path, refused):
    (tmp_path / "evaluation.json").write_text('{"mine": 1}')
    words = ["evaluate", "classifier", models / "classifier", "--data", images, "--out", tmp_path]
    assert "is not of a report by hfvision" in refused([*words, "--force"])
    write_record(tmp_path / "evaluation.json", {})
    assert "use --force to replace the report" in refused(words)


def test_results_are_whole_after_a_full_disk(models, tmp_path, capsys):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (400, 500, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_100_000, limits[1]))
    try:
        words = ["upscale", str(tmp_path), "--model", str(models / "upscaler"), "--out", str(tmp_path / "out")]
        code = main([*words, "--dtype", "fp32"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code in (1, 2)
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("hfvision: error: ")
    assert [path for path in (tmp_path / "out").iterdir() if path.suffix != ".jsonl"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 50_000, "is nested deeper than 20 levels"),
        ("- " * 5_000, "is nested deeper than 20 levels"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "has the alias *a"),
        ("- data", "must hold options"),
        ("5", "must hold options"),
        ("", "must hold options"),
        ("seed: 2024-13-45", "month must be in 1..12"),
        ("seed: " + "1" * 6000, "cannot be read"),
        ("{[a]: b}", "is not YAML"),
        ("a: \0", "is not YAML"),
        ("epochs: {a: 1}", "expected an integer"),
        ("# " + "x" * 200_000, "bytes: at most 100,000 are read"),
    ],
)
def test_yaml_from_outside_is_refused_in_a_sentence(tmp_path, refused, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert message in refused(["train", "classifier", "--config", path])


def test_yaml_options_are_refused_in_a_sentence(tmp_path, refused):
    for text, message in (("[" * 5_000, "nested deeper"), ("{a: &x 1, b: *x}", "alias"), ("{a", "is not YAML")):
        words = ["train", "classifier", "--data", "fashion_mnist", "--model-fields", text, "--out", tmp_path / "out"]
        assert message in refused(words)
