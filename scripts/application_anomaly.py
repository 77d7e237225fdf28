"""Anomalies by PatchCore and by a GAN, both shown normal images alone: signs never seen, occluded, defaced, broken.

    python scripts/application_anomaly.py --data gtsrb48/ --out runs/anomaly

`gtsrb48/` has train and test parquet files with `image`, `label` and `track`. Every fifth class is held out of all
training and counts as unseen; the other classes are normal. PatchCore remembers the features of the training images.
The generator of the GAN learns to restore normal images of 32 pixels from 8, and the discriminator to tell restored
ones from real ones. What both make of validation images (other physical signs) is what is normal, and the threshold is
set there for 5 % of false alarms. The test images (again other signs) are scored as they are, and occluded, defaced or
broken by the package's own `damage`.

The test images are halved by physical sign, and the unseen classes are dealt out to the halves. The defaults of
`PatchCoreConfig` were chosen on the first half (`--choose` prints the alternatives there); what is printed otherwise
is of the second. It is the AUROC of each kind by PatchCore, the GAN and plain baselines: the error of bicubic
interpolation, and the distance to normal images in the features of a classifier trained on the normal classes, which
needs their labels. On GTSRB the means are 0.867, 0.854, 0.594 and 0.894. How the GAN's parts are combined was settled
on both halves, so that its figure flatters it a little. `anomaly.md`, `anomaly.json` and `anomaly.png` (images with
PatchCore's heat maps) hold the same; `hfvision detect anomalies IMAGES --model runs/anomaly/patchcore` (or `gan`) does
it for others. What is finished is skipped: after an interruption, the same command goes on.

Hardware: two CPU cores, with bf16 where there is. Time: 20 minutes. `--quick`: minutes, on clothes of the package.
"""

import argparse
import dataclasses
from pathlib import Path

