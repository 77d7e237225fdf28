"""Training of super-resolution networks: by pixels, and then, from those weights, as a GAN. One loop, one command."""

import copy
import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from ...data.datasets.describe import describe_data
from ...data.datasets.photos import load_photos
from ...data.transforms.crops import RandomCrops
from ...data.transforms.degradations import PRESETS as DEGRADATIONS
from ...data.transforms.degradations import Preset
from ...data.transforms.keyed import image_keys
from ...data.transforms.normalize import Normalize
from ...data.transforms.resize import resize_bicubic
from ...engine.folder import training_folder
from ...engine.loop import LoopConfig, Opponent, make_accelerator, train
from ...engine.options import as_plain, option, training_command, yaml_mapping
from ...engine.progress import training_advice
from ...hub.cards.lineage import lineage
from ...hub.loading import load_model
from ...models.srgan.configuration_srgan import PRESETS, SRGANConfig
from ...models.srgan.image_processing_srgan import SRGANImageProcessor
from ...models.srgan.modeling_srgan import SRGANDiscriminator, SRGANForImageSuperResolution
from ...utils.report import folder_written_whole, side_by_side, training_curve, write_record, write_text
from ..classification.transfer import load_start
from .gan import DiscriminatorLoss, GANLoss, PerceptualLoss
from .losses import SuperResolutionLoss
from .validation import Validation, sample_picture

VALIDATION = 2**30  # in the place of an epoch in the keys that choose the photographs set aside


