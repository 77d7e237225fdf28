"""Turns a finished training into a checkpoint that ships: weights as fp16, measured again, with record and card.

    python scripts/ship_classifier.py runs/cnn-cifar10 --data CIFAR10 --name cnn-cifar10 \\
        --data-name "CIFAR-10, JPEG re-encoded" --source "Krizhevsky 2009" --data-id uoft-cs/cifar10

Weights are stored in fp16 and load as fp32. The figures are those of the stored weights, on the test split of DATA.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from hfvision.cards import card_files
from hfvision.checkpoints import FOLDER
from hfvision.data.load import load_image_dataset
from hfvision.data.prepare import prepare_images
from hfvision.loading import load_model
from hfvision.report import write_record, write_text
from hfvision.training.evaluate import evaluate_classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of a training")
    parser.add_argument("--data", required=True, help="the data set, for its test split")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data-name", required=True)
    parser.add_argument("--source", required=True, help="whose the data is")
    parser.add_argument("--data-licence", default="its authors state no licence")
    parser.add_argument("--data-id", help="Hub id of the data")
    parser.add_argument("--licence", default="apache-2.0", help="of the weights")
    parser.add_argument("--note", help="a sentence about the figures")
    parser.add_argument("--limits", help="a sentence about what it is not for")
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
    run = json.loads((args.run / "record.json").read_text())
    training = run["training"]
    hidden = {str(training["config"]["data"]): "DATA", str(training["config"]["out"]): f"runs/{args.name}"}
    for text, stand_in in hidden.items():
        training["command"] = training["command"].replace(text, stand_in)
    training["config"] |= {"data": "DATA", "out": f"runs/{args.name}"}
    training["data"] |= {"source": args.data_name}
    if "validation" in run:
        training["data"]["validation_images"] = run["validation"]["images"]
    data = {"name": args.data_name, "source": args.source, "licence": args.data_licence, "id": args.data_id}
    about = {"licence": args.licence, "data": [data], "note": args.note, "limits": args.limits}
    evaluation = f"hfvision evaluate classifier {args.name} --data DATA --tta flip_shift"
    record = {
        "about": {key: value for key, value in about.items() if value},
        "training": training | {"environment": run["environment"]},
        "evaluation": {"command": evaluation, "data": args.data_name, "split": "test", "results": results},
    }
    write_record(folder / "record.json", record)
    write_text(folder / "README.md", card_files(folder)["README.md"])
    plain, views = (f"{results[tta]['top1']:.2%}" for tta in ("none", "flip_shift"))
    print(f"{args.name}: {plain}, with flips and shifts {views}; next: python scripts/make_cards.py")


if __name__ == "__main__":
    main()
