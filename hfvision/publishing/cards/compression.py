"""How a model was made smaller, as paragraphs of its card."""

from ...records import Change, CompressionStep, ModelRecord, StepQuality, strip_path
from ...utils.markdown import code, markdown_table, plain

# Figures of a step, before and after it: what they are called, and how they are written.
CHANGES = {
    "parameters": ("parameters", ","),
    "macs": ("MACs", ","),
    "bytes": ("bytes of weights", ","),
    "latency_ms": ("milliseconds per image", ".2f"),
}
QUALITY = {
    "top1": ("accuracy on {:,} validation images", ".2%"),
    "psnr": ("PSNR on {:,} validation photographs, dB", ".2f"),
    "dice": ("Dice on {:,} validation images", ".4f"),
}
ANSWERS = {"top1": "images", "dice": "pixels"}  # that an agreement is a share of


def compression_paragraphs(record: ModelRecord) -> list[str]:
    """Paragraphs on the steps of the compression, each with its settings and its figures before and after."""
    paragraphs = [f"Made from {code(strip_path(record.parent))}."] if record.parent else []
    for number, step in enumerate(record.compression, 1):
        paragraphs += step_paragraphs(number, step)
    return paragraphs


def step_paragraphs(number: int, step: CompressionStep) -> list[str]:
    settings = [f"{key.replace('_', ' ')} {value}" for key, value in step.settings.items() if value is not None]
    details = [*([step.method] if step.method else []), *settings]
    paragraphs = [f"Step {number}: {plain(step.step)}, {', '.join(map(plain, details))}."]
    if rows := change_rows(step):
        paragraphs.append(markdown_table(["", "before", "after"], rows))
    quality = step.validation
    if quality and quality.metric in ANSWERS and quality.agreement is not None:
        paragraphs.append(f"Both give the same answer for {quality.agreement:.2%} of the {ANSWERS[quality.metric]}.")
    return paragraphs


def change_rows(step: CompressionStep) -> list[list[str]]:
    rows = [row(label, form, getattr(step, name)) for name, (label, form) in CHANGES.items()]
    if step.validation and step.validation.metric in QUALITY:
        label, form = QUALITY[step.validation.metric]
        rows.append(row(label.format(step.validation.images), form, step.validation))
    return [found for found in rows if found]


def row(label: str, form: str, change: Change | StepQuality | None) -> list[str]:
    """A label with the figure before, where it is known, and after; empty where nothing was measured."""
    if change is None or change.after is None:
        return []
    return [label, "" if change.before is None else format(change.before, form), format(change.after, form)]
