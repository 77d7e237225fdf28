"""Folders that version 0.1 saved (tests/data/version_0_1) load, and compute what they computed then."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor

from hfvision import (
    CNNForSemanticSegmentation,
    SRGANDiscriminator,
    SRGANForImageSuperResolution,
    SRGANModel,
    VisionTransformerForSemanticSegmentation,
)
from hfvision.hub.loading import load_model

FOLDER = Path(__file__).parent / "data" / "version_0_1"
OUTPUTS = load_file(FOLDER / "outputs.safetensors")
SIZES = {"sr-generator": (8, 12), "segmenter-cnn": (8, 14), "segmenter-vit": (10, 16)}
TASKS = {
    "sr-generator": "image-super-resolution",
    "segmenter-cnn": "image-segmentation",
    "segmenter-vit": "image-segmentation",
}


def pixel_values(name: str) -> torch.Tensor:
    height, width = SIZES.get(name, (16, 16))
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def check_output(model: torch.nn.Module, name: str) -> None:
    outputs = model.eval()(pixel_values=pixel_values(name))
    found = outputs["reconstruction" if "reconstruction" in outputs else "logits"]
    torch.testing.assert_close(found, OUTPUTS[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["cnn", "vit", "sr-generator", "segmenter-cnn", "segmenter-vit"])
def test_models_and_processors_load(name):
    model, processor = load_model(str(FOLDER / name), TASKS.get(name, "image-classification"))
    check_output(model, name)
    assert type(processor) is type(AutoImageProcessor.from_pretrained(FOLDER / name))


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("sr-discriminator", SRGANDiscriminator),
        ("sr-gan", SRGANModel),
        ("sr-generator", SRGANForImageSuperResolution),
        ("segmenter-cnn", CNNForSemanticSegmentation),
        ("segmenter-vit", VisionTransformerForSemanticSegmentation),
    ],
)
def test_classes_load_without_missing_weights(name, model_class):
    model, report = model_class.from_pretrained(FOLDER / name, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    check_output(model, name)


@pytest.mark.parametrize(("method", "module"), [("openvino", "openvino"), ("quanto", "optimum.quanto")])
def test_quantized_models_load(method, module):
    pytest.importorskip(module)
    name = f"quantized-{method}"
    model, _ = load_model(str(FOLDER / name), "image-classification")
    check_output(model, name)
