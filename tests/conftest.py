"""Every test talks to a Hub of its own process: these variables must be set before huggingface_hub is imported.

Two processes share the tests, so each, and what it starts, computes on one thread.
"""

import atexit
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if "huggingface_hub" in sys.modules:
    raise pytest.UsageError("huggingface_hub was imported before tests/conftest.py could set HF_ENDPOINT")

HUB = HubServer()
HOME = tempfile.mkdtemp(prefix="hf-home-")
atexit.register(HUB.close)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for name in list(os.environ):
    if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ.update(
    HF_ENDPOINT=HUB.url,
    HF_HOME=HOME,
    HF_TOKEN=HUB.token,
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_UPDATE_CHECK="1",
    NO_PROXY="127.0.0.1,localhost",
)

WITHOUT_HFVISION = """\
import sys
sys.modules["hfvision"] = None
try:
    import hfvision
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("hfvision can still be imported")
"""


@pytest.fixture(autouse=True)
def messages() -> Iterator[None]:
    """What the package logs is written to the standard error, as by the command line."""
    from hfvision.utils.console import log_to_stderr

    with log_to_stderr(logging.INFO):
        yield


@pytest.fixture
def config_warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """`caplog` for the warnings of configurations, whose loggers a library in an earlier test may have disabled."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("hfvision.models."):
            logging.getLogger(name).disabled = False
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.fixture
def hub() -> HubServer:
    """The Hub that HF_ENDPOINT points to, with no repositories and an empty log; the client's cache is empty."""
    HUB.clear()
    shutil.rmtree(Path(HOME, "hub"), ignore_errors=True)
    return HUB


@pytest.fixture
def run_isolated(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a fresh process that cannot import hfvision and gives what it prints.

    `run_isolated(code, *, env=None, home=None)`: `env` adds variables, such as HF_HUB_DISABLE_XET or HF_HUB_OFFLINE;
    `home` is the HF_HOME, a fresh folder where not given.
    """

    def run(code: str, *, env: dict[str, str] | None = None, home: str | Path | None = None) -> str:
        folder = tempfile.mkdtemp(prefix="isolated-", dir=tmp_path)
        script = Path(folder, "script.py")
        script.write_text(WITHOUT_HFVISION + textwrap.dedent(code), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-I", script],
            cwd=folder,
            env=os.environ | {"HF_HOME": str(home or folder)} | (env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done.stdout

    return run
