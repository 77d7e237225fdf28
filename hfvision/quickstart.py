"""`hfvision quickstart`: a pretrained classifier in use; a classifier, hardened and made small, and an upscaler from
training to use; all on the data that ships."""

import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoModelForImageToImage, pipeline

from .compression.benchmark import benchmark
from .compression.config import ClassifierPruneConfig
from .compression.quantize import quantize
from .compression.recipe import prune_and_train
from .data.datasets.prepare import prepare_images
from .data.datasets.samples import sample_dataset, sample_photos
from .data.io.images import read_image
from .data.transforms.normalize import Normalize
from .data.transforms.resize import downscale, modcrop, resize_bicubic
from .hub.checkpoints import DEFAULT_CLASSIFIER, checkpoint
from .metrics.accuracy import accuracy
from .metrics.psnr import psnr
from .records import write_record
from .robustness.attacks.gradient import pgd
from .robustness.attacks.threat import PixelClassifier
from .robustness.pictures import attack_grid
from .tasks.classification.confidence import is_low, recorded_threshold
from .tasks.classification.config import ClassifierTrainingConfig
from .tasks.classification.evaluate import predict_logits
from .tasks.classification.train import train_classifier
from .tasks.super_resolution.config import SuperResTrainingConfig
from .tasks.super_resolution.train import train_superres
from .tasks.super_resolution.upscale import load_upscaler, save_image, upscale
from .utils.files import check_folder, read_json, remove_model, write_text
from .utils.markdown import markdown_table
from .utils.plots import prediction_grid, side_by_side

SCALE = 2
HELD_OUT_PHOTO = "cat"
SHIPPED = "sr-tiny-x2"
EPSILON = "0.1"
ATTACKED = 500  # test images that are attacked
KEPT = 0.187  # of the parameters
TRAINING = {"data": "fashion_mnist", "batch_size": 64, "weight_decay": 0.05, "augment": "none"}
COMMAND = "hfvision quickstart"
MODELS = ("classifier", "hardened", "pruned", "pruned-int8", "upscaler")
FILES = ("record.json", "report.md", "predictions.png", "sample.png", "attack.png", "upscaler.png", "cat_x2.png")
CROP = (120, 60, 280, 180)  # left, top, right, bottom of the compared detail: the cat's eyes


def run_quickstart(
    out: Path,
    seed: int = 0,
    epochs: int = 10,
    hardening_epochs: int = 3,
    compression_epochs: int = 2,
    steps: int = 1200,
    force: bool = False,
) -> dict[str, Any]:
    """Train, evaluate, save, reload and use the models; write them with a record, a report and pictures.

    Args:
        out: folder to write.
        seed: of everything random.
        epochs: of the classifier's training.
        hardening_epochs: of its training on attacked images.
        compression_epochs: of the training of what pruning left.
        steps: of the upscaler's training.
        force: replace an earlier quickstart in `out`; other files stay.

    Returns:
        The record that is written to `record.json`.

    Raises:
        ValueError: if `out` holds files of something else, or, without `force`, an earlier quickstart.
        OSError: if `out` cannot be written to.
    """
    claim_folder(out, force)
    start = time.perf_counter()
    record: dict[str, Any] = {"command": f"{COMMAND} --seed {seed}", "seed": seed}
    write_record(out / "record.json", record)
    record["photographs"] = run_pretrained()
    record["classifier"] = run_classifier(out, seed, epochs)
    record["hardening"] = run_hardening(out, seed, hardening_epochs)
    record["compression"] = run_compression(out, seed, compression_epochs)
    record["upscaler"] = run_upscaler(out, seed, steps)
    record["seconds"] = round(time.perf_counter() - start, 1)
    write_record(out / "record.json", record)
    write_text(out / "report.md", format_report(record))
    print(f"\nDone in {record['seconds']:.0f} s: see {out / 'report.md'}. Try next:\n")
    print(f"  hfvision classify {out / 'sample.png'} --model {out / 'classifier'}")
    print("  hfvision classify YOUR_PHOTO.jpg")
    print("  hfvision upscale YOUR_PHOTO.jpg")
    print(f"  hfvision info {out / 'classifier'} --graph {out / 'graph.svg'}")
    return record


