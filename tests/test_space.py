"""The Space runs, and what it serves is what the package computes, to the pixel."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfvision import read_image, sample_photos
from hfvision.upscale import upscale

gradio = pytest.importorskip("gradio", reason="needs the demo extra")
gradio_client = pytest.importorskip("gradio_client")
APP = Path(__file__).parents[1] / "spaces" / "vision" / "app.py"


@pytest.fixture(scope="module")
def client():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    demo = runpy.run_path(str(APP))["demo"]
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield gradio_client.Client(url, verbose=False)
    demo.close()


def test_upscaled_photograph_comes_back_lossless(client):
    photo = sample_photos()["grapefruit"]
    bicubic, result = client.predict(gradio_client.handle_file(photo), api_name="/upscale_image")
    expected = upscale(read_image(photo), "sr-tiny-x2")
    with Image.open(result) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(expected))
    with Image.open(bicubic) as image:
        assert image.size == expected.size


def test_too_large_a_photograph_is_refused_in_words(client, tmp_path):
    Image.new("RGB", (2001, 2000)).save(tmp_path / "large.png")
    with pytest.raises(gradio_client.exceptions.AppError, match="2001×2000 pixels"):
        client.predict(gradio_client.handle_file(tmp_path / "large.png"), api_name="/upscale_image")
