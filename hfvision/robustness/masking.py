"""Is a model robust, or does it only hide its gradients from the attack? Five checks, with the size of the sample.

Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of security" (arXiv:1802.00420), section
3.1, and Carlini et al. 2019, "On evaluating adversarial robustness" (arXiv:1902.06705).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import comb

import torch
from torch import Tensor, nn

from ..metrics.accuracy import wilson_interval
from .attacks.config import Attack
from .attacks.gradient import Goal, ce, evaluate_loss, fgsm, loss_and_grad, pgd
from .attacks.square import square
from .attacks.threat import norms, steepest_ascent_direction, under_attack
from .threat_model import Norm

SMALLEST = 20  # images that the model has right: of fewer nothing is said
# From model, images, labels, epsilon, norm and seed to bool (N,).
Measure = Callable[[nn.Module, Tensor, Tensor, float, Norm, int], Tensor]


@dataclass(frozen=True)
class MaskingCheck:
    """One sign of masked gradients.

    Attributes:
        name: of the check.
        passes: False where the model is suspicious.
        sentence: the verdict, for people.
        figures: what it rests on: accuracies or shares, 0 to 1, of the `images` that the model has right.
    """

    name: str
    passes: bool
    sentence: str
    figures: dict[str, float]


def right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Whether the model's answers are the labels, bool (N,), for images float32 (N, C, H, W) in [0, 1]."""
    with under_attack(model):
        return ~evaluate_loss(model, images, Goal(labels), ce)[1]


def after(attack: Attack) -> Measure:
    """Whether the model is still right after an attack."""

    def measure(model, images, labels, epsilon, norm, seed):
        return right(model, attack(model, images, labels, epsilon, norm=norm, seed=seed), labels)

    return measure


def after_large(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, norm: Norm, seed: int) -> Tensor:
    """The same with a ball, whatever `epsilon`, from every image of which half-grey can be reached."""
    large = 0.5 * norms(torch.ones_like(images[:1]), norm).item()
    return right(model, pgd(model, images, labels, large, norm=norm, steps=20, seed=seed), labels)


def loss_rises(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, norm: Norm, seed: int) -> Tensor:
    """Whether the loss rises in the direction of its gradient, whatever `epsilon`: on the way of one grey level.

    Of eight steps one may fall; a loss without gradient does not rise. Farther off the loss of an honest model bends.
    """
    goal = Goal(labels)
    with under_attack(model):
        loss, _, gradient = loss_and_grad(model, images, goal, ce)
        direction = norms(torch.ones_like(images), norm) / 255 * steepest_ascent_direction(gradient, norm)
        losses = [
            loss,
            *(evaluate_loss(model, (images + direction * step / 8).clamp(0, 1), goal, ce)[0] for step in range(1, 9)),
        ]
    losses = torch.stack(losses, 1)
    return (losses[:, -1] > losses[:, 0]) & ((losses.diff(dim=1) < 0).sum(1) <= 1)


MEASURES: dict[str, Measure] = {
    "clean": lambda model, images, labels, epsilon, norm, seed: right(model, images, labels),
    "one_step": after(fgsm),
    "few_steps": after(partial(pgd, steps=10)),
    "many_steps": after(partial(pgd, steps=40, restarts=2)),
    "black_box": after(partial(square, queries=500)),
    "large_epsilon": after_large,
    "loss_rises": loss_rises,
}


def check_masking(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, *, norm: Norm = "linf", seed: int = 0
) -> list[MaskingCheck]:
    """All checks on some images; a model is masked if one of them does not pass.

    Args:
        model: a [`threat.PixelClassifier`] with gradients.
        images: float32 (N, C, H, W) in [0, 1], all computed at once.
        labels: int64 (N,).
        epsilon, norm, seed: of the attacks.

    Returns:
        As [`judge_masking`].

    Raises:
        ValueError: if the model has no gradients, or fewer than 20 of the images right.
    """
    return judge_masking(
        {name: measure(model, images, labels, epsilon, norm, seed) for name, measure in MEASURES.items()}
    )


