"""The demo by its API: what it answers is what the package computes, and bad uploads are refused in words."""

import asyncio
import base64
import io
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from demo_server import demo_process, make_models, running_demo
from PIL import Image, ImageCms
from transformers import pipeline

from hfvision import checkpoint, sample_photos
from hfvision.cli.main import main
from hfvision.tasks.base import CLASSIFICATION
from hfvision.tasks.super_resolution.upscale import upscale

gradio = pytest.importorskip("gradio", reason="needs the demo extra")
gradio_client = pytest.importorskip("gradio_client")
PHOTO = sample_photos()["cat"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running_demo(make_models(tmp_path_factory.mktemp("models"))) as address:
        yield address


@pytest.fixture(scope="module")
def client(url):
    return gradio_client.Client(url, verbose=False)


def ask(client, function, image, *more):
    return client.predict(gradio_client.handle_file(image), *more, api_name=f"/{function}")


def scores(label):
    return {entry["label"]: entry["confidence"] for entry in label["confidences"]}


def test_labels_are_those_of_the_pipeline(client):
    label, small, facts = ask(client, "classify_image", PHOTO, "cnn-cifar10")
    expected = pipeline("image-classification", model=checkpoint("cnn-cifar10"))(str(PHOTO), top_k=5)
    assert scores(label) == pytest.approx({answer["label"]: answer["score"] for answer in expected}, abs=1e-4)
    assert "| cnn-cifar10 | 3.96 |" in facts
    if small is not None:
        assert small["label"] == label["label"]
        assert "cnn-cifar10-int8" in facts
        assert "Both say the same" in facts


def test_a_pruned_model_answers_beside_its_parent(client):
    _, small, facts = ask(client, "classify_image", PHOTO, "tough")
    assert len(scores(small)) == 5
    assert "tough-small" in facts


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_upscaled_photograph_comes_back_lossless_with_profile_and_transparency(client, tmp_path, mode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = tmp_path / "photo.png"
    Image.open(PHOTO).convert(mode).resize((70, 46)).save(source, icc_profile=profile)
    if mode == "RGBA":
        image = Image.open(source)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(source, icc_profile=profile)
    (bicubic, network), details, file, facts = ask(client, "upscale_image", source, 2, "sr-tiny-x2", 0)
    expected = upscale(source, "sr-tiny-x2")
    assert Path(file).read_bytes() == Path(network).read_bytes()
    with Image.open(file) as result, Image.open(bicubic) as plain:
        assert result.mode == expected.mode == mode
        assert np.array_equal(np.asarray(result), np.asarray(expected))
        assert result.info["icc_profile"] == plain.info["icc_profile"] == profile
        assert plain.size == result.size == (140, 92)
    for detail in details:
        with Image.open(detail) as image:
            assert image.size == (140, 92)
    assert "70×46 → 140×92" in facts


def test_sixteen_bits_stay_sixteen(client, tmp_path):
    source = tmp_path / "deep.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 65536, (24, 30), dtype=np.uint16)).save(source)
    _, _, file, _ = ask(client, "upscale_image", source, 2, "automatic", 0)
    with Image.open(file) as result:
        assert result.mode == "I;16"
        assert len(np.unique(np.asarray(result))) > 1000


def test_the_gan_is_blended_in(client, tmp_path):
    source = tmp_path / "photo.png"
    Image.open(PHOTO).resize((40, 30)).save(source)
    _, _, file, facts = ask(client, "upscale_image", source, 2, "automatic", 0.5)
    assert "with 50% of gan-x2" in facts
    with Image.open(file) as result:  # the GAN has the weights of the other network here
        difference = np.asarray(result, int) - np.asarray(upscale(source, "sr-tiny-x2"), int)
    assert abs(difference).max() <= 1


@pytest.mark.parametrize("attack", ["FGSM, one step", "PGD, 20 steps", "APGD, 50 steps"])
def test_attacks_stay_within_their_budget_and_show_both_models(client, attack):
    text, *results = ask(client, "attack_image", PHOTO, attack, 4)
    assert f"**cnn-cifar10** (standard) {'still says' if 'FGSM' in attack else 'is fooled'}" in text
    assert "**tough** (hardened)" in text
    for original, change, attacked, label in (results[:4], results[4:]):
        before, after = (np.asarray(Image.open(path), int) for path in (original, attacked))
        assert before.shape == after.shape == (288, 288, 3)
        assert 0 < abs(before - after).max() <= 4
        assert len(np.unique(np.asarray(Image.open(change)))) >= 2
        assert len(scores(label)) == 3


def test_without_a_budget_nothing_changes(client):
    text, original, _, attacked, *_ = ask(client, "attack_image", PHOTO, "PGD, 20 steps", 0)
    assert "still says **cat**" in text
    assert np.array_equal(np.asarray(Image.open(original)), np.asarray(Image.open(attacked)))


def test_a_model_is_described_by_its_size_graph_and_card(client):
    facts, graph, card = client.predict("cnn-cifar10", api_name="/describe_model")
    assert "1,972,802" in facts
    assert "<svg" in graph
    assert card.lstrip().startswith(("<!--", "# cnn-cifar10"))
    assert "90.20%" in card


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("classify_image", ["sr-tiny-x2"], "'sr-tiny-x2' is not in the list"),
        ("classify_image", ["/etc"], "'/etc' is not in the list"),
        ("upscale_image", [7, "sr-tiny-x2", 0], "7 .*is not in the list"),
        ("upscale_image", [2, "cnn-cifar10", 0], "'cnn-cifar10' is not in the list"),
        ("attack_image", ["none", 4], "'none' is not in the list"),
        ("attack_image", ["PGD, 20 steps", 17], "a number from 0 to 16, not 17"),
    ],
)
def test_choices_that_are_not_there_are_refused(client, function, arguments, message):
    with pytest.raises((gradio_client.exceptions.AppError, ValueError), match=message):
        ask(client, function, PHOTO, *arguments)


