"""Trains an image classifier from a data set and a start model to a folder that `from_pretrained` loads."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Subset
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.classification import class_weights, load_image_dataset
from ...data.datasets.describe import describe_dataset
from ...data.datasets.prepare import IterableImages, LazyImages, MemoryImages, prepare_images
from ...data.transforms.augment import augment, mix
from ...data.transforms.keyed import image_keys
from ...data.transforms.normalize import Normalize
from ...engine.loader import with_batch_size
from ...engine.loop import RestoreBest, Trainer, Validation
from ...engine.network import Network
from ...engine.progress import History, at_chance, chance_advice, few_images_advice, too_few_to_tell
from ...hub.checkpoints import DEFAULT_CLASSIFIER
from ...hub.records import lineage
from ...metrics.accuracy import accuracy
from ...records import ClassifierFigures, ModelRecord, TrainingData
from ...robustness.adversarial import Adversary, has_collapsed, mart_loss, trades_loss
from ...robustness.attacks.gradient import pgd
from ...robustness.awp import PerturbedWeights
from ...robustness.corruptions import corrupt_some
from ...utils.console import logger
from ...utils.plots import confusion_picture
from ..distill import Distiller
from ..start import is_random
from ..training import log_summary, run_training, save_model, training_record, write_outputs
from .config import ClassifierTrainingConfig
from .evaluate import evaluate_classifier, predict_logits
from .start import load_start
from .transfer import add_lora, freeze, number_layers
from .whitening import whiten_stem

IMAGES_PER_CLASS = 500  # that a random start usually needs: a rule of thumb
PreparedImages = MemoryImages | LazyImages | IterableImages


def make_adversary(config: ClassifierTrainingConfig, normalize: Normalize) -> Adversary | None:
    """What attacks the training images, if anything does."""
    if config.adversarial == "none":
        return None
    return Adversary(config.adversarial, normalize, **config.attack_settings())


@dataclass
class ClassifierLoss:
    """From a batch of uint8 images to the loss: augmentation, attack, normalization, network, labels or teacher.

    Attributes:
        config: the settings.
        normalize: the model's.
        num_classes: of the data.
        weights: float (classes,), of the classes in the cross-entropy.
        distiller, adversary: for distillation and adversarial training.
    """

    config: ClassifierTrainingConfig
    normalize: Normalize
    num_classes: int
    weights: Tensor | None = None
    distiller: Distiller | None = None
    adversary: Adversary | None = None

    def __call__(self, net: nn.Module, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        augmentation = self.config.augmentation()
        keys = image_keys(self.config.seed, epoch, batch["index"])
        images = augment(batch["images"], keys, augmentation)
        if self.config.corruptions:
            images = corrupt_some(images, keys, self.config.corruptions)
        images = images.float() / 255
        labels = batch["labels"]
        images, targets = mix(images, labels, keys, augmentation, self.num_classes)
        weight = None if self.weights is None else self.weights.to(images.device)
        attacked = images if self.adversary is None else self.adversary.attack(net, images, targets, keys)

        def classify(logits: Tensor) -> Tensor:
            return cross_entropy(logits, targets, weight=weight, label_smoothing=self.config.label_smoothing)

        def loss_and_logits(net: nn.Module) -> tuple[Tensor, Tensor]:
            if self.adversary is not None and self.adversary.weight is not None and self.adversary.sees_clean:
                # In one forward pass, as DDP allows one a step; batch normalization takes them together.
                clean, logits = net(pixel_values=self.pixel_values(torch.cat([images, attacked]))).logits.chunk(2)
                if self.adversary.method == "mart":
                    return mart_loss(clean, logits, labels, self.adversary.weight), logits
                return trades_loss(clean, logits, classify, self.adversary.weight), logits
            if self.distiller is not None:
                return self.distiller(net, self.pixel_values(attacked), images, classify)
            logits = net(pixel_values=self.pixel_values(attacked)).logits
            return classify(logits), logits

        if self.config.awp:
            net = cast(nn.Module, PerturbedWeights(net, lambda net: loss_and_logits(net)[0], self.config.awp))
        loss, logits = loss_and_logits(net)
        name = "accuracy" if self.adversary is None else "attacked_accuracy"
        values = {"loss": loss, name: (logits.detach().argmax(-1) == labels).float().mean()}
        if self.config.bad_images == "skip" and "read" in batch:
            values["unreadable"] = (~batch["read"]).float().mean()
        return values

    def pixel_values(self, images: Tensor) -> Tensor:
        """The network's input for images float (N, C, H, W) in [0, 1]."""
        return self.normalize(images).contiguous(memory_format=torch.channels_last)

    def has_just_collapsed(self, history: History) -> bool:
        """Whether the last epoch ended in catastrophic overfitting; the attack takes two steps from then on."""
        if self.adversary is None or not self.adversary.one_step:
            return False
        collapses = [end for end in range(1, len(history) + 1) if has_collapsed(history[:end])]
        self.adversary.multi_step = bool(collapses)
        return bool(collapses) and collapses[-1] == len(history)


