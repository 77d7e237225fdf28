"""The metrics of a training: means within an epoch, and what the history of the epochs says."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

History = list[dict[str, float]]  # the metrics of each epoch


class RunningMeans:
    """Means of scalars over the images of an epoch, summed on the device so that no step has to wait for it.

    Args:
        device: where the scalars are.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.load({})

    def update(self, values: Mapping[str, Tensor], count: int) -> None:
        """Add scalars that are means over `count` images.

        Raises:
            ValueError: for other names than before.
        """
        if not self.names:
            self.names = tuple(values)
            self.totals = torch.zeros(len(values), dtype=self.dtype, device=self.device)
        if values.keys() != set(self.names):
            raise ValueError(f"The loss gave {', '.join(self.names)} at first and {', '.join(values)} now.")
        self.totals += torch.stack([values[name].detach() for name in self.names]).to(self.dtype) * count
        self.images += count

    def sums(self) -> dict[str, float]:
        """The sums so far, and the number of `images`: empty before the first. Waits for the device."""
        if not self.images:
            return {}
        sums: dict[str, float] = dict(zip(self.names, self.totals.tolist(), strict=True))
        return sums | {"images": self.images}

    def load(self, sums: Mapping[str, float]) -> None:
        """The reverse of `sums`; of an empty dict, a new start."""
        self.images = int(sums.get("images", 0))
        self.names = tuple(name for name in sums if name != "images")
        self.totals = torch.tensor([sums[name] for name in self.names], dtype=self.dtype, device=self.device)

    def means(self) -> dict[str, float]:
        """The means of this process."""
        return {name: total / self.images for name, total in self.sums().items() if name != "images"}

    def gather(self, accelerator: Accelerator) -> tuple[dict[str, float], float]:
        """The means over all processes and the number of their images; called on all processes."""
        sums = self.sums()
        names = sorted(sums)
        totals = torch.tensor([sums[name] for name in names], device=accelerator.device)
        reduced = cast(Tensor, accelerator.reduce(totals, "sum"))
        found: dict[str, float] = dict(zip(names, reduced.tolist(), strict=True))
        images = found.pop("images")
        return {name: total / images for name, total in found.items()}, images


def format_entry(entry: Mapping[str, float], epochs: int) -> str:
    """The metrics of an epoch in one line."""
    numbers = {key: value for key, value in entry.items() if key not in ("epoch", "seconds", "learning_rate")}
    parts = [
        f"{key.replace('_', ' ')} {value:.0f}" if value > 100 else f"{key.replace('_', ' ')} {value:.4f}"
        for key, value in numbers.items()
    ]
    return f"epoch {entry['epoch']}/{epochs}, " + ", ".join(parts)


def out_of_patience(history: History, score: str | None, patience: int | None) -> bool:
    """Whether `score`, the higher the better, has not risen in the last `patience` epochs."""
    if patience is None or score is None or len(history) <= patience or score not in history[-1]:
        return False
    scores = [entry[score] for entry in history]
    return scores.index(max(scores)) < len(scores) - patience


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
