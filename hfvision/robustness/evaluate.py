"""How robust a classifier is: under attack, against the radius, in natural noise, and whether to believe it."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import to_dtype
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names, match_classes
from ..data.transforms.keyed import image_keys
from ..data.transforms.normalize import Normalize
from ..records import write_record
from ..utils.console import progress_bar
from .attacks.gradient import attacking, fgsm, pgd
from .attacks.square import square
from .attacks.threat import PixelClassifier, name_of
from .attacks.worst_case import ENSEMBLE, Attack, worst_case
from .corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .masking import MEASURES, right
from .summary import ATTACK, CORRUPTION, CURVE, MASKING, summarize
from .threat_model import Norm, parse_epsilon

AttackName = Literal["worst_case", "apgd", "pgd", "fgsm", "square"]
ATTACKS: dict[str, dict[str, Attack]] = {
    "worst_case": ENSEMBLE,
    "apgd": {"apgd_ce": ENSEMBLE["apgd_ce"]},
    "pgd": {"pgd": partial(pgd, steps=20)},
    "fgsm": {"fgsm": fgsm},
    "square": {"square": square},
}
TIMES_EPSILON = (0.125, 0.25, 0.5, 1, 1.5, 2, 4)
MASKING_IMAGES = 200
# Forward passes an image, about, with a gradient counted as three: for the time left. Others have one.
PASSES = {"fgsm": 4, "pgd": 60, "apgd_ce": 300, "apgd_targeted_dlr": 1500, "square": 2500}
PASSES |= {"transfer_ce": 160, "transfer_margin": 160, "few_steps": 30, "many_steps": 120, "black_box": 300}
# A batch: `images` uint8 (N, C, H, W), `pixels` the same as float32 in [0, 1], `labels` and `index` int64 (N,).
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Column:
    """One circumstance, and on how many images it is measured whether the model is right.

    Args:
        name: unique.
        measure: from a batch and the earlier columns of its images, bool (N,) each, to bool (N,).
        images: the first so many.
        passes: forward passes an image, about.
    """

    name: str
    measure: Callable[[Batch, dict[str, Tensor]], Tensor]
    images: int
    passes: float = 1


def evaluate_robustness(
    model: nn.Module,
    dataset: Dataset,
    processor: BaseImageProcessor,
    *,
    epsilon: str | float = "8/255",
    norm: Norm = "linf",
    attack: AttackName = "worst_case",
    count: int = 1000,
    batch_size: int = 200,
    names: Sequence[str] | None = None,
    transfer_from: nn.Module | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    path: Path | None = None,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Attack a classifier and disturb it; all figures ready for JSON.

    Without gradients, as of an int8 model, the attacks that need them are made on `transfer_from` and put to the
    model, and the black-box attack follows; the record's `notes` say so.

    Args:
        model: gives `.logits` for `pixel_values`, on any device; left as it was.
        dataset: from [`data.datasets.prepare.prepare_images`] with `processor`.
        processor: the model's. What is attacked are the pixels that it makes, after any resizing.
        epsilon: radius of the ball for pixels in [0, 1], `"8/255"` or a number.
        norm: of the ball, `linf` or `l2`.
        attack: the ensemble `worst_case`, or one attack.
        count: how many images: the first ones or, where they are sorted by class, evenly spaced ones.
        batch_size: images a step.
        names: of the data's classes; where not given, they are the model's.
        transfer_from: the float model that a `model` without gradients was made from, on the same device.
        dtype: of the forward pass by autocast, as torch.bfloat16; the figures are of the model computed so.
        seed: of attacks and noise.
        path: JSON file of the record, written after every step of the work: what is interrupted leaves its figures.
        resume: go on with the unfinished record in `path`; what comes out is as if nothing had been interrupted.
        about: what the record says beside, at its head: model, data.

    Returns:
        What [`summary.summarize`] gives, with how it was measured, `notes`, `seconds` and `complete`.

    Raises:
        ValueError: for a ball that cannot be meant, an unknown attack, classes that are not the model's, logits that
            are not finite, or a record in `path` that is of another evaluation, or there without `resume`.
    """
    radius = parse_epsilon(epsilon, norm)
    if radius == 0:
        raise ValueError("epsilon is 0: there is nothing to attack with.")
    if attack not in ATTACKS:
        raise ValueError(f"There is no attack {attack!r}: choose one of {', '.join(ATTACKS)}.")
    if count < 1 or batch_size < 1:
        raise ValueError(f"count and batch_size must be 1 or more, got {count} and {batch_size}.")
    normalize = Normalize.from_processor(processor)
    victim = PixelClassifier(model, normalize, dtype)
    rows = choose(dataset.labels, count)
    load = loader(model, dataset, rows, names)
    example = load(0, 1)["pixels"]
    gradients = has_gradients(victim, example)
    parent = None if transfer_from is None or gradients else PixelClassifier(transfer_from, normalize, dtype)
    attacks = ATTACKS[attack] if gradients else without_gradients(attack, parent)
    columns = plan(victim, attacks, parent, gradients, radius, norm, seed, len(rows))
    parameters = list(model.parameters())
    computed = dtype or (parameters[0].dtype if parameters else None)
    settings = {
        **(about or {}),
        "images": len(rows),
        "size": list(example.shape[1:]),
        "norm": norm,
        "epsilon": radius,
        "attack": attack,
        "settings": {name: getattr(function, "keywords", {}) for name, function in attacks.items()},
        "seed": seed,
        "batch_size": batch_size,
        "precision": name_of(computed) if computed else "the model's own",
        "gradients": gradients,
        "notes": notes(processor, example, len(rows), count, gradients, parent),
        "fingerprint": fingerprint(model, dataset.labels, rows, example),
    }
    record = take_up(path, resume, settings)
    if record["complete"]:
        return record
    answers, before, start = record.pop("answers", {}), record["seconds"], time.monotonic()

    def state(complete: bool) -> dict[str, Any]:
        seconds = before + time.monotonic() - start
        where = {"seconds": seconds, "device": example.device.type, "threads": torch.get_num_threads()}
        figures = summarize(answers, list(attacks))
        return settings | {"complete": complete} | where | figures | ({} if complete else {"answers": answers})

    def save(complete: bool = False) -> None:
        if path is not None:
            write_record(path, state(complete))

    save()
    measure(columns, load, len(rows), batch_size, answers, save)
    save(complete=True)
    return state(complete=True)


