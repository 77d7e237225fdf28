"""PSNR gained over bicubic at ×4 by shares of sr-photo-x4 in sr-light-x4, for JPEGs of several qualities and noise.

    python scripts/benchmark_denoise.py --data path/to/Kodak24

The shares that `hfvision upscale` takes by itself are chosen by this table. The middle 384×384 pixels of every second
photograph are made smaller by MATLAB's bicubic, then compressed (4:2:0) or given Gaussian noise of a fixed seed.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from hfvision.data.io.tree import find_images
from hfvision.data.transforms.resize import downscale, quantize_8bit, resize_bicubic, through_jpeg
from hfvision.hub.loading import load_model
from hfvision.metrics.psnr import psnr
from hfvision.tasks.super_resolution.blend import blend
from hfvision.tasks.super_resolution.evaluate import read_original
from hfvision.utils.markdown import markdown_table

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
QUALITIES = (95, 90, 85, 75, 60, 40)
SIGMAS = (2, 4, 8)
SIDE = 384


def damaged(small: Tensor) -> dict[str, Tensor]:
    """A small image (1, 3, H, W) as it is, and with each kind of damage."""
    found = {"none": small}
    pixels = (small[0] * 255).round().to(torch.uint8)
    found |= {f"JPEG {quality}": through_jpeg(pixels, quality)[None] / 255 for quality in QUALITIES}
    noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(0))
    return found | {f"noise {sigma}": quantize_8bit((small + sigma / 255 * noise).clamp(0, 1)) for sigma in SIGMAS}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    args = parser.parse_args()
    clean: Any = load_model("sr-light-x4").model
    photo: Any = load_model("sr-photo-x4").model
    networks = {share: blend(clean.float(), photo.float(), share) for share in SHARES}
    gains: dict[str, dict[float, list[float]]] = {}
    for path in find_images(args.data)[::2]:
        original = center_crop(read_original(path, 4), [SIDE, SIDE])
        for kind, small in damaged(downscale(original, 4)).items():
            least = psnr(quantize_8bit(resize_bicubic(small, 4)), original, crop=4).item()
            for share, network in networks.items():
                quality = psnr(quantize_8bit(network.reconstruct(small)), original, crop=4).item()
                gains.setdefault(kind, {}).setdefault(share, []).append(quality - least)
    rows = [[kind, *(f"{statistics.fmean(row[share]):+.2f}" for share in SHARES)] for kind, row in gains.items()]
    print(markdown_table(["dB over bicubic, by share", *(f"{share:g}" for share in SHARES)], rows))


if __name__ == "__main__":
    main()
