"""Trains an image classifier from a data set and a start model to a folder that `from_pretrained` loads."""

import json
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Subset
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.classification import class_weights, load_image_dataset
from ...data.datasets.describe import describe_dataset
from ...data.datasets.prepare import IterableImages, MemoryImages, prepare_images
from ...data.transforms.augment import augment, mix
from ...data.transforms.keyed import image_keys
from ...data.transforms.normalize import Normalize
from ...engine.folder import training_folder
from ...engine.loop import make_accelerator, train, with_batch_size
from ...engine.options import as_plain, training_command
from ...engine.progress import at_chance, chance_advice, few_images_advice, too_few_to_tell
from ...hub.records import lineage, recorded_settings
from ...metrics.accuracy import accuracy
from ...records import ClassifierFigures, ModelRecord, Training, TrainingData, write_record
from ...robustness.adversarial import Adversary, has_collapsed, mart_loss, trades_loss
from ...robustness.attacks.gradient import pgd
from ...robustness.awp import PerturbedWeights
from ...robustness.corruptions import corrupt_some
from ...utils.files import folder_written_whole, write_text
from ...utils.plots import confusion_picture, training_curve
from .config import ClassifierTrainingConfig
from .distill import Distiller
from .evaluate import evaluate_classifier, predict_logits
from .transfer import add_lora, freeze, load_start, number_layers
from .whitening import whiten_stem


def make_adversary(config: ClassifierTrainingConfig, normalize: Normalize) -> Adversary | None:
    """What attacks the training images, if anything does."""
    if config.adversarial == "none":
        return None
    return Adversary(config.adversarial, normalize, **config.attack_settings())


@dataclass
class ClassifierLoss:
    """From a batch of uint8 images to the loss: augmentation, attack, normalisation, network, labels or teacher."""

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
            if self.adversary is not None and self.adversary.sees_clean:
                # One pass of both, as DDP allows one; batch normalisation sees them mixed.
                clean, logits = net(pixel_values=self.pixel_values(torch.cat([images, attacked]))).logits.chunk(2)
                if self.adversary.method == "mart":
                    return mart_loss(clean, logits, labels, self.adversary.weight), logits
                return trades_loss(clean, logits, classify, self.adversary.weight), logits
            if self.distiller is not None:
                return self.distiller(net, self.pixel_values(attacked), images, classify)
            logits = net(pixel_values=self.pixel_values(attacked)).logits
            return classify(logits), logits

        if self.config.awp:
            net = PerturbedWeights(net, lambda net: loss_and_logits(net)[0], self.config.awp)
        loss, logits = loss_and_logits(net)
        name = "accuracy" if self.adversary is None else "attacked_accuracy"
        values = {"loss": loss, name: (logits.detach().argmax(-1) == labels).float().mean()}
        if self.config.bad_images == "skip" and "read" in batch:
            values["unreadable"] = (~batch["read"]).float().mean()
        return values

    def pixel_values(self, images: Tensor) -> Tensor:
        return self.normalize(images).contiguous(memory_format=torch.channels_last)

    def begin_epoch(self, history: list[dict[str, float]]) -> bool:
        """After a collapse: two steps of attack from then on, and back to the best weights where it is new."""
        if self.adversary is None or not self.adversary.one_step:
            return False
        collapses = [end for end in range(1, len(history) + 1) if has_collapsed(history[:end])]
        self.adversary.multi_step = bool(collapses)
        return bool(collapses) and collapses[-1] == len(history)


def train_classifier(config: ClassifierTrainingConfig) -> ModelRecord:
    """Train, keep the best by validation accuracy, evaluate on the test split, write model, record and pictures.

    `config.out` then holds the model with its processor (`from_pretrained`, `pipeline`), `config.yaml`,
    `metrics.json`, `curve.png`, `record.json`, and `checkpoints` to go on from. With LoRA, `adapter` holds the adapter
    and the folder itself the merged model.

    Returns:
        The record.

    Raises:
        ValueError: for settings or data that do not fit, or another training in the folder.
        FloatingPointError: if the loss is not finite.
        Interrupted: for Ctrl-C or SIGTERM, after a checkpoint.
        OSError: if something cannot be written; what was saved before is still there.
    """
    accelerator = make_accelerator(config)
    with training_folder(config, ["train", "classifier"]):
        return fit_classifier(config, accelerator)


