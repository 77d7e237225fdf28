"""What the trainings of all tasks have in common: the folder, the saved model, the record, and the summary."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..engine.accelerator import make_accelerator
from ..engine.config import LoopConfig
from ..engine.folder import training_folder
from ..engine.options import as_plain, training_command
from ..engine.progress import History
from ..hub.records import recorded_settings
from ..records import ModelRecord, Training, TrainingData, write_record
from ..utils.console import logger
from ..utils.files import atomic_folder, write_text
from ..utils.plots import training_curve

Config = TypeVar("Config", bound=LoopConfig)


def run_training(task: str, config: Config, fit: Callable[[Config, Accelerator], ModelRecord]) -> ModelRecord:
    """Call `fit` in the folder `config.out`, reserved for it, with the random seed set.

    Args:
        task: the word after `hfvision train`.
        config: the settings.
        fit: trains, and returns the record.

    Raises:
        ValueError: for another training in the folder.
    """
    accelerator = make_accelerator(config)
    with training_folder(config, ["train", task]):
        torch.manual_seed(config.seed)
        return fit(config, accelerator)


def save_model(
    model: PreTrainedModel, processor: BaseImageProcessor, folder: Path, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write model and processor, the model with the weights of `state` where given; files are replaced atomically."""
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary, state_dict=dict(state) if state else None)  # which empties the dict
        processor.save_pretrained(temporary)


def training_record(task: str, config: LoopConfig, data: TrainingData, parameters: int, history: History) -> Training:
    """What is recorded of a training: how to repeat it, what it was trained on, and its metrics."""
    return Training(
        command=training_command(task, config),
        config=recorded_settings(as_plain(config)),
        data=data,
        parameters=parameters,
        seconds=round(sum(entry["seconds"] for entry in history), 1),
        history=history,
    )


def write_outputs(out: Path, record: ModelRecord, history: History) -> None:
    """Write metrics.json, curve.png and record.json of a training."""
    write_text(out / "metrics.json", json.dumps(history, indent=2) + "\n")
    training_curve(history, out / "curve.png")
    write_record(out / "record.json", record)


def log_summary(out: Path, results: Sequence[str], warnings: Sequence[str]) -> None:
    """Log a line for each result and the folder, and the warnings."""
    for line in results:
        logger.info(line)
    for warning in warnings:
        logger.warning(warning)
    logger.info(f"Model, record and pictures: {out}")
