"""The one reader and the one writer of records."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..utils.console import to_json
from ..utils.files import write_text
from ..utils.json_files import read_json, refuse
from .model import ModelRecord
from .part import Part, plain_data

VERSION = "record_version"  # the key of the form that a file has; files of before there were versions are of version 1
RECORD = "record.json"
# Evaluations that lie beside record.json, and what of the record they are.
REPORTS = {
    "evaluation.json": "evaluation",
    "superres.json": "evaluation",
    "robustness.json": "robustness",
    "binary.json": "binary",
}
LIBRARIES = ("hfvision", "torch", "torchvision", "transformers", "accelerate", "datasets", "timm")


class NewerRecordError(ValueError):
    """A record was written by a later version of hfvision, in a form that this one does not know."""


def read_record(folder: Path, *, reports: bool = True) -> ModelRecord:
    """What is recorded of the model in a folder; empty where nothing is.

    Args:
        folder: of the model.
        reports: take the evaluations that lie beside record.json (`REPORTS`) for those of the record.

    Raises:
        NewerRecordError: if a file was written by a later version of hfvision.
        ValueError: for a file that is no JSON object, or has values of wrong types.
    """
    record = read_record_file(folder / RECORD) if (folder / RECORD).is_file() else ModelRecord()
    found = {part: folder / file for file, part in REPORTS.items() if reports and (folder / file).is_file()}
    parts: dict[str, Any] = {}
    for part, path in found.items():
        report = ModelRecord.from_json({part: read_versioned(path)}, str(path))
        parts[part] = getattr(report, part)
    if not parts:
        return record
    return ModelRecord.from_json(record.to_json() | {key: part.to_json() for key, part in parts.items()}, str(folder))


def read_record_file(path: Path) -> ModelRecord:
    """The record in one file; errors as of [`read_record`]."""
    return ModelRecord.from_json(upgrade(read_versioned(path)), str(path))


def read_versioned(path: Path) -> dict[str, Any]:
    """The object in a JSON file whose form is of a known version."""
    value = read_json(path)
    found = value.get(VERSION, 1)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        refuse(str(path), VERSION, "a whole number from 1 on", found)
    if found > ModelRecord.version:
        raise NewerRecordError(
            f"{path} is a record of version {found}, and this hfvision reads up to version {ModelRecord.version}: "
            "update hfvision."
        )
    return value


def upgrade(record: dict[str, Any]) -> dict[str, Any]:
    """A record of before version 1 in the form of version 1; others as they are.

    Early trainings of upscalers recorded the names of their photographs as a list, and options beside it.
    """
    training = record.get("training")
    if not isinstance(training, dict) or not isinstance(training.get("data"), list):
        return record
    training = dict(training)
    data = {"sources": training.pop("data")}
    if "photos" in training:
        data["photographs"] = training.pop("photos")
    options = {name: training.pop(name) for name in ("epochs", "steps", "seed") if name in training}
    if options:
        config = training.get("config", {})
        training["config"] = options | (config if isinstance(config, dict) else {})
    return record | {"training": training | {"data": data}}


def write_record(path: Path, record: Part | Mapping[str, Any]) -> None:
    """Write a record, or the figures of a report, with the versions and the machine they come from.

    Args:
        path: of the JSON file.
        record: a [`ModelRecord`] or plain data; an `environment` that it has is kept.
    """
    values = dict(plain_data(dict(record)) if isinstance(record, Mapping) else record.to_json())
    write_text(path, record_text({**values, "environment": values.get("environment") or environment()}))


def record_text(record: Part | Mapping[str, Any]) -> str:
    """A record as the text of its file; numbers that are not finite are null."""
    values = record.to_json() if isinstance(record, Part) else dict(record)
    values.pop(VERSION, None)
    return to_json({VERSION: ModelRecord.version, **values}) + "\n"


def environment() -> dict[str, Any]:
    """Versions of the libraries and a description of the machine, as [`model.Environment`] reads them."""
    import torch

    return {
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpu_cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
