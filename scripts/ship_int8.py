"""Makes the int8 form of a shipped checkpoint, for OpenVINO, one that ships too: NAME-int8, measured, with its card.

    python scripts/ship_int8.py cnn-cifar10 --calibration CIFAR10 --test CIFAR10
    python scripts/ship_int8.py sr-light-x2 --calibration CID22 --test Kodak24 Set5 Set14

A classifier calibrates on the training split of its data and is measured on the test split.
"""

import argparse
import json

from shipping import (
    NEXT,
    classifier_evaluation,
    describe_classifier,
    describe_upscaler,
    leave_code_out,
    superres_evaluation,
    write_checkpoint,
)

from hfvision.compression.quantize import quantize
from hfvision.hub.checkpoints import FOLDER
from hfvision.hub.loading import load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="the shipped checkpoint")
    parser.add_argument("--calibration", nargs="+", required=True, help="data set, or folders of photographs")
    parser.add_argument("--test", nargs="+", required=True, help="data set, or folders of photographs")
    args = parser.parse_args()

    parent = json.loads((FOLDER / args.name / "record.json").read_text())
    name = f"{args.name}-int8"
    record = quantize(args.name, FOLDER / name, calibration=args.calibration, force=True).to_json()
    leave_code_out(FOLDER / name)
    record["about"] = parent["about"]
    if hasattr(load_config(name), "scale"):
        record["evaluation"] = superres_evaluation(name, args.test)
        told = describe_upscaler(name, record["evaluation"])
    else:
        record["evaluation"] = classifier_evaluation(name, args.test[0], parent["evaluation"]["data"])
        told = describe_classifier(record["evaluation"])
    write_checkpoint(FOLDER / name, record)
    print(f"{name}: {told}; {NEXT}")


if __name__ == "__main__":
    main()
