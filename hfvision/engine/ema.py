"""Exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .checkpoint import load_model_state, model_state


class EMA:
    """The moving average of `model`'s weights and floating-point buffers, on its device and in its shards.

    The decay of step t is min(`decay`, (1 + t) / (10 + t)), so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.decay = decay
        self.average = [tensor.detach().clone() for tensor in self.tensors()]

    def tensors(self) -> list[Tensor]:
        """The weights, then the floating-point buffers."""
        return [*self.model.parameters(), *(buffer for buffer in self.model.buffers() if buffer.is_floating_point())]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after the optimizer's step number `step`, from 1, to the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        tensors, weights = self.tensors(), len(list(self.model.parameters()))
        # In two calls: in a sharded model, the weights are DTensors and the buffers are not.
        for part in (slice(weights), slice(weights, None)):
            if self.average[part]:
                torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]  # the stub leaves it out
                    self.average[part], tensors[part], 1 - decay
                )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the average."""
        for average, weight in zip(self.average, self.tensors(), strict=True):
            kept = average.clone()
            average.copy_(weight)
            weight.copy_(kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the averaged weights within the context."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict[str, Tensor]:
        """All weights of the average by name, for a checkpoint."""
        with self.in_place():
            return model_state(self.model)

    def load(self, state: dict[str, Tensor]) -> None:
        """The reverse of `state`."""
        with self.in_place():
            load_model_state(self.model, state)
