"""The package as a whole: what importing it costs and does."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hfvision

ROOT = Path(__file__).parents[1]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_readme_calls_of_the_package_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`hfvision\.([a-z_]+)\(", text))
    assert names
    assert not [name for name in names if not callable(getattr(hfvision, name, None))]


def test_no_public_name_is_hidden_by_a_module():
    modules = {path.stem for path in Path(hfvision.__file__).parent.iterdir()}
    assert not modules & set(hfvision.__all__)


def test_import_brings_in_nothing_that_registering_does_not_need():
    heavy = ["datasets", "gradio", "optimum", "timm", "evaluate", "matplotlib", "accelerate.accelerator", "peft"]
    code = (
        "import sys\n"
        "from transformers import AutoBackbone, AutoImageProcessor, AutoModel, pipeline\n"
        "before = set(sys.modules)\n"
        "import hfvision\n"
        "new = {name for name in set(sys.modules) - before if not name.startswith(('hfvision', 'transformers'))}\n"
    )
    assert run(code + f"print(sorted(set({heavy}) & new))").strip() == "[]"
    assert len(run(code + "print(*sorted(new))").split()) < 60, "only small modules on top of the Auto classes"


@pytest.mark.parametrize("order", ["import hfvision, transformers", "import transformers.pipelines, hfvision"])
def test_families_are_registered_whoever_is_imported_first(order):
    printed = run(
        f"{order}\n"
        "from transformers import AutoConfig, AutoImageProcessor, pipeline\n"
        "from transformers import AutoModelForImageClassification, AutoModelForImageToImage, AutoBackbone\n"
        "from transformers.pipelines import PIPELINE_REGISTRY\n"
        "print(type(AutoConfig.for_model('hfvision_vit')).__name__)\n"
        "for name in ('hfvision_cnn', 'hfvision_vit'):\n"
        "    config = AutoConfig.for_model(name, num_labels=3)\n"
        "    print(type(AutoModelForImageClassification.from_config(config)).__name__)\n"
        "print(type(AutoModelForImageToImage.from_config(AutoConfig.for_model('hfvision_srgan'))).__name__)\n"
        "print(type(AutoBackbone.from_config(AutoConfig.for_model('hfvision_cnn'))).__name__)\n"
        "print('image-super-resolution' in PIPELINE_REGISTRY.get_supported_tasks())\n"
    )
    assert printed.split() == [
        "VisionTransformerConfig",
        "CNNForImageClassification",
        "VisionTransformerForImageClassification",
        "SRGANForImageSuperResolution",
        "CNNBackbone",
        "True",
    ]


def test_code_travels_with_a_model_that_was_made_without_auto_classes(tmp_path):
    run(
        "from hfvision.models.cnn.modeling_cnn import CNNConfig, CNNForImageClassification\n"
        f"CNNForImageClassification(CNNConfig()).save_pretrained({str(tmp_path)!r})"
    )
    assert (tmp_path / "modeling_cnn.py").is_file()


def test_example_of_the_readme_runs_as_pasted(tmp_path):
    example = re.search(r"```python\n(import torch.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([1, 10])"


def test_public_names_are_there():
    assert all(getattr(hfvision, name) is not None for name in hfvision.__all__)
    assert set(hfvision.__all__) <= set(dir(hfvision))
    with pytest.raises(AttributeError, match="No hfvision attribute nonsense"):
        hfvision.nonsense  # noqa: B018


def test_version_is_the_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert hfvision.__version__ == project["version"]


def test_shipped_checkpoints_are_listed_and_unknown_ones_refused():
    assert hfvision.list_checkpoints() == {
        folder.parent.name: folder.parent
        for folder in sorted(Path(hfvision.__file__).parent.glob("hub/checkpoints/*/config.json"))
    }
    with pytest.raises(ValueError, match="no checkpoint called 'resnet-9000'"):
        hfvision.checkpoint("resnet-9000")


def test_importing_the_package_is_light_and_registers_the_families_when_transformers_is_imported():
    code = """
import sys
import hfvision
import hfvision.tasks.classification.config, hfvision.tasks.segmentation.config, hfvision.compression.config
assert not {"torch", "transformers", "numpy", "datasets"} & set(sys.modules)
from transformers import AutoConfig
assert AutoConfig.for_model("hfvision_srgan").scale == 4
from hfvision import CNNForImageClassification
assert CNNForImageClassification._auto_class == "AutoModelForImageClassification"
from transformers.pipelines import PIPELINE_REGISTRY
assert "image-super-resolution" in PIPELINE_REGISTRY.get_supported_tasks()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
