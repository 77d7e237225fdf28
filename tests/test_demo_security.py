"""The demo against hostile clients, by raw HTTP: files of the server, wrong types, sizes."""

import http.server
import io
import itertools
import json
import os
import threading

import httpx
import pytest
from demo_http import IMAGE, MCP, data_url, png, run, tool_call
from demo_server import running_demo
from PIL import Image

from hfvision import sample_photos

gradio = pytest.importorskip("gradio", reason="needs the demo extra")
META = {"_type": "gradio.FileData"}
GOOD = {  # what each function takes, after the image
    "classify_image": ["cnn-cifar10"],
    "upscale_image": [2, "sr-tiny-x2", 0],
    "attack_image": ["FGSM, one step", 4],
    "describe_model": ["sr-tiny-x2"],
}
NAMES = {
    "classify_image": ["image", "model"],
    "upscale_image": ["image", "scale", "model", "gan_share"],
    "attack_image": ["image", "attack", "epsilon"],
    "describe_model": ["model"],
}


@pytest.fixture(scope="module")
def http_client():
    with running_demo() as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def function_numbers(client):
    return {each["api_name"]: each["id"] for each in client.get("/config").json()["dependencies"]}


def ways_in(client, function, data):
    """The answers to the same values by each of the ways into the demo."""
    plain = client.post(f"/gradio_api/call/{function}", json={"data": data}).json()["event_id"]
    named = client.post(f"/gradio_api/call/v2/{function}", json=dict(zip(NAMES[function], data, strict=True)))
    number = function_numbers(client)[function]
    body = {"data": data, "fn_index": number, "session_hash": "me"}
    client.post("/gradio_api/queue/join", json=body)
    return [
        run(client, function, data).text,
        client.post(f"/gradio_api/api/{function}", json={"data": data, "session_hash": "me"}).text,
        client.get(f"/gradio_api/call/{function}/{plain}").text,
        client.get(f"/gradio_api/call/v2/{function}/{named.json()['event_id']}").text,
        client.get("/gradio_api/queue/data", params={"session_hash": "me"}).text,
    ]


@pytest.fixture(scope="module")
def server_files(tmp_path_factory):
    """Names of what is on the server and was not uploaded, and of what is not there."""
    from hfvision.demo.scratch import scratch, uploads

    folder = tmp_path_factory.mktemp("server")
    secret = folder / "secret.png"
    secret.write_bytes(png(color=(250, 0, 0)))
    link, pipe = uploads() / "link.png", uploads() / "pipe.png"
    link.symlink_to(secret)
    os.mkfifo(pipe)
    beside = scratch() / "beside.png"
    beside.write_bytes(png())
    return {
        "image": str(secret),
        "sample": str(sample_photos()["cat"]),
        "missing": str(folder / "missing.png"),
        "folder": str(uploads()),
        "device": "/dev/zero",
        "environment": "/proc/self/environ",
        "link": str(link),
        "pipe": str(pipe),
        "beside": str(beside),
        "climbing": f"{uploads()}/../beside.png",
        "relative": "secret.png",
        "null": "a\0b",
        "long": "a" * 5000,
        "home": "~/secret.png",
        "file": f"file://{secret}",
    }


def shapes(path):
    """The ways to name a file in a payload."""
    return [
        {"path": path},
        {"path": path, "meta": META},
        {"path": path, "meta": META, "orig_name": "a.svg", "is_stream": True},
        {"path": None, "url": path},
        {"path": None, "url": f"http://127.0.0.1/gradio_api/file={path}", "meta": META},
    ]


def test_no_file_of_the_server_is_read_and_all_are_refused_alike(http_client, server_files):
    answers = {
        (kind, number): run(http_client, "classify_image", [payload, "cnn-cifar10"])
        for kind, path in server_files.items()
        for number, payload in enumerate(shapes(path))
    }
    assert {answer.status_code for answer in answers.values()} == {422}
    messages = {answer.json()["error"] for answer in answers.values()}
    assert messages == {"There is no such upload here, or no longer: upload the image again."}


@pytest.mark.parametrize("function", ["classify_image", "upscale_image", "attack_image"])
def test_no_way_in_and_no_function_reads_a_file(http_client, server_files, function):
    for payload in shapes(server_files["image"])[:2]:
        for answer in ways_in(http_client, function, [payload, *GOOD[function]]):
            assert "There is no such upload here" in answer
            assert "secret" not in answer
    answer = tool_call(http_client, function, {"image": server_files["image"]}).text
    assert '"isError":true' in answer


