"""Processors and pipelines on images of every kind."""

import base64
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, pipeline

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.models.srgan.generator_srgan import InputUpscaler


@pytest.fixture(scope="module")
def upscaler():
    """An untrained ×2 network: it gives the bicubic image, which tests can compute themselves."""
    model = SRGANForImageSuperResolution(
        SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    )
    return pipeline("image-super-resolution", model=model, image_processor=SRGANImageProcessor())


def picture(mode: str, width: int = 12, height: int = 8) -> Image.Image:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
    random = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    if mode == "P":
        return picture("RGB", width, height).quantize(16)
    array = random.integers(0, 256, (height, width, channels[mode]), dtype=np.uint8)
    return Image.fromarray(array.squeeze(-1) if mode == "L" else array, mode)


def bicubic(array: np.ndarray, depth: int = 255) -> np.ndarray:
    planes = torch.tensor(array.astype(np.float64))
    planes = planes.reshape(*array.shape[:2], -1).permute(2, 0, 1)[None] / depth
    upscaled = InputUpscaler(2, "bicubic").double()(planes).clamp(0, 1)
    return (upscaled[0].permute(1, 2, 0).numpy() * depth).reshape(2 * array.shape[0], 2 * array.shape[1], -1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_upscaling_keeps_the_mode_and_every_channel(upscaler, mode):
    image = picture(mode)
    result = upscaler(image)
    assert result.mode == mode
    assert result.size == (24, 16)
    depth = 65535 if mode == "I;16" else 255
    got = np.asarray(result).astype(float).reshape(16, 24, -1)
    assert np.abs(got - bicubic(np.asarray(image), depth)).max() <= (2 if depth == 255 else 16)


@pytest.mark.parametrize(("mode", "expected"), [("P", "RGB"), ("CMYK", "RGB")])
def test_palette_and_cmyk_become_rgb(upscaler, mode, expected):
    image = picture(mode)
    result = upscaler(image)
    assert result.mode == expected
    assert result.tobytes() == upscaler(image.convert("RGB")).tobytes()


def test_one_pixel(upscaler):
    result = upscaler(Image.new("RGB", (1, 1), (10, 200, 30)))
    assert result.size == (2, 2)
    assert np.abs(np.asarray(result).astype(int) - (10, 200, 30)).max() <= 1


def test_orientation_is_applied_and_the_colour_profile_kept(upscaler, tmp_path):
    image = picture("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif, icc_profile=b"a profile")
    result = upscaler(str(tmp_path / "turned.png"))
    assert result.size == (16, 24)
    assert result.info["icc_profile"] == b"a profile"
    assert result.tobytes() == upscaler(image.transpose(Image.Transpose.ROTATE_270)).tobytes()


def test_folder_list_and_batches_give_the_same_as_one_by_one(upscaler, tmp_path):
    sizes = [(8, 8), (8, 8), (12, 8), (8, 8)]
    images = [picture("RGBA" if index == 1 else "RGB", *size) for index, size in enumerate(sizes)]
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    one_by_one = [upscaler(image) for image in images]
    for results in (
        upscaler(images),
        upscaler(images, batch_size=3),
        upscaler(str(tmp_path)),
        upscaler(tmp_path, batch_size=2),
    ):
        assert [r.tobytes() for r in results] == [r.tobytes() for r in one_by_one]


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n cut off"])
def test_files_that_are_no_images_are_named(upscaler, tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        upscaler(str(tmp_path / "broken.png"))
    with pytest.raises(FileNotFoundError, match="no file"):
        upscaler(str(tmp_path / "missing.png"))


def test_empty_folder_and_unknown_argument(upscaler, tmp_path):
    with pytest.raises(ValueError, match="no images"):
        upscaler(str(tmp_path))
    with pytest.raises(TypeError, match="'scale'"):
        upscaler(picture("RGB"), scale=4)


def test_sr_processor_does_not_resize_and_asks_for_one_size():
    processor = SRGANImageProcessor()
    assert processor(picture("RGB", 13, 7), return_tensors="pt")["pixel_values"].shape == (1, 3, 7, 13)
    with pytest.raises(ValueError, match="agree in size"):
        processor([picture("RGB", 8, 8), picture("RGB", 8, 9)], return_tensors="pt")


def test_grey_network_on_colour_and_grey():
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset("fast-tiny", scale=2, num_channels=1))
    upscaler = pipeline("image-super-resolution", model=model, image_processor=SRGANImageProcessor(num_channels=1))
    assert upscaler(picture("L")).mode == "L"
    assert upscaler(picture("I;16")).mode == "I;16"


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_stock_classification_pipeline(family, tmp_path):
    torch.manual_seed(0)
    labels = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    if family == "cnn":
        model = CNNForImageClassification(CNNConfig.from_preset("tiny", **labels))
    else:
        config = VisionTransformerConfig.from_preset("cifar", num_hidden_layers=1, **labels)
        model = VisionTransformerForImageClassification(config)
    model.save_pretrained(tmp_path)
    ImageClassificationProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    picture("RGB").save(tmp_path / "photo.png")
    classify = pipeline("image-classification", str(tmp_path), trust_remote_code=True)
    result = classify(str(tmp_path / "photo.png"))
    assert {entry["label"] for entry in result} == {"cat", "dog"}
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        logits = model.eval()(**processor(picture("RGB"), return_tensors="pt")).logits
    expected = logits.softmax(-1).max().item()
    assert result[0]["score"] == pytest.approx(expected, abs=1e-6)


def test_classification_processor_sees_what_a_person_sees():
    processor = ImageClassificationProcessor(do_resize=False, do_normalize=False)

    def pixels(image):
        return processor(image, return_tensors="pt")["pixel_values"][0]

    red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert torch.equal(pixels(red), torch.ones(3, 4, 4)), "what is transparent shows the white below"
    half_grey = Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16))
    torch.testing.assert_close(pixels(half_grey), torch.full((3, 4, 4), 128 / 255))
    grey = picture("L")
    assert torch.equal(pixels(grey), pixels(grey.convert("RGB")))
    turned = picture("RGB")
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.info["exif"] = exif.tobytes()
    turned.getexif()[0x0112] = 3
    assert torch.equal(pixels(turned), pixels(picture("RGB")).flip(1, 2))
    one = ImageClassificationProcessor(do_resize=False, do_normalize=False, num_channels=1)
    assert one(picture("RGB"), return_tensors="pt")["pixel_values"].shape == (1, 1, 8, 12)


