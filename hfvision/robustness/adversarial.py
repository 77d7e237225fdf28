"""Adversarial training: attacks made while a classifier trains, and the losses that learn from them.

Attacks see batch normalisation in training mode, with the statistics of the batch that is attacked, and all else in
evaluation mode. With the running statistics, which lag behind weights that change fast, the first epochs' attacks were
of another network than the one that learned, and one-step training collapsed in its second epoch. Frozen statistics
(under adapters) stay so, and attacks leave running statistics as they were. Without batch normalisation, the attack on
an image depends on that image alone, the same on one process and on many.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, one_hot
from torch.nn.modules.batchnorm import _BatchNorm

from ..data.transforms.keyed import normal, uniform
from ..data.transforms.normalize import Normalize
from .attacks.threat import PixelClassifier, project, steepest_ascent_direction, under_attack
from .threat_model import DEFAULT_WEIGHTS, ONE_STEP, Method, Norm, check_adversary

NOISE_STREAM = 101  # of the keyed random numbers; augmentation uses lower ones
# Keeps gradients of images from vanishing in fp16; a power of two changes no other digit.
GRADIENT_SCALE = 2.0**7
COLLAPSE = 0.5  # of the best multi-step accuracy so far


def ascend(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    start: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    norm: Norm,
    steps: int,
    step_size: float,
) -> Tensor:
    """Projected gradient ascent of a fixed number of steps, whatever points it reaches.

    Args:
        classify: from images in [0, 1] to logits.
        images, start: float (N, C, H, W): the ball's centers, and where the ascent begins.
        objective: from logits to the sum over the images of what rises.
        epsilon: the ball's radius; infinite for [0, 1] alone.

    Returns:
        Float (N, C, H, W) in [0, 1], without gradient.
    """
    perturbed = start
    for _ in range(steps):
        perturbed = perturbed.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(classify(perturbed)) * GRADIENT_SCALE, perturbed)
        step = step_size * steepest_ascent_direction(gradient, norm)
        perturbed = project(perturbed.detach() + step, images, epsilon, norm)
    return perturbed.detach()


def trades_loss(clean_logits: Tensor, attacked_logits: Tensor, classify: Callable[[Tensor], Tensor], weight: float):
    """`classify(clean)` + weight · KL(clean ‖ attacked) (Zhang et al. 2019, arXiv:1901.08573, equation 5).

    Args:
        clean_logits, attacked_logits: float (N, classes); the gradient goes through both.
        classify: from logits to the loss by the labels.

    Returns:
        The mean over the images, a float scalar.
    """
    return classify(clean_logits) + weight * divergence(clean_logits, attacked_logits).mean()


def mart_loss(clean_logits: Tensor, attacked_logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Boosted cross-entropy of the attacked images, and KL(clean ‖ attacked) weighted by how wrong the clean answer is
    (Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples", equation 11).

    Args:
        clean_logits, attacked_logits: float (N, classes).
        labels: int64 (N,).

    Returns:
        The mean over the images, a float scalar.
    """
    chosen = one_hot(labels, clean_logits.shape[1]).bool()
    wrong = attacked_logits.softmax(1).masked_fill(chosen, 0).amax(1)
    boosted = cross_entropy(attacked_logits, labels, reduction="none") - torch.log(1.0001 - wrong)
    doubt = 1 - clean_logits.softmax(1)[chosen]
    return (boosted + weight * doubt * divergence(clean_logits, attacked_logits)).mean()


def divergence(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """KL(clean ‖ attacked) of each image, float (N,)."""
    clean, attacked = log_softmax(clean_logits.float(), 1), log_softmax(attacked_logits.float(), 1)
    return kl_div(attacked, clean, reduction="none", log_target=True).sum(1)


@contextmanager
def own_statistics(modules: Sequence[nn.Module]) -> Iterator[None]:
    """These batch normalisations use the statistics of their batch; their buffers are given back as they were."""
    kept = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    for module in modules:
        module.train()
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)


