"""Measures super-resolution models by the field's protocol, beside bicubic, in one run.

    python scripts/benchmark_superres.py sr-tiny-x2 --data path/to/superres --json record.json

`--data` holds a folder of photographs for each set (Set5, Set14, Kodak24; others are skipped). PSNR and SSIM are on
Y, `scale` pixels cropped at each side; low-resolution images are made by MATLAB's bicubic and rounded to 8 bit, and
results are rounded to 8 bit too. Set14's one single-channel file, the bridge, is compared as it is. CPU seconds are
measured on one thread in fp32 for an output of 512×512 pixels: the median of 5 runs after one that warms up.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from hfvision.data.degrade import downscale, modcrop, quantize_8bit, resize_bicubic
from hfvision.data.images import find_images, read_image
from hfvision.loading import load_model
from hfvision.metrics.psnr import psnr
from hfvision.metrics.ssim import ssim
from hfvision.report import environment, markdown_table, write_record

SETS = ("Kodak24", "Set5", "Set14")
SINGLE_CHANNEL = {("Set14", "img_003")}


@torch.inference_mode()
def measure(upscale, name: str, paths: list[Path], scale: int) -> dict[str, float]:
    scores = {"psnr": [], "ssim": []}
    for path in tqdm(paths, desc=name, leave=False):
        original = modcrop(pil_to_tensor(read_image(path).convert("RGB"))[None].float() / 255, scale)
        restored = quantize_8bit(upscale(downscale(original, scale)))
        if (name, path.stem) in SINGLE_CHANNEL:
            restored, original = restored.mean(1, keepdim=True), original[:, :1]
        scores["psnr"].append(psnr(restored, original, crop=scale).item())
        scores["ssim"].append(ssim(restored, original, crop=scale).item())
    return {metric: round(statistics.mean(values), 4) for metric, values in scores.items()}


@torch.inference_mode()
def cpu_seconds_per_megapixel(upscale, scale: int) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pixel_values = torch.rand(1, 3, 512 // scale, 512 // scale)
    runs = []
    for _ in range(6):
        start = time.process_time()
        upscale(pixel_values)
        runs.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return round(statistics.median(runs[1:]) / (pixel_values[0, 0].numel() * scale**2 / 1e6), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", help="Hub ids, folders or shipped checkpoints")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    folders = {path.name: find_images(path) for path in sorted(args.data.rglob("*")) if path.name in SETS}
    folders = {name: folders[name] for name in SETS if name in folders}
    if not folders:
        raise SystemExit(f"{args.data} holds none of the folders {', '.join(SETS)}.")
    results, rows = {}, []
    for name in args.models:
        model, _ = load_model(name, "image-super-resolution")
        scale = model.config.scale
        upscalers = {
            f"bicubic ×{scale}": lambda x, scale=scale: resize_bicubic(x, scale),
            Path(name).name: lambda x, model=model: model(x).reconstruction,
        }
        for label, upscale in upscalers.items():
            figures = {name: measure(upscale, name, paths, scale) for name, paths in folders.items()}
            seconds = cpu_seconds_per_megapixel(upscale, scale)
            results[label] = {"scale": scale, "sets": figures, "cpu_seconds_per_megapixel_fp32": seconds}
            cells = [f"{figures[name]['psnr']:.2f} / {figures[name]['ssim']:.4f}" for name in folders]
            rows.append([label, *cells, f"{seconds:.3f}"])
    print(markdown_table(["PSNR-Y / SSIM", *folders, "CPU-s/MP"], rows))
    print(json.dumps(environment()))
    if args.json:
        write_record(args.json, {"results": results})


if __name__ == "__main__":
    main()