import datasets
import torch
from application_signs import write_signs
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
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
    AnomalyDetector,
    fit_detector,
    heat_picture,
    load_networks,
    neighbour_distance,
    resize_and_normalize,
    save_normality,
    stack_images,
)
from hfvision.tasks.anomaly.patchcore import PatchCore, PatchCoreConfig, fit_patchcore, prepare_images, save_patchcore
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
HELD_OUT = 300  # validation images that PatchCore's threshold is set on
QUICK_IMAGES = 200  # that PatchCore remembers
QUICK_CLASSIFIER = {"model": "cnn:tiny", "model_fields": None, "num_channels": 1, "epochs": 1, "balance": "none"}
# PatchCore's alternatives to the defaults, one by one.
CHOICES = [
    {},
    {"stages": (2, 3)},
    {"stages": (3, 4)},
    {"stages": (4,)},
    {"image_size": 96},
    {"image_size": 160},
    {"neighborhood": 1},
    {"neighborhood": 5},
    {"coreset": 0.01},
    {"peak": 0.0},
    {"peak": 0.1},
    {"layout_size": 2},
    {"layout_weight": 0.0},
    {"layout_weight": 0.5},
]
CHOSEN_WITH = 1000  # training images, and at most a third as many of each kind: a choice needs no more
LIMITS = (
    "It finds images unlike those it was trained on, of one size and centred alike; how well, depends on the kind of "
    "anomaly. A low score is no proof that an image is in order."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", help="folder of parquet files with image, label and track")
    parser.add_argument("--out", type=Path, default=Path("runs/anomaly"), help="folder for all that it makes")
    parser.add_argument("--quick", action="store_true", help="a minute on sample data, to see that all works")
    parser.add_argument(
        "--choose", action="store_true", help="PatchCore's choices on the first half of the test images"
    )
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

    def pixels(split: datasets.Dataset) -> Tensor:
        """uint8 (N, C, size, size), in the light that they were taken in."""
        images = (image.convert("L" if channels == 1 else "RGB") for image in split["image"][:])
        return torch.stack([pil_to_tensor(image.resize((size, size), Image.Resampling.BICUBIC)) for image in images])

    halves = halve(splits["test"], unseen)
    test = [{name: pixels(split) for name, split in half.items()} for half in halves]
    keys = [image_keys(0, number, torch.arange(len(half["normal"]))) for number, half in enumerate(test)]
    for half, some in zip(test, keys, strict=True):
        half |= {kind: damage(half["normal"], kind, some) for kind in DAMAGES}
    normal = {name: pixels(of_classes(splits[name], unseen, inside=False)) for name in ("train", "validation")}
    if args.choose:
        print(choose(normal["train"], normal["validation"], test[0]))
        return
    folder = train_gan(config, args.out, QUICK if args.quick else {}, QUICK_GAN if args.quick else GAN)
    generator, discriminator = load_networks(folder)
    detector = fit_detector(generator, discriminator, normal["validation"], size, FALSE_ALARMS)
    save_normality(detector, folder)
    known = normal["train"][: QUICK_IMAGES if args.quick else None]
    patchcore = fit_patchcore(known, false_alarms=FALSE_ALARMS, held_out=normal["validation"][:HELD_OUT])
    save_patchcore(patchcore, args.out / "patchcore")
    classifier = train_baseline(args.out, QUICK_CLASSIFIER if args.quick else CLASSIFIER, args.quick)
    record = evaluate(patchcore, detector, classifier, normal["train"], test[1])
    record["auroc_of_first_half"] = areas_of(patchcore, test[0])
    record |= {"unseen": unseen, "seed": patchcore.config.seed, "patchcore": dataclasses.asdict(patchcore.config)}
    table = format_table(record)
    write_record(args.out / "anomaly.json", record)
    write_text(args.out / "anomaly.md", table + "\n")
    show(patchcore, test[1], args.out / "anomaly.png")
    write_card(folder)
    print(table)


def halve(split: datasets.Dataset, unseen: list[str]) -> list[dict[str, datasets.Dataset]]:
    """The `normal` and `unseen` images of the halves of a split: other physical signs, and other unseen classes."""
    normal = of_classes(split, unseen, inside=False)
    signs = normal["group"][:] if "group" in normal.column_names else list(range(len(normal)))
    number = {sign: position % 2 for position, sign in enumerate(sorted(set(signs)))}
    return [
        {
            "normal": normal.select([row for row, sign in enumerate(signs) if number[sign] == half]),
            "unseen": of_classes(split, unseen[half::2], inside=True),
        }
        for half in range(2)
    ]


def choose(normal: Tensor, held_out: Tensor, test: dict[str, Tensor]) -> str:
    """The AUROC of each kind by PatchCore with each of `CHOICES`."""
    order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(0))
    some = {kind: images[: CHOSEN_WITH // 3] for kind, images in test.items()}
    rows = []
    for change in CHOICES:
        detector = fit_patchcore(normal[order[:CHOSEN_WITH]], PatchCoreConfig(**change), held_out=held_out[:HELD_OUT])
        areas = areas_of(detector, some)
        name = ", ".join(f"{key}={value}" for key, value in change.items()) or "defaults"
        rows.append([name, *(f"{value:.3f}" for value in areas.values())])
        print(*rows[-1], flush=True)
    return markdown_table(["AUROC", *areas], rows)


def areas_of(detector: PatchCore, test: dict[str, Tensor]) -> dict[str, float]:
    """The AUROC of each kind in `test` against its normal images, and their mean."""
    scores = {kind: detector(images).score for kind, images in test.items()}
    areas = {kind: area(scores["normal"], score) for kind, score in scores.items() if kind != "normal"}
    return areas | {"mean": sum(areas.values()) / len(areas)}


def area(normal: Tensor, other: Tensor) -> float:
    return auroc(torch.cat([normal, other]), torch.arange(len(normal) + len(other)) >= len(normal))


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
def evaluate(
    patchcore: PatchCore, gan: AnomalyDetector, classifier: Path, known: Tensor, test: dict[str, Tensor]
) -> dict:
    """AUROC of each kind in `test` against its normal images, by both detectors and the baselines; of the detectors
    alarms at the threshold, and the AUROC of the damaged pixels by heat."""
    model, processor = load_model(str(classifier), "image-classification")
    normalize, scale = Normalize.from_processor(processor), gan.generator.config.scale

    def features(images: Tensor) -> Tensor:
        images = resize_and_normalize(images, gan.size)
        return torch.cat([model.cnn(normalize(batch)).pooler_output for batch in images.split(256)])

    def bicubic(images: Tensor) -> Tensor:
        images = resize_and_normalize(images, gan.size)
        return (resize_bicubic(downscale(images, scale), scale).clamp(0, 1) - images).abs().mean((1, 2, 3))

    known = features(known)
    scores: dict[str, dict[str, Tensor]] = {}
    alarms: dict[str, dict[str, float]] = {"PatchCore": {}, "GAN": {}}
    pixels: dict[str, dict[str, float]] = {"PatchCore": {}, "GAN": {}}
    for kind, images in test.items():
        scores[kind] = {}
        for name, detector in (("PatchCore", patchcore), ("GAN", gan)):
            found = detector(images)
            scores[kind][name] = found.score
            for column, part in enumerate(detector.part_names):
                scores[kind][f"{name}, {part} alone"] = found.parts[:, column]
            alarms[name][kind] = found.anomalous.float().mean().item()
            if kind in DAMAGES:
                damaged = (images != test["normal"]).any(1)
                heat = interpolate(found.heat[:, None], damaged.shape[-2:], mode="area")[:, 0]
                pixels[name][kind] = auroc(heat.flatten(), damaged.flatten())
        scores[kind]["bicubic error"] = bicubic(images)
        scores[kind]["classifier features"] = neighbour_distance(features(images), known)
    areas: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    kinds = [kind for kind in test if kind != "normal"]
    for method, normal in scores["normal"].items():
        areas[method] = {kind: area(normal, scores[kind][method]) for kind in kinds}
        areas[method]["mean"] = sum(areas[method].values()) / len(kinds)
        intervals[method] = {}
        for kind in kinds:
            both = torch.cat([normal, scores[kind][method]])
            intervals[method][kind] = auroc_interval(both, torch.arange(len(both)) >= len(normal))
    counts = {kind: len(images) for kind, images in test.items()}
    return {"images": counts, "auroc": areas, "intervals": intervals, "alarms": alarms, "pixel_auroc": pixels}


def format_table(record: dict) -> str:
    kinds = list(next(iter(record["auroc"].values())))
    rows = [[method, *(f"{areas[kind]:.3f}" for kind in kinds)] for method, areas in record["auroc"].items()]
    lines = [markdown_table(["AUROC", *kinds], rows), ""]
    best = max(record["auroc"], key=lambda method: record["auroc"][method]["mean"])
    lines.append(f"Best by the mean: {best}. Unseen classes: {', '.join(record['unseen'])}.")
    first = ", ".join(f"{kind} {value:.3f}" for kind, value in record["auroc_of_first_half"].items())
    lines.append(f"AUROC of PatchCore on the half that it was chosen on: {first}.")
    for name, shares in record["alarms"].items():
        alarms = ", ".join(f"{kind} {value:.1%}" for kind, value in shares.items())
        places = ", ".join(f"{kind} {value:.3f}" for kind, value in record["pixel_auroc"][name].items())
        lines.append(f"Alarms of {name}: {alarms}. AUROC of the damaged pixels by its heat: {places}.")
    return "\n".join(lines)


def show(detector: PatchCore, kinds: dict[str, Tensor], path: Path) -> None:
    """Five images of each kind with their heat maps and scores."""
    rows, captions = [], []
    for kind, images in kinds.items():
        some = images[torch.linspace(0, len(images) - 1, 7).round().long()[1:-1]]
        found = detector(some)
        some = prepare_images(some, detector.size)
        rows.append(
            [heat_picture(image, heat, hottest=detector.hottest) for image, heat in zip(some, found.heat, strict=True)]
        )
        scores = ", ".join(f"{score:.2f}" for score in found.score)
        captions.append(f"{kind}: scores {scores} (alarm above {detector.threshold:.2f})")
    image_grid(rows, captions, path, cell=224)


if __name__ == "__main__":
    main()
