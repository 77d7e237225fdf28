"""Traffic signs: train, harden against corruptions and against attack, prune, 8 bits; one table of what each costs.

    python scripts/application_signs.py --data gtsrb48/ --out runs/signs

`gtsrb48/` has train and test parquet files with `image`, `label` and `track`: all frames of one physical sign are on
one side of every split. It prints, for each stage, accuracy on the test signs, under corruptions of five severities,
and under attack (Auto-PGD, L∞ 4/255), beside bytes and milliseconds, and writes `signs.json`, `signs.md`, `signs.png`
and a folder with model, record and card for each stage. Training images get corruptions of the same seven kinds that
are measured, at severities drawn anew: "corrupted" says how well these are learned, not how others are withstood.
What is finished is skipped: after an interruption, the same command goes on.

Hardware: two CPU cores, with bf16 where there is. Time: 20 minutes. `--quick`: minutes, on clothes of the package.
"""

import argparse
import dataclasses
import json
import warnings
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from hfvision.compression.benchmark import benchmark
from hfvision.compression.config import ClassifierPruneConfig
from hfvision.compression.quantize import quantize
from hfvision.compression.recipe import prune_and_train
from hfvision.data.datasets.class_names import class_names, match_classes
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import MemoryImages, prepare_images
from hfvision.data.datasets.samples import sample_dataset
from hfvision.data.transforms.keyed import image_keys
from hfvision.data.transforms.normalize import Normalize
from hfvision.engine.options import parse_options
from hfvision.hub.loading import load_model
from hfvision.metrics.accuracy import accuracy
from hfvision.publishing.cards.write import record_about, write_card
from hfvision.records import write_record
from hfvision.robustness.attacks.apgd import apgd
from hfvision.robustness.attacks.threat import PixelClassifier
from hfvision.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from hfvision.robustness.pictures import attack_grid
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.evaluate import predict_logits
from hfvision.tasks.classification.train import train_classifier
from hfvision.utils.files import atomic_write, write_text
from hfvision.utils.markdown import markdown_table

