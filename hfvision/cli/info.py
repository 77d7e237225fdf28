"""The command that inspects a model, and the list of shipped checkpoints."""

import argparse
import json
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..hub.checkpoints import list_checkpoints
from ..utils.console import logger, output, to_json
from ..utils.files import check_file
from .arguments import MODEL_HELP, add_force, add_json, add_trust, as_path, check_model
from .commands import Command

EXAMPLES = {
    "info": """examples:
  hfvision info --list
  hfvision info runs/quickstart/classifier
  hfvision info sr-tiny-x2 --graph graph.md
  hfvision info user/my-vit --size 384 --graph graph.svg --backward""",
}

TASKS = {
    "ForImageClassification": "image-classification",
    "ForSemanticSegmentation": "image-segmentation",
    "ForImageSuperResolution": "image-super-resolution",
}


def info(args: argparse.Namespace) -> None:
    if args.list or args.model is None:
        rows = [describe_checkpoint(name, folder) for name, folder in list_checkpoints().items()]
        output(to_json(rows) if args.json else format_checkpoints(rows))
        return
    check_model(args.model)
    if args.graph is not None and args.graph.suffix not in (".md", ".svg"):
        raise ValueError(f"--graph {args.graph} must end in .md (Mermaid) or .svg (picture).")
    check_file(args.graph, force=args.force)
    import torch

    from ..hub.loading import load_config, load_model
    from ..inspection.graph import computational_graph, to_mermaid, to_svg
    from ..inspection.layers import format_table, summarize
    from ..tasks.base import task_of
    from ..utils.files import write_text

    config = load_config(args.model, trust_remote_code=args.trust_remote_code)
    task = task_of(config, f"{args.model} (config.json)", trust_remote_code=args.trust_remote_code)
    model, _ = load_model(args.model, task.pipeline, trust_remote_code=args.trust_remote_code)
    size = args.size or task.example_side(config)
    pixel_values = torch.rand(1, getattr(config, "num_channels", 3), size, size, dtype=model.dtype)
    summary = summarize(model, pixel_values)
    if args.json:
        output(to_json({"config": config.to_diff_dict(), **summary.to_dict()}, default=str))
    else:
        output(f"{type(model).__name__} ({args.model}), input {'×'.join(map(str, pixel_values.shape))}\n")
        output(config.to_json_string())
        output(format_table(summary))
    if args.graph is not None:
        graph = computational_graph(model, pixel_values, backward=args.backward)
        write_text(args.graph, to_svg(graph) if args.graph.suffix == ".svg" else to_mermaid(graph))
        logger.info(f"Computational graph written to {args.graph}")


def describe_checkpoint(name: str, folder: Path) -> dict[str, Any]:
    """Name, task, parameters, size and headline figure of a shipped checkpoint, from its files."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or [""])[0]
    task = next((task for end, task in TASKS.items() if architecture.endswith(end)), "")
    weights = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".onnx", ".xml")]
    size = sum(path.stat().st_size for path in weights)
    return {"name": name, "task": task, "bytes": size, "result": headline(name, record), "folder": str(folder)}


def headline(name: str, record: dict[str, Any]) -> str:
    """The figure of a record that says most: top-1 accuracy, Dice or PSNR, with the data it was measured on."""
    evaluation = record.get("evaluation", {})
    results = evaluation.get("results", {})
    if "top1" in results.get("none", {}):
        text = f"{results['none']['top1']:.1%} top-1, {evaluation['data'].partition(',')[0]}"
        robust = record.get("robustness")
        return f"{text}; {robust['robust']['accuracy']:.1%} at epsilon {robust['epsilon']:.3f}" if robust else text
    sets = results.get(name, {}).get("sets", {})
    data = "Set14" if "Set14" in sets else next(iter(sets), None)
    return f"{sets[data]['psnr']:.2f} dB PSNR, {data}" if data else ""


def format_checkpoints(rows: list[dict[str, Any]]) -> str:
    """The checkpoints as a table of text."""
    lines = [f"{'NAME':24}{'TASK':26}{'SIZE':>10}  RESULT"]
    lines += [f"{row['name']:24}{row['task']:26}{row['bytes'] / 1e6:7.2f} MB  {row['result']}" for row in rows]
    return "\n".join(lines)


def add_commands(commands: Command) -> None:
    command = commands.add(
        info, "Inspect a model: layers, parameters, MACs, memory, computational graph.", EXAMPLES["info"]
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--list", action="store_true", help="list the shipped checkpoints")
    command.add_argument("--size", type=PositiveInt, metavar="N", help="input size in pixels (default: the model's)")
    command.add_argument("--graph", type=as_path, metavar="FILE", help="write the computational graph (.md or .svg)")
    command.add_argument("--backward", action="store_true", help="include the autograd graph")
    add_force(command, "graph")
    add_json(command)
    add_trust(command)
