"""The command that compares models and inference engines."""

import argparse

from jsonargparse.typing import PositiveInt

from ..utils.console import logger, output, to_json
from ..utils.files import check_report
from .arguments import MODEL_HELP, SPLITS, add_report_options, check_data, check_model
from .commands import Command

ENGINES = ["eager", "bf16", "compile", "openvino", "openvino-bf16", "onnx"]
EXAMPLES = {
    "benchmark": """examples:
  hfvision benchmark cnn-cifar10 runs/small runs/photos-int8 --data photos/ --split validation
  hfvision benchmark sr-tiny-x2 runs/upscaler-int8 --data Set5/ --batch 1 --output-dir report/""",
}


def benchmark(args: argparse.Namespace) -> None:
    for name in args.models:
        check_model(name)
    check_data([args.data] if args.data else [])
    check_report(args.out, "benchmark.json", "benchmark.png", force=args.force)
    from ..compression.benchmark import BATCHES, benchmark, format_benchmark, tradeoff_picture
    from ..records import write_record

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
    output(to_json(record) if args.json else format_benchmark(record))
    if args.out is not None:
        write_record(args.out / "benchmark.json", record)
        tradeoff_picture(record, args.out / "benchmark.png")
        logger.info(f"Results and picture written to {args.out}")


def add_commands(commands: Command) -> None:
    command = commands.add(
        benchmark, "Benchmark models and inference engines: latency, memory, size, quality.", EXAMPLES["benchmark"]
    )
    command.add_argument("models", nargs="+", metavar="MODEL", help=f"{MODEL_HELP}; the first is the baseline")
    command.add_argument(
        "--data", metavar="DATA", help="labeled images, images with masks, or photographs, to measure quality"
    )
    command.add_argument("--split", choices=SPLITS, default="test", help="(default: test)")
    command.add_argument(
        "-n",
        "--num-images",
        dest="n",
        type=PositiveInt,
        metavar="N",
        default=1000,
        help="images to measure quality on (default: 1000)",
    )
    command.add_argument(
        "--batch", type=PositiveInt, nargs="+", action="extend", metavar="N", help="batch sizes (default: 1 32)"
    )
    command.add_argument(
        "--engines",
        nargs="+",
        action="extend",
        metavar="NAME",
        help=f"engines to run: {', '.join(ENGINES)} (default: all that are installed)",
    )
    command.add_argument("--threads", type=PositiveInt, metavar="N", default=1, help="CPU threads (default: 1)")
    command.add_argument(
        "--rounds",
        type=PositiveInt,
        metavar="N",
        default=30,
        help="timed rounds, interleaved over engines (default: 30)",
    )
    add_report_options(command, "output folder for benchmark.json and benchmark.png")
