"""Smaller and faster models."""

import argparse
import json
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..compression.config import ClassifierPruneConfig, PruneOptions, SegmenterPruneConfig, SuperResPruneConfig
from ..engine.options import add_options, read_config
from ..hub.files import resolve_model
from ..utils.console import output, to_json
from ..utils.files import check_model_folder
from ..utils.parser import Parser
from .arguments import MODEL_HELP, add_force, add_json, add_output_dir, add_trust, check_data, check_model
from .commands import Command

PRUNE = "Remove channels and attention heads from a model, then fine-tune it by distillation from the original."
PRUNE_CONFIGS = {
    "classifier": ClassifierPruneConfig,
    "segmenter": SegmenterPruneConfig,
    "superres": SuperResPruneConfig,
}
EXAMPLES = {
    "quantize": """examples:
  hfvision quantize runs/photos --calibration photos/ --output-dir runs/photos-int8
  hfvision quantize sr-tiny-x2 --calibration my-photographs/ --output-dir runs/upscaler-int8
  hfvision quantize runs/photos --method quanto --bits 4 --output-dir runs/photos-int4""",
    "prune": """examples:
  hfvision prune runs/photos --data photos/ --target-params 0.19 --epochs 20 --output-dir runs/small
  hfvision prune user/my-vit --data photos/ --target-macs 0.5 --rounds 2 --output-dir runs/small
  hfvision prune sr-tiny-x2 --data my-photographs/ --target-macs 0.7 --output-dir runs/fast
  hfvision prune runs/photos --help""",
    "distill": """examples:
  hfvision distill runs/photos cnn:tiny --data photos/ --epochs 30 --output-dir runs/student
  hfvision distill runs/upscaler fast-tiny --data my-photographs/ --scale 2 --output-dir runs/student
  hfvision distill runs/photos cnn:tiny --help""",
}


def quantize(args: argparse.Namespace) -> None:
    check_model(args.model)
    check_data(args.calibration or [])
    check_model_folder(args.out, force=args.force)
    from ..compression.quantize import quantize
    from ..compression.recipe import describe

    record = quantize(
        args.model,
        args.out,
        method=args.method,
        calibration=args.calibration,
        images=args.images,
        bits=args.bits,
        max_drop=args.max_drop,
        seed=args.seed,
        force=args.force,
        trust_remote_code=args.trust_remote_code,
    )
    output(to_json(record["compression"]) if args.json else f"{describe(record)}\nModel and card: {args.out}")


def trainer_of(model: str) -> str:
    """What `hfvision train` calls the task of a model; of a Hub id, the configuration is downloaded."""
    path = Path(resolve_model(model)) / "config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        known = str(config.get("model_type")), str(next(iter(config.get("architectures") or []), ""))
        if known[0].startswith("hfvision_") or known[1].endswith("ForImageClassification"):
            segmenter = known[0].endswith("_segmentation")
            return "superres" if known[0] == "hfvision_srgan" else "segmenter" if segmenter else "classifier"
    from ..hub.loading import load_config
    from ..tasks.base import task_of

    return task_of(load_config(model), model).trainer


def parse_prune(parser: Parser, words: list[str]) -> Any:
    """How to prune the model that the first word names; its task decides which options there are."""
    if not words or words[0].startswith("-"):
        parser.parse_args(words)
    model, options = words[0], words[1:]
    check_model(model)
    config_class = PRUNE_CONFIGS[trainer_of(model)]
    prog = "hfvision prune MODEL"
    full = Parser(prog=prog, usage=f"{prog} --data DATA --target-params X [options]", description=PRUNE)
    add_options(full, config_class)
    config = read_config(full, config_class, ["--model", model, *options])
    check_data([config.data] if isinstance(config.data, str) else config.data)
    from ..compression.recipe import parse_prune_options

    return parse_prune_options(model, options)


def prune(config: Any) -> None:
    from ..compression.recipe import describe, prune_and_train

    output(f"{describe(prune_and_train(config))}\nModel and card: {config.out}")


def parse_distill(commands: Command, parser: Parser, words: list[str]) -> Any:
    """The training by the teacher that the first word names, of the student that the second names."""
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        parser.parse_args(words)
    teacher, student, *options = words
    check_model(teacher)
    training = commands.commands["train"].commands[trainer_of(teacher)]
    assert training.parse is not None
    return training, training.parse(["--teacher", teacher, "--model", student, *options])


def distill(parsed: Any) -> None:
    training, config = parsed
    training.function(config)


def add_commands(commands: Command) -> None:
    add_quantize(commands)
    add_prune(commands)
    add_distill(commands)


def add_quantize(commands: Command) -> None:
    command = commands.add(
        quantize, "Quantize a model: smaller, and with OpenVINO faster on CPUs.", EXAMPLES["quantize"]
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument(
        "--method",
        choices=["openvino", "quanto", "onnx", "bf16"],
        default="openvino",
        help="openvino: static int8 for CPUs; quanto: int8 or int4 weights in PyTorch, smaller but not faster; "
        "onnx: float ONNX export; bf16: half the size (default: openvino)",
    )
    command.add_argument(
        "--calibration",
        nargs="+",
        action="extend",
        metavar="DATA",
        help="calibration images: a dataset as for training: with labels, with masks, or photographs",
    )
    command.add_argument(
        "--images", type=PositiveInt, metavar="N", default=300, help="number of calibration images (default: 300)"
    )
    command.add_argument("--bits", type=int, choices=[8, 4], default=8, help="weight bits of quanto (default: 8)")
    command.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="largest accepted drop with openvino, in points of top-1 or Dice, or dB; sensitive layers stay in float",
    )
    command.add_argument("--seed", type=int, metavar="N", default=0, help="random seed (default: 0)")
    add_output_dir(command, "output folder for the quantized model", required=True)
    add_force(command, "model")
    add_json(command)
    add_trust(command)


def add_prune(commands: Command) -> None:
    command = commands.add(
        prune,
        PRUNE,
        f'{EXAMPLES["prune"]}\n\nThe options of "hfvision train" apply, too: hfvision prune MODEL --help',
        usage="MODEL --data DATA (--target-params X | --target-macs X | --target-latency X) [options]",
        parse=lambda words: parse_prune(command, words),
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_options(command, PruneOptions, without={"model"})


def add_distill(commands: Command) -> None:
    command = commands.add(
        distill,
        "Train a small student model by knowledge distillation from a teacher.",
        f'{EXAMPLES["distill"]}\n\nThe options are those of "hfvision train" for the teacher\'s task.',
        usage="TEACHER STUDENT --data DATA [options]",
        parse=lambda words: parse_distill(commands, command, words),
    )
    command.add_argument("teacher", metavar="TEACHER", help=MODEL_HELP)
    command.add_argument("student", metavar="STUDENT", help="preset, such as cnn:tiny or fast-tiny, or a model")
