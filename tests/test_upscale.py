"""Files to files: depth, metadata, sizes, folders that go on where they stopped, and many processes."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from torch.nn.functional import interpolate
from transformers import pipeline

from hfvision import SRGANConfig, SRGANForImageSuperResolution, SRGANImageProcessor, checkpoint
from hfvision.cli.main import main
from hfvision.data.datasets.samples import sample_photos
from hfvision.data.io.images import read_image, read_photo
from hfvision.data.io.writing import write_image
from hfvision.tasks.super_resolution.files import output_paths, upscale_file
from hfvision.tasks.super_resolution.upscale import Upscaling, load_upscaler, shipped_upscalers, upscale
from hfvision.utils.files import temporary_path


class Nearest:
    def __init__(self, scale: int = 2):
        self.config = SimpleNamespace(scale=scale, num_channels=3)

    def __call__(self, pixel_values):
        return SimpleNamespace(reconstruction=interpolate(pixel_values, scale_factor=self.config.scale))


def noise(height=14, width=20, channels=3, dtype=np.uint8) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def doubled(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 0).repeat(2, 1)


def save(path: Path, pixels: np.ndarray, **metadata) -> Path:
    write_image(path, iter([pixels]), (pixels.shape[1], pixels.shape[0]), metadata)
    return path


@pytest.fixture
def fails(capsys):
    def run(*args) -> str:
        assert main([str(arg) for arg in args]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("hfvision: error: ")
        return said

    return run


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_depth_and_kind_of_pixel_is_kept(channels, dtype, suffix, tmp_path):
    if channels > 1 and dtype == np.uint16:
        pytest.importorskip("av")
    pixels, target = noise(channels=channels, dtype=dtype), tmp_path / f"large{suffix}"
    upscale_file(save(tmp_path / "photo.png", pixels), target, Upscaling(Nearest()))
    if suffix == ".tif" and channels == 2 and dtype == np.uint16:
        return  # which Pillow does not open
    photo = read_photo(target)
    assert photo.pixels.dtype == dtype
    assert np.array_equal(photo.pixels, doubled(pixels))


def png_of_16_bits(pixels: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG as other programs write it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    extra = b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data + chunk(b"IEND", b"")


def test_16_bit_colour_is_never_cut_in_silence(tmp_path, fails):
    pytest.importorskip("av")
    pixels, path = noise(dtype=np.uint16), tmp_path / "deep%03d.png"
    path.write_bytes(png_of_16_bits(pixels))
    assert np.array_equal(read_photo(path).pixels, pixels)
    assert np.array_equal(read_photo(path.read_bytes()).pixels, pixels)
    assert np.array_equal(upscale(read_photo(path).pixels, Nearest()), doubled(pixels))
    with pytest.raises(ValueError, match="upscale_file"):
        upscale(path, Nearest())
    with Image.open(path) as opened, pytest.raises(ValueError, match="give the file itself"):
        upscale(opened, Nearest())
    with pytest.raises(ValueError, match="hfvision upscale"):
        load_upscaler("sr-tiny-x2")(str(path))
    assert "16 bits to 8" in fails("upscale", path, "--out", tmp_path / "large.jpg")
    assert list(tmp_path.iterdir()) == [path]


def test_16_bits_without_pyav_say_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "deep.png"
    path.write_bytes(png_of_16_bits(noise(dtype=np.uint16)))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'hfvision\[video\]'"):
        read_photo(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_orientation_is_applied_once(orientation, deep, tmp_path):
    if deep:
        pytest.importorskip("av")
    exif = Image.Exif()
    exif[0x0112] = orientation
    small = noise()
    source = save(tmp_path / "photo.png", small.astype(np.uint16) * 257 if deep else small, exif=exif.tobytes())
    turned = Image.fromarray(small)
    turned.getexif()[0x0112] = orientation
    expected = doubled(np.asarray(ImageOps.exif_transpose(turned)))
    upscale_file(source, tmp_path / "large.png", Upscaling(Nearest()))
    result = read_photo(tmp_path / "large.png").pixels
    assert np.array_equal(result, expected.astype(np.uint16) * 257 if deep else expected)
    with Image.open(tmp_path / "large.png") as image:
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("source", ["photo.jpg", "photo.png", "photo.tif", "photo.webp"])
def test_profile_and_metadata_are_kept(source, suffix, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = "A maker", "(c) somebody"
    exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0xA002: 20, 0xA003: 14}
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 30.0)}
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    if source.endswith("tif"):
        exif[700] = xmp
    pnginfo = {"pnginfo": text_of(xmp)} if source.endswith("png") else {"xmp": xmp}
    options = {"exif": exif.tobytes(), "icc_profile": profile, "dpi": (300, 300)} | pnginfo
    Image.fromarray(noise()).save(tmp_path / source, **options)
    upscale_file(tmp_path / source, tmp_path / f"large{suffix}", Upscaling(Nearest()))
    with Image.open(tmp_path / f"large{suffix}") as image:
        image.load()
        found = image.getexif()
        assert image.info["icc_profile"] == profile
        assert (found[0x010F], found[0x8298]) == ("A maker", "(c) somebody")
        assert found.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert 0xA002 not in found.get_ifd(0x8769), "the size it was"
        assert found.get_ifd(0x8825)[2] == (48.0, 51.0, 30.0)
        assert image.info["xmp"].startswith(b"<x:xmpmeta")
        if "webp" not in source + suffix:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def text_of(xmp: bytes):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return info


def test_palette_cmyk_and_grey(tmp_path):
    image = Image.fromarray(noise())
    keyed = image.quantize(16)
    keyed.info["transparency"] = 3
    for mode, made in (("RGB", image.quantize(16)), ("RGBA", keyed), ("RGB", image.convert("CMYK"))):
        result = upscale(made, Nearest())
        assert (result.mode, result.size) == (mode, (40, 28))
    assert upscale(image.convert("L"), Nearest()).mode == "L"
    assert upscale(image.convert("1"), Nearest()).mode == "L"


def test_upscale_the_pipeline_and_tiles_agree_in_fp32():
    upscaler = load_upscaler("sr-tiny-x2")
    image = Image.fromarray(noise(160, 170, 4))
    expected = upscale(image, upscaler, dtype="fp32", tile=1000)
    for tile in (40, 90, None):
        assert upscaler(image, tile=tile).tobytes() == expected.tobytes()
        assert upscale(image, "sr-tiny-x2", dtype="fp32", tile=tile).tobytes() == expected.tobytes()
    assert [r.tobytes() for r in upscaler([image, image], tile=64, batch_size=2)] == [expected.tobytes()] * 2
    large = pipeline("image-super-resolution", checkpoint("sr-tiny-x2"))
    assert large(image, tile=64).tobytes() == expected.tobytes()


def test_scale_chooses_a_shipped_checkpoint():
    image = Image.fromarray(noise())
    shipped = shipped_upscalers("clean")
    assert 2 in shipped
    for scale, name in shipped.items():
        assert load_upscaler(name).model.config.scale == scale
        assert upscale(image, scale=scale).size == (20 * scale, 14 * scale)
    assert upscale(image, kind="clean").tobytes() == upscale(image, shipped[2]).tobytes()
    for scale in {2, 3, 4} - set(shipped):
        with pytest.raises(ValueError, match=f"no model for ×{scale}.*outscale {scale}"):
            upscale(image, scale=scale, kind="clean")
    with pytest.raises(ValueError, match="×2, not ×3"):
        upscale(image, "sr-tiny-x2", scale=3)
    assert upscale(image, outscale=2.5).size == (50, 35)
    assert upscale(image, outscale=6).size == (120, 84)


@pytest.mark.parametrize(
    ("options", "size"),
    [({"outscale": 2.5}, (50, 35)), ({"fit": (100, 100)}, (100, 70)), ({"fit": (33, 28)}, (33, 23)), ({}, (40, 28))],
)
def test_sizes_are_exact(options, size):
    image = Image.fromarray(noise())
    assert upscale(image, Nearest(), **options).size == size
    result = upscale(Image.new("RGB", (20, 14), (10, 200, 90)), Nearest(), **options)
    assert result.getcolors() == [(size[0] * size[1], (10, 200, 90))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outscale": 2, "fit": (10, 10)}, "one of them"),
        ({"outscale": 0}, "outscale must be"),
        ({"outscale": float("nan")}, "outscale must be"),
        ({"fit": (0, 10)}, "fit must be"),
        ({"tile": 0}, "tile must be"),
        ({"dtype": "int8"}, "'int8'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        upscale(Image.fromarray(noise()), Nearest(), **options)


def test_format_is_checked_before_anything_is_computed(tmp_path):
    class Never:
        config = SimpleNamespace(scale=2, num_channels=3)

        def __call__(self, pixel_values):
            raise AssertionError("computed")

    source = save(tmp_path / "photo.png", noise(channels=4))
    wide = save(tmp_path / "wide.png", noise(1, 9000))
    for path, target, message in (
        (source, "large.jpg", "transparency"),
        (source, "large.xyz", "no format"),
        (source, "large", "no suffix"),
        (wide, "large.webp", "18000×2"),
    ):
        with pytest.raises(ValueError, match=message):
            upscale_file(path, tmp_path / target, Upscaling(Never()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png", "wide.png"]


def test_an_interruption_leaves_nothing_half_written(tmp_path):
    class Breaking(Nearest):
        calls = 0

        def __call__(self, pixel_values):
            self.calls += 1
            if self.calls > 2:
                raise KeyboardInterrupt
            return super().__call__(pixel_values)

    model = Breaking()
    model.config = SRGANConfig.from_preset("fast-tiny", scale=2)
    source = save(tmp_path / "photo.png", noise(600, 200))
    target = save(tmp_path / "large.png", noise())
    before = target.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        upscale_file(source, target, Upscaling(model, tile=150), force=True)
    assert target.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.png", "photo.png"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "upscaler"
    torch.manual_seed(0)
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    SRGANForImageSuperResolution(config).save_pretrained(folder)
    SRGANImageProcessor().save_pretrained(folder)
    return str(folder)


def manifest_of(out: Path) -> list[dict]:
    lines = [line for path in sorted(out.glob("upscale-*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_a_folder_goes_on_where_it_stopped(model, tmp_path, fails, capsys):
    source, out = tmp_path / "photos", tmp_path / "large"
    (source / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        save(source / name, noise())
    (source / "sub" / "broken.png").write_bytes(b"no image")
    command = ["upscale", source, "--model", model, "--out", out]
    assert main([str(arg) for arg in command]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 4 files" in message
    assert "broken.png" in message
    assert [Path(entry["target"]).name for entry in manifest_of(out)] == ["a_x2.png", "b_x2.png", "c_x2.png"]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(times) == 3
    assert "--force" in fails(*command)

    (out / "b_x2.png").unlink()
    save(source / "sub" / "broken.png", noise())
    save(source / "d.png", noise())
    with (out / "upscale-0.jsonl").open("a") as file:
        file.write('{"source": "cut o')
    assert main([str(arg) for arg in [*command, "--resume"]]) == 0
    assert len(list(out.rglob("*.png"))) == 5
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path.name != "b_x2.png")
    assert {p.name for p in out.iterdir()} == {"a_x2.png", "b_x2.png", "d_x2.png", "sub", "upscale-0.jsonl"}

    save(source / "a.png", noise(10, 10))
    assert "a_x2.png exists already" in fails(*command, "--resume")
    assert main([str(arg) for arg in [*command, "--resume", "--force"]]) == 0
    with Image.open(out / "a_x2.png") as image:
        assert image.size == (20, 20)
    assert "b_x2.png exists already" in fails(*command, "--resume", "--dtype", "fp32").replace("a_x2", "b_x2")
    assert "--resume needs --out" in fails("upscale", source, "--model", model, "--resume")


def test_a_killed_run_goes_on_after_any_event(model, tmp_path, fails):
    source, out = tmp_path / "photos", tmp_path / "large"
    source.mkdir()
    for name in ("a.png", "b.png"):
        save(source / name, noise())
    command = ["upscale", str(source), "--model", model, "--out", str(out), "--resume"]
    assert main(command) == 0
    whole = {path.name: path.read_bytes() for path in out.glob("*.png")}
    manifest = out / "upscale-0.jsonl"
    first, second, _ = manifest.read_bytes().split(b"\n")
    for rest in (first + b"\n", first + b"\n" + second[:40], b""):  # killed before, in and instead of a line
        manifest.write_bytes(rest)
        assert main(command) == 0
        assert {path.name: path.read_bytes() for path in out.glob("*.png")} == whole
    manifest.write_bytes(first + b"\n")
    (out / "b_x2.png").write_bytes(b"of somebody else")
    assert "b_x2.png exists already and is not what" in fails(*command)
    assert (out / "b_x2.png").read_bytes() == b"of somebody else"


def test_temporary_files_of_killed_processes_are_removed_and_no_others(model, tmp_path):
    source, out = tmp_path / "photos", tmp_path / "large"
    source.mkdir()
    out.mkdir()
    save(source / "a.png", noise())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    abandoned, alive = temporary_name(dead.pid), temporary_name(os.getppid())
    others = [".a_x2-123.png", ".hfvision-tmp-notes.png", alive, f"{abandoned}.bak.old"]
    for name in (abandoned, *others):
        (out / name).write_bytes(b"x")
    (out / temporary_name(dead.pid, "")).mkdir()
    assert main(["upscale", str(source), "--model", model, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"a_x2.png", "upscale-0.jsonl", *others}


def temporary_name(process: int, suffix: str = ".png") -> str:
    with temporary_path(Path(f"a{suffix}")) as path:
        return path.name.replace(f"-{os.getpid()}-", f"-{process}-")


def test_results_in_the_folder_itself_are_no_sources(model, tmp_path):
    save(tmp_path / "a.png", noise())
    for _ in range(2):
        assert main(["upscale", str(tmp_path), "--model", model, "--force"]) == 0
        assert main(["upscale", str(tmp_path), "--model", model, "--out", str(tmp_path / "large"), "--force"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a_x2.png", "large"}
    with pytest.raises(ValueError, match="as a source"):
        output_paths([tmp_path / "a.png", tmp_path / "a_x2.png"], None, "x2")


def test_commands_for_sizes(model, tmp_path, fails):
    source = str(save(tmp_path / "a.png", noise()))
    assert main(["upscale", source, "--model", model, "--outscale", "2.5"]) == 0
    assert main(["upscale", source, "--model", model, "--fit", "100x100", "--dtype", "bf16", "--tile", "64"]) == 0
    assert main(["upscale", source, "--scale", "2", "--out", str(tmp_path / "b.jpg")]) == 0
    for name, size in (("a_x2.5.png", (50, 35)), ("a_100x100.png", (100, 70)), ("b.jpg", (40, 28))):
        with Image.open(tmp_path / name) as image:
            assert image.size == size
    assert "3840x2160" in fails("upscale", source, "--fit", "100")
    assert "not ×4" in fails("upscale", source, "--model", model, "--scale", "4")


def test_two_processes_share_a_folder(model, tmp_path):
    source, out = tmp_path / "photos", tmp_path / "large"
    source.mkdir()
    for index in range(5):
        save(source / f"{index}.png", noise())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "hfvision", "upscale", str(source), "--model", model, "--out", str(out)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    shares = [path.read_text().splitlines() for path in sorted(out.glob("upscale-*.jsonl"))]
    names = [[Path(json.loads(line)["source"]).name for line in share] for share in shares]
    assert names == [["0.png", "2.png", "4.png"], ["1.png", "3.png"]]
    assert len(list(out.glob("*.png"))) == 5


def test_processes_that_cannot_see_each_other_are_refused(model, tmp_path, fails, monkeypatch):
    source = save(tmp_path / "a.png", noise())
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert "torchrun" in fails("upscale", source, "--model", model)
    assert list(tmp_path.iterdir()) == [source]


MEMORY = """
import resource, sys, torch
from types import SimpleNamespace
from torch.nn.functional import interpolate
from hfvision import SRGANConfig
from hfvision.tasks.super_resolution.files import upscale_file
from hfvision.tasks.super_resolution.upscale import Upscaling

