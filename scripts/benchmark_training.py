"""Measures the training of classifiers: speed beside other loops, the cost of a checkpoint, the gain of augmentation.

    OMP_NUM_THREADS=1 python scripts/benchmark_training.py --data path/to/cifar10 --json record.json

One thread, CPU seconds of the process, medians over `--rounds`; contenders take turns, each round another one first.
`--only throughput checkpoint` needs no `--data`.

- throughput: images a CPU second of a CNN of three convolutions (64, 128 and 256 filters) on 6,000 images of 32×32
  from the carried sample, batches of 128, AdamW, random crop and flip. Contenders: the loop of this package as
  `train_classifier` runs it; a loop written by hand for this one task, its images padded beforehand; transformers'
  Trainer, which decodes and varies each image by itself with torchvision. Each run is of two epochs and the second one
  counts.
- checkpoint: writing one of the preset `cifar` with its optimizer, moving average and best weights, flushed to the
  disk, as a share of the minute until the next.
- augmentation: accuracy on all test images of CIFAR-10 after training a narrow form of the preset `cifar` on a tenth
  of the training images for 60 epochs, with each preset, everything else equal. A tenth, because augmentation is
  against overfitting: without it, all these images are right in training after half the epochs.

Expected on one core of a shared machine with bf16 in its vector unit: the loop of this package between 0.96 and 1.15
times as fast as the one written by hand, 1.6 times as fast as Trainer in bf16; a checkpoint about 1% of a minute;
`classic` 2 points above `none`, which needs all 60 epochs (after 30 it is level), and `strong` more than 8.
Time: 20 minutes of CPU for five rounds of throughput, 18 for each seed of augmentation.
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm.optim
import torch
from accelerate.utils import set_seed
from datasets import Dataset, Features, Image
from torch import nn
from torch.nn.functional import cross_entropy, pad
from torchvision.transforms import v2
from transformers import Trainer as TransformersTrainer
from transformers import TrainerCallback, TrainingArguments
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import MemoryImages, prepare_images
from hfvision.data.datasets.samples import sample_dataset
from hfvision.data.transforms.normalize import Normalize
from hfvision.engine.accelerator import make_accelerator
from hfvision.engine.checkpoint import model_state, save_checkpoint
from hfvision.engine.config import LoopConfig
from hfvision.engine.ema import EMA
from hfvision.engine.loop import Trainer, Validation
from hfvision.engine.network import Network
from hfvision.engine.optimizer import learning_rate_factor
from hfvision.models.cnn.configuration_cnn import CNNConfig
from hfvision.models.cnn.modeling_cnn import CNNForImageClassification
from hfvision.records import environment, write_record
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.train import ClassifierLoss, train_classifier
from hfvision.tasks.start import default_processor
from hfvision.utils.markdown import markdown_table

BATCH, LEARNING_RATE, WEIGHT_DECAY, WARMUP = 128, 2e-3, 0.01, 0.2


def make_model() -> CNNForImageClassification:
    set_seed(0)
    widths = [[[64]], [[128]], [[256]]]
    return CNNForImageClassification(CNNConfig(stage_widths=widths, downsample="pool_last", num_labels=10))


def clothes(count: int) -> Dataset:
    """The sample's training images as 32×32 colour PNG."""
    split = sample_dataset()["train"].select(range(count))
    features = Features({"image": Image(), "label": split.features["label"]})
    return split.map(
        lambda row: {"image": row["image"].convert("RGB").resize((32, 32))}, features=features, keep_in_memory=True
    )


