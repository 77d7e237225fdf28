"""Prunes a model and trains what is left beside its parent, in one go or in rounds; the work of `hfvision prune`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..engine.folder import training_folder
from ..engine.options import as_plain, command_line, parse_options
from ..engine.resume import FREE_OPTIONS, changes
from ..hub.loading import load_config, load_model
from ..hub.records import earlier_record, read_record_of, training_step
from ..publishing.cards.write import write_card
from ..records import Change, CompressionStep, ModelRecord, StepQuality, write_record
from ..tasks.base import CLASSIFICATION, METRICS, SEGMENTATION, SUPER_RESOLUTION, Task, task_of
from ..tasks.compression import PruningData
from ..utils.files import atomic_folder, check_model_folder
from .config import ClassifierPruneConfig, Metric, PruneConfig, SegmenterPruneConfig, SuperResPruneConfig
from .prune import Pruned, magnitude_importance, prune, taylor_importance
from .quantize import check_out, fuse_branches, refuse_quantized

CUT = "cut.json"  # beside the weights of a cut


CONFIGS: dict[Task, type[PruneConfig]] = {
    CLASSIFICATION: ClassifierPruneConfig,
    SUPER_RESOLUTION: SuperResPruneConfig,
    SEGMENTATION: SegmenterPruneConfig,
}


def parse_prune_options(model: str, options: list[str], prog: str = "hfvision prune MODEL") -> PruneConfig:
    """How to prune a model by Hub id, folder or shipped checkpoint, from command-line options.

    Where they do not say it, validation images are chosen as its training chose them: what it was trained on would
    flatter what is made of it.

    Raises:
        ValueError: for a quantized model, and as [`parse_options`].
    """
    config = load_config(model)
    refuse_quantized(model, config)
    config_class = CONFIGS[task_of(config, model)]
    trained = read_record_of(model).settings
    names = {"validation", "validation_group", "seed"} & {field.name for field in dataclasses.fields(config_class)}
    split = {name: value for name in names if (value := getattr(trained, name))}
    description = "Cut channels and heads out of a model and train what is left beside its parent."
    return parse_options(config_class, ["--model", model, *options], prog, description, split)


def prune_and_train(config: PruneConfig) -> ModelRecord:
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


def cut_and_train(config: PruneConfig) -> ModelRecord:
    """[`prune_and_train`], in a folder that is its own."""
    task = next(task for task, config_class in CONFIGS.items() if isinstance(config, config_class))
    model, processor = load_model(config.model, task.pipeline, trust_remote_code=config.trust_remote_code)
    model = model.float()
    fuse_branches(model)
    data = task.compression.pruning(config, model, processor)
    steps = earlier_record(config.model).compression
    quality, (metric, target) = data.measure(model), config.target()
    record = ModelRecord()
    part, first = target, None
    for number in range(1, config.rounds + 1):
        if config.rounds > 1:
            part = round_target(first, metric, target, number, config.rounds)
        folder = config.out / f"cut-{number}"
        cut = earlier_cut(config, folder)
        if cut is None:
            cut = cut_once(model, processor, (task, data), config, (metric, part, quality), folder)
        first = first or cut["before"]
        steps = [*steps, CompressionStep.from_json(cut["step"], str(folder / CUT))]
        quality = cut["step"]["validation"]["after"]
        if not config.finetune:
            smaller, _ = load_model(str(folder), task.pipeline)
            with atomic_folder(config.out) as temporary:
                smaller.save_pretrained(temporary)
                processor.save_pretrained(temporary)
            break
        last = number == config.rounds
        out = config.out if last else config.out / f"round-{number}"
        record = task.compression.train(training_config(config, task.compression.training_config, folder, out))
        model, _ = load_model(str(out), task.pipeline)
        trained = data.measure(model)
        steps = [*steps, distill_step(config, step_quality(task, data, quality, trained))]
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
    rated: tuple[Task, PruningData],
    config: PruneConfig,
    goal: tuple[Metric, float, float],
    folder: Path,
) -> dict[str, Any]:
    """Cut to a target of a metric, from a quality, and write what is left to `folder`, with what is returned: `step`
    of the record, `before`, and the settings."""
    (task, data), (metric, target, quality) = rated, goal
    if config.importance == "taylor":
        importance = taylor_importance(model, data.batches, data.loss)
    else:
        importance = magnitude_importance(model)
    check_model_folder(folder, force=True)
    pruned = prune(model, importance, target, metric)
    step = prune_step(config, pruned, step_quality(task, data, quality, data.measure(pruned.model)))
    cut = {"step": step.to_json(), "before": pruned.before, "config": as_plain(config)}
    with atomic_folder(folder) as temporary:
        pruned.model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / CUT).write_text(json.dumps(cut, indent=2), encoding="utf-8")
    return cut


def earlier_cut(config: PruneConfig, folder: Path) -> dict[str, Any] | None:
    """What [`cut_once`] gave before the training was interrupted: to cut again might cut otherwise, as by latency."""
    if not (config.resume and (folder / CUT).is_file() and (folder / "model.safetensors").is_file()):
        return None
    cut = json.loads((folder / CUT).read_text(encoding="utf-8"))
    return None if changes(cut["config"], as_plain(config), FREE_OPTIONS) else cut


def training_config(config: Any, base: type, start: Path, out: Path) -> Any:
    """The training of a round, from the model in `start`, with the parent as teacher."""
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(base)}
    return base(**options | {"model": str(start), "out": out, "teacher": config.teacher or config.model})


def prune_step(config: PruneConfig, pruned: Pruned, quality: StepQuality) -> CompressionStep:
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
        validation=quality,
    )


def distill_step(config: PruneConfig, quality: StepQuality) -> CompressionStep:
    return dataclasses.replace(training_step(config, config.teacher or config.model), validation=quality)


def step_quality(task: Task, data: PruningData, before: float, after: float) -> StepQuality:
    return StepQuality(images=data.images, metric=task.metric.name, before=before, after=after)


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
            figures, form = step.validation, METRICS[step.validation.metric].form
            parts.append(f"{figures.metric} {form.format(figures.before)} → {form.format(figures.after)}")
        lines.append(f"{step.step} ({step.method}): {', '.join(parts) or json.dumps(step.settings)}")
    return "\n".join(lines)