def fit_classifier(config: ClassifierTrainingConfig, accelerator: Accelerator) -> ModelRecord:
    """[`train_classifier`], in a folder that is its own."""
    torch.manual_seed(config.seed)
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
        print(describe_dataset(config.data, data))
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
    config = with_batch_size(config, trainset, accelerator)
    normalize = Normalize.from_processor(processor)
    if accelerator.device.type == "cpu" and model._supports_sdpa:
        model.set_attn_implementation("eager")  # its backward pass takes less time than sdpa's there
    if config.whiten:
        whiten_stem(model, normalize, trainset)
    if config.freeze != "none":
        freeze(model, config.freeze)
    if config.lora_rank is not None:
        model = add_lora(model, config.lora_rank, dora=config.dora)
    if config.layer_decay is not None:
        number_layers(model)
    distiller = Distiller.from_config(config, model, names) if config.teacher else None
    weights = None if config.balance == "none" else class_weights(trainset.labels, len(names))
    adversary = make_adversary(config, normalize)
    compute_loss = ClassifierLoss(
        config, normalize, len(names), weights if config.balance == "weights" else None, distiller, adversary
    )

    def validate(net: nn.Module) -> dict[str, float]:
        logits, labels = predict_logits(net, held_out["validation"], normalize, accelerator=accelerator)
        values = {
            "validation_loss": cross_entropy(logits, labels).item(),
            "validation_accuracy": accuracy(logits.argmax(-1), labels),
        }
        if adversary is not None:
            some = Subset(held_out["validation"], range(min(config.robust_images, len(held_out["validation"]))))
            attack = partial(pgd, epsilon=adversary.epsilon, norm=config.norm)
            logits, labels = predict_logits(net, some, normalize, accelerator=accelerator, attack=attack)
            values["validation_robust_accuracy"] = accuracy(logits.argmax(-1), labels)
        return values

    def keep(state: dict[str, Tensor], entry: dict[str, float]) -> None:
        save_model(model, processor, config.out / "adapter" if config.lora_rank is not None else config.out, state)

    history = train(
        model,
        trainset,
        compute_loss,
        config,
        description=config.out.name,
        accelerator=accelerator,
        sample_weights=weights[trainset.labels] if config.balance == "sampling" else None,
        evaluate=validate if "validation" in held_out else None,
        score="validation_accuracy" if adversary is None else "validation_robust_accuracy",
        on_best=keep,
        begin_epoch=compute_loss.begin_epoch,
    )
    if distiller is not None:
        distiller.release(model)
    if config.lora_rank is not None and accelerator.is_main_process:
        save_model(model, processor, config.out / "adapter")
    merged = model.merge_and_unload() if config.lora_rank is not None else model
    training = Training(
        command=training_command("classifier", config),
        config=recorded_settings(as_plain(config)),
        data=TrainingData(
            source=config.data,
            classes=names,
            fingerprint=None if config.streaming else data["train"]._fingerprint,
            images=None if config.streaming else len(trainset),
            unreadable=sum(len(getattr(part, "bad_images", [])) for part in (trainset, *held_out.values())),
        ),
        parameters=merged.num_parameters(),
        seconds=round(sum(entry["seconds"] for entry in history), 1),
        history=history,
    )
    options = {"names": names, "tta": config.tta, "accelerator": accelerator}
    figures = {split: evaluate_classifier(merged, part, processor, **options) for split, part in held_out.items()}
    evaluated = {split: ClassifierFigures.from_json(values, split) for split, values in figures.items()}
    record = replace(made_from, training=training, **evaluated)
    if accelerator.is_main_process:
        save_model(merged, processor, config.out)
        write_outputs(config, record, history)
        for split in held_out:
            found = evaluated[split]
            print(f"{split}: {found.top1:.2%} of {found.images:,} images are right")
            few = too_few_to_tell(found.confusion_matrix or ((),))
            if at_chance(found.confusion_matrix or ()) or (few and found.top1 < 1):
                advice = few_images_advice(found.images) if few else chance_advice(config, history)
                print(f"hfvision: warning: {split}: {advice}", file=sys.stderr)
        print(f"model, record and pictures: {config.out}")
    return record


def prepare_splits(
    data: dict[str, Any], processor: BaseImageProcessor, config: ClassifierTrainingConfig, accelerator: Accelerator
) -> tuple[Dataset, dict[str, Dataset]]:
    """The training images, and those of the other splits by name; what could not be read is said."""
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
            accelerator.print(f"left out: {sentence}", file=sys.stderr)
    if isinstance(splits["train"], MemoryImages) and splits["train"].bad_images:
        names = data["train"].features["label"].names
        if missing := sorted(set(data["train"]["label"][:]) - set(splits["train"].labels.tolist())):
            raise ValueError(f"No training image of the class {names[missing[0]]!r} can be read.")
    return splits.pop("train"), splits


def save_model(
    model: nn.Module, processor: BaseImageProcessor, folder: Path, state: dict[str, Tensor] | None = None
) -> None:
    """Write model and processor, the model with the weights of `state` where given; files are replaced whole."""
    with folder_written_whole(folder) as temporary:
        model.save_pretrained(temporary, state_dict=dict(state) if state else None)  # which empties it
        processor.save_pretrained(temporary)


def write_outputs(config: ClassifierTrainingConfig, record: ModelRecord, history: list[dict[str, float]]) -> None:
    write_text(config.out / "metrics.json", json.dumps(history, indent=2) + "\n")
    training_curve(history, config.out / "curve.png")
    for split, figures in (("validation", record.validation), ("test", record.test)):
        if isinstance(figures, ClassifierFigures) and figures.confusion_matrix:
            picture = config.out / f"confusion_{split}.png"
            confusion_picture(figures.confusion_matrix, record.data.classes, picture)
    write_record(config.out / "record.json", record)