def ours(images: MemoryImages, precision: str) -> float:
    """CPU seconds of an epoch of `Trainer`."""
    model = make_model()
    config = ClassifierTrainingConfig(
        data="fashion_mnist",
        augment="strong",
        erasing=0.0,
        label_smoothing=0.0,
        mixed_precision=precision,
        epochs=2,
        batch_size=BATCH,
        optimizer="adamw",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup=WARMUP,
    )
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(LoopConfig)}
    loop = LoopConfig(**shared | {"out": None})
    normalize = Normalize.from_processor(default_processor(model.config))
    ends: list[float] = []

    def epoch_ends(net: nn.Module) -> dict[str, float]:
        ends.append(time.process_time())
        return {"validation_accuracy": 0.0}

    loss = ClassifierLoss(config, normalize, 10)
    Trainer(Network(model, loss), images, loop, validation=Validation(epoch_ends)).fit()
    return ends[1] - ends[0]


def by_hand(images: MemoryImages, precision: str) -> float:
    """CPU seconds of an epoch of a loop that does the same and nothing else."""
    model = make_model().to(memory_format=torch.channels_last).train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
    steps = 2 * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps, WARMUP, "cosine")
    )
    mean = 255 * torch.tensor(IMAGENET_DEFAULT_MEAN).view(-1, 1, 1)
    std = 255 * torch.tensor(IMAGENET_DEFAULT_STD).view(-1, 1, 1)
    windows = (
        pad(images.images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8).unfold(2, 32, 1).unfold(3, 32, 1)
    )
    total = 0.0
    for _ in range(2):
        start = time.process_time()
        for places in torch.randperm(len(images)).split(BATCH):
            if len(places) < BATCH:
                break
            batch = windows[places, :, torch.randint(9, (BATCH,)), torch.randint(9, (BATCH,))]
            batch = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, batch.flip(3), batch)
            pixels = ((batch - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = cross_entropy(model(pixels).logits, images.labels[places])
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item()
    return time.process_time() - start


class EpochTimes(TrainerCallback):
    def __init__(self):
        self.times: list[float] = []

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.process_time())

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.process_time())


def with_trainer(split: Dataset, precision: str) -> float:
    """CPU seconds of an epoch of transformers' Trainer."""
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ]
    )

    def read(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"pixel_values": [transform(image) for image in rows["image"]], "labels": rows["label"]}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            use_cpu=True,
            bf16=precision == "bf16",
            per_device_train_batch_size=BATCH,
            num_train_epochs=2,
            optim="adamw_torch_fused",
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            warmup_steps=WARMUP,
            lr_scheduler_type="cosine",
            dataloader_drop_last=True,
            dataloader_num_workers=0,
            remove_unused_columns=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        times = EpochTimes()
        TransformersTrainer(
            make_model(), arguments, train_dataset=split.with_transform(read), callbacks=[times]
        ).train()
    return times.times[-1] - times.times[-2]


