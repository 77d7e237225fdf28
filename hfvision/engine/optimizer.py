"""The optimizer of a training: timm's, its learning rate schedule, and the check of gradients before each step."""

import difflib
import math
from functools import partial
from typing import Literal

import torch
from accelerate import Accelerator
from timm.optim import create_optimizer_v2, list_optimizers, muon  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from .config import LoopConfig
from .precision import choose_precision

orthogonalize = muon.zeropower_via_newtonschulz


def check_optimizer(name: str) -> None:
    """Raise ValueError where timm has no optimizer called `name`."""
    known = list(map(str, list_optimizers()))
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"timm has no optimizer {name!r}; it has {', '.join(known)}.{hint}")


def make_optimizer(
    model: nn.Module,
    name: str,
    learning_rate: float,
    *,
    momentum: float,
    weight_decay: float,
    layer_decay: float | None = None,
) -> torch.optim.Optimizer:
    """timm's optimizer called `name` for `model`; biases and normalization layers get no weight decay.

    Muon orthogonalizes in bfloat16, which a CPU without such instructions emulates so slowly that the step of a small
    network takes longer than its gradients: there it is float32.
    """
    dtype = torch.bfloat16 if choose_precision("auto") == "bf16" else torch.float32
    muon.zeropower_via_newtonschulz = partial(orthogonalize, dtype=dtype)
    return create_optimizer_v2(
        model, name, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, layer_decay=layer_decay
    )


def learning_rate_factor(
    step: int, steps: int, warmup: float, schedule: Literal["cosine", "triangular", "constant"]
) -> float:
    """The factor on the peak learning rate at `step` of `steps`, from 0: a linear warmup, then the schedule.

    Args:
        warmup: share of the steps in which the factor rises to 1.
    """
    rise = max(1.0, warmup * steps)
    if step + 1 <= rise:
        return (step + 1) / rise
    done = (step + 1 - rise) / max(1.0, steps - rise)
    falls = {"cosine": (1 + math.cos(math.pi * done)) / 2, "triangular": 1 - done, "constant": 1.0}
    return falls[schedule]


def check_interval(device: torch.device) -> int:
    """Gradients between two checks: on a GPU several, since reading a number waits for all launched kernels."""
    return 1 if device.type == "cpu" else 10


class GradientCheck:
    """Clips gradients, and stops a training where one is not finite: on all processes at once, unlike a loss.

    On a CPU before the step, so that the weights are those of the step before; on a GPU every [`check_interval`]
    gradients and before each checkpoint.
    """

    def __init__(self, config: LoopConfig, accelerator: Accelerator):
        self.config = config
        self.accelerator = accelerator
        self.interval = check_interval(accelerator.device)
        self.pending: list[tuple[Tensor, Tensor, int, int]] = []

    def clip(self, net: nn.Module, loss: Tensor, epoch: int, batch: int) -> None:
        """Clip the gradients of `net` by `max_grad_norm`, after the backward pass of the epoch's batch, from 0.

        Raises:
            FloatingPointError: as [`GradientCheck.check`].
        """
        norm = self.accelerator.clip_grad_norm_(net.parameters(), self.config.max_grad_norm or math.inf)
        if norm is not None:
            self.pending.append((loss.detach(), torch.as_tensor(norm), epoch, batch))
            if len(self.pending) >= self.interval:
                self.check()

    def check(self) -> None:
        """Look at the gradients that have not been checked yet.

        Raises:
            FloatingPointError: if one of them is not finite. With fp16 an infinite gradient of a finite loss passes:
                the scaler leaves that step out.
        """
        pending, self.pending = self.pending, []
        for loss, norm, epoch, batch in pending:
            if math.isfinite(float(norm)) or (self.accelerator.scaler is not None and math.isfinite(float(loss))):
                continue
            out = self.config.out
            saved = f" The last good state is in {out / 'checkpoints'}." if out else ""
            raise FloatingPointError(
                f"The loss is {loss.item():g} and its gradient {float(norm):g} in epoch {epoch + 1}, batch "
                f"{batch + 1}: lower learning_rate={self.config.learning_rate:g} or set max_grad_norm.{saved}"
            )
