"""Measures super-resolution models by the field's protocol, beside interpolations and OpenCV, in one run.

    python scripts/benchmark_superres.py sr-tiny-x2 --data path/to/superres --json record.json

`--data` holds a folder of photographs for each set (Kodak24, Set5, Set14, at any depth; others are skipped). Bicubic
on Set5 is checked against the literature: exit code 1 if it is off by more than 0.03 dB. OpenCV is measured where it
is installed, its networks where `--opencv` names their files. `--pieces 64` measures photographs cut into squares of
64 pixels instead: what a small image gains, as one of 32 pixels enlarged to 64.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from hfvision.data.io.images import read_image
from hfvision.data.io.tree import find_images
from hfvision.hub.loading import load_model
from hfvision.records import environment, write_record
from hfvision.tasks.super_resolution.baselines import interpolations, network
from hfvision.tasks.super_resolution.evaluate import SMALLEST, evaluate_superres, measure_sets
from hfvision.tasks.super_resolution.report import format_superres
from hfvision.utils.markdown import markdown_table

SETS = ("Kodak24", "Set5", "Set14")
BICUBIC_SET5 = {2: 33.66, 3: 30.39, 4: 28.42}
REPORTED = [  # network, PSNR-Y on Set5 and Set14, CPU seconds a megapixel of output, NIQE on Set14
    ["FSRCNN ×2, OpenCV's weights", "34.86 / 31.22", "0.165", ""],
    ["ESPCN ×2, OpenCV's weights", "34.77 / 31.11", "0.138", ""],
    ["FSRCNN ×2, paper", "37.00 / 32.63", "", ""],
    ["IMDN-RTC ×2", "37.32 / 32.98", "0.137", ""],
    ["IMDN ×2", "38.01 / 33.64", "", ""],
    ["IMDN ×3", "34.36 / 30.32", "", ""],
    ["SPAN ×4, 28 channels", "31.73 / 28.40", "0.137", ""],
    ["RLFN ×4", "32.10 / 28.60", "0.213", ""],
    ["IMDN ×4", "32.21 / 28.58", "0.567", ""],
    ["SRResNet ×4, paper", "32.05 / 28.49", "", ""],
    ["SRGAN ×4, paper", "29.40 / 26.02", "", ""],
    ["SRGAN ×4, a public checkpoint", "", "", "5.32"],
    ["originals", "", "", "4.94"],
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="*", help="Hub ids, folders or shipped checkpoints")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pieces", type=int, metavar="PIXELS", help="cut the photographs into squares of this side")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of the quality")
    parser.add_argument("--opencv", nargs="*", type=Path, default=[], help="OpenCV's networks: FSRCNN_x2.pb …")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    found = {path.name: path for path in args.data.rglob("*") if path.name in SETS and path.is_dir()}
    sets = {name: found[name] for name in SETS if name in found}
    if not sets:
        parser.error(f"{args.data} holds none of the folders {', '.join(SETS)}")
    models = {name: load_model(name, "image-super-resolution")[0] for name in args.models}
    if args.pieces is not None:
        smallest = SMALLEST * max((model.config.scale for model in models.values()), default=2)
        if not models or args.pieces < smallest:
            parser.error(f"--pieces needs models, and a side of {smallest} pixels or more; got {args.pieces}")
        with TemporaryDirectory() as folder:
            print(quality_of_pieces(models, sets, args.pieces, Path(folder)))
        return 0
    record = evaluate_superres(models, sets, dtype=args.dtype, scales=tuple(BICUBIC_SET5), opencv=args.opencv)
    print(format_superres(record))
    print("\nReported by others, on other machines:\n")
    print(markdown_table(["network", "PSNR-Y Set5 / Set14", "CPU-s/MP", "NIQE Set14"], REPORTED))
    print(json.dumps(environment()))
    if args.json:
        write_record(args.json, record)
    if "Set5" not in sets:
        return 0
    measured = {scale: record["results"][f"bicubic ×{scale}"]["sets"]["Set5"]["psnr"] for scale in BICUBIC_SET5}
    wrong = [scale for scale, known in BICUBIC_SET5.items() if abs(measured[scale] - known) > 0.03]
    told = ", ".join(f"×{scale} {value:.2f} ({BICUBIC_SET5[scale]:.2f})" for scale, value in measured.items())
    print(f"Protocol {'FAILED' if wrong else 'confirmed'}: bicubic on Set5 in dB, and in the literature: {told}")
    return int(bool(wrong))


def quality_of_pieces(models: dict[str, nn.Module], sets: dict[str, Path], side: int, folder: Path) -> str:
    """A table of the mean PSNR-Y of all whole squares of `side` pixels, which are written to `folder`."""
    cut = {}
    for name, photographs in sets.items():
        cut[name] = folder / name
        cut[name].mkdir()
        for path in find_images(photographs):
            image = read_image(path)
            for top in range(0, image.height - side + 1, side):
                for left in range(0, image.width - side + 1, side):
                    piece = image.crop((left, top, left + side, top + side))
                    piece.save(cut[name] / f"{path.stem}_{top}_{left}.png")
    rows = []
    for scale in sorted({model.config.scale for model in models.values()}):
        networks = [network(name, model, "fp32") for name, model in models.items() if model.config.scale == scale]
        results = measure_sets([*interpolations(scale), *networks], cut)["results"]
        rows += [
            [name, f"{side // scale} → {side}", *(f"{figures[each]['psnr']:.2f}" for each in cut)]
            for name, figures in results.items()
        ]
    counts = [f"{name}: {len(find_images(part)):,} pieces" for name, part in cut.items()]
    return markdown_table(["PSNR-Y in dB", "pixels", *counts], rows)


if __name__ == "__main__":
    sys.exit(main())
