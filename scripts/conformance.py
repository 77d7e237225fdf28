"""transformers' own common tests, run on every model family and image processor of this package.

    python scripts/conformance.py
    python scripts/conformance.py --only cnn-tiny --only vit-cls

The tests are those in the source distribution of the transformers that is installed, which pip downloads (8 MB); for
other ends of the supported range run it in another environment. For each family it prints how many tests passed,
failed, were skipped by transformers itself, and do not apply, and at the end each failure. What does not apply is
listed in `NOT_APPLICABLE`, with the reason. The exit code is 1 if a test failed.

Hardware: CPU. Time: about four minutes. Needs `pip install hfvision[test]`.
"""

import argparse
import copy
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import transformers
from transformers.models.auto import modeling_auto

import hfvision
from hfvision.models.cnn.configuration_cnn import PRESETS as CNN_PRESETS

PACKAGE = "transformers_tests"
COMMON = ("modeling", "backbone", "image_processing", "configuration")
# What the common tests import and the source distribution does not carry.
MISSING = {
    f"{PACKAGE}/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    f"{PACKAGE}/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "fetch_hub_objects_for_ci.py": "def url_to_local_path(url):\n    return url\n",
    f"{PACKAGE}/utils/test_configuration_utils.py": """config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": 0},
    "problem_type": "regression",
}
""",
}
MODULE = """# Copyright 2026 The hfvision authors: some tests are for models of 2023 and later alone, by this line.
from conformance import make_case

Case = make_case({name!r}, __name__)
"""
# Patterns of families and tests, and why these do not apply to those.
NOT_APPLICABLE: dict[tuple[str, str], str] = {
    ("*", "test_model_get_set_embeddings"): "is for models with an nn.Embedding of tokens",
    ("cnn-*", "test_hidden_states_output"): "expects states of the shape (batch, tokens, width)",
    ("sr-*", "test_hidden_states_output"): "expects states of the shape (batch, tokens, width)",
    ("segmenter-cnn", "test_hidden_states_output"): "expects states of the shape (batch, tokens, width)",
    ("cnn-*timm*", "test_gradient_checkpointing_enable_disable"): "timm checkpoints its blocks by itself",
    ("cnn-*timm*", "test_training_gradient_checkpointing*"): "timm checkpoints its blocks by itself",
    ("cnn-*timm*", "test_can_init_all_missing_weights"): "timm draws the weights as it builds a model, not seeded "
    "module by module; the test excuses transformers' own wrapper of timm, too",
    ("cnn-timm-vit", "test_retain_grad_hidden_states_attentions"): "timm gives copies that the output does not "
    "depend on",
    ("cnn-backbone*", "test_retain_grad_hidden_states_attentions"): "expects a tensor as first output; a backbone's "
    "is a tuple of feature maps",
    ("processor-*", "test_call_numpy_4_channels"): "our processors bring every image to 1 or 3 channels",
    (
        "processor-segmentation",
        "test_valid_kwargs_set",
    ): "expects a class of settings beside the processor; it is that of the classifiers",
    ("processor-segmentation", "test_post_process_test_mixin_inheritance"): "expects the scores of classes on request",
}


@dataclass(frozen=True)
class Family:
    """A model family as transformers' tests see one: its classes and a small configuration."""

    models: tuple[type, ...]
    config: Callable[[], Any]
    size: tuple[int, int] = (16, 16)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Processor:
    """An image processor and the size that it brings an image of a height and width to."""

    processor: type
    settings: dict[str, Any]
    output_size: Callable[[int, int], tuple[int, int]]
    equal_sizes: bool = False


def cnn(**fields: Any) -> Family:
    classes = (hfvision.CNNModel, hfvision.CNNForImageClassification)
    return Family(classes, lambda: hfvision.CNNConfig(num_labels=3, **fields))


def timm_cnn(backbone: str) -> Family:
    classes = (hfvision.CNNModel, hfvision.CNNForImageClassification)
    return Family(classes, lambda: hfvision.CNNConfig(num_labels=3, backbone=backbone), (32, 32))


VIT = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "num_labels": 3,
}


