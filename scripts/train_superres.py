"""Trains a super-resolution network, by pixels or, from such weights, as a GAN; the same as `hfvision train superres`.

    accelerate launch scripts/train_superres.py --data photos/ --model fast-light --scale 4 --out runs/upscaler

`--config FILE` reads options from YAML, as those of `scripts/recipes`; `--help` explains them.
"""

import sys

from hfvision.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["train", "superres", *sys.argv[1:]]))
