"""Videos keep their frames' times, colours and sound."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from torch.nn.functional import interpolate

from hfvision.cli.main import main
from hfvision.tasks.super_resolution.upscale import Upscaling
from hfvision.tasks.super_resolution.video import upscale_video

av = pytest.importorskip("av")

SIZE = (64, 48)


class Nearest:
    """A network of any scale."""

    def __init__(self, scale: int = 2):
        self.config = SimpleNamespace(scale=scale, num_channels=3)

    def __call__(self, pixel_values):
        return SimpleNamespace(reconstruction=interpolate(pixel_values, scale_factor=self.config.scale))


def picture(index: int) -> np.ndarray:
    """A red, a green and a blue field, and a grey one that brightens from frame to frame."""
    width, height = SIZE
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 60)
    image[height // 2 :, : width // 2] = (40, 60, 210)
    image[height // 2 :, width // 2 :] = 40 + 20 * index
    return image


def film(path, *, times=(0, 1, 2, 3, 4, 5), sound="aac", depth="", turn=0, matrix=None):
    """Frames at `times` 25ths of a second, with half a second of a tone."""
    with av.open(str(path), "w") as writer:
        video = writer.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p" + depth
        video.codec_context.options = {"crf": "4"}
        if turn:
            video.set_display_rotation(turn)
        if matrix:
            video.codec_context.colorspace, video.codec_context.color_range = matrix, 1
        audio = writer.add_stream(sound, rate=48000, layout="mono") if sound else None
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            if matrix:
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            writer.mux(video.encode(frame))
        writer.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(24000) * 0.05, dtype=np.float32)[None]
            samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 48000, 0
            resampler = av.AudioResampler(audio.format, audio.layout, audio.rate, audio.codec_context.frame_size)
            for piece in [*resampler.resample(samples), *resampler.resample(None)]:
                writer.mux(audio.encode(piece))
            writer.mux(audio.encode())
    return path


def frames(path) -> list:
    with av.open(str(path)) as reader:
        return [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in reader.decode(video=0)]


def sound_of(path) -> list:
    with av.open(str(path)) as reader:
        packets = reader.demux(reader.streams.audio[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.dts is not None]


@pytest.mark.parametrize("times", [(0, 1, 2, 3, 4, 5), (0, 1, 4, 5, 9, 10)], ids=["steady", "uneven"])
def test_frames_times_and_sound_are_kept(times, tmp_path):
    source, target = film(tmp_path / "film.mp4", times=times), tmp_path / "large.mp4"
    upscale_video(source, target, Upscaling(Nearest()))
    before, after = frames(source), frames(target)
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    for (_, small), (_, large) in zip(before, after, strict=True):
        assert large.shape == (96, 128, 3)
        for row, column in ((10, 10), (10, 54), (38, 10), (38, 54)):
            difference = large[2 * row, 2 * column].astype(int) - small[row, column]
            assert np.abs(difference).max() <= 6
    assert sound_of(target) == sound_of(source)
    with av.open(str(source)) as a, av.open(str(target)) as b:
        assert b.streams.video[0].average_rate == a.streams.video[0].average_rate
        assert b.duration == pytest.approx(a.duration, abs=50_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "large.mp4"]


def test_the_matrix_of_the_colours_is_kept(tmp_path):
    source, target = film(tmp_path / "film.mp4", matrix=1, sound=None), tmp_path / "large.mkv"
    upscale_video(source, target, Upscaling(Nearest()))
    with av.open(str(source)) as a, av.open(str(target)) as b:
        small, large = next(a.decode(video=0)), next(b.decode(video=0))
    assert (large.colorspace, large.color_range) == (small.colorspace, small.color_range) == (1, 1)
    small, large = (frame.to_ndarray() for frame in (small, large))  # luma first
    for row, column in ((10, 10), (10, 54), (38, 10), (38, 54)):
        assert abs(int(large[2 * row, 2 * column]) - int(small[row, column])) <= 3


def test_ten_bits_stay_ten_bits(tmp_path):
    source, target = film(tmp_path / "film.mp4", depth="10le"), tmp_path / "large.mp4"
    upscale_video(source, target, Upscaling(Nearest()))
    with av.open(str(target)) as reader:
        assert reader.streams.video[0].codec_context.pix_fmt == "yuv420p10le"


def test_odd_sizes_and_other_sizes_are_exact(tmp_path):
    source = film(tmp_path / "film.mp4", sound=None)
    upscale_video(source, tmp_path / "odd.mp4", Upscaling(Nearest(), outscale=1.7))
    upscale_video(source, tmp_path / "box.mp4", Upscaling(Nearest(), fit=(160, 90)))
    assert frames(tmp_path / "odd.mp4")[0][1].shape == (82, 109, 3)
    assert frames(tmp_path / "box.mp4")[0][1].shape == (90, 120, 3)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write a turned film")
def test_turned_films_are_upright(tmp_path):
    source, target = film(tmp_path / "film.mp4", turn=90), tmp_path / "large.mp4"
    upscale_video(source, target, Upscaling(Nearest()))
    with av.open(str(target)) as reader:
        frame = next(reader.decode(video=0))
    assert (frame.width, frame.height, frame.rotation) == (96, 128, 0)
    upright = np.rot90(frames(source)[0][1])
    large = frame.to_ndarray(format="rgb24")
    assert np.abs(large[20, 20].astype(int) - upright[10, 10]).max() <= 6
    assert np.abs(large[100, 20].astype(int) - upright[50, 10]).max() <= 6


def test_vp9_and_opus_in_webm(tmp_path):
    source, target = film(tmp_path / "film.mkv", sound="libopus"), tmp_path / "large.webm"
    upscale_video(source, target, Upscaling(Nearest()))
    with av.open(str(target)) as reader:
        assert reader.streams.video[0].codec_context.name.startswith(("vp9", "libvpx"))
    assert len(frames(target)) == 6
    assert len(sound_of(target)) == len(sound_of(source))


def test_what_cannot_be_done_is_said_and_leaves_nothing(tmp_path):
    source = film(tmp_path / "film.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no film at all")
    (tmp_path / "cut.mp4").write_bytes(source.read_bytes()[:900])
    before = sorted(tmp_path.iterdir())
    for name, target, error, message in (
        ("none.mp4", "large.mp4", FileNotFoundError, "no file"),
        ("broken.mp4", "large.mp4", ValueError, r"broken\.mp4"),
        ("cut.mp4", "large.mp4", ValueError, r"cut\.mp4"),
        ("film.mp4", "large.xyz", ValueError, "must end in"),
    ):
        with pytest.raises(error, match=message):
            upscale_video(tmp_path / name, tmp_path / target, Upscaling(Nearest()))
    assert sorted(tmp_path.iterdir()) == before


def test_command_takes_a_film(tmp_path):
    source = film(tmp_path / "film.mov", times=(0, 1))
    assert main(["upscale", str(source), "--model", "sr-tiny-x2"]) == 0
    assert frames(tmp_path / "film_x2.mov")[0][1].shape == (96, 128, 3)