def claim_folder(out: Path, force: bool) -> None:
    """Check that `out` holds no files by these names but those of an earlier quickstart, and remove its models.

    Raises:
        ValueError: for files of anything else, or, without `force`, of an earlier quickstart.
        OSError: if the folder cannot be written to.
    """
    check_folder(out)
    there = [name for name in (*MODELS, *FILES) if (out / name).exists()]
    if not there:
        return
    if not str(read_json(out / "record.json").get("command")).startswith(COMMAND):
        raise ValueError(f"{out / there[0]} exists and is not of a quickstart: choose another --out.")
    if not force:
        raise ValueError(f"{out} holds a quickstart already: use --force to replace it, or choose another --out.")
    for name in MODELS:
        remove_model(out / name)


def run_pretrained() -> dict[str, Any]:
    paths = sample_photos()
    print(f"1/7  Say what is in {len(paths)} photographs, by {DEFAULT_CLASSIFIER}, which knows 1,000 classes")
    classify = pipeline("image-classification", model=checkpoint(DEFAULT_CLASSIFIER))
    answers = {name: classify(read_image(path), top_k=1)[0] for name, path in paths.items()}
    threshold = recorded_threshold(DEFAULT_CLASSIFIER)
    said = []
    for name, answer in answers.items():
        answer["low_confidence"] = is_low(answer["score"], threshold)
        doubt = " (low confidence)" if answer["low_confidence"] else ""
        said.append(f"{name}: {answer['label'].split(',')[0]} {answer['score']:.0%}{doubt}")
    for start in range(0, len(said), 3):
        print(f"     {'; '.join(said[start : start + 3])}")
    return {"model": DEFAULT_CLASSIFIER, "answers": answers}


def run_classifier(out: Path, seed: int, epochs: int) -> dict[str, Any]:
    print("2/7  Train a CNN on 6,000 images of clothes (Fashion-MNIST)")
    folder = out / "classifier"
    config = ClassifierTrainingConfig(
        **TRAINING,
        model="cnn:textbook",
        num_channels=1,
        epochs=epochs,
        learning_rate=2e-3,
        model_fields="{classifier_dropout: 0.3}",
        seed=seed,
        out=folder,
    )
    trained = train_classifier(config)
    share, parameters = trained["test"]["top1"], trained["training"]["parameters"]
    print(f"     {share:.1%} of 1,000 test images are right; {parameters:,} parameters")

    print("3/7  Load it with AutoModelForImageClassification, classify the test images again")
    data = sample_dataset("fashion_mnist")["test"]
    labels = torch.tensor(data["label"][:])
    model = AutoModelForImageClassification.from_pretrained(folder)
    inputs = AutoImageProcessor.from_pretrained(folder)(data["image"][:], return_tensors="pt")
    with torch.inference_mode():
        logits = torch.cat([model(batch).logits for batch in inputs["pixel_values"].split(250)])
    again = accuracy(logits, labels)
    if again != share:
        raise RuntimeError(
            f"The model in {folder} was right on {share:.1%} before it was saved, on {again:.1%} after."
        )
    print(f"     The same {again:.1%}: {folder}")

    shown = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:24].tolist()
    images = [data[index]["image"] for index in shown]
    captions = [model.config.id2label[index] for index in logits[shown].argmax(-1).tolist()]
    correct = [bool(labels[index] == logits[index].argmax()) for index in shown]
    prediction_grid(images, captions, correct, out / "predictions.png")
    images[0].save(out / "sample.png")
    return {
        "data": {"name": "Fashion-MNIST, a subset", "fingerprint": trained["training"]["data"]["fingerprint"]},
        "train_images": trained["training"]["data"]["images"],
        "test_images": len(data),
        "parameters": parameters,
        "accuracy": share,
        "accuracy_after_reload": again,
        "history": trained["training"]["history"],
    }


