"""Batches of files: every file that can be used is, each result has a name of its own, and the rest is named."""

import io
import json
import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    ImageClassificationProcessor,
    SRGANConfig,
    SRGANForImageSuperResolution,
    SRGANImageProcessor,
)
from hfvision.cli.main import main
from hfvision.data.io.images import read_image, read_photo
from hfvision.data.io.video import read_frames, write_frames
from hfvision.models.cnn.configuration_cnn import CNNSegmentationConfig
from hfvision.models.cnn.modeling_cnn_segmentation import CNNForSemanticSegmentation
from hfvision.models.image_processing_segmentation import ImageSegmentationProcessor
from hfvision.tasks.super_resolution.upscale import load_upscaler, upscale

CASES = Path(__file__).parents[2] / "shared/cases"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a `classifier`, an `upscaler` (×2) and a `segmenter`, all untrained."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=3)).save_pretrained(folder / "classifier")
    ImageClassificationProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "classifier")
    config = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=4, block_widths=[[4]])
    SRGANForImageSuperResolution(config).save_pretrained(folder / "upscaler")
    SRGANImageProcessor().save_pretrained(folder / "upscaler")
    config = CNNSegmentationConfig(stage_widths=[[[4]], [[4]]], stage_strides=[1, 2], num_labels=2)
    CNNForSemanticSegmentation(config).save_pretrained(folder / "segmenter")
    ImageSegmentationProcessor().save_pretrained(folder / "segmenter")
    return folder


@pytest.fixture(scope="module")
def network(models):
    return load_upscaler(str(models / "upscaler"))