@dataclass(frozen=True, kw_only=True)
class SuperResTrainingConfig(LoopConfig):
    """How [`train_superres`] trains; `hfvision train superres --help` explains each option.

    Raises:
        ValueError: for options that are out of range or do not go together.
    """

    out: Path = option(Path("runs/upscaler"), "folder for the model and what tells of its training")
    data: list[str] = option(
        [], "photographs: folders, files, parquet files or Hub ids; what is given twice is drawn from twice as often"
    )
    validation_data: list[str] = option([], "photographs to choose the best weights by, as data")
    validation: float = option(0.05, "part of the photographs set aside where there are no validation_data")
    model: str = option("fast-light", f"start: a preset ({', '.join(PRESETS)}), Hub id, folder or shipped checkpoint")
    model_fields: str | None = option(None, "fields of a preset to replace, as YAML: '{hidden_size: 32}'")
    scale: int | None = option(None, "2, 3 or 4; weights of another scale are taken but for the last layer")
    epochs: int = option(20, "validations; each after steps_per_epoch batches")
    steps_per_epoch: int = option(1000, "batches from one validation to the next")
    batch_size: int = option(16, "crops a step and process")
    crop: int = option(48, "side of the low-resolution crops in pixels")
    shrink: float = option(1.0, "smallest factor that photographs are shrunk by, at random, before crops are taken")
    candidates: int = option(1, "crops drawn for each one taken, which is the one of most detail")
    turn: bool = option(True, "flip and turn the crops at random; not for what has an upright, as signs and text")
    degradation: Preset = option(
        "bicubic",
        "how small images are made: MATLAB's bicubic; mild: as from a camera; strong: blurred, noisy and compressed "
        "several times, as on the web; photo: a mixture of the three (blind: its former name)",
    )
    pixel_loss: Literal["l1", "l2", "charbonnier"] = option("l1", "of the pixels")
    luma: float = option(0.0, "part of the pixel loss that brightness alone decides, which PSNR is measured on")
    pixel_weight: float = option(1.0, "of the pixel loss")
    teacher: str | None = option(None, "larger network to distill from: Hub id, folder or shipped checkpoint")
    distillation: Literal["pixels", "features"] = option("pixels", "what is learned from the teacher")
    distillation_weight: float = option(0.5, "part of the pixel loss that the teacher decides")
    self_ensemble: bool = option(False, "show the teacher each crop flipped or turned at random: its mean is better")
    gan: Literal["none", GANLoss] = option("none", "second stage: train against a discriminator, from PSNR weights")
    gan_weight: float = option(0.005, "of the discriminator's opinion")
    grid_weight: float = option(1.0, "of patterns of the scale's period, as which a GAN likes to fake texture")
    discriminator_learning_rate: float = option(1e-4, "at the peak of the schedule")
    r1: float = option(0.0, "weight of the R1 penalty on the discriminator's gradient")
    perceptual: str | None = option(
        None, "classifier whose features are compared in the second stage: as model, or timm/NAME"
    )
    perceptual_weight: float = option(1.0, "of the features")
    learning_rate: float = option(1e-3, "at the peak of the schedule")
    weight_decay: float = option(0.0, "not applied to biases")
    warmup: float = option(0.05, "part of the steps in which the learning rate rises")
    ema: float = option(0.999, "decay of the moving average of the weights, which is then what is evaluated and kept")
    trust_remote_code: bool = option(False, "run the code of the start model's Hub repository")

    def __post_init__(self):
        super().__post_init__()
        if not self.data:
            raise ValueError("data must name photographs to train on, as --data photos/ or --data user/name.")
        twice = next((source for source in self.data if self.data.count(source) > 1), None)
        if twice and not self.validation_data:
            raise ValueError(
                f"data names {twice} more than once: photographs set aside from it would be trained on too. Give "
                "--validation-data."
            )
        if self.scale not in (None, 2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, got {self.scale}.")
        if self.degradation not in DEGRADATIONS:
            raise ValueError(f"degradation must be one of {', '.join(DEGRADATIONS)}, got {self.degradation}.")
        if self.crop < 8:
            raise ValueError(f"crop must be at least 8 pixels, got {self.crop}.")
        if not 0 < self.shrink <= 1:
            raise ValueError(f"shrink must be above 0 and at most 1, got {self.shrink}.")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}.")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be at least 0 and below 1, got {self.validation}.")
        if self.self_ensemble and (not self.teacher or self.distillation != "pixels"):
            raise ValueError("self_ensemble is of a teacher of pixels: give --teacher with --distillation pixels.")
        if self.self_ensemble and not self.turn:
            raise ValueError("self_ensemble shows turned crops, which turn=False rules out: leave one of the two out.")
        for name in ("distillation_weight", "luma"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name in ("pixel_weight", "gan_weight", "grid_weight", "perceptual_weight", "r1"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.discriminator_learning_rate <= 0:
            raise ValueError(f"discriminator_learning_rate must be above 0, got {self.discriminator_learning_rate}.")
        if self.gan == "none" and (self.r1 or self.perceptual):
            raise ValueError("r1 and perceptual belong to the second stage: add --gan relativistic or --gan vanilla.")
        self.overrides()

    def overrides(self) -> dict[str, Any]:
        """`model_fields` as a dict, with the scale where given."""
        return yaml_mapping("model_fields", self.model_fields) | ({"scale": self.scale} if self.scale else {})


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


def train_superres(config: SuperResTrainingConfig) -> dict[str, Any]:
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


def fit_superres(config: SuperResTrainingConfig, accelerator: Accelerator) -> dict[str, Any]:
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
    record: dict[str, Any] = {
        **made_from,
        "training": {
            "command": training_command("superres", config),
            "config": as_plain(config),
            "data": {
                "sources": config.data,
                "photographs": len(set(map(id, photos))),
                "validation_photographs": len(held_out),
            },
            "parameters": copy.deepcopy(model).fuse().num_parameters(),
            **validation.psnr(lambda images: resize_bicubic(images, scale), accelerator, "bicubic_psnr"),
            "seconds": round(sum(entry["seconds"] for entry in history), 1),
            "history": history,
        },
    }
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
            f"bicubic {record['training']['bicubic_psnr']:.2f} dB"
        )
        no_gain = best["validation_psnr"] <= record["training"]["bicubic_psnr"]
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
