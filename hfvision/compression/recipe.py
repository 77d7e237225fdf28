"""Prunes a model and trains what is left beside its parent, in one go or in rounds; the work of `hfvision prune`."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss
from torch.utils.data import default_collate
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names, match_classes
from ..data.datasets.classification import load_image_dataset
from ..data.datasets.prepare import prepare_images
from ..data.transforms.crops import RandomCrops
from ..data.transforms.degradation_presets import PRESETS
from ..data.transforms.degradations import degrade
from ..data.transforms.keyed import image_keys
from ..data.transforms.normalize import Normalize
from ..engine.folder import training_folder
from ..engine.options import as_plain, command_line, parse_options
from ..engine.resume import FREE_OPTIONS, changes
from ..hub.loading import load_config, load_model
from ..hub.records import earlier_record, read_record_of, training_step
from ..metrics.accuracy import accuracy
from ..publishing.cards.write import write_card
from ..records import Change, CompressionStep, ModelRecord, StepQuality, write_record
from ..tasks.base import CLASSIFICATION, SEGMENTATION, SUPER_RESOLUTION, task_of
from ..tasks.classification.config import ClassifierTrainingConfig
from ..tasks.classification.evaluate import predict_logits
from ..tasks.classification.train import train_classifier
from ..tasks.super_resolution.config import SuperResTrainingConfig
from ..tasks.super_resolution.train import split_photographs, train_superres
from ..tasks.super_resolution.validation import ValidationPhotos
from ..utils.files import atomic_folder, check_model_folder
from .config import ClassifierPruneConfig, Metric, PruneOptions, SuperResPruneConfig
from .prune import Pruned, magnitude_importance, prune, taylor_importance
from .quantize import check_out, refuse_quantized

BATCH = 64
CUT = "cut.json"  # beside the weights of a cut


def parse_prune_options(model: str, options: list[str], prog: str = "hfvision prune MODEL") -> PruneOptions:
    """How to prune a model by Hub id, folder or shipped checkpoint, from command-line options.

    Where they do not say it, validation images are chosen as its training chose them: what it was trained on would
    flatter what is made of it.

    Raises:
        ValueError: for a quantized model, and as [`parse_options`].
    """
    config = load_config(model)
    refuse_quantized(model, config)
    task = task_of(config, model)
    if task is SEGMENTATION:
        raise ValueError(f"{model} is a segmenter, which this version does not prune.")
    config_class = SuperResPruneConfig if task is SUPER_RESOLUTION else ClassifierPruneConfig
    trained = read_record_of(model).settings
    names = {"validation", "validation_group", "seed"} & {field.name for field in dataclasses.fields(config_class)}
    split = {name: value for name in names if (value := getattr(trained, name))}
    description = "Cut channels and heads out of a model and train what is left beside its parent."
    return parse_options(config_class, ["--model", model, *options], prog, description, split)


@dataclass(frozen=True)
class PruneSetup:
    """What pruning needs for one task: data for the importance, a loss, a measure of quality, a training."""

    batches: list[dict[str, Tensor]]
    loss: Callable[[PreTrainedModel, dict[str, Tensor]], Tensor]
    measure: Callable[[PreTrainedModel], float]
    metric: Literal["top1", "psnr"]
    images: int
    train: Callable[..., ModelRecord]
    base: type


def prune_and_train(config: ClassifierPruneConfig | SuperResPruneConfig) -> ModelRecord:
    """Cut a model down to a target and train what is left, which `config.out` then holds like any training's result.

    In `rounds`, each cuts by the same factor and trains for all `epochs`. The folders `cut-1`, … beside the result
    hold the models before their training.

    Returns:
        The record of the last training, with `parent` and the steps of `compression`: `prune` with `parameters` and
        `macs` before and after and the quality right after the cut, and `distill` with the quality after the training.

    Raises:
        FileNotFoundError, ValueError: as [`prune`], [`train_classifier`] and [`train_superres`].
    """
    refuse_quantized(config.model, load_config(config.model, trust_remote_code=config.trust_remote_code))
    check_out(config.out, config.model, config.resume, training=config.finetune)
    with training_folder(config, ["prune", config.model]):
        return cut_and_train(config)


def cut_and_train(config: ClassifierPruneConfig | SuperResPruneConfig) -> ModelRecord:
    """[`prune_and_train`], in a folder that is its own."""
    superres = isinstance(config, SuperResPruneConfig)
    name = (SUPER_RESOLUTION if superres else CLASSIFICATION).pipeline
    model, processor = load_model(config.model, name, trust_remote_code=config.trust_remote_code)
    model = model.float()
    if superres:
        model.fuse()
    task = (superres_setup if superres else classifier_setup)(config, model, processor)
    steps = earlier_record(config.model).compression
    quality, (metric, target) = task.measure(model), config.target()
    record = ModelRecord()
    part, first = target, None
    for number in range(1, config.rounds + 1):
        if config.rounds > 1:
            part = round_target(first, metric, target, number, config.rounds)
        folder = config.out / f"cut-{number}"
        cut = earlier_cut(config, folder)
        if cut is None:
            cut = cut_once(model, processor, task, config, (metric, part, quality), folder)
        first = first or cut["before"]
        steps = [*steps, CompressionStep.from_json(cut["step"], str(folder / CUT))]
        quality = cut["step"]["validation"]["after"]
        if not config.finetune:
            smaller, _ = load_model(str(folder), name)
            with atomic_folder(config.out) as temporary:
                smaller.save_pretrained(temporary)
                processor.save_pretrained(temporary)
            break
        last = number == config.rounds
        out = config.out if last else config.out / f"round-{number}"
        record = task.train(training_config(config, task.base, folder, out))
        model, _ = load_model(str(out), name)
        trained = task.measure(model)
        steps = [*steps, distill_step(config, task, quality, trained)]
        quality = trained
    if record.training:
        command = command_line(["hfvision", "prune", config.model], config, {"model", "resume"})
        record = dataclasses.replace(record, training=dataclasses.replace(record.training, command=command))
    record = dataclasses.replace(record, parent=record.parent or Path(config.model).name, compression=steps)
    write_record(config.out / "record.json", record)
    write_card(config.out)
    return record


def round_target(first: dict[str, float] | None, metric: Metric, target: float, number: int, rounds: int) -> float:
    """What is to be left of the model of this round: for parts the same part each time, for numbers in equal steps."""
    if target <= 1:
        return target ** (1 / rounds)
    return (
        target if number == rounds or first is None else first[metric] * (target / first[metric]) ** (number / rounds)
    )


def cut_once(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    task: PruneSetup,
    config: PruneOptions,
    goal: tuple[Metric, float, float],
    folder: Path,
) -> dict[str, Any]:
    """Cut to a target of a metric, from a quality, and write what is left to `folder`, with what is returned: `step`
    of the record, `before`, and the settings."""
    metric, target, quality = goal
    if config.importance == "taylor":
        importance = taylor_importance(model, task.batches, task.loss)
    else:
        importance = magnitude_importance(model)
    check_model_folder(folder, force=True)
    pruned = prune(model, importance, target, metric)
    step = prune_step(config, pruned, task, quality, task.measure(pruned.model))
    cut = {"step": step.to_json(), "before": pruned.before, "config": as_plain(config)}
    with atomic_folder(folder) as temporary:
        pruned.model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / CUT).write_text(json.dumps(cut, indent=2), encoding="utf-8")
    return cut


def earlier_cut(config: PruneOptions, folder: Path) -> dict[str, Any] | None:
    """What [`cut_once`] gave before the training was interrupted: to cut again might cut otherwise, as by latency."""
    if not (config.resume and (folder / CUT).is_file() and (folder / "model.safetensors").is_file()):
        return None
    cut = json.loads((folder / CUT).read_text(encoding="utf-8"))
    return None if changes(cut["config"], as_plain(config), FREE_OPTIONS) else cut


def training_config(config: Any, base: type, start: Path, out: Path) -> Any:
    """The training of a round, from the model in `start`, with the parent as teacher."""
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(base)}
    return base(**options | {"model": str(start), "out": out, "teacher": config.teacher or config.model})


def classifier_setup(
    config: ClassifierPruneConfig, model: PreTrainedModel, processor: BaseImageProcessor
) -> PruneSetup:
    names = ("image_column", "label_column", "validation_group")
    columns = {name: getattr(config, name) for name in names}
    splits = load_image_dataset(config.data, validation=config.validation, seed=config.seed, **columns)
    names = splits["train"].features["label"].names
    order = match_classes(class_names(model.config), names)
    normalize = Normalize.from_processor(processor)
    some = splits["train"].shuffle(seed=config.seed)
    images = prepare_images(some.select(range(min(config.importance_images, len(some)))), processor)
    held_out = prepare_images(splits["validation"], processor) if "validation" in splits else images
    batches = []
    for start in range(0, len(images), BATCH):
        batch = images.__getitems__(list(range(start, min(start + BATCH, len(images)))))
        labels = torch.tensor(order)[batch["labels"]]
        batches.append({"pixel_values": normalize(batch["images"]), "labels": labels})

    def loss(net: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        return cross_entropy(net(pixel_values=batch["pixel_values"]).logits, batch["labels"])

    def measure(net: PreTrainedModel) -> float:
        logits, labels = predict_logits(net, held_out, normalize)
        return accuracy(logits[:, order], labels)

    return PruneSetup(batches, loss, measure, "top1", len(held_out), train_classifier, ClassifierTrainingConfig)


def superres_setup(config: SuperResPruneConfig, model: PreTrainedModel, processor: BaseImageProcessor) -> PruneSetup:
    scale, channels = model.config.scale, model.config.num_channels
    photos, held_out = split_photographs(config, config.crop * scale)
    crops = RandomCrops(photos, config.crop * scale, config.importance_images, config.seed, channels)
    step = max(1, BATCH // 4)
    batches = [
        default_collate([crops[i] for i in range(start, min(start + step, len(crops)))])
        for start in range(0, len(crops), step)
    ]
    validation = ValidationPhotos.of(held_out, scale, channels, config.degradation)

    def loss(net: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        labels = batch["labels"].float() / 255
        keys = image_keys(config.seed, 0, batch["index"])
        small = degrade(labels, scale, keys, PRESETS[config.degradation])
        return l1_loss(net(pixel_values=small).reconstruction, labels)

    def measure(net: PreTrainedModel) -> float:
        return validation.psnr(lambda images: net(pixel_values=images).reconstruction, Accelerator(), "psnr")["psnr"]

    return PruneSetup(batches, loss, measure, "psnr", len(held_out), train_superres, SuperResTrainingConfig)


def prune_step(config: PruneOptions, pruned: Pruned, task: PruneSetup, before: float, after: float) -> CompressionStep:
    metric, target = config.target()
    latency = None
    if "latency" in pruned.after:
        latency = Change(before=pruned.before["latency"], after=pruned.after["latency"])
    return CompressionStep(
        step="prune",
        method=config.importance,
        settings={f"target_{metric}": target, "rounds": config.rounds},
        parameters=Change(before=int(pruned.before["params"]), after=int(pruned.after["params"])),
        macs=Change(before=int(pruned.before["macs"]), after=int(pruned.after["macs"])),
        latency_ms=latency,
        validation=step_quality(task, before, after),
    )


def distill_step(config: Any, task: PruneSetup, before: float, after: float) -> CompressionStep:
    step = training_step(config, config.teacher or config.model)
    return dataclasses.replace(step, validation=step_quality(task, before, after))


def step_quality(task: PruneSetup, before: float, after: float) -> StepQuality:
    return StepQuality(images=task.images, metric=task.metric, before=before, after=after)


def describe(record: ModelRecord) -> str:
    """The steps of a compression as lines."""
    lines = []
    for step in record.compression:
        changes = {"parameters": step.parameters, "macs": step.macs, "bytes": step.bytes}
        parts = [
            f"{name} {change.before:,} → {change.after:,}"
            for name, change in changes.items()
            if change and change.before
        ]
        if step.validation:
            figures = step.validation
            form = "{:.2%}" if figures.metric == "top1" else "{:.2f} dB"
            parts.append(f"{figures.metric} {form.format(figures.before)} → {form.format(figures.after)}")
        lines.append(f"{step.step} ({step.method}): {', '.join(parts) or json.dumps(step.settings)}")
    return "\n".join(lines)
