"""Videos in, larger videos out, frame by frame: the sound is copied, and every frame keeps its time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .report import written_whole
from .upscale import Upscaling

# Little is lost: what the network adds is what the file is for.
H264 = ("libx264", {"crf": "16", "preset": "medium"})
VP9 = ("libvpx-vp9", {"crf": "20", "b:v": "0", "row-mt": "1"})
CODECS = {".m4v": H264, ".mkv": H264, ".mov": H264, ".mp4": H264, ".webm": VP9}
# FFmpeg's number of a YUV matrix, and the name that its converter has for it; BT.601 where the file does not say.
MATRICES = {1: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: "BT2020"}


def upscale_video(source: str | Path, target: str | Path, upscaling: Upscaling) -> None:
    """Upscale a video file into another.

    One frame is in memory at a time. The first video stream is upscaled, in the depth (8 bits, or 10 for more) and
    colour space that it has, and turned upright; all sound is copied as it is; other streams are left out.

    Args:
        source: what FFmpeg can read.
        target: `.mp4`, `.m4v`, `.mov` or `.mkv` (H.264), or `.webm` (VP9); replaced if it is there.
        upscaling: what upscales, and to which size.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, holds no video, or the target cannot hold its sound.
    """
    av = import_av()
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise FileNotFoundError(f"There is no file {source}.")
    codec = codec_for(target)
    try:
        with av.open(str(source)) as reader:
            first = next(reader.decode(video=0), None) if reader.streams.video else None
        if first is None:
            raise ValueError(f"{source} holds no video.")
        with (
            av.open(str(source)) as reader,
            written_whole(target) as temporary,
            av.open(str(temporary), "w") as writer,
        ):
            convert(reader, writer, codec, first, upscaling)
    except (av.FFmpegError, UnicodeError) as error:
        raise ValueError(f"{source} cannot be made {target.name}: {error}.") from error


def import_av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("Videos are read and written by PyAV: pip install 'hfvision[video]'") from None
    return av


def codec_for(target: Path) -> tuple[str, dict[str, str]]:
    """Encoder and its options for a file of this suffix."""
    if target.suffix.lower() not in CODECS:
        raise ValueError(f"{target} must end in {', '.join(CODECS)}, as it is to be a video.")
    return CODECS[target.suffix.lower()]


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class DamagedVideoError(ValueError):
    """A video cannot be read to its end; the frames before were good."""


@contextmanager
def open_video(source: str | Path) -> Iterator[Any]:
    """PyAV's container of a file that has a video stream; errors as of [`read_frames`]."""
    av, source = import_av(), Path(source)
    if not source.is_file():
        raise FileNotFoundError(f"There is no file {source}.")
    try:
        reader = av.open(str(source))
    except (av.FFmpegError, UnicodeError) as error:
        raise ValueError(f"{source} is no video that FFmpeg can read, or is damaged: {reason(error)}.") from error
    with reader:
        if not reader.streams.video:
            raise ValueError(f"{source} holds no video{', only sound' if reader.streams.audio else ''}.")
        yield reader


def declared_frames(source: str | Path) -> int | None:
    """How many frames a video file says it has; None where it does not say."""
    with open_video(source) as reader:
        return reader.streams.video[0].frames or None


def read_frames(source: str | Path) -> Iterator[tuple[float, np.ndarray]]:
    """The frames of a file's first video stream, one at a time.

    Yields:
        Seconds since the first frame, as the file says it, so that frames may be unevenly far apart; and uint8 RGB
        (H, W, 3), turned upright. Deeper colour is cut to its upper 8 bits.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or holds no video.
        DamagedVideoError: after the last good frame, if the file is cut off or damaged behind it.
    """
    av = import_av()
    with open_video(source) as reader:
        video = reader.streams.video[0]
        video.thread_type = "AUTO"
        step = 1 / (video.average_rate or video.guessed_rate or 25)
        begin, time, count = None, 0.0, 0
        try:
            for frame in reader.decode(video):
                time = time + step if frame.pts is None else frame.pts * frame.time_base
                begin = time if begin is None else begin
                pixels = to_pixels(frame)
                yield float(time - begin), pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
                count += 1
            problem = None
        except av.FFmpegError as error:
            problem = reason(error)
        if not count:
            raise ValueError(f"{source} holds no video{f' that can be read: {problem}' if problem else ''}.")
        seconds, declared = float(time - begin + step), declared_seconds(reader)
        if problem is None and declared - seconds > max(0.5, 0.05 * declared):
            problem = f"it ends before the {declared:.1f} s that it says it has"
        if problem is not None:
            raise DamagedVideoError(f"{source} can be read for {count} frames only, {seconds:.1f} s: {problem}.")


