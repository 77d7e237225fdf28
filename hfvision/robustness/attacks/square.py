"""Square Attack: random search that sees only the model's scores."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...data.transforms.keyed import uniform
from .config import SquareConfig, with_options
from .gradient import BestPoints, Goal, attacking, ce, evaluate_loss, margin, pixel_keys, validate_inputs
from .threat import norms

# The part of the pixels in a square is 0.8 at first and halved after these of 10,000 queries.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: str | float,
    config: SquareConfig | None = None,
    **options: Any,
) -> Tensor:
    """Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049), which needs no gradients.

    It starts from vertical stripes (L2: from tiles). Then pixels of a random square change to the border of the ball,
    which is kept where it raises the margin of the likeliest wrong class, or the likelihood of the class to reach.

    Args:
        model, images, labels, epsilon: as for [`pgd`].
        config, options: the settings, [`SquareConfig`]; an option replaces the field of its name.

    Returns:
        As [`pgd`]: images that the model gets wrong already stay as they are.

    Raises:
        TypeError, ValueError: as [`pgd`], but a model without gradients is accepted.
    """
    settings = with_options(SquareConfig, config, options)
    radius, goal = validate_inputs(model, images, labels, epsilon, settings.norm, settings.targets)
    if not len(images):
        return images.clone()
    with attacking(model, settings.seed):
        images = images.clone()
        best = BestPoints(images)
        search(model, images, goal, best, radius, settings)
    return best.images


def search(
    model: nn.Module, images: Tensor, goal: Goal, best: BestPoints, epsilon: float, config: SquareConfig
) -> None:
    """The random search of [`square`]; `best` is updated with every point."""
    loss = margin if config.targets is None else ce
    start, propose = (stripes, with_square) if config.norm == "linf" else (tiles, with_bump)
    best.update(best.remaining(), images, *evaluate_loss(model, images, goal, loss))
    rows = best.remaining()
    origins, goal, keys = images[rows], goal[rows], pixel_keys(images[rows], config.seed)
    points, losses = origins, torch.full_like(rows, -torch.inf, dtype=torch.float32)
    for query in range(config.queries):
        if not len(rows):
            break
        if query == 0:
            candidates = start(origins, keys, epsilon)
        else:
            side = side_of((query - 1) / config.queries, *images.shape[-2:])
            candidates = propose(points, origins, keys, epsilon, side, query)
        found, fooled = evaluate_loss(model, candidates, goal, loss)
        best.update(rows, candidates, found, fooled)
        better = found > losses
        points = torch.where(better.view(-1, 1, 1, 1), candidates, points)
        losses = torch.where(better, found, losses)
        if fooled.any():
            left = ~fooled
            rows, origins, points, keys = rows[left], origins[left], points[left], keys[left]
            losses, goal = losses[left], goal[left]


def side_of(done: float, height: int, width: int) -> int:
    """The side in pixels of the squares when that part of all queries is done, 0 to 1."""
    halvings = sum(done * 10_000 > query for query in HALVED_AFTER)
    side = round(math.sqrt(0.8 / 2**halvings * height * width))
    return min(max(side, 1), height, width)


def signs(numbers: Tensor) -> Tensor:
    """Numbers of [0, 1) to -1 and 1."""
    return 1 - 2 * (numbers < 0.5).float()


def places(numbers: Tensor, side: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Numbers of [0, 1), (N, 2), to the rows and columns of a square in each image, int64 (N, side) each."""
    top = (numbers[:, :1] * (height - side + 1)).long()
    left = (numbers[:, 1:] * (width - side + 1)).long()
    along = torch.arange(side, device=numbers.device)
    return top + along, left + along


def stripes(origins: Tensor, keys: Tensor, epsilon: float) -> Tensor:
    """Each column of each channel goes to one end of the L∞ ball or the other."""
    count, channels, _, width = origins.shape
    ends = signs(uniform(keys, channels * width)).view(count, channels, 1, width)
    return (origins + epsilon * ends).clamp(0, 1)


