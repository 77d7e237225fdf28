"""The trained models that the package carries, a folder each."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT_CLASSIFIER = "imagenet-lite0"


def list_checkpoints() -> dict[str, Path]:
    """The shipped checkpoints: name to folder, sorted by name."""
    return {config.parent.name: config.parent for config in sorted(FOLDER.glob("*/config.json"))}


def checkpoint(name: str) -> str:
    """The folder of the shipped checkpoint `name`, for `from_pretrained`.

    Raises:
        ValueError: if the package carries no such checkpoint.
    """
    found = list_checkpoints()
    if name not in found:
        there = f"there are {', '.join(found)}" if found else "this version carries none"
        raise ValueError(f"The package carries no checkpoint called {name!r}: {there}.")
    return str(found[name])


__all__ = ["checkpoint", "list_checkpoints"]
