"""Threat models: the norm and radius of the ball in which an attack may change pixels."""

import math
from fractions import Fraction
from typing import Literal

Norm = Literal["linf", "l2"]
Method = Literal["pgd", "trades", "mart", "fast", "rs_fgsm"]  # of adversarial training
ONE_STEP = ("fast", "rs_fgsm")
DEFAULT_WEIGHTS = {"trades": 6.0, "mart": 5.0}


# What most of the literature measures with, on CIFAR-10.
DEFAULT_EPSILON: dict[Norm, str] = {"linf": "8/255", "l2": "0.5"}


def parse_epsilon(value: str | float, norm: Norm) -> float:
    """The radius of a ball in units of pixels in [0, 1]: `"8/255"`, `"0.03"` or a number.

    Raises:
        ValueError: for an unknown norm, and if it is no number, not finite, negative, or above 1 with L∞.
    """
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be linf or l2, got {norm!r}.")
    try:
        epsilon = float(Fraction(value.replace(" ", ""))) if isinstance(value, str) else float(value)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"epsilon must be a number or a fraction as 8/255, got {value!r}.") from error
    if not math.isfinite(epsilon) or epsilon < 0:
        raise ValueError(f"epsilon must be finite and not negative, got {value!r}.")
    if norm == "linf" and epsilon > 1:
        raise ValueError(
            f"epsilon {epsilon:g} is above 1, and pixels are in [0, 1]: 8 of 255 grey levels are 8/255, not 8."
        )
    return epsilon


def check_adversary(
    method: Method, *, epsilon: str | float, norm: Norm, steps: int, step_size: float | None, weight: float | None
) -> float:
    """The radius of the ball in which adversarial training attacks, with its settings checked.

    Raises:
        ValueError: for settings that are out of range or do not go together, and as [`parse_epsilon`].
    """
    radius = parse_epsilon(epsilon, norm)
    if radius == 0:
        raise ValueError("epsilon 0 leaves nothing to train against: leave adversarial out.")
    if method in ONE_STEP and norm != "linf":
        raise ValueError(f"adversarial={method} is for norm=linf: choose pgd, trades or mart for {norm}.")
    if steps < 1:
        raise ValueError(f"attack_steps must be at least 1, got {steps}.")
    if step_size is not None and not step_size > 0:
        raise ValueError(f"attack_step_size must be above 0, got {step_size}.")
    if weight is not None and method not in DEFAULT_WEIGHTS:
        raise ValueError(f"adversarial_weight is for trades and mart; {method} has none.")
    if weight is not None and weight < 0:
        raise ValueError(f"adversarial_weight must not be negative, got {weight}.")
    return radius