def vit(tokens: int, **fields: Any) -> Family:
    classes = (hfvision.VisionTransformerModel, hfvision.VisionTransformerForImageClassification)
    attributes = {"num_hidden_layers": 2, "seq_length": tokens, "hidden_size": 32, "num_attention_heads": 4}
    return Family(classes, lambda: hfvision.VisionTransformerConfig(**VIT | fields), (16, 16), attributes)


def sr(**fields: Any) -> Family:
    small = {"scale": 2, "hidden_size": 8, "block_widths": [[8], [8]], "discriminator_width": 4}
    classes = (hfvision.SRGANModel, hfvision.SRGANForImageSuperResolution)
    return Family(classes, lambda: hfvision.SRGANConfig(**small | fields))


RESNET = {"stem_width": 8, "stage_widths": [[[8, 8]], [[12, 12]]], "stage_strides": [1, 2], "block_type": "basic"}
SMALL_CIFAR = CNN_PRESETS["cifar"] | {"stem_width": 8, "stage_widths": [[[8, 8]], [[12, 12]], [[12, 12]]]}
SRRESNET = {"norm": True, "head_kernel_size": 9, "tail_kernel_size": 9, "upsampler": "stepwise", "skip": "none"}
SEGMENTER = {"stage_widths": [[[4, 5]], [[6]], [[7]]], "stage_strides": [1, 2, 2], "num_labels": 3}

FAMILIES: dict[str, Family | Processor] = {
    "cnn-textbook": cnn(
        **CNN_PRESETS["textbook"]
        | {"image_size": 16, "stage_widths": [[[4]], [[6]]], "pool_size": 2, "classifier_hidden_size": 8}
    ),
    "cnn-tiny": cnn(**CNN_PRESETS["tiny"] | {"image_size": 16, "stage_widths": [[[4]], [[6]], [[8]]]}),
    "cnn-cifar": cnn(**SMALL_CIFAR),
    "cnn-resnet": cnn(**RESNET),
    "cnn-timm-cnn": timm_cnn("timm/test_resnet"),
    "cnn-timm-vit": timm_cnn("timm/test_vit"),
    "cnn-backbone": Family(
        (hfvision.CNNBackbone,),
        lambda: hfvision.CNNConfig(**RESNET, out_features=["stage1", "stage2"]),
    ),
    "cnn-backbone-timm": Family(
        (hfvision.CNNBackbone,), lambda: hfvision.CNNConfig(backbone="timm/test_resnet"), (32, 32)
    ),
    "vit-cls": vit(17),
    "vit-mean": vit(16, pooling="mean"),
    "vit-distilled": vit(18, distillation_token=True),
    "vit-stem": vit(17, stem_widths=[8, 16]),
    "sr-branched": sr(branch_expansion=2),
    "sr-fused": sr(branch_expansion=2, fused=True),
    "sr-srresnet": sr(**SRRESNET),
    "segmenter-cnn": Family(
        (hfvision.CNNForSemanticSegmentation,), lambda: hfvision.CNNSegmentationConfig(**SEGMENTER)
    ),
    "segmenter-vit": Family(
        (hfvision.VisionTransformerForSemanticSegmentation,),
        lambda: hfvision.VisionTransformerSegmentationConfig(**VIT),
        (16, 16),
        {"num_hidden_layers": 2, "seq_length": 17, "hidden_size": 32, "num_attention_heads": 4},
    ),
    "processor-classification": Processor(
        hfvision.ImageClassificationProcessor, {"size": {"height": 20, "width": 22}}, lambda height, width: (20, 22)
    ),
    "processor-segmentation": Processor(
        hfvision.ImageSegmentationProcessor,
        {"do_resize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        lambda height, width: (height, width),
        equal_sizes=True,
    ),
    "processor-super-resolution": Processor(
        hfvision.SRGANImageProcessor,
        {"do_resize": False, "do_normalize": False},
        lambda height, width: (height, width),
        equal_sizes=True,
    ),
}


class ModelTester:
    """What transformers' tests ask for: the small configuration and the images."""

    is_training, batch_size, num_channels = True, 3, 3

    def __init__(self, family: Family):
        self.family = family
        self.image_size = family.size[0]
        vars(self).update(family.attributes)

    def get_config(self) -> Any:
        return self.family.config()

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        pixel_values = torch.rand(self.batch_size, self.num_channels, *self.family.size, generator=generator)
        return self.get_config(), {"pixel_values": pixel_values}


class ProcessorTester:
    """What transformers' tests of image processors ask for: settings and images."""

    batch_size, num_channels, min_resolution, max_resolution = 3, 3, 24, 40

    def __init__(self, family: Processor, prepare: Callable):
        self.family, self.prepare = family, prepare
        self.image_processing_classes = {"torchvision": family.processor}

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.family.settings)

    def expected_output_image_shape(self, images: list[Any]) -> tuple[int, int, int]:
        first = images[0]
        if hasattr(first, "size") and not hasattr(first, "shape"):
            width, height = first.size
        else:
            height, width = first.shape[-2:] if torch.is_tensor(first) else first.shape[:2]
        return self.num_channels, *self.family.output_size(height, width)

    def prepare_image_inputs(self, equal_resolution: bool = False, **form: bool) -> list[Any]:
        sizes = (self.batch_size, self.min_resolution, self.max_resolution, self.num_channels)
        return self.prepare(*sizes, equal_resolution=equal_resolution or self.family.equal_sizes, **form)


