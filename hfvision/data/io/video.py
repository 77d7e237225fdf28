"""Reads and writes videos frame by frame."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.files import atomic_write
from .boxes import is_cut_off
from .encoding import VideoEncoding, choose_encoder, container_of

# FFmpeg's number of a YUV matrix, and the name that its converter has for it; BT.601 where the file does not say.
MATRICES = {1: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: "BT2020"}
# Formats whose headers say how long they are; others are estimated from the size of the file.
GAP = 10  # seconds; a longer pause in a broadcast is a jump of its clock
DECLARING = ("asf", "avi", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")


class DamagedVideoError(ValueError):
    """A video cannot be read to its end; the frames before were good."""

    exit_code = 1


def import_av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("Videos are read and written by PyAV: pip install 'hfvision[video]'") from None
    return av


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def open_video(source: str | Path) -> Iterator[Any]:
    """PyAV's container of a file that has a video stream; errors as of [`read_frames`]."""
    av, source = import_av(), Path(source)
    from .remux import film_stream

    if not source.is_file():
        raise FileNotFoundError(f"There is no file {source}.")
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(open_container(source, "r"))
        except (av.FFmpegError, UnicodeError) as error:
            raise ValueError(f"{source} is no video that FFmpeg can read, or is damaged: {reason(error)}.") from error
        if reader.format.name.endswith("_pipe"):
            raise ValueError(f"{source} is an image, not a video: give it the suffix of its format.")
        if film_stream(reader) is None:
            others = [*(["sound"] if reader.streams.audio else []), *(["a cover"] if reader.streams.video else [])]
            raise ValueError(f"{source} holds no video{f', only {chr(32).join(others)}' if others else ''}.")
        yield reader


