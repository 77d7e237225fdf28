"""Training of super-resolution networks: by pixels, and then, from those weights, as a GAN. One loop, one command."""

import copy
import json
import sys
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
from ...data.transforms.normalize import Normalize
from ...data.transforms.resize import resize_bicubic
from ...engine.folder import training_folder
from ...engine.loop import Opponent, make_accelerator, train
from ...engine.options import as_plain, training_command
from ...engine.progress import training_advice
from ...hub.loading import load_model
from ...hub.records import lineage, recorded_settings
from ...models.srgan.configuration_srgan import PRESETS, SRGANConfig
from ...models.srgan.image_processing_srgan import SRGANImageProcessor
from ...models.srgan.modeling_srgan import SRGANDiscriminator, SRGANForImageSuperResolution
from ...records import ModelRecord, Training, TrainingData, write_record
from ...utils.files import folder_written_whole, write_text
from ...utils.plots import side_by_side, training_curve
from ..classification.transfer import load_start
from .config import SuperResTrainingConfig
from .gan import DiscriminatorLoss, PerceptualLoss
from .losses import SuperResolutionLoss
from .validation import Validation, sample_picture

VALIDATION = 2**30  # in the place of an epoch in the keys that choose the photographs set aside


def load_generator(
    name: str, overrides: dict[str, Any], *, trust_remote_code: bool = False
) -> SRGANForImageSuperResolution:
    """A generator to train: of a preset, or with the weights of a trained one.

    A trained one gets its training branches (`branch_expansion`) back where it has been folded, with the same output.
    Weights that do not fit, as the last layer's at another `scale`, start anew.

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
    `metrics.json`, `curve.png`, `samples.png`, `record.json`, and `checkpoints` to go on from; with a GAN the folder
    `discriminator` too.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if a source of data or a model is not there.
        ValueError: for settings or data that do not fit, or another training in the folder.
        FloatingPointError: if the loss is not finite.
        Interrupted: for Ctrl-C or SIGTERM, after a checkpoint.
        OSError: if something cannot be written; what was saved before is still there.
    """
    accelerator = make_accelerator(config)
    with training_folder(config, ["train", "superres"]):
        return fit_superres(config, accelerator)


def fit_superres(config: SuperResTrainingConfig, accelerator: Accelerator) -> ModelRecord:
    """[`train_superres`], in a folder that is its own."""
    torch.manual_seed(config.seed)
    model = load_generator(config.model, config.overrides(), trust_remote_code=config.trust_remote_code)
    made_from = lineage(config)
    scale, channels = model.config.scale, model.config.num_channels
    photos, held_out = split_photographs(config, config.crop * scale)
    if accelerator.is_main_process:
        counts = {"train": len(photos), "validation": len(held_out)}
        print(describe_data(", ".join(config.data), counts, [photo.size for photo in photos]))
    count = config.batch_size * config.steps_per_epoch * accelerator.num_processes
    crops = RandomCrops(
        photos, config.crop * scale, count, config.seed, channels, config.turn, config.candidates, config.shrink
    )
    validation = Validation.of(held_out, scale, channels, config.degradation)
    loss = SuperResolutionLoss(config, scale, accelerator.autocast)
    opponent = None
    if config.teacher:
        loss.teacher = load_teacher(config.teacher, scale, channels)
    if config.gan != "none":
        torch.manual_seed(config.seed + 1)
        loss.discriminator = SRGANDiscriminator(model.config)
        loss.left_for = DiscriminatorLoss(config.gan, config.r1)
        opponent = Opponent(loss.discriminator, loss.left_for, config.discriminator_learning_rate)
    if config.perceptual:
        loss.perceptual = load_perceptual(config.perceptual)

    def validate(net: nn.Module) -> dict[str, float]:
        figures = validation.psnr(
            lambda images: net(pixel_values=images).reconstruction, accelerator, "validation_psnr"
        )
        if accelerator.is_main_process:
            picture = sample_picture(extract_model_from_parallel(net), validation)
            side_by_side(picture, config.out / "samples.png")
            strip = torch.cat([pil_to_tensor(image) for image in picture.values()], 2).permute(1, 2, 0)[None]
            for tracker in accelerator.trackers:
                if hasattr(tracker, "log_images"):
                    tracker.log_images({" | ".join(picture): strip.numpy()})
        return figures

    def keep(state: dict[str, Tensor], entry: dict[str, float]) -> None:
        best = SRGANForImageSuperResolution(copy.deepcopy(model.config))
        best.load_state_dict(state)
        save_upscaler(best, config.out)

    history = train(
        model,
        crops,
        loss,
        config,
        description=config.out.name,
        accelerator=accelerator,
        evaluate=validate,
        score="validation_psnr" if opponent is None else None,
        on_best=keep,
        opponent=opponent,
    )
    by_degradation = validation.psnr(lambda images: resize_bicubic(images, scale), accelerator, "bicubic_psnr")
    bicubic = by_degradation.pop("bicubic_psnr")
    training = Training(
        command=training_command("superres", config),
        config=recorded_settings(as_plain(config)),
        data=TrainingData(
            sources=config.data,
            photographs=len(set(map(id, photos))),
            validation_photographs=len(held_out),
        ),
        parameters=copy.deepcopy(model).fuse().num_parameters(),
        bicubic_psnr=bicubic,
        seconds=round(sum(entry["seconds"] for entry in history), 1),
        history=history,
        extra=dict(by_degradation),
    )
    record = replace(made_from, training=training)
    if accelerator.is_main_process:
        save_upscaler(model, config.out)
        if loss.discriminator is not None:
            with folder_written_whole(config.out / "discriminator") as folder:
                loss.discriminator.save_pretrained(folder)
        write_text(config.out / "metrics.json", json.dumps(history, indent=2) + "\n")
        training_curve(history, config.out / "curve.png")
        write_record(config.out / "record.json", record)
        by_psnr = opponent is None and config.keep == "best"
        best = max(history, key=lambda entry: entry["validation_psnr"]) if by_psnr else history[-1]
        print(
            f"PSNR on {len(held_out)} validation photographs: {best['validation_psnr']:.2f} dB, "
            f"bicubic {bicubic:.2f} dB"
        )
        no_gain = best["validation_psnr"] <= bicubic
        if by_psnr and config.degradation == "bicubic" and no_gain:
            print(f"hfvision: warning: no better than bicubic: {training_advice(config, history)}", file=sys.stderr)
        print(f"model, record and pictures: {config.out}")
    return record


def split_photographs(config: SuperResTrainingConfig, min_side: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """Those to train on and those to choose by, of which no copy is trained on where they are set aside."""
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
    teacher, _ = load_model(name, "image-super-resolution")
    have = (teacher.config.scale, teacher.config.num_channels)
    if have != (scale, channels):
        raise ValueError(
            f"The teacher {name} upscales ×{have[0]} with {have[1]} channels; the network ×{scale} with {channels}."
        )
    return teacher.requires_grad_(False).to(memory_format=torch.channels_last)


def load_perceptual(name: str) -> PerceptualLoss:
    if name.startswith("timm/"):
        model, processor = load_start(name, names=["image"])
    else:
        model, processor = load_model(name, "image-classification")
    return PerceptualLoss(model, Normalize.from_processor(processor))


def save_upscaler(model: SRGANForImageSuperResolution, folder: Path) -> None:
    """Write the network, folded, which changes it, with its processor; files are replaced whole."""
    with folder_written_whole(folder) as temporary:
        model.fuse().save_pretrained(temporary)
        SRGANImageProcessor(num_channels=model.config.num_channels).save_pretrained(temporary)
