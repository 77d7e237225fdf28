"""The settings of an evaluation of robustness, and the attacks it knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from .attacks.config import Attack
from .attacks.gradient import fgsm, pgd
from .attacks.square import square
from .attacks.worst_case import ENSEMBLE
from .threat_model import Norm, parse_epsilon

AttackName = Literal["worst_case", "apgd", "pgd", "fgsm", "square"]
ATTACKS: dict[str, dict[str, Attack]] = {
    "worst_case": ENSEMBLE,
    "apgd": {"apgd_ce": ENSEMBLE["apgd_ce"]},
    "pgd": {"pgd": partial(pgd, steps=20)},
    "fgsm": {"fgsm": fgsm},
    "square": {"square": square},
}


class LabeledImages(Protocol):
    """Images in memory or on disk with their labels, as of [`data.datasets.prepare.prepare_images`]."""

    labels: Tensor

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """The settings of [`evaluate_robustness`].

    Attributes:
        epsilon: radius of the ball for pixels in [0, 1], `"8/255"` or a number.
        norm: of the ball, `linf` or `l2`.
        attack: the ensemble `worst_case`, or one attack.
        count: how many images: the first ones or, where they are sorted by class, evenly spaced ones.
        batch_size: images a step.
        names: of the data's classes; where not given, they are the model's.
        transfer_from: the float model that a model without gradients was made from, on the same device.
        dtype: of the forward pass by autocast, as torch.bfloat16; the figures are of the model computed so.
        seed: of attacks and noise.
        path: JSON file of the record, written after every step of the work, so that an interruption loses no more.
        resume: continue the unfinished record in `path`; the result is as if nothing had been interrupted.
        about: what the record holds besides, at its head: model, data.

    Raises:
        ValueError: for an invalid radius, an unknown attack, or counts below 1.
    """

    epsilon: str | float = "8/255"
    norm: Norm = "linf"
    attack: AttackName = "worst_case"
    count: int = 1000
    batch_size: int = 200
    names: Sequence[str] | None = None
    transfer_from: nn.Module | None = None
    dtype: torch.dtype | None = None
    seed: int = 0
    path: Path | None = None
    resume: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.radius == 0:
            raise ValueError("epsilon is 0: there is nothing to attack with.")
        if self.attack not in ATTACKS:
            raise ValueError(f"There is no attack {self.attack!r}: choose one of {', '.join(ATTACKS)}.")
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(f"count and batch_size must be 1 or more, got {self.count} and {self.batch_size}.")

    @property
    def radius(self) -> float:
        """`epsilon` as a number."""
        return parse_epsilon(self.epsilon, self.norm)
