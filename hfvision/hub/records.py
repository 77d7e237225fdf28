"""Records of models by name, and what of them stays true of a model that is made from another."""

from pathlib import Path
from typing import Any

from ..records import CompressionStep, ModelRecord, TrainingSettings, read_record
from .files import resolve_model


def read_record_of(name: str) -> ModelRecord:
    """What record.json beside the weights of a model says; empty where there is none on this machine.

    Raises:
        FileNotFoundError: as [`resolve_model`].
        NewerRecordError: if it was written by a later version of hfvision.
        ValueError: if it is no JSON object, or has values of wrong types.
    """
    return read_record(Path(resolve_model(name)), reports=False)


def earlier_record(name: str) -> ModelRecord:
    """The part of [`read_record_of`] that stays true of what is made from a model: `about`, `parent`, `training` and
    the steps of `compression` so far."""
    record = read_record_of(name)
    return ModelRecord(
        about=record.about, parent=record.parent, training=record.training, compression=record.compression
    )


def validation_settings(name: str, validation: float | None = None, group: str | None = None) -> dict[str, Any]:
    """How the training of a model chose its validation images, as options of `load_image_dataset`.

    Args:
        name: of the model.
        validation, group: used in place of the recorded `validation` and `validation_group`, where given.

    Returns:
        `validation`, `validation_group` and `seed`; the defaults of a training where nothing is recorded.
    """
    recorded = read_record_of(name).settings
    return {
        "validation": (recorded.validation or 0.1) if validation is None else validation,
        "validation_group": recorded.validation_group if group is None else group,
        "seed": recorded.seed or 0,
    }


def lineage(config: Any) -> ModelRecord:
    """What stays true of a compressed start model: its `parent` and the steps of its `compression`, and one more, this
    training. Empty for any other start.

    Args:
        config: of a training whose `model` could be loaded; with `teacher`, `distillation` and `epochs`.

    Raises:
        ValueError: if the record beside the start model cannot be read.
    """
    try:
        record = earlier_record(config.model)
    except FileNotFoundError:  # a preset
        return ModelRecord()
    if not record.compression:
        return ModelRecord()
    step = training_step(config, config.teacher)
    return ModelRecord(parent=record.parent, compression=[*record.compression, step])


def training_step(config: Any, teacher: str | None) -> CompressionStep:
    """A training as a step of a compression.

    Args:
        config: with `epochs` and `distillation`.
        teacher: that it learns from, where there is one.
    """
    if teacher is None:
        return CompressionStep(step="train", settings={"epochs": config.epochs})
    settings = {"teacher": Path(teacher).name, "epochs": config.epochs}
    return CompressionStep(step="distill", method=config.distillation, settings=settings)


def recorded_settings(config: dict[str, Any]) -> TrainingSettings:
    """The options of a training, as plain data, for its record."""
    return TrainingSettings.from_json(config, "the options of the training")
