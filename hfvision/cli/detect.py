"""Images unlike normal ones."""

import argparse
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..utils.console import each, output, to_json
from ..utils.files import atomic_write, check_folder, distinct_targets
from .arguments import add_force, add_json, add_output_dir, check_images
from .commands import Command

EXAMPLES = {
    "detect_fit": """example:
  hfvision train superres --data normal/ --model fast-light --scale 4 --crop 8 --turn false --output-dir runs/pixels
  hfvision train superres --data normal/ --model runs/pixels --crop 8 --turn false --gan vanilla --output-dir runs/gan
  hfvision detect fit runs/gan --normal other-normal/""",
    "detect_anomalies": """example:
  hfvision detect anomalies photo.jpg camera/ --model runs/gan --output-dir anomalies/""",
}


def detect_fit(args: argparse.Namespace) -> None:
    check_images([args.model, *args.normal])
    from ..data.io.images import read_image
    from ..data.io.tree import find_images
    from ..tasks.anomaly.gan import fit_detector, load_networks, save_normality, stack_images, trained_size

    generator, discriminator = load_networks(args.model)
    size = args.size or trained_size(args.model)
    images = [read_image(path) for source in args.normal for path in find_images(source)]
    normal = stack_images(images, size, generator.config.num_channels)
    detector = fit_detector(generator, discriminator, normal, size, args.false_alarms)
    save_normality(detector, args.model)
    known = detector.normality
    output(f"{known.images} normal images, {known.false_alarms:.1%} of them above the threshold {known.threshold:.3f}")


def detect_anomalies(args: argparse.Namespace) -> None:
    check_images([args.model, *args.images])
    check_folder(args.out)
    from ..data.io.images import read_image
    from ..data.io.tree import find_images
    from ..tasks.anomaly.gan import PARTS, heat_picture, load_detector, stack_images

    detector = load_detector(args.model)
    paths = [path for source in args.images for path in find_images(source)]
    named = distinct_targets([(path, args.out or path.parent, "_anomaly.png") for path in paths])
    targets = dict(zip(paths, named, strict=True)) if args.out else {}
    for target in targets.values():
        if target.exists() and not args.force:
            raise ValueError(f"{target} exists already: use --force to replace it.")

    def score(path: Path) -> dict[str, Any]:
        image = stack_images([read_image(path)], detector.normality.size, detector.generator.config.num_channels)
        found = detector(image)
        parts = {name: round(value, 3) for name, value in zip(PARTS, found.parts[0].tolist(), strict=True)}
        if path in targets:
            with atomic_write(targets[path]) as temporary:
                heat_picture(image[0], found.heat[0]).save(temporary)
        score = round(found.score.item(), 4)
        return {"image": str(path), "score": score, "anomalous": found.anomalous.item(), "parts": parts}

    known, results = detector.normality, []
    if not args.json:
        output(f"Anomalous above {known.threshold:.3f}; false alarms: {known.false_alarms:.1%}")
    try:
        for path, result in each(paths, score, Path, "scored"):
            results.append(result)
            if not args.json:
                output(f"{result['score']:8.3f}  {'ANOMALOUS' if result['anomalous'] else 'normal':10}{path}")
    finally:
        if args.json:
            output(to_json({"threshold": known.threshold, "results": results}))


def add_commands(commands: Command) -> None:
    tasks = commands.add_group("detect", "Detect anomalous images.")
    command = tasks.add(
        detect_fit,
        "Fit an anomaly detector on normal images, on top of a trained GAN.",
        EXAMPLES["detect_fit"],
        "fit",
    )
    command.add_argument(
        "model", type=Path, metavar="MODEL_DIR", help='folder of a "hfvision train superres --gan" training'
    )
    command.add_argument(
        "--normal",
        nargs="+",
        action="extend",
        type=Path,
        required=True,
        metavar="DIR",
        help="normal images that were not used for training",
    )
    command.add_argument(
        "--false-alarms",
        type=float,
        metavar="X",
        default=0.05,
        help="false positive rate on normal images (default: 0.05)",
    )
    command.add_argument(
        "--size", type=PositiveInt, metavar="N", help="size that images are resized to (default: as in training)"
    )

    command = tasks.add(
        detect_anomalies,
        "Score images for anomalies and draw heat maps.",
        EXAMPLES["detect_anomalies"],
        "anomalies",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="MODEL_DIR",
        help="folder of a fitted detector",
    )
    add_output_dir(command, "output folder for heat maps (default: none are written)")
    add_force(command, "heat maps")
    add_json(command)
