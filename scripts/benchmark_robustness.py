"""Measures robustness: accuracy under attack, the strength and speed of attacks, the cost of adversarial training.

    OMP_NUM_THREADS=1 python scripts/benchmark_robustness.py --data path/to/cifar10 --json record.json

The figures of the README are of CIFAR-10 re-encoded as JPEG, which does not compare to the last point with published
figures. L∞, epsilon 8/255.

- accuracy: the shipped `cnn-cifar10` and `cnn-cifar10-robust` on the first 1,000 test images: clean, and under
  `worst_case` (APGD on cross-entropy, APGD on the targeted DLR loss with nine targets, 100 steps each, and Square with
  5,000 queries, each on what is left: AutoAttack of Croce and Hein 2020 without FAB), in float32.
- strength: the robust model on 200 test images under the same attack by this package, by torchattacks and by Foolbox,
  with the same epsilon, steps and step size: accuracy left (lower is stronger) and images a CPU second, medians over
  `--rounds`; contenders take turns. PGD of 20 steps; APGD of 50 gradients on cross-entropy and Square with 500 queries
  against torchattacks'. What is not installed is left out: pip install foolbox, pip install --no-deps torchattacks.
- cost: CPU seconds of a training step on attacked images over those of a plain one: 200 images of noise, the preset
  `cifar`, bf16 where the hardware has it, medians over `--rounds`, methods taking turns. Needs no `--data`.

Expected: a standard model falls below 1 %; the same strength at the same budget; N-FGSM costs at most 2.2 plain steps,
PGD of k steps at most k + 1.3.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor

from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.engine.accelerator import make_accelerator
from hfvision.hub.checkpoints import list_checkpoints
from hfvision.hub.loading import load_model
from hfvision.metrics.accuracy import wilson_interval
from hfvision.models.cnn.configuration_cnn import CNNConfig
from hfvision.models.cnn.modeling_cnn import CNNForImageClassification
from hfvision.records import environment, write_record
from hfvision.robustness.attacks.apgd import apgd
from hfvision.robustness.attacks.gradient import pgd
from hfvision.robustness.attacks.square import square
from hfvision.robustness.attacks.threat import PixelClassifier
from hfvision.robustness.attacks.worst_case import worst_case
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.train import ClassifierLoss, make_adversary
from hfvision.tasks.start import default_processor
from hfvision.utils.markdown import markdown_table

EPSILON = 8 / 255
STANDARD, ROBUST = "cnn-cifar10", "cnn-cifar10-robust"
STEPS, QUERIES, GRADIENTS = 20, 500, 50


def load(name: str, data: Path, count: int) -> tuple[PixelClassifier, Tensor, Tensor]:
    """A shipped model, and the first test images, float32 (N, C, H, W) in [0, 1], with their labels."""
    model, processor = load_model(name, "image-classification")
    split = load_image_dataset(str(data))["test"]
    images = prepare_images(split.select(range(count)), processor, num_proc=0)
    batch = images.__getitems__(list(range(count)))
    victim = PixelClassifier.from_processor(model.float().to(memory_format=torch.channels_last), processor)
    return victim, batch["images"].float() / 255, batch["labels"]


def accuracy(data: Path, count: int) -> dict[str, Any]:
    results = {}
    for name in [name for name in (STANDARD, ROBUST) if name in list_checkpoints()]:
        victim, images, labels = load(name, data, count)
        start = time.process_time()
        told = partial(print, f"{name}:", flush=True)
        outcome = worst_case(victim, images, labels, EPSILON, progress=told)
        columns = {"clean": outcome.clean} | outcome.by_attack
        shares = {column: right.double().mean().item() for column, right in columns.items()}
        results[name] = {
            "accuracy": shares,
            "interval": wilson_interval(shares[list(shares)[-1]], count),
            "cpu_seconds": time.process_time() - start,
        }
    columns = list(next(iter(results.values()))["accuracy"])
    rows = [
        [
            name,
            *(f"{entry['accuracy'][column]:.1%}" for column in columns),
            "{:.1%} to {:.1%}".format(*entry["interval"]),
        ]
        for name, entry in results.items()
    ]
    heads = ["clean", *(f"after {column}" for column in columns[1:])]
    print(markdown_table([f"first {count} test images", *heads, "95 % interval"], rows))
    return results


def contenders(victim: PixelClassifier) -> dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]]:
    """For each attack, by package, a function from images and labels to attacked images."""
    step_size = 2.5 * EPSILON / STEPS
    # Their PGD takes every step with every image, which this package's does with until_fooled=False.
    attacks = {
        "PGD": {
            "hfvision": partial(pgd, victim, epsilon=EPSILON, steps=STEPS, step_size=step_size),
            "hfvision, every step": partial(
                pgd, victim, epsilon=EPSILON, steps=STEPS, step_size=step_size, until_fooled=False
            ),
        },
        "APGD": {"hfvision": partial(apgd, victim, epsilon=EPSILON, steps=GRADIENTS)},
        "Square": {"hfvision": partial(square, victim, epsilon=EPSILON, queries=QUERIES)},
    }
    if importlib.util.find_spec("torchattacks"):
        import torchattacks

        attacks["PGD"]["torchattacks"] = torchattacks.PGD(victim, eps=EPSILON, alpha=step_size, steps=STEPS)
        attacks["APGD"]["torchattacks"] = torchattacks.APGD(victim, eps=EPSILON, steps=GRADIENTS)
        attacks["Square"]["torchattacks"] = torchattacks.Square(victim, eps=EPSILON, n_queries=QUERIES)
    if importlib.util.find_spec("foolbox"):
        import foolbox

        target = foolbox.PyTorchModel(victim, bounds=(0, 1))
        attack = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=step_size)
        attacks["PGD"]["foolbox"] = lambda images, labels: attack(target, images, labels, epsilons=EPSILON)[1]
    return attacks


def strength(data: Path, rounds: int, count: int) -> dict[str, Any]:
    victim, images, labels = load(ROBUST if ROBUST in list_checkpoints() else STANDARD, data, count)
    victim.eval().requires_grad_(False)
    results: dict[str, Any] = {}
    for attack, packages in contenders(victim).items():
        entries = {package: {"accuracy": [], "images_per_cpu_second": []} for package in packages}
        for number in range(rounds):
            order = list(packages)
            for package in order[number % len(order) :] + order[: number % len(order)]:
                torch.manual_seed(number)
                seed = {"seed": number} if package.startswith("hfvision") else {}
                start = time.process_time()
                points = packages[package](images, labels, **seed)
                seconds = time.process_time() - start
                with torch.no_grad():
                    left = (victim(points.detach()).argmax(1) == labels).double().mean().item()
                assert (points - images).abs().max() <= EPSILON + 1e-6
                entries[package]["accuracy"].append(left)
                entries[package]["images_per_cpu_second"].append(count / seconds)
                print(f"{attack}, round {number + 1}: {package} leaves {left:.1%}, {seconds:.1f} s", flush=True)
        results[attack] = entries
    rows = [
        [attack, package, f"{median(entry['accuracy']):.1%}", f"{median(entry['images_per_cpu_second']):.1f}"]
        for attack, entries in results.items()
        for package, entry in entries.items()
    ]
    print(markdown_table(["attack", "by", f"accuracy left of {count}", "images per CPU second"], rows))
    return results


def cost(rounds: int, batch_size: int = 200) -> dict[str, Any]:
    """CPU seconds of one step, forward and backward of attack and loss, without the optimizer."""
    set_seed(0)
    model = CNNForImageClassification(CNNConfig.from_preset("cifar", num_labels=10))
    normalize = Normalize.from_processor(default_processor(model.config))
    net = make_accelerator(ClassifierTrainingConfig(data="noise")).prepare(model.to(memory_format=torch.channels_last))
    batch = {
        "images": torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8),
        "labels": torch.arange(batch_size) % 10,
        "index": torch.arange(batch_size),
    }
    methods = {
        "plain": {},
        "fast (N-FGSM)": {"adversarial": "fast"},
        **{f"PGD, {steps} steps": {"adversarial": "pgd", "attack_steps": steps} for steps in (2, 10)},
        "TRADES, 10 steps": {"adversarial": "trades"},
        "fast (N-FGSM) and AWP": {"adversarial": "fast", "awp": 0.005},
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, options in methods.items():
            config = ClassifierTrainingConfig(data="noise", **options)
            compute_loss = ClassifierLoss(config, normalize, 10, adversary=make_adversary(config, normalize))
            net.train()
            start = time.process_time()
            compute_loss(net, batch, number)["loss"].backward()
            net.zero_grad()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    rows = [[name, f"{value:.3f}", f"{value / medians['plain']:.2f}"] for name, value in medians.items()]
    print(markdown_table([f"training step of {batch_size} images", "CPU seconds", "plain steps"], rows))
    return {"cpu_seconds": seconds, "median": medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parts = ["accuracy", "strength", "cost"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as parquet files with a test split")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, nargs=2, default=[1000, 200], help="of accuracy and of strength")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if set(args.only) != {"cost"} and args.data is None:
        parser.error("accuracy and strength need --data; without it: --only cost")
    torch.set_num_threads(1)
    print(environment())
    results: dict[str, Any] = {}
    if "accuracy" in args.only:
        results["accuracy"] = accuracy(args.data, args.images[0])
    if "strength" in args.only:
        results["strength"] = strength(args.data, args.rounds, args.images[1])
    if "cost" in args.only:
        results["cost"] = cost(args.rounds)
    if args.json:
        write_record(args.json, {"results": results})


if __name__ == "__main__":
    main()
