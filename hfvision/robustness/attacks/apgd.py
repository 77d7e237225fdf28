"""Auto-PGD: projected gradient ascent with momentum that finds its step size by itself."""

import warnings
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from ..threat_model import Norm
from .gradient import (
    Best,
    Goal,
    Loss,
    ask,
    attacking,
    best_other,
    ce,
    check_counts,
    look,
    look_uphill,
    random_points,
    score_of,
    set_out,
)
from .threat import project, steepest


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, eq. 6, and eq. 7 where a class is to be reached).

    The margin of the wrong class over the label, over the spread of the highest logits: it vanishes for no scale of
    the logits. It needs four classes; with fewer it is the margin itself.
    """
    wrong = best_other(logits, goal.labels) if goal.toward is None else score_of(logits, goal.toward)
    ahead = wrong - score_of(logits, goal.labels)
    if logits.shape[1] < 4:
        return ahead
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    spread = first - (third if goal.toward is None else (third + fourth) / 2)
    return ahead / (spread + 1e-12)


LOSSES: dict[str, Loss] = {"ce": ce, "dlr": dlr, "targeted_dlr": dlr}


def checkpoints(steps: int) -> dict[int, int]:
    """The steps after which the step size is looked at, each with how many steps have passed since the one before."""
    interval, least, shorter = (max(int(part * steps), 1) for part in (0.22, 0.06, 0.03))
    found, step = {}, interval
    while step < steps:
        found[step] = interval
        interval = max(interval - shorter, least)
        step += interval
    return found


@dataclass
class Climb:
    """Where the images of an ascent are: N of them, or fewer as they succeed."""

    rows: Tensor  # int64 (N,), of all images
    origins: Tensor  # (N, C, H, W)
    goal: Goal
    points: Tensor  # (N, C, H, W), and those of the step before
    before: Tensor
    losses: Tensor  # (N,), of the step before
    step_sizes: Tensor  # (N, 1, 1, 1)
    top: Tensor  # (N, C, H, W), the point of the highest loss, with that loss and the gradient there
    top_losses: Tensor
    top_gradients: Tensor
    rises: Tensor  # (N,), steps since the last checkpoint that raised the loss
    checked_losses: Tensor  # (N,), the highest loss at the last checkpoint
    halved: Tensor  # bool (N,), whether the step size was halved there

    def __getitem__(self, rows: Tensor) -> "Climb":
        return Climb(*(getattr(self, field.name)[rows] for field in fields(self)))


def begin(rows: Tensor, origins: Tensor, goal: Goal, points: Tensor, epsilon: float) -> Climb:
    numbers = torch.zeros(len(rows), device=rows.device)
    return Climb(
        rows,
        origins,
        goal,
        points,
        before=points,
        losses=numbers + torch.inf,
        step_sizes=(numbers + 2 * epsilon).view(-1, 1, 1, 1),
        top=points.clone(),
        top_losses=numbers - torch.inf,
        top_gradients=torch.zeros_like(points),
        rises=numbers.clone(),
        checked_losses=numbers - torch.inf,
        halved=numbers == 0,
    )


def ascend(model: nn.Module, climb: Climb, best: Best, loss: Loss, steps: int, epsilon: float, norm: Norm) -> None:
    """Climb until all images succeed, or for `steps` gradients; `best` sees every point (Algorithm 1 of the paper)."""
    checks = checkpoints(steps)
    for step in range(steps):
        losses, fooled, gradient = look_uphill(model, climb.points, climb.goal, loss)
        best.see(climb.rows, climb.points, losses, fooled)
        if fooled.any():
            climb, losses, gradient = climb[~fooled], losses[~fooled], gradient[~fooled]
            if not len(climb.rows):
                return
        climb.rises += losses > climb.losses
        climb.losses = losses
        higher = losses > climb.top_losses
        climb.top[higher], climb.top_losses[higher] = climb.points[higher], losses[higher]
        climb.top_gradients[higher] = gradient[higher]
        points = climb.points
        if step in checks:
            stuck = ~climb.halved & (climb.top_losses <= climb.checked_losses)
            climb.halved = (climb.rises <= 0.75 * checks[step]) | stuck
            back = climb.halved.view(-1, 1, 1, 1)
            climb.step_sizes = torch.where(back, climb.step_sizes / 2, climb.step_sizes)
            points = torch.where(back, climb.top, points)
            gradient = torch.where(back, climb.top_gradients, gradient)
            climb.checked_losses = climb.top_losses.clone()
            climb.rises = torch.zeros_like(losses)
        new = project(points + climb.step_sizes * steepest(gradient, norm), climb.origins, epsilon, norm)
        if step:
            momentum = 0.75 * (new - points) + 0.25 * (points - climb.before)
            new = project(points + momentum, climb.origins, epsilon, norm)
        climb.before, climb.points = points, new
    best.see(climb.rows, climb.points, *look(model, climb.points, climb.goal, loss))


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: str | float,
    *,
    norm: Norm = "linf",
    steps: int = 100,
    restarts: int = 1,
    loss: Literal["ce", "dlr", "targeted_dlr"] = "ce",
    target_classes: int = 9,
    targets: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Auto-PGD (Croce and Hein 2020, arXiv:2003.01690), the white-box part of the standard ensemble.

    Where the loss rises too seldom, the step is halved and the ascent goes on from its best point.

    Args:
        model, images, labels, epsilon, norm, targets, seed: as for [`pgd`].
        steps: gradients a start; the model answers once more than that, and once an attack about the image itself.
        restarts: starts at other random points, for each target class; each on the images that withstood those before.
        loss: `ce`; `dlr`, the difference of logits ratio; or `targeted_dlr`, that ratio for one wrong class after the
            other, from the likeliest on, and any wrong answer counts. With fewer than four classes the ratio is not
            defined: the margin of logits is climbed, and a warning says so.
        target_classes: how many classes `targeted_dlr` tries, at most all but the label.

    Returns:
        As [`pgd`]: images that the model gets wrong already stay as they are.

    Raises:
        ValueError: as [`pgd`].
    """
    epsilon, everything = set_out(model, images, labels, epsilon, norm, targets)
    check_counts(steps=steps, restarts=restarts, target_classes=target_classes)
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}.")
    if not len(images):
        return images.clone()
    with attacking(model, seed):
        images = images.clone()
        best = Best(images)
        with torch.no_grad():
            logits = ask(model, images, everything)
        if loss != "ce" and logits.shape[1] < 4:
            warnings.warn(
                f"The model has {logits.shape[1]} classes and the difference of logits ratio needs four: the margin "
                "of logits is climbed instead.",
                stacklevel=2,
            )
        goals = [everything]
        if loss == "targeted_dlr" and targets is None:
            ranking = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
            goals = [Goal(labels, toward) for toward in ranking[:, :target_classes].unbind(1)]
        best.see(best.standing(), images, LOSSES[loss](logits, goals[0]), everything.reached(logits))
        for number, goal in enumerate(goal for goal in goals for _ in range(restarts)):
            rows = best.standing()
            if not len(rows):
                break
            points = random_points(images[rows], epsilon, norm, seed, number)
            climb = begin(rows, images[rows], goal[rows], points, epsilon)
            ascend(model, climb, best, LOSSES[loss], steps, epsilon, norm)
    return best.images