def test_no_component_takes_a_file_that_is_not_for_it(http_client, server_files):
    payloads = [{"path": server_files["image"], "meta": META}, {"path": "http://127.0.0.1:9/x", "meta": META}]
    for function, good in GOOD.items():
        for place, payload in itertools.product(range(len(good)), payloads):
            values = [*good]
            values[place] = payload
            image = [] if function == "describe_model" else [IMAGE]
            answer = run(http_client, function, [*image, *values])
            assert answer.status_code == 422
            assert answer.json()["error"]
    answer = run(http_client, "classify_image", [[{"path": server_files["image"], "meta": META}], "cnn-cifar10"])
    assert "cannot be" in answer.json()["error"]


def test_results_come_back_as_images_by_path_and_by_address(http_client):
    answer = run(http_client, "upscale_image", [IMAGE, *GOOD["upscale_image"]]).json()["data"]
    sliders, file = answer[0] + answer[1], answer[2]
    for result in [*sliders, file]:
        for payload in (result, {"path": result["path"]}, {"url": result["url"]}):
            again = run(http_client, "classify_image", [payload, "cnn-cifar10"])
            assert again.status_code == 200, again.text


def test_uploads_are_taken(http_client):
    path = http_client.post("/gradio_api/upload", files={"files": ("a b.png", png())}).json()[0]
    answers = ways_in(http_client, "classify_image", [{"path": path, "meta": META}, "cnn-cifar10"])
    assert all("confidences" in answer for answer in answers)
    url = f"https://demo.example.com/gradio_api/file={path}"
    assert '"isError":false' in tool_call(http_client, "classify_image", {"image": url}).text


def test_examples_are_shown_with_their_results(http_client):
    config = http_client.get("/config").json()
    sets = {each["id"] for each in config["components"] if each["type"] == "dataset"}
    asked = 0
    for function in config["dependencies"]:
        if set(function["inputs"]) & sets:
            body = {"data": [1], "fn_index": function["id"], "session_hash": "examples"}
            answer = http_client.post("/gradio_api/run/predict", json=body)
            assert answer.status_code == 200, answer.text
            for result in answer.json()["data"]:
                if isinstance(result, dict) and "path" in result:
                    assert run(http_client, "classify_image", [result, "cnn-cifar10"]).status_code == 200
            asked += 1
            for number in (-1, 10**9, True, None, "1", {"path": "/etc/passwd"}):
                answer = http_client.post("/gradio_api/run/predict", json=body | {"data": [number]})
                assert answer.status_code == 422
                assert "by its number" in answer.json()["error"]
    assert asked == 6


def test_the_server_fetches_nothing_for_a_client(http_client):
    asked = []

    class Inside(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Inside)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/x.png"
    try:
        for payload in (
            {"path": address, "meta": META},
            {"path": address},
            {"url": address},
            {"path": "", "url": address},
        ):
            answer = run(http_client, "classify_image", [payload, "cnn-cifar10"])
            assert "fetches no image" in answer.json()["error"]
        assert "fetches no image" in tool_call(http_client, "classify_image", {"image": address}).text
        for path in ("file=", "file/", "proxy="):
            assert http_client.get(f"/gradio_api/{path}{address}").status_code == 403
    finally:
        server.shutdown()
    assert asked == []


WRONG = [None, True, -1, 10**40, 1.5, "", "x", "2", [], [[]], [None], {}]
WRONG += [{"path": 5}, {"path": {"path": "/etc/passwd"}}]
WRONG_IMAGES = [*WRONG[1:], {"url": "data:image/png,x"}, {"url": "data:image/png;base64,@@"}, {"path": "", "url": ""}]


def test_wrong_values_are_answered_by_a_sentence(http_client):
    for function, good in GOOD.items():
        image = [] if function == "describe_model" else [IMAGE]
        for place, wrong in itertools.product(range(len(good)), WRONG):
            if good[place] == 4 and wrong == 1.5:  # levels of a pixel need not be whole
                continue
            values = [*good]
            values[place] = wrong
            answer = run(http_client, function, [*image, *values])
            assert answer.status_code == 422, (function, place, wrong, answer.text)
            message = answer.json()["error"]
            assert message.endswith("."), message
            assert len(message) < 400
    for wrong in WRONG_IMAGES:
        answer = run(http_client, "classify_image", [wrong, "cnn-cifar10"])
        assert answer.status_code == 422
        assert answer.json()["error"].endswith((".", '…"}.'))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 4000])
