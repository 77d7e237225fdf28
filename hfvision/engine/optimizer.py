"""The optimizer of a training: timm's, with what it needs on a CPU."""

from functools import partial

import timm.optim
import torch
from timm.optim import muon
from torch import nn

from .precision import choose_precision

orthogonalize = muon.zeropower_via_newtonschulz


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
