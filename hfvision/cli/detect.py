"""Images unlike normal ones."""

import argparse
from pathlib import Path
from typing import Any

from ..utils.console import each, say, to_json
from ..utils.files import atomic_write, check_folder, distinct_targets
from .arguments import add_command, add_group, positive

EXAMPLES = {
    "detect_fit": """example:
  hfvision train superres --data normal/ --model fast-light --scale 4 --crop 8 --turn false --out runs/pixels
  hfvision train superres --data normal/ --model runs/pixels --crop 8 --turn false --gan vanilla --out runs/gan
  hfvision detect fit runs/gan --normal other-normal/""",
    "detect_anomalies": """example:
  hfvision detect anomalies photo.jpg camera/ --model runs/gan --out anomalies/""",
}


def detect_fit(args: argparse.Namespace) -> None:
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
    print(f"{known.images} normal images, {known.false_alarms:.1%} of them above the threshold {known.threshold:.3f}")


def detect_anomalies(args: argparse.Namespace) -> None:
    from ..data.io.images import read_image
    from ..data.io.tree import find_images
    from ..tasks.anomaly.gan import PARTS, heat_picture, load_detector, stack_images

    detector = load_detector(args.model)
    paths = [path for source in args.images for path in find_images(source)]
    check_folder(args.out)
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
        say(f"Anomalous above {known.threshold:.3f}; false alarms: {known.false_alarms:.1%}")
    try:
        for path, result in each(paths, score, Path, "scored"):
            results.append(result)
            if not args.json:
                say(f"{result['score']:8.3f}  {'ANOMALOUS' if result['anomalous'] else 'normal':10}{path}")
    finally:
        if args.json:
            print(to_json({"threshold": known.threshold, "results": results}))


def add_commands(commands: argparse._SubParsersAction) -> None:
    tasks = add_group(commands, "detect", "Find images that are unlike normal ones.")
    command = add_command(
        tasks,
        detect_fit,
        "Learn from normal images what is normal to a GAN trained on others.",
        EXAMPLES["detect_fit"],
        "fit",
    )
    command.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder of hfvision train superres --gan …")
    command.add_argument(
        "--normal", nargs="+", action="extend", type=Path, required=True, help="normal images that it has not seen"
    )
    command.add_argument("--false-alarms", type=float, default=0.05, help="share of normal images (default 0.05)")
    command.add_argument("--size", type=positive, help="side that images are brought to (default: as trained)")

    command = add_command(
        tasks,
        detect_anomalies,
        "Score images, and show where they are unlike normal ones.",
        EXAMPLES["detect_anomalies"],
        "anomalies",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", type=Path, required=True, help="folder that hfvision detect fit has seen")
    command.add_argument("--out", type=Path, help="folder for the heat maps")
    command.add_argument("--force", action="store_true", help="replace existing heat maps")
    command.add_argument("--json", action="store_true", help="print JSON")
