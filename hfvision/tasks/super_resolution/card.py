"""What the card of an upscaler says of its quality and its limits."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, EvalResultEntry
from transformers import PreTrainedConfig

from ...records import Evaluation, ModelRecord, UpscalerFigures, strip_path
from ...records.figures import ImageQuality
from ...utils.markdown import markdown_table, plain
from ..card import CardSection, CardSubject, ResultData, number

# The data sets of the Hub that hold the photographs of super-resolution's sets.
HUB_SETS = {"Set5": "eugenesiow/Set5", "Set14": "eugenesiow/Set14"}
DTYPES = ("fp32", "bf16", "uint8")
MEASURES = {  # name in records: name in tables, and number format
    "psnr": ("PSNR in dB (higher is better)", ".2f"),
    "ssim": ("SSIM (higher)", ".4f"),
    "perceptual": ("perceptual distance (lower)", ".3f"),
    "niqe": ("NIQE (lower)", ".2f"),
}


def upscaler_figures(record: ModelRecord, scale: int) -> dict[str, UpscalerFigures]:
    """The evaluated upscalers of one scale by name, interpolations and networks."""
    found = record.evaluation.results if isinstance(record.evaluation, Evaluation) else {}
    return {
        name: row
        for name, row in found.items()
        if isinstance(row, UpscalerFigures) and row.sets and row.scale == scale
    }


def own_figures(rows: Mapping[str, UpscalerFigures], name: str) -> UpscalerFigures | None:
    """The figures of the model called `name`; where no name fits, those of the one network."""
    named = [row for key, row in rows.items() if name in (key, Path(key).name)]
    networks = [row for row in rows.values() if row.parameters is not None]
    return named[0] if named else networks[0] if len(networks) == 1 else None


def superres_tables(rows: Mapping[str, UpscalerFigures], scale: int) -> list[str]:
    """Paragraphs on the quality of an upscaler beside the others that were measured with it."""

    def figures(row: ImageQuality | None) -> str:
        if row is None:
            return "–"
        return " / ".join(number(getattr(row, name), digits) for name, digits in shown.items())

    sets = list(next(iter(rows.values())).sets)
    measured = {name for row in rows.values() for quality in row.sets.values() for name in MEASURES if name in quality}
    shown = {name: digits for name, (_, digits) in MEASURES.items() if name in measured}
    measures = " / ".join(MEASURES[name][0] for name in shown)
    paragraphs = [
        f"{measures}: on luma, {scale} pixels cropped at each side; low resolution by MATLAB's bicubic, rounded to "
        "8 bits:",
        markdown_table(
            ["set", *(plain(strip_path(name)) for name in rows)],
            [[plain(label), *(figures(row.sets.get(label)) for row in rows.values())] for label in sets],
        ),
    ]
    dtypes = [dtype for dtype in DTYPES if any(row.cpu_seconds(dtype) is not None for row in rows.values())]
    if dtypes:
        paragraphs.append("CPU seconds per megapixel of output, on one thread:")
        table = []
        for name, row in rows.items():
            costs = [row.cpu_seconds(dtype) for dtype in dtypes]
            table.append([plain(strip_path(name)), *("" if cost is None else f"{cost:.3f}" for cost in costs)])
        paragraphs.append(markdown_table(["", *dtypes], table))
    return paragraphs


def paragraphs(subject: CardSubject) -> dict[str, list[str]]:
    scale = scale_of(subject.config)
    rows = upscaler_figures(subject.record, scale)
    return {"Figures": superres_tables(rows, scale) if own_figures(rows, subject.name) else []}


def own_sets(subject: CardSubject) -> dict[str, ImageQuality]:
    row = own_figures(upscaler_figures(subject.record, scale_of(subject.config)), subject.name)
    return row.sets if row else {}


def results(subject: CardSubject) -> list[EvalResult]:
    task = ("image-to-image", f"Super-resolution ×{scale_of(subject.config)}")
    entries = []
    for name, quality in own_sets(subject).items():
        data = ResultData(*task, name, HUB_SETS.get(name))
        measured = {"psnr": quality.psnr, "ssim": quality.ssim, "niqe": quality.niqe}
        entries += [data.entry(key, key.upper(), value) for key, value in measured.items() if value is not None]
    return entries


def benchmarks(subject: CardSubject) -> list[EvalResultEntry]:
    notes, task = "PSNR in dB on luma, borders cropped", f"bicubic_x{scale_of(subject.config)}"
    return [
        EvalResultEntry(HUB_SETS[name], task, quality.psnr, notes=notes)
        for name, quality in own_sets(subject).items()
        if name in HUB_SETS and quality.psnr is not None
    ]


def limits(subject: CardSubject) -> list[str]:
    record, settings = subject.record, subject.record.settings
    sentences = ["For enlarging photographs for viewing."]
    if settings.degradation not in (None, "bicubic"):
        sentences.append("It was trained on blurred, noisy and compressed images.")
    elif record.training:
        sentences.append(
            "It restores the detail that bicubic downscaling removes; noise, blur and JPEG artifacts of real "
            "photographs are not removed, and may become more visible."
        )
    if settings.uses_gan:
        sentences.append(
            "It invents texture that looks real and was not there: do not use it for medicine, license plates, "
            "recognizing faces, or any other evidence."
        )
    return sentences


def scale_of(config: PreTrainedConfig) -> int:
    return getattr(config, "scale", 1)


CARD = CardSection(
    pipeline_tag="image-to-image",
    tags=("super-resolution",),
    kind=lambda config: f"A ×{scale_of(config)} super-resolution network",
    classes=lambda config: [],
    paragraphs=paragraphs,
    results=results,
    benchmarks=benchmarks,
    limits=limits,
    example=lambda config: f'upscale("photo.jpg").save("photo_x{scale_of(config)}.png")',
)
