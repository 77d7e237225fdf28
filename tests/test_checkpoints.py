"""The shipped checkpoints: they load, their cards say what their records say, and they do what they are for."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor
from transformers import pipeline

import hfvision
from hfvision.data.transforms.resize import downscale, modcrop, resize_bicubic
from hfvision.hub.loading import load_model
from hfvision.metrics.psnr import psnr

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize("name", hfvision.list_checkpoints())
def test_weights_are_small_and_the_folder_holds_no_code(name):
    folder = Path(hfvision.checkpoint(name))
    largest = {"imagenet-lite0": 9_600_000, "imagenet-lite0-int8": 6_000_000}.get(name, 4_100_000)
    assert sum(path.stat().st_size for path in folder.iterdir()) < largest
    weights = {".bin", ".xml"} if name.endswith("-int8") else {".safetensors"}
    assert {path.suffix for path in folder.iterdir()} == {".json", ".md", *weights}


@pytest.mark.parametrize("name", hfvision.list_checkpoints())
def test_card_gives_the_recorded_figures(name):
    folder = Path(hfvision.checkpoint(name))
    card, record = (folder / "README.md").read_text(), json.loads((folder / "record.json").read_text())
    results = record["evaluation"]["results"]
    if name.startswith("sr-"):
        figures = [f"{f['psnr']:.2f} / {f['ssim']:.4f}" for f in results[name]["sets"].values()]
    else:
        figures = [f"{result['top1']:.2%}" for result in results.values()]
    assert all(figure in card for figure in figures)
    if name.startswith("imagenet-"):
        weights = record["about"]["weights"]
        assert all(weights[key] in card for key in ("package", "sha256", "licence"))
        assert f"{weights['published']['top1']:.1%} top-1" in card
    else:
        assert len(figures) >= 2
        assert record["training"]["command"] in card
    assert record["evaluation"]["command"] in card


@pytest.mark.parametrize(("name", "answers"), [("cnn-cifar10", 1), ("vit-cifar10", 2)])
def test_classifiers_load_as_float32_and_know_a_photographed_cat(name, answers):
    """The ViT takes it for a dog first."""
    classify = pipeline("image-classification", model=hfvision.checkpoint(name))
    assert classify.model.dtype == torch.float32
    assert list(classify.model.config.id2label.values()) == CIFAR10
    assert "cat" in [answer["label"] for answer in classify(str(hfvision.sample_photos()["cat"]))[:answers]]


@pytest.mark.parametrize("name", [name for name in hfvision.list_checkpoints() if name.endswith("-int8")])
def test_int8_answers_as_its_parent(name):
    pytest.importorskip("openvino")
    parent = name.removesuffix("-int8")
    task = "image-super-resolution" if name.startswith("sr-") else "image-classification"
    (model, processor), (quantized, _) = load_model(parent, task), load_model(name, task)
    photo = hfvision.read_image(hfvision.sample_photos()["cat"]).convert("RGB").resize((320, 320))
    pixels = pil_to_tensor(photo)[None].float() / 255
    if name.startswith("imagenet-"):
        photos = [hfvision.read_image(path).convert("RGB") for path in hfvision.sample_photos().values()]
        pixels = processor(photos, return_tensors="pt")["pixel_values"]
    elif task == "image-classification":
        pixels = 4 * pixels.unfold(2, 32, 32).unfold(3, 32, 32).permute(2, 3, 0, 1, 4, 5).reshape(-1, 3, 32, 32) - 2
    with torch.inference_mode():
        expected, found = (next(iter(net(pixel_values=pixels).values())) for net in (model, quantized))
    alike = torch.cosine_similarity(expected.flatten() - expected.mean(), found.flatten() - found.mean(), dim=0)
    assert alike > (0.97 if name.startswith("imagenet-") else 0.99)


def test_int8_of_imagenet_agrees_with_its_parent_on_images_it_was_not_calibrated_on():
    record = json.loads((Path(hfvision.checkpoint("imagenet-lite0-int8")) / "record.json").read_text())
    step = record["compression"][-1]
    assert record["parent"] == "imagenet-lite0"
    assert step["settings"]["calibration_images"] + step["validation"]["images"] == 400
    assert step["validation"]["agreement"] >= 0.95
    assert step["validation"]["images"] == record["evaluation"]["results"]["none"]["images"]
    assert step["validation"]["after"] == pytest.approx(record["evaluation"]["results"]["none"]["top1"])


def test_upscaler_beats_bicubic_on_photographs_it_has_not_seen():
    model, _ = load_model("sr-tiny-x2", "image-super-resolution")
    for name, photo in hfvision.sample_photos().items():
        original = modcrop(pil_to_tensor(hfvision.read_image(photo).convert("RGB"))[None].float() / 255, 2)
        small = downscale(original, 2)
        with torch.inference_mode():
            restored = model(small).reconstruction.clamp(0, 1)
        gain = psnr(restored, original, crop=2) - psnr(resize_bicubic(small, 2).clamp(0, 1), original, crop=2)
        assert gain > 0.5, name