def run_hardening(out: Path, seed: int, epochs: int) -> dict[str, Any]:
    print(f"4/7  Harden it: {epochs} more epochs, on attacked images (pixels changed by up to {EPSILON})")
    folders = {"standard": out / "classifier", "hardened": out / "hardened"}
    config = ClassifierTrainingConfig(
        **TRAINING,
        model=str(folders["standard"]),
        adversarial="fast",
        epsilon=EPSILON,
        robust_images=200,
        epochs=epochs,
        learning_rate=1e-3,
        seed=seed,
        out=folders["hardened"],
    )
    trained = train_classifier(config)
    attack = partial(pgd, epsilon=EPSILON, steps=20, seed=seed)
    processor = AutoImageProcessor.from_pretrained(folders["hardened"])
    images = prepare_images(sample_dataset("fashion_mnist")["test"].select(range(ATTACKED)), processor)
    normalize = Normalize.from_processor(processor)
    victims, figures = {}, {}
    for name, folder in folders.items():
        model = AutoModelForImageClassification.from_pretrained(folder)
        clean, attacked = (predict_logits(model, images, normalize, attack=each) for each in (None, attack))
        figures[name] = {"clean": accuracy(*clean), "attacked": accuracy(*attacked)}
        victims[name] = PixelClassifier(model, normalize)
        print(f"     {name}: {figures[name]['clean']:.1%} right, {figures[name]['attacked']:.1%} under attack")
    some = images.__getitems__(list(range(5)))
    pixels, labels, names = some["images"].float() / 255, some["labels"], trained["training"]["data"]["classes"]
    attack_grid(
        pixels,
        [names[label] for label in labels],
        {name: attack(victim, pixels, labels) for name, victim in victims.items()},
        victims,
        dict.fromkeys(victims, names),
        out / "attack.png",
    )
    return {"epsilon": EPSILON, "attack": "PGD of 20 steps", "test_images": ATTACKED, "accuracy": figures}


def run_compression(out: Path, seed: int, epochs: int) -> dict[str, Any]:
    int8 = find_spec("nncf") is not None
    print(f"5/7  Make it small: keep {KEPT:.1%} of the parameters, {epochs} more epochs{', 8 bits' if int8 else ''}")
    folders = {"classifier": out / "classifier", "pruned": out / "pruned", "pruned, int8": out / "pruned-int8"}
    config = ClassifierPruneConfig(
        **TRAINING,
        model=str(folders["classifier"]),
        target_params=KEPT,
        epochs=epochs,
        learning_rate=1e-3,
        seed=seed,
        out=folders["pruned"],
    )
    prune_and_train(config)
    if int8:
        quantize(str(folders["pruned"]), folders["pruned, int8"], calibration="fashion_mnist", seed=seed, force=True)
    else:
        del folders["pruned, int8"]
        print("     For 8 bits too: pip install 'hfvision[openvino]'")
    measured = benchmark([str(folder) for folder in folders.values()], data="fashion_mnist", engines=["eager"])
    figures = {}
    for name, row in zip(folders, measured["results"].values(), strict=True):
        kept = {key: row[key] for key in ("parameters", "bytes", "top1", "batches") if key in row}
        speedup, size = row["batches"]["1"]["speedup"], row["bytes"] / 1e6
        figures[name] = kept | {"speedup": speedup}
        print(f"     {name}: {row['top1']:.1%} right, {size:.2f} MB, {speedup:.1f} times as fast")
    return {"kept": KEPT, "threads": measured["threads"], "models": figures}


