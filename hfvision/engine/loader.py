"""The data loader of a training: what it reads, in which order, and how fast."""

import dataclasses
from collections.abc import Sized
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from transformers import PreTrainedModel

from .config import LoopConfig
from .sampler import EpochSampler, default_batch_size, drops_last

Config = TypeVar("Config", bound=LoopConfig)


def with_batch_size(config: Config, dataset: Dataset, accelerator: Accelerator, **limits: int) -> Config:
    """The settings with a batch size that suits the size of the data set, where none is given; `limits` are those of
    [`default_batch_size`]."""
    if config.batch_size is not None:
        return config
    size = default_batch_size(dataset_length(dataset), accelerator.num_processes, **limits)
    return dataclasses.replace(config, batch_size=size)


def dataset_length(dataset: Dataset) -> int | None:
    """The number of items; None for an iterable data set."""
    return None if isinstance(dataset, IterableDataset) else len(cast(Sized, dataset))


def data_identity(dataset: Dataset, batches: int, model: PreTrainedModel) -> dict[str, Any]:
    """What a resumed training checks to tell its data from other data."""
    id2label = getattr(model.config, "id2label", None) or {}
    images: Any = getattr(dataset, "photos", getattr(dataset, "images", dataset))  # that crops are taken from
    sizes = {} if isinstance(dataset, IterableDataset) else {"number of training images": len(images)}
    return sizes | {"batches per epoch": batches, "classes": [str(id2label[number]) for number in sorted(id2label)]}


def make_loader(
    dataset: Dataset, config: LoopConfig, accelerator: Accelerator, sample_weights: Tensor | None = None
) -> tuple[DataLoader, EpochSampler | None]:
    """The prepared loader of a training and its sampler, which iterable data has not.

    On a GPU, batches lie in pinned memory, so that they are copied while it computes. Workers live for the whole
    training, unless the data set is told the epoch, which theirs would not be.

    Raises:
        ValueError: for iterable data without `config.steps_per_epoch`.
    """
    common: dict[str, Any] = {
        "batch_size": config.batch_size,
        "collate_fn": collate,
        "num_workers": config.workers,
        "pin_memory": accelerator.device.type == "cuda",
        "persistent_workers": config.workers > 0 and not hasattr(dataset, "set_epoch"),
        # Of its own: a loader draws from the global one at each start of its workers, see Trainer.batches.
        "generator": torch.Generator().manual_seed(config.seed),
    }
    length = dataset_length(dataset)
    if length is None:
        if config.steps_per_epoch is None:
            raise ValueError("Data read as a stream has no known length: give steps_per_epoch.")
        options = common | {"drop_last": True, "_non_blocking": accelerator.non_blocking}
        return cast(DataLoader, DataLoaderShard(dataset, device=accelerator.device, **options)), None
    assert config.batch_size is not None, "with_batch_size has set it"
    batch = config.batch_size * accelerator.num_processes
    drop = drops_last(length, batch)
    sampler = EpochSampler(length, config.seed, sample_weights, batch=None if drop else batch)
    return accelerator.prepare(DataLoader(dataset, sampler=sampler, drop_last=drop, **common)), sampler


def collate(batch: Any) -> dict[str, Tensor]:
    """A batch of dicts of tensors; one that `__getitems__` has made whole stays as it is."""
    return batch if isinstance(batch, dict) else default_collate(batch)
