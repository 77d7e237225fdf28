"""Trains a segmenter from images and masks to a folder that `from_pretrained` and `pipeline` load."""

import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers import PreTrainedModel

from ...data.datasets.class_names import class_names
from ...data.datasets.describe import describe_data, some_sizes
from ...data.datasets.mask_crops import MaskedCrops
from ...data.datasets.segmentation import IGNORED, MaskedImages, load_mask_dataset, name_classes
from ...data.transforms.normalize import Normalize
from ...engine.folder import training_folder
from ...engine.loop import make_accelerator, train, with_batch_size
from ...engine.options import as_plain, training_command
from ...engine.progress import chance_advice, one_class_found
from ...hub.loading import check_task, load_config, load_model, load_weights
from ...hub.records import recorded_settings
from ...models.cnn.configuration_cnn import CNNConfig, CNNSegmentationConfig
from ...models.cnn.modeling_cnn_segmentation import CNNForSemanticSegmentation
from ...models.cnn.segmentation_loss import pixel_cross_entropy
from ...models.image_processing_segmentation import ImageSegmentationProcessor
from ...models.vit.configuration_vit import VisionTransformerConfig, VisionTransformerSegmentationConfig
from ...models.vit.modeling_vit_segmentation import VisionTransformerForSemanticSegmentation
from ...records import ModelRecord, SegmenterFigures, Training, TrainingData, write_record
from ...utils.errors import one_line
from ...utils.files import write_text
from ...utils.plots import training_curve
from ..classification.train import save_model
from ..classification.transfer import default_processor
from .config import SegmenterTrainingConfig
from .evaluate import at_size, count_overlaps, evaluate_segmenter, image_scores
from .pictures import best_and_worst

