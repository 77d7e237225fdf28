"""A lock file that keeps a second training out of a folder."""

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from ..utils.files import temporary_path

NAME = ".training.lock"


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        pid: its number.
        host: name of its machine.
        started: when it took the lock, for people.
        process_start: which boot and how many clock ticks after it the process began, to tell it from a later one of
            the same number; None where there is no `/proc`.
    """

    pid: int
    host: str
    started: str
    process_start: str | None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"

    @classmethod
    def current(cls) -> "Owner":
        pid = os.getpid()
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(pid, socket.gethostname(), now, process_start(pid))

    def is_running(self) -> bool:
        """Whether the process still runs on this machine."""
        try:
            if psutil.Process(self.pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:  # of a process of another user, where these are hidden
            return True
        start = process_start(self.pid)
        return None in (start, self.process_start) or start == self.process_start


def process_start(pid: int) -> str | None:
    """Boot and start time of a process, or None where `/proc` does not tell them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return None


class FolderLock:
    """The lock on `folder`, a JSON file with the fields of [`Owner`]."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / NAME
        self.owner = Owner.current()

    def acquire(self) -> str | None:
        """Take the lock.

        Returns:
            A sentence if it was taken over from a process that no longer runs.

        Raises:
            ValueError: if another training holds it, or may hold it.
            OSError: if the file cannot be written.
        """
        note = None
        while True:
            try:
                create(self.path, self.owner)
                return note
            except FileExistsError:
                other = read_owner(self.path)
            if other is None:
                continue
            self.refuse(other)
            remove_stale(self.path, other)
            note = f"The earlier training in {self.folder} ({other}) no longer runs: its lock is taken over."

    def check(self) -> None:
        """Raise ValueError if another training holds the lock, or may hold it; nothing is changed."""
        if self.path.exists() and (other := read_owner(self.path)) is not None and other != self.owner:
            self.refuse(other)

    def refuse(self, other: Owner) -> None:
        """Raise ValueError if `other` still runs, or may still run on another machine."""
        if other.host != self.owner.host:
            raise ValueError(
                f"{self.folder} is locked by a training of another machine ({other}). If it no longer runs, remove "
                f"{self.path} and start again."
            )
        if other.is_running():
            raise ValueError(
                f"A training is already running in {self.folder} ({other}): wait for it, stop it, or choose another "
                "--output-dir."
            )

    def release(self) -> None:
        """Remove the lock, if it is still this process's."""
        with suppress(OSError, ValueError):
            if read_owner(self.path) == self.owner:
                self.path.unlink()


def create(path: Path, owner: Owner) -> None:
    """Write a lock file that appears whole, or raise FileExistsError."""
    text = json.dumps(asdict(owner), indent=2) + "\n"
    with temporary_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("x", encoding="utf-8") as file:
                file.write(text)


def read_owner(path: Path) -> Owner | None:
    """Who holds the lock; None if it has just been removed. ValueError for a file that does not say."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"pid": int, "host": str, "started": str, "process_start": str | None}
        if not (isinstance(fields, dict) and all(isinstance(fields[name], kind) for name, kind in kinds.items())):
            raise TypeError("not the fields of a lock")
        if not 0 < fields["pid"] < 2**31:
            raise ValueError("not the number of a process")
        return Owner(**{name: fields[name] for name in kinds})
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        error: Exception = ValueError("a link to no file")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as caught:
        error = caught
    raise ValueError(
        f"The lock file {path} cannot be read. If no training runs in {path.parent}, remove it and start again."
    ) from error


def remove_stale(path: Path, owner: Owner) -> None:
    """Remove the lock of `owner`; one that another process has put in its place meanwhile stays."""
    with temporary_path(path) as aside, suppress(FileNotFoundError):
        path.rename(aside)
        if read_owner(aside) != owner:
            with suppress(FileExistsError):
                os.link(aside, path)
