"""Turns a finished training into a checkpoint that ships: weights as fp16, measured again, with record and card.

    python scripts/ship_classifier.py runs/cnn-cifar10 --data CIFAR10 --name cnn-cifar10 \\
        --data-name "CIFAR-10, JPEG re-encoded" --source "Krizhevsky 2009" --data-id uoft-cs/cifar10

Weights are stored in fp16 and load as fp32. The figures are those of the stored weights, on the test split of DATA.
What was done to a parent, as by `hfvision prune`, stays in the record.
"""

import argparse
import json
from pathlib import Path

from shipping import (
    NEXT,
    classifier_evaluation,
    describe_classifier,
    store_weights,
    training_part,
    write_checkpoint,
)


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
    parser.add_argument("--citation", help="BibTeX of the data")
    args = parser.parse_args()

    folder = store_weights(args.run, args.name)
    run = json.loads((args.run / "record.json").read_text())
    training = training_part(args.run, args.name, {str(run["training"]["config"]["data"]): "DATA"})
    training["data"] |= {"source": args.data_name}
    if "validation" in run:
        training["data"]["validation_images"] = run["validation"]["images"]
    data = {"name": args.data_name, "source": args.source, "licence": args.data_licence, "id": args.data_id}
    about = {"licence": args.licence, "data": [data], "note": args.note, "limits": args.limits}
    about |= {"citation": args.citation}
    record = {
        "about": {key: value for key, value in about.items() if value},
        **{key: run[key] for key in ("parent", "compression") if key in run},
        "training": training,
        "evaluation": classifier_evaluation(args.name, args.data, args.data_name),
    }
    write_checkpoint(folder, record)
    print(f"{args.name}: {describe_classifier(record['evaluation'])}; {NEXT}")


if __name__ == "__main__":
    main()
