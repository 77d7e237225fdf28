"""Training of super-resolution networks: by pixel losses, and then, from those weights, as a GAN."""

import copy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from ...data.datasets.describe import describe_data
from ...data.datasets.photos import load_photos
from ...data.transforms.crops import RandomCrops
from ...data.transforms.keyed import image_keys
from ...data.transforms.resize import resize_bicubic
from ...engine.loop import Trainer, Validation
from ...engine.network import Network
from ...engine.progress import History, training_advice
from ...hub.loading import load_model
from ...hub.records import lineage
from ...models.srgan.configuration_srgan import PRESETS, SRGANConfig
from ...models.srgan.image_processing_srgan import SRGANImageProcessor
from ...models.srgan.modeling_srgan import SRGANDiscriminator, SRGANForImageSuperResolution
from ...records import ModelRecord, TrainingData
from ...utils.console import logger
from ...utils.files import atomic_folder
from ...utils.plots import side_by_side
from ..training import log_summary, run_training, training_record, write_outputs
from .config import SuperResTrainingConfig
from .gan import DiscriminatorLoss
from .losses import SuperResolutionLoss
from .perceptual import PerceptualLoss
from .validation import ValidationPhotos, sample_picture

VALIDATION = 2**30  # used as the epoch in the keys that choose validation photographs


def load_generator(
    name: str, overrides: dict[str, Any], *, trust_remote_code: bool = False
) -> SRGANForImageSuperResolution:
    """A generator to train: of a preset, or with the weights of a trained one.

    A trained one that was folded gets its training branches (`branch_expansion`) back, with the same output. Weights
    that do not fit, as the last layer's at another `scale`, are initialized randomly.

    Args:
        name: a key of `PRESETS`, a Hub id, a folder or a shipped checkpoint.
        overrides: fields of the configuration to replace.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if it is no super-resolution network, or cannot be loaded.
    """
    if name in PRESETS:
        return SRGANForImageSuperResolution(SRGANConfig.from_preset(name, **overrides))
    source, _ = load_model(name, "image-super-resolution", trust_remote_code=trust_remote_code)
    fields = source.config.to_diff_dict() | {"fused": False} | overrides
    model = SRGANForImageSuperResolution(SRGANConfig.from_dict(fields))
    shapes = {key: weight.shape for key, weight in model.state_dict().items()}
    fitting = {key: weight for key, weight in source.state_dict().items() if weight.shape == shapes.get(key)}
    if not fitting:
        raise ValueError(f"No weight of {name} fits the configuration {overrides}.")
    model.load_state_dict(fitting, strict=False)
    return model


def train_superres(config: SuperResTrainingConfig) -> ModelRecord:
    """Train, keep the best by PSNR on validation photographs (the newest, with a GAN), write model and record.

    `config.out` then holds the folded network with its processor (`from_pretrained`, `pipeline`), `config.yaml`,
    `metrics.json`, `curve.png`, `samples.png`, `record.json`, and `checkpoints` to resume from; with a GAN the folder
    `discriminator` too.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if a source of data or a model does not exist.
        ValueError: for settings or data that do not fit, or another training in the folder.
        FloatingPointError: if a gradient is not finite.
        Interrupted: for Ctrl-C or SIGTERM, after a checkpoint.
        OSError: if something cannot be written; what was saved before is kept.
    """
    return run_training("superres", config, fit_superres)


def fit_superres(config: SuperResTrainingConfig, accelerator: Accelerator) -> ModelRecord:
    """[`train_superres`], in a folder that is reserved for it."""
    model = load_generator(config.model, config.overrides(), trust_remote_code=config.trust_remote_code)
    made_from = lineage(config)
    scale, channels = model.config.scale, model.config.num_channels
    photos, held_out = split_photographs(config, config.crop * scale)
    if accelerator.is_main_process:
        counts = {"train": len(photos), "validation": len(held_out)}
        logger.info(describe_data(", ".join(config.data), counts, [photo.size for photo in photos]))
    count = config.batch_size * config.steps_per_epoch * accelerator.num_processes
    crops = RandomCrops(
        photos, config.crop * scale, count, config.seed, channels, config.turn, config.candidates, config.shrink
    )
    validation = ValidationPhotos.of(held_out, scale, channels, config.degradation)
    loss = make_loss(config, model, accelerator)
    discriminator = None
    if loss.discriminator is not None and loss.discriminator_loss is not None:
        discriminator = Network(loss.discriminator, loss.discriminator_loss, config.discriminator_learning_rate)

    def validate(net: nn.Module) -> dict[str, float]:
        figures = validation.psnr(
            lambda images: net(pixel_values=images).reconstruction, accelerator, "validation_psnr"
        )
        if accelerator.is_main_process:
            show_samples(sample_picture(extract_model_from_parallel(net), validation), config.out, accelerator)
        return figures

    def keep(state: dict[str, Tensor], metrics: dict[str, float]) -> None:
        best = SRGANForImageSuperResolution(copy.deepcopy(model.config))
        best.load_state_dict(state)
        save_upscaler(best, config.out)

    history = Trainer(
        Network(model, loss),
        crops,
        config,
        accelerator=accelerator,
        validation=Validation(validate, "validation_psnr" if discriminator is None else None, keep),
        discriminator=discriminator,
    ).fit()
    bicubic = validation.psnr(lambda images: resize_bicubic(images, scale), accelerator, "bicubic_psnr")
    count = len(set(map(id, photos)))
    data = TrainingData(sources=config.data, photographs=count, validation_photographs=len(held_out))
    parameters = copy.deepcopy(model).fuse().num_parameters()
    training = training_record("superres", config, data, parameters, history)
    training = replace(training, bicubic_psnr=bicubic.pop("bicubic_psnr"), extra=bicubic)
    record = replace(made_from, training=training)
    if accelerator.is_main_process:
        save_upscaler(model, config.out)
        if loss.discriminator is not None:
            with atomic_folder(config.out / "discriminator") as folder:
                loss.discriminator.save_pretrained(folder)
        write_results(config, record, history)
    return record