def choose(labels: Tensor, count: int) -> Tensor:
    """The rows to evaluate, int64: the first `count`, or evenly spaced ones where all rows are sorted by class."""
    count = min(count, len(labels))
    if (labels.diff() >= 0).all():
        return torch.linspace(0, len(labels) - 1, count, dtype=torch.float64).round().long()
    return torch.arange(count)


def loader(
    model: nn.Module, dataset: Dataset, rows: Tensor, names: Sequence[str] | None
) -> Callable[[int, int], Batch]:
    """What gives the batch of `rows` from one place to another, with the model's numbers of the classes."""
    parameter = next(model.parameters(), torch.empty(0))
    numbers = torch.arange(int(dataset.labels.max()) + 1)
    if names is not None:
        known = class_names(model.config)
        numbers = torch.tensor(match_classes(known, names))

    def load(start: int, stop: int) -> Batch:
        batch = dataset.__getitems__(rows[start:stop].tolist())
        batch["labels"] = numbers[batch["labels"]]
        batch = {key: values.to(parameter.device) for key, values in batch.items()}
        return batch | {"pixels": to_dtype(batch["images"], torch.float32, scale=True)}

    return load


def has_gradients(model: nn.Module, pixels: Tensor) -> bool:
    with attacking(model, 0):
        try:
            return model(pixels.clone().requires_grad_()).requires_grad
        except RuntimeError:  # as from what takes the tensor to NumPy
            return False


def transferred(parent: nn.Module, loss: str) -> Attack:
    """PGD on `parent` to its end, not only until it is fooled: what is strong there is so for its relatives."""

    def attack(model, images, labels, epsilon, *, norm, seed):
        settings = {"steps": 50, "loss": loss, "until_fooled": False, "seed": seed}
        return pgd(parent, images, labels, epsilon, norm=norm, **settings)

    return attack


def without_gradients(attack: str, parent: nn.Module | None) -> dict[str, Attack]:
    if parent is None or attack == "square":
        return ATTACKS["square"]
    transfer = {"transfer_ce": transferred(parent, "ce"), "transfer_margin": transferred(parent, "margin")}
    return transfer | ATTACKS["square"]