def make_case(name: str, module: str) -> type[unittest.TestCase]:
    """The tests of a family as a class that pytest collects."""
    family = FAMILIES[name]
    case = processor_case(family) if isinstance(family, Processor) else model_case(family)
    case.__name__ = case.__qualname__ = re.sub(r"\W", "_", name)
    case.__module__ = module
    for test in [test for test in dir(case) if test.startswith("test_") and reason_against(name, test)]:
        setattr(case, test, None)
    return case


def reason_against(family: str, test: str) -> str | None:
    """Why a test does not apply to a family; None for one that does."""
    for (families, tests), reason in NOT_APPLICABLE.items():
        if fnmatch(family, families) and fnmatch(test, tests):
            return reason
    return None


def model_case(family: Family) -> type[unittest.TestCase]:
    common = import_module(f"{PACKAGE}.test_modeling_common")
    config_tester = import_module(f"{PACKAGE}.test_configuration_common").ConfigTester
    mixins: tuple[type, ...] = (common.ModelTesterMixin,)
    is_backbone = family.models == (hfvision.CNNBackbone,)
    if is_backbone:
        mixins = (import_module(f"{PACKAGE}.test_backbone_common").BackboneTesterMixin, *mixins)

    class Case(*mixins, unittest.TestCase):
        all_model_classes = family.models
        config_class = type(family.config())
        test_resize_embeddings = False
        has_attentions = "num_attention_heads" in family.attributes

        def setUp(self):
            self.model_tester = ModelTester(family)

        def test_configuration(self):
            config_tester(
                self, config_class=self.config_class, has_text_modality=False, common_properties=["num_channels"]
            ).run_common_tests()

        def test_can_init_all_missing_weights(self):
            module = sys.modules[type(self).__module__].__file__
            with patch.object(common.inspect, "getfile", return_value=module):
                super().test_can_init_all_missing_weights()

        def test_init_weights_can_init_buffers(self):
            # The test would set the field `scale` to 0, which elsewhere is a standard deviation, and SRGANModel has
            # random buffers: the vectors that spectral normalisation starts from.
            self.all_model_classes = tuple(model for model in family.models if model is not hfvision.SRGANModel)
            ours = patch.object(
                common, "hasattr", lambda value, name: name != "scale" and hasattr(value, name), create=True
            )
            with ours:
                super().test_init_weights_can_init_buffers()

        def _prepare_for_class(self, inputs, model_class, return_labels=False):
            inputs = super()._prepare_for_class(inputs, model_class, return_labels=return_labels)
            if return_labels and self.config_class is hfvision.SRGANConfig:
                batch, channels, height, width = inputs["pixel_values"].shape
                generator = torch.Generator().manual_seed(1)
                inputs["labels"] = torch.rand(batch, channels, 2 * height, 2 * width, generator=generator)
            return inputs

    return Case


