"""Ctrl-C and SIGTERM during a training: wait for the end of the step, so that a checkpoint can be written."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

REPEATED = 0.5  # seconds in which a second signal is the same one, from the terminal and from a launcher


class Interrupted(KeyboardInterrupt):
    """A training was stopped by a signal.

    Args:
        message: what there is, and how to resume it.
        number: of the signal; a shell expects the exit code 128 + `number`.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.number = number


class Interruption:
    """Handlers of SIGINT and SIGTERM that end a training by [`Interrupted`]: at once, or, within
    [`Interruption.deferred`], where `number` is looked at; a second signal then ends it at once.

    Args:
        advice: how to resume, for the message.
        speaks: whether to print what the first signal does.
    """

    def __init__(self, advice: str, speaks: bool = True):
        self.advice = advice
        self.speaks = speaks
        self.number = 0
        self.is_deferred = False
        self.since = 0.0
        self.pid = os.getpid()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside, in the main thread and where nothing else handles or ignores them."""
        default = (signal.SIG_DFL, signal.default_int_handler)
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            before = {number: handler for number, handler in before.items() if handler in default}
        try:
            for number in before:
                signal.signal(number, self.handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal is only recorded; one that nobody has looked at takes effect at the end."""
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False
        if self.number:
            self.finish("Interrupted.", self.number)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:
            self.handle_in_child(number)
        elif not self.is_deferred:
            self.finish("Interrupted.", number)
        elif self.number and time.monotonic() - self.since > REPEATED:
            self.finish("Stopped at once.", number)
        elif not self.number:
            self.number, self.since = number, time.monotonic()
            if self.speaks:
                self.say("Interrupted: writing a checkpoint after this step; interrupt again to stop at once.")

    def handle_in_child(self, number: int) -> None:
        """In a process that reads data: a launcher or terminal signals it too, but the training still needs it."""
        if self.is_deferred and not (number == signal.SIGTERM and self.number):
            self.number = number
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def say(self, text: str) -> None:
        with suppress(OSError):  # print may not be called again from within itself, as a handler would
            os.write(2, f"\nhfvision: {text}\n".encode())

    def finish(self, text: str, number: int) -> None:
        """Raise [`Interrupted`] with a message of `text` and the advice."""
        raise Interrupted(f"{text} {self.advice}" if self.speaks else "", number)
