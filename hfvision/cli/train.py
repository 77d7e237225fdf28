"""Training, and what belongs to it."""

import argparse
import sys
from pathlib import Path

from ..utils.console import to_json
from .arguments import MODEL_HELP, TRUST_HELP, add_command, add_data_options, columns_of, positive, refuse_picture

EXAMPLES = {
    "train": """example:
  hfvision train classifier --data photos/ --model cnn:resnet18 --out runs/photos
  hfvision train superres --data photos/ --model fast-light --scale 4 --out runs/upscaler
  hfvision train segmenter --data cells/ --classes background nucleus --turn true --out runs/cells
  hfvision train superres --help""",
    "show_augment": """examples:
  hfvision show-augment photos/ --augment strong
  hfvision show-augment cat.jpg dog.jpg --augment classic --copies 4 --out augment.png
  hfvision show-augment photo.jpg --degradation strong --scale 4 --out degraded.png""",
    "calibrate": """examples:
  hfvision calibrate runs/photos --data photos/ --out runs/photos-calibrated
  hfvision calibrate runs/xrays --data xrays/ --validation-group patient --out runs/xrays-calibrated""",
}


def train(args: argparse.Namespace) -> None:
    from ..engine.options import parse_options

    if args.task == "classifier":
        from ..tasks.classification.config import ClassifierTrainingConfig as Config
        from ..tasks.classification.train import train_classifier as run

        what = "an image classifier"
    elif args.task == "segmenter":
        from ..tasks.segmentation.config import SegmenterTrainingConfig as Config
        from ..tasks.segmentation.train import train_segmenter as run

        what = "a segmenter, which finds the class of each pixel"
    else:
        from ..tasks.super_resolution.config import SuperResTrainingConfig as Config
        from ..tasks.super_resolution.train import train_superres as run

        what = "a super-resolution network"
    description = f"Train {what}; the folder --out then loads with from_pretrained and pipeline."
    run(parse_options(Config, args.options, f"hfvision train {args.task}", description))


def show_augment(args: argparse.Namespace) -> None:
    import torch
    from torchvision.transforms.v2.functional import to_pil_image

    from ..data.transforms.augment import augment_pil
    from ..data.transforms.augmentation import PRESETS
    from ..data.transforms.keyed import image_keys
    from ..utils.plots import image_grid

    refuse_picture(args)
    if args.degradation:
        show_degradation(args)
        return
    if args.scale:
        raise ValueError("--scale belongs to --degradation: leave it out, or add --degradation photo.")
    images, captions = some_images(args.source, args.images, args.seed)
    rows = []
    for number, image in enumerate(images):
        image.thumbnail((256, 256))
        keys = image_keys(args.seed, number, torch.arange(args.copies))
        copies = augment_pil([image] * args.copies, keys, PRESETS[args.augment])
        rows.append([image, *map(to_pil_image, copies)])
    image_grid(rows, [f"{caption}, augmented: {args.augment}" for caption in captions], args.out)
    print(f"{len(rows)} images with {args.copies} copies each → {args.out}")


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
    print(f"{len(rows)} photographs with {args.copies} degraded copies each → {args.out}")


def some_images(sources: list[str], count: int, seed: int) -> tuple[list, list[str]]:
    """Images and their names: the first of the given image files, or random ones of a data set with their labels."""
    import torch

    from ..data.io.images import IMAGE_SUFFIXES, read_image, to_rgb

    paths = [Path(source) for source in sources]
    if len(paths) > 1 or paths[0].suffix.lower() in IMAGE_SUFFIXES:
        return [to_rgb(read_image(path)) for path in paths[:count]], [path.name for path in paths[:count]]
    from ..data.datasets.classification import load_image_dataset

    split = load_image_dataset(sources[0])["train"]
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    names = split.features["label"].names
    return [to_rgb(split[i]["image"]) for i in chosen], [names[split[i]["label"]] for i in chosen]


def calibrate(args: argparse.Namespace) -> None:
    from ..tasks.classification.calibrate import CalibrationData, calibrate, format_calibration

    options = CalibrationData(validation=args.validation, validation_group=args.validation_group, **columns_of(args))
    trust = args.trust_remote_code
    record = calibrate(args.model, args.data, args.out, options, force=args.force, trust_remote_code=trust)
    print(to_json(record) if args.json else format_calibration(record["calibration"]))
    print(f"model, record and pictures: {args.out}", file=sys.stderr)


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, train, "Train a model on your own data.", EXAMPLES["train"])
    command.add_argument("task", choices=["classifier", "superres", "segmenter"], help="what to train")
    command.add_argument("options", nargs=argparse.REMAINDER, help="see: hfvision train classifier --help")

    command = add_command(
        commands,
        show_augment,
        "Draw what augmentation or degradation makes of images.",
        EXAMPLES["show_augment"],
    )
    command.add_argument(
        "source",
        nargs="+",
        help="image files, or one data set as of `hfvision train classifier`; with --degradation, photographs as of "
        "`hfvision train superres`",
    )
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--augment",
        choices=["none", "classic", "strong", "upright", "imagenet"],
        default="strong",
        help="preset (default strong)",
    )
    kind.add_argument(
        "--degradation",
        choices=["bicubic", "mild", "strong", "photo"],
        help="instead: how small images are made to train upscalers; they are drawn enlarged beside the original",
    )
    command.add_argument(
        "--scale", type=int, choices=[2, 3, 4], help="with --degradation: how many times smaller (default 4)"
    )
    command.add_argument("--out", type=Path, default=Path("augment.png"), help="picture (default augment.png)")
    command.add_argument("--images", type=positive, default=6, help="rows (default 6)")
    command.add_argument("--copies", type=positive, default=8, help="augmented copies of each image (default 8)")
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument("--force", action="store_true", help="replace a picture that is there already")

    command = add_command(
        commands,
        calibrate,
        "Make a classifier as sure as it is right: a temperature, stored in its weights.",
        EXAMPLES["calibrate"],
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command, split=False)
    command.add_argument("--out", type=Path, required=True, help="folder for the model, its record and pictures")
    command.add_argument("--force", action="store_true", help="replace a model that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)
