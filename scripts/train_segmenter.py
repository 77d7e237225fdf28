"""Trains a segmenter; the same as `hfvision train segmenter`, for `accelerate launch`.

    accelerate launch scripts/train_segmenter.py --data cells/ --classes background cell --turn true --out runs/cells

`cells/` has the folders images/ and masks/. `scripts/recipes/nuclei.yaml` is a recipe.
"""

import sys

from hfvision.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["train", "segmenter", *sys.argv[1:]]))
