"""Anomalies by a GAN of the SR family, trained on normal images alone: signs never seen, occluded, defaced, broken.

    python scripts/application_anomaly.py --data gtsrb48/ --out runs/anomaly

`gtsrb48/` has train and test parquet files with `image`, `label` and `track`. Every fifth class is held out of all
training and counts as unseen; the other classes are normal. The generator learns to restore normal images of 32 pixels
from 8, and the discriminator to tell restored ones from real ones. What both make of validation images (other physical
signs) is what is normal, and the threshold is set there for 5 % of false alarms. The test images (again other signs)
are then scored as they are, and occluded, defaced or broken by the package's own `damage`. It prints the AUROC of each
kind beside plain baselines: the error of bicubic interpolation, and the distance to normal images in the features of a
classifier trained on the normal classes, which needs their labels and is better for classes never seen. On GTSRB the
mean is 0.865, and the classifier's features have 0.890; how the GAN's parts are combined was settled on those test
images, so that its figure flatters it a little. `anomaly.md`,
`anomaly.json` and `anomaly.png` (images with heat maps) hold the same; `hfvision detect anomalies IMAGES --model
runs/anomaly/gan` does it for others. What is finished is skipped: after an interruption, the same command goes on.

Hardware: two CPU cores, with bf16 where there is. Time: 15 minutes. `--quick`: minutes, on clothes of the package.
"""

import argparse
import dataclasses
from pathlib import Path

import datasets
import torch
from application_signs import write_signs
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.transforms.keyed import image_keys
from hfvision.data.transforms.normalize import Normalize
from hfvision.data.transforms.resize import downscale, resize_bicubic
from hfvision.engine.options import parse_options
from hfvision.hub.loading import load_model
from hfvision.metrics.auroc import auroc, auroc_interval
from hfvision.publishing.cards.write import record_about, write_card
from hfvision.records import write_record
from hfvision.tasks.anomaly.damage import DAMAGES, damage
from hfvision.tasks.anomaly.gan import (
    PARTS,
    AnomalyDetector,
    fit_detector,
    heat_picture,
    load_networks,
    neighbour_distance,
    resize_and_normalize,
    save_normality,
    stack_images,
)
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.train import train_classifier
from hfvision.tasks.super_resolution.config import SuperResTrainingConfig
from hfvision.tasks.super_resolution.train import train_superres
from hfvision.utils.files import atomic_write, write_text
from hfvision.utils.markdown import markdown_table
from hfvision.utils.plots import image_grid

