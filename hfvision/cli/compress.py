"""Smaller and faster models."""

import argparse
import sys
from pathlib import Path

from ..utils.console import to_json
from ..utils.files import check_report
from .arguments import MODEL_HELP, TRUST_HELP, add_command, add_report_options, positive
from .train import train

EXAMPLES = {
    "quantize": """examples:
  hfvision quantize runs/photos --calibration photos/ --out runs/photos-int8
  hfvision quantize sr-tiny-x2 --calibration my-photographs/ --out runs/upscaler-int8
  hfvision quantize runs/photos --method quanto --bits 4 --out runs/photos-int4""",
    "prune": """examples:
  hfvision prune runs/photos --data photos/ --target-params 0.19 --epochs 20 --out runs/small
  hfvision prune user/my-vit --data photos/ --target-macs 0.5 --rounds 2 --out runs/small
  hfvision prune sr-tiny-x2 --data my-photographs/ --target-macs 0.7 --out runs/fast
  hfvision prune runs/photos --help""",
    "distill": """examples:
  hfvision distill runs/photos cnn:tiny --data photos/ --epochs 30 --out runs/student
  hfvision distill runs/upscaler fast-tiny --data my-photographs/ --scale 2 --out runs/student
  hfvision distill runs/photos cnn:tiny --help""",
    "benchmark": """examples:
  hfvision benchmark cnn-cifar10 runs/small runs/photos-int8 --data photos/ --split validation
  hfvision benchmark sr-tiny-x2 runs/upscaler-int8 --data Set5/ --batch 1 --out report/""",
}


def quantize(args: argparse.Namespace) -> None:
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
    print(to_json(record["compression"]) if args.json else f"{describe(record)}\nmodel and card: {args.out}")


def prune(args: argparse.Namespace) -> None:
    from ..compression.recipe import describe, parse_prune_options, prune_and_train

    config = parse_prune_options(args.model, args.options)
    print(f"{describe(prune_and_train(config))}\nmodel and card: {config.out}")


def distill(args: argparse.Namespace) -> None:
    from ..hub.loading import load_config
    from ..tasks.base import task_of

    task = task_of(load_config(args.teacher), args.teacher)
    words = ["--teacher", args.teacher, "--model", args.student, *args.options]
    train(argparse.Namespace(task=task.trainer, options=words))


def benchmark(args: argparse.Namespace) -> None:
    from ..compression.benchmark import BATCHES, benchmark, format_benchmark, tradeoff_picture
    from ..records import write_record

    check_report(args.out, "benchmark.json", "benchmark.png", force=args.force)
    record = benchmark(
        args.models,
        data=args.data,
        split=args.split,
        batches=args.batch or BATCHES,
        engines=args.engines,
        threads=args.threads,
        rounds=args.rounds,
        count=args.n,
        trust_remote_code=args.trust_remote_code,
    )
    print(to_json(record) if args.json else format_benchmark(record))
    if args.out is not None:
        write_record(args.out / "benchmark.json", record)
        tradeoff_picture(record, args.out / "benchmark.png")
        print(f"Figures and picture written to {args.out}", file=sys.stderr)


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        quantize,
        "Store a model in fewer bits: smaller, and with OpenVINO much faster on CPUs.",
        EXAMPLES["quantize"],
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--out", type=Path, required=True, help="folder for the quantized model")
    command.add_argument(
        "--method",
        choices=["openvino", "quanto", "onnx", "bf16"],
        default="openvino",
        help="openvino: 8 bits, for CPUs (default); quanto: 8 or 4 bits in PyTorch, on a CPU smaller but slower; "
        "onnx: a float file for other programs; bf16: half the size",
    )
    command.add_argument(
        "--calibration",
        nargs="+",
        metavar="DATA",
        help="images like those to come, as of `hfvision train --data`: labelled, with masks, or photographs",
    )
    command.add_argument("--images", type=positive, default=300, help="how many to calibrate with (default 300)")
    command.add_argument("--bits", type=int, choices=[8, 4], default=8, help="of quanto's linear layers (default 8)")
    command.add_argument(
        "--max-drop",
        type=float,
        help="points of top-1 or Dice, or dB, that openvino may lose: layers go back to float",
    )
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument("--force", action="store_true", help="replace a model that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    command = add_command(
        commands,
        prune,
        "Cut channels and heads out of a model and train what is left beside its parent.",
        EXAMPLES["prune"],
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("options", nargs=argparse.REMAINDER, help="see: hfvision prune MODEL --help")

    command = add_command(commands, distill, "Train a small model by the answers of a large one.", EXAMPLES["distill"])
    command.add_argument("teacher", metavar="TEACHER", help=MODEL_HELP)
    command.add_argument(
        "student", metavar="STUDENT", help="preset, as cnn:tiny or fast-tiny, or a model to go on with"
    )
    command.add_argument("options", nargs=argparse.REMAINDER, help="those of hfvision train")

    command = add_command(
        commands,
        benchmark,
        "Measure models on several engines side by side: time, memory, size, accuracy.",
        EXAMPLES["benchmark"],
    )
    command.add_argument("models", nargs="+", metavar="MODEL", help=f"{MODEL_HELP}; the first is the parent")
    command.add_argument("--data", help="labelled images, images with masks, or photographs, to measure quality on")
    command.add_argument("--split", choices=["test", "validation", "train"], default="test", help="(default test)")
    command.add_argument("-n", type=positive, default=1000, help="images for accuracy, Dice or PSNR (default 1000)")
    command.add_argument("--batch", type=positive, nargs="+", action="extend", help="batch sizes (default 1 32)")
    command.add_argument(
        "--engines",
        nargs="+",
        action="extend",
        metavar="ENGINE",
        help="of: eager bf16 compile openvino openvino-bf16 onnx (default all)",
    )
    command.add_argument("--threads", type=positive, default=1, help="CPU threads (default 1)")
    command.add_argument("--rounds", type=positive, default=30, help="times that contenders take turns (default 30)")
    add_report_options(command, "folder for benchmark.json and benchmark.png", "a benchmark")
