"""Training, and what belongs to it."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..engine.lock import FolderLock
from ..engine.options import add_options, read_config
from ..tasks.classification.config import ClassifierTrainingConfig
from ..tasks.segmentation.config import SegmenterTrainingConfig
from ..tasks.super_resolution.config import SuperResTrainingConfig
from ..utils.console import logger, output, to_json
from ..utils.files import check_folder, check_training_folder, has_checkpoints
from .arguments import (
    CLASSIFIERS,
    MODEL_HELP,
    UPSCALERS,
    add_data_options,
    add_force,
    add_json,
    add_output_dir,
    add_trust,
    as_path,
    check_data,
    check_model,
    check_start_model,
    columns_of,
    refuse_picture,
)
from .commands import Command, Function

EXAMPLES = {
    "classifier": """examples:
  hfvision train classifier --data photos/ --model cnn:resnet18 --output-dir runs/photos
  hfvision train classifier --data photos/ --model google/vit-base-patch16-224 --lora-rank 8
  hfvision train classifier --config recipe.yaml
  accelerate launch -m hfvision train classifier --data photos/""",
    "superres": """examples:
  hfvision train superres --data photos/ --model fast-light --scale 4 --output-dir runs/upscaler
  hfvision train superres --data photos/ --model runs/upscaler --gan relativistic --output-dir runs/gan""",
    "segmenter": """example:
  hfvision train segmenter --data cells/ --classes background nucleus --turn --output-dir runs/cells""",
    "show_augment": """examples:
  hfvision show-augment photos/ --augment strong
  hfvision show-augment cat.jpg dog.jpg --augment classic --copies 4 --out augment.png
  hfvision show-augment photo.jpg --degradation strong --scale 4 --out degraded.png""",
    "calibrate": """examples:
  hfvision calibrate runs/photos --data photos/ --output-dir runs/photos-calibrated
  hfvision calibrate runs/xrays --data xrays/ --validation-group patient --output-dir runs/xrays-calibrated""",
}


def train_classifier(config: ClassifierTrainingConfig) -> None:
    check_training(config, [config.data], CLASSIFIERS)
    from ..tasks.classification.train import train_classifier

    train_classifier(config)


def train_superres(config: SuperResTrainingConfig) -> None:
    check_training(config, [*config.data, *config.validation_data], UPSCALERS)
    from ..tasks.super_resolution.train import train_superres

    train_superres(config)


def train_segmenter(config: SegmenterTrainingConfig) -> None:
    check_training(config, [config.data], CLASSIFIERS)
    from ..tasks.segmentation.train import train_segmenter

    train_segmenter(config)


def check_training(config: Any, sources: list[Any], families: Mapping[str, tuple[str, ...]]) -> None:
    """Check the paths and the output folder of a training before anything heavy is imported.

    Raises:
        ValueError: if another training runs in the output folder, or it may not be written; for an unknown preset.
        FileNotFoundError: for data or a model that does not exist.
    """
    check_data(sources)
    check_start_model(config.model, families)
    if teacher := getattr(config, "teacher", None):
        check_model(teacher)
    check_folder(config.out)
    if config.out.is_dir():
        FolderLock(config.out).check()
        check_training_folder(config.out, resume=config.resume)
        if has_checkpoints(config.out) and not config.resume:
            raise ValueError(
                f"{config.out} holds a training already: resume it with --resume, or choose another --output-dir."
            )


def show_augment(args: argparse.Namespace) -> None:
    refuse_picture(args)
    check_data(args.source)
    if args.scale and not args.degradation:
        raise ValueError("--scale requires --degradation, such as --degradation photo.")
    import torch
    from torchvision.transforms.v2.functional import to_pil_image

    from ..data.transforms.augment import augment_pil
    from ..data.transforms.augmentation import PRESETS
    from ..data.transforms.keyed import image_keys
    from ..utils.plots import image_grid

    if args.degradation:
        show_degradation(args)
        return
    images, captions = some_images(args.source, args.images, args.seed)
    rows = []
    for number, image in enumerate(images):
        image.thumbnail((256, 256))
        keys = image_keys(args.seed, number, torch.arange(args.copies))
        copies = augment_pil([image] * args.copies, keys, PRESETS[args.augment])
        rows.append([image, *map(to_pil_image, copies)])
    image_grid(rows, [f"{caption}, augmented: {args.augment}" for caption in captions], args.out)
    output(f"{len(rows)} images with {args.copies} copies each → {args.out}")


def show_degradation(args: argparse.Namespace) -> None:
    """The middle of each photograph, and beside it what it may look like before an upscaler gets it, enlarged."""
    import torch
    from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, to_pil_image

    from ..data.datasets.photos import load_photos
    from ..data.transforms.degradation_presets import PRESETS
    from ..data.transforms.degradations import degrade
    from ..data.transforms.keyed import image_keys
    from ..utils.plots import image_grid

    scale = args.scale or 4
    photos = load_photos(args.source, scale)
    chosen = torch.randperm(len(photos), generator=torch.Generator().manual_seed(args.seed))[: args.images].tolist()
    rows = []
    for number in sorted(chosen):
        sides = [min(side, 192) // scale * scale for side in reversed(photos[number].size)]
        crop = center_crop(pil_to_tensor(photos[number]), sides)
        keys = image_keys(args.seed, number, torch.arange(args.copies))
        large = crop.float().div(255).repeat(args.copies, 1, 1, 1)
        small = degrade(large, scale, keys, PRESETS[args.degradation])
        enlarged = small.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        rows.append([to_pil_image(image) for image in (crop, *enlarged)])
    captions = [f"photograph {number + 1}, 1/{scale} of its size by: {args.degradation}" for number in sorted(chosen)]
    image_grid(rows, captions, args.out, cell=192)
    output(f"{len(rows)} photographs with {args.copies} degraded copies each → {args.out}")


def some_images(sources: list[str], count: int, seed: int) -> tuple[list, list[str]]:
    """Images and their names: the first of the given image files, or random ones of a data set with their labels."""
    import torch

    from ..data.io.images import IMAGE_SUFFIXES, read_image, to_rgb

    paths = [Path(source) for source in sources]
    if len(paths) > 1 or paths[0].suffix.lower() in IMAGE_SUFFIXES:
        return [to_rgb(read_image(path)) for path in paths[:count]], [path.name for path in paths[:count]]
    from ..data.datasets.classification import load_image_dataset

    split: Any = load_image_dataset(sources[0])["train"]
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    names = split.features["label"].names
    return [to_rgb(split[i]["image"]) for i in chosen], [names[split[i]["label"]] for i in chosen]


def calibrate(args: argparse.Namespace) -> None:
    check_model(args.model)
    check_data([args.data])
    from ..tasks.classification.calibrate import CalibrationData, calibrate, format_calibration

    options = CalibrationData(validation=args.validation, validation_group=args.validation_group, **columns_of(args))
    trust = args.trust_remote_code
    record = calibrate(args.model, args.data, args.out, options, force=args.force, trust_remote_code=trust)
    output(to_json(record) if args.json else format_calibration(record["calibration"]))
    logger.info(f"Model, record and pictures: {args.out}")


def add_commands(commands: Command) -> None:
    tasks = commands.add_group("train", "Train a model on your data.")
    add_training(tasks, "classifier", "an image classifier", ClassifierTrainingConfig, train_classifier)
    add_training(tasks, "superres", "a super-resolution model", SuperResTrainingConfig, train_superres)
    add_training(tasks, "segmenter", "a semantic segmentation model", SegmenterTrainingConfig, train_segmenter)
    add_calibrate(commands)
    add_show_augment(commands)


def add_training(tasks: Command, name: str, what: str, config_class: type, function: Function) -> None:
    """The command that trains by a dataclass of settings."""
    parser = tasks.add(
        function,
        f"Train {what}.",
        EXAMPLES[name],
        name,
        usage="--data DATA [--model MODEL] [--output-dir DIR] [options]",
    )
    add_options(parser, config_class)
    tasks.commands[name].parse = partial(read_config, parser, config_class)


def add_calibrate(commands: Command) -> None:
    command = commands.add(
        calibrate,
        "Calibrate a classifier's confidence by temperature scaling; the temperature is folded into its weights.",
        EXAMPLES["calibrate"],
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command, split=False)
    add_output_dir(command, "output folder for the model, its record and pictures", required=True)
    add_force(command, "model")
    add_json(command)
    add_trust(command)


def add_show_augment(commands: Command) -> None:
    command = commands.add(
        show_augment, "Preview data augmentation or degradation as an image grid.", EXAMPLES["show_augment"]
    )
    command.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="image files, or a dataset; with --degradation, photographs or folders of them",
    )
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--augment",
        choices=["none", "classic", "strong", "upright", "imagenet"],
        default="strong",
        help="augmentation preset (default: strong)",
    )
    kind.add_argument(
        "--degradation",
        choices=["bicubic", "mild", "strong", "photo"],
        help="show low-resolution training inputs made by this preset instead",
    )
    command.add_argument(
        "--scale", type=int, choices=[2, 3, 4], help="downscaling factor of --degradation (default: 4)"
    )
    command.add_argument("--images", type=PositiveInt, metavar="N", default=6, help="rows (default: 6)")
    command.add_argument(
        "--copies", type=PositiveInt, metavar="N", default=8, help="copies of each image (default: 8)"
    )
    command.add_argument("--seed", type=int, metavar="N", default=0, help="random seed (default: 0)")
    command.add_argument(
        "--out", type=as_path, metavar="FILE", default=Path("augment.png"), help="(default: augment.png)"
    )
    add_force(command, "picture")
