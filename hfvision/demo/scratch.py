"""The temporary folder of a demo: private to its user and its process, and gone when the process ends."""

import atexit
import os
import signal
import tempfile
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from types import FrameType

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
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(scratch() / "examples")


def remove_when_stopped() -> None:
    """Remove [`scratch`] on the signals that end a server too, which by default run no exit handlers."""
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        remove(scratch(), owner)
        os._exit(128 + number)  # an orderly exit would wait for the requests that run

    for name in STOP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
