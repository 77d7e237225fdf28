"""Pages that are made of the code when the site is built: Python API, command line, shipped models."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import mkdocs_gen_files
import yaml

from hfvision.hub.checkpoints import list_checkpoints

ROOT = Path(__file__).parents[1]
GROUPS = {  # of the Python API: heading, and the package that its names come from
    "api": "One call a task",
    "tasks": "Train, evaluate, predict",
    "models": "Model families",
    "data": "Data",
    "robustness": "Attacks and robustness",
    "compression": "Compression",
    "metrics": "Metrics",
    "inspection": "Look inside a model",
    "hub": "Load models and records",
    "records": "Records",
    "publishing": "Publish",
}


def public_names() -> dict[str, list[str]]:
    """The public names by the package in hfvision that they come from, in the order of the stub."""
    names = defaultdict(list)
    for node in ast.parse((ROOT / "hfvision" / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[node.module.split(".")[0]].append(f"hfvision.{node.module}.{alias.name}")
    return names


def write_api() -> None:
    names = public_names()
    lines = ["# Python API", "", "Every name below is imported as `from hfvision import NAME`.", ""]
    for package in [*GROUPS, *(package for package in names if package not in GROUPS)]:
        if package in names:
            lines += [f"## {GROUPS.get(package, package.capitalize())}", ""]
            lines += [f"::: {name}\n" for name in sorted(names[package], key=lambda name: name.rpartition(".")[2].lower())]
    write("reference/api.md", lines)


def help_text(*command: str) -> str:
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    arguments = [sys.executable, "-m", "hfvision", *command, "--help"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout


def subcommands(text: str) -> list[str]:
    """The names of the commands that a help lists."""
    section = re.search(r"^commands:\n(.*?)(?:\n\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^ {2,4}([a-z][a-z-]*)\b", section[1], re.MULTILINE) if section else []


def write_cli() -> None:
    lines = ["# Command line", "", "```text", help_text().rstrip(), "```", ""]
    waiting = [(name,) for name in subcommands(help_text())]
    while waiting:
        command = waiting.pop(0)
        text = help_text(*command)
        lines += [f"## hfvision {' '.join(command)}", "", "```text", text.rstrip(), "```", ""]
        waiting = [(*command, name) for name in subcommands(text)] + waiting
    write("reference/cli.md", lines)


def write_models() -> None:
    """The cards of the shipped checkpoints, which are written from their records."""
    lines = ["# Shipped models", "", "Their cards, written from what was recorded when they were trained and measured.", ""]
    for name, folder in sorted(list_checkpoints().items()):
        card = (folder / "README.md").read_text(encoding="utf-8")
        _, front, body = card.split("---\n", 2)
        license_ = yaml.safe_load(front).get("license", "")
        body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
        body = re.sub(r"^# .*$", "", body, count=1, flags=re.MULTILINE)
        body = re.sub(r"^(#+) ", r"##\1 ", body, flags=re.MULTILINE)
        body = re.sub(r"!?\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", body)  # files beside the card
        lines += [f"## {name}", "", f"License: `{license_}`", "", body.strip(), ""]
    write("reference/models.md", lines)


def write(path: str, lines: list[str]) -> None:
    with mkdocs_gen_files.open(path, "w") as file:
        file.write("\n".join(lines) + "\n")


write_api()
write_cli()
write_models()