@dataclass
class ClassifierValidation:
    """The accuracy on validation images, and on some of them under attack in adversarial training."""

    images: Dataset
    config: ClassifierTrainingConfig
    normalize: Normalize
    accelerator: Accelerator
    adversary: Adversary | None = None

    def __call__(self, net: nn.Module) -> dict[str, float]:
        logits, labels = predict_logits(net, self.images, self.normalize, accelerator=self.accelerator)
        values = {
            "validation_loss": cross_entropy(logits, labels).item(),
            "validation_accuracy": accuracy(logits.argmax(-1), labels),
        }
        if self.adversary is not None:
            some = Subset(self.images, range(min(self.config.robust_images, len(cast(Sized, self.images)))))
            attack = partial(pgd, epsilon=self.adversary.epsilon, norm=self.config.norm)
            logits, labels = predict_logits(net, some, self.normalize, accelerator=self.accelerator, attack=attack)
            values["validation_robust_accuracy"] = accuracy(logits.argmax(-1), labels)
        return values


def train_classifier(config: ClassifierTrainingConfig) -> ModelRecord:
    """Train, keep the best by validation accuracy, evaluate on the test split, write model, record and pictures.

    `config.out` then holds the model with its processor (`from_pretrained`, `pipeline`), `config.yaml`,
    `metrics.json`, `curve.png`, `record.json`, and `checkpoints` to resume from. With LoRA, `adapter` holds the
    adapter and the folder itself the merged model.

    Returns:
        The record.

    Raises:
        ValueError: for settings or data that do not fit, or another training in the folder.
        FloatingPointError: if a gradient is not finite.
        Interrupted: for Ctrl-C or SIGTERM, after a checkpoint.
        OSError: if something cannot be written; what was saved before is kept.
    """
    return run_training("classifier", config, fit_classifier)


def fit_classifier(config: ClassifierTrainingConfig, accelerator: Accelerator) -> ModelRecord:
    """[`train_classifier`], in a folder that is reserved for it."""
    data = load_data(config, accelerator)
    names = data["train"].features["label"].names
    model, processor = load_start(
        config.model,
        names=names,
        num_channels=config.num_channels,
        image_size=config.image_size,
        overrides=config.overrides(),
        trust_remote_code=config.trust_remote_code,
    )
    made_from = lineage(config)
    trainset, held_out = prepare_splits(data, processor, config, accelerator)
    if not config.streaming and accelerator.is_main_process:
        advise_on_start(config.model, len(cast(Sized, trainset)), len(names))
    config = with_batch_size(config, trainset, accelerator)
    normalize = Normalize.from_processor(processor)
    model = prepare_model(model, normalize, trainset, config, accelerator)
    distiller = Distiller.from_config(config, model, names) if config.teacher else None
    labels = None if config.balance == "none" else cast(Any, trainset).labels
    weights = None if labels is None else class_weights(labels, len(names))
    adversary = make_adversary(config, normalize)
    compute_loss = ClassifierLoss(
        config, normalize, len(names), weights if config.balance == "weights" else None, distiller, adversary
    )
    folder = config.out if config.lora_rank is None else config.out / "adapter"
    validation = None
    if "validation" in held_out:
        validation = Validation(
            ClassifierValidation(held_out["validation"], config, normalize, accelerator, adversary),
            "validation_accuracy" if adversary is None else "validation_robust_accuracy",
            lambda state, metrics: save_model(model, processor, folder, state),
        )
    history = Trainer(
        Network(model, compute_loss),
        trainset,
        config,
        accelerator=accelerator,
        sample_weights=weights[labels] if weights is not None and config.balance == "sampling" else None,
        validation=validation,
        callbacks=[RestoreBest(compute_loss.has_just_collapsed)],
    ).fit()
    if distiller is not None:
        distiller.release(model)
    if config.lora_rank is not None:
        if accelerator.is_main_process:
            save_model(model, processor, folder)
        model = cast(PeftModel, model).merge_and_unload()
    data_record = describe_data(config, data, trainset, held_out)
    training = training_record("classifier", config, data_record, model.num_parameters(), history)
    figures: dict[str, ClassifierFigures] = {}
    for split, images in held_out.items():
        options = {"names": names, "tta": config.tta, "accelerator": accelerator}
        figures[split] = ClassifierFigures.from_json(evaluate_classifier(model, images, processor, **options), split)
    record = replace(made_from, training=training, **figures)
    if accelerator.is_main_process:
        save_model(model, processor, config.out)
        write_results(config, record, figures, history)
    return record


