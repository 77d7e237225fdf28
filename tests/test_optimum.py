"""optimum's OpenVINO exporter on every family: OVModel classes, main_export, optimum-cli and OVQuantizer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_ecosystem import FAMILIES, images, make_model, output

from hfvision import CNNConfig, CNNForImageClassification, CNNModel, VisionTransformerModel

pytest.importorskip("optimum.intel", reason="needs the openvino extra")

from optimum.exporters.openvino import main_export
from optimum.intel import (
    OVConfig,
    OVModelForCustomTasks,
    OVModelForImageClassification,
    OVQuantizationConfig,
    OVQuantizer,
)

ROOT = Path(__file__).parents[1]
EXACT = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
TASKS = {"srgan": "image-to-image", "cnn-segmenter": "image-segmentation", "vit-segmenter": "semantic-segmentation"}


def own_size(model: torch.nn.Module) -> int:
    return getattr(model.config, "image_size", 24)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A saved model of each family."""
    base = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        make_model(family).save_pretrained(base / family)
    return {family: base / family for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_exports_reloads_and_computes_the_same(family, folders, tmp_path):
    model, task = make_model(family), TASKS.get(family, "image-classification")
    main_export(str(folders[family]), tmp_path, task=task)
    ov_class = OVModelForImageClassification if family in ("cnn", "vit", "timm") else OVModelForCustomTasks
    exported = ov_class.from_pretrained(tmp_path, **EXACT)
    size = own_size(model)
    for sides in [(size, size), (25, 31)] if family in ("cnn", "srgan") else [(size, size)]:
        pixel_values = images(3, *sides)
        torch.testing.assert_close(
            output(exported, pixel_values), output(model, pixel_values), atol=1e-4, rtol=1e-3, msg=str(sides)
        )


@pytest.mark.parametrize(("family", "base_class"), [("cnn", CNNModel), ("vit", VisionTransformerModel)])
def test_base_models_export_their_features(family, base_class, folders, tmp_path):
    model = base_class.from_pretrained(folders[family]).eval()
    model.save_pretrained(tmp_path)
    exported = OVModelForCustomTasks.from_pretrained(tmp_path, export=True, task="feature-extraction", **EXACT)
    pixel_values = images(2, own_size(model), own_size(model))
    found = exported(pixel_values=pixel_values)
    with torch.no_grad():
        expected = model(pixel_values)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-3)


def test_a_network_of_one_size_refuses_others_after_export(tmp_path):
    config = CNNConfig.from_preset("textbook", image_size=16, pool_size=None, stage_widths=[[[4]], [[6]]])
    CNNForImageClassification(config).save_pretrained(tmp_path)
    exported = OVModelForImageClassification.from_pretrained(tmp_path, export=True)
    assert exported(pixel_values=images(2, 16, 16)).logits.shape == (2, 2)
    with pytest.raises(RuntimeError):
        exported(pixel_values=images(2, 20, 20))


def test_quantizer_makes_eight_bits_that_reload_exactly(folders, tmp_path):
    nncf = pytest.importorskip("nncf")
    model = OVModelForImageClassification.from_pretrained(folders["cnn"], export=True)
    size = own_size(model)
    calibration = nncf.Dataset([{"pixel_values": images(2, size, size).numpy()}] * 4)
    settings = OVConfig(quantization_config=OVQuantizationConfig(bits=8, num_samples=4))
    quantizer = OVQuantizer.from_pretrained(model)
    quantizer.quantize(calibration_dataset=calibration, ov_config=settings, save_directory=tmp_path)
    kinds = [node.get_type_name() for node in model.model.get_ops()]
    assert "FakeQuantize" in kinds
    pixel_values = images(4, size, size)
    expected = output(make_model("cnn"), pixel_values)
    first = output(OVModelForImageClassification.from_pretrained(tmp_path, **EXACT), pixel_values)
    assert (first - expected).abs().max() < 0.1 * expected.abs().max()
    assert torch.equal(output(OVModelForImageClassification.from_pretrained(tmp_path, **EXACT), pixel_values), first)


def test_command_line_exports_and_importing_hfvision_imports_no_optimum(folders, tmp_path):
    paths = [str(ROOT), str(ROOT / "scripts" / "plugins"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    program = (
        "import sys, hfvision\n"
        "assert not any(name.startswith('optimum') for name in sys.modules)\n"
        f"sys.argv = ['optimum-cli', 'export', 'openvino', '--model', {str(folders['vit'])!r},"
        f" '--task', 'image-classification', {str(tmp_path)!r}]\n"
        "del sys.modules['hfvision']\n"
        "from optimum.commands.optimum_cli import main\n"
        "main()\n"
        "assert 'hfvision' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "openvino_model.xml").is_file()
