"""How robust a classifier is: under attack, against the radius, in natural noise, and whether to believe it."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype
from transformers import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names, match_classes
from ..records import write_record
from .attacks.config import with_options
from .attacks.threat import name_of
from .config import LabeledImages, RobustnessConfig
from .measurements import Batch, Victim, measure, plan
from .summary import summarize


def evaluate_robustness(
    model: nn.Module,
    dataset: LabeledImages,
    processor: BaseImageProcessor,
    config: RobustnessConfig | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Attack a classifier and corrupt its images; all figures ready for JSON.

    Without gradients, as of an int8 model, the attacks that need them are made on `transfer_from` and put to the
    model, and the black-box attack follows; the record's `notes` say so.

    Args:
        model: gives `.logits` for `pixel_values`, on any device; left as it was.
        dataset: from [`data.datasets.prepare.prepare_images`] with `processor`.
        processor: the model's. What is attacked are the pixels that it makes, after any resizing.
        config, options: the settings, [`RobustnessConfig`]; an option replaces the field of its name.

    Returns:
        What [`summary.summarize`] gives, with how it was measured, `notes`, `seconds` and `complete`.

    Raises:
        TypeError: for an option that is no field of [`RobustnessConfig`].
        ValueError: for settings out of range, classes that are not the model's, logits that are not finite, or a
            record in `path` that is of another evaluation, or already there without `resume`.
    """
    given = with_options(RobustnessConfig, config, options)
    rows = choose(dataset.labels, given.count)
    load = loader(model, dataset, rows, given.names)
    example = load(0, 1)["pixels"]
    victim = Victim.prepare(model, processor, example, given)
    settings = {
        **given.about,
        **settings_of(model, victim, given),
        "images": len(rows),
        "size": list(example.shape[1:]),
        "notes": notes(processor, example, len(rows), given.count, victim),
        "fingerprint": fingerprint(model, dataset.labels, rows, example),
    }
    record = load_partial_record(given.path, given.resume, settings)
    if record["complete"]:
        return record
    answers, before, start = record.pop("answers", {}), record["seconds"], time.monotonic()

    def state(complete: bool) -> dict[str, Any]:
        seconds = before + time.monotonic() - start
        where = {"seconds": seconds, "device": example.device.type, "threads": torch.get_num_threads()}
        figures = summarize(answers, list(victim.attacks))
        return settings | {"complete": complete} | where | figures | ({} if complete else {"answers": answers})

    def save(complete: bool = False) -> None:
        if given.path is not None:
            write_record(given.path, state(complete))

    save()
    measure(plan(victim, given, len(rows)), load, len(rows), given.batch_size, answers, save)
    save(complete=True)
    return state(complete=True)


def settings_of(model: nn.Module, victim: Victim, config: RobustnessConfig) -> dict[str, Any]:
    """How a model is attacked, for the record."""
    parameter = next(model.parameters(), None)
    computed = config.dtype or (None if parameter is None else parameter.dtype)
    return {
        "norm": config.norm,
        "epsilon": config.radius,
        "attack": config.attack,
        "settings": {name: getattr(function, "keywords", {}) for name, function in victim.attacks.items()},
        "seed": config.seed,
        "batch_size": config.batch_size,
        "precision": name_of(computed) if computed else "the model's own",
        "gradients": victim.gradients,
    }


def choose(labels: Tensor, count: int) -> Tensor:
    """The rows to evaluate, int64: the first `count`, or evenly spaced ones where all rows are sorted by class."""
    count = min(count, len(labels))
    if (labels.diff() >= 0).all():
        return torch.linspace(0, len(labels) - 1, count, dtype=torch.float64).round().long()
    return torch.arange(count)


def loader(
    model: nn.Module, dataset: LabeledImages, rows: Tensor, names: Sequence[str] | None
) -> Callable[[int, int], Batch]:
    """A function that gives the batch of `rows` from one place to another, with the model's numbers of the classes."""
    parameter = next(model.parameters(), torch.empty(0))
    numbers = torch.arange(int(dataset.labels.max()) + 1)
    if names is not None:
        known = class_names(cast(PreTrainedConfig, model.config))
        numbers = torch.tensor(match_classes(known, names))

    def load(start: int, stop: int) -> Batch:
        batch = dataset.__getitems__(rows[start:stop].tolist())
        batch["labels"] = numbers[batch["labels"]]
        batch = {key: values.to(parameter.device) for key, values in batch.items()}
        return batch | {"pixels": to_dtype(batch["images"], torch.float32, scale=True)}

    return load


def load_partial_record(path: Path | None, resume: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record in `path` to continue, or a new one.

    Raises:
        ValueError: if there is one and `resume` is not set, or it is of another evaluation.
    """
    if path is None or not path.exists():
        return {"complete": False, "seconds": 0.0}
    if not resume:
        raise ValueError(f"{path} already exists: resume continues it.")
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


def notes(processor: BaseImageProcessor, example: Tensor, images: int, count: int, victim: Victim) -> list[str]:
    """What a reader of the figures must know."""
    gradients, parent = victim.gradients, victim.parent
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
