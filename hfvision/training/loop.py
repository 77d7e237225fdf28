"""The training loop, over Accelerate: one CPU, one GPU or many, by `accelerate launch`."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoopConfig:
    """How [`train`] trains.

    Args:
        epochs: passes over the data.
        batch_size: images a step and process.
        learning_rate: AdamW's, at the peak of the one-cycle schedule.
        weight_decay: AdamW's.
        warmup: part of the steps in which the learning rate rises.
        mixed_precision: `auto` takes bf16 where the hardware computes in it, else fp32.
        seed: of data order and augmentation.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.2
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")


def best_precision() -> Literal["no", "bf16"]:
    """`bf16` where the hardware multiplies in it: GPUs that support it, CPUs with AVX512-BF16 or AMX; else `no`."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"


def train(
    model: PreTrainedModel,
    dataset: Dataset,
    compute_loss: Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    config: LoopConfig,
    description: str = "training",
) -> list[dict[str, float]]:
    """Train `model` in place.

    Args:
        model: its weights are changed; it is left in evaluation mode, in float32.
        dataset: map-style, of dicts of tensors.
        compute_loss: from the prepared model and a batch to the loss to minimise.
        config: the settings.
        description: shown at the progress bar.

    Returns:
        One dict an epoch: `epoch`, `loss` (mean over the epoch), `learning_rate` and `images_per_second`.

    Raises:
        FloatingPointError: if the loss is not finite; the weights are those of the last step before.
    """
    set_seed(config.seed)
    precision = best_precision() if config.mixed_precision == "auto" else config.mixed_precision
    accelerator = Accelerator(
        mixed_precision=precision,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=config.seed),
    )
    loader = DataLoader(
        dataset, batch_size=config.batch_size, shuffle=True, drop_last=len(dataset) > config.batch_size
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model = model.to(memory_format=torch.channels_last).train()
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps = config.epochs * len(loader)
    warmup = min(0.9, max(config.warmup, 2 / (steps + 1)))  # OneCycleLR divides by zero for a rise of one step
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps + 1, pct_start=warmup, anneal_strategy="cos"
    )
    history = []
    bar = tqdm(
        total=steps, desc=description, unit="step", mininterval=0.5, disable=not accelerator.is_local_main_process
    )
    for epoch in range(config.epochs):
        start, total, images = time.perf_counter(), 0.0, 0
        for batch in loader:
            loss = compute_loss(prepared, batch)
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"The loss is {value} in epoch {epoch + 1}: lower learning_rate={config.learning_rate}."
                )
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            count = len(next(iter(batch.values())))
            total, images = total + value * count, images + count
            bar.set_postfix(epoch=f"{epoch + 1}/{config.epochs}", loss=f"{value:.4f}", refresh=False)
            bar.update()
        seconds = time.perf_counter() - start
        history.append(
            {
                "epoch": epoch + 1,
                "loss": total / images,
                "learning_rate": schedule.get_last_lr()[0],
                "images_per_second": images * accelerator.num_processes / seconds,
            }
        )
    bar.close()
    # prepare() has wrapped the model's own forward in autocast: give it back as it was.
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    model.to(memory_format=torch.contiguous_format).eval()
    return history
