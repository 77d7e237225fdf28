"""The settings of attacks. Each attack takes them as one object, by keyword, or both, as transformers' `generate`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from torch import Tensor

from ..threat_model import Norm

Config = TypeVar("Config")
# Called as attack(model, images, labels, epsilon, norm=…, seed=…).
Attack = Callable[..., Tensor]


def with_options(config_class: type[Config], config: Config | None, options: Mapping[str, Any]) -> Config:
    """The settings of `config`, or the defaults, with the fields in `options` replaced.

    Raises:
        TypeError: for an option that is no field.
        ValueError: for values out of range.
    """
    return replace(config or config_class(), **options)  # pyright: ignore[reportArgumentType]: any dataclass


def check_counts(**counts: int) -> None:
    """Raise ValueError for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be 1 or more, got {count}.")


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """What all attacks have in common.

    Attributes:
        norm: of the ball, `linf` or `l2`.
        targets: int64 (N,), classes to reach; where not given any wrong class will do.
        seed: of random numbers. Random starts follow from it and the pixels of an image alone, not from its batch.
    """

    norm: Norm = "linf"
    targets: Tensor | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PGDConfig(AttackConfig):
    """The settings of [`pgd`].

    Attributes:
        steps: gradients a start; there is one forward pass more.
        step_size: length of a step in `norm`; 2.5 · epsilon / steps where not given.
        restarts: starts at other random points, each on the images that withstood those before.
        random_start: start anywhere in the ball; else at the image.
        loss: what is maximized, cross-entropy or the margin of logits.
        until_fooled: stop at the first success of an image, and leave one that the model gets wrong already as it is.
            Else every step is taken and the image of the highest loss is returned, for training and for the transfer
            to other models.

    Raises:
        ValueError: for counts below 1, or several starts without `random_start`.
    """

    steps: int = 10
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    loss: Literal["ce", "margin"] = "ce"
    until_fooled: bool = True

    def __post_init__(self):
        check_counts(steps=self.steps, restarts=self.restarts)
        if self.restarts > 1 and not self.random_start:
            raise ValueError("More than one start needs random_start: without it all are the same.")


@dataclass(frozen=True, kw_only=True)
class APGDConfig(AttackConfig):
    """The settings of [`apgd`].

    Attributes:
        steps: gradients a start; there is one forward pass more, and one for the images themselves.
        restarts: starts at other random points, for each target class; each on the images that withstood those before.
        loss: `ce`; `dlr`, the difference of logits ratio; or `targeted_dlr`, that ratio for one wrong class after the
            other, from the likeliest on, where any wrong answer counts. With fewer than four classes the ratio is not
            defined: the margin of logits is maximized, with a warning.
        target_classes: how many classes `targeted_dlr` tries, at most all but the label.

    Raises:
        ValueError: for counts below 1.
    """

    steps: int = 100
    restarts: int = 1
    loss: Literal["ce", "dlr", "targeted_dlr"] = "ce"
    target_classes: int = 9

    def __post_init__(self):
        check_counts(steps=self.steps, restarts=self.restarts, target_classes=self.target_classes)


@dataclass(frozen=True, kw_only=True)
class SquareConfig(AttackConfig):
    """The settings of [`square`].

    Attributes:
        queries: points tried for each image, beside the image itself. The schedule of the squares' sizes, made for
            10,000, is stretched to it.

    Raises:
        ValueError: for fewer than one query.
    """

    queries: int = 5000

    def __post_init__(self):
        check_counts(queries=self.queries)


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """The settings of [`worst_case`].

    Attributes:
        norm: of the ball, `linf` or `l2`.
        attacks: by name, in their order; each is called with `model, images, labels, epsilon, norm=, seed=`. For
            smaller budgets give `functools.partial(square, queries=1000)` and the like. Empty: AutoAttack's without
            FAB.
        batch_size: images an attack gets at once.
        seed: of the attacks. Those of this package treat an image alike in every batch.
        progress: called with the attack, how many of its images are done and how many it has, at its start and after
            each batch.

    Raises:
        ValueError: for a batch size below 1.
    """

    norm: Norm = "linf"
    attacks: Mapping[str, Attack] = field(default_factory=dict)
    batch_size: int = 256
    seed: int = 0
    progress: Callable[[str, int, int], None] | None = None

    def __post_init__(self):
        check_counts(batch_size=self.batch_size)
