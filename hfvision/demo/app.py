"""The app: four tabs over the models that the package carries, or that it is started with."""

import os
import secrets
import sys
from asyncio import create_task, sleep, to_thread
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import gradio as gr
from gradio.routes import App
from gradio.themes import Soft
from gradio.utils import get_space
from gradio_client import Client
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .classify import classify_tab
from .describe import describe_tab
from .guard import Guard
from .inputs import CheckedBlocks
from .limits import KEPT_SECONDS, MAX_BYTES, remove_old_results
from .models import find_offers
from .robustness import robustness_tab
from .scratch import remove_old_uploads, remove_when_stopped
from .upscale import upscale_tab

SHARED_LINKS = "*.gradio.live"  # of --share
TIDY_SECONDS = 60  # between two removals of old files
QUEUE = 64  # requests that wait; later ones are told to come back
SESSIONS = 1000  # whose settings are remembered
SHARED = {"concurrency_id": "models", "concurrency_limit": 1}
TABS = {
    "Classify": classify_tab,
    "Upscale": upscale_tab,
    "Robustness": robustness_tab,
    "Under the hood": describe_tab,
}
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
CODE_FONTS = ("ui-monospace", "Consolas", "monospace")
CSS = """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: auto !important; }
.gradio-container main { width: 100%; }
@media (max-width: 640px) {
  .tab-container button { padding: 0 5px !important; font-size: 14px !important; }
  .pixels label { font-size: 11px !important; }
}
footer .divider { display: none; }
.pixels { height: auto !important; aspect-ratio: 1; }
.pixels .icon-button-wrapper { display: none; }
.pixels img { image-rendering: pixelated; }
.exact { flex: none !important; width: fit-content !important; min-width: 0 !important; }
.exact:not(:has(img)) { width: 288px !important; }
.exact img { width: auto !important; max-width: none !important; }
.graph { overflow: auto; max-height: 80vh; background: white; border-radius: 8px; padding: 8px; }
.graph svg { display: block; margin: auto; max-width: 100%; height: auto; }
"""


def build(models: Sequence[str] = ()) -> gr.Blocks:
    """The app with the shipped checkpoints and `models`, which come first.

    Args:
        models: folders or Hub ids.

    Raises:
        FileNotFoundError, ValueError: if one of `models` is not there or of an unknown kind.
    """
    # Statistics of all requests, anew after each, that nobody sees here.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(sys.maxsize))
    offers = find_offers(models)
    with CheckedBlocks(title="hfvision", analytics_enabled=False) as demo:
        gr.Markdown("# hfvision\nSmall, robust, fast image models: say what is in a picture, enlarge it, attack it.")
        for title, tab in TABS.items():
            with gr.Tab(title):
                tab(offers, SHARED)
    demo.queue(max_size=QUEUE)
    return demo


async def health(request: Request) -> JSONResponse:
    """That the server answers."""
    return JSONResponse({"status": "ok"})


@asynccontextmanager
async def tidying(app: App) -> AsyncIterator[None]:
    """Remove old uploads and results while the server runs; the photographs of the examples stay."""

    async def tidy() -> None:
        while True:
            kept = {path for block in app.get_blocks().blocks.values() for path in getattr(block, "keep_in_cache", ())}
            await to_thread(remove_old_uploads, KEPT_SECONDS, kept)
            await to_thread(remove_old_results)
            await sleep(TIDY_SECONDS)

    task = create_task(tidy())
    yield
    task.cancel()


def launch_options(allowed_hosts: Sequence[str] = (), host: str | None = None) -> dict[str, Any]:
    """Arguments of `Blocks.launch`: looks, limits, the health endpoint, the MCP server where `mcp` is installed.

    Args:
        allowed_hosts: `hosts` of [`Guard`]. A Space is answered by any name: it is public, and its proxy chooses.
        host: that the server listens on; the one of Gradio where not given.
    """
    hosts = None if get_space() else tuple(allowed_hosts)
    names = (SHARED_LINKS, host or os.environ.get("GRADIO_SERVER_NAME", "localhost"))
    return {
        "theme": Soft(font=FONTS, font_mono=CODE_FONTS),
        "css": CSS,
        "max_file_size": MAX_BYTES,
        "app_kwargs": {
            "routes": [Route("/health", health)],
            "middleware": [Middleware(Guard, hosts=hosts, names=names)],
            "lifespan": tidying,
        },
        "mcp_server": find_spec("mcp") is not None,
        "footer_links": ["api"],
        "run_history": False,
        "enable_monitoring": False,
        "state_session_capacity": SESSIONS,
        "ssr_mode": False,
    }


def launch(demo: gr.Blocks, **options: Any) -> None:
    """Serve until the process is stopped, and leave no file behind then.

    Args:
        demo: of [`build`].
        **options: of `Blocks.launch`, before those of [`launch_options`].
    """
    remove_when_stopped()
    options = launch_options() | options
    demo.launch(prevent_thread_lock=True, **options)
    sign_in_mcp(demo)
    demo.block_thread()


def sign_in_mcp(demo: gr.Blocks) -> None:
    """Give the MCP server, which calls the demo over HTTP itself, a session where there is a password."""
    if demo.auth and demo.mcp_server_obj and demo.local_url:
        token = secrets.token_urlsafe(16)
        demo.app.tokens[token] = "MCP"  # a user of its own, as signing out ends all sessions of a user
        options: dict[str, Any] = {"verbose": False, "download_files": False, "analytics_enabled": False}
        cookies = {f"access-token-unsecure-{demo.app.cookie_id}": token}
        demo.mcp_server_obj._client_instance = Client(demo.local_url, httpx_kwargs={"cookies": cookies}, **options)