RECIPE = Path(__file__).with_name("recipes") / "signs.yaml"
EPSILON = "4/255"
FURTHER = {"learning_rate": 0.01, "warmup": 0.1, "balance": "none", "erasing": None}
STAGES = {
    "against corruptions": FURTHER | {"corruptions": 0.5, "epochs": 4},
    "against attack": FURTHER | {"corruptions": 0.5, "adversarial": "fast", "epsilon": EPSILON, "epochs": 6},
    "pruned": FURTHER | {"corruptions": 0.5, "adversarial": "fast", "epsilon": EPSILON, "epochs": 5},
}
KEPT = 0.35  # of the parameters
LIMITS = (
    "German signs of a few classes, cut out and centred, from one data set; other countries, distances and cameras "
    "were not seen, and an image without a sign gets a class too. Not for steering a vehicle."
)
QUICK = {
    "validation_group": None,
    "model": "cnn:tiny",
    "model_fields": None,
    "num_channels": 1,
    "image_size": 28,
    "balance": "none",
    "robust_images": 50,
    "batch_size": 50,
    "epochs": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", help="folder of parquet files, or Hub id, with image, label and track")
    parser.add_argument("--out", type=Path, default=Path("runs/signs"), help="folder for all that it makes")
    parser.add_argument("--attacked", type=int, default=500, help="test images that are attacked (default 500)")
    parser.add_argument("--quick", action="store_true", help="a minute on sample data, to see that all works")
    args = parser.parse_args()
    folder = args.out / "data"
    data = str(write_clothes(folder) if args.quick else write_signs(args.data, folder))
    words = ["--config", str(RECIPE), "--data", data]
    config = parse_options(ClassifierTrainingConfig, words, "application_signs", "")
    if args.quick:
        config = dataclasses.replace(config, **QUICK)
        args.attacked = 20
    folders = train_stages(config, args.out, {"epochs": 1} if args.quick else {})
    rows = measure_stages(config, folders, args.attacked, args.out)
    table = format_table(rows, args.attacked)
    write_record(args.out / "signs.json", {"attack": f"Auto-PGD, L∞ {EPSILON}", "stages": rows})
    write_text(args.out / "signs.md", table + "\n")
    print(table)


def write_signs(source: str | None, folder: Path) -> Path:
    """The data with the column `sign`, by class and track, as tracks are counted in class and split; the folder."""
    if source is None:
        raise SystemExit("Say where the signs are: --data FOLDER, or --quick to try it without.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers of tracks in both train and test
        splits = load_image_dataset(source, validation=0, validation_group="track")
    for name, split in splits.items():
        if not (path := folder / f"{name}.parquet").is_file():
            pairs = zip(split["label"][:], split["group"][:], strict=True)
            signs = [f"{name}-{label}-{track}" for label, track in pairs]
            with atomic_write(path) as temporary:
                split.remove_columns("group").add_column("sign", signs).to_parquet(temporary)
    return folder


def write_clothes(folder: Path) -> Path:
    """A part of the clothes that the package carries, in the place of signs; the folder."""
    clothes = sample_dataset()
    for name, count in (("train", 1500), ("test", 100)):
        if not (path := folder / f"{name}.parquet").is_file():
            with atomic_write(path) as temporary:
                clothes[name].select(range(count)).to_parquet(temporary)
    return folder


def train_stages(config: ClassifierTrainingConfig, out: Path, epochs: dict[str, int]) -> dict[str, Path]:
    """Every stage from the one before it; the folders of the models."""
    folder = out / "trained"
    folders = {"trained": folder}
    if not finished(folder):
        train_classifier(dataclasses.replace(config, out=folder, resume=True))
    for name, changes in STAGES.items():
        parent, folder = folder, out / name.replace(" ", "-")
        folders[name] = folder
        if finished(folder):
            continue
        options = vars(config) | changes | epochs | {"out": folder, "resume": True}
        options |= {"model": str(parent), "model_fields": None}
        if name == "pruned":
            prune_and_train(ClassifierPruneConfig(**options, target_params=KEPT))
        else:
            train_classifier(ClassifierTrainingConfig(**options))
    folders["pruned, int8"] = out / "int8"
    if not finished(folders["pruned, int8"]):
        quantize(str(folder), folders["pruned, int8"], calibration=config.data, seed=config.seed, force=True)
    for folder in folders.values():
        record_about(folder, limits=LIMITS)
        write_card(folder)
    return folders


def finished(folder: Path) -> bool:
    return (folder / "record.json").is_file()


def measure_stages(
    config: ClassifierTrainingConfig, folders: dict[str, Path], attacked: int, out: Path
) -> dict[str, dict[str, float]]:
    """Accuracies on the test images, size and time of each stage; accuracies that are in its folder are not measured
    again."""
    test = load_image_dataset(config.data, validation=0)["test"]
    names = test.features["label"].names
    speeds = benchmark([str(folder) for folder in folders.values()], engines=["eager"], batches=[1])["results"]
    rows, models = {}, {}
    for (name, folder), speed in zip(folders.items(), speeds.values(), strict=True):
        model, processor = load_model(str(folder), "image-classification")
        models[name] = model.float()
        images = prepare_images(test, processor)
        path = folder / f"accuracy_{attacked}.json"
        if not path.is_file():
            parent = models["pruned"] if name == "pruned, int8" else None
            write_record(path, measure(models[name], images, processor, names, attacked, parent))
        shares = {key: json.loads(path.read_text())[key] for key in ("clean", "corrupted", "attacked")}
        rows[name] = shares | {"bytes": speed["bytes"], "milliseconds": speed["batches"]["1"]["cpu_ms"]["median"]}
    picture(models, images, processor, names, out / "signs.png")
    return rows


def measure(
    model: PreTrainedModel,
    images: MemoryImages,
    processor: BaseImageProcessor,
    names: list[str],
    attacked: int,
    parent: PreTrainedModel | None,
) -> dict[str, float]:
    """Share of right answers on all images, on all corrupted ones, and on some that are attacked.

    Without gradients, as in 8 bits, the attack is made on `parent` to its end and put to the model.
    """
    normalize = Normalize.from_processor(processor)
    order = match_classes(class_names(model.config), names)
    attack = partial(apgd, epsilon=EPSILON)
    if parent is not None:
        victim = PixelClassifier(parent, normalize)

        def attack(_, pixels, labels):
            return apgd(victim, pixels, labels, EPSILON)

    def share(some: MemoryImages, attack=None) -> float:
        logits, labels = predict_logits(model, some, normalize, attack=attack)
        return accuracy(logits[:, order], labels)

    keys = image_keys(0, 0, images.index)
    chosen = torch.linspace(0, len(images) - 1, min(attacked, len(images))).round().long()
    some = MemoryImages(images.images[chosen], images.labels[chosen], images.index[chosen], [])
    noisy = [
        share(MemoryImages(corrupt(images.images, name, severity, keys), images.labels, images.index, []))
        for name in CORRUPTIONS
        for severity in SEVERITIES
    ]
    return {"clean": share(images), "corrupted": sum(noisy) / len(noisy), "attacked": share(some, attack)}


def picture(
    models: dict[str, PreTrainedModel],
    images: MemoryImages,
    processor: BaseImageProcessor,
    names: list[str],
    path: Path,
) -> None:
    """Four test images, attacked by way of the first model and of the hardened one, and what these answer."""
    normalize = Normalize.from_processor(processor)
    victims = {name: PixelClassifier(models[name], normalize) for name in ("trained", "against attack")}
    some = images.__getitems__(torch.linspace(0, len(images) - 1, 6).round().long().tolist()[1:5])
    pixels, labels = some["images"].float() / 255, some["labels"]
    attacked = {name: apgd(victim, pixels, labels, EPSILON) for name, victim in victims.items()}
    attack_grid(pixels, [names[n] for n in labels], attacked, victims, dict.fromkeys(victims, names), path)


def format_table(rows: dict[str, dict[str, float]], attacked: int) -> str:
    header = ["stage", "clean", "corrupted", f"attacked ({attacked})", "MB", "CPU ms an image"]
    lines = [
        [
            name,
            *(f"{row[key]:.2%}" for key in ("clean", "corrupted", "attacked")),
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['milliseconds']:.2f}",
        ]
        for name, row in rows.items()
    ]
    note = "8 bits have no gradients: they are attacked by way of the pruned model, more weakly than the others."
    return f"{markdown_table(header, lines)}\n\n{note}"


if __name__ == "__main__":
    main()
