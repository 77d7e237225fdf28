"""Upscales films: every frame keeps its time, and what else is in the file is copied."""

import warnings
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...data.io.encoding import choose_encoder, container_of
from ...data.io.video import (
    MATRICES,
    DamagedVideoError,
    Reading,
    frame_step,
    has_alpha,
    import_av,
    is_deep,
    is_turned,
    open_video,
    open_writer,
    read_packets,
    reason,
    to_frame,
    to_pixels,
)
from ...utils.console import progress_bar
from ...utils.files import atomic_write
from .choose import Choice
from .upscale import Upscaling

# What describes the screen that an HDR film was made on, in the side data of its frames.
HDR_METADATA = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DOVI_RPU_BUFFER")
LOST_HDR = "the HDR metadata of its frames (brightness of the screen it was made on)"


def upscale_video(source: str | Path, target: str | Path, upscaling: Upscaling) -> Choice | None:
    """Upscale a video file into another.

    One frame is in memory at a time. The film, which is the first video stream that is no cover picture, is upscaled,
    turned upright, and deinterlaced where it is interlaced; it keeps its times, 10 bits where it has more than 8, its
    color space, and transparency. Sound, subtitles, the cover, fonts, chapters and metadata are copied as they are;
    sound that the target cannot hold is encoded anew, and anything else that it cannot hold is named in a warning.

    Args:
        source: what FFmpeg can read.
        target: `.mp4`, `.m4v`, `.mov`, `.mkv` or `.webm`; replaced if it is there.
        upscaling: what upscales, to which size, and how the film is encoded.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, holds no video, or the target cannot hold its transparency.
        DamagedVideoError: if the file is cut off or damaged; the target then holds what could be read.
    """
    av = import_av()
    from ...data.io.remux import film_stream, lost, read_covers

    source, target = Path(source), Path(target)
    container_of(target)
    try:
        with open_video(source) as reader:
            covers = read_covers(reader)
            first = next(first_frames(reader, film_stream(reader)), None)
        if first is None:
            raise ValueError(f"{source} holds no video that can be read.")
        pixels = to_pixels(first, "rgb24")
        upscaling, choice = upscaling.choose_for(pixels, pixels.shape[1::-1])
        damage = None
        with open_video(source) as reader:
            with atomic_write(target) as temporary:
                with open_writer(temporary) as writer:
                    conversion = Conversion(reader, writer, target, first, upscaling, covers)
                    conversion.run()
                try:
                    conversion.reading.check(source, reader, conversion.film)
                except DamagedVideoError as error:
                    damage = error
            with open_video(target) as written:
                conversion.left_out += lost(reader, written)
    except (av.FFmpegError, UnicodeError) as error:
        raise ValueError(f"{source} cannot be made {target.name}: {reason(error)}.") from error
    if conversion.left_out:
        hint = "" if target.suffix == ".mkv" or conversion.left_out == [LOST_HDR] else "; .mkv holds more"
        warnings.warn(f"{target} is without {', '.join(conversion.left_out)}{hint}.", stacklevel=2)
    for note in conversion.notes:
        warnings.warn(f"{source} {note}.", stacklevel=2)
    if damage is not None:
        raise DamagedVideoError(f"{damage} {target} holds these.") from damage
    return choice


def first_frames(reader: Any, film: Any) -> Iterator[Any]:
    for _, frames in read_packets(reader, film, (), Reading()):
        yield from frames


