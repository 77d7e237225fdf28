"""The folder of a training: locked while it runs, with its settings from the start, and without partial files."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..utils.console import logger
from ..utils.files import check_folder, check_training_folder, remove_abandoned, write_text
from .checkpoint import all_checkpoints, remove_partial
from .interrupt import Interruption
from .lock import FolderLock
from .options import as_plain, load_yaml
from .resume import FREE_OPTIONS, changes

CONFIG = "config.yaml"
# Of the training in this thread: the folders it has open, and what handles its signals.
_open: ContextVar[tuple[tuple[Path, ...], Interruption] | None] = ContextVar("open", default=None)


@contextmanager
def training_folder(config: Any, command: Sequence[str] = ()) -> Iterator[Interruption]:
    """Reserve the folder `config.out` for one training; called on all processes, and nested without effect.

    A lock file excludes other trainings, the settings are written to `config.yaml`, partial files of a killed training
    are removed, and Ctrl-C and SIGTERM raise [`Interrupted`].

    Args:
        config: settings with `out` and `resume`.
        command: words after `hfvision` that resume the training, with `--resume --out`.

    Raises:
        ValueError: if `out` is a file, another training runs there, or it holds a training of other settings or
            one to resume without `resume`.
        OSError: if the folder cannot be written.
    """
    folders, interruption = _open.get() or ((), None)
    if config.out is None or config.out.resolve() in folders:
        yield interruption or Interruption("")
        return
    state = PartialState()
    lock = FolderLock(config.out)
    own = Interruption(advice(command, config.out, state.num_processes), state.is_main_process)
    with own.installed():  # which leaves the handlers of a training around this one
        failure: list[Exception | None] = [None]
        try:
            if state.is_main_process:
                try:
                    set_up(config, lock)
                except (ValueError, OSError) as error:
                    failure = [error]
            (error,) = broadcast_object_list(failure) if state.num_processes > 1 else failure
            if error is not None:
                raise error
            token = _open.set(((*folders, config.out.resolve()), interruption or own))
            try:
                yield interruption or own
            finally:
                _open.reset(token)
        finally:
            if state.is_main_process:
                lock.release()


def set_up(config: Any, lock: FolderLock) -> None:
    """Lock the folder, check that this training may use it, write the settings, remove partial files."""
    check_folder(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    if note := lock.acquire():
        logger.warning(note)
    try:
        check_training_folder(config.out, resume=config.resume)
        check_settings(config)
        settings = as_plain(config) | {"resume": False}
        write_text(config.out / CONFIG, yaml.safe_dump(settings, sort_keys=False))
        remove_partial(config.out / "checkpoints")
        for folder in (config.out, config.out.absolute().parent):
            remove_abandoned(folder)
    except BaseException:
        lock.release()
        raise


def check_settings(config: Any) -> None:
    """Raise ValueError where there are checkpoints that this training does not resume from."""
    folders = [config.out / "checkpoints", *config.out.glob("round-*/checkpoints")]
    if not any(map(all_checkpoints, folders)):
        return
    if not config.resume:
        raise ValueError(
            f"{config.out} holds a training already: resume it with --resume, choose another --out, or remove it."
        )
    try:
        saved = load_yaml(CONFIG, (config.out / CONFIG).read_bytes())
    except (OSError, ValueError):
        return  # the checkpoints have the settings too
    if isinstance(saved, dict) and (text := changes(saved, as_plain(config), FREE_OPTIONS)):
        raise ValueError(f"{config.out} holds another training: {text}. Resume with its settings: --resume alone.")


def advice(command: Sequence[str], out: Path, processes: int) -> str:
    """How to resume a training, in words."""
    if not command:
        return "Resume with resume=True."
    launch = f" by the same launcher, on {processes} processes" if processes > 1 else ""
    return f"Resume{launch} with: {shlex.join(['hfvision', *command, '--resume', '--out', str(out)])}"
