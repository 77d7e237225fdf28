"""Puts an evaluation of robustness into the record and the card of a shipped checkpoint.

hfvision evaluate robustness cnn-cifar10-robust --data CIFAR10 --out report/
python scripts/ship_robustness.py cnn-cifar10-robust report/robustness.json
"""

import argparse
import json
from pathlib import Path

from shipping import NEXT, write_checkpoint

from hfvision.hub.checkpoints import FOLDER
from hfvision.robustness.summary import epsilon_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="the shipped checkpoint")
    parser.add_argument("robustness", type=Path, help="robustness.json of the evaluation")
    args = parser.parse_args()

    figures = json.loads(args.robustness.read_text())
    if figures["model"] != args.name:
        parser.error(f"{args.robustness} is an evaluation of {figures['model']}, not of {args.name}.")
    if not figures["complete"]:
        parser.error(f"{args.robustness} is not finished: go on with --resume.")
    record = json.loads((FOLDER / args.name / "record.json").read_text())
    figures["data"]["source"] = record["evaluation"]["data"]
    ball = f"--norm {figures['norm']} --epsilon {epsilon_text(figures['epsilon'], figures['norm'])}"
    figures["command"] = f"hfvision evaluate robustness {args.name} --data DATA -n {figures['images']} {ball}"
    write_checkpoint(FOLDER / args.name, record | {"robustness": figures})
    print(f"{args.name}: {figures['robust']['accuracy']:.2%} withstand; {NEXT}")


if __name__ == "__main__":
    main()
