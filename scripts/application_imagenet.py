"""ImageNet: a dry run of its recipe on this machine, and what the whole training takes on one and on eight GPUs.

    python scripts/application_imagenet.py --out runs/imagenet-dry
    python scripts/application_imagenet.py --recipe scripts/recipes/gpu8_imagenet_vit_small.yaml
    python scripts/application_imagenet.py --data imagenet/       # reading is measured on your own images

The recipe is the one that trains on GPUs; the dry run changes only how much: a few small batches of a folder of 1,000
classes that it makes (JPEG files of many sizes), two processes that read, 224 pixels.
It trains once without interruption; once more, killed after its first checkpoint and gone on with by `--resume`, which
must end with the same weights to the bit; evaluates (top-1 and top-5 of a few untrained steps: a thousandth and five
are what chance gives); and trains from a stream. To train, run the commands at the head of the recipe.

Measured here: how many images a core reads a second (files of ImageNet's mean size, decoded, resized and put into
batches; `--data` takes yours), memory and speed of the dry run. Computed: memory of a GPU (estimate_imagenet.py).
Published: images a second that A100 GPUs train, NVIDIA's of ResNet-50 v1.5 in mixed precision. Assumed: for other
models, the part of the GPU's peak that is reached; cores a GPU; the price. Nothing here ran on a GPU.

Hardware: one CPU core; five minutes of its time, 5 GB of memory, 3 GB of disk. `--quick`, with a small model in place
of the recipe's, takes one minute.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from estimate_imagenet import CLASSES, IMAGES, requirements
from PIL import Image
from safetensors.torch import load_file
from tqdm import tqdm

from hfvision import ImageClassificationProcessor, read_image, sample_photos
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.engine.checkpoint import checkpoints
from hfvision.engine.options import parse_options
from hfvision.records import write_record
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.train import train_classifier
from hfvision.utils.markdown import markdown_table

RECIPE = Path(__file__).parent / "recipes" / "gpu8_imagenet_resnet50.yaml"
MEAN_SIZE = (469, 387)  # pixels of ImageNet's training images, whose archive has 108 kB for each
# Training of ResNet-50 v1.5 in mixed precision on DGX A100 80GB, NVIDIA DeepLearningExamples, release 21.03.
PUBLISHED = {1: 2470.0, 8: 16621.0}
VALIDATION = 50_000
QUICK = ["--model", "cnn:resnet18"]
QUICK += ["--model_fields", "{stage_widths: [[[16, 16]], [[32, 32]], [[64, 64]], [[128, 128]]]}"]


def make_folder(folder: Path, train: int, validation: int) -> None:
    """1,000 class folders under `train`, `validation` of them under `val`, of JPEG files of 60 to 400 pixels."""
    photos = [read_image(path).convert("RGB") for path in sample_photos().values()]
    generator = np.random.default_rng(0)
    for split, classes, count in (("train", CLASSES, train), ("val", validation, 1)):
        for label in tqdm(range(classes), desc=f"making {split}", unit="class"):
            place = folder / split / f"n{label:08}"
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                photo = photos[generator.integers(len(photos))]
                left, top = (generator.uniform(0, side / 2) for side in photo.size)
                size = tuple(generator.integers(60, 401, 2).tolist())
                part = photo.resize(size, box=(left, top, left + photo.width / 2, top + photo.height / 2))
                part.save(place / f"{number}.jpg", quality=int(generator.integers(50, 96)))


def make_typical(folder: Path, count: int) -> None:
    """Two class folders with JPEG files of ImageNet's mean size in pixels, and about as many bytes."""
    generator = np.random.default_rng(1)
    photos = [read_image(path).convert("RGB").resize(MEAN_SIZE) for path in sample_photos().values()]
    for number in range(count):
        pixels = np.asarray(photos[number % len(photos)]) + generator.normal(0, 8, (*MEAN_SIZE[::-1], 1))
        place = folder / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=95)


