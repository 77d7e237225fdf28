"""The temporary folder of a demo: private to its user and its process, and gone when the process ends."""

import atexit
import os
import signal
import tempfile
import time
from collections.abc import Container
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from types import FrameType

EXAMPLES = "examples"  # folder in the upload folder of the results of examples, which are computed once
STOP_SIGNALS = ("SIGTERM", "SIGHUP")  # of Docker and systemd, and of a terminal that is closed


@lru_cache(maxsize=1)
def scratch() -> Path:
    """The temporary folder of this process (mode 0700), removed when it ends.

    It lies in `$GRADIO_TEMP_DIR` where that is set, otherwise in the system's folder for temporary files.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="hfvision-demo-", dir=parent)).resolve()
    atexit.register(remove, folder, os.getpid())
    return folder


def remove(folder: Path, owner: int) -> None:
    """Remove the folder in the process that made it; processes forked from it leave it alone."""
    for _ in range(3):  # as requests that still run may write into it meanwhile
        if os.getpid() == owner and folder.exists():
            rmtree(folder, ignore_errors=True)


def uploads() -> Path:
    """The folder that holds what clients sent and what they may fetch, inside [`scratch`]."""
    folder = scratch() / "uploads"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def keep_uploads_private() -> None:
    """Let Gradio keep its files in [`uploads`] instead of a folder that all users and processes share."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads())
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(uploads() / EXAMPLES)


def remove_old_uploads(seconds: float, kept: Container[str] = ()) -> None:
    """Remove what was put into [`uploads`] more than so many seconds ago, but for the paths in `kept` and examples."""
    examples = uploads() / EXAMPLES
    for path in (*uploads().glob("*/*"), *uploads().iterdir()):
        if examples in (path, path.parent) or str(path) in kept:
            continue
        with suppress(OSError):  # gone already, or a folder that is not empty
            if time.time() - path.lstat().st_mtime > seconds:
                path.rmdir() if path.is_dir() else path.unlink()


def remove_when_stopped() -> None:
    """Remove [`scratch`] on the signals that end a server too, which by default run no exit handlers.

    A signal that is ignored, as SIGHUP under nohup, stays ignored.
    """
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        remove(scratch(), owner)
        os._exit(128 + number)  # an orderly exit would wait for the requests that run

    for name in STOP_SIGNALS:
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
