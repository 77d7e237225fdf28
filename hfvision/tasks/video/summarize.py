"""A video at a glance: its shots with labels, a key frame of each, a contact sheet and a timeline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from ...data.io.video import DamagedVideoError, read_frames
from ...hub.checkpoints import DEFAULT_CLASSIFIER
from ...records import write_record
from ...utils.files import atomic_write, check_report
from ...utils.plots import BLUE, ORANGE, caption_font
from ..classification.confidence import is_low, recorded_threshold
from .shots import (
    THRESHOLD,
    VideoFeatures,
    cut_scores,
    cut_thresholds,
    key_frames,
    load_encoder,
    shot_boundaries,
    shots_between,
    video_features,
)

FILES = ("summary.json", "contact_sheet.png", "timeline.png")


def summarize_video(
    source: str | Path,
    out: str | Path,
    model: str = DEFAULT_CLASSIFIER,
    *,
    top: int = 3,
    threshold: float = THRESHOLD,
    batch_size: int = 32,
    force: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Find the shots of a video, say what a classifier sees in each, and draw them.

    Args:
        source: what FFmpeg can read.
        out: folder for `summary.json`, `contact_sheet.png` (the key frame of each shot) and `timeline.png`.
        model: Hub id, folder or name of a shipped checkpoint: a classifier, or an encoder, which gives no labels.
        top: labels a shot.
        threshold: see [`shots.shot_boundaries`].
        batch_size: frames that go through the network together.
        force: replace a summary that is there already.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Returns:
        The record in `summary.json`: `video`, `model`, `frames`, `seconds`, `size` (width, height), `classes` (all
        names), `problem` (why the frames end early, else None), `threshold`, and `shots`: each with `first_frame` and
        `last_frame`, from 0; `begin` and `end`, seconds since the first frame; `key_frame` and `key_time`; `labels`,
        from names to mean probabilities; `low_confidence`, whether the first of them is too unsure to be relied on,
        None where the model's record does not say below which probability that is.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file or model.
        ValueError: for a file that cannot be read or holds no video, or a summary that is there already.
    """
    out = Path(out)
    check_report(out, *FILES, force=force)
    network, processor = load_encoder(model, trust_remote_code=trust_remote_code)
    video = video_features(source, network, processor, batch_size=batch_size)
    boundaries = shot_boundaries(video, threshold=threshold)
    names = getattr(network.config, "id2label", {})
    record = {
        "video": str(source),
        "model": model,
        "frames": len(video),
        "seconds": round(end_of(video), 3),
        "size": video.size,
        "classes": list(names.values()) if video.probabilities is not None else [],
        "problem": video.problem,
        "threshold": threshold,
        "shots": describe_shots(video, boundaries, names, top, recorded_threshold(model)),
    }
    keys = read_numbered(source, [shot["key_frame"] for shot in record["shots"]])
    contact_sheet(keys, [caption(number, shot) for number, shot in enumerate(record["shots"], 1)], out / FILES[1])
    timeline(video, record["shots"], threshold, out / FILES[2])
    write_record(out / FILES[0], record)
    return record


def end_of(video: VideoFeatures) -> float:
    """Seconds until the last frame has been shown."""
    return video.times[-1].item() + video.step


def describe_shots(
    video: VideoFeatures,
    boundaries: Sequence[int],
    names: dict[int, str],
    top: int = 3,
    confidence: float | None = None,
) -> list[dict[str, Any]]:
    """The `shots` of [`summarize_video`]; `confidence` is the recorded threshold of low confidence."""
    times = [*video.times.tolist(), end_of(video)]
    shots = []
    for shot, key in zip(shots_between(boundaries, len(video)), key_frames(video, boundaries), strict=True):
        labels = {}
        if video.probabilities is not None:
            mean = video.probabilities[shot.start : shot.stop].float().mean(0)
            values, numbers = mean.topk(min(top, len(mean)))
            pairs = zip(numbers.tolist(), values.tolist(), strict=True)
            labels = {names.get(number, str(number)): round(value, 4) for number, value in pairs}
        shots.append(
            {
                "first_frame": shot.start,
                "last_frame": shot.stop - 1,
                "begin": round(times[shot.start], 3),
                "end": round(times[shot.stop], 3),
                "key_frame": key,
                "key_time": round(times[key], 3),
                "labels": labels,
                "low_confidence": is_low(next(iter(labels.values())), confidence) if labels else None,
            }
        )
    return shots


