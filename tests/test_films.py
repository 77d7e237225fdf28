"""Films as they come: covers, cut files, transparency, interlacing, subtitles, old formats, HDR."""

import io
import struct
import warnings
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch.nn.functional import interpolate

from hfvision.cli.main import main
from hfvision.data.io.encoding import VideoEncoding
from hfvision.tasks.super_resolution.batch import upscale_files
from hfvision.tasks.super_resolution.files import output_paths
from hfvision.tasks.super_resolution.upscale import Upscaling

av = pytest.importorskip("av")
from av.stream import Disposition  # noqa: E402

from hfvision.data.io.video import DamagedVideoError, read_frames  # noqa: E402
from hfvision.tasks.super_resolution.video import upscale_video  # noqa: E402


class Nearest:
    config = SimpleNamespace(scale=2, num_channels=3)

    def __call__(self, pixel_values):
        return SimpleNamespace(reconstruction=interpolate(pixel_values, scale_factor=2))


def upscale(source, target, **encoding) -> str:
    """Upscale a film and return what the warnings say."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        upscale_video(source, target, Upscaling(Nearest(), encoding=VideoEncoding(**encoding)))
    return " ".join(str(warning.message) for warning in said)


def picture(number: int, size=(64, 48)) -> np.ndarray:
    """Red left, blue right, and a grey strip that brightens."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = (200, 30, 30), (30, 40, 200)
    image[height // 2 :, width // 4 : 3 * width // 4] = 40 + 20 * (number % 10)
    return image


def encode(writer, video, pictures, start=0, layout="rgb24"):
    for number, pixels in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(pixels, format=layout)
        frame.pts, frame.time_base = start + number, Fraction(1, 25)
        writer.mux(video.encode(frame))
    writer.mux(video.encode())


def add_video(writer, codec="libx264", size=(64, 48), form="yuv420p", **options):
    video = writer.add_stream(codec, rate=25, options=options)
    video.width, video.height, video.pix_fmt = *size, form
    return video


def add_tone(writer, codec="aac", rate=48000, seconds=1.0):
    """The stream, and a function that encodes a tone."""
    sound = writer.add_stream(codec, rate=rate, layout="mono")
    sound.bit_rate = 128_000

    def play():
        tone = np.sin(np.arange(int(rate * seconds)) * 0.05, dtype=np.float32)[None]
        samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        samples.sample_rate, samples.pts = rate, 0
        resampler = av.AudioResampler(sound.format, sound.layout, sound.rate, sound.codec_context.frame_size)
        for piece in [*resampler.resample(samples), *resampler.resample(None)]:
            writer.mux(sound.encode(piece))
        writer.mux(sound.encode())

    return sound, play


def plain(path, count=6, codec="libx264", form="yuv420p", sound=None, rate=48000, **options):
    with av.open(str(path), "w") as writer:
        video = add_video(writer, codec, form=form, **options)
        play = add_tone(writer, sound, rate)[1] if sound else lambda: None
        encode(writer, video, [picture(number) for number in range(count)])
        play()
    return path


def rgb(path) -> list[np.ndarray]:
    return [pixels for _, pixels in read_frames(path)]


def streams(path) -> list[tuple[str, str]]:
    with av.open(str(path)) as reader:
        return [(stream.type, stream.codec_context.name) for stream in reader.streams]


def test_the_film_and_not_its_cover(tmp_path):
    source, target = tmp_path / "film.mp4", tmp_path / "large.mp4"
    file = io.BytesIO()
    Image.new("RGB", (90, 90), (0, 255, 0)).save(file, "JPEG")
    with av.open(io.BytesIO(file.getvalue())) as jpeg, av.open(str(source), "w") as writer:
        cover = writer.add_stream_from_template(jpeg.streams.video[0])
        cover.disposition = Disposition.attached_pic
        video = add_video(writer)
        packet = next(jpeg.demux())
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        writer.mux(packet)
        encode(writer, video, [picture(number) for number in range(6)])
    for path in (source, target):
        upscale(source, target) if path == target else None
        frames = rgb(path)
        assert (len(frames), frames[0].shape) == (6, (96, 128, 3) if path == target else (48, 64, 3))
        assert np.abs(frames[0][10, 10].astype(int) - (200, 30, 30)).max() < 12
    assert upscale(source, tmp_path / "large.mkv") == ""
    assert "large.mov is without video stream 1 (mjpeg)" in upscale(source, tmp_path / "large.mov")
    for path in (target, tmp_path / "large.mkv"):
        reader = av.open(str(path))
        covers = [s for s in reader.streams.video if Disposition(s.disposition) & Disposition.attached_pic]
        assert [(s.codec_context.width, s.codec_context.height) for s in covers] == [(90, 90)]


def test_a_sound_with_a_cover_is_no_film(tmp_path):
    path = tmp_path / "song.m4v"
    with av.open(str(path), "w", format="mp4") as writer:
        _, play = add_tone(writer)
        play()
    with pytest.raises(ValueError, match="holds no video, only sound"):
        upscale(path, tmp_path / "large.mp4")


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi", "film.flv"])
@pytest.mark.parametrize("sound", [None, "aac"])
def test_a_film_that_ends_early_is_said_to_and_what_there_is_is_kept(tmp_path, name, sound):
    options = {"g": "5", "bf": "0"} | ({"movflags": "faststart"} if name == "film.mp4" else {})
    if name == "film.mp4":
        with av.open(str(tmp_path / name), "w", options={"movflags": "faststart"}) as writer:
            video = add_video(writer, g="5", bf="0")
            play = add_tone(writer, seconds=4)[1] if sound else lambda: None
            encode(writer, video, [picture(number % 9) for number in range(100)])
            play()
    else:
        plain(tmp_path / name, 100, sound=sound, g=options["g"], bf="0")
    whole = tmp_path / f"whole-{name}"
    whole.write_bytes((tmp_path / name).read_bytes())
    data = whole.read_bytes()
    if sound:  # interleaved coarsely in a file so small
        data = data[: int(0.4 * len(data))]
    (tmp_path / name).write_bytes(data if sound else data[: int(0.6 * len(data))])
    target = tmp_path / f"large{'.mkv' if name.endswith(('avi', 'flv')) else tmp_path.joinpath(name).suffix}"
    with pytest.raises(DamagedVideoError, match=r"can be read for \d+ frames only.*large"):
        upscale(tmp_path / name, target)
    assert 2 < len(rgb(target)) < 100
    assert upscale(whole, tmp_path / f"whole{target.suffix}") == ""
    assert len(rgb(tmp_path / f"whole{target.suffix}")) == 100


def transparent(path, codec, form):
    with av.open(str(path), "w") as writer:
        video = add_video(writer, codec, form=form)
        pixels = [np.dstack([picture(number), np.full((48, 64), 255, np.uint8)]) for number in range(3)]
        for image in pixels:
            image[:, 32:, 3] = 0
            image[:10, :10, 3] = 128
        encode(writer, video, pixels, layout="rgba")
    return path


def alpha_of(path) -> np.ndarray:
    with av.open(str(path)) as reader:
        stream = reader.streams.video[0]
        vp9 = stream.codec_context.name.startswith(("vp9", "libvpx"))
        decoder = av.CodecContext.create("libvpx-vp9", "r") if vp9 else stream.codec_context
        frames = [
            frame for packet in reader.demux(stream) for frame in decoder.decode(packet if packet.size else None)
        ]
        assert len(frames) == 3
        return frames[1].to_ndarray(format="rgba")[..., 3]


@pytest.mark.parametrize(("source", "target"), [("png", ".mov"), ("png", ".mkv"), ("png", ".webm"), ("vp9", ".webm")])
def test_transparency_is_kept(tmp_path, source, target):
    if source == "png":
        film = transparent(tmp_path / "film.mov", "png", "rgba")
    else:
        film = transparent(tmp_path / "film.webm", "libvpx-vp9", "yuva420p")
    assert upscale(film, tmp_path / f"large{target}") == ""
    alpha = alpha_of(tmp_path / f"large{target}")
    assert alpha.shape == (96, 128)
    assert np.abs(alpha[40, [10, 40, 90, 120]].astype(int) - (255, 255, 0, 0)).max() <= 6
    assert abs(int(alpha[8, 8]) - 128) <= 12


def test_transparency_that_cannot_be_kept_is_refused(tmp_path):
    film = transparent(tmp_path / "film.mov", "png", "rgba")
    with pytest.raises(ValueError, match=r"large\.mp4 cannot hold transparency: choose \.mkv, \.mov, \.webm"):
        upscale(film, tmp_path / "large.mp4")
    with pytest.raises(ValueError, match="libx264 cannot hold transparency"):
        upscale(film, tmp_path / "large.mkv", codec="h264")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mov"]


def test_interlaced_films_are_deinterlaced(tmp_path):
    source, target = tmp_path / "film.mkv", tmp_path / "large.mkv"
    with av.open(str(source), "w") as writer:
        video = add_video(writer, **{"x264-params": "tff=1", "crf": "4"})
        woven = []
        for number in range(8):  # a white bar that moves between the two fields of a frame
            image = np.zeros((48, 64, 3), np.uint8)
            image[0::2, 6 * number : 6 * number + 8] = 255
            image[1::2, 6 * number + 3 : 6 * number + 11] = 255
            woven.append(image)
        encode(writer, video, woven)
    said = upscale(source, target)
    assert "is interlaced: its frames were deinterlaced" in said

    def combing(pixels):
        rows = pixels[..., 0].astype(int)
        step = len(rows) // 48
        rows = rows[step // 2 :: step]
        return np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean()

    before, after = rgb(source), rgb(target)
    assert len(after) == len(before) == 8
    assert combing(after[4]) < 0.5 * combing(before[4])
    with av.open(str(target)) as reader:
        frames = list(reader.decode(video=0))
    assert not any(frame.interlaced_frame for frame in frames)
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx(
        [n / 25 for n in range(8)], abs=2e-3
    )


def test_a_size_that_changes_midway_is_not_stretched(tmp_path):
    parts = []
    for number, size in enumerate([(64, 48), (32, 48)]):
        path = tmp_path / f"{number}.ts"
        with av.open(str(path), "w", options={"mpegts_copyts": "1"}) as writer:
            pictures = [picture(3, size) for _ in range(5)]
            encode(writer, add_video(writer, size=size, crf="4", bf="0"), pictures, start=5 * number)
        parts.append(path.read_bytes())
    source, target = tmp_path / "film.ts", tmp_path / "large.mkv"
    source.write_bytes(b"".join(parts))
    assert "changes its size from 64×48 to 32×48 pixels: these frames have black borders" in upscale(source, target)
    frames = rgb(target)
    assert len(frames) == 10
    assert all(frame.shape == (96, 128, 3) for frame in frames)
    assert np.abs(frames[0][20, [4, 60, 70, 124]].astype(int) - ([(200, 30, 30)] * 2 + [(30, 40, 200)] * 2)).max() < 14
    black, red, blue = (0, 0, 0), (200, 30, 30), (30, 40, 200)
    columns = frames[9][20, [8, 26, 40, 56, 72, 88, 104, 120]].astype(int)
    assert np.abs(columns - [black, black, red, red, blue, blue, black, black]).max() < 16


@pytest.mark.parametrize("kind", ["mkv starts late", "ts joined", "mpg joined", "mp4 in fragments"])
def test_times_of_whole_films_are_no_damage(tmp_path, kind):
    source, count = tmp_path / f"film.{kind[:3].strip()}", 40
    if kind.startswith("mkv"):
        with av.open(str(source), "w") as writer:
            encode(writer, add_video(writer), [picture(n) for n in range(count)], start=250)
    elif kind.endswith("joined"):
        codec, sound = ("libx264", "aac") if source.suffix == ".ts" else ("mpeg2video", "mp2")
        part = plain(tmp_path / f"part{source.suffix}", 20, codec, sound=sound)
        source.write_bytes(2 * part.read_bytes())
    else:
        with av.open(str(source), "w", options={"movflags": "frag_keyframe+empty_moov"}) as writer:
            encode(writer, add_video(writer, g="5"), [picture(n) for n in range(count)])
    assert upscale(source, tmp_path / "large.mkv") == ""
    times = [time for time, _ in read_frames(tmp_path / "large.mkv")]
    assert len(times) == count
    assert all(0.03 < after - before < 0.4 for before, after in pairwise(times))


def test_a_film_in_fragments_that_is_cut_off_is_said_to_be(tmp_path):
    source = tmp_path / "film.mp4"
    with av.open(str(source), "w", options={"movflags": "frag_keyframe+empty_moov"}) as writer:
        encode(writer, add_video(writer, g="5"), [picture(n) for n in range(40)])
    data = source.read_bytes()
    middle = data.index(b"mdat", len(data) // 2)  # frames, whose fragment's index is whole
    source.write_bytes(data[: middle + 60])
    with pytest.raises(DamagedVideoError, match=r"its last part is cut off|it ends before the"):
        upscale(source, tmp_path / "large.mp4")
    assert 5 <= len(rgb(tmp_path / "large.mp4")) < 40


def test_a_film_with_a_hole_is_kept_up_to_its_end(tmp_path):
    source = plain(tmp_path / "film.mp4", 60, g="10")
    data = bytearray(source.read_bytes())
    begin = data.index(b"mdat")
    data[begin + (len(data) - begin) // 4 : begin + (len(data) - begin) // 3] = b"\0" * (
        (len(data) - begin) // 3 - (len(data) - begin) // 4
    )
    source.write_bytes(data)
    with pytest.raises(DamagedVideoError, match="packets are damaged"):
        upscale(source, tmp_path / "large.mp4")
    times = [time for time, _ in read_frames(tmp_path / "large.mp4")]
    assert len(times) > 40
    assert times[-1] == pytest.approx(59 / 25, abs=0.05)


def test_films_without_times(tmp_path):
    source = tmp_path / "film.h264"
    with av.open(str(source), "w", format="h264") as writer:
        encode(writer, add_video(writer), [picture(n) for n in range(12)])
    [pair] = output_paths([tmp_path], None, "x2")
    assert pair == (source, tmp_path / "film_x2.mkv")
    assert upscale(*pair) == ""
    assert [time for time, _ in read_frames(pair[1])] == pytest.approx([n / 25 for n in range(12)], abs=2e-3)


def test_an_image_that_is_called_a_film_is_refused(tmp_path):
    Image.fromarray(picture(1)).save(tmp_path / "film.mp4", "PNG")
    with pytest.raises(ValueError, match=r"film\.mp4 is an image, not a video"):
        upscale(tmp_path / "film.mp4", tmp_path / "large.mp4")


UPRIGHT = {  # the matrix of a track, and where the red half of the film then is
    "mirrored": ((-1, 0, 0, 1), "right"),
    "upside down": ((1, 0, 0, -1), "left"),
    "turned": ((0, 1, -1, 0), "top"),
    "turned and mirrored": ((0, -1, -1, 0), "bottom"),
}


@pytest.mark.parametrize(("matrix", "red"), UPRIGHT.values(), ids=UPRIGHT)
def test_mirrored_films_come_out_as_players_show_them(tmp_path, matrix, red):
    source = plain(tmp_path / "film.mp4", 3)
    data = bytearray(source.read_bytes())
    where = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * number for number in matrix)
    data[where : where + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    source.write_bytes(data)
    upscale(source, tmp_path / "large.mkv")
    frame = rgb(tmp_path / "large.mkv")[1].astype(int)
    height, width = frame.shape[:2]
    assert (height > width) == (red in ("top", "bottom"))
    points = {"left": (10, 3), "right": (10, -3), "top": (3, 10), "bottom": (-3, 10)}
    reddish = {side for side, (y, x) in points.items() if frame[y, x, 0] > frame[y, x, 2]}
    assert red in reddish
    assert {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[red] not in reddish


def test_the_shape_of_pixels_is_kept_or_they_are_made_square(tmp_path):
    source = tmp_path / "film.mp4"
    with av.open(str(source), "w") as writer:
        video = add_video(writer)
        video.codec_context.sample_aspect_ratio = Fraction(3, 2)
        encode(writer, video, [picture(n) for n in range(3)])
    for suffix in (".mp4", ".mkv", ".mov"):
        assert upscale(source, tmp_path / f"large{suffix}") == ""
        with av.open(str(tmp_path / f"large{suffix}")) as reader:
            assert reader.streams.video[0].sample_aspect_ratio == Fraction(3, 2)
            assert reader.streams.video[0].width == 128
    assert "has pixels of the shape 3/2, which are made square" in upscale(source, tmp_path / "large.webm")
    assert rgb(tmp_path / "large.webm")[0].shape == (96, 192, 3)


def test_the_time_code_of_a_camera_is_kept(tmp_path):
    source = tmp_path / "film.mov"
    with av.open(str(source), "w") as writer:
        video = add_video(writer)
        video.metadata["timecode"] = "01:00:00:00"
        encode(writer, video, [picture(n) for n in range(3)])
    assert [stream.type for stream in av.open(str(source)).streams] == ["video", "data"]
    for suffix in (".mov", ".mp4"):
        assert upscale(source, tmp_path / f"large{suffix}") == ""
        with av.open(str(tmp_path / f"large{suffix}")) as reader:
            assert [stream.type for stream in reader.streams] == ["video", "data"]
            assert reader.streams.video[0].metadata["timecode"] == "01:00:00:00"


SUBTITLE = "1\n00:00:00,000 --> 00:00:00,200\nGood morning\n\n"


def rich(path):
    """A Matroska film with two sounds, a subtitle, a chapter and metadata."""
    (path.parent / "words.srt").write_text(SUBTITLE)
    with av.open(str(path.parent / "words.srt")) as words, av.open(str(path), "w") as writer:
        video = add_video(writer)
        tones = [add_tone(writer) for _ in range(2)]
        tones[1][0].metadata["language"] = "fre"
        subtitle = writer.add_stream_from_template(words.streams.subtitles[0])
        subtitle.metadata["language"] = "eng"
        writer.metadata["title"] = "Morning"
        chapter = {"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        writer.set_chapters([chapter])
        writer.add_attachment("font.ttf", "application/x-truetype-font", b"no real font")
        encode(writer, video, [picture(number) for number in range(6)])
        for _, play in tones:
            play()
        for packet in words.demux():
            if packet.size:
                packet.stream = subtitle
                writer.mux(packet)
    return path


def test_subtitles_chapters_sounds_and_metadata_are_copied_or_named(tmp_path):
    source = rich(tmp_path / "film.mkv")
    assert upscale(source, tmp_path / "large.mkv") == ""
    with av.open(str(tmp_path / "large.mkv")) as reader:
        kinds = [stream.type for stream in reader.streams]
        assert kinds == ["video", "audio", "audio", "subtitle", "attachment"]
        assert [stream.language for stream in reader.streams][2:4] == ["fre", "eng"]
        assert (reader.metadata["title"], reader.chapters()[0]["metadata"]) == ("Morning", {"title": "One"})
        words = [bytes(packet) for packet in reader.demux(reader.streams.subtitles[0]) if packet.size]
        assert words == [b"Good morning"]
    said = upscale(source, tmp_path / "large.mp4")
    assert "large.mp4 is without subtitle stream 3 (" in said
    assert "eng)" in said
    assert ".mkv holds more" in said
    with av.open(str(tmp_path / "large.mp4")) as reader:
        assert [stream.type for stream in reader.streams][:3] == ["video", "audio", "audio"]
        assert (reader.metadata["title"], reader.chapters()[0]["metadata"]) == ("Morning", {"title": "One"})


OLD = [
    ("film.ts", "libx264", "aac", 48000),
    ("film.mpg", "mpeg2video", "mp2", 48000),
    ("film.vob", "mpeg2video", "ac3", 48000),
    ("film.wmv", "wmv2", "wmav2", 44100),
    ("film.flv", "flv", "mp3", 44100),
    ("film.3gp", "libx264", "aac", 48000),
    ("film.avi", "mpeg4", "mp3", 44100),
]


@pytest.mark.parametrize(("name", "codec", "sound", "rate"), OLD, ids=[name for name, *_ in OLD])
def test_films_of_other_formats_become_matroska(tmp_path, name, codec, sound, rate):
    sound = {"mp3": "libmp3lame"}.get(sound, sound)
    source = plain(tmp_path / name, 20, codec, sound=sound, rate=rate, b="4000000")
    [pair] = output_paths([tmp_path], None, "x2")
    assert pair == (source, tmp_path / "film_x2.mkv")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        upscale_files([pair], Upscaling(Nearest()))
    wanted = [".mkv cannot hold, encoded anew: audio stream 1 (wmav2) as aac"] if name == "film.wmv" else []
    assert len(said) == len(wanted)
    assert all(text in str(warning.message) for text, warning in zip(wanted, said, strict=True))
    before, after = list(read_frames(source)), list(read_frames(pair[1]))
    assert len(before) == len(after) == 20
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=3e-3)
    assert np.abs(after[3][1][20, 20].astype(int) - before[3][1][10, 10]).max() < 12
    assert [kind for kind, _ in streams(pair[1])] == ["video", "audio"]
    with av.open(str(pair[1])) as reader:
        assert reader.start_time < 200_000
        first = {p.stream.type: float(p.pts * p.time_base) for p in reversed(list(reader.demux())) if p.size}
    assert abs(first["video"] - first["audio"]) < 0.2


def test_sound_that_the_container_cannot_hold_is_encoded_anew(tmp_path):
    source = plain(tmp_path / "film.mp4", 25, sound="aac")
    assert "audio stream 1 (aac) as libopus" in upscale(source, tmp_path / "large.webm")
    assert [kind for kind, _ in streams(tmp_path / "large.webm")] == ["video", "audio"]
    tones = []
    for path in (source, tmp_path / "large.webm"):
        with av.open(str(path)) as reader:
            resampler = av.AudioResampler("fltp", "mono", 48000)
            pieces = [p.to_ndarray()[0] for frame in reader.decode(audio=0) for p in resampler.resample(frame)]
        tones.append(np.concatenate(pieces)[4800:43200])
    before, after = (np.abs(np.fft.rfft(tone)) for tone in tones)
    assert abs(int(before.argmax()) - int(after.argmax())) <= 1
    assert after.max() == pytest.approx(before.max(), rel=0.2)


def test_hdr_stays_hdr(tmp_path):
    source, target = tmp_path / "film.mkv", tmp_path / "large.mp4"
    with av.open(str(source), "w") as writer:
        video = add_video(writer, "libx265", form="yuv420p10le", **{"x265-params": "log-level=error"})
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1
        encode(writer, video, [picture(number) for number in range(3)])
    for codec in (None, "hevc"):
        assert upscale(source, target, codec=codec) == ""
        with av.open(str(target)) as reader:
            context, frame = reader.streams.video[0].codec_context, next(reader.decode(video=0))
        assert (context.name, context.pix_fmt) == ("hevc" if codec else "h264", "yuv420p10le")
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (9, 9, 16, 1)


def test_names_with_colons_and_bytes_that_are_no_utf8(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain(tmp_path / "film.mp4", 2)
    names = ["2024-05-01T12:30:00.mp4", "caf\udce9.mp4", "concat:a.mp4"]
    for name in names:
        (tmp_path / name).write_bytes((tmp_path / "film.mp4").read_bytes())
        assert main(["upscale", name, "--model", "sr-tiny-x2", "--out", f"large {name}"]) == 0
        assert rgb(f"large {name}")[1].shape == (96, 128, 3)


def test_codec_crf_and_preset(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    source = tmp_path / "film.mkv"
    with av.open(str(source), "w") as writer:
        encode(writer, add_video(writer, crf="1"), noise)
    sizes = {}
    for crf in (10, None, 40):
        upscale(source, tmp_path / f"{crf}.mp4", crf=crf, preset="ultrafast")
        sizes[crf] = (tmp_path / f"{crf}.mp4").stat().st_size
    assert sizes[10] > 1.3 * sizes[None] > 2 * sizes[40]
    with av.open(str(tmp_path / "None.mp4")) as reader:
        assert reader.streams.video[0].codec_context.pix_fmt == "yuv420p"
    for codec, name, suffix in (("hevc", "hevc", ".mp4"), ("prores", "prores", ".mov"), ("ffv1", "ffv1", ".mkv"),
                                ("av1", "libdav1d", ".webm")):  # fmt: skip
        upscale(source, tmp_path / f"{codec}{suffix}", codec=codec)
        assert name in streams(tmp_path / f"{codec}{suffix}")[0][1] or codec == "av1"
        assert len(rgb(tmp_path / f"{codec}{suffix}")) == 4
    for target, options, message in (
        ("x.webm", {"codec": "h264"}, "webm cannot hold h264"),
        ("x.mp4", {"crf": 52}, "takes a crf from 0 to 51, got 52"),
        ("x.mp4", {"preset": "swift"}, "has the presets ultrafast, .*, got swift"),
        ("x.mov", {"codec": "prores", "crf": 5}, "has no crf, got 5"),
        ("x.mp4", {"codec": "mpeg9"}, "no codec 'mpeg9'; there are: libx264"),
    ):
        with pytest.raises(ValueError, match=message):
            upscale(source, tmp_path / target, **options)
        assert not (tmp_path / target).exists()


def test_command_says_that_a_film_ends_early(tmp_path, capsys):
    with av.open(str(tmp_path / "film.mp4"), "w", options={"movflags": "faststart"}) as writer:
        encode(writer, add_video(writer, g="2", bf="0"), [picture(number % 9) for number in range(20)])
    data = (tmp_path / "film.mp4").read_bytes()
    (tmp_path / "film.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert main(["upscale", str(tmp_path / "film.mp4"), "--model", "sr-tiny-x2"]) == 1
    assert "frames only" in capsys.readouterr().err
    assert 2 < len(rgb(tmp_path / "film_x2.mp4")) < 20