def with_square(points: Tensor, origins: Tensor, keys: Tensor, epsilon: float, side: int, query: int) -> Tensor:
    """The pixels of one square go to an end of the L∞ ball, the same for all in a channel (Algorithm 2)."""
    count, channels, height, width = points.shape
    numbers = uniform(keys, 2 + channels, query)
    rows, columns = places(numbers[:, :2], side, height, width)
    ends = signs(numbers[:, 2:]).view(count, channels, 1, 1)
    across = torch.arange(height, device=points.device), torch.arange(width, device=points.device)
    inside_rows, inside_columns = (
        (place >= square[:, :1]) & (place <= square[:, -1:])
        for place, square in zip(across, (rows, columns), strict=True)
    )
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(inside, (origins + epsilon * ends).clamp(0, 1), points)


def tiles(origins: Tensor, keys: Tensor, epsilon: float) -> Tensor:
    """A bump of either sign in each channel of each tile, about five by five tiles, of total length epsilon."""
    count, channels, height, width = origins.shape
    side = max(min(height, width) // 5, 1)
    down, along = height // side, width // side
    numbers = uniform(keys, (channels + 1) * down * along).view(count, channels + 1, down, along)
    numbers = numbers.repeat_interleave(side, 2).repeat_interleave(side, 3)
    upright = bump(side, origins.device)
    shape = torch.where(numbers[:, :1] < 0.5, upright.repeat(down, along), upright.T.repeat(down, along))
    above, before = (height - down * side) // 2, (width - along * side) // 2
    margins = (before, width - along * side - before, above, height - down * side - above)
    return stretched(origins, pad(shape * signs(numbers[:, 1:]), margins), epsilon)


def with_bump(points: Tensor, origins: Tensor, keys: Tensor, epsilon: float, side: int, query: int) -> Tensor:
    """A bump goes into one square, of the length that was there and in another square, now empty (Algorithm 3)."""
    count, channels, height, width = points.shape
    side = min(max(side, 3) | 1, height, width)
    numbers = uniform(keys, 5 + channels, query)
    corners = [places(at, side, height, width) for at in numbers[:, :4].split(2, 1)]
    here, there = (window(count, channels, *corner) for corner in corners)
    change = points - origins
    rest = change.clone()
    rest[here], rest[there] = 0, 0
    freed = (change - rest).square().sum((2, 3), keepdim=True)
    unused = (epsilon**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp_min(0) / channels
    upright = bump(side, points.device)
    shape = torch.where(numbers[:, 4].view(-1, 1, 1, 1) < 0.5, upright, upright.T)
    new = unit(shape * signs(numbers[:, 5:])[..., None, None] + unit(change[here]))
    rest[here] = new * (freed + unused).sqrt()
    return stretched(origins, rest, epsilon)


def window(count: int, channels: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """The index of a square of each image, of rows and columns int64 (N, side), in (N, C, H, W)."""
    images, depth = torch.arange(count, device=rows.device), torch.arange(channels, device=rows.device)
    return images.view(-1, 1, 1, 1), depth.view(1, -1, 1, 1), rows[:, None, :, None], columns[:, None, None, :]


def unit(squares: Tensor) -> Tensor:
    """Each channel of each image, (N, C, H, W), divided by its length."""
    return squares / squares.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-12)


def stretched(origins: Tensor, change: Tensor, epsilon: float) -> Tensor:
    """Origins with changes of length epsilon in L2, clipped to [0, 1]."""
    return (origins + change * (epsilon / norms(change, "l2").clamp_min(1e-12))).clamp(0, 1)


def bump(side: int, device: torch.device) -> Tensor:
    """A hill above a valley of length 1 together, (side, side), after the paper's eq. 3."""

    def hill(height: int) -> Tensor:
        far = max(height, side) // 2 + 1
        slope = (1 / torch.arange(1, far + 1, device=device) ** 2).flip(0).cumsum(0).flip(0)
        down, along = (torch.arange(size, device=device).sub(size // 2).abs() for size in (height, side))
        shape = slope[torch.maximum(down[:, None], along)]
        return shape / shape.norm()

    halves = torch.cat([hill(side // 2), -hill(side - side // 2)])
    return halves / halves.norm()
