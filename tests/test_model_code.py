"""The code that travels with saved models: complete, equal between families, and loadable without hfvision."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_ecosystem import make_model, output
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports

import hfvision
from hfvision import (
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANDiscriminator,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
)

MODELS = Path(hfvision.__file__).parent / "models"
SHARED = ["configuration_common.py", "modeling_common.py", "model_card.py", "segmentation_loss.py"]
ENTRIES = [
    path
    for kind in ("configuration", "modeling", "image_processing", "pipeline")
    for path in MODELS.rglob(f"{kind}_*.py")
]


@pytest.mark.parametrize("name", SHARED)
def test_copies_of_shared_code_are_equal(name):
    first, *others = sorted(MODELS.glob(f"*/{name}"))
    assert others
    for other in others:
        assert other.read_bytes() == first.read_bytes(), f"cp {first} {other}, or the other way round"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: path.name)
def test_files_import_directly_all_siblings_they_need(entry):
    """transformers 5.5 copies no others of a local folder."""
    direct = {entry.parent / f"{name}.py" for name in get_relative_imports(entry)}
    assert direct == {Path(file) for file in get_relative_import_files(entry)}
    assert {file.parent for file in direct} <= {entry.parent}


def test_folders_load_without_hfvision(run_isolated, tmp_path):
    torch.manual_seed(0)
    pixel_values = torch.rand(1, 3, 32, 32)
    outputs = {}
    for family in ("cnn", "vit", "timm", "srgan", "cnn-segmenter", "vit-segmenter"):
        model = make_model(family)
        model.save_pretrained(tmp_path / family)
        outputs[family] = output(model, pixel_values).contiguous()
    SRGANImageProcessor().save_pretrained(tmp_path / "srgan")
    ImageClassificationProcessor().save_pretrained(tmp_path / "cnn")
    critic = SRGANDiscriminator(SRGANConfig(scale=2, discriminator_width=2)).eval()
    critic.save_pretrained(tmp_path / "critic")
    outputs["critic"] = output(critic, pixel_values).contiguous()
    save_file(outputs | {"pixel_values": pixel_values}, tmp_path / "tensors.safetensors")
    run_isolated(f"""
        import torch
        from pathlib import Path
        from PIL import Image
        from safetensors.torch import load_file
        from transformers import (AutoModelForImageClassification, AutoModelForImageToImage,
            AutoModelForSemanticSegmentation, pipeline)
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        folder = Path({str(tmp_path)!r})
        outputs = load_file(folder / "tensors.safetensors")
        pixel_values = outputs.pop("pixel_values")
        critic = get_class_from_dynamic_module("modeling_srgan.SRGANDiscriminator", str(folder / "critic"))
        for name, expected in outputs.items():
            auto = AutoModelForImageClassification
            if name.endswith("segmenter"):
                auto = AutoModelForSemanticSegmentation
            if name == "srgan":
                auto = AutoModelForImageToImage
            auto = critic if name == "critic" else auto
            options = {{}} if name == "critic" else {{"trust_remote_code": True}}
            model = auto.from_pretrained(folder / name, **options).eval()
            assert "transformers_modules" in type(model).__module__
            with torch.no_grad():
                found = model(pixel_values)
            found = found["reconstruction" if name == "srgan" else "logits"]
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5, msg=name)
            model.save_pretrained(folder / "again" / name)
        upscale = pipeline("image-super-resolution", model=str(folder / "srgan"), trust_remote_code=True)
        assert upscale(Image.new("RGB", (9, 7))).size == (18, 14)
        upscale.model.save_pretrained(folder / "again" / "srgan")
    """)
    for name in outputs.keys() - {"critic"}:  # which no Auto class loaded
        again = {path.name for path in (tmp_path / "again" / name).iterdir()}
        saved = {path.name for path in (tmp_path / name).iterdir()} - {"preprocessor_config.json"}
        assert again == saved - {"image_processing_classification.py"}, name


def test_code_of_the_pipeline_travels_whole(tmp_path):
    SRGANForImageSuperResolution(SRGANConfig(scale=2, block_widths=[[4]])).save_pretrained(tmp_path)
    needed = {"pipeline_srgan.py", "tiles_srgan.py", "image_reading.py", "image_processing_srgan.py"}
    assert needed <= {path.name for path in tmp_path.iterdir()}