def declared_seconds(reader: Any) -> float:
    """How long a file's video is by its header; 0 where that does not tell it apart from its sound."""
    video = reader.streams.video[0]
    if video.duration:
        return float(video.duration * video.time_base)
    return 0.0 if reader.streams.audio else (reader.duration or 0) / 1e6


def write_frames(target: str | Path, frames: Iterable[np.ndarray], rate: float | Fraction = 25) -> None:
    """Write frames as a video without sound; the file is there whole or not at all.

    Args:
        target: `.mp4`, `.m4v`, `.mov` or `.mkv` (H.264), or `.webm` (VP9); replaced if it is there.
        frames: uint8 RGB (H, W, 3), all of one size.
        rate: frames a second.

    Raises:
        ImportError: if PyAV is not installed.
        ValueError: for another suffix, no frames, or frames of several sizes.
    """
    av, target = import_av(), Path(target)
    name, options = codec_for(target)
    out = None
    with written_whole(target) as temporary, av.open(str(temporary), "w") as writer:
        for number, pixels in enumerate(frames):
            height, width = pixels.shape[:2]
            if out is None:
                out = writer.add_stream(name, rate=Fraction(rate).limit_denominator(1001), options=options)
                out.width, out.height = width, height
                out.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
            if (width, height) != (out.width, out.height):
                raise ValueError(f"Frame {number} has {width}×{height} pixels, the first {out.width}×{out.height}.")
            frame = to_frame(iter([pixels]), out.pix_fmt, "ITU601", full=False)
            frame.pts, frame.time_base = number, 1 / out.codec_context.framerate
            writer.mux(out.encode(frame))
        if out is None:
            raise ValueError(f"There are no frames for {target}.")
        writer.mux(out.encode())


def convert(reader: Any, writer: Any, codec: tuple[str, dict[str, str]], first: Any, upscaling: Upscaling) -> None:
    """Write what `reader` has, its video upscaled, to `writer`; `first` is the first frame."""
    video = reader.streams.video[0]
    video.thread_type = "AUTO"
    pixels = to_pixels(first)
    size = upscaling.size(pixels.shape[1], pixels.shape[0])
    out = add_video(writer, codec, video, size, deep=pixels.dtype == np.uint16, turned=first.rotation % 180 != 0)
    sound = {stream.index: add_sound(writer, stream) for stream in reader.streams.audio}
    writer.metadata.update(reader.metadata)
    matrix, full = MATRICES.get(first.colorspace, "ITU601"), first.color_range == 2
    durations = {}  # by time: encoders give all frames the same

    def write(packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = durations.pop(packet.pts, None) or packet.duration
            writer.mux(packet)

    with tqdm(total=video.frames or None, unit="frame", desc=Path(reader.name).name, leave=False) as bar:
        for packet in reader.demux(video, *reader.streams.audio):
            if packet.stream.type == "audio":
                if packet.dts is not None:
                    packet.stream = sound[packet.stream.index]
                    writer.mux(packet)
                continue
            for frame in packet.decode():
                strips = upscaling.strips(to_pixels(frame))
                result = to_frame(strips, out.codec_context.pix_fmt, matrix, full)
                result.pts, result.time_base = frame.pts, frame.time_base
                durations[frame.pts] = frame.duration
                write(out.encode(result))
                bar.update()
    write(out.encode())


def add_video(
    writer: Any, codec: tuple[str, dict[str, str]], source: Any, size: tuple[int, int], deep: bool, turned: bool
) -> Any:
    """The stream for the results: of the source's clock, colours and shape of pixels."""
    name, options = codec
    out = writer.add_stream(name, rate=source.average_rate or source.guessed_rate, options=options)
    out.width, out.height = size
    chroma = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    out.pix_fmt = chroma + ("10le" if deep else "")
    context, given = out.codec_context, source.codec_context
    context.time_base = source.time_base
    for field in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(context, field, getattr(given, field))
    shape = given.sample_aspect_ratio
    if shape:
        context.sample_aspect_ratio = 1 / shape if turned else shape
    return out


def add_sound(writer: Any, source: Any) -> Any:
    out = writer.add_stream_from_template(source)
    out.metadata.update(source.metadata)
    return out


def to_pixels(frame: Any) -> np.ndarray:
    """RGB (H, W, 3) of a frame, upright: uint16 for more than 8 bits, else uint8."""
    deep = max(part.bits for part in frame.format.components) > 8
    rgb = frame.to_ndarray(format="rgb48le" if deep else "rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90) % 4))


def to_frame(strips: Iterator[np.ndarray], format: str, matrix: str, full: bool) -> Any:
    from av import VideoFrame

    pixels = np.concatenate(list(strips))
    frame = VideoFrame.from_ndarray(pixels, format="rgb48le" if pixels.dtype == np.uint16 else "rgb24")
    return frame.reformat(
        format=format, dst_colorspace=matrix, dst_color_range="JPEG" if full else "MPEG", interpolation="BICUBIC"
    )
