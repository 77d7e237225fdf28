"""Which checkpoint a training resumes from: the newest that is whole, and of the same training."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict

from ..utils.console import logger
from ..utils.errors import one_line
from .checkpoint import Checkpoint, Networks, all_checkpoints, file_digest, load_checkpoint

# What may differ between the run that made a checkpoint and the one that resumes from it.
FREE_OPTIONS = {"out", "resume", "workers", "trackers", "checkpoint_minutes", "keep", "keep_checkpoints"}
FIELDS = {"epoch": int, "batch": int, "step": int, "seconds": int | float, "history": list, "config": dict}
FIELDS |= {"processes": int}


class DamagedCheckpointError(ValueError):
    """A checkpoint whose files have changed or are missing."""


def load_newest(
    folder: Path, accelerator: Accelerator, networks: Networks, config: dict[str, Any], data: dict[str, Any]
) -> Checkpoint | None:
    """Load the newest usable checkpoint in `folder` into `networks`; called on all processes.

    Damaged ones are skipped with a warning.

    Args:
        folder: of checkpoints; there may be none.
        accelerator: of the training.
        networks: what is trained.
        config: the settings of this training.
        data: facts about the data that must not have changed since the checkpoint, by their names in messages.

    Returns:
        None if there are no checkpoints.

    Raises:
        ValueError: if none can be used, or the newest intact one is of another training; no file is changed.
    """
    reasons: list[str] = []
    for path in reversed(all_checkpoints(folder)):
        found: list[str | None] = [None, None]
        if accelerator.is_main_process:
            found = [*check(path, networks, config, data | {"number of processes": accelerator.num_processes})]
        damage, difference = broadcast_object_list(found) if accelerator.num_processes > 1 else found
        if difference:
            raise ValueError(f"The checkpoint {path} is of another training: {difference}.")
        if damage is None:
            try:
                loaded = load_checkpoint(path, accelerator, networks)
            except torch.OutOfMemoryError:
                raise
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
                damage = one_line(error)
            else:
                if reasons and accelerator.is_main_process:
                    logger.warning(f"damaged checkpoint: {'; '.join(reasons)}.")
                if accelerator.is_main_process:
                    logger.info(f"Resuming from {path}.")
                return loaded
        reasons.append(f"{path}: {damage}")
    if reasons:
        raise ValueError(
            f"No checkpoint can be used: {'; '.join(reasons)}. Nothing was removed: choose another --out, or remove "
            f"{folder} to start again."
        )
    return None


def check(
    path: Path, networks: Networks, config: dict[str, Any], data: dict[str, Any]
) -> tuple[str | None, str | None]:
    """What is damaged in a checkpoint, and how it differs from this training; None for each that does not apply."""
    try:
        state = read_state(path)
        if difference := differences(state, config, data):
            return None, difference
        check_files(path, state, networks)
    except DamagedCheckpointError as error:
        return str(error), None
    return None, None


def read_state(path: Path) -> dict[str, Any]:
    """The `state.json` of a checkpoint, with its fields checked.

    Raises:
        DamagedCheckpointError: if it is missing, cannot be read, or has fields of other types.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedCheckpointError("state.json is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"state.json cannot be read ({one_line(error)})") from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"state.json holds {str(state)[:40]!r} in place of a mapping")
    for name, kind in FIELDS.items():
        value = state.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int | float) and value < 0):
            raise DamagedCheckpointError(f"{name} in state.json is {str(value)[:40]!r}")
    entries = state["history"]
    if len(entries) != state["epoch"] or not all(
        isinstance(entry, dict)
        and entry.get("epoch") == number
        and all(isinstance(value, int | float) for value in entry.values())
        for number, entry in enumerate(entries, 1)
    ):
        raise DamagedCheckpointError("history in state.json does not fit its epoch")
    if state["step"] != int(path.name.removeprefix("step-")):
        raise DamagedCheckpointError(f"state.json is of step {state['step']}")
    return state


def differences(state: dict[str, Any], config: dict[str, Any], data: dict[str, Any]) -> str:
    """How the training that wrote `state` differs from this one, in words; empty where it does not."""
    recorded = state.get("data")
    saved: dict[str, Any] = dict(recorded) if isinstance(recorded, dict) else {}
    saved |= {"number of processes": state["processes"]}
    parts = [changes(state["config"], config, FREE_OPTIONS)]
    parts += [
        f"{name} was {short(saved[name])}, now {short(value)}"
        for name, value in data.items()
        if name in saved and saved[name] != value
    ]
    return "; ".join(filter(None, parts))


def changes(old: dict[str, Any], new: dict[str, Any], free: set[str]) -> str:
    """The options that differ, except those in `free`, in words."""
    names = sorted({*old, *new} - free)
    return "; ".join(f"{n} was {old.get(n)!r}, now {new.get(n)!r}" for n in names if old.get(n) != new.get(n))


def short(value: Any) -> str:
    """A value in at most 100 characters."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def check_files(path: Path, state: dict[str, Any], networks: Networks) -> None:
    """Raise DamagedCheckpointError if a file is missing or has changed, or weights do not fit `networks`."""
    names = [f"{prefix}{part}" for prefix in networks for part in ("model", "optimizer")]
    names += [f"process-{number}" for number in range(state["processes"])]
    digests = state.get("files", {f"{name}.safetensors": None for name in names})  # earlier versions wrote no digests
    if not isinstance(digests, dict) or not {f"{name}.safetensors" for name in names} <= set(digests):
        raise DamagedCheckpointError("files in state.json are not those of a checkpoint")
    for name, digest in digests.items():
        try:
            if digest is not None and file_digest(path / Path(name).name) != digest:
                raise DamagedCheckpointError(f"{name} is not as it was written")
        except FileNotFoundError:
            raise DamagedCheckpointError(f"{name} is missing") from None
        except OSError as error:
            raise DamagedCheckpointError(f"{name} cannot be read ({one_line(error)})") from error
    for prefix, (model, _) in networks.items():
        check_shapes(path / f"{prefix}model.safetensors", model)
    for name in ("ema", "best"):
        if (path / f"{name}.safetensors").is_file():
            check_shapes(path / f"{name}.safetensors", networks[""][0])


def check_shapes(path: Path, model: nn.Module) -> None:
    """Raise DamagedCheckpointError if the weights in a file are not those of `model`, by name and shape."""
    tensors = cast(dict[str, Tensor], get_model_state_dict(model))
    wanted = {name: list(tensor.shape) for name, tensor in tensors.items()}
    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{path.name} cannot be read ({one_line(error)})") from error
    for name in sorted({*wanted, *found}):
        if found.get(name) != wanted.get(name):
            raise DamagedCheckpointError(
                f"{name} in {path.name} has the shape {found.get(name, 'none')}, in the model "
                f"{wanted.get(name, 'none')}: have the data or the start model changed?"
            )
