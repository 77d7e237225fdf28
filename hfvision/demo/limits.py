"""What the demo takes, and how it refuses: in words, without a path, before anything is decoded."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import gradio as gr
from PIL import Image

from ..data.io.images import Photo, read_image, read_photo
from .scratch import scratch

MAX_BYTES = 20 * 2**20  # of an image
MAX_BODY = MAX_BYTES // 3 * 4  # of a request: an image in base64
MAX_PIXELS = 24_000_000  # of a photograph to look at
MAX_UPSCALED = 4_000_000  # pixels of a photograph to upscale
SECONDS = 90  # of one request
KEPT_SECONDS = 1800  # of results that wait for their download

T = TypeVar("T")


def upload_field(label: str, height: int) -> gr.Image:
    """An image component that hands over the path of the very file, so that `read_image` tells what is wrong."""
    field = gr.Image(type="filepath", image_mode=None, format="png", label=label, height=height)
    field.preprocess = lambda payload: payload and payload.path
    return field


def refuse(message: str) -> gr.Error:
    return gr.Error(message, print_exception=False, duration=8)


def read_upload(path: str | None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An uploaded image as [`read_image`] gives it; a `gr.Error` in words for one that cannot be taken."""
    return read(read_image, path, max_pixels)


def read_uploaded_photo(path: str | None, max_pixels: int = MAX_UPSCALED) -> Photo:
    """The same in full depth, with metadata: [`read_photo`]."""
    return read(read_photo, path, max_pixels)


def read(reader: Callable[..., T], path: str | None, max_pixels: int) -> T:
    if not path:
        raise refuse("Choose an image first.")
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise refuse("The uploaded image is no longer here: upload it again.") from None
    try:
        return reader(data, max_pixels=max_pixels)
    except (ValueError, OSError, ImportError) as error:
        raise refuse(
            f"{error} Give a PNG, JPEG, WebP or TIFF file of up to {max_pixels / 1e6:.0f} megapixels."
        ) from None


def stopwatch(seconds: float = SECONDS) -> Callable[..., None]:
    """A function, of any arguments, that raises a `gr.Error` once a request has taken as long as it may."""
    start = time.monotonic()

    def check(*_: Any) -> None:
        if time.monotonic() - start > seconds:
            raise refuse(f"This takes longer than {seconds:.0f} seconds here: give less to do, or a smaller image.")

    return check


def within_seconds(parts: Iterable[T], seconds: float = SECONDS) -> Iterator[T]:
    """The parts of a computation as they come, and a `gr.Error` when they take longer than a request may."""
    check = stopwatch(seconds)
    for part in parts:
        check()
        yield part


def remove_old_results() -> None:
    """Remove the results that waited for their download long enough."""
    for folder in scratch().glob("result-*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                rmtree(folder, ignore_errors=True)


def result_path(name: str) -> Path:
    """A path for a result to download, in a folder of its own; those of older requests are removed."""
    remove_old_results()
    return Path(tempfile.mkdtemp(prefix="result-", dir=scratch())) / name


def on_gpu(function: Callable[..., T]) -> Callable[..., T]:
    """Hold a GPU while the function runs, where the Space shares them (ZeroGPU)."""
    try:
        from spaces import GPU  # pyright: ignore[reportAttributeAccessIssue]  # of Spaces with ZeroGPU
    except ImportError:
        return function
    return GPU(function)
