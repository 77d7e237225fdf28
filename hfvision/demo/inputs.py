"""What the demo takes from its clients: every value of every request is checked here, whichever way it came."""

import binascii
import logging
import reprlib
import stat
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio.processing_utils import save_base64_to_cache

from .limits import MAX_BYTES, refuse
from .scratch import uploads

logger = logging.getLogger(__name__)
failed: ContextVar[bool] = ContextVar("failed", default=False)  # whether a request met an error of the demo's own

SERVED = "/gradio_api/file="  # addresses of files in the upload folder
HOW = 'upload it and give {"path": …} with the name that the upload returned, or {"url": "data:image/png;base64,…"}'


class CheckedBlocks(gr.Blocks):
    """Blocks that take nothing but values of the right kind and files that were uploaded, and refuse in words.

    Gradio's queue, its plain API, MCP and the examples all go through these two methods.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: Sequence[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        if not explicit_call:
            inputs = check_values(block_fn, inputs)
        return await super().preprocess_data(block_fn, list(inputs), state, explicit_call)

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error:
            raise
        except Exception:
            logger.exception("A request to the demo failed.")
            failed.set(True)
            raise refuse("The demo failed at this request; what happened is in its log.") from None


def check_values(block_fn: Any, values: Sequence[Any]) -> list[Any]:
    """The values of a request as its components take them; a `gr.Error` for one of a wrong kind."""
    components = block_fn.inputs
    if not isinstance(values, list | tuple) or len(values) != len(components):
        names = ", ".join(component.label or "example" for component in components) or "none"
        raise refuse(f"This takes a list of {len(components)} values ({names}), not {reprlib.repr(values)}.")
    return [check_value(component, value) for component, value in zip(components, values, strict=True)]


def check_value(component: Any, value: Any) -> Any:
    match component:
        case gr.Image():
            return check_image(value)
        case gr.Slider():
            return check_number(component, value)
        case gr.Dropdown() | gr.Radio():
            return check_choice(component, value)
        case gr.Dataset():
            last = len(component.raw_samples or ()) - 1
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= last:
                return value
            raise refuse(f"An example is chosen by its number from 0 to {last}, not by {reprlib.repr(value)}.")
    raise refuse(f"{component.label} takes nothing from a client.")


def check_number(slider: gr.Slider, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and slider.minimum <= value <= slider.maximum:  # NaN is not
        return value
    span = f"from {slider.minimum:g} to {slider.maximum:g}"
    raise refuse(f"{slider.label} must be a number {span}, not {reprlib.repr(value)}.")


def check_choice(component: gr.Dropdown | gr.Radio, value: Any) -> Any:
    choices = [choice for _, choice in component.choices]
    if value is None and not choices:
        return None
    for choice in choices:
        if not isinstance(value, bool) and value == choice:
            return choice
    raise refuse(
        f"{component.label}: {reprlib.repr(value)} is not in the list; choose one of {'; '.join(map(str, choices))}."
    )


def check_image(value: Any) -> dict[str, Any] | None:
    """Gradio's description of an image, of nothing but the path of a file that was uploaded."""
    if value is None:
        return None
    path, url = (value.get(key) for key in ("path", "url")) if isinstance(value, dict) else (None, None)
    given = path or url
    if not isinstance(given, str):
        raise refuse(f"An image cannot be {reprlib.repr(value)}: {HOW}.")
    if given.startswith("data:"):
        found = save_data_url(given)
    elif given.startswith(("http://", "https://")) and SERVED not in given:
        raise refuse(f"The demo fetches no image from other addresses: {HOW}.")
    else:
        found = find_upload(unquote(given.split(SERVED, 1)[1]) if SERVED in given else given)
    return {"path": str(found), "meta": {"_type": "gradio.FileData"}}


def save_data_url(url: str) -> Path:
    """The contents of a data: URL as a file in the upload folder."""
    header, comma, data = url.partition(",")
    if not comma or not header.endswith(";base64"):
        raise refuse(f"A data: URL must be base64, as data:image/png;base64,…, not {reprlib.repr(url)}.")
    if len(data) > MAX_BYTES // 3 * 4 + 4:
        raise refuse(f"The image is larger than {MAX_BYTES >> 20} MB, which is the most that is taken.")
    try:
        return Path(save_base64_to_cache(f"data:;base64,{data}", str(uploads()), "image"))
    except (binascii.Error, ValueError):
        raise refuse("The data: URL is not valid base64: encode the bytes of an image file.") from None


def find_upload(path: str) -> Path:
    """A regular file inside the upload folder, links followed.

    What else there is on this machine, and what not, is answered alike.
    """
    folder, named = uploads(), Path(path)
    status = None
    with suppress(OSError, ValueError, RuntimeError):  # of too long names, null characters, links in circles
        if named.is_relative_to(folder) and ".." not in named.parts:  # nothing outside is touched
            named = named.resolve(strict=True)
            status = named.stat() if named.is_relative_to(folder) else None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise refuse("There is no such upload here, or no longer: upload the image again.")
    if status.st_size > MAX_BYTES:
        raise refuse(f"The image is larger than {MAX_BYTES >> 20} MB, which is the most that is taken.")
    return named
