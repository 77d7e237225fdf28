"""Measures what int8 gives: speed, size and quality of the shipped CNN, ViT and upscaler, on one thread.

    OMP_NUM_THREADS=1 python scripts/benchmark_compression.py --data CIFAR10 --photos PHOTOS --set5 Set5 --json FILE

Each model is quantized anew for OpenVINO (300 training images of DATA, or crops of PHOTOS), and raced against PyTorch
in fp32, batch 1 and 32, contenders taking turns; speed-up is by processor time. Accuracy is on the test split of DATA,
PSNR-Y on the photographs of Set5. Where `cnn-cifar10-robust` ships, PGD attacks it, and the int8 form gets the same
images: a model without gradients cannot be attacked alone. `--engines` adds PyTorch's and OpenVINO's other forms.

Expected on a CPU with AVX-512 VNNI: 5 times (CNN), 2.8 times (ViT), 3.5 times (upscaler), 3.9 times smaller, at most
0.5 points or 0.1 dB lost.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hfvision.compression.benchmark import benchmark, format_benchmark
from hfvision.compression.quantize import quantize
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.hub.checkpoints import list_checkpoints
from hfvision.hub.loading import load_model
from hfvision.metrics.accuracy import accuracy
from hfvision.records import write_record
from hfvision.robustness.attacks.gradient import pgd
from hfvision.tasks.classification.evaluate import predict_logits

CLASSIFIERS, UPSCALER, ROBUST = ("cnn-cifar10", "vit-cifar10"), "sr-tiny-x2", "cnn-cifar10-robust"


def measure(
    name: str, folder: Path, calibration: list[str], data: str | None, engines: list[str], rounds: int, count: int
) -> dict[str, Any]:
    """Quantize a shipped model, race both, and compare their quality on `data`."""
    int8 = folder / f"{name}-int8"
    step = quantize(name, int8, calibration=calibration)["compression"][-1]
    models = [name, str(int8)]
    record = benchmark(models, engines=["eager", *engines], rounds=rounds)
    if data is not None:
        quality = benchmark(models, data=data, engines=["eager"], rounds=2, batches=[32], count=count)
        for contender, figures in quality["results"].items():
            keys = ("images", "top1", "psnr", "agreement")
            record["results"][contender] |= {key: figures[key] for key in keys if key in figures}
    for contender in list(record["results"]):
        record["results"][contender.replace(str(int8), f"{name}-int8")] = record["results"].pop(contender)
    parent, small = (record["results"][f"{name}{tail}"] for tail in (" · eager", "-int8 · int8"))
    record["summary"] = {
        "speedup": {size: figures["speedup"] for size, figures in small["batches"].items()},
        "smaller": step["bytes"]["before_fp32"] / step["bytes"]["after"],
        **{f"{key}_lost": parent[key] - small[key] for key in ("top1", "psnr") if key in parent},
    }
    return record


def robust(folder: Path, data: str, count: int) -> dict[str, float]:
    """Accuracy of the hardened model and its int8 form on images attacked by PGD of 20 steps, epsilon 8/255."""
    int8 = folder / f"{ROBUST}-int8"
    quantize(ROBUST, int8, calibration=data)
    model, processor = load_model(ROBUST, "image-classification")
    small, _ = load_model(str(int8), "image-classification")
    normalize = Normalize.from_processor(processor)
    images = prepare_images(load_image_dataset(data)["test"].select(range(count)), processor)
    attack = partial(pgd, epsilon="8/255", steps=20, seed=0)
    points = []

    def remembered(victim: Any, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        points.append(attack(victim, pixels, labels))
        return points[-1]

    attacked = accuracy(*predict_logits(model, images, normalize, attack=remembered))
    logits, labels = predict_logits(small, images, normalize, attack=lambda *_: points.pop(0))
    return {"images": count, "parent": attacked, "int8": accuracy(logits, labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="CIFAR-10, for calibration and accuracy")
    parser.add_argument("--photos", nargs="+", required=True, help="photographs to calibrate the upscaler with")
    parser.add_argument("--set5", help="folder of photographs for PSNR")
    parser.add_argument("--engines", nargs="*", default=[], help="others to race: bf16 compile openvino-bf16 onnx")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--images", type=int, default=10_000, help="test images for accuracy")
    parser.add_argument("--only", nargs="*", default=[*CLASSIFIERS, UPSCALER, ROBUST])
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in (*CLASSIFIERS, UPSCALER) if name in args.only]:
            photos = name == UPSCALER
            source, data = (args.photos, args.set5) if photos else ([args.data], args.data)
            record[name] = measure(name, Path(folder), source, data, args.engines, args.rounds, args.images)
            print(f"\n{format_benchmark(record[name])}\n{record[name]['summary']}", flush=True)
        if ROBUST in args.only and ROBUST in list_checkpoints():
            record[ROBUST] = robust(Path(folder), args.data, min(args.images, 1000))
            print(record[ROBUST], flush=True)
    if args.json:
        write_record(args.json, record)


if __name__ == "__main__":
    main()
