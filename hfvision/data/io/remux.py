"""Copies what a film has beside its pictures: sound, subtitles, covers, fonts, chapters and metadata."""

import io
from collections.abc import Mapping
from typing import Any

import av
import av.error
from av.stream import Disposition

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
# Of the file that was, not of the film.
STALE = frozenset(
    {
        *("alpha_mode", "bps", "compatible_brands", "duration", "encoder", "handler_name", "major_brand"),
        *("minor_version", "number_of_bytes", "number_of_frames", "rotate", "vendor_id", "_statistics_tags"),
        *("_statistics_writing_app", "_statistics_writing_date_utc", "software"),
    }
)


def film_stream(reader: Any) -> Any | None:
    """The first video stream that is no cover picture; None where there is none."""
    return next((stream for stream in reader.streams.video if not is_cover(stream)), None)


def is_cover(stream: Any) -> bool:
    return bool(Disposition(stream.disposition) & Disposition.attached_pic)


def read_covers(reader: Any) -> dict[int, bytes]:
    """The files of the cover pictures, by the numbers of their streams; before anything else is read."""
    covers = [stream for stream in reader.streams.video if is_cover(stream)]
    return {cover.index: bytes(next(p for p in reader.demux(cover) if p.size)) for cover in covers}


def copy_streams(
    reader: Any, writer: Any, film: Any, covers: Mapping[int, bytes]
) -> tuple[dict[int, Any], list[str], list[str]]:
    """Add the other streams of `reader` to `writer`: as they are, or sound that it cannot hold encoded anew.

    Returns:
        By the numbers of the old streams the new ones, or a [`SoundRecoder`]; the names of the streams that the
        container cannot hold; and those of the sounds that are encoded anew.
    """
    copied: dict[int, Any] = {}
    left_out, recoded = [], []
    for stream in reader.streams:
        if stream.index == film.index:
            continue
        if stream.type == "data" and film.metadata.get("timecode") and writer.format.name in ("mov", "mp4"):
            continue  # made anew of the film's metadata
        second_film = stream.type == "video" and not is_cover(stream)
        if not second_film and can_hold(writer.format.name, stream):
            if stream.index in covers and writer.format.name == "matroska":
                kind = "png" if codec_of(stream) == "png" else "jpeg"
                writer.add_attachment(f"cover.{kind.replace('e', '')}", f"image/{kind}", covers[stream.index])
                continue
            new = copied[stream.index] = writer.add_stream_from_template(stream)
        elif stream.type == "audio" and stream.codec_context is not None:
            copied[stream.index] = SoundRecoder(stream, writer)
            new = copied[stream.index].out
            recoded.append(f"{name_of(stream)} as {new.codec_context.name}")
        else:
            if not (stream.type == "data" and reader.chapters()):  # .mov and .mp4 keep chapters in such a stream
                left_out.append(name_of(stream))
            continue
        new.metadata.update(lasting(stream.metadata))
        new.disposition = stream.disposition
    return copied, left_out, recoded


class SoundRecoder:
    """Encodes sound anew that the container cannot hold: as Opus in WebM, else AAC, of 96 kbit/s a channel."""

    def __init__(self, source: Any, writer: Any):
        given = source.codec_context
        webm = writer.format.name == "webm"
        rate = 48000 if webm or given.sample_rate not in AAC_RATES else given.sample_rate
        self.source = source
        channels = given.layout.nb_channels
        layout = LAYOUTS.get(channels, "stereo")  # some files do not say which channel is which
        self.out = writer.add_stream("libopus" if webm else "aac", rate=rate, layout=layout)
        self.out.bit_rate = 96_000 * min(channels, 8)
        self.resampler: av.AudioResampler | None = None

    def push(self, packet: Any | None) -> list[Any]:
        """The packets that are ready after this one, or, for None, those that are left."""
        context = self.out.codec_context
        if self.resampler is None:
            size = context.frame_size or None
            self.resampler = av.AudioResampler(context.format, context.layout, context.sample_rate, size)
        try:
            frames = self.source.codec_context.decode(packet)
        except av.error.EOFError:
            frames = []
        for frame in frames:
            frame.time_base = frame.time_base or self.source.time_base
        pieces = [piece for frame in frames for piece in self.resampler.resample(frame)]
        if packet is None:
            pieces += self.resampler.resample(None)
        packets = [made for piece in pieces for made in self.out.encode(piece)]
        return packets + (list(self.out.encode(None)) if packet is None else [])


def can_hold(container: str, stream: Any) -> bool:
    """Whether a container of this kind takes a stream as it is."""
    if is_cover(stream):
        return container in ("mp4", "matroska") and codec_of(stream) in ("mjpeg", "png")
    try:
        with av.open(io.BytesIO(), "w", format=container) as probe:
            probe.add_stream_from_template(stream)
            probe.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def codec_of(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "unknown kind"


def name_of(stream: Any) -> str:
    details = [codec_of(stream), *([stream.language] if stream.language not in (None, "und") else [])]
    return f"{stream.type} stream {stream.index} ({', '.join(details)})"


def lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name.lower().split("-")[0] not in STALE}


def copy_container(reader: Any, writer: Any) -> None:
    """Give `writer` the chapters and the metadata of the file; before its header is written."""
    writer.metadata.update(lasting(reader.metadata))
    if chapters := reader.chapters():
        writer.set_chapters(chapters)


def lost(reader: Any, written: Any) -> list[str]:
    """What of the file's metadata and chapters is not in the written file."""
    there = {name.lower() for name in written.metadata}
    names = [f"metadata {name!r}" for name in lasting(reader.metadata) if name.lower() not in there]
    missing = len(reader.chapters()) - len(written.chapters())
    return names + ([f"{missing} chapters"] if missing > 0 else [])
