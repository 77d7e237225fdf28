"""What compression leaves of the shipped ImageNet classifier: size, time, and which first guesses stay the same.

    python scripts/benchmark_imagenet.py --sample SAMPLE.parquet --out runs/imagenet-compression

SAMPLE has the columns `image` and `label`, a class number of ImageNet-1k. Compared with `imagenet-lite0` in fp32 are
its folded form, `imagenet-lite0-int8`, and networks pruned by the magnitude of their weights to a part of the
parameters, not trained after it: with so few images ImageNet's classes cannot be learned again, and
`hfvision prune imagenet-lite0 --data …` trains on data of your own. int8 is compared on the images that it was not
calibrated on. Times are CPU milliseconds of an image on one thread, the median of several runs.

Hardware: one CPU core. Time: 5 minutes.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import torch
from ship_imagenet import SEED, class_names, read_sample
from torch import Tensor

from hfvision import checkpoint, fold, load_model
from hfvision.compression.prune import magnitude_importance, prune
from hfvision.data.datasets.prepare import prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.records import write_record
from hfvision.tasks.classification.evaluate import predict_logits
from hfvision.utils.files import write_text
from hfvision.utils.markdown import markdown_table

NAME = "imagenet-lite0"
BATCHES = (1, 32)
PARTS = (0.95, 0.8)  # of the parameters that pruning leaves
RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sample", type=Path, required=True, help="parquet file of ImageNet photographs")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet-compression"))
    parser.add_argument("--images", type=int, default=200, help="of the sample to compare on (default 200)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sample = read_sample(args.sample, class_names()).shuffle(seed=SEED)
    held_out = sample.select(range(max(len(sample) // 2, len(sample) - args.images), len(sample)))
    record = measure(held_out)
    table = format_table(record)
    write_record(args.out / "benchmark.json", record)
    write_text(args.out / "benchmark.md", table + "\n")
    print(table)


def measure(sample: datasets.Dataset) -> dict[str, Any]:
    parent, processor = load_model(NAME, "image-classification")
    images, normalize = prepare_images(sample, processor), Normalize.from_processor(processor)
    models = {f"{NAME}, fp32": parent, "folded": fold(parent)}
    models["int8, OpenVINO"] = load_model(f"{NAME}-int8", "image-classification")[0]
    importance = magnitude_importance(parent)
    models |= {f"pruned to {part:.0%}, not trained": prune(parent, importance, part).model for part in PARTS}
    results, first = {}, None
    for name, model in models.items():
        logits, labels = predict_logits(model, images, normalize)
        answers = logits.argmax(1)
        first = answers if first is None else first
        results[name] = {
            "bytes": size_of(model),
            "parameters": model.num_parameters() if hasattr(model, "num_parameters") else None,
            "milliseconds": {str(batch): milliseconds(model, batch) for batch in BATCHES},
            "agreement": (answers == first).float().mean().item(),
            "top1": (answers == labels).float().mean().item(),
        }
    return {"images": len(sample), "threads": torch.get_num_threads(), "results": results}


def size_of(model: Any) -> int:
    """Bytes of the weights as they ship: fp16 for PyTorch models, OpenVINO's files for the others."""
    if isinstance(model, torch.nn.Module) and list(model.parameters()):
        return sum(2 * tensor.numel() for tensor in model.state_dict().values() if tensor.is_floating_point())
    folder = Path(checkpoint(f"{NAME}-int8"))
    return sum(path.stat().st_size for path in folder.glob("openvino_model.*"))


@torch.inference_mode()
def milliseconds(model: Any, batch: int) -> float:
    """CPU time of an image in batches of `batch`, the median of several runs after a first one."""
    images: Tensor = torch.rand(batch, 3, 224, 224)
    times = []
    for _ in range(1 + RUNS):
        start = time.process_time()
        model(pixel_values=images)
        times.append(1000 * (time.process_time() - start) / batch)
    return median(times[1:])


def format_table(record: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{row['bytes'] / 1e6:.2f} MB",
            *(f"{row['milliseconds'][str(batch)]:.1f}" for batch in BATCHES),
            f"{row['agreement']:.1%}",
            f"{row['top1']:.1%}",
        ]
        for name, row in record["results"].items()
    ]
    columns = [f"{record['images']} images", "size", *(f"CPU ms, batch {batch}" for batch in BATCHES)]
    return markdown_table([*columns, "same first guess", "right"], rows)


if __name__ == "__main__":
    main()