class Conversion:
    """One film on its way into a file.

    Attributes:
        reading: what was read.
        left_out: what the target cannot hold.
        notes: what was done to the film that one may not expect.
    """

    def __init__(
        self, reader: Any, writer: Any, target: Path, first: Any, upscaling: Upscaling, covers: Mapping[int, bytes]
    ):
        from ...data.io.remux import copy_container, copy_streams, film_stream

        self.reader, self.writer, self.upscaling = reader, writer, upscaling
        self.film: Any = film_stream(reader)
        self.reading = Reading()
        self.layout = ("rgba" if has_alpha(first) else "rgb") + ("64le" if is_deep(first) else "24")
        self.layout = {"rgba24": "rgba", "rgb64le": "rgb48le"}.get(self.layout, self.layout)
        self.shape = to_pixels(first, self.layout).shape
        self.size = upscaling.size(self.shape[1], self.shape[0])
        self.width: int | None = None
        self.matrix, self.full = MATRICES.get(first.colorspace, "ITU601"), first.color_range == 2
        self.notes: dict[str, None] = {}
        self.out = self.add_film(target, first)
        self.copied, self.left_out, recoded = copy_streams(reader, writer, self.film, covers)
        if recoded:
            self.notes[f"has sound that {target.suffix} cannot hold, encoded anew: {', '.join(recoded)}"] = None
        copy_container(reader, writer)
        writer.start_encoding()
        if any(item.type.name in HDR_METADATA for item in first.side_data):
            self.left_out.append(LOST_HDR)
        # Broadcasts and DVDs begin at any time; other files near 0.
        late = reader.format.name in ("mpegts", "mpeg") and reader.start_time
        self.begin = Fraction(reader.start_time, 1_000_000) if late else Fraction(0)
        self.durations: dict[int, int] = {}  # by time: encoders give all frames the same
        self.last: int | None = None

    def add_film(self, target: Path, first: Any) -> Any:
        """The stream for the results: of the source's clock, colors and shape of pixels."""
        from ...data.io.remux import lasting

        encoding, film = self.upscaling.encoding, self.film
        alpha, deep = self.layout.startswith("rgba"), self.layout.endswith("le")
        name, form = choose_encoder(target, encoding, self.size, alpha=alpha, deep=deep)
        rate = film.average_rate or film.guessed_rate
        out = self.writer.add_stream(name, rate=rate, options=encoding.options(name))
        out.pix_fmt = form
        out.metadata.update(lasting(film.metadata))
        if alpha and form == "yuva420p":
            out.metadata["alpha_mode"] = "1"
        context, given = out.codec_context, film.codec_context
        context.time_base = film.time_base
        for field in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(context, field, getattr(given, field))
        if first.colorspace == 0 and form.startswith("yuv"):  # RGB
            context.colorspace, self.matrix = 1, MATRICES[1]
        if name == "libx265" and self.writer.format.name != "matroska":
            context.codec_tag = "hvc1"  # Apple's players take no other
        shape = film.sample_aspect_ratio or given.sample_aspect_ratio or 1
        shape = 1 / shape if is_turned(first) else shape
        out.width, out.height = self.size
        if shape != 1 and (self.writer.format.name in ("mov", "mp4") or name in ("libx264", "libx265")):
            context.sample_aspect_ratio = shape
        elif shape != 1:
            self.width = out.width = max(2, 2 * round(self.size[0] * shape / 2))
            self.notes[f"has pixels of the shape {shape}, which are made square"] = None
        return out

    def run(self) -> None:
        from ...data.io.remux import SoundRecoder

        others = [stream for stream in self.reader.streams if stream.index in self.copied]
        deinterlacer = Deinterlacer()
        with progress_bar(total=self.film.frames or None, unit="frame", desc="upscaling", leave=False) as bar:
            for packet, frames in read_packets(self.reader, self.film, others, self.reading):
                if packet is not None:
                    self.copy(packet)
                for frame in frames:
                    for whole in deinterlacer.push(frame):
                        self.write(whole)
                    bar.update()
        for whole in deinterlacer.push(None):
            self.write(whole)
        self.mux(self.out.encode())
        for recoder in self.copied.values():
            if isinstance(recoder, SoundRecoder):
                self.writer.mux(recoder.push(None))
        if deinterlacer.used:
            self.notes["is interlaced: its frames were deinterlaced by FFmpeg's filter bwdif"] = None

    def copy(self, packet: Any) -> None:
        from ...data.io.remux import SoundRecoder, is_cover

        if packet.size and is_cover(packet.stream):
            packet.pts = packet.dts = 0
        if packet.dts is None:
            return
        shift = round(self.begin / packet.time_base)
        packet.dts -= shift
        packet.pts = None if packet.pts is None else packet.pts - shift
        new = self.copied[packet.stream.index]
        if isinstance(new, SoundRecoder):
            try:
                self.writer.mux(new.push(packet))
            except import_av().InvalidDataError:
                self.reading.damaged += 1
            return
        packet.stream = new
        self.writer.mux(packet)

    def write(self, frame: Any) -> None:
        """Upscale, encode and write a frame."""
        pixels = to_pixels(frame, self.layout)
        if pixels.shape != self.shape:
            old, new = (f"{width}×{height}" for height, width, _ in (self.shape, pixels.shape))
            self.notes[f"changes its size from {old} to {new} pixels: these frames have black borders"] = None
            pixels = fit_pixels(pixels, self.shape, self.layout)
        result = np.concatenate(list(self.upscaling.strips(pixels)))
        result = to_frame(result, self.layout, self.out.codec_context.pix_fmt, self.matrix, self.full, self.width)
        clock = self.film.time_base
        step = round(frame_step(self.film) / clock)
        time = None if frame.pts is None else round((frame.pts * frame.time_base - self.begin) / clock)
        if time is None:
            time = 0 if self.last is None else self.last + step
        if self.last is not None and time <= self.last:  # of damaged packets
            time = self.last + 1
        result.pts, result.time_base, self.last = time, clock, time
        self.durations[time] = round((frame.duration or 0) * frame.time_base / clock)
        self.mux(self.out.encode(result))

    def mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self.durations.pop(packet.pts, None) or packet.duration
            self.writer.mux(packet)


