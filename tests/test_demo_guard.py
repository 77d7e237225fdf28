"""Access control of the demo: hosts and pages of others, strangers, wrong passwords; and the end of its process."""

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from demo_http import IMAGE, MCP, png, tool_call
from demo_server import demo_process, running_demo

from hfvision.cli.main import main

gradio = pytest.importorskip("gradio", reason="needs the demo extra")


@pytest.fixture(scope="module")
def http_client():
    with running_demo() as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def closed():
    with running_demo(auth=("ada", "secret")) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


FOREIGN = [
    *({"Host": "evil.example"}, {"Host": "evil.example:7860"}, {"Host": "127.0.0.1.evil.example"}, {"Host": ""}),
    *({"Host": "localhost@evil.example"}, {"Host": "evil.example@127.0.0.1"}, {"Host": "gradio.live"}),
    *({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}),
    # Anybody can have a page there.
    *({"Origin": "https://abc.gradio.live"}, {"Origin": "http://localhost:1"}),
    {"X-Forwarded-Host": "evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_hosts_and_pages_are_refused(http_client, headers):
    for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/gradio_api/queue/join"), ("GET", "/config")):
        assert http_client.request(method, path, headers=headers).status_code == 403
    assert tool_call(http_client, "describe_model", {"model": "x"}, headers=headers).status_code == 403


def test_its_own_names_and_page_are_answered(http_client):
    port = http_client.base_url.port
    own = [{"Host": f"localhost:{port}"}, {"Host": "[::1]:1"}, {"Host": "192.168.1.7"}, {"Host": "abc.gradio.live"}]
    own += [{"Host": "abc.gradio.live", "Origin": "https://abc.gradio.live"}]
    own += [{"Host": "LOCALHOST", "Origin": "http://LOCALHOST"}, {"Origin": f"http://127.0.0.1:{port}"}]
    for headers in own:
        assert http_client.get("/health", headers=headers).status_code == 200


def test_a_space_is_answered_by_its_name_and_names_can_be_allowed(monkeypatch):
    from hfvision.demo.app import launch_options

    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "ada/vision")
    space = launch_options()
    monkeypatch.undo()
    allowed = launch_options(["vision.example.com", "*.example.org"])
    page = {"Host": "vision.example.com", "Origin": "https://vision.example.com"}
    behind = {"Host": "127.0.0.1:7860", "Origin": "https://vision.example.com"}
    deep = {"Host": "a.example.org"}
    for options, headers, status in (
        *((space, {"Host": "ada-vision.hf.space", "Origin": "https://ada-vision.hf.space"}, 200),),
        *((allowed, headers, 200) for headers in (page, behind, deep)),
        *((allowed, {"Host": "example.org"}, 403), (allowed, page | {"Origin": "https://evil.example"}, 403)),
    ):
        kept = {"app_kwargs": options["app_kwargs"]}
        with small_server(kept) as url:
            assert httpx.get(f"{url}health", headers=headers).status_code == status


@contextmanager
def small_server(options):
    """A page with nothing on it, behind the demo's guard."""
    with gradio.Blocks(analytics_enabled=False) as page:
        gradio.Markdown("x")
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **options)
    try:
        yield url
    finally:
        page.close()


OPEN = {"/", "/health", "/login", "/login/", "/logout", "/robots.txt", "/favicon.ico", "/gradio_api/startup-events"}
MOUNTED = ["", "/", "/sse", "/schema", "/http", "/messages/"]


def test_strangers_are_told_nothing(closed):
    paths = closed.get("/openapi.json", auth=("ada", "secret")).json()["paths"]
    asked = {(path, method) for path, methods in paths.items() for method in methods if path not in OPEN}
    asked |= {(f"/gradio_api/mcp{path}", method) for path in MOUNTED for method in ("get", "post")}
    asked |= {(path, "get") for path in ("/openapi.json", "/docs", "/gradio_api/file=/etc/passwd")}
    assert len(asked) > 70
    for path, method in asked:
        assert closed.request(method, path).status_code == 401, (method, path)
    page = closed.get("/").text
    assert "password" in page
    assert not any(word in page for word in ("classify_image", "cnn-cifar10", "gradio_api", "/tmp"))
    tools = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    assert closed.post("/gradio_api/mcp/", json=tools, headers=MCP).status_code == 401
    assert closed.get("/health").json() == {"status": "ok"}