def read_numbered(source: str | Path, numbers: Sequence[int], longest: int = 320) -> list[Image.Image]:
    """The frames of these rising numbers, made smaller to `longest` pixels a side at most; one is read at a time."""
    wanted, found = set(numbers), []
    try:
        for number, (_, pixels) in enumerate(read_frames(source)):
            if number in wanted:
                image = Image.fromarray(pixels)
                image.thumbnail((longest, longest))
                found.append(image)
            if len(found) == len(wanted):
                break
    except DamagedVideoError:
        pass  # it was said when the frames were read for the first time
    return found


def caption(number: int, shot: dict[str, Any]) -> str:
    """As `2  0:04.2 – 0:07.9  cat 81 %`."""
    label = next((f"  {name} {value:.0%}" for name, value in shot["labels"].items()), "")
    return f"{number}  {clock(shot['begin'])} – {clock(shot['end'])}{label}"


def clock(seconds: float) -> str:
    """As `1:04:02.5` or `4:02.5`."""
    tenths = round(10 * seconds)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02}.{rest % 10}"


def format_summary(record: dict[str, Any]) -> str:
    """The shots as lines for the terminal."""
    width, height = record["size"]
    lines = [f"{record['video']}: {record['frames']:,} frames, {clock(record['seconds'])}, {width}×{height} pixels"]
    for number, shot in enumerate(record["shots"], 1):
        labels = ", ".join(f"{name} {value:.1%}" for name, value in shot["labels"].items())
        low = " (low confidence)" if shot["low_confidence"] else ""
        frames = f"frames {shot['first_frame']}–{shot['last_frame']}"
        lines.append(f"{number:4}  {clock(shot['begin']):>9} – {clock(shot['end']):<9}  {frames:18}  {labels}{low}")
    if classes := record["classes"]:
        known = ", ".join(classes) if len(classes) <= 12 else f"{len(classes):,} classes"
        lines.append(f"{record['model']} knows {known}: it names the nearest of them, whatever a shot shows.")
    return "\n".join(lines)


def contact_sheet(
    images: Sequence[Image.Image], captions: Sequence[str], path: Path, *, columns: int = 4, cell: int = 240
) -> None:
    """Write a PNG with images in rows of `columns`, each under its caption and at most `cell` pixels a side."""
    font = caption_font(11)
    margin, line = 8, 20
    fitted = [ImageOps.contain(image.convert("RGB"), (cell, cell), Image.Resampling.LANCZOS) for image in images]
    row_height = max(image.height for image in fitted) + line + margin
    across, down = min(columns, len(fitted)), -(-len(fitted) // columns)
    canvas = Image.new("RGB", (across * (cell + margin) + margin, down * row_height + margin), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (image, text) in enumerate(zip(fitted, captions, strict=True)):
        left, top = margin + number % columns * (cell + margin), margin + number // columns * row_height
        while draw.textlength(text, font=font) > cell:
            text = text.rstrip("…")[:-1] + "…"
        draw.text((left, top), text, fill="black", font=font)
        canvas.paste(image, (left, top + line))
    with atomic_write(path) as temporary:
        canvas.save(temporary)


def timeline(video: VideoFeatures, shots: Sequence[dict[str, Any]], threshold: float, path: Path) -> None:
    """Write a PNG of the shots along the time, coloured by their first label, above the scores that cuts exceed."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    labels = [next(iter(shot["labels"]), None) for shot in shots]
    kinds = list(dict.fromkeys(labels))
    colours = [colormaps["tab10"](kinds.index(label) % 10) for label in labels]
    figure = Figure(figsize=(11, 3), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    for number, (shot, colour) in enumerate(zip(shots, colours, strict=True), 1):
        width = shot["end"] - shot["begin"]
        top.barh(0, width, left=shot["begin"], color=colour, alpha=0.75, edgecolor="white", linewidth=2)
        label = f"{number}" if labels[number - 1] is None else f"{number}\n{labels[number - 1]}"
        if width > 0.05 * shots[-1]["end"]:
            top.text(shot["begin"] + width / 2, 0, label, ha="center", va="center", fontsize=9)
    top.set(yticks=[], ylabel="shots")
    scores = cut_scores(video)
    bottom.plot(video.times, scores, color="0.35", lw=1, label="score of a cut")
    thresholds = cut_thresholds(video, scores, threshold)
    bottom.plot(video.times, thresholds, color=ORANGE, lw=1, ls="--", label="threshold")
    for shot in shots[1:]:
        bottom.axvline(shot["begin"], color=BLUE, lw=0.8, alpha=0.7)
    bottom.set(xlabel="seconds", xlim=(0, shots[-1]["end"]), ylim=(0, None))
    bottom.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