def judge_masking(measured: Mapping[str, Tensor]) -> list[MaskingCheck]:
    """The verdicts on what [`MEASURES`] gave, bool (N,) each. A difference that chance explains is no sign of masking.

    Raises:
        ValueError: if the model has fewer than 20 of the images right.
    """
    clean = measured["clean"]
    images = int(clean.sum())
    if images < SMALLEST:
        raise ValueError(f"The model has {images} of {len(clean)} images right: too few to check it for masking.")
    kept = {name: values[clean] for name, values in measured.items() if name != "clean"}
    survivors = Survivors(images, kept, {name: values.double().mean().item() for name, values in kept.items()})
    return [check(survivors) for check in CHECKS]


@dataclass(frozen=True)
class Survivors:
    """The images that the model has right, and what each measure left of them.

    Attributes:
        images: how many there are.
        right: for each measure bool (images,).
        share: for each measure the mean of these.
    """

    images: int
    right: dict[str, Tensor]
    share: dict[str, float]

    def low(self, name: str) -> float:
        """The lower end of the 95 % interval of a share."""
        return wilson_interval(self.share[name], self.images)[0]

    def text(self, name: str) -> str:
        return f"{self.share[name]:.1%}"

    def check(self, name: str, passes: bool, finding: str, verdict: tuple[str, str], *names: str) -> MaskingCheck:
        """A check with the verdict for models that pass, or the one for others."""
        sentence = f"{finding}: {verdict[0] if passes else verdict[1]}."
        return MaskingCheck(name, passes, sentence, {"images": self.images} | {key: self.share[key] for key in names})


def check_large_epsilon(found: Survivors) -> MaskingCheck:
    return found.check(
        "large_epsilon",
        found.low("large_epsilon") <= 0.05,
        f"{found.text('large_epsilon')} withstand a ball that reaches half-grey from every image",
        ("about none, as it must be", "an attack that works would leave about none"),
        "large_epsilon",
    )


def check_black_box(found: Survivors) -> MaskingCheck:
    many, black_box = found.text("many_steps"), found.text("black_box")
    return found.check(
        "black_box",
        not beats(found.right["black_box"], found.right["many_steps"]),
        f"{many} withstand the attack along the gradient, {black_box} the one without",
        ("the gradient helps, or does not hurt", "the gradient misleads"),
        "many_steps",
        "black_box",
    )


def check_more_steps(found: Survivors) -> MaskingCheck:
    gain = max(0.0, found.share["few_steps"] - found.share["many_steps"])
    converged = wilson_interval(gain, found.images)[0] <= 0.1
    return found.check(
        "more_steps",
        converged and not beats(found.right["few_steps"], found.right["many_steps"]),
        f"{found.text('few_steps')} withstand 10 steps, {found.text('many_steps')} two starts of 40",
        (
            "more steps do not hurt, and few come near",
            "more steps ought to help" if converged else "few steps are far off, and more may still find more",
        ),
        "few_steps",
        "many_steps",
    )


def check_one_step(found: Survivors) -> MaskingCheck:
    return found.check(
        "one_step",
        not beats(found.right["one_step"], found.right["few_steps"]),
        f"{found.text('one_step')} withstand a single step, {found.text('few_steps')} ten",
        ("one is not stronger than ten", "one must not be stronger than ten"),
        "one_step",
        "few_steps",
    )


def check_loss_along_gradient(found: Survivors) -> MaskingCheck:
    return found.check(
        "loss_along_gradient",
        wilson_interval(found.share["loss_rises"], found.images)[1] >= 0.9,
        f"The loss rises along its gradient, within one grey level, for {found.text('loss_rises')}",
        ("the gradient is right", "the gradient is none, or wrong"),
        "loss_rises",
    )


CHECKS = (check_large_epsilon, check_black_box, check_more_steps, check_one_step, check_loss_along_gradient)


def beats(weak: Tensor, strong: Tensor) -> bool:
    """Whether the attack that is meant to be weaker fools the model about more images, by more than chance has it.

    By more than one image in a hundred, and significantly by McNemar's exact test, one-sided, p < 0.01.

    Args:
        weak, strong: bool (N,), whether the model is right after either attack on the same images.
    """
    wins, losses = int((strong & ~weak).sum()), int((weak & ~strong).sum())
    differing = wins + losses
    chance = sum(comb(differing, k) for k in range(wins, differing + 1)) / 2**differing
    return chance < 0.01 and wins - losses > 0.01 * len(weak)
