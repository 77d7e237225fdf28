"""The order in which a training reads its data: a function of the seed and the epoch."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from ..data.keyed import image_keys, uniform


class EpochSampler(Sampler[int]):
    """A permutation of `length` items for each epoch, or as many draws by `weights`, with replacement.

    Args:
        length: items in the data set.
        seed: with the epoch, decides the order.
        weights: float (length,), how often each item is drawn in relation to the others.
    """

    def __init__(self, length: int, seed: int, weights: torch.Tensor | None = None):
        self.length = length
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        keys = image_keys(self.seed, self.epoch, torch.arange(self.length))
        if self.weights is None:
            order = keys.argsort()
        else:
            share = self.weights.double().cumsum(0) / self.weights.double().sum()
            order = torch.searchsorted(share, uniform(keys, 1)[:, 0].double(), right=True).clamp(max=self.length - 1)
        yield from order.tolist()
