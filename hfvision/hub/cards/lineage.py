"""What is known of a compressed model when it is trained further."""

from pathlib import Path
from typing import Any

from ..loading import earlier_record


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