def plan(
    victim: nn.Module,
    attacks: Mapping[str, Attack],
    parent: nn.Module | None,
    gradients: bool,
    epsilon: float,
    norm: Norm,
    seed: int,
    count: int,
) -> list[Column]:
    """All that is measured, in its order. What an attack has broken counts as broken for those after it, and what is
    broken in a ball for every larger one."""

    def standing(attack: Attack, before: str, radius: float):
        def measure(batch: Batch, earlier: dict[str, Tensor]) -> Tensor:
            still = earlier[before].clone()
            images, labels = batch["pixels"][still], batch["labels"][still]
            if len(images):
                attacks = {"attack": attack}
                still[still.clone()] = worst_case(
                    victim, images, labels, radius, norm=norm, attacks=attacks, batch_size=len(images), seed=seed
                ).robust
            return still

        return measure

    def corrupted(name: str, severity: int):
        def measure(batch: Batch, earlier: dict[str, Tensor]) -> Tensor:
            noisy = corrupt(batch["images"], name, severity, image_keys(seed, 0, batch["index"]))
            return right(victim, to_dtype(noisy, torch.float32, scale=True), batch["labels"])

        return measure

    def masked(name: str):
        def measure(batch: Batch, earlier: dict[str, Tensor]) -> Tensor:
            return MEASURES[name](victim, batch["pixels"], batch["labels"], epsilon, norm, seed)

        return measure

    columns = [Column("clean", lambda batch, _: right(victim, batch["pixels"], batch["labels"]), count)]

    def chain(prefix: str, links: Mapping[str, tuple[Attack, float]]) -> None:
        before = "clean"
        for name, (attack, radius) in links.items():
            columns.append(Column(prefix + name, standing(attack, before, radius), count, PASSES.get(name, 60)))
            before = prefix + name

    chain(ATTACK, {name: (attack, epsilon) for name, attack in attacks.items()})
    climb = partial(pgd, steps=20, loss="margin") if gradients else parent and transferred(parent, "margin")
    if climb is not None:
        radii = [epsilon * times for times in TIMES_EPSILON if norm == "l2" or epsilon * times <= 1]
        chain(CURVE, {str(radius): (climb, radius) for radius in radii})
    if gradients:
        few = min(count, MASKING_IMAGES)
        columns += [Column(MASKING + name, masked(name), few, PASSES.get(name, 10)) for name in MEASURES]
    for name, severity in product(CORRUPTIONS, SEVERITIES):
        columns.append(Column(f"{CORRUPTION}{name} {severity}", corrupted(name, severity), count))
    return columns


def measure(
    columns: Sequence[Column],
    load: Callable[[int, int], Batch],
    count: int,
    batch_size: int,
    answers: dict[str, list[int]],
    save: Callable[[], None],
) -> None:
    """Fill `answers`, by column 0 or 1 for each image, from where they are, batch by batch; save after each step."""
    total = sum(column.images * column.passes for column in columns)
    done = sum(len(answers.get(column.name, [])) * column.passes for column in columns)
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with progress_bar(
        total=total, initial=done, desc="evaluating", bar_format=form, smoothing=0, mininterval=0.5
    ) as bar:
        for start in range(0, count, batch_size):
            batch: Batch = {}
            for column in columns:
                stop = min(start + batch_size, column.images)
                values = answers.setdefault(column.name, [])
                if len(values) >= stop:
                    continue
                if not batch:
                    batch = load(start, min(start + batch_size, count))
                bar.set_postfix_str(f"{column.name}, images {start + 1} to {stop}", refresh=False)
                part = {key: tensor[: stop - start] for key, tensor in batch.items()}
                earlier = {name: torch.tensor(past[start:stop], dtype=torch.bool) for name, past in answers.items()}
                earlier = {name: past.to(part["labels"].device) for name, past in earlier.items()}
                values += column.measure(part, earlier).int().tolist()
                save()
                bar.update((stop - start) * column.passes)


def take_up(path: Path | None, resume: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record in `path` to go on with, or a new one.

    Raises:
        ValueError: if there is one and `resume` is not set, or it is of another evaluation.
    """
    if path is None or not path.exists():
        return {"complete": False, "seconds": 0.0}
    if not resume:
        raise ValueError(f"{path} is there already: resume goes on with it.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no record of an evaluation ({error}): remove it.") from error
    wanted = json.loads(json.dumps(settings))
    for name, value in wanted.items():
        if record.get(name) != value:
            raise ValueError(
                f"{path} is of another evaluation: its {name} is {record.get(name)!r}, here it is {value!r}. Use "
                "--force to replace it."
            )
    return record


def notes(
    processor: BaseImageProcessor, example: Tensor, images: int, count: int, gradients: bool, parent: nn.Module | None
) -> list[str]:
    """What a reader of the figures must know."""
    height, width = example.shape[-2:]
    found = []
    if getattr(processor, "do_resize", False):
        found.append(f"The attack changes the {height}×{width} pixels that the image processor makes, after resizing.")
    if images < count:
        found.append(f"The data has {images:,} images, not {count:,}.")
    if not gradients and parent is not None:
        found.append(
            "The model has no gradients: it was attacked with images made on the float model it comes from, and with "
            "the black-box attack. An attack along its own gradients might find more."
        )
    if not gradients and parent is None:
        found.append(
            "The model has no gradients, and no float model was given to make the attacks on: it was attacked by the "
            "black-box attack alone, which is weaker."
        )
    if not gradients:
        found.append("Whether gradients are masked cannot be asked of a model that has none.")
    return found


def fingerprint(model: nn.Module, *tensors: Tensor) -> str:
    """Of the weights and of what says which images are evaluated."""
    digest = hashlib.sha256()
    for tensor in (*model.state_dict().values(), *tensors):
        if isinstance(tensor, Tensor) and tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
