"""The worst of several attacks, image by image."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..threat_model import Norm
from .apgd import apgd
from .config import Attack, EnsembleConfig, with_options
from .gradient import BestPoints, attacking, evaluate_loss, margin, validate_inputs
from .square import square
from .threat import norms

# AutoAttack's (Croce and Hein 2020, arXiv:2003.01690) without FAB.
ENSEMBLE: dict[str, Attack] = {
    "apgd_ce": partial(apgd, loss="ce"),
    "apgd_targeted_dlr": partial(apgd, loss="targeted_dlr"),
    "square": square,
}


@dataclass(frozen=True)
class WorstCase:
    """What an ensemble of attacks left.

    Args:
        images: float32 (N, C, H, W), the sample that fools the model where one was found, else the one of the highest
            margin of a wrong class.
        robust: bool (N,), right on the image itself and after all attacks.
        clean: bool (N,), right on the image itself.
        by_attack: for each attack bool (N,), right on the image and after this attack and those before it.
    """

    images: Tensor
    robust: Tensor
    clean: Tensor
    by_attack: dict[str, Tensor]


def worst_case(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: str | float,
    config: EnsembleConfig | None = None,
    **options: Any,
) -> WorstCase:
    """Each attack in turn on the images that withstood those before it; an image is robust if none succeeds.

    What an attack returns goes through the model once more, and only that answer counts. With a model that computes in
    bfloat16 it holds for bfloat16: to state it of the float32 model, evaluate that one on the returned images.

    Args:
        model, images, labels, epsilon: as for [`pgd`], but any number of images.
        config, options: the settings, [`EnsembleConfig`]; an option replaces the field of its name.

    Raises:
        TypeError: for an option that is no field of [`EnsembleConfig`].
        ValueError: as the attacks do, or if one returns images outside the ball or [0, 1].
    """
    settings = with_options(EnsembleConfig, config, options)
    radius, goal = validate_inputs(model, images, labels, epsilon, settings.norm, None)
    best, progress = BestPoints(images), settings.progress or (lambda name, done, count: None)

    def judge(rows: Tensor, points: Tensor) -> None:
        best.update(rows, points, *evaluate_loss(model, points, goal[rows], margin))

    with attacking(model, settings.seed):
        for rows in best.remaining().split(settings.batch_size) if len(images) else ():
            judge(rows, images[rows])
        clean = ~best.fooled
        by_attack = {}
        for name, attack in (settings.attacks or ENSEMBLE).items():
            remaining = best.remaining()
            for done in range(0, len(remaining), settings.batch_size):
                progress(name, done, len(remaining))
                rows = remaining[done : done + settings.batch_size]
                points = attack(model, images[rows], labels[rows], radius, norm=settings.norm, seed=settings.seed)
                check_points(name, points, images[rows], radius, settings.norm)
                judge(rows, points)
            progress(name, len(remaining), len(remaining))
            by_attack[name] = ~best.fooled
    return WorstCase(best.images, ~best.fooled, clean, by_attack)


def check_points(name: str, points: Tensor, images: Tensor, epsilon: float, norm: Norm) -> None:
    """Refuse what an attack of the caller's must not return; rounding is forgiven."""
    if points.shape != images.shape or points.dtype != images.dtype:
        raise ValueError(f"The attack {name} must return images like those it got, got {tuple(points.shape)}.")
    if not (points.min() >= 0 and points.max() <= 1):
        raise ValueError(f"The attack {name} returned images outside [0, 1].")
    farthest = norms(points - images, norm).max().item()
    if farthest > epsilon * (1 + 1e-5) + 1e-6:
        raise ValueError(f"The attack {name} went {farthest:g} far from an image, and epsilon is {epsilon:g}.")