def reading_speed(source: str, count: int, batch_size: int = 64) -> dict[str, float]:
    """Images that one core reads a second for 224 pixels, by its CPU time, and their mean size as files."""
    split = load_image_dataset(source, validation=0)["train"]
    split = split.shuffle(seed=0).select(range(min(count, len(split))))
    processor = ImageClassificationProcessor(size={"height": 224, "width": 224})
    images = prepare_images(split, processor, memory_limit=0)
    images[0]  # what is loaded once
    begin = time.process_time()
    for first in tqdm(range(0, len(images), batch_size), desc="reading", unit="batch"):
        images.__getitems__(list(range(first, min(first + batch_size, len(images)))))
    seconds = time.process_time() - begin
    encoded = split.cast_column("image", datasets.Image(decode=False))["image"]
    sizes = [len(image["bytes"]) if image["bytes"] else Path(image["path"]).stat().st_size for image in encoded]
    return {"images": len(images), "images_per_second": len(images) / seconds, "kilobytes": np.mean(sizes) / 1000}


def configure(words: list[str]) -> ClassifierTrainingConfig:
    return parse_options(ClassifierTrainingConfig, words, "dry run", "")


def kill_after_checkpoint(words: list[str], out: Path) -> int:
    """Start a training in another process, kill it once it has a checkpoint; the step of the newest one.

    Raises:
        RuntimeError: if it ends without a checkpoint.
    """
    command = [sys.executable, str(Path(__file__).with_name("train_classifier.py")), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not checkpoints(out / "checkpoints"):
            time.sleep(0.02)
        process.kill()
        said = process.stderr.read()
    if not checkpoints(out / "checkpoints"):
        raise RuntimeError(f"The training ended without a checkpoint: {said[-1000:]}")
    return json.loads((checkpoints(out / "checkpoints")[-1] / "state.json").read_text())["step"]


def same_weights(first: Path, second: Path) -> bool:
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def dry_run(recipe: Path, data: Path, out: Path, words: list[str], steps: int) -> dict[str, Any]:
    """See the head of this file; the figures."""
    common = ["--config", str(recipe), "--data", str(data), "--epochs", "1", "--num-workers", "2", *words]
    common += ["--steps_per_epoch", str(steps)]
    files = [*common, "--memory_limit", "0"]  # read again and again, as a set that does not fit
    straight = train_classifier(configure([*files, "--out", str(out / "straight")]))
    again = [*files, "--out", str(out / "killed")]
    killed = kill_after_checkpoint([*again, "--checkpoint_minutes", "0"], out / "killed")
    resumed = train_classifier(configure([*again, "--resume"]))
    stream = train_classifier(configure([*common, "--streaming", "true", "--out", str(out / "stream")]))
    history, validation = straight["training"]["history"][-1], straight["validation"]
    return {
        "steps": steps,
        "batch_size": straight["training"]["config"]["batch_size"],
        "model": straight["training"]["config"]["model"],
        "parameters": straight["training"]["parameters"],
        "images_per_second": history["images_per_second"],
        "loss": history["loss"],
        "top1": validation["top1"],
        "top5": validation["top5"],
        "killed_at_step": killed,
        "resumed_to_the_bit": same_weights(out / "straight", out / "killed")
        and resumed["validation"]["top1"] == validation["top1"],
        "stream_loss": stream["training"]["history"][-1]["loss"],
        "memory_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def estimate(recipe: Path, reading: float, args: argparse.Namespace) -> list[dict[str, float]]:
    """Rates, hours, price and memory for one GPU, which accumulates batches to those of eight, and for eight."""
    config, needs = requirements(recipe)
    rows = []
    for gpus, published in PUBLISHED.items():
        by_peak = gpus * args.tflops * 1e12 * args.utilisation / (6 * needs["multiply_adds"])
        rate = published if config.model == "cnn:resnet50" else by_peak
        reads = gpus * args.cores * reading
        speed = min(rate, reads)
        # Evaluation takes a third of the computing, and the same reading.
        seconds = config.epochs * (IMAGES / speed + VALIDATION / min(3 * rate, reads))
        rows.append(
            {
                "gpus": gpus,
                "trains": rate,
                "reads": reads,
                "hours": seconds / 3600,
                "hours_if_reading_keeps_up": config.epochs * (IMAGES / rate + VALIDATION / (3 * rate)) / 3600,
                "cores_to_keep_up": rate / reading,
                "price": seconds / 3600 * gpus * args.price,
                "gigabytes": (needs["fixed"] + config.batch_size * needs["activations"]) / 1e9,
            }
        )
    return rows


def format_estimate(rows: list[dict[str, float]], args: argparse.Namespace) -> str:
    lines = {
        "images a second that the GPUs train (published or assumed)": ("trains", "{:,.0f}"),
        f"images a second that {args.cores} cores a GPU read (measured here)": ("reads", "{:,.0f}"),
        "cores that would keep up": ("cores_to_keep_up", "{:,.0f}"),
        "hours, evaluations included": ("hours", "{:.1f}"),
        "hours, if reading kept up": ("hours_if_reading_keeps_up", "{:.1f}"),
        f"price at {args.price:g} an hour and GPU (assumed)": ("price", "{:,.0f}"),
        "memory on each GPU, GB (computed)": ("gigabytes", "{:.1f}"),
    }
    cells = [(text, *(form.format(row[name]) for row in rows)) for text, (name, form) in lines.items()]
    return markdown_table(["", *(f"{row['gpus']:.0f} GPU{'s' * (row['gpus'] > 1)}" for row in rows)], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="configuration (default: that of ResNet-50)")
    parser.add_argument("--data", help="ImageNet itself, to measure reading on (default: files of its mean size)")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet-dry"), help="folder for what it makes")
    parser.add_argument("--tflops", type=float, default=312, help="peak of a GPU in bf16 (default 312, an A100)")
    parser.add_argument("--utilisation", type=float, default=0.2, help="assumed part of it (default 0.2)")
    parser.add_argument("--cores", type=int, default=12, help="CPU cores that read for each GPU (default 12)")
    parser.add_argument("--price", type=float, default=2.0, help="assumed, of an hour of one GPU (default 2.0)")
    parser.add_argument("--quick", action="store_true", help="a small model in place of the recipe's")
    args = parser.parse_args()
    if args.out.exists():
        raise SystemExit(f"{args.out} is there already: remove it, or choose another --out.")
    make_folder(args.out / "images", *((1, 30) if args.quick else (2, 200)))
    if args.data is None:
        make_typical(args.out / "typical", 60 if args.quick else 300)
    reading = reading_speed(args.data or str(args.out / "typical"), 60 if args.quick else 1000)
    words = ["--batch_size", "8", *(QUICK if args.quick else [])]
    dry = dry_run(args.recipe, args.out / "images", args.out, words, 4)
    rows = estimate(args.recipe, reading["images_per_second"], args)
    write_record(args.out / "dry_run.json", {"reading": reading, "dry_run": dry, "estimate": rows})
    print(f"reading: {reading['images_per_second']:.0f} images a CPU second, files of {reading['kilobytes']:.0f} kB")
    print(
        f"dry run: {dry['model']}, {dry['parameters']:,} parameters, {dry['steps']} steps of {dry['batch_size']} "
        f"images at {dry['images_per_second']:.1f} images/s, memory {dry['memory_gigabytes']:.1f} GB"
    )
    print(f"evaluation: top-1 {dry['top1']:.1%}, top-5 {dry['top5']:.1%} (chance: 0.1%, 0.5%)")
    print(
        f"killed at step {dry['killed_at_step']}, gone on with: "
        + ("the same weights to the bit" if dry["resumed_to_the_bit"] else "OTHER WEIGHTS")
    )
    print(f"from a stream: loss {dry['stream_loss']:.2f}, from files {dry['loss']:.2f}\n\n{args.recipe.stem}:\n")
    print(format_estimate(rows, args))


if __name__ == "__main__":
    main()