FAMILIES = {
    "cnn": (CNNSegmentationConfig, CNNForSemanticSegmentation),
    "vit": (VisionTransformerSegmentationConfig, VisionTransformerForSemanticSegmentation),
}
OF_CLASSIFIER = {CNNConfig: FAMILIES["cnn"], VisionTransformerConfig: FAMILIES["vit"]}


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 minus the Dice coefficient of probabilities, over the whole batch, mean of the classes (Milletari et al. 2016,
    arXiv:1606.04797, with sums in place of squares).

    Args:
        logits: float (N, C, H, W).
        labels: int64 (N, H, W), classes, or 255 where a pixel does not count.

    Returns:
        Scalar in 0 to 1.
    """
    counts = (labels != IGNORED)[:, None]
    truth = one_hot(labels.where(counts[:, 0], 0), logits.shape[1]).movedim(-1, 1) * counts
    found = logits.softmax(1) * counts
    both, either = (found * truth).sum((0, 2, 3)), (found + truth).sum((0, 2, 3))
    return 1 - ((2 * both + 1) / (either + 1)).mean()


@dataclass
class SegmenterLoss:
    """From a batch of crops to the loss: normalisation, network, cross-entropy and Dice."""

    config: SegmenterTrainingConfig
    normalize: Normalize

    def __call__(self, net: nn.Module, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        images = self.normalize(batch["images"]).contiguous(memory_format=torch.channels_last)
        labels = batch["labels"].long()
        logits = at_size(net(pixel_values=images).logits.float(), labels.shape[1:])
        entropy = pixel_cross_entropy(logits, labels)
        dice = soft_dice_loss(logits, labels)
        return {"loss": entropy + self.config.dice_weight * dice, "dice": 1 - dice.detach()}


def load_segmenter(
    name: str,
    *,
    names: Sequence[str],
    num_channels: int | None = None,
    image_size: int = 128,
    overrides: dict[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """A segmenter to train for the classes `names`, and its image processor.

    A trained segmenter keeps its head if it has as many classes; otherwise it gets a fresh one. A classifier of
    hfvision's families gives its encoder and its processor's mean and deviation; the decoder is fresh.

    Args:
        name: a preset with random weights (`cnn:unet`, `vit:cifar`), a timm backbone (`timm/convnext_atto`; by its
            tag with weights of the Hub), a segmenter, or a classifier of hfvision's families, by Hub id, folder or
            name of a shipped checkpoint.
        names: of the classes.
        num_channels: 3 or 1, for presets and timm backbones (default 3); trained models have theirs.
        image_size: side of training crops: a ViT's position embeddings are stored for it.
        overrides: further fields of a preset's configuration.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for an unknown preset, settings that do not fit it, or a model that cannot be loaded.
    """
    labels = {"id2label": dict(enumerate(names)), "label2id": {label: number for number, label in enumerate(names)}}
    family, colon, preset = name.partition(":")
    if overrides and not colon:
        raise ValueError(f"Only the fields of a preset can be replaced ({', '.join(overrides)}), not those of {name}.")
    fields = labels | {"num_channels": num_channels or 3, "image_size": image_size} | (overrides or {})
    try:
        if colon:
            if family not in FAMILIES:
                raise ValueError(f"There is no family {family!r}: give cnn:PRESET or vit:PRESET, got {name!r}.")
            config_class, model_class = FAMILIES[family]
            model = model_class(config_class.from_preset(preset, **fields))
            return model, processor_like(default_processor(model.config))
        if name.startswith("timm/"):
            if "." in name:
                model = CNNForSemanticSegmentation.from_timm(name, **fields)
            else:
                model = CNNForSemanticSegmentation(CNNSegmentationConfig(backbone=name, **fields))
            return model, processor_like(default_processor(model.config))
    except (StrictDataclassError, RuntimeError) as error:
        raise ValueError(f"The model {name} cannot be made: {one_line(error.__cause__ or error)}") from error
    config = load_config(name, trust_remote_code=trust_remote_code)
    if num_channels is not None and getattr(config, "num_channels", num_channels) != num_channels:
        raise ValueError(f"{name} takes images of {config.num_channels} channels, not {num_channels}.")
    if type(config) in OF_CLASSIFIER:
        return from_classifier(name, labels)
    check_task(name, "image-segmentation", config, trust_remote_code)
    old = class_names(config)
    _, processor = load_model(name, "image-segmentation", trust_remote_code=trust_remote_code)
    for key, value in labels.items():
        setattr(config, key, value)
    model, report = load_weights(
        name, "image-segmentation", config=config, trust_remote_code=trust_remote_code, ignore_mismatched_sizes=True
    )
    if report["mismatched_keys"]:
        warnings.warn(f"{name} gets a fresh head for {len(names)} classes; it had {len(old)}.", stacklevel=2)
    return model, processor


def from_classifier(name: str, labels: dict[str, Any]) -> tuple[PreTrainedModel, ImageSegmentationProcessor]:
    """A segmenter with the encoder of the classifier `name`."""
    classifier, processor = load_model(name, "image-classification")
    config_class, model_class = OF_CLASSIFIER[type(classifier.config)]
    known = classifier.config.to_diff_dict()
    kept = {key: value for key, value in known.items() if key in config_class.__dataclass_fields__ and key != "dtype"}
    model = model_class(config_class(**kept | labels))
    encoder = getattr(model, model.base_model_prefix)
    weights = getattr(classifier, model.base_model_prefix).state_dict()
    encoder.load_state_dict({key: weights[key] for key in encoder.state_dict()})
    return model, processor_like(processor)


def processor_like(processor: Any) -> ImageSegmentationProcessor:
    """The segmenters' processor with the mean, deviation and channels of a classifier's."""
    return ImageSegmentationProcessor(
        num_channels=getattr(processor, "num_channels", 3),
        image_mean=list(processor.image_mean),
        image_std=list(processor.image_std),
    )


def train_segmenter(config: SegmenterTrainingConfig) -> ModelRecord:
    """Train, keep the best by the Dice coefficient on validation images, evaluate on the test split, write it all.

    `config.out` then holds the model with its processor (`from_pretrained`, `pipeline`), `config.yaml`,
    `metrics.json`, `curve.png`, pictures of the best and the worst masks, `record.json`, and `checkpoints` to go on
    from.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if the data or a model is not there.
        ValueError: for settings or data that do not fit, or another training in the folder.
        FloatingPointError: if the loss is not finite.
        Interrupted: for Ctrl-C or SIGTERM, after a checkpoint.
        OSError: if something cannot be written; what was saved before is still there.
    """
    accelerator = make_accelerator(config)
    with training_folder(config, ["train", "segmenter"]):
        return fit_segmenter(config, accelerator)


def fit_segmenter(config: SegmenterTrainingConfig, accelerator: Accelerator) -> ModelRecord:
    """[`train_segmenter`], in a folder that is its own."""
    torch.manual_seed(config.seed)
    columns = {name: getattr(config, name) for name in ("image_column", "mask_column", "validation_group")}
    with accelerator.main_process_first():
        splits = load_mask_dataset(config.data, validation=config.validation, seed=config.seed, **columns)
    if config.by is not None and config.by not in splits["train"].features:
        raise ValueError(f"There is no column {config.by!r}; there are: {', '.join(splits['train'].features)}.")
    channels = config.num_channels or known_channels(config)
    limit = config.memory_limit * 1e9
    images = {name: MaskedImages(split, channels, limit) for name, split in splits.items()}
    config = with_batch_size(config, images["train"], accelerator, largest=16, least=4)
    names = name_classes(images, config.classes)
    if accelerator.is_main_process:
        sizes = some_sizes(splits["train"])
        print(describe_data(config.data, {name: len(part) for name, part in images.items()}, sizes))
        print(f"  {len(names)} classes: {', '.join(names)}")
    model, processor = load_segmenter(
        config.model,
        names=names,
        num_channels=config.num_channels,
        image_size=config.crop,
        overrides=config.overrides(),
        trust_remote_code=config.trust_remote_code,
    )
    normalize = Normalize.from_processor(processor)
    count = (config.steps_per_epoch or 0) * config.batch_size * accelerator.num_processes
    crops = MaskedCrops(images["train"], config.crop, config.augmentation(), count or None, config.seed)

    def validate(net: nn.Module) -> dict[str, float]:
        with torch.random.fork_rng(devices=[]):
            counts = count_overlaps(net, images["validation"], normalize, len(names), accelerator=accelerator)
        return {"validation_dice": image_scores(counts, names).mean().item()}

    def keep(state: dict[str, Tensor], entry: dict[str, float]) -> None:
        save_model(model, processor, config.out, state)

    history = train(
        model,
        crops,
        SegmenterLoss(config, normalize),
        config,
        description=config.out.name,
        accelerator=accelerator,
        sample_weights=rarity(splits["train"][config.by][:], len(crops)) if config.balance else None,
        evaluate=validate if "validation" in images else None,
        score="validation_dice",
        on_best=keep,
    )
    training = Training(
        command=training_command("segmenter", config),
        config=recorded_settings(as_plain(config)),
        data=TrainingData(
            source=config.data,
            classes=names,
            images=len(images["train"]),
            fingerprint=splits["train"]._fingerprint,
        ),
        parameters=model.num_parameters(),
        seconds=round(sum(entry["seconds"] for entry in history), 1),
        history=history,
    )
    evaluated: dict[str, SegmenterFigures] = {}
    held_out = {name: images[name] for name in ("validation", "test") if name in images}
    for name, part in held_out.items():
        by = config.by if config.by in part.rows.features else None
        options = {"by": by, "tta": config.tta, "accelerator": accelerator}
        figures = evaluate_segmenter(model, part, processor, names=names, **options)
        evaluated[name] = SegmenterFigures.from_json(figures, name)
    record = ModelRecord(training=training, validation=evaluated.get("validation"), test=evaluated.get("test"))
    if accelerator.is_main_process:
        save_model(model, processor, config.out)
        write_text(config.out / "metrics.json", json.dumps(history, indent=2) + "\n")
        training_curve(history, config.out / "curve.png")
        for name, part in held_out.items():
            each, path = evaluated[name].each or (), config.out / f"masks_{name}.png"
            best_and_worst(model, part, normalize, names, each, path, tta=config.tta)
        write_record(config.out / "record.json", record)
        for name in held_out:
            found = evaluated[name]
            print(f"{name}: Dice {found.dice:.4f}, IoU {found.iou:.4f}, {found.images:,} images")
            if one_class_found(found.to_json()["classes"]):
                print(f"hfvision: warning: {name}: {chance_advice(config, history)}", file=sys.stderr)
        print(f"model, record and pictures: {config.out}")
    return record


def rarity(values: Sequence[Any], count: int) -> Tensor:
    """How often to draw each of `count` crops, which are of rows with these values in turn: float32 (count,)."""
    numbers = Counter(values)
    return torch.tensor([numbers[values[index % len(values)]] ** -0.5 for index in range(count)])


def known_channels(config: SegmenterTrainingConfig) -> int:
    """Channels of the start model."""
    if ":" in config.model or config.model.startswith("timm/"):
        return config.overrides().get("num_channels", 3)
    return getattr(load_config(config.model, trust_remote_code=config.trust_remote_code), "num_channels", 3)
