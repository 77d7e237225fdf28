"""What may be published: no pickle, no token, no path of somebody's disk."""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

# A path that starts at the root of a disk.
ABSOLUTE = re.compile(
    r"(?:file://|~|(?<![\w.:/<>~)\]}*-]))/(?:[\w.+@~-]+/)+[\w.+@~-]*"  # of several parts
    r"|(?<=[\"'=\s])/[A-Za-z][\w.+@-]*(?=[\"'\s])"  # of one, as a whole value
    r"|\b[A-Za-z]:\\+[\w.+@~-]+(?:\\+[\w.+@~-]+)*"  # of Windows
)
TOKEN = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}|\bgh[opsu]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
TEXT = {".json", ".md", ".py", ".svg", ".txt", ".xml", ".yaml", ".yml"}
PICTURES = {".jpg", ".png"}
WEIGHTS = {".safetensors", ".onnx"}
# Weights that are, or may be, pickles.
UNSAFE = {".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}


def is_publishable(path: Path) -> bool:
    """Whether a file is of a kind that is published; OpenVINO's and ONNX's weights are too.

    Raises:
        ValueError: for weights that are not safetensors.
    """
    suffix = path.suffix.lower()
    if (suffix == ".bin" and path.with_suffix(".xml").is_file()) or path.name.endswith(".onnx.data"):
        return True
    if suffix in UNSAFE:
        raise ValueError(f"{path} is not published: weights must be safetensors. Save them so, or remove the file.")
    return suffix in TEXT | PICTURES | WEIGHTS


def check_publishable(folder: Path, token: str | None = None) -> None:
    """Refuse a folder with something that must not be published.

    Args:
        folder: whose files, at any depth, are looked into.
        token: one that must not occur, however it looks.

    Raises:
        ValueError: for weights that are not safetensors, something that looks like a token, or an absolute path.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        is_publishable(path)
        text = readable(path)
        if (token and token in text) or TOKEN.search(text):
            raise ValueError(
                f"{name} is not published: it holds what looks like a token. Remove it, and if it is one, revoke it."
            )
        if found := ABSOLUTE.search(text):
            raise ValueError(
                f"{name} is not published: it holds the path {found[0]!r} of your disk. `hfvision card FOLDER "
                "--hide-paths` leaves the last part of each."
            )


def readable(path: Path) -> str:
    """The text in a file, and of safetensors that of its metadata."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as weights:
                return json.dumps(weights.metadata() or {})
        except SafetensorError as error:
            raise ValueError(f"{path.name} is not published: it is no safetensors file ({error}).") from error
    if path.suffix.lower() in TEXT:
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name} is not published: it is not UTF-8 text.") from error
    return ""


def hide_paths(value: Any) -> Any:
    """A record whose absolute paths are cut down to their last part."""
    if isinstance(value, dict):
        return {key: hide_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hide_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    quoted = ABSOLUTE.sub(lambda path: re.split(r"[/\\]", path[0].rstrip("/\\"))[-1], f'"{value}"')
    return quoted[1:-1]
