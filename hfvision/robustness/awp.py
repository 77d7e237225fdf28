"""Adversarial weight perturbation: the loss is taken at the worst weights nearby, which flattens it."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel, reduce
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call


class PerturbedWeights:
    """`net` with other weights in their place: gradients reach the weights of `net` itself.

    For every matrix and kernel w and the gradient g of `loss` by it, the weights are w + `gamma` ‖w‖ g / ‖g‖
    (Wu, Xia and Wang 2020, "Adversarial weight perturbation helps robust generalization", arXiv:2004.05884, section
    4.2, with one step).

    Args:
        net: a model, prepared by Accelerate for one process or DDP.
        loss: from a model to the loss of a batch. The model's buffers, as the statistics of batch normalisation, and
            the random state are left as they were.
        gamma: size of the perturbation relative to each weight's norm.

    Raises:
        ValueError: if the weights are in shards.
    """

    def __init__(self, net: nn.Module, loss: Callable[[nn.Module], Tensor], gamma: float):
        self.net = net
        unwrapped = extract_model_from_parallel(net)
        names = [name for name, weight in unwrapped.named_parameters() if weight.requires_grad and weight.ndim > 1]
        weights = [unwrapped.get_parameter(name) for name in names]
        if any(isinstance(weight, DTensor) for weight in weights):
            raise ValueError("awp needs whole weights on every process: use DDP instead of FSDP, or leave it out.")
        buffers = {name: buffer.clone() for name, buffer in unwrapped.named_buffers()}
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            gradients = torch.autograd.grad(loss(unwrapped), weights, materialize_grads=True)
        with torch.no_grad():
            for name, buffer in unwrapped.named_buffers():
                buffer.copy_(buffers[name])
        prefix = "" if unwrapped is net else "module."
        self.weights = {}
        for name, weight, gradient in zip(names, weights, reduce(list(gradients), "mean"), strict=True):
            scale = gamma * weight.detach().norm() / gradient.norm().clamp_min(1e-12)
            self.weights[prefix + name] = weight + scale * gradient

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self.net, self.weights, (), inputs)