class Nearest:
    config = SRGANConfig.from_preset("fast-tiny", scale=4)
    def __call__(self, pixel_values):
        return SimpleNamespace(reconstruction=interpolate(pixel_values, scale_factor=4))

def run(name):
    upscale_file(name, name + ".out.png", Upscaling(Nearest(), dtype="fp32", tile=128))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = run(sys.argv[1])
print(run(sys.argv[2]) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units")
def test_memory_does_not_grow_with_the_result(tmp_path):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("L", (500, 600), 90).save(small)
    Image.new("L", (500, 8000), 90).save(large)
    command = [sys.executable, "-c", MEMORY, str(small), str(large)]
    returned_at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}  # what is freed, to the system
    environment = os.environ | returned_at_once
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    with Image.open(f"{large}.out.png") as image:
        assert image.size == (2000, 32000)
    assert int(done.stdout) < 30e6 < 2000 * 32000


def test_the_kind_of_network_follows_the_file(tmp_path, capsys):
    photo = read_image(sample_photos()["cat"]).convert("RGB").resize((64, 48))
    photo.save(tmp_path / "clean.png")
    photo.save(tmp_path / "web.jpg", quality=40)
    images = [str(tmp_path / name) for name in ("clean.png", "web.jpg")]
    assert main(["upscale", *images, "--scale", "4", "--out", str(tmp_path / "out")]) == 0
    clean, web = capsys.readouterr().out.splitlines()
    assert clean.endswith("clean_x4.png (clean: lossless PNG without noise)")
    assert web.endswith("web_x4.png (photo: JPEG of quality 40)")
    made = {name: np.asarray(Image.open(tmp_path / "out" / f"{name}_x4.png")) for name in ("clean", "web")}
    for name, image, model in (("clean", images[0], "sr-light-x4"), ("web", images[1], "sr-photo-x4")):
        assert (made[name] == np.asarray(upscale(image, model))).all()
        assert (made[name] == np.asarray(upscale(image, scale=4))).all()


def test_denoise_goes_from_the_clean_to_the_photo_network():
    pixels = np.asarray(read_image(sample_photos()["cat"]).convert("RGB").resize((32, 24)))
    clean, half, photo = (upscale(pixels, scale=4, denoise=share).astype(int) for share in (0, 0.5, 1))
    assert (clean == upscale(pixels, "sr-light-x4")).all()
    assert (photo == upscale(pixels, "sr-photo-x4")).all()
    assert 0 < abs(half - clean).mean() < 2 * abs(photo - clean).mean()
    assert (upscale(pixels, kind="photo").astype(int) == photo).all()
    assert (upscale(pixels, kind="gan") == upscale(pixels, "sr-gan-x4")).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sharp"}, "kind must be auto, photo, clean, gan, got 'sharp'"),
        ({"denoise": 1.5}, "denoise must be from 0 to 1, got 1.5"),
        ({"model": "sr-tiny-x2", "kind": "clean"}, "leave them out, or the model"),
        ({"kind": "clean", "denoise": 0.5}, "no effect on kind clean"),
        ({"kind": "gan", "scale": 3}, r"no gan model for ×3 \(it has ×4\)"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        upscale(np.zeros((16, 16, 3), np.uint8), **options)
