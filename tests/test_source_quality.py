import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hfvision.data.datasets.samples import sample_photos
from hfvision.metrics.artifacts import blockiness, estimate_noise
from hfvision.tasks.super_resolution.choose import choose
from hfvision.tasks.super_resolution.quality import source_quality


@pytest.fixture(scope="module")
def photos():
    return [Image.open(sample_photos()[name]).convert("RGB") for name in ("astronaut", "cat", "coffee")]


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def with_noise(image, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).round().astype(np.uint8))


def drawing():
    image = Image.new("RGB", (256, 192), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, 120, 90), fill="navy")
    draw.ellipse((130, 60, 230, 160), outline="red", width=3)
    draw.text((30, 120), "Upscaling drawings", fill="black")
    return image


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 92, 97, 100])
def test_jpeg_quality_is_read_from_the_quantization_table(photos, quality):
    found = source_quality(encoded(photos[0], "JPEG", quality=quality))
    assert found.lossy
    assert found.jpeg_quality == pytest.approx(quality, abs=1)


@pytest.mark.parametrize(
    ("format", "options", "lossy"),
    [
        ("PNG", {}, False),
        ("BMP", {}, False),
        ("WEBP", {"quality": 80}, True),
        ("WEBP", {"quality": 80, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}, True),
        ("WEBP", {"lossless": True}, False),
        ("AVIF", {"quality": 60}, True),
        ("TIFF", {}, False),
        ("TIFF", {"compression": "tiff_lzw"}, False),
        ("TIFF", {"compression": "jpeg"}, True),
        ("GIF", {}, None),
        ("JPEG2000", {}, None),
    ],
)
def test_lossy_formats_are_known(photos, tmp_path, format, options, lossy):
    data = encoded(photos[0], format, **options)
    assert source_quality(data).lossy is lossy
    (tmp_path / "misnamed.png").write_bytes(data)
    assert source_quality(tmp_path / "misnamed.png").lossy is lossy
    file = io.BytesIO(data)
    assert source_quality(file) == source_quality(data)


def test_noise_and_block_edges_are_measured(photos):
    for photo in photos:
        clean, pixels = np.asarray(photo), [np.asarray(with_noise(photo, sigma)) for sigma in (5, 10, 20)]
        values = [estimate_noise(x) for x in (clean, *pixels)]
        assert values == sorted(values)
        assert estimate_noise(pixels[1].astype(np.uint16) * 257) == pytest.approx(values[2], rel=1e-3)
        edges = [
            blockiness(np.asarray(Image.open(io.BytesIO(encoded(photo, "JPEG", quality=q))))) for q in (90, 50, 20)
        ]
        assert edges == sorted(edges)
        assert blockiness(clean) < 1.15 < edges[1]
    assert estimate_noise(np.zeros((64, 64, 3), np.uint8)) == 0
    assert blockiness(np.zeros((9, 9, 1), np.uint8)) == 1


def test_the_kind_follows_the_file(photos):
    for photo in photos:
        assert choose(source_quality(encoded(photo, "PNG"))).kind == "clean"
        shares = []
        for quality in (30, 60, 90, 98):
            choice = choose(source_quality(encoded(photo, "JPEG", quality=quality)))
            assert choice.kind == "photo"
            assert f"JPEG of quality {quality}" in choice.reason
            shares.append(choice.denoise)
        assert shares[0] == 1
        assert shares == sorted(shares, reverse=True)
        assert 0 < shares[-1] < shares[0]
    compressed = Image.open(io.BytesIO(encoded(photos[0], "JPEG", quality=40)))
    assert choose(source_quality(encoded(compressed, "PNG"))).kind == "photo"
    assert choose(source_quality(encoded(with_noise(photos[0], 15), "PNG"))).kind == "photo"


def test_drawings_are_clean_unless_compressed():
    assert choose(source_quality(encoded(drawing(), "PNG"))).kind == "clean"
    assert choose(source_quality(encoded(drawing().convert("P"), "GIF"))).kind == "clean"
    assert choose(source_quality(encoded(drawing(), "JPEG", quality=50))).kind == "photo"
