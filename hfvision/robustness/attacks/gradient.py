"""Attacks that follow the gradient with steps of one length, and what all attacks share."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...data.transforms.keyed import image_keys, normal, scramble, uniform
from ..threat_model import Norm, parse_epsilon
from .config import AttackConfig, PGDConfig, with_options
from .threat import check_batch, norms, project, steepest_ascent_direction, under_attack


@dataclass
class Goal:
    """What an attack wants of some images.

    Args:
        labels: int64 (N,), their classes.
        toward: int64 (N,), the class whose score the loss raises; None for the likeliest wrong one.
        targeted: the attack succeeds only with the class `toward`, instead of with any wrong one.
    """

    labels: Tensor
    toward: Tensor | None = None
    targeted: bool = False

    def __getitem__(self, rows: Tensor) -> "Goal":
        return Goal(self.labels[rows], None if self.toward is None else self.toward[rows], self.targeted)

    def reached(self, logits: Tensor) -> Tensor:
        """From logits (N, classes) to bool (N,)."""
        answers = logits.argmax(1)
        return answers == self.toward if self.targeted else answers != self.labels


# From logits, float32 (N, classes), and what is wanted to float32 (N,): the higher, the nearer to it.
Loss = Callable[[Tensor, Goal], Tensor]


def ce(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of the label, or the negative one of the class to reach."""
    if goal.toward is None:
        return cross_entropy(logits, goal.labels, reduction="none")
    return -cross_entropy(logits, goal.toward, reduction="none")


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """By how much the class to reach is ahead: of the label, or when targeted of every other class.

    Without a class to reach, by how much the likeliest wrong class is ahead of the label (Carlini and Wagner 2017,
    "Towards Evaluating the Robustness of Neural Networks", f6).
    """
    if goal.targeted and goal.toward is not None:
        return score_of(logits, goal.toward) - best_other(logits, goal.toward)
    wrong = best_other(logits, goal.labels) if goal.toward is None else score_of(logits, goal.toward)
    return wrong - score_of(logits, goal.labels)


def score_of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)


def best_other(logits: Tensor, classes: Tensor) -> Tensor:
    """The highest logit of another class than `classes`, (N,)."""
    return logits.scatter(1, classes[:, None], -torch.inf).amax(1)


LOSSES: dict[str, Loss] = {"ce": ce, "margin": margin}


def find_loss(losses: Mapping[str, Loss], name: str) -> Loss:
    """The loss called `name`.

    Raises:
        ValueError: if there is none.
    """
    if name not in losses:
        raise ValueError(f"loss must be one of {', '.join(losses)}, got {name!r}.")
    return losses[name]


class BestPoints:
    """The best point seen of each image: any that succeeds before any that does not, then the one of highest loss."""

    def __init__(self, images: Tensor):
        self.images = images.clone()
        self.losses = torch.full((len(images),), -torch.inf, device=images.device)
        self.fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)

    def update(self, rows: Tensor, points: Tensor, losses: Tensor, fooled: Tensor) -> None:
        """`points` (M, C, H, W) of the images in `rows`, int64 (M,), with what the model made of them, (M,) each."""
        before = self.fooled[rows]
        better = (fooled & ~before) | ((fooled == before) & (losses > self.losses[rows]))
        chosen = rows[better]
        self.images[chosen], self.losses[chosen], self.fooled[chosen] = points[better], losses[better], fooled[better]

    def remaining(self) -> Tensor:
        """The rows of the images that no point seen has fooled the model about."""
        return (~self.fooled).nonzero().squeeze(1)


def forward_logits(model: nn.Module, points: Tensor, goal: Goal) -> Tensor:
    """The model's logits, (N, classes), for points (N, C, H, W).

    Raises:
        ValueError: if they are none, not finite, or fewer than the classes in use.
    """
    logits = model(points)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(points):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"Expected logits ({len(points)}, classes) of the model, got {got}: is it a PixelClassifier?")
    if not logits.isfinite().all():
        raise ValueError("The model gives logits that are not finite for some of the images.")
    highest = max(classes.max().item() for classes in (goal.labels, goal.toward) if classes is not None)
    if highest >= logits.shape[1]:
        raise ValueError(f"There is a label or target {highest}, and the model has {logits.shape[1]} classes.")
    return logits.float()


def evaluate_loss(model: nn.Module, points: Tensor, goal: Goal, loss: Loss) -> tuple[Tensor, Tensor]:
    """The loss of points (N, C, H, W), float32 (N,), and whether they succeed, bool (N,)."""
    with torch.no_grad():
        logits = forward_logits(model, points, goal)
        return loss(logits, goal), goal.reached(logits)