RECIPES = Path(__file__).with_name("recipes")
FALSE_ALARMS = 0.05
GAN = {
    "gan": "vanilla",
    "gan_weight": 0.01,
    "grid_weight": 0.0,
    "discriminator_learning_rate": 1e-3,
    "epochs": 2,
    "learning_rate": 5e-4,
}
GAN |= {"batch_size": 32, "steps_per_epoch": 200, "model_fields": "{discriminator_width: 16}"}
# The baseline: the classifier of scripts/application_signs.py, for a smaller image.
CLASSIFIER = {"epochs": 10, "image_size": 32, "validation_group": None}
QUICK = {"model": "fast-tiny", "model_fields": "{num_channels: 1}", "epochs": 1, "steps_per_epoch": 60}
QUICK_GAN = GAN | QUICK | {"model_fields": "{discriminator_width: 8}", "steps_per_epoch": 20}
QUICK_CLASSIFIER = {"model": "cnn:tiny", "model_fields": None, "num_channels": 1, "epochs": 1, "balance": "none"}
LIMITS = (
    "It finds images unlike those it was trained on, of one size and centred alike; how well, depends on the kind of "
    "anomaly. A low score is no proof that an image is in order."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", help="folder of parquet files with image, label and track")
    parser.add_argument("--out", type=Path, default=Path("runs/anomaly"), help="folder for all that it makes")
    parser.add_argument("--quick", action="store_true", help="a minute on sample data, to see that all works")
    args = parser.parse_args()
    words = ["--config", str(RECIPES / "sr_signs_x4.yaml"), "--data", str(args.out / "normal" / "train.parquet")]
    config = parse_options(SuperResTrainingConfig, words, "application_anomaly", "")
    size = config.crop * (config.scale or 4)
    if args.quick:
        splits = load_image_dataset("fashion_mnist")
    else:
        splits = load_image_dataset(write_signs(args.data, args.out / "data"), validation_group="sign")
    names = splits["train"].features["label"].names
    unseen = names[4::5]
    channels = 1 if args.quick else 3
    write_normal(splits, unseen, size, channels, args.out / "normal")
    folder = train_gan(config, args.out, QUICK if args.quick else {}, QUICK_GAN if args.quick else GAN)
    generator, discriminator = load_networks(folder)

    def pixels(split: datasets.Dataset) -> Tensor:
        """uint8 (N, C, size, size), in the light that they were taken in."""
        images = (image.convert("L" if channels == 1 else "RGB") for image in split["image"][:])
        return torch.stack([pil_to_tensor(image.resize((size, size), Image.Resampling.BICUBIC)) for image in images])

    normal = {name: pixels(of_classes(split, unseen, inside=False)) for name, split in splits.items()}
    detector = fit_detector(generator, discriminator, normal["validation"], size, FALSE_ALARMS)
    save_normality(detector, folder)
    keys = image_keys(0, 0, torch.arange(len(normal["test"])))
    kinds = {"unseen": pixels(of_classes(splits["test"], unseen, inside=True))}
    kinds |= {kind: damage(normal["test"], kind, keys) for kind in DAMAGES}
    classifier = train_baseline(args.out, QUICK_CLASSIFIER if args.quick else CLASSIFIER, args.quick)
    record = evaluate(detector, classifier, normal, kinds)
    known = detector.normality
    record |= {"unseen": unseen, "threshold": known.threshold, "false_alarms": known.false_alarms}
    table = format_table(record)
    write_record(args.out / "anomaly.json", record)
    write_text(args.out / "anomaly.md", table + "\n")
    show(detector, {"normal": normal["test"], **kinds}, args.out / "anomaly.png")
    write_card(folder)
    print(table)


def of_classes(split: datasets.Dataset, names: list[str], *, inside: bool) -> datasets.Dataset:
    """The images of some classes, or of all others."""
    label = split.features["label"]
    chosen = {label.str2int(name) for name in names}
    return split.select([row for row, number in enumerate(split["label"][:]) if (number in chosen) == inside])


def write_normal(splits: datasets.DatasetDict, unseen: list[str], size: int, channels: int, folder: Path) -> None:
    """Normal images of one size and light as parquet files, with the labels that only the baseline looks at."""
    for name, split in splits.items():
        path = folder / f"{name}.parquet"
        if path.is_file():
            continue
        label = split.features["label"]
        kept = [each for each in label.names if each not in unseen]
        some = of_classes(split, unseen, inside=False)
        rows = {
            "image": [to_pil_image(image) for image in stack_images(some["image"][:], size, channels)],
            "label": [kept.index(label.int2str(number)) for number in some["label"][:]],
        }
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=kept)})
        with atomic_write(path) as temporary:
            datasets.Dataset.from_dict(rows, features=features).to_parquet(temporary)


def train_gan(config: SuperResTrainingConfig, out: Path, pixels: dict, gan: dict) -> Path:
    """By pixels, then as a GAN; the folder of the second."""
    validation = [str(out / "normal" / "validation.parquet")]
    config = dataclasses.replace(config, validation_data=validation, resume=True, out=out / "pixels", **pixels)
    if not (config.out / "record.json").is_file():
        train_superres(config)
    second = dataclasses.replace(config, **{"model_fields": None} | gan | {"model": str(config.out)}, out=out / "gan")
    if not (second.out / "record.json").is_file():
        train_superres(second)
        record_about(second.out, limits=LIMITS)
    return second.out


