"""Summaries of films that are assembled here: shots, key frames, labels, pictures, and what cannot be summarised."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hfvision import camera_move, read_frames, read_image, sample_photos, summarize_video, write_frames
from hfvision.cli.main import main
from hfvision.data.io.video import DamagedVideoError
from hfvision.hub.loading import load_model
from hfvision.tasks.video.summarize import clock, contact_sheet, describe_shots

av = pytest.importorskip("av")

MODEL = "cnn-cifar10"  # small, thus fast
SIZE = (128, 96)
LENGTHS = {"coffee": 20, "cat": 25, "rocket": 15}


def shot(name: str, count: int) -> list[np.ndarray]:
    return list(camera_move(read_image(sample_photos()[name]).convert("RGB"), count, SIZE))


def film_of(lengths: dict[str, int]) -> list[np.ndarray]:
    return [frame for name, count in lengths.items() for frame in shot(name, count)]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """A film of three shots, what its summary holds, and the folder of it."""
    folder = tmp_path_factory.mktemp("film")
    write_frames(folder / "film.mp4", film_of(LENGTHS))
    return folder / "film.mp4", summarize_video(folder / "film.mp4", folder / "out", MODEL), folder / "out"


def test_shots_have_their_frames_times_and_key_frames(summary):
    _, record, out = summary
    saved = json.loads((out / "summary.json").read_text())
    assert {name: saved[name] for name in record if name != "size"} == {n: v for n, v in record.items() if n != "size"}
    assert (saved["frames"], saved["seconds"], saved["size"]) == (60, pytest.approx(2.4), list(SIZE))
    assert saved["problem"] is None
    frames = [(each["first_frame"], each["last_frame"]) for each in record["shots"]]
    assert frames == [(0, 19), (20, 44), (45, 59)]
    times = [(each["begin"], each["end"]) for each in record["shots"]]
    assert times == [pytest.approx(pair, abs=0.002) for pair in [(0, 0.8), (0.8, 1.8), (1.8, 2.4)]]
    for each in record["shots"]:
        assert each["first_frame"] <= each["key_frame"] <= each["last_frame"]
        assert each["key_time"] == pytest.approx(each["key_frame"] / 25, abs=0.002)


def test_labels_are_mean_probabilities_of_the_classifier(summary):
    source, record, _ = summary
    model, processor = load_model("cnn-cifar10", "image-classification")
    assert record["classes"] == list(model.config.id2label.values())
    images = [Image.fromarray(pixels) for _, pixels in read_frames(source)][20:45]
    with torch.inference_mode():
        mean = model(**processor(images, return_tensors="pt")).logits.softmax(-1).mean(0)
    labels = record["shots"][1]["labels"]
    assert len(labels) == 3
    assert list(labels.values()) == sorted(labels.values(), reverse=True)
    assert next(iter(labels)) == "cat"
    for name, value in labels.items():
        assert value == pytest.approx(mean[record["classes"].index(name)].item(), abs=0.01)


def test_the_pictures_show_the_key_frames(summary):
    source, record, out = summary
    sheet = Image.open(out / "contact_sheet.png")
    assert sheet.width == 3 * 248 + 8
    key = [pixels for _, pixels in read_frames(source)][record["shots"][1]["key_frame"]]
    shown = sheet.crop((256, 28, 496, 28 + 180)).resize(SIZE)
    assert np.abs(np.asarray(shown, dtype=float) - key).mean() < 6
    assert Image.open(out / "timeline.png").width > 1000
    assert sorted(path.name for path in out.iterdir()) == ["contact_sheet.png", "summary.json", "timeline.png"]


def test_the_command_prints_and_does_not_replace(summary, tmp_path, capsys):
    source, record, _ = summary
    assert (
        main(["video", "summarize", str(source), "--out", str(tmp_path / "out"), "--top", "1", "--model", MODEL]) == 0
    )
    said = capsys.readouterr().out
    assert "60 frames, 0:02.4, 128×96 pixels" in said
    assert "frames 20–44" in said
    assert "names the nearest of them" in said
    assert main(["video", "summarize", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err
    again = ["video", "summarize", str(source), "--out", str(tmp_path / "out"), "--force", "--json", "--model", MODEL]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["shots"] == record["shots"]


def write_uneven(path: Path, frames, times, turn=0) -> None:
    """Frames at `times`, in 100ths of a second."""
    with av.open(str(path), "w") as writer:
        video = writer.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base = Fraction(1, 100)
        if turn:
            video.set_display_rotation(turn)
        for pixels, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            writer.mux(video.encode(frame))
        writer.mux(video.encode())


def test_frames_that_are_unevenly_far_apart_keep_their_times(tmp_path):
    times = np.cumsum([7, *([4] * 15), *([8] * 16)])
    write_uneven(tmp_path / "film.mkv", film_of({"coffee": 16, "cat": 16}), times.tolist())
    record = summarize_video(tmp_path / "film.mkv", tmp_path / "out", MODEL)
    assert [each["first_frame"] for each in record["shots"]] == [0, 16]
    assert record["shots"][1]["begin"] == pytest.approx((times[16] - times[0]) / 100, abs=0.002)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write a turned film")
def test_turned_films_are_seen_upright(tmp_path):
    turned = [np.rot90(frame, -1) for frame in shot("cat", 4)]
    upright = [np.ascontiguousarray(np.rot90(frame)) for frame in turned]
    write_uneven(tmp_path / "film.mp4", upright, range(0, 16, 4), turn=90)
    record = summarize_video(tmp_path / "film.mp4", tmp_path / "out", MODEL)
    assert record["size"] == (SIZE[1], SIZE[0])
    first = next(read_frames(tmp_path / "film.mp4"))[1]
    assert np.abs(np.rot90(shot("cat", 1)[0]).astype(float) - first).mean() < 8


def test_a_film_of_one_frame(tmp_path):
    write_frames(tmp_path / "film.mp4", shot("cat", 1))
    record = summarize_video(tmp_path / "film.mp4", tmp_path / "out", MODEL)
    (only,) = record["shots"]
    assert (only["first_frame"], only["last_frame"], only["key_frame"]) == (0, 0, 0)
    assert only["end"] > 0


def test_an_encoder_gives_no_labels(tmp_path):
    model, processor = load_model("cnn-cifar10", "image-classification")
    model.base_model.save_pretrained(tmp_path / "encoder")
    processor.save_pretrained(tmp_path / "encoder")
    write_frames(tmp_path / "film.mp4", film_of({"coffee": 10, "rocket": 10}))
    record = summarize_video(tmp_path / "film.mp4", tmp_path / "out", str(tmp_path / "encoder"))
    assert [each["labels"] for each in record["shots"]] == [{}, {}]
    assert record["classes"] == []


def test_of_a_film_that_is_cut_off_the_rest_is_summarised_and_it_is_said(tmp_path, capsys):
    generator = np.random.default_rng(0)
    noisy = [np.uint8(frame * 0.8 + generator.integers(0, 40, frame.shape)) for frame in film_of(LENGTHS)]
    write_frames(tmp_path / "whole.mkv", noisy)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedVideoError, match=r"it ends before the 2\.4 s"):
        list(read_frames(tmp_path / "cut.mkv"))
    assert main(["video", "summarize", str(tmp_path / "cut.mkv"), "--out", str(tmp_path / "out")]) == 0
    assert "warning" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 15 < record["frames"] < 45
    assert "can be read for" in record["problem"]
    assert record["shots"][-1]["last_frame"] == record["frames"] - 1


def test_what_is_no_film_is_refused_in_words_and_leaves_nothing(tmp_path, capsys):
    with av.open(str(tmp_path / "sound.mp4"), "w") as writer:
        audio = writer.add_stream("aac", rate=48000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48000
        writer.mux(audio.encode(samples))
        writer.mux(audio.encode())
    (tmp_path / "broken.mp4").write_bytes(b"no film at all")
    (tmp_path / "empty.mp4").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    for name, words in (
        ("none.mp4", "no file"),
        ("sound.mp4", "holds no video, only sound"),
        ("broken.mp4", "no video that FFmpeg can read, or is damaged"),
        ("empty.mp4", "no video that FFmpeg can read, or is damaged"),
    ):
        assert main(["video", "summarize", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("hfvision: error: ")
        assert words in said
    assert sorted(tmp_path.iterdir()) == before


def test_frames_are_written_whole_or_not_at_all(tmp_path):
    small, large = np.zeros((48, 64, 3), np.uint8), np.zeros((50, 64, 3), np.uint8)
    for frames, words in (([], "no frames"), ([small, large], "Frame 1 has 64×50 pixels")):
        with pytest.raises(ValueError, match=words):
            write_frames(tmp_path / "film.mp4", frames)
    with pytest.raises(ValueError, match="must end in"):
        write_frames(tmp_path / "film.gif", [small])
    assert list(tmp_path.iterdir()) == []


def test_many_shots_go_into_rows_and_long_captions_are_cut(tmp_path):
    images = [Image.new("RGB", (64, 48), (40 * number, 0, 0)) for number in range(6)]
    contact_sheet(images, [f"{number} {'very long ' * 9}" for number in range(6)], tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (4 * 248 + 8, 2 * (180 + 28) + 8)
    assert sheet.getpixel((256 + 100, 216 + 100)) == (200, 0, 0)


def test_times_are_readable():
    assert [clock(seconds) for seconds in (0, 4.25, 59.97, 62, 3723.5)] == [
        "0:00.0",
        "0:04.2",
        "1:00.0",
        "1:02.0",
        "1:02:03.5",
    ]


def test_numbers_stand_in_for_names_that_are_missing(summary):
    from hfvision.tasks.video.shots import video_features

    source, record, _ = summary
    video = video_features(source, *load_model("cnn-cifar10", "image-classification"))
    shots = describe_shots(video, [20, 45], {}, top=1)
    assert [list(each["labels"]) for each in shots][1] == [str(record["classes"].index("cat"))]


def test_the_recipe_of_video_enhances_and_summarises(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "application_video.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["frames"] == 36
    assert record["psnr"]["sr-tiny-x2"] > record["psnr"]["bicubic ×2"] + 1
    assert 0.2 < record["static"] < 0.7
    assert record["flicker"]["sr-tiny-x2"] < 0.5
    shots = json.loads((tmp_path / "out" / "summary" / "summary.json").read_text())["shots"]
    assert [each["first_frame"] for each in shots] == [0, 6, 12, 18, 24, 30]
    enhanced = [pixels.shape for _, pixels in read_frames(tmp_path / "out" / "enhanced.mp4")]
    assert enhanced == [(144, 256, 3)] * 36
