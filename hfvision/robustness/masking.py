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
from .attacks.gradient import Goal, ce, fgsm, look, look_uphill, pgd
from .attacks.square import square
from .attacks.threat import norms, steepest, under_attack
from .attacks.worst_case import Attack
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
        return ~look(model, images, Goal(labels), ce)[1]


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
        loss, _, gradient = look_uphill(model, images, goal, ce)
        way = norms(torch.ones_like(images), norm) / 255 * steepest(gradient, norm)
        losses = [loss, *(look(model, (images + way * step / 8).clamp(0, 1), goal, ce)[0] for step in range(1, 9))]
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
    """The verdicts of what [`MEASURES`] gave, bool (N,) each. A difference that chance makes is not held against it.

    Raises:
        ValueError: if the model has fewer than 20 of the images right.
    """
    clean = measured["clean"]
    images = int(clean.sum())
    if images < SMALLEST:
        raise ValueError(f"The model has {images} of {len(clean)} images right: too few to check it for masking.")
    kept = {name: values[clean] for name, values in measured.items() if name != "clean"}
    share = {name: values.double().mean().item() for name, values in kept.items()}
    text = {name: f"{value:.1%}" for name, value in share.items()}

    def check(name: str, passes: bool, seen: str, verdict: tuple[str, str], *names: str) -> MaskingCheck:
        sentence = f"{seen}: {verdict[0] if passes else verdict[1]}."
        return MaskingCheck(name, passes, sentence, {"images": images} | {key: share[key] for key in names})

    few, many = kept["few_steps"], kept["many_steps"]
    gain = max(0.0, share["few_steps"] - share["many_steps"])
    converged = wilson_interval(gain, images)[0] <= 0.1
    return [
        check(
            "large_epsilon",
            wilson_interval(share["large_epsilon"], images)[0] <= 0.05,
            f"{text['large_epsilon']} withstand a ball that reaches half-grey from every image",
            ("about none, as it must be", "an attack that works would leave about none"),
            "large_epsilon",
        ),
        check(
            "black_box",
            not beats(kept["black_box"], many),
            f"{text['many_steps']} withstand the attack along the gradient, {text['black_box']} the one without",
            ("the gradient helps, or does not hurt", "the gradient misleads"),
            "many_steps",
            "black_box",
        ),
        check(
            "more_steps",
            converged and not beats(few, many),
            f"{text['few_steps']} withstand 10 steps, {text['many_steps']} two starts of 40",
            (
                "more steps do not hurt, and few come near",
                "more steps ought to help" if converged else "few steps are far off, and more may still find more",
            ),
            "few_steps",
            "many_steps",
        ),
        check(
            "one_step",
            not beats(kept["one_step"], few),
            f"{text['one_step']} withstand a single step, {text['few_steps']} ten",
            ("one is not stronger than ten", "one must not be stronger than ten"),
            "one_step",
            "few_steps",
        ),
        check(
            "loss_along_gradient",
            wilson_interval(share["loss_rises"], images)[1] >= 0.9,
            f"The loss rises along its gradient, within one grey level, for {text['loss_rises']}",
            ("the gradient is right", "the gradient is none, or wrong"),
            "loss_rises",
        ),
    ]


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
