"""What a training says of its epochs."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm


def mean_over_processes(accelerator: Accelerator, sums: dict[str, float], seconds: float) -> dict[str, float]:
    names = sorted(sums)
    totals = torch.tensor([sums[name] for name in names], device=accelerator.device)
    totals = dict(zip(names, accelerator.reduce(totals, "sum").tolist(), strict=True))
    images = totals.pop("images")
    means = {name: total / images for name, total in totals.items()}
    return means | {"images_per_second": images / seconds, "seconds": seconds}


def show(bar: tqdm, sums: dict[str, float], seconds: float, epoch: int, epochs: int, latest: dict[str, float]) -> None:
    means = {name: value / sums["images"] for name, value in sums.items() if name != "images"} | latest
    means = {name: f"{value:.4f}" for name, value in means.items()}
    speed = f"{sums['images'] / seconds:.0f}"
    bar.set_postfix({"epoch": f"{epoch + 1}/{epochs}"} | means | {"images/s": speed}, refresh=False)
    bar.update()


def format_entry(entry: dict[str, float], epochs: int) -> str:
    numbers = {key: value for key, value in entry.items() if key not in ("epoch", "seconds", "learning_rate")}
    parts = [
        f"{key.replace('_', ' ')} {value:.0f}" if value > 100 else f"{key.replace('_', ' ')} {value:.4f}"
        for key, value in numbers.items()
    ]
    return f"epoch {entry['epoch']}/{epochs}, " + ", ".join(parts)


def divergence(history: Sequence[dict[str, float]], first_loss: float | None, learning_rate: float) -> str | None:
    """A warning where the loss of the last epoch has exploded, and that of the epoch before had not.

    It has where it is more than four times the lowest of the earlier epochs, or ten times the loss of the first batch.

    Args:
        history: an entry for each epoch.
        first_loss: of the first batch.
        learning_rate: at its peak, for the advice.
    """
    losses = [entry["loss"] for entry in history]
    floor = 0.01  # below it, small losses of a fine-tuning may well rise tenfold
    limits = [max(floor, 10 * first_loss)] if first_loss is not None and first_loss > 0 else []

    def exploded(epoch: int) -> bool:
        earlier = [4 * max(floor, min(losses[:epoch]))] if epoch and min(losses[:epoch]) > 0 else []
        return losses[epoch] > min([*limits, *earlier], default=float("inf"))

    last = len(losses) - 1
    if not exploded(last) or (last and exploded(last - 1)):
        return None
    start = min([*losses[:last], *([first_loss] if first_loss is not None else [])])
    return (
        f"the loss has risen from {start:.4g} to {losses[last]:.4g} in epoch {last + 1}: the training diverges. Lower "
        f"the learning rate (now {learning_rate:g}), or limit gradients, as by --max-grad-norm 1."
    )


def at_chance(matrix: Sequence[Sequence[int]]) -> bool:
    """Whether a confusion matrix, rows true classes, is one that guessing or a constant answer may give: the mean
    recall of its classes is not above that of guessing by more than 1.645 standard errors (95 %, one-sided)."""
    rows = [(row[number], sum(row)) for number, row in enumerate(matrix) if sum(row)]
    if len(rows) < 2:
        return False
    chance = 1 / len(matrix)
    recall = sum(right / images for right, images in rows) / len(rows)
    error = sqrt(sum(chance * (1 - chance) / images for _, images in rows)) / len(rows)
    return recall < 1 and recall <= chance + 1.645 * error


def too_few_to_tell(matrix: Sequence[Sequence[int]]) -> bool:
    """Whether even a recall halfway between guessing and perfect would be taken for chance: see [`at_chance`]."""
    images = [sum(row) for row in matrix if sum(row)]
    chance = 1 / len(matrix)
    error = sqrt(sum(chance * (1 - chance) / count for count in images)) / max(1, len(images))
    return 1.645 * error > (1 - chance) / 2


def one_class_found(classes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a segmenter gives all pixels the same class, by the figures of each class of its evaluation."""
    found = [row["dice_pooled"] > 0.01 for row in classes.values() if row["pixels"]]
    return len(found) > 1 and sum(found) <= 1


def training_advice(config: Any, history: Sequence[dict[str, float]]) -> str:
    """What to change after a training that has not learned."""
    return (
        f"train longer (--epochs, now {len(history)}), at another learning rate (--learning-rate, now "
        f"{config.learning_rate:g}), in smaller batches (--batch-size, now {config.batch_size}) or on more images; "
        "the loss in curve.png must fall."
    )


def few_images_advice(images: int) -> str:
    return (
        f"{images} image{' is' if images == 1 else 's are'} too few to tell whether anything was learned: give more, "
        "or set more of them aside (--validation 0.3)."
    )


def chance_advice(config: Any, history: Sequence[dict[str, float]]) -> str:
    return f"the result is at chance level, as if nothing had been learned: {training_advice(config, history)}"