@contextmanager
def open_container(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    """PyAV's container of a file of any name: a colon names no protocol, and bytes need not be UTF-8."""
    name = str(path.absolute())
    odd = any("\ud800" <= character <= "\udfff" for character in name)
    with (
        path.open(f"{mode}b") if odd else nullcontext(name) as file,
        import_av().open(file, mode, **options) as container,
    ):
        yield container


def declared_frames(source: str | Path) -> int | None:
    """How many frames a video file says it has; None where it does not say."""
    from .remux import film_stream

    with open_video(source) as reader:
        film = film_stream(reader)
        return film.frames or None if film else None


@dataclass
class Span:
    """Seconds from the begin of the first to the end of the last packet."""

    begin: float | None = None
    end: float = 0.0

    def add(self, packet: Any) -> None:
        if packet.pts is not None:
            begin = float(packet.pts * packet.time_base)
            self.begin = begin if self.begin is None else min(self.begin, begin)
            self.end = max(self.end, begin + float((packet.duration or 0) * packet.time_base))

    def seconds(self) -> float:
        return self.end - (self.begin or 0.0)


@dataclass
class Reading:
    """What was read of a file so far.

    Attributes:
        frames, packets: of its film.
        film, every: when the packets of its film, and of all streams, are shown.
        whole: whether all streams of the file are read.
        damaged: packets that could not be decoded.
        problem: why reading stopped early.
    """

    frames: int = 0
    packets: int = 0
    film: Span = field(default_factory=Span)
    every: Span = field(default_factory=Span)
    whole: bool = False
    damaged: int = 0
    problem: str | None = None

    def shortfall(self, reader: Any, film: Any) -> str | None:
        """What is wrong with what was read, by what the file says it has."""
        if self.problem is not None:
            return self.problem
        if reader.format.name in DECLARING:
            exact = reader.format.name.startswith("mov")
            frames = len(film.index_entries) if exact else film.frames
            if frames - self.packets > (0 if exact else 2 + frames // 50):  # of which AVI counts some without pictures
                return f"it ends before the {frames} frames that it says it has"
            seconds, span = declared_seconds(reader, film), self.film
            if not seconds and self.whole:
                seconds, span = (reader.duration or 0) / 1e6, self.every
            # Matroska files say when a film ends or how long it is: they differ where it does not begin at 0.
            read = max(span.seconds(), span.end) if reader.format.name.startswith("matroska") else span.seconds()
            if seconds - read > max(0.25, 0.05 * seconds):
                return f"it ends before the {seconds:.1f} s that it says it has"
            if exact and reader.name and is_cut_off(reader.name):
                return "its last part is cut off"
        return f"{self.damaged} packets are damaged" if self.damaged else None

    def check(self, source: str | Path, reader: Any, film: Any) -> None:
        """Raise DamagedVideoError where the file ended early, ValueError where it has no frame."""
        problem = self.shortfall(reader, film)
        if not self.frames:
            raise ValueError(f"{source} holds no video{f' that can be read: {problem}' if problem else ''}.")
        if problem is not None:
            seconds = self.film.seconds()
            raise DamagedVideoError(f"{source} can be read for {self.frames} frames only, {seconds:.1f} s: {problem}.")


def declared_seconds(reader: Any, film: Any) -> float:
    """How long a file's film is by its header; 0 where that does not tell it."""
    if film.duration and reader.format.name.startswith(("avi", "mov")):  # in others it is that of the whole file
        return float(film.duration * film.time_base)
    if tag := film.metadata.get("DURATION"):  # of Matroska files, as 00:01:02.5
        hours, minutes, seconds = tag.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return 0.0


def read_packets(
    reader: Any, film: Any, others: Sequence[Any], reading: Reading
) -> Iterator[tuple[Any | None, list[Any]]]:
    """Packets of other streams, and the frames of the film's; damage is noted in `reading` and passed over."""
    av = import_av()
    film.thread_type = "AUTO"
    reading.whole = len(others) + 1 == len(reader.streams)
    decode = frame_decoder(film)
    packets = reader.demux(film, *others)
    clock = Clock() if reader.format.name in ("mpegts", "mpeg") else None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            reading.problem = reason(error)
            yield None, decoded(decode, None, film, reading)
            return
        if clock is not None:
            clock.correct(packet)
        reading.every.add(packet)
        if packet.stream is not film:
            yield packet, []
            continue
        reading.film.add(packet)
        reading.packets += packet.size > 0
        yield None, decoded(decode, packet, film, reading)


class Clock:
    """Lets the times of a broadcast run on where they start anew, as where two recordings were joined."""

    def __init__(self) -> None:
        self.shift = Fraction(0)
        self.times: dict[int, tuple[Fraction, Fraction]] = {}  # of the last packet of each stream: begin, end

    def correct(self, packet: Any) -> None:
        if packet.dts is None:
            return
        time = packet.dts * packet.time_base + self.shift
        if packet.stream.type in ("audio", "video"):  # subtitles have long pauses
            last, end = self.times.get(packet.stream.index, (time, time))
            if not last <= time <= end + GAP:
                self.shift += end - time
                time = end
            self.times[packet.stream.index] = time, time + (packet.duration or 0) * packet.time_base
        ticks = round(self.shift / packet.time_base)
        packet.dts += ticks
        packet.pts = None if packet.pts is None else packet.pts + ticks


def frame_decoder(film: Any) -> Callable[[Any], list[Any]]:
    """Decodes packets; VP8 and VP9 with transparency by libvpx, as FFmpeg's own decoders leave it out."""
    import av

    name = film.codec_context.name
    if film.metadata.get("alpha_mode") != "1" or not name.startswith(("vp8", "vp9", "libvpx")):
        return film.codec_context.decode
    return av.CodecContext.create("libvpx" if name.startswith(("vp8", "libvpx-vp8")) else "libvpx-vp9", "r").decode


def decoded(decode: Callable[[Any], list[Any]], packet: Any, film: Any, reading: Reading) -> list[Any]:
    av = import_av()
    try:
        frames = decode(packet if packet is not None and packet.size else None)
    except av.EOFError:
        return []
    except av.FFmpegError:
        reading.damaged += 1
        return []
    for frame in frames:
        frame.time_base = frame.time_base or film.time_base
    reading.frames += len(frames)
    return frames


def read_frames(source: str | Path) -> Iterator[tuple[float, np.ndarray]]:
    """The frames of a file's film, its first video stream that is no cover picture, one at a time.

    Yields:
        Seconds since the first frame, as the file says it, so that frames may be unevenly far apart; and uint8 RGB
        (H, W, 3), turned upright. Deeper color is cut to its upper 8 bits.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or holds no video.
        DamagedVideoError: after the last good frame, if the file is cut off or damaged.
    """
    with open_video(source) as reader:
        from .remux import film_stream

        film, reading = film_stream(reader), Reading()
        step = frame_step(film)
        begin, time = None, -step
        for _, frames in read_packets(reader, film, (), reading):
            for frame in frames:
                time = time + step if frame.pts is None else frame.pts * frame.time_base
                begin = time if begin is None else begin
                pixels = to_pixels(frame, "rgb48le" if is_deep(frame) else "rgb24")
                yield float(time - begin), pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
        reading.check(source, reader, film)


def frame_step(film: Any) -> Fraction:
    """Seconds from one frame to the next, where they are evenly apart."""
    return 1 / Fraction(film.average_rate or film.guessed_rate or 25)


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
    target, encoding, out = Path(target), VideoEncoding(), None
    with atomic_write(target) as temporary, open_writer(temporary) as writer:
        for number, pixels in enumerate(frames):
            height, width = pixels.shape[:2]
            if out is None:
                name, form = choose_encoder(target, encoding, (width, height))
                rate = Fraction(rate).limit_denominator(1001)
                out = writer.add_stream(name, rate=rate, options=encoding.options(name))
                out.width, out.height, out.pix_fmt = width, height, form
            if (width, height) != (out.width, out.height):
                raise ValueError(f"Frame {number} has {width}×{height} pixels, the first {out.width}×{out.height}.")
            frame = to_frame(pixels, "rgb24", out.pix_fmt, "ITU601", full=False)
            frame.pts, frame.time_base = number, 1 / out.codec_context.framerate
            writer.mux(out.encode(frame))
        if out is None:
            raise ValueError(f"There are no frames for {target}.")
        writer.mux(out.encode())


def open_writer(path: Path) -> AbstractContextManager[Any]:
    same_bytes = {"fflags": "+bitexact"}  # no random numbers in the file
    return open_container(path, "w", format=container_of(path), options=same_bytes)


def is_deep(frame: Any) -> bool:
    return max(part.bits for part in frame.format.components) > 8


def has_alpha(frame: Any) -> bool:
    return any(part.is_alpha for part in frame.format.components) and frame.format.name != "pal8"


def to_pixels(frame: Any, layout: str) -> np.ndarray:
    """A frame, upright, as (H, W, C) of the form `rgb24`, `rgba` (uint8), `rgb48le` or `rgba64le` (uint16)."""
    pixels = frame.to_ndarray(format=layout, interpolation="BICUBIC")
    matrix = next((bytes(item) for item in frame.side_data if item.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
    a, b, _, c, d, *_ = struct.unpack("9i", matrix[:36])  # (x, y) becomes (ax + cy, bx + dy)
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def is_turned(frame: Any) -> bool:
    """Whether width and height change places where a frame is shown upright."""
    return frame.rotation % 180 != 0


def to_frame(pixels: np.ndarray, layout: str, form: str, matrix: str, full: bool, width: int | None = None) -> Any:
    """A frame of the form `form` of pixels in the form `layout`, `width` pixels wide where that is given."""
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(pixels, format=layout)
    options: dict[str, Any] = {"width": width, "interpolation": "BICUBIC"}
    if form.startswith("yuv"):
        options |= {"dst_colorspace": matrix, "dst_color_range": "JPEG" if full else "MPEG"}
    return frame.reformat(format=form, **options)