def test_numbers_that_are_none_are_refused(http_client, number):
    body = f'{{"data": [{json.dumps(IMAGE)}, "FGSM, one step", {number}]}}'
    answer = http_client.post(
        "/gradio_api/run/attack_image", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "Budget must be a number from 0 to 16" in answer.json()["error"]


@pytest.mark.parametrize("data", [[], [IMAGE], [IMAGE, "cnn-cifar10", 1], None, 5, "x", {}])
def test_missing_and_surplus_values_are_refused(http_client, data):
    answer = run(http_client, "classify_image", data)
    assert answer.status_code == 422
    assert "list" in answer.text


BODIES = [
    *(b"", b"null", b"5", b"[]", b"{", b"\xff\xfe", b"[" * 20_000, b'"x"'),
    b'{"data": [], "fn_index": 9999, "session_hash": "x"}',
    b'{"data": [], "fn_index": -1, "session_hash": "x"}',
    b'{"data": [], "fn_index": "x", "session_hash": 5}',
    b'{"component_id": 9999, "session_hash": "x", "fn_name": "load", "data": 1}',
    b'{"component_id": 1, "session_hash": "x", "fn_name": "__class__", "data": 1}',
    b'{"session_hash": "x", "fn_index": 1e99, "event_id": []}',
    b'{"data": "\\ud800"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": 5}',
    b'{"image": 5}',
    b'{"unheard": 5}',
]


def test_senseless_requests_never_end_in_an_error_of_the_server(http_client):
    names = ["queue/join", "run/predict", "run/nothing", "call/nothing", "call/v2/nothing", "call/v2/classify_image"]
    names += ["component_server", "cancel", "reset", "stream/x", "upload", "mcp/", "mcp/messages/", "vibe-edit"]
    for name, body in itertools.product(names, BODIES):
        kind = {"Content-Type": "application/json"}
        answer = http_client.post(f"/gradio_api/{name}", content=body, headers=MCP | kind)
        assert answer.status_code < 500, (name, body[:60], answer.text)
        assert answer.text != '{"error":null}'
        assert answer.text or answer.status_code == 404
    for body in (b"", b"x", b"--b\r\n\r\n", b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n--b--"):
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        for name in ("upload", "component_server"):
            assert http_client.post(f"/gradio_api/{name}", content=body, headers=kind).status_code < 500
    for path in (
        "call/classify_image/x",
        "queue/data?session_hash=x",
        "file=",
        "file=/",
        "file=%00",
        "stream/a/b/1/x.ts",
    ):
        assert http_client.get(f"/gradio_api/{path}").status_code < 500


@pytest.mark.parametrize("session", ["x" * 129, "", "\ud800", "a b", "../x", "\0"])
def test_names_of_sessions_that_would_be_kept_are_short_words(http_client, session):
    for path, key in itertools.product(("run/describe_model", "call/describe_model", "queue/join"), ("s", "\\u0073")):
        body = f'{{"data": ["sr-tiny-x2"], "fn_index": 0, "{key}ession_hash": {json.dumps(session)}}}'
        kind = {"Content-Type": "application/json"}
        answer = http_client.post(f"/gradio_api/{path}", content=body, headers=kind)
        assert answer.status_code == 422
        assert "session_hash must be" in answer.json()["detail"]


def test_every_way_in_has_a_limit_of_bytes(http_client):
    from hfvision.demo.limits import MAX_BODY, MAX_BYTES
    from hfvision.demo.scratch import uploads

    before = sum(path.stat().st_size for path in uploads().rglob("*") if path.is_file())
    large = bytes(MAX_BYTES + 1)
    assert http_client.post("/gradio_api/upload", files={"files": ("x.png", large)}).status_code == 413
    many = [("files", (f"{number}.png", bytes(MAX_BYTES // 2))) for number in range(3)]
    assert http_client.post("/gradio_api/upload", files=many).status_code == 413
    answer = run(http_client, "classify_image", [{"url": data_url(large)}, "cnn-cifar10"])
    assert answer.status_code == 413
    assert "MB" in answer.json()["detail"]
    assert tool_call(http_client, "classify_image", {"image": data_url(large)}).status_code == 413

    def parts():
        for _ in range(MAX_BODY // 2**20 + 2):
            yield b" " * 2**20

    for path in ("run/classify_image", "queue/join", "call/classify_image", "component_server", "upload"):
        kind = "multipart/form-data; boundary=b" if path == "upload" else "application/json"
        answer = http_client.post(f"/gradio_api/{path}", content=parts(), headers={"Content-Type": kind})
        assert answer.status_code in (400, 413), answer.text
    assert sum(path.stat().st_size for path in uploads().rglob("*") if path.is_file()) < before + MAX_BYTES


def test_data_urls_are_checked_like_uploads(http_client):
    wide = io.BytesIO()
    Image.new("1", (30_000, 2_000)).save(wide, "PNG")
    answer = run(http_client, "classify_image", [{"url": data_url(wide.getvalue())}, "cnn-cifar10"])
    assert "up to 24 megapixels" in answer.json()["error"]
