"""Checkpoints of a training, from which it resumes bit-exactly: written atomically, safetensors and JSON only.

A checkpoint is a folder `step-00001234`:

    model.safetensors      the weights being trained, with all buffers
    ema.safetensors        their moving average, where there is one
    best.safetensors       the best weights so far, where the training validates
    optimizer.safetensors  the optimizer's tensors
    discriminator_model.safetensors, discriminator_optimizer.safetensors  those of a GAN's discriminator
    process-0.safetensors  the random states and the sums of process 0, and so on
    state.json             everything else: epoch, batch, history, settings, the optimizer's numbers, and the SHA-256
                           of each of the other files
"""

import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from ..utils.files import flush_to_disk

FULL = StateDictOptions(full_state_dict=True)
NAME = re.compile(r"step-\d{8,}")
# Each network with its optimizer, by the prefix of its files: "" for the first, "discriminator_" for a second.
Networks = dict[str, tuple[nn.Module, torch.optim.Optimizer]]


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers on the CPU, gathered from shards; called on all processes."""
    state = cast(dict[str, Tensor], get_model_state_dict(model, options=FULL))
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}


def load_model_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """The reverse of [`model_state`], on all processes."""
    set_model_state_dict(model, dict(state), options=FULL)  # under DDP it renames the keys of the dict it is given


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` that have a `state.json`, oldest first."""
    return [path for path in all_checkpoints(folder) if (path / "state.json").is_file()]


def all_checkpoints(folder: Path) -> list[Path]:
    """The folders in `folder` with names of checkpoints, damaged or not, oldest first."""
    return sorted(path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir())


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; if interrupted, what remains does not look like one."""
    renamed = path.with_name(f".removed-{path.name}")
    shutil.rmtree(renamed, ignore_errors=True)
    path.rename(renamed)
    shutil.rmtree(renamed)


def remove_partial(folder: Path) -> None:
    """Remove the checkpoints in `folder` of which writing or removing was interrupted."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\.(partial|removed)-step-\d+", path.name):
            shutil.rmtree(path, ignore_errors=True)


def save_checkpoint(
    folder: Path,
    accelerator: Accelerator,
    networks: Networks,
    state: dict[str, Any],
    weights: dict[str, dict[str, Tensor]],
    sums: dict[str, float],
    keep: int,
) -> Path:
    """Write `folder/step-…` and remove all but the newest `keep`; called on all processes.

    Those of later steps are removed too: a training that resumed before them found them damaged.

    Args:
        folder: made where missing.
        accelerator: of the training.
        networks: what is trained.
        state: what JSON can hold; `state["step"]` names the checkpoint.
        weights: further files of weights by name, as `ema` and `best`.
        sums: numbers of this process alone.
        keep: how many checkpoints to keep.

    Raises:
        OSError: if it cannot be written; earlier checkpoints stay, and no partial one is left.
    """
    target = folder / f"step-{state['step']:08d}"
    partial = folder / f".partial-{target.name}"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        files, numbers = network_states(networks)
        own = {f"sums/{name}": torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
        save_file(random_states() | own, partial / f"process-{accelerator.process_index}.safetensors")
        if accelerator.is_main_process:
            for name, tensors in (files | weights).items():
                save_file({key: value.contiguous() for key, value in tensors.items()}, partial / f"{name}.safetensors")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            digests = {path.name: file_digest(path) for path in sorted(partial.glob("*.safetensors"))}
            state = state | numbers | {"processes": accelerator.num_processes, "scaler": scaler, "files": digests}
            (partial / "state.json").write_text(json.dumps(state, default=str), encoding="utf-8")
            for path in partial.iterdir():
                flush_to_disk(path)
            publish(partial, target, keep)
    except Exception as error:
        earlier = checkpoints(folder)
        last = f"the last one saved is {earlier[-1]}" if earlier else "none was saved before"
        raise OSError(f"The checkpoint {target} could not be written ({error}); {last}.") from error
    finally:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    return target


def network_states(networks: Networks) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors of models and optimizers by file, and the optimizers' other values, for `state.json`."""
    files: dict[str, dict[str, Tensor]] = {}
    values: dict[str, Any] = {}
    for prefix, (model, optimizer) in networks.items():
        files[f"{prefix}model"] = model_state(model)
        files[f"{prefix}optimizer"], values[f"{prefix}optimizer"] = optimizer_state(model, optimizer)
        values[f"{prefix}groups"] = group_numbers(optimizer)
    return files, values


def publish(partial: Path, target: Path, keep: int) -> None:
    """Rename a checkpoint that is complete to `target`, and remove all but the newest `keep` and those after it."""
    if target.is_dir():
        remove_checkpoint(target)
    partial.rename(target)
    flush_to_disk(target.parent)
    existing = all_checkpoints(target.parent)
    newest = existing.index(target) + 1
    for old in [*existing[: max(0, newest - keep)], *existing[newest:]]:
        remove_checkpoint(old)


class Checkpoint(NamedTuple):
    """What [`save_checkpoint`] got as `state`, `weights` and `sums`, and this process's random states for
    [`restore_random_states`]."""

    state: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]
    sums: dict[str, float]
    random_states: dict[str, Tensor]