def advise_on_start(name: str, images: int, classes: int) -> None:
    """Say where random weights have few images to learn from."""
    if is_random(name) and images < IMAGES_PER_CLASS * classes:
        logger.info(
            f"{name} starts with random weights, which usually need at least {IMAGES_PER_CLASS} images per class; "
            f"there are {images} for {classes} classes. To fine-tune a pretrained model: --model {DEFAULT_CLASSIFIER}"
        )


def load_data(config: ClassifierTrainingConfig, accelerator: Accelerator) -> dict[str, Any]:
    """The splits of the data, described on the console."""
    with accelerator.main_process_first():
        data = load_image_dataset(
            config.data,
            validation=config.validation,
            seed=config.seed,
            streaming=config.streaming,
            image_column=config.image_column,
            label_column=config.label_column,
            validation_group=config.validation_group,
        )
    if accelerator.is_main_process:
        logger.info(describe_dataset(config.data, data))
    return cast(dict[str, Any], data)


def prepare_model(
    model: PreTrainedModel,
    normalize: Normalize,
    trainset: Dataset,
    config: ClassifierTrainingConfig,
    accelerator: Accelerator,
) -> PreTrainedModel:
    """The start model as it is trained: whitened, partly frozen or with adapters, by the settings."""
    if accelerator.device.type == "cpu" and model._supports_sdpa:
        model.set_attn_implementation("eager")  # its backward pass is faster than sdpa's there
    if config.whiten:
        whiten_stem(model, normalize, trainset)
    if config.freeze != "none":
        freeze(model, config.freeze)
    if config.lora_rank is not None:
        model = cast(PreTrainedModel, add_lora(model, config.lora_rank, dora=config.dora))
    if config.layer_decay is not None:
        number_layers(model)
    return model


def prepare_splits(
    data: dict[str, Any], processor: BaseImageProcessor, config: ClassifierTrainingConfig, accelerator: Accelerator
) -> tuple[PreparedImages, dict[str, PreparedImages]]:
    """The training images, and those of the other splits by name; unreadable images are reported."""
    limit = int(config.memory_limit * 1e9)
    splits = {
        name: IterableImages(
            split,
            processor,
            seed=config.seed,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            on_bad_image=config.bad_images,
        )
        if config.streaming and name == "train"
        else prepare_images(split, processor, memory_limit=limit, on_bad_image=config.bad_images)
        for name, split in data.items()
    }
    for images in splits.values():
        for sentence in getattr(images, "bad_images", []):
            if accelerator.is_main_process:
                logger.warning(f"left out: {sentence}")
    if isinstance(splits["train"], MemoryImages) and splits["train"].bad_images:
        names = data["train"].features["label"].names
        if missing := sorted(set(data["train"]["label"][:]) - set(splits["train"].labels.tolist())):
            raise ValueError(f"No training image of the class {names[missing[0]]!r} can be read.")
    return splits.pop("train"), splits


def describe_data(
    config: ClassifierTrainingConfig, data: dict[str, Any], trainset: Dataset, held_out: Mapping[str, Dataset]
) -> TrainingData:
    """What is recorded of the training data."""
    return TrainingData(
        source=config.data,
        classes=data["train"].features["label"].names,
        fingerprint=None if config.streaming else data["train"]._fingerprint,
        images=None if config.streaming else len(cast(Sized, trainset)),
        unreadable=sum(len(getattr(part, "bad_images", [])) for part in (trainset, *held_out.values())),
    )


def write_results(
    config: ClassifierTrainingConfig, record: ModelRecord, figures: Mapping[str, ClassifierFigures], history: History
) -> None:
    """Write the record and the pictures, and print the summary."""
    results, warnings = [], []
    for split, found in figures.items():
        results.append(f"{split}: {found.top1:.2%} of {found.images:,} images are right")
        matrix = found.confusion_matrix or []
        few = too_few_to_tell(matrix or [[]])
        if at_chance(matrix) or (few and found.top1 < 1):
            advice = few_images_advice(found.images) if few else chance_advice(config, history)
            warnings.append(f"{split}: {advice}")
        if matrix:
            confusion_picture(matrix, record.data.classes, config.out / f"confusion_{split}.png")
    write_outputs(config.out, record, history)
    log_summary(config.out, results, warnings)
