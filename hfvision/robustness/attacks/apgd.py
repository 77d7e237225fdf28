"""Auto-PGD: projected gradient ascent with momentum that adapts its step size."""

import warnings
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..threat_model import Norm
from .config import APGDConfig, with_options
from .gradient import (
    BestPoints,
    Goal,
    Loss,
    attacking,
    best_other,
    ce,
    evaluate_loss,
    find_loss,
    forward_logits,
    loss_and_grad,
    random_points,
    score_of,
    validate_inputs,
)
from .threat import project, steepest_ascent_direction


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
    """The steps after which the step size is checked, each with how many steps have passed since the one before."""
    interval, least, shorter = (max(int(part * steps), 1) for part in (0.22, 0.06, 0.03))
    found, step = {}, interval
    while step < steps:
        found[step] = interval
        interval = max(interval - shorter, least)
        step += interval
    return found


@dataclass
class APGDState:
    """The state of an ascent: N images, or fewer as they succeed."""

    rows: Tensor  # int64 (N,), of all images
    origins: Tensor  # (N, C, H, W)
    goal: Goal
    points: Tensor  # (N, C, H, W), and those of the step before
    previous_points: Tensor
    losses: Tensor  # (N,), of the step before
    step_sizes: Tensor  # (N, 1, 1, 1)
    best_points: Tensor  # (N, C, H, W), of the highest loss, with that loss and the gradient there
    best_losses: Tensor
    best_gradients: Tensor
    improvements: Tensor  # (N,), steps since the last checkpoint that raised the loss
    checkpoint_losses: Tensor  # (N,), the highest loss at the last checkpoint
    halved: Tensor  # bool (N,), whether the step size was halved there

    def __getitem__(self, rows: Tensor) -> "APGDState":
        return APGDState(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def start(cls, rows: Tensor, origins: Tensor, goal: Goal, points: Tensor, epsilon: float) -> "APGDState":
        """The state before the first step, with steps of twice `epsilon`."""
        zeros = torch.zeros(len(rows), device=rows.device)
        return cls(
            rows,
            origins,
            goal,
            points,
            previous_points=points,
            losses=zeros + torch.inf,
            step_sizes=(zeros + 2 * epsilon).view(-1, 1, 1, 1),
            best_points=points.clone(),
            best_losses=zeros - torch.inf,
            best_gradients=torch.zeros_like(points),
            improvements=zeros.clone(),
            checkpoint_losses=zeros - torch.inf,
            halved=zeros == 0,
        )

    def record(self, losses: Tensor, gradient: Tensor) -> None:
        """Note the losses, (N,), of `points` and their gradient."""
        self.improvements += losses > self.losses
        self.losses = losses
        higher = losses > self.best_losses
        self.best_points[higher], self.best_losses[higher] = self.points[higher], losses[higher]
        self.best_gradients[higher] = gradient[higher]

    def halve_steps(self, interval: int, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """At a checkpoint `interval` steps after the one before: halve the steps of images whose loss rose too seldom,
        and give the points and gradients to continue from, for these the best ones."""
        stuck = ~self.halved & (self.best_losses <= self.checkpoint_losses)
        self.halved = (self.improvements <= 0.75 * interval) | stuck
        back = self.halved.view(-1, 1, 1, 1)
        self.step_sizes = torch.where(back, self.step_sizes / 2, self.step_sizes)
        self.checkpoint_losses = self.best_losses.clone()
        self.improvements = torch.zeros_like(self.losses)
        return torch.where(back, self.best_points, self.points), torch.where(back, self.best_gradients, gradient)


@dataclass
class APGDRun:
    """What stays the same over all starts of an attack; `best` is updated with every point."""

    model: nn.Module
    best: BestPoints
    loss: Loss
    steps: int
    epsilon: float
    norm: Norm

    def ascend(self, state: APGDState) -> None:
        """Take all steps, or as many until all images succeed (Algorithm 1 of the paper)."""
        checks = checkpoints(self.steps)
        for step in range(self.steps):
            losses, fooled, gradient = loss_and_grad(self.model, state.points, state.goal, self.loss)
            self.best.update(state.rows, state.points, losses, fooled)
            if fooled.any():
                state, losses, gradient = state[~fooled], losses[~fooled], gradient[~fooled]
                if not len(state.rows):
                    return
            state.record(losses, gradient)
            points = state.points
            if step in checks:
                points, gradient = state.halve_steps(checks[step], gradient)
            change = state.step_sizes * steepest_ascent_direction(gradient, self.norm)
            new = project(points + change, state.origins, self.epsilon, self.norm)
            if step:
                momentum = 0.75 * (new - points) + 0.25 * (points - state.previous_points)
                new = project(points + momentum, state.origins, self.epsilon, self.norm)
            state.previous_points, state.points = points, new
        self.best.update(state.rows, state.points, *evaluate_loss(self.model, state.points, state.goal, self.loss))


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: str | float,
    config: APGDConfig | None = None,
    **options: Any,
) -> Tensor:
    """Auto-PGD (Croce and Hein 2020, arXiv:2003.01690), the white-box part of the standard ensemble.

    Where the loss rises too seldom, the step is halved and the ascent continues from its best point.

    Args:
        model, images, labels, epsilon: as for [`pgd`].
        config, options: the settings, [`APGDConfig`]; an option replaces the field of its name.

    Returns:
        As [`pgd`]: images that the model gets wrong already stay as they are.

    Raises:
        TypeError, ValueError: as [`pgd`].
    """
    settings = with_options(APGDConfig, config, options)
    radius, goal = validate_inputs(model, images, labels, epsilon, settings.norm, settings.targets)
    loss = find_loss(LOSSES, settings.loss)
    if not len(images):
        return images.clone()
    with attacking(model, settings.seed):
        images = images.clone()
        best = BestPoints(images)
        with torch.no_grad():
            logits = forward_logits(model, images, goal)
        if settings.loss != "ce" and logits.shape[1] < 4:
            warnings.warn(
                f"The model has {logits.shape[1]} classes and the difference of logits ratio needs four: the margin "
                "of logits is maximized instead.",
                stacklevel=2,
            )
        goals = [goal]
        if settings.loss == "targeted_dlr" and settings.targets is None:
            goals = wrong_classes(logits, labels, settings.target_classes)
        best.update(best.remaining(), images, loss(logits, goals[0]), goal.reached(logits))
        run = APGDRun(model, best, loss, settings.steps, radius, settings.norm)
        for number, start_goal in enumerate(goal for goal in goals for _ in range(settings.restarts)):
            rows = best.remaining()
            if not len(rows):
                break
            points = random_points(images[rows], radius, settings.norm, settings.seed, number)
            run.ascend(APGDState.start(rows, images[rows], start_goal[rows], points, radius))
    return best.images


def wrong_classes(logits: Tensor, labels: Tensor, count: int) -> list[Goal]:
    """For the likeliest wrong class of each image, then the next, `count` at most: the goal to reach it."""
    ranking = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
    return [Goal(labels, toward) for toward in ranking[:, :count].unbind(1)]