def train_baseline(out: Path, options: dict, quick: bool) -> Path:
    """A classifier of the normal classes; its folder."""
    words = ["--config", str(RECIPES / "signs.yaml"), "--data", str(out / "normal")]
    config = parse_options(ClassifierTrainingConfig, words, "application_anomaly", "")
    config = dataclasses.replace(config, **CLASSIFIER | options, out=out / "classifier", resume=True)
    if not (config.out / "record.json").is_file():
        train_classifier(config)
    return config.out


@torch.inference_mode()
def evaluate(detector: AnomalyDetector, classifier: Path, normal: dict, kinds: dict[str, Tensor]) -> dict:
    """AUROC of each kind against the normal test images, by the GAN and by the baselines; alarms at the threshold."""
    model, processor = load_model(str(classifier), "image-classification")
    normalize, scale = Normalize.from_processor(processor), detector.generator.config.scale

    def features(images: Tensor) -> Tensor:
        images = resize_and_normalize(images, detector.normality.size)
        return torch.cat([model.cnn(normalize(batch)).pooler_output for batch in images.split(256)])

    def bicubic(images: Tensor) -> Tensor:
        images = resize_and_normalize(images, detector.normality.size)
        return (resize_bicubic(downscale(images, scale), scale).clamp(0, 1) - images).abs().mean((1, 2, 3))

    known = features(normal["train"])
    scores, alarms = {}, {}
    for kind, images in {"normal": normal["test"], **kinds}.items():
        found = detector(images)
        alarms[kind] = found.anomalous.float().mean().item()
        scores[kind] = {
            "GAN": found.score,
            **{f"GAN, {part} alone": found.parts[:, column] for column, part in enumerate(PARTS)},
            "bicubic error": bicubic(images),
            "classifier features": neighbour_distance(features(images), known),
        }
    areas: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for method in scores["normal"]:
        areas[method], intervals[method] = {}, {}
        for kind in kinds:
            both = torch.cat([scores["normal"][method], scores[kind][method]])
            labels = torch.arange(len(both)) >= len(scores["normal"][method])
            areas[method][kind] = auroc(both, labels)
            intervals[method][kind] = auroc_interval(both, labels)
        areas[method]["mean"] = sum(areas[method].values()) / len(kinds)
    counts = {kind: len(values["GAN"]) for kind, values in scores.items()}
    return {"images": counts, "auroc": areas, "intervals": intervals, "alarms": alarms}


def format_table(record: dict) -> str:
    kinds = list(next(iter(record["auroc"].values())))
    rows = [[method, *(f"{areas[kind]:.3f}" for kind in kinds)] for method, areas in record["auroc"].items()]
    alarms = ", ".join(f"{kind} {value:.1%}" for kind, value in record["alarms"].items())
    unseen = ", ".join(record["unseen"])
    best = max(record["auroc"], key=lambda method: record["auroc"][method]["mean"])
    return (
        f"{markdown_table(['AUROC', *kinds], rows)}\n\nBest by the mean: {best}. Alarms of the GAN, its threshold "
        f"set for {record['false_alarms']:.1%} of the validation images: {alarms}. Unseen classes: {unseen}."
    )


def show(detector: AnomalyDetector, kinds: dict[str, Tensor], path: Path) -> None:
    """Five images of each kind with their heat maps and scores."""
    rows, captions = [], []
    for kind, images in kinds.items():
        some = images[torch.linspace(0, len(images) - 1, 7).round().long()[1:-1]]
        found = detector(some)
        rows.append([heat_picture(image, heat) for image, heat in zip(some, found.heat, strict=True)])
        scores = ", ".join(f"{score:.2f}" for score in found.score)
        captions.append(f"{kind}: scores {scores} (alarm above {detector.normality.threshold:.2f})")
    image_grid(rows, captions, path, cell=224)


if __name__ == "__main__":
    main()
