"""Trains an image classifier; the same as `hfvision train classifier`, for `accelerate launch`.

    accelerate launch scripts/train_classifier.py --data fashion_mnist --model cnn:tiny --epochs 5 --out runs/clothes

`scripts/recipes/` has configurations for one CPU, one GPU, eight GPUs and several machines.
"""

import sys

from hfvision.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["train", "classifier", *sys.argv[1:]]))
