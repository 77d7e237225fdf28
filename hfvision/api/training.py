"""Training of models, also by the answers of others."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from ..hub.loading import ModelLike
from ..hub.memory import load_once, model_folder
from ..tasks.base import SEGMENTATION, SUPER_RESOLUTION, task_of
from ..tasks.classification import train as classification
from ..tasks.classification.config import ClassifierTrainingConfig
from ..tasks.segmentation import train as segmentation
from ..tasks.segmentation.config import SegmenterTrainingConfig
from ..tasks.super_resolution import train as super_resolution
from ..tasks.super_resolution.config import SuperResTrainingConfig
from ..utils.types import DataSource, InMemory, StrPath, unwrap
from .results import SavedModel

Config = TypeVar("Config", ClassifierTrainingConfig, SegmenterTrainingConfig, SuperResTrainingConfig)


def train_classifier(config: ClassifierTrainingConfig) -> SavedModel:
    """Train an image classifier, evaluate it, and write model, record and pictures to the folder `config.out`.

    >>> config = hfvision.ClassifierTrainingConfig(data=few_clothes, model="cnn:tiny", out=runs / "clothes", epochs=1)
    >>> trained = hfvision.train_classifier(config)
    >>> trained.record.training.parameters
    94762

    Args:
        config: its `model` and `data` are names, folders, or a loaded model and data set.

    Raises:
        FileNotFoundError, ValueError, FloatingPointError, OSError: as [`tasks.classification.train.train_classifier`].
    """
    with start_in_folder(config) as started:
        return SavedModel(config.out, classification.train_classifier(started))


def train_segmenter(config: SegmenterTrainingConfig) -> SavedModel:
    """Train a segmenter, evaluate it, and write model, record and pictures to the folder `config.out`.

    >>> config = hfvision.SegmenterTrainingConfig(data=few_masks, model="cnn:unet", out=runs / "cells", epochs=1,
    ...     crop=32)
    >>> hfvision.train_segmenter(config).record.validation.images
    1

    Args:
        config: its `model` and `data` are names, folders, or a loaded model and data set.

    Raises:
        FileNotFoundError, ValueError, FloatingPointError, OSError: as [`tasks.segmentation.train.train_segmenter`].
    """
    with start_in_folder(config) as started:
        return SavedModel(config.out, segmentation.train_segmenter(started))


def train_superres(config: SuperResTrainingConfig) -> SavedModel:
    """Train a super-resolution network, and write model, record and pictures to the folder `config.out`.

    >>> config = hfvision.SuperResTrainingConfig(data=few_photos, model="fast-tiny", scale=2, out=runs / "upscaler",
    ...     epochs=1, steps_per_epoch=1, batch_size=2, crop=16)
    >>> hfvision.train_superres(config).load().model.config.scale
    2

    Args:
        config: its `model` and `data` are names, folders, or a loaded model and data sets.

    Raises:
        FileNotFoundError, ValueError, FloatingPointError, OSError: as [`tasks.super_resolution.train.train_superres`].
    """
    with start_in_folder(config) as started:
        return SavedModel(config.out, super_resolution.train_superres(started))


@contextmanager
def start_in_folder(config: Config) -> Iterator[Config]:
    """The settings with models in memory replaced by folders: the start model's is `start` in `config.out`, where the
    training that is resumed finds it."""
    start = config.model
    if isinstance(start, InMemory):
        folder = config.out / "start"
        if not (config.resume and (folder / "config.json").is_file()):
            with model_folder(unwrap(start)) as name:
                loaded = load_once(name)
                loaded.model.save_pretrained(folder)
                loaded.processor.save_pretrained(folder)
        config = dataclasses.replace(config, model=folder)
    teacher = getattr(config, "teacher", None)
    if not isinstance(teacher, InMemory):
        yield config
        return
    with model_folder(unwrap(teacher)) as name:
        yield dataclasses.replace(cast(Any, config), teacher=name)


def distill(teacher: ModelLike, student: ModelLike, data: DataSource, *, out: StrPath, **options: Any) -> SavedModel:
    """Train a small model by the answers of a large one.

    >>> hfvision.distill("cnn-cifar10-small", "cnn:tiny", few_cifar, out=runs / "student", epochs=1)
    SavedModel(...)

    Args:
        teacher: a classifier or upscaler by Hub id, folder or name of a shipped checkpoint, or a loaded one.
        student: a preset, as `cnn:tiny` or `fast-tiny`, or a model as `teacher`.
        data: what to train on.
        out: folder to write.
        options: further fields of `ClassifierTrainingConfig` or `SuperResTrainingConfig`.

    Raises:
        TypeError: for an unknown option.
        FileNotFoundError, ValueError: as [`train_classifier`] and [`train_superres`].
    """
    task = task_of(load_once(teacher).model.config, "The teacher", trust_remote_code=True)
    if task is SEGMENTATION:
        raise ValueError("The teacher is a segmenter, from which this version does not distill.")
    settings: Any = {"model": student, "teacher": teacher, "data": data, "out": out} | options
    if task is SUPER_RESOLUTION:
        return train_superres(SuperResTrainingConfig(**settings))
    return train_classifier(ClassifierTrainingConfig(**settings))