def test_classification_processor_crops_and_normalises_from_its_settings():
    processor = ImageClassificationProcessor(
        size={"shortest_edge": 16},
        do_center_crop=True,
        crop_size={"height": 12, "width": 12},
        image_mean=[0.2, 0.3, 0.4],
        image_std=[0.5, 0.5, 0.25],
    )
    values = processor(Image.new("RGB", (40, 20), (255, 255, 255)), return_tensors="pt")["pixel_values"]
    expected = torch.tensor([1.6, 1.4, 2.4]).view(1, 3, 1, 1).expand(1, 3, 12, 12)
    torch.testing.assert_close(values, expected)


def test_pixels_that_do_not_fit_are_refused_and_premultiplied_alpha_is_taken(upscaler):
    classifier = ImageClassificationProcessor()
    for image in (Image.new("F", (4, 4), 0.5), Image.fromarray(np.full((4, 4), 70000, dtype=np.int32))):
        for take in (classifier, upscaler):
            with pytest.raises(ValueError, match="bits"):
                take(image)
    premultiplied = picture("LA").convert("La")
    assert upscaler(premultiplied).mode == "LA"
    assert classifier(premultiplied, return_tensors="pt")["pixel_values"].shape == (1, 3, 224, 224)
    keyed = picture("I;16")
    keyed.info["transparency"] = 7
    assert upscaler(keyed).tobytes() == upscaler(picture("I;16")).tobytes()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The URL of a folder with a grey picture, `grey.png`, on a server of the loopback."""
    folder = tmp_path_factory.mktemp("served")
    picture("L").save(folder / "grey.png")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()


def test_images_by_url_data_url_base64_bytes_and_array(upscaler, served):
    url, folder = served
    expected = upscaler(folder / "grey.png")
    content = (folder / "grey.png").read_bytes()
    text = base64.b64encode(content).decode()
    sources = [f"{url}/grey.png", f"data:image/png;base64,{text}", text, content, np.asarray(picture("L"))]
    for source in (*sources, np.asarray(picture("L"))[..., None]):
        got = upscaler(source, timeout=10)
        assert (got.mode, got.tobytes()) == ("L", expected.tobytes())
    assert [result.mode for result in upscaler([f"{url}/grey.png", content], batch_size=2)] == ["L", "L"]
    assert upscaler(np.asarray(picture("RGB"))).mode == "RGB"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere.png", FileNotFoundError, "There is no file nowhere.png"),
        (b"no image", ValueError, "The image cannot be read as an image"),
        ("data:image/png;base64,bm8gaW1hZ2UgYXQgYWxsLCBidXQgYSB0ZXh0IG9mIHNvbWUgbGVuZ3Ro", ValueError, "cannot be"),
        ("http://127.0.0.1:9/grey.png", ConnectionError, "http://127.0.0.1:9/grey.png cannot be fetched"),
        (np.zeros((4, 4, 3)), ValueError, "float64"),
        (np.zeros((4, 4, 7), np.uint8), ValueError, "7 channels"),
    ],
)
def test_sources_that_are_no_images_are_refused(upscaler, source, error, message):
    with pytest.raises(error, match=message):
        upscaler(source, timeout=2)