def loss_and_grad(model: nn.Module, points: Tensor, goal: Goal, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """As [`evaluate_loss`], and the gradient of the loss with respect to the points, float32 (N, C, H, W).

    Raises:
        ValueError: if there is none, or one that is not finite.
    """
    points = points.detach().requires_grad_()
    logits = forward_logits(model, points, goal)
    losses = loss(logits, goal)
    if not logits.requires_grad:
        raise ValueError(
            "The model's logits carry no gradient of the images (it detaches them, or is quantized): only the attack "
            "square works without."
        )
    (gradient,) = torch.autograd.grad(losses.sum(), points)
    if not gradient.isfinite().all():
        raise ValueError("The gradient of the loss is not finite for some of the images.")
    return losses.detach(), goal.reached(logits), gradient


@contextmanager
def attacking(model: nn.Module, seed: int) -> Iterator[None]:
    """[`under_attack`], with gradients also where the caller has switched them off."""
    with under_attack(model, seed), torch.inference_mode(False), torch.enable_grad():
        yield


def pixel_keys(images: Tensor, seed: int, restart: int = 0) -> Tensor:
    """Keys, int64 (N,), that follow from the pixels: an image has the same in every batch and at every place."""
    bits = images.flatten(1).view(torch.int32).long()
    places = scramble(torch.arange(1, bits.shape[1] + 1, device=images.device))
    return image_keys(seed, restart, (bits * places).sum(1))


def random_points(images: Tensor, epsilon: float, norm: Norm, seed: int, restart: int = 0) -> Tensor:
    """Points drawn uniformly from the ball around each image, then clipped to [0, 1]; (N, C, H, W) to the same."""
    keys, size = pixel_keys(images, seed, restart), images[0].numel()
    if norm == "linf":
        offsets = 2 * uniform(keys, size).view_as(images) - 1
    else:
        directions = normal(keys, size).view_as(images)
        radii = uniform(keys, 1, stream=1).view(-1, 1, 1, 1) ** (1 / size)
        offsets = directions / norms(directions, norm) * radii
    return project(images + epsilon * offsets, images, epsilon, norm)


def validate_inputs(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: str | float, norm: Norm, targets: Tensor | None
) -> tuple[float, Goal]:
    """The radius and the goal of an attack, after a check of what it was given."""
    radius = parse_epsilon(epsilon, norm)
    check_batch(model, images, labels, targets)
    return radius, Goal(labels, targets, targets is not None)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: str | float,
    config: PGDConfig | None = None,
    **options: Any,
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks").

    Args:
        model: a [`PixelClassifier`], or any module from images in [0, 1] to logits (N, classes); its mode, gradients
            and the global random state are left as they were.
        images: float32 (N, C, H, W) in [0, 1]. All are computed at once.
        labels: int64 (N,), the true classes.
        epsilon: the ball's radius for pixels in [0, 1], `"8/255"` or a number.
        config, options: the settings, [`PGDConfig`]; an option replaces the field of its name.

    Returns:
        Float32 (N, C, H, W) within the ball and [0, 1]: for each image the best of the points that were evaluated, one
        that succeeds, or else the one of the highest loss.

    Raises:
        TypeError: for an option that is no field of [`PGDConfig`].
        ValueError: for images outside [0, 1], labels or targets that are no classes of the model, an invalid radius,
            logits that are not finite or carry no gradient.
    """
    settings = with_options(PGDConfig, config, options)
    radius, goal = validate_inputs(model, images, labels, epsilon, settings.norm, settings.targets)
    loss = find_loss(LOSSES, settings.loss)
    step_size = 2.5 * radius / settings.steps if settings.step_size is None else settings.step_size
    with attacking(model, settings.seed):
        images = images.clone()
        best = BestPoints(images)
        rows = best.remaining()
        if settings.until_fooled and settings.random_start and len(rows):
            best.update(rows, images, *evaluate_loss(model, images, goal, loss))
        for restart in range(settings.restarts):
            rows = best.remaining() if settings.until_fooled else torch.arange(len(images), device=images.device)
            if not len(rows):
                break
            points = images[rows]
            if settings.random_start:
                points = random_points(points, radius, settings.norm, settings.seed, restart)
            run = PGDRun(model, loss, best, settings, radius, step_size)
            run.ascend(rows, images[rows], goal[rows], points)
    return best.images


@dataclass
class PGDRun:
    """One start of [`pgd`]; `best` is updated with every point."""

    model: nn.Module
    loss: Loss
    best: BestPoints
    config: PGDConfig
    epsilon: float
    step_size: float

    def ascend(self, rows: Tensor, origins: Tensor, goal: Goal, points: Tensor) -> None:
        """Take all steps from `points` (M, C, H, W) of the images in `rows`, or until all of them succeed."""
        norm = self.config.norm
        for _ in range(self.config.steps):
            losses, fooled, gradient = loss_and_grad(self.model, points, goal, self.loss)
            self.best.update(rows, points, losses, fooled)
            if self.config.until_fooled and fooled.any():
                left = ~fooled
                rows, points, gradient, origins = rows[left], points[left], gradient[left], origins[left]
                goal = goal[left]
                if not len(rows):
                    return
            step = self.step_size * steepest_ascent_direction(gradient, norm)
            points = project(points + step, origins, self.epsilon, norm)
        self.best.update(rows, points, *evaluate_loss(self.model, points, goal, self.loss))


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: str | float,
    config: AttackConfig | None = None,
    **options: Any,
) -> Tensor:
    """The fast gradient sign method: [`pgd`] with one step of length epsilon from the image itself.

    Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples"; for L2 the step goes along the gradient.
    Arguments, result and errors as for [`pgd`], with the settings [`AttackConfig`]; `seed` matters only to a model
    that draws random numbers itself.
    """
    settings = with_options(AttackConfig, config, options)
    one_step = PGDConfig(
        norm=settings.norm,
        targets=settings.targets,
        seed=settings.seed,
        steps=1,
        step_size=parse_epsilon(epsilon, settings.norm),
        random_start=False,
    )
    return pgd(model, images, labels, epsilon, one_step)