def fit_pixels(pixels: np.ndarray, shape: tuple[int, ...], layout: str) -> np.ndarray:
    """Pixels in their proportion in the middle of black ones of this shape (H, W, C)."""
    from av import VideoFrame

    factor = min(shape[0] / pixels.shape[0], shape[1] / pixels.shape[1])
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    frame = VideoFrame.from_ndarray(pixels, format=layout)
    small = frame.reformat(width=width, height=height, interpolation="BICUBIC").to_ndarray()
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    whole = np.zeros(shape, pixels.dtype)
    whole[top : top + height, left : left + width] = small
    return whole


class Deinterlacer:
    """Makes whole frames of interlaced ones, one of each, from the first interlaced frame on; others pass as they are.

    Attributes:
        used: whether there was an interlaced frame.
    """

    def __init__(self) -> None:
        self.graph: Any = None
        self.kind: tuple[Any, ...] = ()
        self.used = False

    def push(self, frame: Any | None) -> list[Any]:
        """The frames that are ready after this one, or, for None, those that are left."""
        if frame is None:
            return self.flush()
        self.used = self.used or frame.interlaced_frame
        if not self.used:
            return [frame]
        kind = (frame.width, frame.height, frame.format.name)
        ready = []
        if kind != self.kind:
            ready = self.flush()
            self.build(kind, frame.time_base)
        self.graph.vpush(frame)
        return ready + self.pull()

    def build(self, kind: tuple[Any, ...], clock: Fraction) -> None:
        from av.filter import Graph

        self.graph, self.kind = Graph(), kind
        width, height, form = kind
        nodes = [
            self.graph.add_buffer(width=width, height=height, format=form, time_base=clock),
            self.graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
            self.graph.add("buffersink"),
        ]
        self.graph.link_nodes(*nodes).configure()

    def flush(self) -> list[Any]:
        if self.graph is None:
            return []
        self.graph.vpush(None)
        return self.pull()

    def pull(self) -> list[Any]:
        av = import_av()
        frames = []
        while True:
            try:
                frames.append(self.graph.vpull())
            except (BlockingIOError, av.EOFError):
                return frames