def wide(path):
    Image.new("1", (30_000, 2_000)).save(path)


def bomb(path):
    """A PNG of a few kilobytes that says it has a thousand million pixels."""
    rows = zlib.compress(bytes(10**6), 9)
    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    parts = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    chunks = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


HOSTILE = {
    "text.png": lambda path: path.write_text("these are words"),
    "cut.png": lambda path: path.write_bytes(Path(PHOTO).read_bytes()[:900]),
    "empty.png": lambda path: path.write_bytes(b""),
    "wide.png": wide,
    "bomb.png": bomb,
    "script.svg": lambda path: path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(("function", "more"), [("classify_image", ["cnn-cifar10"]), ("upscale_image", [2])])
def test_hostile_files_are_refused_in_words(client, tmp_path, name, function, more):
    HOSTILE[name](tmp_path / name)
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        ask(client, function, tmp_path / name, *more)
    message = str(caught.value)
    assert "megapixels" in message
    assert not any(word in message for word in ("/tmp", "Traceback", str(tmp_path)))


def test_nothing_to_look_at_is_said(client):
    with pytest.raises(gradio_client.exceptions.AppError, match="Choose an image first"):
        client.predict(None, "cnn-cifar10", api_name="/classify_image")


def test_names_that_climb_stay_in_the_upload_folder(url):
    name = '"../../../climbed.png"'
    body = f'--x\r\nContent-Disposition: form-data; name="files"; filename={name}\r\n\r\nhello\r\n--x--\r\n'.encode()
    request = urllib.request.Request(
        f"{url}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        path = answer.read().decode()
    assert ".." not in path
    assert path.endswith('climbed.png"]')


@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(__file__)), "../../etc/passwd"])
def test_files_of_the_server_are_not_given_away(url, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{url}gradio_api/file={path}", timeout=20)
    assert caught.value.code in (403, 404)


@pytest.mark.parametrize("path", ["/etc/hostname", str(Path(__file__))])
def test_files_of_the_server_are_not_taken_for_uploads(client, path):
    with pytest.raises(gradio_client.exceptions.AppError):
        client.predict({"path": path, "meta": {"_type": "gradio.FileData"}}, api_name="/classify_image")


def test_health(url):
    with urllib.request.urlopen(f"{url}health", timeout=20) as answer:
        assert answer.read() == b'{"status":"ok"}'


def test_twenty_people_at_once_get_their_answers(url, tmp_path):
    process = Path(f"/proc/{os.getpid()}/statm")
    colours = [(11 * i, 200 - 9 * i, 50 + 3 * i) for i in range(20)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (8, 8 + number), colour).save(tmp_path / f"{number}.png")
    clients = [gradio_client.Client(url, verbose=False) for _ in range(20)]
    before = int(process.read_text().split()[1]) if process.exists() else 0

    def visit(number):
        _, _, file, _ = ask(clients[number], "upscale_image", tmp_path / f"{number}.png", 2)
        with Image.open(file) as result:
            return result.size, np.asarray(result.convert("RGB")).mean((0, 1))

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(visit, range(20)))
    assert [size for size, _ in answers] == [(16, 16 + 2 * number) for number in range(20)]
    assert np.allclose([colour for _, colour in answers], colours, atol=3)
    if before:
        assert (int(process.read_text().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE") < 300e6


def test_tools_for_language_models(url):
    mcp = pytest.importorskip("mcp")
    from mcp.client.streamable_http import streamablehttp_client

    photo = io.BytesIO()
    Image.open(PHOTO).resize((40, 30)).save(photo, "PNG")
    images = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (photo.getvalue(), b"words")]

    async def use():
        async with (
            streamablehttp_client(f"{url}gradio_api/mcp/") as (reading, writing, _),
            mcp.ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            options = {"scale": 2, "model": "sr-tiny-x2"}
            answers = [await session.call_tool("upscale_image", {"image": image} | options) for image in images]
            return tools, *answers, await session.call_tool("describe_model", {"model": "sr-tiny-x2"})

    tools, upscaled, refused, described = asyncio.run(use())
    assert set(tools) == {"classify_image", "upscale_image", "attack_image", "describe_model"}
    upscaler = tools["upscale_image"]
    assert "Make a photograph larger" in upscaler.description
    assert set(upscaler.inputSchema["properties"]) == {"image", "scale", "model", "gan_share"}
    assert not upscaled.isError
    assert "40×30 → 80×60" in str(upscaled.content)
    assert refused.isError
    assert "is not an image" in str(refused.content)
    assert "SRGANForImageSuperResolution" in str(described.content)


def test_results_that_nobody_fetched_are_removed(tmp_path, monkeypatch):
    from hfvision.demo import limits
    from hfvision.demo.limits import KEPT_SECONDS, result_path

    monkeypatch.setattr(limits, "scratch", lambda: tmp_path)
    old, new = result_path("one.png"), result_path("two.png")
    old.write_text("")
    past = time.time() - KEPT_SECONDS - 1
    os.utime(old.parent, (past, past))
    result_path("three.png")
    assert not old.parent.exists()
    assert new.parent.exists()


def test_old_uploads_are_removed_and_the_examples_stay(url, monkeypatch):
    from hfvision.demo import app
    from hfvision.demo.scratch import remove_old_uploads, uploads

    def upload(age):
        body = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n%d\r\n--x--\r\n" % age
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        request = urllib.request.Request(f"{url}gradio_api/upload", body, kind)
        with urllib.request.urlopen(request, timeout=20) as answer:
            (path,) = json.load(answer)
        past = time.time() - age
        os.utime(path, (past, past))
        return Path(path)

    old, new, cut = upload(3600), upload(60), uploads() / "tmpcut"
    cut.write_bytes(b"of an upload that broke off")
    for path in (cut, old.parent):
        os.utime(path, (old.stat().st_mtime, old.stat().st_mtime))
    remove_old_uploads(app.KEPT_SECONDS)
    assert not old.exists()
    assert not cut.exists()
    assert new.exists()
    assert new.is_relative_to(uploads())


def test_a_request_has_its_time():
    from hfvision.demo.limits import within_seconds

    assert list(within_seconds(iter([1, 2]), 5)) == [1, 2]
    with pytest.raises(gradio.Error, match="longer than 0 seconds"):
        list(within_seconds((time.sleep(0.01) for _ in range(3)), 0))


def test_without_a_hardened_model_the_standard_one_is_attacked_alone():
    from hfvision.demo.models import Offer, Offers
    from hfvision.demo.robustness import run

    text, *results = run(Offers((Offer("cnn-cifar10", CLASSIFICATION),)), str(PHOTO), "FGSM, one step", 8)
    assert "no hardened model" in text
    assert len(results) == 4


def test_without_any_model_the_attack_is_refused():
    from hfvision.demo.models import Offers
    from hfvision.demo.robustness import run

    with pytest.raises(gradio.Error, match="no classifier here"):
        run(Offers(), str(PHOTO), "FGSM, one step", 8)


def test_an_attack_has_its_time(monkeypatch):
    from hfvision.demo import robustness
    from hfvision.demo.limits import stopwatch
    from hfvision.demo.models import Offer, Offers

    monkeypatch.setattr(robustness, "stopwatch", lambda: stopwatch(0))
    with pytest.raises(gradio.Error, match="longer than 0 seconds"):
        robustness.run(Offers((Offer("cnn-cifar10", CLASSIFICATION),)), str(PHOTO), "PGD, 20 steps", 8)


def test_command_serves_and_asks_for_a_password(tmp_path):
    with demo_process(tmp_path, 17860, "--auth", "ada:secret") as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen("http://127.0.0.1:17860/gradio_api/info", timeout=20)
        assert caught.value.code == 401
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)
        assert "warning" not in server.stdout.read().decode()
    assert not list(tmp_path.iterdir())


def test_mistakes_of_the_command_are_said(capsys, monkeypatch):
    assert main(["demo", "--model", "./nowhere"]) == 2
    assert "no model './nowhere'" in capsys.readouterr().err
    assert main(["demo", "--auth", "nobody"]) == 2
    assert "USER:PASSWORD" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "hfvision.demo.app", raising=False)
    assert main(["demo"]) == 2
    assert "pip install 'hfvision[demo]'" in capsys.readouterr().err
