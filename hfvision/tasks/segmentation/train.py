"""Trains a segmenter from images and masks to a folder that `from_pretrained` and `pipeline` load."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...data.datasets.class_names import class_names
from ...data.datasets.describe import describe_data, some_sizes
from ...data.datasets.mask_crops import MaskedCrops
from ...data.datasets.segmentation import MaskedImages, load_mask_dataset, name_classes
from ...data.transforms.normalize import Normalize
from ...engine.loader import with_batch_size
from ...engine.loop import Trainer, Validation
from ...engine.network import Network
from ...engine.progress import History, chance_advice, one_class_found
from ...hub.loading import load_config
from ...hub.records import lineage
from ...records import ModelRecord, SegmenterFigures, TrainingData
from ...utils.console import logger
from ..distill import Distiller
from ..training import log_summary, run_training, save_model, training_record, write_outputs
from .config import SegmenterTrainingConfig
from .evaluate import count_overlaps, evaluate_segmenter, image_scores
from .losses import SegmenterLoss
from .pictures import best_and_worst
from .start import load_segmenter


def train_segmenter(config: SegmenterTrainingConfig) -> ModelRecord:
    """Train, keep the best by the Dice coefficient on validation images, evaluate on the test split, write it all.

    `config.out` then holds the model with its processor (`from_pretrained`, `pipeline`), `config.yaml`,
    `metrics.json`, `curve.png`, pictures of the best and the worst masks, `record.json`, and `checkpoints` to resume
    from.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if the data or a model does not exist.
        ValueError: for settings or data that do not fit, or another training in the folder.
        FloatingPointError: if a gradient is not finite.
        Interrupted: for Ctrl-C or SIGTERM, after a checkpoint.
        OSError: if something cannot be written; what was saved before is kept.
    """
    return run_training("segmenter", config, fit_segmenter)


def fit_segmenter(config: SegmenterTrainingConfig, accelerator: Accelerator) -> ModelRecord:
    """[`train_segmenter`], in a folder that is reserved for it."""
    images, names = load_images(config, accelerator)
    config = with_batch_size(config, images["train"], accelerator, largest=16, least=4)
    model, processor = load_segmenter(
        config.model,
        names=names,
        num_channels=config.num_channels,
        image_size=config.crop,
        overrides=config.overrides(),
        trust_remote_code=config.trust_remote_code,
    )
    normalize = Normalize.from_processor(processor)
    count = (config.steps_per_epoch or 0) * (config.batch_size or 0) * accelerator.num_processes
    crops = MaskedCrops(images["train"], config.crop, config.augmentation(), count or None, config.seed)
    weights = None
    if config.balance and config.by is not None:
        weights = rarity_weights(images["train"].rows[config.by][:], len(crops))

    def validate(net: nn.Module) -> dict[str, float]:
        with torch.random.fork_rng(devices=[]):
            counts = count_overlaps(net, images["validation"], normalize, len(names), accelerator=accelerator)
        return {"validation_dice": image_scores(counts, names).mean().item()}

    def keep(state: dict[str, Tensor], metrics: dict[str, float]) -> None:
        save_model(model, processor, config.out, state)

    made_from, distiller = lineage(config), None
    if config.teacher:
        distiller = Distiller.from_config(config, model, names, "image-segmentation")
    history = Trainer(
        Network(model, SegmenterLoss(config, normalize, distiller)),
        crops,
        config,
        accelerator=accelerator,
        sample_weights=weights,
        validation=Validation(validate, "validation_dice", keep) if "validation" in images else None,
    ).fit()
    if distiller is not None:
        distiller.release(model)
    fingerprint = images["train"].rows._fingerprint
    data = TrainingData(source=config.data, classes=names, images=len(images["train"]), fingerprint=fingerprint)
    training = training_record("segmenter", config, data, model.num_parameters(), history)
    figures: dict[str, SegmenterFigures] = {}
    held_out = {name: images[name] for name in ("validation", "test") if name in images}
    for name, part in held_out.items():
        by = config.by if config.by in part.rows.features else None
        options = {"by": by, "tta": config.tta, "accelerator": accelerator}
        found = evaluate_segmenter(model, part, processor, names=names, **options)
        figures[name] = SegmenterFigures.from_json(found, name)
    record = replace(made_from, training=training, **figures)
    if accelerator.is_main_process:
        save_model(model, processor, config.out)
        for name, part in held_out.items():
            each, path = figures[name].each or (), config.out / f"masks_{name}.png"
            best_and_worst(model, part, normalize, names, each, path, tta=config.tta)
        write_results(config, record, figures, history)
    return record


def load_images(
    config: SegmenterTrainingConfig, accelerator: Accelerator
) -> tuple[dict[str, MaskedImages], list[str]]:
    """The splits of the data, described on the console, and the names of their classes.

    Raises:
        ValueError: if the column `config.by` does not exist.
    """
    columns = {name: getattr(config, name) for name in ("image_column", "mask_column", "validation_group")}
    with accelerator.main_process_first():
        splits = load_mask_dataset(config.data, validation=config.validation, seed=config.seed, **columns)
    if config.by is not None and config.by not in splits["train"].features:
        raise ValueError(f"There is no column {config.by!r}; there are: {', '.join(splits['train'].features)}.")
    channels = config.num_channels or known_channels(config)
    limit = config.memory_limit * 1e9
    images = {str(name): MaskedImages(split, channels, limit) for name, split in splits.items()}
    known = config.classes
    if config.teacher and not known:
        known = class_names(load_config(config.teacher, trust_remote_code=config.trust_remote_code))
    names = name_classes(images, known)
    if accelerator.is_main_process:
        sizes = some_sizes(splits["train"])
        logger.info(describe_data(config.data, {name: len(part) for name, part in images.items()}, sizes))
        logger.info(f"  {len(names)} classes: {', '.join(names)}")
    return images, names


def write_results(
    config: SegmenterTrainingConfig, record: ModelRecord, figures: Mapping[str, SegmenterFigures], history: History
) -> None:
    """Write the record, and print the summary."""
    results, warnings = [], []
    for name, found in figures.items():
        results.append(f"{name}: Dice {found.dice:.4f}, IoU {found.iou:.4f}, {found.images:,} images")
        if one_class_found(found.to_json()["classes"]):
            warnings.append(f"{name}: {chance_advice(config, history)}")
    write_outputs(config.out, record, history)
    log_summary(config.out, results, warnings)


def rarity_weights(values: Sequence[Any], count: int) -> Tensor:
    """Sampling weights float32 (count,) of `count` crops, which are of rows with these values in turn: one over the
    square root of the number of rows of the same value."""
    numbers = Counter(values)
    return torch.tensor([numbers[values[index % len(values)]] ** -0.5 for index in range(count)])


def known_channels(config: SegmenterTrainingConfig) -> int:
    """The number of channels of the start model."""
    if ":" in config.model or config.model.startswith("timm/"):
        return config.overrides().get("num_channels", 3)
    return getattr(load_config(config.model, trust_remote_code=config.trust_remote_code), "num_channels", 3)
