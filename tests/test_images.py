import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from hfvision import ImageClassificationProcessor, SRGANImageProcessor
from hfvision.data.io.images import read_image, to_rgb
from hfvision.data.io.tree import find_images


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def raw_png(depth, colour_type, *samples):
    """A PNG of one pixel, for what Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, depth, colour_type, 0, 0, 0)
    pixel = b"\0" + struct.pack(f">{len(samples)}{'H' if depth == 16 else 'B'}", *samples)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixel)) + chunk(b"IEND", b"")


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_these_modes_are_kept_exactly(photo, mode):
    image = photo.convert(mode)
    back = read_image(encoded(image, "PNG"))
    assert back.mode == mode
    assert back.tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        (Image.new("1", (3, 2), 1), "L"),
        (Image.new("P", (3, 2)), "RGB"),
        (Image.new("CMYK", (3, 2)), "RGB"),
        (Image.new("YCbCr", (3, 2)), "RGB"),
        (Image.new("LAB", (3, 2)), "RGB"),
        (Image.new("HSV", (3, 2)), "RGB"),
        (Image.new("La", (3, 2)), "LA"),
        (Image.new("RGBa", (3, 2)), "RGBA"),
        (Image.new("I;16B", (3, 2)), "I;16"),
        (Image.new("I", (3, 2)), "I;16"),
    ],
)
def test_other_modes_become_one_of_the_five(source, mode):
    assert (read_image(source).mode, read_image(source).size) == (mode, (3, 2))


def test_transparent_colours_become_alpha(photo):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    image = read_image(encoded(palette, "PNG", transparency=1))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0, 255), (0, 255, 0, 0)]
    grey = read_image(encoded(Image.new("L", (2, 2), 7), "PNG", transparency=7))
    assert (grey.mode, grey.getpixel((0, 0))) == ("LA", (7, 0))
    colour = read_image(encoded(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3)))
    assert (colour.mode, colour.getpixel((0, 0))) == ("RGBA", (1, 2, 3, 0))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_kept(format):
    values = np.array([[0, 1, 300, 65535]], np.uint16)
    image = read_image(encoded(Image.fromarray(values), format))
    assert image.mode == "I;16"
    assert np.asarray(image).tolist() == values.tolist()


def test_16_bit_colour_keeps_its_upper_byte():
    image = read_image(raw_png(16, 2, 0x01FF, 0x80FF, 0xFEFF))
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (0x01, 0x80, 0xFE))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(format, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = (255, 0, 0)
    upright[:16, 24:] = (0, 255, 0)
    undo = [
        *(lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud),
        *(lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, 1), lambda a: np.rot90(a, 2).swapaxes(0, 1)),
        lambda a: np.rot90(a, -1),
    ][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(format, {})
    image = read_image(encoded(stored, format, exif=exif, **options))
    np.testing.assert_allclose(np.asarray(image), upright, atol=40 if format == "JPEG" else 0)
    assert image.getexif().get(0x0112, 1) == 1
    assert np.array_equal(np.asarray(read_image(image)), np.asarray(image))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert read_image(data).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_colour_profile_is_kept(photo, format):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_image(encoded(photo, format, icc_profile=profile)).info["icc_profile"] == profile


def test_cmyk_drops_its_profile_even_an_unusable_one():
    ink = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    image = read_image(encoded(ink, "TIFF", icc_profile=b"no profile"))
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 0, 0))
    assert "icc_profile" not in image.info


def test_a_pil_image_is_left_as_it_is(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.info["exif"] = exif.tobytes()
    before = photo.tobytes()
    assert read_image(photo).size == (20, 30)
    assert (photo.size, photo.tobytes()) == ((30, 20), before)


def test_one_pixel_and_file_objects(tmp_path):
    Image.new("L", (1, 1), 9).save(tmp_path / "dot.png")
    with (tmp_path / "dot.png").open("rb") as file:
        assert read_image(file).getpixel((0, 0)) == 9
    assert read_image(str(tmp_path / "dot.png")).size == (1, 1)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_file_is_refused_and_named(photo, tmp_path, format):
    data = encoded(photo, format)
    path = tmp_path / f"cut.{format.lower()}"
    for share in (0.05, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=path.name):
            read_image(path)


def test_what_is_no_image_is_refused_and_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ValueError, match=r"text\.png is not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ValueError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")


def test_floating_point_is_refused():
    with pytest.raises(ValueError, match="floating-point"):
        read_image(encoded(Image.new("F", (2, 2), 0.5), "TIFF"))


def test_too_many_pixels_are_refused_by_the_header(photo, tmp_path):
    photo.save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png.*30×20.*599"):
        read_image(tmp_path / "large.png", max_pixels=599)
    assert read_image(tmp_path / "large.png", max_pixels=600).size == (30, 20)


def test_decompression_bomb_is_refused_without_decoding():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ValueError, match="178,000,000"):
        read_image(data)


def test_to_rgb_lays_transparency_on_white():
    assert to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("LA", (1, 1), (0, 51))).getpixel((0, 0)) == (204, 204, 204)
    assert to_rgb(Image.new("L", (1, 1), 7)).getpixel((0, 0)) == (7, 7, 7)


def test_to_rgb_scales_16_bit_grey():
    grey = Image.fromarray(np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16))
    assert np.asarray(to_rgb(grey))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_find_images(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b.PNG", "a.jpg", "below/c.webp", "notes.txt"):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.PNG", tmp_path / "below" / "c.webp"]
    assert find_images(tmp_path / "a.jpg") == [tmp_path / "a.jpg"]


def test_find_images_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_images(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("format", "old", "new"),
    [("PPM", b"30 20", b"3x 20"), ("PNG", b"IHDR", b"IHDX")],
)
def test_a_broken_header_is_refused_and_named(photo, tmp_path, format, old, new):
    path = tmp_path / "broken.img"
    path.write_bytes(encoded(photo, format).replace(old, new, 1))
    with pytest.raises(ValueError, match=r"broken\.img"):
        read_image(path)


def test_a_cut_pil_image_is_refused(photo):
    data = encoded(photo, "PNG")
    with pytest.raises(ValueError, match="damaged or cut off"):
        read_image(Image.open(io.BytesIO(data[: len(data) // 2])))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_pillow_does_not_warn_about_a_cut_file(photo, share):
    data = encoded(photo, "TIFF")
    with pytest.raises(ValueError, match=r"damaged or cut off|not an image"):
        read_image(data[: int(len(data) * share)])


def every_kind():
    """(name, file, size upright, RGB of the top left pixel, whether that is opaque); dark left, light right."""
    grey = Image.fromarray(np.repeat(np.uint8([[40] * 6 + [200] * 6]), 8, 0))
    colour = Image.merge("RGB", (grey, grey.point(lambda v: v // 2), Image.new("L", grey.size, 100)))
    clear_left = grey.point(lambda v: 0 if v < 100 else 255)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 3
    palette = colour.quantize(4)
    left = palette.getpixel((0, 0))
    grey40, blue = (40, 40, 40), (40, 20, 100)
    yield "one pixel", encoded(colour.crop((0, 0, 1, 1)), "PNG"), (1, 1), blue, True
    yield "grey", encoded(grey, "PNG"), (12, 8), grey40, True
    yield "LA", encoded(Image.merge("LA", (grey, clear_left)), "PNG"), (12, 8), grey40, False
    yield "RGBA", encoded(Image.merge("RGBA", (*colour.split(), clear_left)), "PNG"), (12, 8), blue, False
    yield "palette", encoded(palette, "PNG"), (12, 8), blue, True
    yield "palette with transparency", encoded(palette, "PNG", transparency=left), (12, 8), blue, False
    yield "CMYK", encoded(colour.convert("CMYK"), "TIFF"), (12, 8), blue, True
    yield "16 bit", encoded(deep, "PNG"), (12, 8), grey40, True
    yield "animated", encoded(colour, "GIF", save_all=True, append_images=[grey.convert("RGB")]), (12, 8), blue, True
    yield "turned", encoded(colour.rotate(180), "PNG", exif=exif), (12, 8), blue, True
    yield "with profile", encoded(colour, "PNG", icc_profile=profile), (12, 8), blue, True


@pytest.mark.parametrize(
    ("data", "size", "pixel", "opaque"), [k[1:] for k in every_kind()], ids=[k[0] for k in every_kind()]
)
@pytest.mark.parametrize("reader", [read_image, lambda data: Image.open(io.BytesIO(data))], ids=["read", "opened"])
def test_processors_see_the_picture_in_every_kind_of_file(reader, data, size, pixel, opaque):
    classifier = ImageClassificationProcessor(do_resize=False, do_normalize=False)
    values = classifier(reader(data), return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, size[1], size[0])
    seen = pixel if opaque else (255, 255, 255)
    np.testing.assert_allclose(values[0, :, 0, 0] * 255, seen, atol=0.01)

    upscaler = SRGANImageProcessor()
    values = upscaler(reader(data), return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, size[1], size[0])
    np.testing.assert_allclose(values[0, :, 0, 0] * 255, pixel, atol=0.01)
    alpha = upscaler.alpha(reader(data))
    assert (alpha is None) == opaque
    assert opaque or (alpha.getpixel((0, 0)), alpha.size) == (0, size)
    back = upscaler.post_process_super_resolution(values, [reader(data)])[0]
    expected = read_image(data)
    assert (back.mode, back.size) == (expected.mode.removesuffix("A"), size)
    assert np.array_equal(np.asarray(back), np.asarray(expected if opaque else expected.convert(back.mode)))
