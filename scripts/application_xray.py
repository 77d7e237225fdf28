"""Chest X-rays: pneumonia or not, how sure, and why; and the same images at half their size, restored.

    python scripts/application_xray.py --data chest_xray_224/ --out runs/xray

`chest_xray_224/` has train.parquet and test.parquet with grey images, `label` (NORMAL, PNEUMONIA) and `patient`; your
own data may have other classes (`--positive`) and another column of what belongs together (`--group`). No patient is
on two sides of a split. It trains a classifier, with classes weighted by their rarity, calibrates it and chooses its
threshold on validation patients, and says on the test patients: AUROC, sensitivity and specificity with 95 % intervals
by patient, calibration error before and after, and errors among the surest answers. Then it trains a grey upscaler on
the training images and asks the classifier about test images at half their size, made large again by bicubic or by it:
does that help the diagnosis, or the eye alone? What is finished is skipped: after an interruption, the same command
goes on.

`--out` then holds `classifier` (loads with from_pretrained; card, binary.json, roc.png, reliability.png,
abstention.png), `upscaler`, `explained.png` (right and wrong answers with heat maps), `restored.png`, `xray.json` and
`xray.md`. None of it is a medical device.

On paediatric X-rays (Kermany et al. 2018, 224 pixels, split by patient) AUROC is 0.991 and the calibration error 2 %;
the upscaler gains 2.3 dB over bicubic, and the classifier gains nothing from it.

Hardware: one CPU core with bf16. Time: 10 minutes of CPU. Memory: 2 GB. `--quick`: half a minute of CPU, on images
that it draws.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageColumn
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import MemoryImages, PixelReader, prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.data.transforms.resize import downscale, modcrop, resize_bicubic
from hfvision.engine.options import parse_options
from hfvision.hub.loading import load_model
from hfvision.hub.records import read_record_of, validation_settings
from hfvision.inspection.explain import explain_image
from hfvision.metrics.psnr import psnr
from hfvision.metrics.ssim import ssim
from hfvision.models.image_processing_classification import flatten_pil
from hfvision.publishing.cards.write import record_about, write_card
from hfvision.records import write_record
from hfvision.tasks.classification.binary import BinaryTest, evaluate_binary, format_binary, write_binary
from hfvision.tasks.classification.calibrate import calibrate, format_calibration
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.evaluate import predict_logits
from hfvision.tasks.classification.train import train_classifier
from hfvision.tasks.super_resolution.baselines import interpolations, network
from hfvision.tasks.super_resolution.config import SuperResTrainingConfig
from hfvision.tasks.super_resolution.train import train_superres
from hfvision.tasks.super_resolution.upscale import upscale
from hfvision.utils.files import write_text
from hfvision.utils.markdown import markdown_table
from hfvision.utils.plots import image_grid, side_by_side

RECIPES = Path(__file__).with_name("recipes")
SCALE = 2
LIMITS = (
    "Not a medical device: for research and teaching. Its figures are those of patients of one source; other ages, "
    "hospitals, machines and projections were not seen, and it knows no finding but its classes. A heat map shows "
    "what the network used, not what is ill."
)
SUPERRES_LIMITS = (
    "Not a medical device: detail that it restores is likely, not seen. Do not diagnose by it, and keep the original."
)
QUICK = {
    "model": "cnn:tiny",
    "model_fields": None,
    "image_size": 32,
    "epochs": 8,
    "batch_size": 25,
}
QUICK_SUPERRES = {"crop": 8, "epochs": 1, "steps_per_epoch": 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder with train.parquet and test.parquet")
    parser.add_argument("--positive", default="PNEUMONIA", help="class that is looked for (default PNEUMONIA)")
    parser.add_argument("--group", default="patient", help="column of what belongs together (default patient)")
    parser.add_argument("--out", type=Path, default=Path("runs/xray"), help="folder for all that it makes")
    parser.add_argument("--quick", action="store_true", help="a minute on drawn images, to see that all works")
    args = parser.parse_args()
    data = draw_data(args.out / "data") if args.quick else args.data
    if data is None or not (data / "train.parquet").is_file() or not (data / "test.parquet").is_file():
        parser.error(f"--data {data} must be a folder with train.parquet and test.parquet.")

    classifier = args.out / "classifier"
    words = ["--config", str(RECIPES / "xray.yaml"), "--data", str(data), "--validation-group", args.group]
    config = parse_options(
        ClassifierTrainingConfig, [*words, "--out", str(args.out / "trained"), "--resume", "true"], "", ""
    )
    if not finished(config.out):
        train_classifier(dataclasses.replace(config, **(QUICK if args.quick else {})))
    if not finished(classifier):
        calibrate(str(config.out), str(data), classifier, force=True)
    splits = load_image_dataset(data, **validation_settings(str(classifier)))
    figures = judge(classifier, splits, args.positive, data)
    print(format_calibration(read_record_of(str(classifier)).calibration), format_binary(figures), sep="\n")
    explain_some(classifier, splits["test"], figures, args.out / "explained.png")
    make_card(classifier, LIMITS)

    upscaler = args.out / "upscaler"
    words = ["--config", str(RECIPES / "sr_xray.yaml"), "--data", str(data / "train.parquet"), "--out", str(upscaler)]
    config = parse_options(SuperResTrainingConfig, [*words, "--resume", "true"], "", "")
    if not finished(upscaler):
        train_superres(dataclasses.replace(config, **(QUICK_SUPERRES if args.quick else {})))
    rows = compare_sizes(classifier, upscaler, splits["test"], figures, args.out / "restored.png")
    rows["16 bits"] = restore_16_bit(upscaler, splits["test"][0]["image"])
    make_card(upscaler, SUPERRES_LIMITS)
    table = format_table(rows)
    write_record(args.out / "xray.json", {"binary": figures, "sizes": rows})
    write_text(args.out / "xray.md", f"```text\n{format_binary(figures)}\n```\n\n{table}\n")
    print(f"\n{table}\n\nmodels, pictures and figures: {args.out}")


def finished(folder: Path) -> bool:
    return (folder / "record.json").is_file()


def judge(folder: Path, splits: Any, positive: str, data: Path) -> dict[str, Any]:
    """The classifier as a test for one class, on the test patients, with the threshold of the validation patients."""
    model, processor = load_model(str(folder), "image-classification")
    test, validation = splits["test"], splits["validation"]
    figures = evaluate_binary(
        model.float(),
        prepare_images(test, processor),
        processor,
        BinaryTest(positive, validation=prepare_images(validation, processor), groups=test["group"][:]),
        names=test.features["label"].names,
    )
    record = {"model": str(folder), "data": {"source": str(data), "split": "test"}} | figures
    write_binary(record, folder)
    return record


def explain_some(folder: Path, test: Dataset, figures: dict[str, Any], path: Path, each: int = 4) -> None:
    """Test images with heat maps: those that are called right and wrong, of both classes, from all over the split."""
    model, processor = load_model(str(folder), "image-classification")
    positive, names = figures["positive"], test.features["label"].names
    logits, labels = predict_logits(model, prepare_images(test, processor), Normalize.from_processor(processor))
    called = logits.softmax(1)[:, model.config.label2id[positive]] >= figures["operating_point"]["threshold"]
    truth = labels == names.index(positive)
    rows, captions = [], []
    for caption, chosen in {
        f"{positive}, found": truth & called,
        f"{positive}, missed": truth & ~called,
        f"not {positive}, and not called so": ~truth & ~called,
        f"not {positive}, false alarm": ~truth & called,
    }.items():
        found = chosen.nonzero()[:, 0].tolist()
        images = [test[number]["image"] for number in found[:: max(1, len(found) // each)][:each]]
        if images:
            heats = [explain_image(image, model, processor, label=positive).overlay for image in images]
            rows.append([picture for pair in zip(images, heats, strict=True) for picture in pair])
            captions.append(f"{caption}: {len(found):,} images; the heat is what speaks for {positive}")
    image_grid(rows, captions, path, cell=160)


def compare_sizes(
    classifier: Path, upscaler: Path, test: Dataset, figures: dict[str, Any], path: Path
) -> dict[str, dict[str, Any]]:
    """Quality of the test images at half their size made large again, and what the classifier says of them.

    The small images are rounded to 8 bits, and so are those made of them; dB and SSIM leave 2 pixels at each side out.
    """
    model, processor = load_model(str(classifier), "image-classification")
    reader = PixelReader(processor)
    restorer = network("restored", load_model(str(upscaler), "image-super-resolution")[0])
    bicubic = interpolations(SCALE)[0]
    names = ("original", "half the size", "bicubic", "restored")
    quality, pixels = {name: [] for name in names}, {name: [] for name in names}
    for number, row in enumerate(tqdm(test, desc="restoring", unit="image")):
        original = modcrop(pil_to_tensor(flatten_pil(row["image"], "L"))[None] / 255, SCALE)
        small = downscale(original, SCALE)
        images = dict(zip(names, (original, small, bicubic(small), restorer(small)), strict=True))
        for name, image in images.items():
            pixels[name].append(reader.pixels([to_pil_image(image[0])]))
            if name in ("bicubic", "restored"):
                quality[name].append(
                    (psnr(image, original, crop=SCALE).item(), ssim(image, original, crop=SCALE).item())
                )
        if number == 0:
            side_by_side({name: to_pil_image(image[0]) for name, image in images.items()}, path)
    labels, rows = torch.tensor(test["label"][:]), {}
    for name in names:
        answers = evaluate_binary(
            model,
            MemoryImages(torch.cat(pixels[name]), labels, torch.arange(len(labels)), []),
            processor,
            BinaryTest(figures["positive"], figures["operating_point"]["threshold"], groups=test["group"][:]),
            names=test.features["label"].names,
        )
        point = answers["operating_point"]
        rows[name] = {key: answers[key] for key in ("auroc", "auroc_interval")}
        rows[name] |= {key: point[key] for key in ("sensitivity", "specificity")}
        if quality[name]:
            rows[name] |= dict(zip(("psnr", "ssim"), torch.tensor(quality[name]).mean(0).tolist(), strict=True))
    return rows


def restore_16_bit(upscaler: Path, image: Image.Image) -> dict[str, Any]:
    """An image at half its size in 16 bits, restored in 16 bits: dB, and how many grey levels there are."""
    original = modcrop(pil_to_tensor(flatten_pil(image, "L"))[None] / 255, SCALE)
    small = resize_bicubic(original.double(), 1 / SCALE).clamp(0, 1)[0, 0]
    large = upscale(Image.fromarray((65535 * small).round().numpy().astype(np.uint16)), str(upscaler))
    levels = np.asarray(large)
    restored = torch.from_numpy(levels.astype(np.float64) / 65535)[None, None].float()
    return {
        "mode": large.mode,
        "levels": len(np.unique(levels)),
        "psnr": psnr(restored, original, crop=SCALE).item(),
        "bicubic_psnr": psnr(
            resize_bicubic(small[None, None], SCALE).float().clamp(0, 1), original, crop=SCALE
        ).item(),
    }


def format_table(rows: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, row in rows.items():
        if "auroc" in row:
            low, high = row["auroc_interval"]
            quality = [f"{row['psnr']:.2f} dB", f"{row['ssim']:.4f}"] if "psnr" in row else ["", ""]
            shares = [f"{row[key]:.1%}" for key in ("sensitivity", "specificity")]
            lines.append([name, *quality, f"{row['auroc']:.4f} ({low:.4f} to {high:.4f})", *shares])
    table = markdown_table(
        ["test images", "PSNR", "SSIM", "AUROC (95 % interval)", "sensitivity", "specificity"], lines
    )
    half, restored, deep = rows["half the size"], rows["restored"], rows["16 bits"]
    low, high = half["auroc_interval"]
    gain, change = restored["psnr"] - rows["bicubic"]["psnr"], restored["auroc"] - half["auroc"]
    return (
        f"{table}\n\nRestored images have {gain:+.2f} dB over bicubic; from half the size to restored, AUROC "
        f"changes by {change:+.4f}, and its interval is {high - low:.4f} wide.\n\nAn image of 16 bits comes back as "
        f"{deep['mode']} of {deep['levels']:,} grey levels: {deep['psnr']:.2f} dB, "
        f"bicubic {deep['bicubic_psnr']:.2f} dB."
    )


def make_card(folder: Path, limits: str) -> None:
    record_about(folder, limits=limits)
    write_card(folder)


def draw_data(folder: Path) -> Path:
    """Chests of 64 pixels: two dark lungs on light ground, with clouds in them for PNEUMONIA; 1 to 4 a patient."""
    names = ClassLabel(names=["NORMAL", "PNEUMONIA"])
    features = Features({"image": ImageColumn(), "label": names, "patient": Value("string")})
    for split, patients in {"train": 200, "test": 80}.items():
        draw = np.random.default_rng(patients)
        columns: dict[str, list] = {"image": [], "label": [], "patient": []}
        for patient in range(patients):
            label = int(draw.random() < 0.6)
            for _ in range(draw.integers(1, 5)):
                columns["image"].append(draw_chest(draw, label))
                columns["label"].append(label)
                columns["patient"].append(f"{split}{patient}")
        folder.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")
    return folder


def draw_chest(draw: np.random.Generator, label: int) -> Image.Image:
    y, x = np.mgrid[:64, :64]
    chest = np.full((64, 64), 150.0)
    for centre in (20, 44):
        lung = ((x - centre - draw.normal(0, 1.5)) / 9) ** 2 + ((y - 32 - draw.normal(0, 2)) / 20) ** 2 < 1
        chest[lung] -= 80
        if label and draw.random() < 0.9:
            cloud = np.exp(-((x - centre) ** 2 + (y - draw.uniform(20, 46)) ** 2) / draw.uniform(30, 90))
            chest += draw.uniform(30, 90) * cloud * lung
    chest += 8 * np.sin(y / 2.2 + draw.uniform(0, 6)) + draw.normal(0, 5, chest.shape)
    return Image.fromarray((draw.uniform(0.8, 1.2) * chest).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
