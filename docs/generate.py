"""Pages that are made when the site is built: Python API, command line, shipped models, and files of the root."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import yaml

from hfvision.hub.checkpoints import list_checkpoints

ROOT = Path(__file__).parents[1]
GROUPS = {  # of the Python API: heading by the package in hfvision that its names come from
    "api": "One call for each task",
    "tasks": "Train, evaluate, predict",
    "models": "Model families",
    "data": "Data",
    "robustness": "Attacks and robustness",
    "compression": "Compression",
    "metrics": "Metrics",
    "inspection": "Look inside a model",
    "hub": "Load models",
    "records": "Records",
    "publishing": "Publish",
}
ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}


def write_pages(folder: Path) -> None:
    """Write the generated pages below `folder`, the source folder of the site; git ignores them."""
    write(folder / "reference" / "api.md", api_page())
    write(folder / "reference" / "cli.md", cli_page())
    write(folder / "reference" / "models.md", models_page())
    for target, source in ROOT_PAGES.items():
        write(folder / target, root_page((ROOT / source).read_text(encoding="utf-8")))


def write(path: Path, text: str) -> None:
    """Write a page where it has changed, so that a second build is quick."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def public_names() -> dict[str, list[str]]:
    """The public names, as `hfvision.hub.loading.load_model`, by the package in hfvision that they come from."""
    names = defaultdict(list)
    for node in ast.parse((ROOT / "hfvision" / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names[node.module.split(".")[0]] += [f"hfvision.{node.module}.{alias.name}" for alias in node.names]
    return names


def api_page() -> str:
    lines = ["# Python API", "", "Import every name below as `from hfvision import NAME`.", ""]
    names = public_names()
    for package in [*GROUPS, *(package for package in names if package not in GROUPS)]:
        if package not in names:
            continue
        lines += [f"## {GROUPS.get(package, package.capitalize())}", ""]
        for name in sorted(names[package], key=lambda name: name.rpartition(".")[2].lower()):
            lines += ["```{eval-rst}", f".. {directive(name)}:: {name}", "```", ""]
    return "\n".join(lines)


def directive(name: str) -> str:
    return "autoclass" if name.rpartition(".")[2][0].isupper() else "autofunction"


def help_text(*command: str) -> str:
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    arguments = [sys.executable, "-m", "hfvision", *command, "--help"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout


def subcommands(text: str) -> list[str]:
    """The names of the commands that a help lists."""
    section = re.search(r"^commands:\n(.*?)(?:\n\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^ {4}([a-z][a-z-]*)\b", section[1], re.MULTILINE) if section else []


def cli_page() -> str:
    lines = ["# Command line", "", "```text", help_text().rstrip(), "```", ""]
    waiting = [(name,) for name in subcommands(help_text())]
    while waiting:
        command = waiting.pop(0)
        text = help_text(*command)
        lines += [f"## hfvision {' '.join(command)}", "", "```text", text.rstrip(), "```", ""]
        waiting = [(*command, name) for name in subcommands(text)] + waiting
    return "\n".join(lines)


def models_page() -> str:
    """The cards of the shipped checkpoints, which are written from their records."""
    lines = ["# Shipped models", "", "Their cards, written from what was recorded in training and evaluation.", ""]
    for name, folder in sorted(list_checkpoints().items()):
        _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
        body = re.sub(r"^# .*$", "", body, count=1, flags=re.MULTILINE)
        body = re.sub(r"^(#+) ", r"#\1 ", body, flags=re.MULTILINE)
        body = re.sub(r"!?\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", body)  # files beside the card
        lines += [f"## {name}", "", f"License: `{yaml.safe_load(front).get('license', '')}`", "", body.strip(), ""]
    return "\n".join(lines)


def root_page(text: str) -> str:
    """A file of the root of the repository with its links pointing from the site's folder."""
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    for page, source in ROOT_PAGES.items():
        text = text.replace(f"]({source})", f"]({page})")
    return text.replace("](README.md)", "](index.md)")
