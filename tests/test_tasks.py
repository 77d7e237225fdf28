"""Which task a model does is found in one place, for models of this package and of others."""

import pytest
from transformers import AutoModelForImageClassification, BertConfig, ViTConfig

from hfvision import (
    CNNConfig,
    CNNForSemanticSegmentation,
    CNNSegmentationConfig,
    ImageSegmentationProcessor,
    SRGANConfig,
    VisionTransformerConfig,
    VisionTransformerSegmentationConfig,
)
from hfvision.cli.main import main
from hfvision.tasks.base import CLASSIFICATION, SEGMENTATION, SUPER_RESOLUTION, find_task, is_own_family, task_of


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (CNNConfig(), CLASSIFICATION),
        (VisionTransformerConfig(), CLASSIFICATION),
        (ViTConfig(), CLASSIFICATION),
        (SRGANConfig(), SUPER_RESOLUTION),
        (CNNSegmentationConfig(), SEGMENTATION),
        (VisionTransformerSegmentationConfig(), SEGMENTATION),
    ],
    ids=lambda value: type(value).__name__,
)
def test_task_of_a_configuration(config, task):
    assert task_of(config, "model") is task
    assert is_own_family(config) == (not isinstance(config, ViTConfig))


def test_model_of_another_kind_is_refused():
    assert find_task(BertConfig()) is None
    with pytest.raises(ValueError, match="runs/x is a 'bert' model, not a classifier, an upscaler or a segmenter"):
        task_of(BertConfig(), "runs/x")


def test_auto_class_and_example_side():
    assert CLASSIFICATION.auto_class is AutoModelForImageClassification
    assert CLASSIFICATION.example_side(CNNConfig(image_size=96)) == 96
    assert CLASSIFICATION.example_side(ViTConfig(image_size=[32, 48])) == 48
    assert SUPER_RESOLUTION.example_side(SRGANConfig()) == 64


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter")
    CNNForSemanticSegmentation(CNNSegmentationConfig(num_labels=2)).save_pretrained(folder)
    ImageSegmentationProcessor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "words", [["quantize", "--calibration", "x", "--out", "q"], ["prune", "--target-params", "0.5"]]
)
def test_segmenter_is_named_where_a_command_does_not_take_it(segmenter, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([words[0], str(segmenter), *words[1:]]) == 2
    assert "is a segmenter, which this version does not" in capsys.readouterr().err