def run_upscaler(out: Path, seed: int, steps: int) -> dict[str, Any]:
    paths = sample_photos()
    print(f"6/7  Train a ×{SCALE} upscaler on crops of {len(paths) - 1} photographs")
    folder = out / "upscaler"
    config = SuperResTrainingConfig(
        data=[str(path) for name, path in paths.items() if name != HELD_OUT_PHOTO],
        validation=0.2,
        model="fast-tiny",
        scale=SCALE,
        epochs=1,
        steps_per_epoch=steps,
        learning_rate=2e-3,
        warmup=0.1,
        ema=0.0,
        seed=seed,
        out=folder,
    )
    trained = train_superres(config)
    photo = read_image(paths[HELD_OUT_PHOTO])
    original = modcrop(pil_to_tensor(photo.convert("RGB"))[None].float() / 255, SCALE)
    small = downscale(original, SCALE)
    enlarged = {"bicubic": resize_bicubic(small, SCALE).clamp(0, 1)}
    for name, model in {"this upscaler": str(folder), f"shipped {SHIPPED}": checkpoint(SHIPPED)}.items():
        with torch.inference_mode():
            restored = AutoModelForImageToImage.from_pretrained(model)(small).reconstruction
        enlarged[name] = restored.clamp(0, 1)
    figures = {name: psnr(image, original, crop=SCALE).item() for name, image in enlarged.items()}
    gain = figures["this upscaler"] - figures["bicubic"]
    print("     On a photograph none has seen: " + ", ".join(f"{n} {value:.2f} dB" for n, value in figures.items()))
    details = {
        name: to_pil_image(image[0]).crop(CROP).resize((480, 360), Image.Resampling.NEAREST)
        for name, image in {"original": original, **enlarged}.items()
    }
    side_by_side(details, out / "upscaler.png")

    print(f"7/7  Upscale the photograph itself {SCALE} times")
    upscaled = upscale(photo, load_upscaler(str(folder)))
    target = out / f"{HELD_OUT_PHOTO}_x{SCALE}.png"
    save_image(upscaled, target)
    print(f"     {photo.width}×{photo.height} → {upscaled.width}×{upscaled.height}: {target}")
    return {
        "data": {"name": "photographs of the package", "held_out": HELD_OUT_PHOTO},
        "scale": SCALE,
        "parameters": trained["training"]["parameters"],
        "psnr_y": figures,
        "gain_db": gain,
    }


def format_report(record: dict[str, Any]) -> str:
    classifier, hardening, upscaler = record["classifier"], record["hardening"], record["upscaler"]
    small = markdown_table(
        ["", "test accuracy", "MB", "times as fast"],
        [
            [name, f"{row['top1']:.1%}", f"{row['bytes'] / 1e6:.2f}", f"{row['speedup']:.1f}"]
            for name, row in record["compression"]["models"].items()
        ],
    )
    photographs = markdown_table(
        ["photograph", "first answer", "probability", "confidence"],
        [
            [name, answer["label"], f"{answer['score']:.1%}", "low" if answer["low_confidence"] else ""]
            for name, answer in record["photographs"]["answers"].items()
        ],
    )
    attacked = [
        [f"{name} classifier, {kind}", f"{share:.1%}"]
        for name, shares in hardening["accuracy"].items()
        for kind, share in shares.items()
    ]
    figures = markdown_table(
        ["figure", "value"],
        [
            ["test accuracy of the classifier", f"{classifier['accuracy']:.1%}"],
            ["its parameters", f"{classifier['parameters']:,}"],
            *attacked,
            *[[f"PSNR-Y on an unseen photograph, {name}", f"{db:.2f} dB"] for name, db in upscaler["psnr_y"].items()],
            ["the upscaler's parameters", f"{upscaler['parameters']:,}"],
            ["seconds in all", f"{record['seconds']:.0f}"],
        ],
    )
    return f"""# hfvision quickstart

Made by `{record["command"]}`; every figure is in `record.json`.

{figures}

## Photographs

What `{record["photographs"]["model"]}`, which ships, sees in the photographs of the package. It was trained on
ImageNet and is used as it is.

{photographs}

## Classifier

A convolutional network trained on {classifier["train_images"]:,} images of Fashion-MNIST and tested on
{classifier["test_images"]:,} others, with the same result for the model in memory and the one loaded again from
`classifier/`, which holds its record, `config.yaml` and pictures.

![predictions](predictions.png)
![training curve](classifier/curve.png)
![confusion matrix](classifier/confusion_test.png)

## Hardened classifier

The classifier trained further on attacked images. Both are attacked here with {hardening["attack"]} that may change
each pixel by {hardening["epsilon"]} (black is 0, white 1), on {hardening["test_images"]} test images.
`hfvision evaluate robustness` attacks harder.

![attacks on both](attack.png)

## Small classifier

The classifier with {record["compression"]["kept"]:.1%} of its parameters kept, trained further beside it, and that one
in 8 bits where OpenVINO is installed; how fast it is, by processor time of one image on
{record["compression"]["threads"]} thread.

{small}

## Upscaler

A ×{upscaler["scale"]} super-resolution network trained on crops of the package's photographs, shown on one that it has
not seen, beside the one that the package carries. PSNR is on Y, {upscaler["scale"]} pixels cropped at each side.

![original, bicubic and upscaled](upscaler.png)
"""