def sign_in(client, user="ada", password="secret", **options):
    return client.post("/login", data={"username": user, "password": password}, **options)


def test_who_is_signed_in_may_use_all_of_it(closed):
    with httpx.Client(base_url=closed.base_url, timeout=60) as client:
        assert sign_in(client).json() == {"success": True}
        assert "classify_image" in client.get("/").text
        assert client.get("/gradio_api/info").status_code == 200
        assert "confidences" in tool_call(client, "classify_image", {"image": IMAGE["url"]}).text
        client.get("/logout")
        assert client.get("/config").status_code == 401
    basic = {"auth": ("ada", "secret")}
    assert closed.get("/config", **basic).status_code == 200
    assert "confidences" in tool_call(closed, "classify_image", {"image": IMAGE["url"]}, **basic).text
    for wrong in ("Basic", "Basic !", "Basic YQ==", "Bearer x", "Basic /w=="):
        assert closed.get("/config", headers={"Authorization": wrong}).status_code == 401


def test_wrong_passwords_are_throttled_and_right_ones_only_delayed(closed):
    assert [sign_in(closed, password=str(number)).status_code for number in range(6)] == [400] * 3 + [429] * 3
    answer = sign_in(closed)
    assert answer.status_code == 429
    assert "try again in 1 seconds" in answer.json()["detail"]
    assert closed.get("/config", auth=("ada", "wrong")).status_code == 429
    made_up = [sign_in(closed, password="x", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(40)]
    assert sum(answer.status_code == 400 for answer in made_up) <= 31
    deadline = time.monotonic() + 20
    while sign_in(closed).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert sign_in(closed, password="wrong").status_code == 400
    assert sign_in(closed).status_code == 200


def test_a_network_is_warned_of_and_nothing_is_left_when_the_process_is_stopped(tmp_path):
    with demo_process(tmp_path, 17861, "--host", "0.0.0.0", "--allowed-hosts", "vision.example.com") as server:
        url = "http://127.0.0.1:17861"
        assert httpx.get(f"{url}/health", headers={"Host": "vision.example.com"}).status_code == 200
        assert httpx.get(f"{url}/health", headers={"Host": "evil.example"}).status_code == 403
        path = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", png((900, 900)))}).json()[0]
        data = [{"path": path}, 2, "automatic", 0]
        httpx.post(f"{url}/gradio_api/call/upscale_image", json={"data": data})
        (scratch,) = tmp_path.iterdir()
        assert path.startswith(f"{scratch}/uploads/")
        for folder in (scratch, scratch / "uploads"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        time.sleep(0.5)  # so that the request is being worked on
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=10) == 128 + signal.SIGTERM
        said = server.stdout.read().decode()
    assert list(tmp_path.iterdir()) == []
    assert "warning: whoever reaches this machine over the network" in said
    assert "--auth USER:PASSWORD" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        ([], False),
        (["--host", "localhost"], False),
        (["--host", "127.0.0.2"], False),
        (["--host", "::1"], False),
        (["--host", "0.0.0.0"], True),
        (["--host", "::"], True),
        (["--host", "vision.example.com"], True),
        (["--share"], True),
        (["--host", "0.0.0.0", "--auth", "ada:secret"], False),
    ],
)
def test_the_warning_is_for_who_can_be_reached_without_a_password(monkeypatch, capsys, arguments, warned):
    from hfvision.demo import app

    monkeypatch.setattr(app, "build", lambda models: None)
    monkeypatch.setattr(app, "launch", lambda demo, **options: None)
    assert main(["demo", *arguments]) == 0
    assert ("warning" in capsys.readouterr().err) == warned


def test_a_process_stopped_while_it_starts_leaves_nothing_and_nohup_holds(tmp_path):
    code = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); from hfvision.demo.scratch import *;"
    code += "remove_when_stopped(); print(scratch(), flush=True); time.sleep(60)"
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    folder = Path(process.stdout.readline().strip())
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert folder.parent == tmp_path
    assert folder.is_dir()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