def throughput(rounds: int, count: int) -> dict[str, Any]:
    split = clothes(count)
    images = prepare_images(split, default_processor(make_model().config), num_proc=0)
    contenders: dict[str, Callable[[], float]] = {
        f"{name}, {precision}": lambda run=run, data=data, precision=precision: run(data, precision)
        for name, run, data in (
            ("hfvision", ours, images),
            ("written by hand", by_hand, images),
            ("transformers Trainer", with_trainer, split),
        )
        for precision in ("bf16", "no")
    }
    seen = len(images) // BATCH * BATCH
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            rates[name].append(seen / contenders[name]())
            print(f"round {number + 1}/{rounds}: {name}: {rates[name][-1]:.0f} images per CPU second", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    base = medians["hfvision, bf16"]
    rows = [[name, f"{value:.0f}", f"{base / value:.2f}"] for name, value in medians.items()]
    print(markdown_table(["loop", "images per CPU second", "hfvision, bf16, is faster by"], rows))
    return {"images_per_cpu_second": rates, "median": medians}


def checkpoint(rounds: int, folder: Path) -> dict[str, Any]:
    """Times of `save_checkpoint` as the loop calls it."""
    set_seed(0)
    model = CNNForImageClassification(CNNConfig.from_preset("cifar", num_labels=10))
    config = ClassifierTrainingConfig(data="cifar10", optimizer="nmuon")
    accelerator = make_accelerator(config)
    optimizer = timm.optim.create_optimizer_v2(model, "nmuon", lr=0.02, momentum=0.8, weight_decay=0.02)
    net, optimizer = accelerator.prepare(model, optimizer)
    ema = EMA(net, 0.99)
    net(pixel_values=torch.rand(8, 3, 32, 32), labels=torch.arange(8)).loss.backward()
    optimizer.step()
    best = model_state(net)
    walls, cpu = [], []
    for step in range(rounds):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        weights = {"ema": ema.state(), "best": best}
        saved = save_checkpoint(folder, accelerator, {"": (net, optimizer)}, {"step": step}, weights, {"loss": 1.0}, 2)
        walls.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    size = sum(path.stat().st_size for path in saved.iterdir())
    seconds = {"wall": statistics.median(walls), "cpu": statistics.median(cpu)}
    rows = [
        [f"{kind} seconds", f"{value:.3f}", f"{value / 60:.2%}", f"{size / 1e6:.1f}"]
        for kind, value in seconds.items()
    ]
    print(markdown_table(["one checkpoint", "s", "of a minute", "MB"], rows))
    return {"seconds": seconds, "share_of_a_minute": seconds["wall"] / 60, "bytes": size}


def augmentation(data: Path, seeds: list[int], images: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Test accuracies of `train_classifier` for each preset and seed."""
    splits = load_image_dataset(data, validation=0)
    part = splits["train"].train_test_split(train_size=images, stratify_by_column="label", seed=0)["train"]
    for name, split in {"train": part, "test": splits["test"]}.items():
        split.to_parquet(folder / "data" / f"{name}.parquet")
    accuracies: dict[str, list[float]] = {"none": [], "classic": [], "strong": []}
    for seed in seeds:
        for preset, values in accuracies.items():
            config = ClassifierTrainingConfig(
                data=str(folder / "data"),
                validation=0,
                model="cnn:cifar",
                model_fields="{stage_widths: [[[32, 32]], [[96, 96]], [[96, 96]]]}",
                whiten=True,
                augment=preset,
                optimizer="nmuon",
                learning_rate=0.02,
                momentum=0.8,
                weight_decay=0.02,
                schedule="triangular",
                label_smoothing=0.2,
                batch_size=250,
                epochs=epochs,
                seed=seed,
                checkpoint_minutes=60,
                out=folder / f"{preset}-{seed}",
            )
            values.append(train_classifier(config)["test"]["top1"])
            print(f"{preset}, seed {seed}: {values[-1]:.2%}", flush=True)
    means = {preset: statistics.mean(values) for preset, values in accuracies.items()}
    rows = [
        [preset, f"{mean:.2%}", f"{100 * (mean - means['none']):+.2f}", " ".join(f"{v:.2%}" for v in values)]
        for (preset, mean), values in zip(means.items(), accuracies.values(), strict=True)
    ]
    print(markdown_table(["augmentation", "test accuracy", "points above none", "by seed"], rows))
    return {"test_accuracy": accuracies, "seeds": seeds, "images": images, "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parts = ["throughput", "checkpoint", "augmentation"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as train and test parquet files, for augmentation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the augmentation's trainings")
    parser.add_argument("--images", type=int, nargs=2, default=[6000, 5000], help="of throughput and augmentation")
    parser.add_argument("--epochs", type=int, default=60, help="of the augmentation's trainings")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if "augmentation" in args.only and args.data is None:
        parser.error("augmentation needs --data; without it: --only throughput checkpoint")
    torch.set_num_threads(1)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    print(environment())
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "throughput" in args.only:
            results["throughput"] = throughput(args.rounds, args.images[0])
        if "checkpoint" in args.only:
            results["checkpoint"] = checkpoint(args.rounds, Path(folder))
        if "augmentation" in args.only:
            results["augmentation"] = augmentation(args.data, args.seeds, args.images[1], args.epochs, Path(folder))
    if args.json:
        write_record(args.json, {"results": results})


if __name__ == "__main__":
    main()
