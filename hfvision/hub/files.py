"""Where the files of a model are, by a Hub id, a folder, or the name of a shipped checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints import checkpoint, list_checkpoints
from .validation import check_inside, library_errors

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def resolve_model(name: str | Path) -> str:
    """What `from_pretrained` takes for `name`: the folder of a shipped checkpoint, a folder, or a Hub id.

    A folder of that name comes before a checkpoint.

    Raises:
        FileNotFoundError: if `name` looks like a path and is no folder with a model.
    """
    name = str(name)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"The folder {name} holds no model: it has no config.json.")
        return str(path)
    if name in list_checkpoints():
        return checkpoint(name)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        there = ", ".join(list_checkpoints()) or "none in this version"
        raise FileNotFoundError(
            f"There is no model {name!r}: give a Hub id (user/name), a folder that holds a config.json, or the name "
            f"of a shipped checkpoint ({there})."
        )
    return name


def commit_of(config: "PreTrainedConfig") -> str | None:
    """The commit of the Hub that `load_config` read a configuration from, from which all else is to be read."""
    return getattr(config, "_commit_hash", None)


def find_file(name: str | Path, file: str, commit: str | None = None) -> Path | None:
    """The path of one file of a model, fetched where `name` is a Hub id; None if there is none.

    Raises:
        ValueError: if the Hub cannot be asked, or it is a link out of its folder.
    """
    from transformers.utils.hub import cached_file

    with library_errors(f"{name}/{file}"):
        found = cached_file(resolve_model(name), file, revision=commit, _raise_exceptions_for_missing_entries=False)
    if found is None:
        return None
    if str(name) not in list_checkpoints():
        check_inside(Path(found), Path(found).parent, f"{name}/{file}")
    return Path(found)