def processor_case(family: Processor) -> type[unittest.TestCase]:
    common = import_module(f"{PACKAGE}.test_image_processing_common")

    class Case(common.ImageProcessingTestMixin, unittest.TestCase):
        image_processing_classes = {"torchvision": family.processor}

        def setUp(self):
            self.image_processor_tester = ProcessorTester(family, common.prepare_image_inputs)

        @property
        def image_processor_dict(self):
            return self.image_processor_tester.prepare_image_processor_dict()

    return Case


class Results:
    """Counts what pytest reports, by family."""

    def __init__(self):
        self.outcomes: dict[str, dict[str, str]] = {}
        self.failures: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report):
        family = Path(report.nodeid.split("::")[0]).stem.removeprefix("test_").replace("_", "-")
        outcomes = self.outcomes.setdefault(family, {})
        if report.failed:
            outcomes[report.nodeid] = "failed"
            self.failures.append((report.nodeid, report.longreprtext))
        elif report.skipped:
            outcomes.setdefault(report.nodeid, "skipped")
        elif report.when == "call":
            outcomes.setdefault(report.nodeid, "passed")


def fetch_tests(folder: Path) -> None:
    """The common tests of the installed transformers, as the package `PACKAGE` in `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", ":all:", "--dest", str(folder), f"transformers=={transformers.__version__}"]
    subprocess.run(command, check=True)
    [archive] = folder.glob("transformers-*.tar.gz")
    target = folder / PACKAGE
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            parts = Path(member.name).parts
            if len(parts) == 3 and parts[1] == "tests" and member.isfile():
                member.name = parts[2]
                files.extract(member, target, filter="data")
    (target / "__init__.py").touch()
    for name, text in MISSING.items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.parent.joinpath("__init__.py").touch()
            path.write_text(text)
    for name in COMMON:
        if not (target / f"test_{name}_common.py").is_file():
            raise FileNotFoundError(f"{archive.name} holds no tests/test_{name}_common.py.")


def run_tests(folder: Path, names: list[str]) -> Results:
    for config, models in hfvision.models.registry.AUTO_MODELS.items():
        for auto, model in models.items():
            if auto is transformers.AutoModel:  # as a model within transformers would be listed
                modeling_auto.MODEL_MAPPING_NAMES[config.model_type] = model.__name__
            if auto is transformers.AutoBackbone:
                modeling_auto.MODEL_FOR_BACKBONE_MAPPING_NAMES[config.model_type] = model.__name__
    sys.path[:0] = [str(folder), str(Path(__file__).parent)]
    modules = []
    for name in names:
        modules.append(folder / f"test_{name.replace('-', '_')}.py")
        modules[-1].write_text(MODULE.format(name=name))
    (folder / "pytest.ini").write_text("[pytest]\n")
    results = Results()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "-W", "ignore"]
    pytest.main([*options, "-c", str(folder / "pytest.ini"), *map(str, modules)], plugins=[results])
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=FAMILIES, help="a family to test; may be repeated")
    names = parser.parse_args().only or list(FAMILIES)
    with tempfile.TemporaryDirectory() as folder:
        fetch_tests(Path(folder))
        results = run_tests(Path(folder), names)
    for nodeid, text in results.failures:
        print(f"\n{nodeid}\n{text}")
    print(f"\ntransformers {transformers.__version__}, torch {torch.__version__}")
    print(f"{'':28}{'passed':>8}{'failed':>8}{'skipped':>8}")
    totals: Counter[str] = Counter()
    for name in names:
        counts = Counter(results.outcomes.get(name, {}).values())
        totals += counts
        print(f"{name:28}" + "".join(f"{counts[outcome]:8}" for outcome in ("passed", "failed", "skipped")))
        if not counts["passed"]:
            totals["failed"] += 1
            print(f"{'':28}no test ran")
    print(f"{'all':28}" + "".join(f"{totals[outcome]:8}" for outcome in ("passed", "failed", "skipped")))
    print("\nNot applicable:")
    for (families, tests), reason in NOT_APPLICABLE.items():
        print(f"- {tests} ({families}): {reason}")
    return int(totals["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
