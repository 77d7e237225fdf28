"""Which encoder writes a film, into which container and form of pixels."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
FORMATS = {".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".webm": "webm"}
ALPHA_ENCODERS = {".mkv": "ffv1", ".mov": "prores_ks", ".webm": "libvpx-vp9"}
ALIASES = {
    **{"av1": "libsvtav1", "h264": "libx264", "h265": "libx265", "hevc": "libx265", "prores": "prores_ks"},
    **{"vp9": "libvpx-vp9", "x264": "libx264", "x265": "libx265"},
}


@dataclass(frozen=True)
class Encoder:
    """Options of one of FFmpeg's encoders.

    Attributes:
        crf: default of the constant rate factor; None where the encoder has none.
        largest_crf: the lowest quality.
        presets: from fast to slow; empty where the encoder has none.
        options: given always.
    """

    crf: int | None = None
    largest_crf: int = 51
    presets: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


ENCODERS = {
    "libx264": Encoder(18, presets=PRESETS),
    "libx265": Encoder(20, presets=PRESETS, options={"x265-params": "log-level=error"}),
    "libsvtav1": Encoder(24, 63, tuple(map(str, range(13, -1, -1)))),
    "libvpx-vp9": Encoder(24, 63, options={"b:v": "0", "row-mt": "1", "auto-alt-ref": "0"}),
    "prores_ks": Encoder(options={"vendor": "apl0"}),
    "ffv1": Encoder(options={"level": "3"}),
}


@dataclass(frozen=True)
class VideoEncoding:
    """How a film is encoded.

    Attributes:
        codec: `libx264`, `libx265`, `libsvtav1`, `libvpx-vp9`, `prores_ks` or `ffv1` (lossless), or a short name
            (`h264`, `hevc`, `av1`, `vp9`, `prores`). By default `libx264`, in `.webm` `libvpx-vp9`, or what keeps
            transparency (`prores_ks` in `.mov`, `ffv1` in `.mkv`) and 10 bits (`libsvtav1` in `.webm`).
        crf: constant rate factor: 0 is the best quality, 51 (63 for AV1 and VP9) the lowest. By default 18 for
            `libx264`, 20 for `libx265`, 24 for `libsvtav1` and `libvpx-vp9`.
        preset: of `libx264` and `libx265`, from `ultrafast` to `placebo` (default `medium`), or of `libsvtav1`, 0 to
            13 (default 10).

    Raises:
        ValueError: for a codec, crf or preset that does not exist.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None

    def __post_init__(self) -> None:
        if self.codec is None:
            return
        name = ALIASES.get(self.codec, self.codec)
        if name not in ENCODERS:
            raise ValueError(f"There is no codec {self.codec!r}; there are: {', '.join(ENCODERS)}.")
        self.options(name)

    def options(self, name: str) -> dict[str, str]:
        """The options of the encoder `name`, for FFmpeg; ValueError where it does not have what is asked for."""
        encoder = ENCODERS[name]
        options = dict(encoder.options)
        if self.crf is not None and (encoder.crf is None or not 0 <= self.crf <= encoder.largest_crf):
            allowed = "has no crf" if encoder.crf is None else f"takes a crf from 0 to {encoder.largest_crf}"
            raise ValueError(f"{name} {allowed}, got {self.crf}.")
        if self.preset is not None and self.preset not in encoder.presets:
            allowed = f"has the presets {', '.join(encoder.presets)}" if encoder.presets else "has no presets"
            raise ValueError(f"{name} {allowed}, got {self.preset}.")
        if encoder.crf is not None:
            options["crf"] = str(encoder.crf if self.crf is None else self.crf)
        if encoder.presets:
            options["preset"] = self.preset or ("medium" if "medium" in encoder.presets else "10")
        return options


def container_of(target: Path) -> str:
    """FFmpeg's name of the container for a file of this suffix."""
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"{target} must end in {', '.join(FORMATS)}, as it is to be a video.")
    return FORMATS[target.suffix.lower()]


def choose_encoder(
    target: Path, encoding: VideoEncoding, size: tuple[int, int], *, alpha: bool = False, deep: bool = False
) -> tuple[str, str]:
    """The encoder and the form of its pixels, as `("libx264", "yuv420p")`.

    Args:
        target: file to write.
        encoding: what is asked for.
        size: (width, height); colors of odd ones are not halved.
        alpha: whether transparency is to be kept.
        deep: whether there are more than 8 bits, of which 10 are kept.

    Raises:
        ValueError: if the encoder or the container cannot hold this.
    """
    import av

    container, suffix = container_of(target), target.suffix.lower()
    name = ALIASES.get(encoding.codec, encoding.codec) if encoding.codec else None
    if name is None and alpha and suffix not in ALPHA_ENCODERS:
        raise ValueError(f"{target} cannot hold transparency: choose {', '.join(ALPHA_ENCODERS)}.")
    if name is None:
        webm = "libsvtav1" if deep and not alpha else "libvpx-vp9"
        name = ALPHA_ENCODERS[suffix] if alpha else webm if suffix == ".webm" else "libx264"
    if name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors alone
    codec = av.Codec(name, "w")
    if encoding.codec is not None and codec.canonical_name not in supported_codecs(container):
        raise ValueError(f"{suffix} cannot hold {encoding.codec}: choose another --codec, or .mkv.")
    known = {format.name for format in codec.video_formats or ()}
    form = next((form for form in pixel_forms(size, alpha, deep) if form in known), None)
    if form is None:
        what = " and ".join(word for word, wanted in (("transparency", alpha), ("10 bits", deep)) if wanted)
        raise ValueError(f"{name} cannot hold {what}: choose another --codec, or .mkv or .mov.")
    return name, form


def pixel_forms(size: tuple[int, int], alpha: bool, deep: bool) -> tuple[str, ...]:
    """Forms of pixels that lose nothing that is to be kept, the best first."""
    if alpha:
        return ("yuva444p10le",) if deep else ("bgra", "yuva444p10le", "yuva420p")
    odd = size[0] % 2 or size[1] % 2
    plain = ("yuv444p", "yuv420p") if odd else ("yuv420p",)
    deeper = (*(f"{form}10le" for form in plain), "yuv422p10le")
    return deeper if deep else plain + deeper


def supported_codecs(container: str) -> Any:
    import io

    import av

    return av.open(io.BytesIO(), "w", format=container).supported_codecs
