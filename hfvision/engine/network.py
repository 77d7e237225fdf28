"""A network in training: the model, what it minimizes, and its optimizer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from .config import LoopConfig
from .optimizer import make_optimizer

# From the prepared network, a batch and the epoch to `loss`, which is minimized, and other scalars to report.
LossFunction = Callable[[nn.Module, dict[str, Tensor], int], dict[str, Tensor]]


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        model: trained in place; it is left in evaluation mode, in float32.
        compute_loss: gives the same names for each batch; the means of the scalars are reported.
        learning_rate: at the peak of the schedule; that of the settings where not given.
    """

    model: PreTrainedModel
    compute_loss: LossFunction
    learning_rate: float | None = None


class PreparedNetwork:
    """A [`Network`] that Accelerate has prepared, and its optimizer."""

    def __init__(self, network: Network, config: LoopConfig, accelerator: Accelerator):
        model = network.model.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
        self.learning_rate = config.learning_rate if network.learning_rate is None else network.learning_rate
        self.compute_loss = network.compute_loss
        optimizer = make_optimizer(
            model,
            config.optimizer,
            self.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
        )
        self.net: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.net, self.optimizer = accelerator.prepare(model, optimizer)

    def set_learning_rate(self, factor: float) -> None:
        """Set it to `factor` times its peak, and times what `layer_decay` gives each group of parameters."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor * group.get("lr_scale", 1.0)
