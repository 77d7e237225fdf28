"""The order in which a training reads its data: a function of the seed and the epoch."""

from collections.abc import Iterator
from math import ceil

import torch
from torch.utils.data import Sampler

from ..data.transforms.keyed import image_keys, uniform

STEPS = 32  # least batches an epoch
LARGE = 4096  # images


def default_batch_size(items: int | None, processes: int, largest: int = 128, least: int = 8) -> int:
    """The largest power of two up to `largest` that makes 32 steps an epoch of so many items, but at least `least`."""
    if items is None:
        return largest
    fitting = [2**power for power in range(largest.bit_length()) if 2**power * STEPS * processes <= items]
    return max(least, min(largest, max(fitting, default=least)))


def drops_last(items: int, batch: int) -> bool:
    """Whether an epoch drops the items of an incomplete batch of all processes: of large sets, less than a 32nd."""
    return items >= max(LARGE, STEPS * batch)


class EpochSampler(Sampler[int]):
    """A permutation of `length` items for each epoch, or as many draws by `weights`, with replacement.

    Args:
        length: items in the data set.
        seed: with the epoch, decides the order.
        weights: float (length,), how often each item is drawn relative to the others.
        batch: where given, the last batch of this size is filled from the start of the order, if there are several.
    """

    def __init__(self, length: int, seed: int, weights: torch.Tensor | None = None, batch: int | None = None):
        self.length = length
        self.total = length if batch is None or length <= batch else ceil(length / batch) * batch
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        keys = image_keys(self.seed, self.epoch, torch.arange(self.length))
        if self.weights is None:
            order = keys.argsort()
        else:
            share = self.weights.double().cumsum(0) / self.weights.double().sum()
            order = torch.searchsorted(share, uniform(keys, 1)[:, 0].double(), right=True).clamp(max=self.length - 1)
        yield from [*order.tolist(), *order[: self.total - self.length].tolist()]