@pytest.fixture
def run(models, capsys):
    """Runs a command; its exit code, and what it printed to both streams."""

    def command(*words, model: str = "upscaler"):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            code = main([*map(str, words), "--model", str(models / model)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        shown = [f"hfvision: warning: {warning.message}" for warning in warned if warning.category is UserWarning]
        return code, printed.out, "\n".join([*shown, printed.err])

    return command


def picture(seed: int = 0, size=(16, 12)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def is_upscaled(target: Path, source: Path, network) -> bool:
    with Image.open(target) as image:
        return np.array_equal(np.asarray(image), np.asarray(upscale(read_image(source), network)))


def test_a_folder_takes_every_file_that_would_be_taken_alone_and_names_the_others(run, network, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = ["a.avif", "b.jp2", "c.jfif", "d.ppm", "e.png", "f.jpe", "g.pnm", "h.j2k", "i.apng", "j.dib", "k.GIF"]
    for seed, name in enumerate(names):
        picture(seed).save(source / name, "BMP" if name == "j.dib" else None)
    picture(20).save(source / "without a suffix", "PNG")
    picture(21).save(source / "wrong.dat", "JPEG")
    write_frames(source / "film.mp4", [np.asarray(picture(30 + n, (32, 24))) for n in range(3)])
    (source / "notes.txt").write_text("no image")
    picture().save(source / ".hidden.png")
    (source / "broken link.png").symlink_to(source / "nothing.png")
    os.mkfifo(source / "pipe.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(22).save(elsewhere / "far.png")
    (source / "linked").symlink_to(elsewhere)
    code, printed, said = run("upscale", source, "--out", out)
    assert code == 0
    made = {path.name for path in out.iterdir()} - {"upscale-0.jsonl"}
    stems = [*"abcdefghijk", "without a suffix", "wrong"]
    assert made == {f"{stem}_x2.png" for stem in stems} | {"film_x2.mp4", "linked"}
    assert is_upscaled(out / "linked" / "far_x2.png", elsewhere / "far.png", network)
    assert printed.count(" → ") == len(made)
    for name in [*names, "without a suffix", "wrong.dat"]:
        assert is_upscaled(out / f"{Path(name).stem}_x2.png", source / name, network), name
    assert [frame.shape for _, frame in read_frames(out / "film_x2.mp4")] == [(48, 64, 3)] * 3
    warning = next(line for line in said.splitlines() if "Left out" in line)
    for left_out in (
        "notes.txt (.txt files, which are not read as images)",
        ".hidden.png (hidden files)",
        "broken link.png (broken links)",
        "pipe.png (special files)",
    ):
        assert left_out in warning
    code, printed, _ = run("classify", source, "--top", 1, model="classifier")
    assert code == 0
    assert printed.count("%") == len(stems) + 1
    assert "film.mp4 (.mp4 files, which are not read as images)" in run("classify", source, model="classifier")[2]


def test_files_of_one_stem_get_names_of_their_own(run, network, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    names = ["cat.jpg", "cat.png", "cat.webp", "cat_png.gif", "dog.png", "sub/cat.png"]
    for seed, name in enumerate(names):
        picture(seed).save(source / name)
    assert run("upscale", source, "--out", out)[0] == 0
    targets = ["cat_jpg_x2.png", None, "cat_webp_x2.png", None, "dog_x2.png", "sub/cat_x2.png"]
    for name, target in zip(names, targets, strict=True):
        assert target is None or is_upscaled(out / target, source / name, network), name
    for name in ("cat.png", "cat_png.gif"):
        assert any(is_upscaled(target, source / name, network) for target in out.glob("*.png"))
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    assert len(before) == len(names)
    code, printed, _ = run("upscale", source, "--out", out, "--resume")
    assert (code, printed.strip()) == (0, "6 of 6 files were already upscaled.")
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before

    one, two = tmp_path / "one", tmp_path / "two"
    for folder, seed in ((one, 1), (two, 2)):
        folder.mkdir()
        picture(seed).save(folder / "a.png")
    sources = [one / "a.png", two / "a.png", one / "a.png"]
    assert run("upscale", *sources, "--out", tmp_path / "flat")[0] == 0
    for folder in (one, two):
        assert is_upscaled(tmp_path / "flat" / f"{folder.name}_a_x2.png", folder / "a.png", network)
    assert run("segment", *sources, "--out", tmp_path / "masks", model="segmenter")[0] == 0
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"one_a_mask.png", "two_a_mask.png"}
    assert "names one file" in run("upscale", *sources, "--out", tmp_path / "one.png")[2]


ODD = [
    b"n" * 240 + b".png",
    b"n" * 247 + b".png",
    b"n" * 248 + b".png",
    b"m" * 251 + b".png",
    "é".encode() * 125 + b".png",
    b"not utf-8 \xff\xfe.png",
    "line\u2028separator.png".encode(),
    b"new\nline.png",
    b"100% {0} [a] #1::x.png",
    "写真.png".encode(),
]


def test_odd_names_are_taken_and_resumed(run, network, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for seed, name in enumerate(ODD):
        picture(seed).save(source / os.fsdecode(name), "PNG")
    code, printed, said = run("upscale", source, "--out", out)
    assert code == 0, said
    assert len(list(out.glob("*.png"))) == len(ODD)
    assert (out / ("n" * 248 + "_x2.png")).exists(), "255 bytes fit"
    for path in source.iterdir():
        whole = [target for target in out.glob("*.png") if is_upscaled(target, path, network)]
        assert len(whole) == 1, path
    before = {path: path.read_bytes() for path in out.glob("*.png")}
    code, printed, said = run("upscale", source, "--out", out, "--resume")
    assert (code, printed.strip()) == (0, f"{len(ODD)} of {len(ODD)} files were already upscaled."), said
    (out / "not utf-8 \udcff\udcfe_x2.png").unlink()
    assert run("upscale", source, "--out", out, "--resume")[0] == 0
    assert {path: path.read_bytes() for path in out.glob("*.png")} == before
    assert run("classify", source, "--json", model="classifier")[0] == 0
    assert run("segment", source, "--out", tmp_path / "masks", model="segmenter")[0] == 0
    assert len(list((tmp_path / "masks").iterdir())) == len(ODD)


def test_no_encoding_of_the_output_and_no_closed_pipe_stops_a_batch(models, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in (b"a.png", "b → ü.png".encode(), b"c\xff.png", "写真.png".encode()):
        picture().save(source / os.fsdecode(name), "PNG")
    (source / "notes.txt").write_text("no image")
    code = (
        "import os, sys; from hfvision.cli.main import main; sys.stdout.flush();"
        "code = [main(['upscale', sys.argv[1], '--model', sys.argv[2], '--out', sys.argv[3]])];"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1);"
        "code += [main(['upscale', sys.argv[1], '--model', sys.argv[2], '--out', sys.argv[3] + '2'])];"
        "print(*code, file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, str(source), str(models / "upscaler"), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, timeout=300, check=False)
    assert done.stderr.decode("cp1252").splitlines()[-1] == "0 0", done.stderr
    assert done.returncode == 0
    assert b"a.png \\u2192 " in done.stdout
    assert any(line.startswith(b"hfvision: warning: Left out of") for line in done.stderr.splitlines())
    assert b"UserWarning" not in done.stderr
    for out in ("out", "out2"):
        assert len(list((tmp_path / out).glob("*.png"))) == 4


def test_videos_of_any_name_are_taken_and_resumed(run, tmp_path, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    frames = [np.asarray(picture(n, (32, 24))) for n in range(3)]
    for name in ("2024-05-01T12:30:00.mp4", "caf\udce9.mkv", "film.mkv", "film.avi"):
        write_frames(tmp_path / "made.mkv", frames)
        (source / name).write_bytes((tmp_path / "made.mkv").read_bytes())
    code, _, said = run("upscale", source, "--out", out)
    assert code == 0, said
    whole = {path.name: path.read_bytes() for path in out.glob("*.m??")}
    assert whole.keys() == {
        *("2024-05-01T12:30:00_x2.mp4", "caf\udce9_x2.mkv"),
        *("film_mkv_x2.mkv", "film_avi_x2.mkv"),
    }
    for name in whole:
        assert [frame.shape for _, frame in read_frames(out / name)] == [(48, 64, 3)] * 3
    manifest = out / "upscale-0.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:-1]))  # killed before the line that says that the last video is done
    (out / "film_mkv_x2.mkv").write_bytes(b"as if encoded otherwise")
    code, printed, _ = run("upscale", source, "--out", out, "--resume")
    assert code == 0
    assert "3 of 4 files were already upscaled." in printed
    assert len(list(read_frames(out / "film_mkv_x2.mkv"))) == 3
    assert whole.items() >= {p.name: p.read_bytes() for p in out.glob("*.m??") if p.stem != "film_mkv_x2"}.items()
    monkeypatch.chdir(source)
    assert run("upscale", "2024-05-01T12:30:00.mp4", "--out", "a:2.mp4")[0] == 0
    assert len(list(read_frames("a:2.mp4"))) == 3


@pytest.mark.parametrize("command", ["upscale", "classify", "segment"])
def test_broken_files_are_named_and_the_others_are_done(run, network, tmp_path, command):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for seed, name in enumerate(["a.png", "c.png"]):
        picture(seed).save(source / name)
    (source / "b.png").write_bytes(b"no image")
    picture(2, (64, 48)).save(source / "d.jpg")
    (source / "d.jpg").write_bytes((source / "d.jpg").read_bytes()[:400])
    options = [] if command == "classify" else ["--out", out]
    model = {"upscale": "upscaler", "classify": "classifier", "segment": "segmenter"}[command]
    code, printed, said = run(command, source, *options, model=model)
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("hfvision: error: 2 of 4 files could not be ")
    assert "b.png is not an image" in last
    assert "d.jpg is damaged or cut off" in last
    assert "a.png" in printed
    assert "c.png" in printed
    if command == "upscale":
        assert is_upscaled(out / "c_x2.png", source / "c.png", network)
    if command == "segment":
        assert {path.name for path in out.iterdir()} == {"a_mask.png", "c_mask.png"}
    if command != "upscale":
        code, printed, _ = run(command, source, *options, "--json", *(["--force"] if options else []), model=model)
        assert code == 1
        assert [Path(entry["image"]).name for entry in json.loads(printed)] == ["a.png", "c.png"]
    for path in source.glob("[ac].png"):
        path.unlink()
    code, printed, _ = run("classify", source, "--json", model="classifier")
    assert (code, json.loads(printed)) == (1, [])
    assert run("classify", source / "b.png", model="classifier")[0] == 2


def test_classify_prints_as_it_goes(models, tmp_path, monkeypatch):
    import hfvision.data.io.images as images

    for name in ("a.png", "b.png"):
        picture().save(tmp_path / name)
    seen, read = [], images.read_image

    def read_and_note(path):
        seen.append((path.name, stream.getvalue()))
        return read(path)

    stream = io.StringIO()
    monkeypatch.setattr(images, "read_image", read_and_note)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["classify", str(tmp_path), "--model", str(models / "classifier"), "--top", "1"]) == 0
    assert seen[0] == ("a.png", "")
    assert seen[1][0] == "b.png"
    assert "a.png" in seen[1][1]


def png_with(path: Path, *chunks: tuple[bytes, bytes]) -> None:
    from zlib import crc32

    file = io.BytesIO()
    picture().save(file, "PNG")
    data = file.getvalue()
    extra = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", crc32(k + d)) for k, d in chunks)
    path.write_bytes(data[:33] + extra + data[33:])


def test_metadata_that_cannot_be_written_is_named_and_costs_no_file(run, network, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(0).save(source / "dpi.tif", resolution_unit=2, x_resolution=4294967295.0, y_resolution=4294967295.0)
    picture(1).save(source / "large profile.tif", icc_profile=profile + np.random.default_rng(0).bytes(1_500_000))
    picture(2).save(source / "comment.jpg", comment=b"said \xe9", dpi=(72, 72))
    png_with(source / "dpi.png", (b"pHYs", struct.pack(">IIB", 2**31 - 1, 2**31 - 1, 1)))
    picture(3).save(source / "fine.png", dpi=(300, 300))
    data = bytearray((source / "dpi.tif").read_bytes())
    with Image.open(source / "dpi.tif") as image:
        assert image.info["dpi"][0] > 4e9
    (source / "nan.tif").write_bytes(data.replace(struct.pack("<LL", 4294967295, 1), struct.pack("<LL", 0, 0)))
    for suffix in ("png", "tif", "jpg", "webp"):
        out = tmp_path / suffix
        for path in sorted(source.iterdir()):
            target = out / f"{path.name}.{suffix}"
            code, _, said = run("upscale", path, "--out", target)
            assert code == 0, said
            photo = read_photo(target)
            assert photo.pixels.shape == (24, 32, 3)
            if suffix in ("png", "tif"):
                assert np.array_equal(photo.pixels, np.asarray(upscale(read_image(path), network)))
            if path.name == "dpi.tif" and suffix != "tif":
                assert f"{target} is written without dpi" in said
            if path.name == "large profile.tif" and suffix == "png":
                assert "without icc_profile" in said
            if path.name == "comment.jpg" and suffix == "png":
                assert photo.metadata["text"] == {"Comment": "said é"}
                assert "warning" not in said
            if path.name == "fine.png" and suffix != "webp":
                assert photo.metadata["dpi"] == pytest.approx((300, 300), abs=0.1)
                assert "warning" not in said
    assert run("upscale", source, "--out", tmp_path / "all")[0] == 0


def test_one_of_several_frames_or_pages_is_taken_with_a_warning(run, network, tmp_path):
    pages = [picture(n) for n in range(3)]
    for name in ("a.gif", "b.webp", "c.png", "d.tif"):
        options = {"lossless": True} if name == "b.webp" else {}
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], **options)
    picture(5).save(tmp_path / "e.png")
    code, _, said = run("upscale", tmp_path, "--out", tmp_path / "out")
    assert code == 0
    for name, what in (("a.gif", "frames"), ("b.webp", "frames"), ("c.png", "frames"), ("d.tif", "pages")):
        assert f"{tmp_path / name} has several {what}: only the first is read." in said
    assert "e.png" not in said
    for name in ("b_x2.png", "c_x2.png", "d_x2.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert np.array_equal(np.asarray(image), np.asarray(upscale(pages[0], network)))


def float_tiff(path: Path, kind: str) -> None:
    """A TIFF of RGB pixels of a kind of numbers that Pillow does not open."""
    pixels = np.ones((4, 4, 3), kind)
    numbers = {"f": 3, "i": 2, "u": 1}[kind[0]]
    values = struct.pack("<3H", *[8 * pixels.itemsize] * 3) + struct.pack("<3H", *[numbers] * 3)
    offset = 8 + 2 + 12 * 9 + 4
    entries = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 3, offset), (259, 4, 1, 1), (262, 4, 1, 2)]
    entries += [(273, 4, 1, offset + 12), (277, 4, 1, 3), (279, 4, 1, pixels.nbytes), (339, 3, 3, offset + 6)]
    directory = struct.pack("<H", 9) + b"".join(struct.pack("<HHLL", *entry) for entry in entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<L", 8) + directory + values + pixels.tobytes())


def test_messages_tell_why_a_tiff_is_not_read(run, tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "grey.tif")
    for kind in ("f2", "f4", "f8", "i2", "u4"):
        float_tiff(tmp_path / f"{kind}.tif", kind)
    code, _, said = run("upscale", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    last = said.splitlines()[-1]
    for name, why in (
        ("grey", "floating-point pixels"),
        ("f2", "floating-point pixels"),
        ("f4", "floating-point pixels"),
        ("f8", "floating-point pixels"),
        ("i2", "signed numbers"),
        ("u4", "pixels of 32 bits"),
    ):
        assert f"{name}.tif has {why}" in last


def test_libtiff_prints_nothing_beside_the_message(models, tmp_path, capfd):
    file = io.BytesIO()
    picture(0, (64, 64)).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    data[300:340] = b"\xff" * 40
    (tmp_path / "bad.tif").write_bytes(data)
    picture(0, (64, 64)).convert("1").save(tmp_path / "fax.tif", compression="group4")
    data = bytearray((tmp_path / "fax.tif").read_bytes())
    data[20:200:3] = b"\xff" * len(data[20:200:3])
    (tmp_path / "fax.tif").write_bytes(data)
    (tmp_path / "cut.tif").write_bytes(file.getvalue()[:5000])
    assert main(["classify", str(tmp_path), "--model", str(models / "classifier")]) == 1
    printed = capfd.readouterr().err
    assert all(line.startswith("hfvision: ") for line in printed.splitlines()), printed


@pytest.mark.skipif(not CASES.is_dir(), reason="cases are not here")
def test_the_cases(run, tmp_path):
    for case, made in (("same-stem", 3), ("long-name", 3), ("stdout-cp1252", 2), ("folder-formats-skipped", 6)):
        source = CASES / case
        if (source / "gen.py").exists():
            subprocess.run([sys.executable, source / "gen.py", tmp_path / case], check=True, timeout=60)
            source = tmp_path / case
        code, _, said = run("upscale", source, "--out", tmp_path / f"{case}-out")
        assert code == 0, said
        assert len(list((tmp_path / f"{case}-out").glob("*_x2.png"))) == made


def test_raw_files_of_cameras_are_named_and_their_previews_not_taken(run, tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1  # a smaller version of another image in the file
    for name in ("one.dng", "two.tif"):
        picture().save(tmp_path / name, "TIFF", tiffinfo=tags)
    picture().save(tmp_path / "three.CR2", "TIFF")
    picture().save(tmp_path / "four.tif")
    code, printed, said = run("upscale", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert printed.count(" → ") == 1
    assert "four_x2.png" in printed
    assert "one.dng (.dng files" in said
    assert "three.CR2 (.cr2 files" in said
    assert "two.tif is a camera's raw file" in said
    for name in ("one.dng", "three.CR2"):
        code, _, said = run("classify", tmp_path / name, model="classifier")
        assert (code, f"{name} is a camera's raw file, which is not read" in said) == (2, True)


def test_formats_that_cannot_hold_the_result_are_refused(run, tmp_path):
    picture().save(tmp_path / "a.png")
    Image.new("LA", (8, 8)).save(tmp_path / "b.png")
    write_frames(tmp_path / "film.mp4", [np.asarray(picture(n, (32, 24))) for n in range(3)])
    for source, out, message in (
        ("a.png", "large.gif", "large.gif cannot be written: .gif is no format for it; choose .png"),
        ("a.png", "large.jxl", "large.jxl cannot be written: .jxl is no format for it; choose .png"),
        ("a.png", "large.pdf", "large.pdf cannot be written: .pdf is no format for it; choose .png"),
        ("b.png", "large.bmp", "large.bmp cannot hold transparency"),
        ("b.png", "large.ppm", "large.ppm cannot hold transparency"),
        ("film.mp4", "large.png", "large.png must end in .m4v, .mkv, .mov, .mp4, .webm, as it is to be a video"),
        ("film.mp4", "large.avi", "large.avi must end in .m4v, .mkv, .mov, .mp4, .webm, as it is to be a video"),
    ):
        code, _, said = run("upscale", tmp_path / source, "--out", tmp_path / out)
        assert (code, message in said) == (2, True), said
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "film.mp4"}