def load_checkpoint(path: Path, accelerator: Accelerator, networks: Networks) -> Checkpoint:
    """Load a checkpoint's weights and optimizer states into `networks`, and return the rest; called on all
    processes."""
    state = json.loads((path / "state.json").read_text())
    files = {file.stem: load_file(file) for file in path.glob("*.safetensors") if not file.stem.startswith("process-")}
    for prefix, (model, optimizer) in networks.items():
        load_model_state(model, files.pop(f"{prefix}model"))
        settings = get_optimizer_state_dict(model, optimizer, options=FULL)
        saved: dict[str, dict[str, Any]] = {}
        for key, value in (state.pop(f"{prefix}optimizer") | files.pop(f"{prefix}optimizer")).items():
            parameter, name = key.rsplit("/", 1)
            # A tensor of a file may be at an unaligned address, where matrix products can differ in the last bit.
            saved.setdefault(parameter, {})[name] = value.clone() if torch.is_tensor(value) else value
        settings["state"] = cast(Any, saved)
        set_optimizer_state_dict(model, optimizer, settings, options=FULL)
        restore_groups(optimizer, state.pop(f"{prefix}groups", []))
        restore_layout(optimizer)
    if accelerator.scaler is not None and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    own = load_file(path / f"process-{accelerator.process_index}.safetensors")
    sums = {name.removeprefix("sums/"): own.pop(name).item() for name in list(own) if name.startswith("sums/")}
    return Checkpoint(state, files, sums, own)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state of each parameter, as `parameter/name`: its tensors and its plain numbers."""
    state = cast(dict[str, dict[str, Any]], get_optimizer_state_dict(model, optimizer, options=FULL)["state"])
    flat = {f"{parameter}/{name}": value for parameter, kept in state.items() for name, value in kept.items()}
    tensors = {key: value.detach().cpu() for key, value in flat.items() if torch.is_tensor(value)}
    return tensors, {key: value for key, value in flat.items() if key not in tensors}


def group_numbers(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """The numbers of each parameter group: some optimizers, as LAMB, count their steps there."""
    return [
        {
            name: value.item() if torch.is_tensor(value) else value
            for name, value in group.items()
            if isinstance(value, int | float) or (torch.is_tensor(value) and value.numel() == 1)
        }
        for group in optimizer.param_groups
    ]


def restore_groups(optimizer: torch.optim.Optimizer, numbers: list[dict[str, float]]) -> None:
    """The reverse of [`group_numbers`]; checkpoints of earlier versions have none."""
    for group, saved in zip(optimizer.param_groups, numbers, strict=False):
        for name, value in saved.items():
            old = group.get(name)
            group[name] = torch.full_like(old, value) if torch.is_tensor(old) else value


def restore_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give the state of each parameter the memory format of the parameter, as the optimizer itself does: it is
    contiguous in files, and sums over channels_last tensors run in another order."""
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def random_states() -> dict[str, Tensor]:
    """The states of the random generators of torch (CPU and this process's GPU), NumPy and Python."""
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    _, keys, position, has_gauss, gauss = cast(tuple[str, np.ndarray, int, int, float], np.random.get_state())
    states["numpy_keys"] = torch.from_numpy(keys.astype(np.int64))
    states["numpy_rest"] = torch.tensor([position, has_gauss, gauss], dtype=torch.float64)
    states["python"] = torch.tensor(random.getstate()[1])
    return states


def restore_random_states(states: dict[str, Tensor]) -> None:
    """The reverse of [`random_states`]."""
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    position, has_gauss, gauss = states["numpy_rest"].tolist()
    keys = states["numpy_keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    random.setstate((3, tuple(states["python"].tolist()), None))