@dataclass
class Adversary:
    """What attacks the images of a training.

    | method | attack | what is learned |
    |---|---|---|
    | `pgd` | PGD from a random start (Madry et al. 2018, arXiv:1706.06083) | the labels |
    | `trades` | PGD on the divergence from the clean answer | [`trades_loss`] |
    | `mart` | PGD | [`mart_loss`] |
    | `fast` | N-FGSM: noise of ±2ε, a step of ε, not projected (de Jorge et al. 2022, arXiv:2202.01181) | the labels |
    | `rs_fgsm` | noise of ±ε, a step of 1.25 ε (Wong et al. 2020, arXiv:2001.03994) | the labels |

    Args:
        method: one of these.
        normalize: the model's.
        epsilon: the radius of the ball, for pixels in [0, 1].
        norm: of the ball; the one-step methods are for `linf`.
        steps: of PGD.
        step_size: of PGD; 2.5 ε / steps where not given.
        weight: of the divergence in `trades` (6 where not given) and `mart` (5).
        multi_step: a one-step attack takes two steps of PGD instead; for after a collapse.

    Raises:
        ValueError: for settings out of range or that do not go together.
    """

    method: Method
    normalize: Normalize
    epsilon: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 10
    step_size: float | None = None
    weight: float | None = None
    multi_step: bool = False

    def __post_init__(self):
        self.epsilon = check_adversary(
            self.method,
            epsilon=self.epsilon,
            norm=self.norm,
            steps=self.steps,
            step_size=self.step_size,
            weight=self.weight,
        )
        if self.weight is None:
            self.weight = DEFAULT_WEIGHTS.get(self.method, 0.0)

    @property
    def one_step(self) -> bool:
        return self.method in ONE_STEP

    @property
    def sees_clean(self) -> bool:
        """Whether the loss has the clean images in it."""
        return self.method in DEFAULT_WEIGHTS

    def attack(self, net: nn.Module, images: Tensor, targets: Tensor, keys: Tensor) -> Tensor:
        """Attacked images to train on.

        Args:
            net: the model, prepared by Accelerate or not; its mode and gradients are left as they were.
            images: float (N, C, H, W) in [0, 1].
            targets: int64 labels (N,) or probabilities (N, classes).
            keys: int64 (N,), of the random starts.

        Returns:
            Float (N, C, H, W) in [0, 1].
        """
        # DDP counts forward passes by backward passes, and an attack has none for the weights.
        unwrapped = extract_model_from_parallel(net)
        learning = [module for module in unwrapped.modules() if isinstance(module, _BatchNorm) and module.training]
        with under_attack(unwrapped), own_statistics(learning):
            classifier = PixelClassifier(unwrapped, self.normalize)
            if self.method == "trades":
                with torch.no_grad():
                    clean = classifier(images)

                def objective(logits: Tensor) -> Tensor:
                    return divergence(clean, logits).sum()
            else:

                def objective(logits: Tensor) -> Tensor:
                    return cross_entropy(logits, targets, reduction="sum")

            return ascend(classifier, images, self.start(images, keys), objective, norm=self.norm, **self.schedule())

    def start(self, images: Tensor, keys: Tensor) -> Tensor:
        """Where attacks on the images begin: float (N, C, H, W) in [0, 1]."""
        size = images[0].numel()
        if self.method == "trades":
            noise = 1e-3 * normal(keys, size, NOISE_STREAM).view_as(images)
        elif self.norm == "l2":
            direction = steepest_ascent_direction(normal(keys, size, NOISE_STREAM).view_as(images), "l2")
            noise = self.epsilon * uniform(keys, 1, NOISE_STREAM + 1).view(-1, 1, 1, 1) * direction
        else:
            width = 2 if self.method == "fast" and not self.multi_step else 1
            noise = width * self.epsilon * (2 * uniform(keys, size, NOISE_STREAM).view_as(images) - 1)
        return (images + noise).clamp(0, 1)

    def schedule(self) -> dict[str, Any]:
        """The ball that attacks stay in, their number of steps and their step."""
        if self.one_step and self.multi_step:
            return {"epsilon": self.epsilon, "steps": 2, "step_size": self.epsilon}
        if self.method == "fast":
            return {"epsilon": math.inf, "steps": 1, "step_size": self.epsilon}
        if self.method == "rs_fgsm":
            return {"epsilon": self.epsilon, "steps": 1, "step_size": 1.25 * self.epsilon}
        step_size = self.step_size or 2.5 * self.epsilon / self.steps
        return {"epsilon": self.epsilon, "steps": self.steps, "step_size": step_size}


def has_collapsed(history: list[dict[str, float]], score: str = "validation_robust_accuracy") -> bool:
    """Whether the last epoch lost more than half of the best accuracy under a multi-step attack before it.

    That is how catastrophic overfitting shows: within an epoch a network trained on one-step attacks becomes blind to
    all others (Wong et al. 2020, arXiv:2001.03994, section 5.3).
    """
    *before, last = [entry[score] for entry in history if score in entry] or [0.0]
    return bool(before) and last < COLLAPSE * max(before)
