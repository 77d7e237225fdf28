"""Which task a model does is found in one place, for models of this package and of others."""

import pytest
import torch
from transformers import AutoModelForImageClassification, BertConfig, ViTConfig

from hfvision import (
    CNNConfig,
    CNNSegmentationConfig,
    SRGANConfig,
    VisionTransformerConfig,
    VisionTransformerSegmentationConfig,
)
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


@pytest.mark.parametrize("task", [CLASSIFICATION, SUPER_RESOLUTION, SEGMENTATION], ids=lambda task: task.name)
def test_every_task_can_be_compressed(task):
    compression = task.compression
    assert compression.training_config(data=["x"] if task is SUPER_RESOLUTION else "x").data
    outputs = [torch.zeros(1, 3, 8, 8) if task is SUPER_RESOLUTION else torch.tensor([0, 1, 2])]
    assert compression.agreement(outputs, outputs) == (100 if task is SUPER_RESOLUTION else 1)


def test_models_are_compared_within_a_task():
    classifier, segmenter = CNNConfig(num_labels=2), CNNSegmentationConfig(num_labels=2)
    assert task_of(classifier, "a").signature(classifier) != task_of(segmenter, "b").signature(segmenter)
    assert SUPER_RESOLUTION.signature(SRGANConfig(scale=2)) != SUPER_RESOLUTION.signature(SRGANConfig(scale=3))
