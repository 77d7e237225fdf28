"""The order in which a training reads its data: a function of the seed and the epoch."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


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
        generator = torch.Generator().manual_seed((self.seed << 32) + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.length, generator=generator)
        else:
            cumulative = self.weights.double().cumsum(0)
            draws = torch.rand(self.length, generator=generator, dtype=torch.float64) * cumulative[-1]
            order = torch.searchsorted(cumulative, draws, right=True).clamp(max=self.length - 1)
        yield from order.tolist()
