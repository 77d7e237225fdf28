"""Cell nuclei: train a segmenter on microscopy, measure Dice and IoU for each kind of image, draw, write the card.

    python scripts/application_nuclei.py --data dsb2018_nuclei/ --out runs/nuclei

`dsb2018_nuclei/` has train and test parquet files with `image`, `mask` (0 and 255), `kind` of microscopy and `group`,
the field of view, which validation does not split. It prints Dice and IoU on the test images, for all and for each
kind, and on one image what transformers' own pipeline finds. `runs/nuclei` then holds the model with record, card
(README.md), `curve.png`, and `masks.png`: the best, the middle and the worst of each kind, true and found. For your
own data, a folder with images/ and masks/ is enough: copy `scripts/recipes/nuclei.yaml`, leave out `by`, `balance` and
`validation_group`, name your classes. After an interruption, the same command goes on.

Hardware: two CPU cores, with bf16 where there is. Time: about eight minutes of one core (23 on one that had nine other
programs beside it). Memory: 2 GB. `--quick`: about 20 seconds of one core, on drawn discs.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from transformers import pipeline

from hfvision.cli.main import main as hfvision
from hfvision.data.datasets.segmentation import load_mask_dataset
from hfvision.engine.options import parse_options
from hfvision.publishing.cards.write import record_about, write_card
from hfvision.tasks.segmentation.config import SegmenterTrainingConfig
from hfvision.tasks.segmentation.train import train_segmenter

RECIPE = Path(__file__).with_name("recipes") / "nuclei.yaml"
LIMITS = (
    "Not a medical device: for research and teaching. Microscopes, stains and magnifications that are not among the "
    "training images were not tried."
)
QUICK = ["--crop", "48", "--batch-size", "8", "--steps-per-epoch", "20", "--epochs", "3"]
SMALL = "{stage_widths: [[[8]], [[16]], [[32]]], stage_strides: [1, 2, 2]}"


def draw_cells(folder: Path, count: int = 24) -> Path:
    """Bright discs on dark noise, of various sizes, as folders of images and masks; the test set for `--quick`."""
    rng = np.random.default_rng(0)
    for split, images in (("train", count), ("test", count // 3)):
        for number in range(images):
            size = tuple(int(side) for side in rng.integers(50, 90, 2))
            mask = Image.new("L", size)
            for x, y, radius in rng.integers((0, 0, 5), (*size, 12), (5, 3)).tolist():
                ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
            light = np.asarray(mask.filter(ImageFilter.GaussianBlur(1))) * 0.6 + rng.normal(40, 20, size[::-1])
            for part, picture in (("images", Image.fromarray(light.clip(0, 255).astype(np.uint8))), ("masks", mask)):
                (folder / split / part).mkdir(parents=True, exist_ok=True)
                picture.save(folder / split / part / f"{number}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="dsb2018_nuclei", help="folder of parquet files, or Hub id")
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei"), help="folder for the model and its figures")
    parser.add_argument("--quick", action="store_true", help="a small network on drawn discs")
    args = parser.parse_args()
    words = ["--config", str(RECIPE), "--data", args.data, "--out", str(args.out)]
    about = {
        "name": "Data Science Bowl 2018 nuclei",
        "source": "Broad Bioimage Benchmark Collection",
        "licence": "CC0",
    }
    by = ["--by", "kind"]
    if args.quick:
        data = str(draw_cells(args.out / "data"))
        words = ["--data", data, "--out", str(args.out), "--classes", "background", "nucleus", "--turn", "true"]
        words += ["--model-fields", SMALL, *QUICK]
        about, by = {"name": "drawn discs"}, []

    config = parse_options(SegmenterTrainingConfig, [*words, "--resume", "true"], "application_nuclei", "")
    train_segmenter(config)
    evaluate = ["evaluate", "segmenter", str(args.out), "--data", config.data, "--tta", "turn", *by]
    hfvision([*evaluate, "--out", str(args.out), "--force"])
    record_about(args.out, data=about, limits=LIMITS)
    write_card(args.out)

    photo = load_mask_dataset(config.data)["test"][0]["image"]
    parts = pipeline("image-segmentation", model=str(args.out))(photo)
    shares = {part["label"]: np.asarray(part["mask"]).mean() / 255 for part in parts}
    print("transformers' pipeline, first test image:", {label: f"{share:.1%}" for label, share in shares.items()})


if __name__ == "__main__":
    main()
