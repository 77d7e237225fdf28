"""The Accelerator of a training."""

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState

from .config import LoopConfig
from .optimizer import check_optimizer
from .precision import choose_precision


def make_accelerator(config: LoopConfig) -> Accelerator:
    """The Accelerator of a training.

    Raises:
        ValueError: for an optimizer that timm lacks, settings that Accelerate refuses, and trackers that are not
            installed.
    """
    check_optimizer(config.optimizer)
    AcceleratorState._reset_state()  # an earlier training of this process may have had another precision
    precision = choose_precision(config.mixed_precision)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=config.accumulate,
            log_with=config.trackers or None,  # pyright: ignore[reportArgumentType]  # takes names, too
            project_dir=config.out,
            dataloader_config=DataLoaderConfiguration(non_blocking=torch.cuda.is_available()),
        )
    except ValueError as error:
        raise ValueError(f"Accelerate refuses these settings: {error}") from error
    missing = set(config.trackers) - {str(getattr(name, "value", name)) for name in accelerator.log_with}
    if missing:
        raise ValueError(f"The tracker {', '.join(missing)} is not installed: pip install {' '.join(missing)}")
    return accelerator
