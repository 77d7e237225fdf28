"""What is known of a compressed model when it is trained further."""

from pathlib import Path
from typing import Any

from ..checkpoints import list_checkpoints
from ..loading import read_record_of

TRAINED = ("distill", "train")


def lineage(config: Any) -> dict[str, Any]:
    """What stays true of a compressed start model: its `parent` and the steps of its `compression`, and one more, this
    training. Empty for any other start.

    Args:
        config: of the training, with `model`, `teacher`, `distillation` and `epochs`.
    """
    if not Path(config.model).is_dir() and config.model not in list_checkpoints():
        return {}
    record = read_record_of(config.model)
    if "compression" not in record:
        return {}
    parent = {"parent": record["parent"]} if "parent" in record else {}
    return parent | {"compression": [*record["compression"], training_step(config, config.teacher)]}


def training_step(config: Any, teacher: str | None) -> dict[str, Any]:
    """This training as a step of a compression."""
    if teacher is None:
        return {"step": "train", "settings": {"epochs": config.epochs}}
    settings = {"teacher": Path(teacher).name, "epochs": config.epochs}
    return {"step": "distill", "method": config.distillation, "settings": settings}


def was_trained(compression: list[dict[str, Any]]) -> bool:
    """Whether one of the steps is a training, which the record then tells of in place of the parent's."""
    return any(step["step"] in TRAINED for step in compression)
