"""Reads what was recorded of a model, and what of it stays true of a model that is made from it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..utils.secrets import hide_paths
from . import validation
from .files import resolve_model
from .validation import check_record

Record = Mapping[str, Any]
PARTS = {
    "evaluation.json": "evaluation",
    "superres.json": "evaluation",
    "robustness.json": "robustness",
    "binary.json": "binary",
}


def read_record(folder: Path) -> dict[str, Any]:
    """What is recorded of the model in `folder`: record.json, and the evaluations that lie beside it.

    Raises:
        ValueError: for a file that is no JSON object, or whose parts are of wrong types.
    """
    record = read_json(folder / "record.json")
    for file, part in PARTS.items():
        if found := read_json(folder / file):
            record[part] = found
    check_record(record, record_files(folder))
    return record


def record_files(folder: Path) -> str:
    """The paths of the files that [`read_record`] reads in `folder`, for messages."""
    return ", ".join(str(folder / file) for file in ("record.json", *PARTS) if (folder / file).is_file())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    return validation.read_json(path) if path.is_file() else {}


def read_record_of(name: str) -> dict[str, Any]:
    """What record.json beside the weights of a model says; empty where there is none on this machine.

    Raises:
        FileNotFoundError: as [`resolve_model`].
        ValueError: if it is no JSON object, or its parts are of wrong types.
    """
    path = Path(resolve_model(name)) / "record.json"
    if not path.is_file():
        return {}
    record = read_json(path)
    check_record(record, str(path))
    return record


def earlier_record(name: str) -> dict[str, Any]:
    """The part of [`read_record_of`] that stays true of what is made from a model: `about`, `parent`, `training` and
    the steps of `compression` so far, where they are there."""
    record = read_record_of(name)
    return {key: record[key] for key in ("about", "parent", "training", "compression") if key in record}


def validation_settings(name: str, validation: float | None = None, group: str | None = None) -> dict[str, Any]:
    """How the training of a model chose its validation images, as options of `load_image_dataset`.

    Args:
        name: of the model.
        validation, group: what goes before the recorded `validation` and `validation_group`, where given.

    Returns:
        `validation`, `validation_group` and `seed`; the defaults of a training where nothing is recorded.
    """
    recorded = read_record_of(name).get("training", {}).get("config", {})
    return {
        "validation": (recorded.get("validation") or 0.1) if validation is None else validation,
        "validation_group": recorded.get("validation_group") if group is None else group,
        "seed": recorded.get("seed", 0),
    }


def bare(source: str) -> str:
    """A source of data without where it lies: of a path its last part, a Hub id as it is."""
    path = Path(source)
    with suppress(OSError):  # of a name that is too long for one
        if path.is_absolute() or source.startswith((".", "~")) or path.exists():
            return path.name
    return hide_paths(source)


def data_name(record: Record) -> str | None:
    """What the training data is called, where it is recorded."""
    named = [data["name"] for data in record.get("about", {}).get("data", [])]
    data = record.get("training", {}).get("data", {})
    if not named and isinstance(data, Mapping):
        named = [bare(source) for source in data.get("sources", [data["source"]] if data.get("source") else [])]
    return "; ".join(named or (data if isinstance(data, Sequence) else [])) or None


def hub_dataset(record: Record) -> str | None:
    """The Hub id of the data that a classifier was evaluated on, where it is recorded."""
    named = [data["id"] for data in record.get("about", {}).get("data", []) if data.get("id")]
    evaluation = record.get("evaluation", {}).get("data") or record.get("training", {}).get("data", {})
    source = evaluation.get("source", "") if isinstance(evaluation, Mapping) else ""
    is_id = source.count("/") == 1 and bare(source) == source and not source.endswith("/")
    return named[0] if named else source if is_id else None


def lineage(config: Any) -> dict[str, Any]:
    """What stays true of a compressed start model: its `parent` and the steps of its `compression`, and one more, this
    training. Empty for any other start.

    Args:
        config: of a training whose `model` could be loaded; with `teacher`, `distillation` and `epochs`.

    Raises:
        ValueError: if the record beside the start model is no JSON object.
    """
    try:
        record = earlier_record(config.model)
    except FileNotFoundError:  # a preset
        return {}
    if "compression" not in record:
        return {}
    steps = [*record["compression"], training_step(config, config.teacher)]
    parent = {"parent": record["parent"]} if "parent" in record else {}
    return parent | {"compression": steps}


def training_step(config: Any, teacher: str | None) -> dict[str, Any]:
    """This training as a step of a compression."""
    if teacher is None:
        return {"step": "train", "settings": {"epochs": config.epochs}}
    settings = {"teacher": Path(teacher).name, "epochs": config.epochs}
    return {"step": "distill", "method": config.distillation, "settings": settings}


def was_trained(compression: list[dict[str, Any]]) -> bool:
    """Whether one of the steps is a training, which the record then tells of in place of the parent's."""
    return any(step["step"] in ("distill", "train") for step in compression)
