"""The worst of several attacks, image by image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ..threat_model import Norm
from .apgd import apgd
from .gradient import Best, attacking, check_counts, look, margin, set_out
from .square import square
from .threat import norms

# Called as attack(model, images, labels, epsilon, norm=…, seed=…).
Attack = Callable[..., Tensor]

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
    *,
    norm: Norm = "linf",
    attacks: Mapping[str, Attack] = ENSEMBLE,
    batch_size: int = 256,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> WorstCase:
    """Each attack in turn on the images that withstood those before it; an image is robust if none succeeds.

    Whatever an attack returns is put to the model once more, and only that answer counts. With a model that computes
    in bfloat16 it holds for bfloat16: to state it of the float32 model, ask that one about the returned images.

    Args:
        model, images, labels, epsilon, norm: as for [`pgd`], but any number of images.
        attacks: by name, in their order; each is called with `model, images, labels, epsilon, norm=, seed=`. For
            smaller budgets give `functools.partial(square, queries=1000)` and the like.
        batch_size: images an attack gets at once.
        seed: of the attacks. Those of this package treat an image alike in every batch.
        progress: told the attack, how many of its images are done and how many it has, at its start and after each
            batch.

    Raises:
        ValueError: as the attacks do, or if one returns images outside the ball or [0, 1].
    """
    radius, goal = set_out(model, images, labels, epsilon, norm, None)
    check_counts(batch_size=batch_size)
    best = Best(images)

    def judge(rows: Tensor, points: Tensor) -> None:
        best.see(rows, points, *look(model, points, goal[rows], margin))

    with attacking(model, seed):
        for rows in best.standing().split(batch_size) if len(images) else ():
            judge(rows, images[rows])
        clean = ~best.fooled
        by_attack = {}
        for name, attack in attacks.items():
            standing = best.standing()
            done = 0
            while done < len(standing):
                if progress is not None:
                    progress(name, done, len(standing))
                rows = standing[done : done + batch_size]
                points = attack(model, images[rows], labels[rows], radius, norm=norm, seed=seed)
                check_points(name, points, images[rows], radius, norm)
                judge(rows, points)
                done += len(rows)
            if progress is not None:
                progress(name, done, len(standing))
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
