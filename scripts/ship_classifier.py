"""Turns a finished training into a checkpoint that ships: weights as fp16, measured again, with record and card.

    python scripts/ship_classifier.py runs/cnn-cifar10 --data CIFAR10 --name cnn-cifar10 \\
        --data-name "CIFAR-10, JPEG re-encoded" --source "Krizhevsky 2009"

Weights are stored in fp16 and load as fp32. The figures are those of the stored weights, on the test split of DATA.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from hfvision.checkpoints import FOLDER
from hfvision.data.load import load_image_dataset
from hfvision.data.prepare import prepare_images
from hfvision.loading import load_model
from hfvision.report import markdown_table, write_record, write_text
from hfvision.training.evaluate import evaluate_classifier

CARD = """---
library_name: transformers
pipeline_tag: image-classification
license: {licence}
tags: [hfvision]
---

# {name}

{what} of {parameters:,} parameters for images of {size}×{size} pixels, trained from scratch on {data_name} ({source}).
Classes: {classes}. Weights are stored in fp16 ({megabytes:.2f} MB) and load as fp32.

```python
import hfvision
from transformers import pipeline

classify = pipeline("image-classification", model=hfvision.checkpoint("{name}"))
classify("photo.jpg")
```

or `hfvision classify photo.jpg --model {name}`.

## Figures

On the {images:,} test images of {data_name}, printed again by `{evaluation}`:

{figures}

{caveat}Of each class, with {tta}:

{per_class}

## Training

```bash
{command}
```

{images_trained:,} images, {epochs} epochs, {minutes:.0f} minutes on {threads} CPU thread(s) in bf16, seed {seed}.
{validation:,} other training images chose the epoch. {teacher}Data: {data_name}, {source}. No test image was seen in
training.

## Limits

It knows its {num_classes} classes alone and puts every image into one of them, also where none fits. It was trained on
small, centred pictures and is not hardened against attacks. Its confidence is no probability: see the calibration
error.
"""


def percent(figures: dict[str, Any]) -> str:
    low, high = figures["top1_interval"]
    return f"{figures['top1']:.2%} ({low:.1%} to {high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of a training")
    parser.add_argument("--data", required=True, help="the data set, for its test split")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data-name", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--licence", default="apache-2.0")
    parser.add_argument("--what", default="A convolutional network")
    parser.add_argument("--caveat", default="", help="a sentence about the figures")
    args = parser.parse_args()

    folder = FOLDER / args.name
    folder.mkdir(exist_ok=True)
    for file in ("config.json", "preprocessor_config.json"):
        settings = json.loads((args.run / file).read_text())
        settings.pop("auto_map", None)
        write_text(folder / file, json.dumps(settings, indent=2) + "\n")
    weights = load_file(args.run / "model.safetensors")
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})

    model, image_processor = load_model(str(folder), "image-classification")
    test = load_image_dataset(args.data, validation=0)["test"]
    images = prepare_images(test, image_processor)
    names = test.features["label"].names
    results = {
        tta: evaluate_classifier(model, images, image_processor, names=names, tta=tta)
        for tta in ("none", "flip_shift")
    }
    training = json.loads((args.run / "record.json").read_text())
    environment, training = training["environment"], training["training"]
    hidden = {str(training["config"]["data"]): "DATA", str(training["config"]["out"]): f"runs/{args.name}"}
    for text, stand_in in hidden.items():
        training["command"] = training["command"].replace(text, stand_in)
    training["config"] |= {"data": "DATA", "out": f"runs/{args.name}"}
    training["data"] |= {"source": args.data_name}
    evaluation = f"hfvision evaluate classifier {args.name} --data DATA --tta flip_shift"
    record = {
        "training": training | {"environment": environment},
        "evaluation": {"command": evaluation, "data": args.data_name, "results": results},
    }
    write_record(folder / "record.json", record)
    write_text(folder / "README.md", format_card(args, record, model, folder))
    print(f"{args.name}: {percent(results['none'])}, with flips and shifts {percent(results['flip_shift'])}")


def format_card(args: argparse.Namespace, record: dict[str, Any], model: Any, folder: Path) -> str:
    training, results = record["training"], record["evaluation"]["results"]
    best = results["flip_shift"]
    config = training["config"]
    teacher = f"It learned from `{Path(config['teacher']).name}` too. " if config["teacher"] else ""
    return CARD.format(
        name=args.name,
        what=args.what,
        licence=args.licence,
        parameters=best["parameters"],
        size=model.config.image_size,
        data_name=args.data_name,
        source=args.source,
        classes=", ".join(best["classes"]),
        num_classes=len(best["classes"]),
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        images=best["images"],
        evaluation=record["evaluation"]["command"],
        figures=markdown_table(
            ["", "one view", "flip and shift"],
            [
                ["accuracy (95 % interval)", *(percent(figures) for figures in results.values())],
                ["expected calibration error", *(f"{figures['ece']:.3f}" for figures in results.values())],
                ["negative log-likelihood", *(f"{figures['nll']:.3f}" for figures in results.values())],
                [
                    "milliseconds an image, one at a time",
                    *(f"{figures['speed']['latency_ms']['median']:.1f}" for figures in results.values()),
                ],
            ],
        ),
        caveat=f"{args.caveat} " if args.caveat else "",
        tta="flips and shifts",
        per_class=markdown_table(
            ["class", "precision", "recall", "F1"],
            [
                [name, *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1"))]
                for name, scores in best["classes"].items()
            ],
        ),
        command=training["command"],
        images_trained=training["data"]["images"],
        validation=round(training["data"]["images"] * config["validation"] / (1 - config["validation"])),
        epochs=config["epochs"],
        minutes=sum(entry["seconds"] for entry in training["history"]) / 60,
        threads=training["environment"]["machine"]["threads"],
        seed=config["seed"],
        teacher=teacher,
    )


if __name__ == "__main__":
    main()
