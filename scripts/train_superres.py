"""Trains a super-resolution network on photographs by its pixel loss.

    python scripts/train_superres.py PHOTOS... --preset fast-tiny --scale 2 --steps 10000 --out runs/sr-tiny-x2

PHOTOS are files or folders of images; they are kept decoded in memory. The low-resolution inputs are made as the
field's protocol asks: MATLAB's antialiased bicubic, rounded to 8 bit. The folded network is written with its
processor.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from hfvision import SRGANConfig, SRGANForImageSuperResolution, SRGANImageProcessor
from hfvision.data.crops import RandomCrops
from hfvision.data.degrade import downscale
from hfvision.data.images import find_images, read_image, to_rgb
from hfvision.report import write_record
from hfvision.training.loop import LoopConfig, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--preset", default="fast-tiny")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--crop", type=int, default=48, help="side of the low-resolution crops")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    paths = [path for source in args.photos for path in find_images(source)]
    size = args.crop * args.scale
    photos = [photo for path in tqdm(paths, desc="reading") if min((photo := to_rgb(read_image(path))).size) >= size]
    torch.manual_seed(args.seed)
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset(args.preset, scale=args.scale))
    crops = RandomCrops(photos, size=size, count=args.batch_size * args.steps, seed=args.seed)
    config = LoopConfig(
        epochs=1,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        weight_decay=0.0,
        warmup=0.05,
        seed=args.seed,
    )

    def compute_loss(net, batch, epoch):
        return {"loss": net(downscale(batch["labels"], args.scale), labels=batch["labels"]).loss}

    history = train(model, crops, compute_loss, config, description=args.out.name)
    model.fuse().save_pretrained(args.out)
    SRGANImageProcessor().save_pretrained(args.out)
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    arguments["photos"] = len(photos)
    arguments.pop("out")
    write_record(args.out / "record.json", {"training": arguments, "history": history})


if __name__ == "__main__":
    main()