def make_loss(
    config: SuperResTrainingConfig, model: SRGANForImageSuperResolution, accelerator: Accelerator
) -> SuperResolutionLoss:
    """The loss, with teacher, discriminator and perceptual network, by the settings."""
    scale, channels = model.config.scale, model.config.num_channels
    loss = SuperResolutionLoss(config, scale, accelerator.autocast)
    if config.teacher:
        loss.teacher = load_teacher(config.teacher, scale, channels)
    if config.gan != "none":
        torch.manual_seed(config.seed + 1)
        loss.discriminator = SRGANDiscriminator(model.config)
        loss.discriminator_loss = DiscriminatorLoss(config.gan, config.r1)
    if config.perceptual:
        loss.perceptual = PerceptualLoss.from_pretrained(config.perceptual)
    return loss


def show_samples(picture: dict[str, Image.Image], out: Path, accelerator: Accelerator) -> None:
    """Write samples.png, and show the images side by side in the trackers that can."""
    side_by_side(picture, out / "samples.png")
    strip = torch.cat([pil_to_tensor(image) for image in picture.values()], 2).permute(1, 2, 0)[None]
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            tracker.log_images({" | ".join(picture): strip.numpy()})  # pyright: ignore[reportAttributeAccessIssue]


def write_results(config: SuperResTrainingConfig, record: ModelRecord, history: History) -> None:
    """Write the record, and print the summary."""
    bicubic = (record.training and record.training.bicubic_psnr) or 0.0
    by_psnr = config.gan == "none" and config.keep == "best"
    best = max(history, key=lambda entry: entry["validation_psnr"]) if by_psnr else history[-1]
    result = (
        f"PSNR on {record.data.validation_photographs} validation photographs: "
        f"{best['validation_psnr']:.2f} dB, bicubic {bicubic:.2f} dB"
    )
    warnings = []
    if by_psnr and config.degradation == "bicubic" and best["validation_psnr"] <= bicubic:
        warnings.append(f"no better than bicubic: {training_advice(config, history)}")
    write_outputs(config.out, record, history)
    log_summary(config.out, [result], warnings)


def split_photographs(config: SuperResTrainingConfig, min_side: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """Photographs for training and validation; where the latter are set aside, no copy of them is trained on."""
    photos = load_photos(config.data, min_side)
    if config.validation_data:
        return photos, load_photos(config.validation_data, min_side)
    count = max(1, round(config.validation * len(photos)))
    chosen = image_keys(config.seed, VALIDATION, torch.arange(len(photos))).argsort()[:count].tolist()
    contents = [sha256(photo.tobytes()).digest() for photo in photos]
    apart = {contents[i] for i in chosen}
    left = [photo for photo, content in zip(photos, contents, strict=True) if content not in apart]
    if not left:
        raise ValueError(
            f"{len(set(contents))} photograph of at least {min_side}×{min_side} pixels is too few to set some aside: "
            "give more, or --validation-data."
        )
    return left, [photos[i] for i in sorted(chosen)]


def load_teacher(name: str, scale: int, channels: int) -> SRGANForImageSuperResolution:
    """A frozen network to distill from; ValueError for one of another scale or number of channels."""
    teacher: Any = load_model(name, "image-super-resolution")[0]
    have = (teacher.config.scale, teacher.config.num_channels)
    if have != (scale, channels):
        raise ValueError(
            f"The teacher {name} upscales ×{have[0]} with {have[1]} channels; the network ×{scale} with {channels}."
        )
    return teacher.requires_grad_(False).to(memory_format=torch.channels_last)


def save_upscaler(model: SRGANForImageSuperResolution, folder: Path) -> None:
    """Write the network, which is folded in place, with its processor; files are replaced atomically."""
    with atomic_folder(folder) as temporary:
        model.fuse().save_pretrained(temporary)
        options: dict[str, Any] = {"num_channels": model.config.num_channels}
        SRGANImageProcessor(**options).save_pretrained(temporary)
