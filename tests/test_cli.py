"""The command line: what comes out, and that bad input ends in one line and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution, Swin2SRImageProcessor

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    sample_photos,
)
from hfvision.cli.main import main


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with an untrained `classifier` and an untrained ×2 `upscaler`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "ship"}, "label2id": {"cat": 0, "dog": 1, "ship": 2}}
    CNNForImageClassification(CNNConfig.from_preset("tiny", **labels)).save_pretrained(folder / "classifier")
    ImageClassificationProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "classifier")
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    SRGANForImageSuperResolution(config).save_pretrained(folder / "upscaler")
    SRGANImageProcessor().save_pretrained(folder / "upscaler")
    return folder


def copy_of(model: Path, tmp_path: Path) -> Path:
    target = tmp_path / "model"
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail: checks the exit code and gives the one line that was said."""

    def run(*argv) -> str:
        assert main([str(arg) for arg in argv]) == 2
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("hfvision: error: ")]
        assert len(lines) == 1, error
        assert "Traceback" not in error
        return lines[0]

    return run


def photo(path: Path, mode: str = "RGB", size=(20, 14), **options) -> Path:
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(array, mode).save(path, **options)
    return path


def test_classify_prints_labels_for_files_and_folders(models, tmp_path, capsys):
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.jpg")
    assert main(["classify", str(tmp_path), "--model", str(models / "classifier"), "--top", "2", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [Path(entry["image"]).name for entry in results] == ["a.png", "b.jpg"]
    assert all(len(entry["scores"]) == 2 for entry in results)
    assert main(["classify", str(tmp_path / "a.png"), "--model", str(models / "classifier")]) == 0
    printed = capsys.readouterr().out
    assert "a.png" in printed
    assert all(name in printed for name in ("cat", "dog", "ship"))


def test_upscale_a_file_and_a_folder(models, tmp_path):
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    photo(source / "a.png", "RGBA", (7, 5))
    photo(source / "sub" / "a.jpg", "L", (9, 4))
    out = tmp_path / "out"
    assert main(["upscale", str(source), "--model", str(models / "upscaler"), "--out", str(out)]) == 0
    with Image.open(out / "a_x2.png") as image:
        assert (image.mode, image.size) == ("RGBA", (14, 10))
    with Image.open(out / "sub" / "a_x2.png") as image:
        assert (image.mode, image.size) == ("L", (18, 8))
    target = tmp_path / "large.webp"
    assert main(["upscale", str(source / "a.png"), "--model", str(models / "upscaler"), "--out", str(target)]) == 0
    with Image.open(target) as image:
        assert image.size == (14, 10)


def test_upscale_overwrites_nothing_unless_told(models, tmp_path, fails):
    source = photo(tmp_path / "a.png")
    target = tmp_path / "a_x2.png"
    target.write_bytes(b"mine")
    command = ["upscale", source, "--model", models / "upscaler"]
    assert "--force" in fails(*command)
    assert target.read_bytes() == b"mine"
    before = source.read_bytes()
    assert "choose another" in fails(*command, "--out", source, "--force")
    assert source.read_bytes() == before
    assert main([str(arg) for arg in [*command, "--force"]]) == 0
    with Image.open(target) as image:
        assert image.size == (40, 28)


def test_results_have_the_usual_permissions(models, tmp_path):
    source = photo(tmp_path / "a.png")
    assert main(["upscale", str(source), "--model", str(models / "upscaler")]) == 0
    assert (tmp_path / "a_x2.png").stat().st_mode == source.stat().st_mode


def test_upscaler_of_another_library_is_refused(tmp_path, fails):
    config = Swin2SRConfig(image_size=16, embed_dim=8, depths=[1], num_heads=[1], window_size=4)
    Swin2SRForImageSuperResolution(config).save_pretrained(tmp_path / "model")
    Swin2SRImageProcessor().save_pretrained(tmp_path / "model")
    message = fails("upscale", photo(tmp_path / "a.png"), "--model", tmp_path / "model")
    assert "'swin2sr'" in message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"these are words", "is not an image"),
        ("cut.png", None, "damaged or cut off"),
    ],
)
def test_broken_images_are_named(models, tmp_path, fails, name, content, said):
    path = tmp_path / name
    if content is None:
        photo(path, size=(80, 80))
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.write_bytes(content)
    for command, model in (("classify", "classifier"), ("upscale", "upscaler")):
        message = fails(command, path, "--model", models / model)
        assert name in message
        assert said in message
    assert list(tmp_path.iterdir()) == [path], "nothing half-written is left"


def test_decompression_bomb_is_refused_unread(models, tmp_path, fails):
    Image.new("1", (40_000, 30_000)).save(tmp_path / "bomb.png")
    assert "at most" in fails("upscale", tmp_path / "bomb.png", "--model", models / "upscaler")


def test_missing_files_and_empty_folders(models, tmp_path, fails):
    assert "There is no file" in fails("classify", tmp_path / "no.png", "--model", models / "classifier")
    assert "holds no images of formats" in fails("classify", tmp_path, "--model", models / "classifier")


@pytest.mark.parametrize("model", ["./nowhere", "no-such-checkpoint", "/tmp"])
def test_models_that_are_not_there(model, tmp_path, fails):
    assert "model" in fails("classify", photo(tmp_path / "a.png"), "--model", model)


