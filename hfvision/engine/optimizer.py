"""The optimizer of a training: timm's, with what it needs on a CPU."""

import difflib
from functools import partial

import timm.optim
import torch
from timm.optim import muon
from torch import nn

from .precision import choose_precision

orthogonalize = muon.zeropower_via_newtonschulz


def check_optimizer(name: str) -> None:
    """Raise ValueError where timm has no optimizer called `name`."""
    known = timm.optim.list_optimizers()
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
    """timm's optimizer called `name` for `model`; biases and normalisations do not decay.

    Muon orthogonalizes in bfloat16, which a CPU that cannot multiply in it imitates so slowly that the step of a small
    network takes longer than its gradients: there it is float32.
    """
    dtype = torch.bfloat16 if choose_precision("auto") == "bf16" else torch.float32
    muon.zeropower_via_newtonschulz = partial(orthogonalize, dtype=dtype)
    return timm.optim.create_optimizer_v2(
        model, name, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, layer_decay=layer_decay
    )
