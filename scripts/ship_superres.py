"""Turns a finished training of an upscaler into a checkpoint that ships: weights as fp16, measured, record and card.

    python scripts/ship_superres.py runs/sr-light-x2 --name sr-light-x2 --sets Kodak24 Set5 Set14 \\
        --about scripts/about_superres.yaml

Weights are stored in fp16 and load as fp32. The figures are those of the stored weights. `--about` holds what a
training does not know: the licence of the weights, and name, source and licence of the photographs. `--first` has
the records of the trainings, in their order, that made the weights that this one started from.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import yaml
from shipping import NEXT, describe_upscaler, store_weights, superres_evaluation, training_part, write_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of a training")
    parser.add_argument("--name", required=True)
    parser.add_argument("--sets", nargs="+", required=True, help="folders of photographs to measure on")
    parser.add_argument("--about", type=Path, required=True, help="YAML file")
    parser.add_argument("--first", type=Path, nargs="+", default=[], help="record.json of the trainings before")
    args = parser.parse_args()

    folder = store_weights(args.run, args.name)
    config = json.loads((args.run / "record.json").read_text())["training"]["config"]
    photographs = {source: Path(source).name for key in ("data", "validation_data") for source in config[key]}
    training = training_part(args.run, args.name, photographs)
    training["data"]["sources"] = [photographs[source] for source in training["data"]["sources"]]
    about = yaml.safe_load(args.about.read_text())
    if args.first:
        about["note"] += (
            f" It started from the weights of earlier trainings: {', '.join(map(describe_training, args.first))}."
            f" Photographs of the last one: {describe_photographs(training['data']['sources'], config['shrink'])}."
        )
    record = {"about": about, "training": training, "evaluation": superres_evaluation(args.name, args.sets)}
    write_checkpoint(folder, record)
    print(f"{args.name}: {describe_upscaler(args.name, record['evaluation'])}; {NEXT}")


def describe_training(record: Path) -> str:
    """The recipe of a training, named as its folder, and how long it took."""
    training = json.loads(record.read_text())["training"]
    recipe = Path(training["config"]["out"]).name.replace("-", "_")
    return f"scripts/recipes/{recipe}.yaml ({training['seconds'] / 60:.0f} minutes)"


def describe_photographs(sources: list[str], shrink: float) -> str:
    """Names of data, with how often each is drawn from, and by what its photographs were shrunk."""
    names = ", ".join(name if count == 1 else f"{name} {count} times" for name, count in Counter(sources).items())
    return f"{names}, shrunk by chance by factors of {shrink:g} to 1" if shrink < 1 else names


if __name__ == "__main__":
    main()