def test_hub_id_that_is_not_on_the_hub(tmp_path, fails, hub):
    assert "nobody/nothing" in fails("classify", photo(tmp_path / "a.png"), "--model", "nobody/nothing")


def test_model_of_another_family(models, tmp_path, fails):
    image = photo(tmp_path / "a.png")
    assert "does not do image-classification" in fails("classify", image, "--model", models / "upscaler")
    assert "does not do image-super-resolution" in fails("upscale", image, "--model", models / "classifier")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64])
def test_corrupt_weights(models, tmp_path, fails, content):
    model = copy_of(models / "classifier", tmp_path)
    (model / "model.safetensors").write_bytes(content)
    message = fails("classify", photo(tmp_path / "a.png"), "--model", model)
    assert "weights" in message
    assert str(model) in message


def test_weights_cut_off(models, tmp_path, fails):
    model = copy_of(models / "classifier", tmp_path)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "weights" in fails("classify", photo(tmp_path / "a.png"), "--model", model)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_channels", "three", "num_channels"),
        ("stage_strides", [2], "stage_strides"),
        ("model_type", "no-such-family", "--trust-remote-code"),
        ("stage_widths", [[[32]], [[64]], [[100]]], "weights"),
    ],
)
def test_configs_that_are_wrong(models, tmp_path, fails, field, value, said):
    model = copy_of(models / "classifier", tmp_path)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {field: value}))
    assert said in fails("classify", photo(tmp_path / "a.png"), "--model", model)


def test_config_that_is_no_json(models, tmp_path, fails):
    model = copy_of(models / "classifier", tmp_path)
    (model / "config.json").write_text("{")
    assert "config.json is not valid JSON" in fails("classify", photo(tmp_path / "a.png"), "--model", model)


def test_info_shows_layers_and_writes_graphs(models, tmp_path, capsys):
    assert main(["info", str(models / "classifier"), "--graph", str(tmp_path / "graph.md")]) == 0
    printed = capsys.readouterr().out
    assert '"stage_widths"' in printed
    assert "Conv2d" in printed
    assert (tmp_path / "graph.md").read_text().startswith("```mermaid")
    graph = ["--graph", str(tmp_path / "graph.svg"), "--backward"]
    assert main(["info", str(models / "upscaler"), "--size", "16", "--json", *graph]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["multiply_adds"] > 0
    assert (tmp_path / "graph.svg").read_text().startswith("<svg")


def test_info_refuses_other_pictures(models, tmp_path, fails):
    assert ".svg" in fails("info", models / "classifier", "--graph", tmp_path / "graph.bmp")


def test_info_list(capsys):
    assert main(["info", "--list"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", ["classify", "upscale", "info", "quickstart"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"hfvision {command}" in capsys.readouterr().out.split("example")[1]


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "hfvision", "classify"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'see "hfvision classify --help"' in done.stderr


@pytest.mark.parametrize("source", ["fashion_mnist", "photo.png"])
def test_show_augment_draws_originals_and_copies(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save("photo.png")
    command = ["show-augment", source, "--augment", "classic", "--images", "2", "--copies", "3"]
    assert main([*command, "--out", "one.png"]) == 0
    assert main([*command, "--out", "two.png"]) == 0
    assert main([*command, "--out", "other.png", "--seed", "1"]) == 0
    rows = 2 if source == "fashion_mnist" else 1
    assert f"{rows} images" in capsys.readouterr().out
    with Image.open("one.png") as picture:
        cell = picture.width / 4
        assert rows * cell < picture.height < (rows + 1) * cell
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert Path("one.png").read_bytes() != Path("other.png").read_bytes()


def test_show_augment_draws_degraded_copies_of_photographs(tmp_path, capsys):
    photos = [str(path) for name, path in sample_photos().items() if name in ("cat", "coffee")]
    command = ["show-augment", *photos, "--degradation", "strong", "--scale", "3", "--copies", "2", "--out"]
    assert main([*command, str(tmp_path / "one.png")]) == 0
    assert "2 photographs with 2 degraded copies each" in capsys.readouterr().out
    with Image.open(tmp_path / "one.png") as picture:
        copy = np.asarray(picture.convert("RGB"))[24 : 24 + 192, 6 + 198 : 6 + 198 + 192]
    assert (copy == copy[1::3, 1::3].repeat(3, 0).repeat(3, 1)).all(), "each pixel of the small image, nine times"
    assert main([*command, str(tmp_path / "other.png"), "--seed", "1"]) == 0
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


def test_show_augment_refuses_what_it_cannot_do(tmp_path, fails):
    (tmp_path / "there.png").write_bytes(b"")
    assert "use --force" in fails("show-augment", "fashion_mnist", "--out", tmp_path / "there.png")
    assert "must end in .png" in fails("show-augment", "fashion_mnist", "--out", tmp_path / "picture.jpg")
    assert "no file" in fails("show-augment", tmp_path / "none.jpg", "--out", tmp_path / "new.png")
    assert "--scale requires --degradation" in fails("show-augment", "fashion_mnist", "--scale", "2")
    missing = ("show-augment", tmp_path / "none.jpg", "--degradation", "mild", "--out", tmp_path / "new.png")
    assert "none.jpg" in fails(*missing)
    assert not (tmp_path / "new.png").exists()
