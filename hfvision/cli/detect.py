"""Images unlike normal ones."""

import argparse
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..utils.console import each, output, to_json
from ..utils.files import atomic_write, check_folder, distinct_targets
from .arguments import add_force, add_json, add_output_dir, as_path, check_images
from .commands import Command

METHODS = ("patchcore", "gan")
EXAMPLES = {
    "detect_fit": """example:
  hfvision detect fit runs/normal --normal normal/

and with a GAN that is trained on normal images:
  hfvision train superres --data normal/ --model fast-light --scale 4 --crop 8 --turn false --output-dir runs/pixels
  hfvision train superres --data normal/ --model runs/pixels --crop 8 --turn false --gan vanilla --output-dir runs/gan
  hfvision detect fit runs/gan --method gan --normal other-normal/""",
    "detect_anomalies": """example:
  hfvision detect anomalies photo.jpg camera/ --normal normal/ --output-dir anomalies/
  hfvision detect anomalies photo.jpg camera/ --model runs/normal --output-dir anomalies/""",
}


def detect_fit(args: argparse.Namespace) -> None:
    check_images(args.normal)
    if args.method == "gan":
        fit_gan(args)
        return
    from ..tasks.anomaly.patchcore import FILE, save_patchcore

    if (args.model / FILE).exists() and not args.force:
        raise ValueError(f"{args.model / FILE} exists already: use --force to replace it.")
    detector = learn_normal(args.normal, args.size, args.false_alarms)
    save_patchcore(detector, args.model)
    say_fitted(detector, detector.calibration.images)


def fit_gan(args: argparse.Namespace) -> None:
    from ..tasks.anomaly.gan import fit_detector, load_networks, save_normality, trained_size

    generator, discriminator = load_networks(args.model)
    size = args.size or trained_size(args.model)
    normal = read_all(args.normal, size, generator.config.num_channels)
    detector = fit_detector(generator, discriminator, normal, size, args.false_alarms)
    save_normality(detector, args.model)
    say_fitted(detector, detector.normality.images)


def say_fitted(detector: Any, images: int) -> None:
    above = f"{detector.false_alarms:.1%} of them above the threshold {detector.threshold:.3f}"
    output(f"{images} normal images, {above}")


def learn_normal(sources: list[Path], size: int | None, false_alarms: float) -> Any:
    """PatchCore fitted to the images in files and folders."""
    from ..tasks.anomaly.patchcore import PatchCoreConfig, fit_patchcore

    config = PatchCoreConfig(image_size=size) if size else PatchCoreConfig()
    return fit_patchcore(read_all(sources, config.image_size, 3), config, false_alarms)


def read_all(sources: list[Path], size: int, num_channels: int) -> Any:
    import torch

    from ..data.io.tree import find_images
    from ..tasks.anomaly.detect import read_pixels

    return torch.cat([read_pixels(path, size, num_channels) for each in sources for path in find_images(each)])


def detect_anomalies(args: argparse.Namespace) -> None:
    check_images([*filter(None, [args.model]), *(args.normal or []), *args.images])
    check_folder(args.out)
    from ..data.io.tree import find_images
    from ..tasks.anomaly.detect import load_detector, read_pixels
    from ..tasks.anomaly.gan import heat_picture

    if (args.model is None) == (args.normal is None):
        raise ValueError(
            "Say what is normal: by --normal IMAGES, or --model FOLDER that hfvision detect fit has made."
        )
    if args.normal and args.method == "gan":
        raise ValueError("A GAN is trained first: give its folder with --model; --normal is for patchcore.")
    paths = [path for source in args.images for path in find_images(source)]
    named = distinct_targets([(path, args.out or path.parent, "_anomaly.png") for path in paths])
    targets = dict(zip(paths, named, strict=True)) if args.out else {}
    for target in targets.values():
        if target.exists() and not args.force:
            raise ValueError(f"{target} exists already: use --force to replace it.")
    detector = learn_normal(args.normal, None, 0.05) if args.normal else load_detector(args.model, args.method)

    def score(path: Path) -> dict[str, Any]:
        image = read_pixels(path, detector.size, detector.num_channels)
        found = detector(image)
        values = found.parts[0].tolist()
        parts = {name: round(value, 3) for name, value in zip(detector.part_names, values, strict=True)}
        if path in targets:
            with atomic_write(targets[path]) as temporary:
                heat_picture(image[0], found.heat[0], hottest=detector.hottest).save(temporary)
        score = round(found.score.item(), 4)
        return {"image": str(path), "score": score, "anomalous": found.anomalous.item(), "parts": parts}

    results = []
    if not args.json:
        output(f"Anomalous above {detector.threshold:.3f}; false alarms: {detector.false_alarms:.1%}")
    try:
        for path, result in each(paths, score, Path, "scored"):
            results.append(result)
            if not args.json:
                output(f"{result['score']:8.3f}  {'ANOMALOUS' if result['anomalous'] else 'normal':10}{path}")
    finally:
        if args.json:
            output(to_json({"threshold": detector.threshold, "results": results}))


def add_commands(commands: Command) -> None:
    tasks = commands.add_group("detect", "Detect anomalous images.")
    command = tasks.add(
        detect_fit,
        "Fit an anomaly detector on normal images.",
        EXAMPLES["detect_fit"],
        "fit",
    )
    command.add_argument(
        "model",
        type=as_path,
        metavar="MODEL_DIR",
        help='output folder; for gan, of a "hfvision train superres --gan"',
    )
    command.add_argument(
        "--normal",
        nargs="+",
        action="extend",
        type=as_path,
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
        "--size", type=PositiveInt, metavar="N", help="size that images are resized to (default: 128; gan: as trained)"
    )
    command.add_argument(
        "--method",
        choices=METHODS,
        default="patchcore",
        help="features compared with those of normal images, or a GAN trained on normal images (default: patchcore)",
    )
    add_force(command, "fit")

    command = tasks.add(
        detect_anomalies,
        "Score images for anomalies and draw heat maps.",
        EXAMPLES["detect_anomalies"],
        "anomalies",
    )
    command.add_argument("images", nargs="+", type=as_path, metavar="IMAGE", help="image file or folder")
    command.add_argument(
        "--normal", nargs="+", action="extend", type=as_path, metavar="DIR", help="normal images to compare with"
    )
    command.add_argument(
        "--model", type=as_path, metavar="MODEL_DIR", help="folder of a fitted detector, not --normal"
    )
    command.add_argument("--method", choices=METHODS, help="if a folder holds both (default: patchcore)")
    add_output_dir(command, "output folder for heat maps (default: none are written)")
    add_force(command, "heat maps")
    add_json(command)
