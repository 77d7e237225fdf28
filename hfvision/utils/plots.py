"""Pictures that a run leaves: of trainings, figures and images. Files are written atomically."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .files import atomic_write

BLUE, ORANGE = "#2f6db3", "#d9772b"


def caption_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib; Pillow's own font lacks ×, – and …."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def side_by_side(images: dict[str, Image.Image], path: Path) -> None:
    """Write a PNG with the images in one row, pixel for pixel, each under its caption; images agree in height."""
    margin, caption = 8, 20
    width = sum(image.width + margin for image in images.values()) + margin
    canvas = Image.new("RGB", (width, max(i.height for i in images.values()) + caption + 2 * margin), "white")
    draw, left = ImageDraw.Draw(canvas), margin
    for text, image in images.items():
        draw.text((left, margin), text, fill="black", font=caption_font(12))
        canvas.paste(image.convert("RGB"), (left, caption + margin))
        left += image.width + margin
    with atomic_write(path) as temporary:
        canvas.save(temporary)


def prediction_grid(images: Sequence[Image.Image], captions: Sequence[str], correct: Sequence[bool], path: Path):
    """Write a PNG grid of small images with a caption each: green where `correct`, red elsewhere."""
    from matplotlib.figure import Figure

    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.35 * columns, 1.6 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, image, caption, right in zip(axes, images, captions, correct, strict=False):
        axis.imshow(image.convert("RGB"), interpolation="nearest")
        axis.set_title(caption, fontsize=8, color="#1a7f37" if right else "#cf222e")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def image_grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[str], path: Path, cell: int = 128) -> None:
    """Write a PNG with images in rows, each row under its caption; all are brought to at most `cell` pixels a side."""

    def fitted(image: Image.Image) -> Image.Image:
        kernel = Image.Resampling.LANCZOS if max(image.size) > cell else Image.Resampling.NEAREST
        return ImageOps.contain(image.convert("RGB"), (cell, cell), kernel)

    margin, caption = 6, 18
    rows = [[fitted(image) for image in row] for row in rows]
    heights = [max(image.height for image in row) + caption + margin for row in rows]
    canvas = Image.new("RGB", (max(map(len, rows)) * (cell + margin) + margin, sum(heights) + margin), "white")
    draw, top = ImageDraw.Draw(canvas), margin
    for row, text, height in zip(rows, captions, heights, strict=True):
        draw.text((margin, top), text, fill="black", font=caption_font(11))
        for x, image in enumerate(row):
            canvas.paste(image, (margin + x * (cell + margin), top + caption))
        top += height
    with atomic_write(path) as temporary:
        canvas.save(temporary, format="PNG")


def training_curve(history: Sequence[dict[str, float]], path: Path) -> None:
    """Write a PNG of a training, epoch by epoch: losses, accuracy or PSNR where there is any, the learning rate.

    Args:
        history: one dict an epoch with `epoch`, `loss`, `learning_rate`, and, where measured, `accuracy`,
            `attacked_accuracy`, `validation_loss`, `validation_accuracy`, `validation_robust_accuracy`,
            `validation_psnr` (dB), `dice`, `validation_dice`.
        path: of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    styles = {
        "loss": (BLUE, "-", "training"),
        "validation_loss": (ORANGE, "-", "validation"),
        "accuracy": (BLUE, "-", "training"),
        "attacked_accuracy": (BLUE, "--", "training, attacked"),
        "validation_accuracy": (ORANGE, "-", "validation"),
        "validation_robust_accuracy": (ORANGE, "--", "validation, attacked"),
        "validation_psnr": (ORANGE, "-", "validation"),
        "dice": (BLUE, "-", "training, probabilities of crops"),
        "validation_dice": (ORANGE, "-", "validation"),
    }
    names = {"loss": "loss", "accuracy": "accuracy", "psnr": "PSNR on validation photographs, dB", "dice": "Dice"}
    drawn = [key for key in styles if key in history[0]]
    panels = [(name, [key for key in drawn if key.endswith(name)]) for name in names]
    panels = [(name, keys) for name, keys in panels if keys]
    figure = Figure(figsize=(5 * len(panels), 3.2), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axis, (name, keys) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        for key in keys:
            color, line, label = styles[key]
            values = [entry[key] for entry in history]
            axis.plot(epochs, values, line, color=color, label=label, marker="." if len(epochs) < 30 else None)
        axis.set(xlabel="epoch", ylabel=names[name], xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if name == "accuracy":
            axis.yaxis.set_major_formatter(PercentFormatter(1))
        elif name == "loss":
            axis.set_ylim(0, 1.05 * max(entry[key] for entry in history for key in keys))
            rate = axis.twinx()
            rate.fill_between(epochs, [entry["learning_rate"] for entry in history], color="0.5", alpha=0.12, lw=0)
            rate.set_ylim(bottom=0)
            rate.set_ylabel("learning rate", color="0.5", fontsize=8)
            rate.tick_params(colors="0.5", labelsize=8, length=0)
            rate.yaxis.set_major_locator(MaxNLocator(4))
            rate.spines[:].set_visible(False)
        if len(keys) > 1:
            axis.legend(frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def confusion_picture(matrix: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Write a PNG of a confusion matrix, rows true classes: colors are shares of the row, numbers are images.

    Args:
        matrix: (C, C) counts, rows true and columns predicted classes.
        names: of the C classes.
        path: of the picture.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    classes = len(names)
    side = 10 if classes > 60 else 2 + max(3.2, (0.62 if classes <= 12 else 0.3) * classes)
    font = 9 if classes <= 12 else 7
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axis = figure.subplots()
    # The square root lets the rare confusions be seen beside the diagonal.
    image = axis.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    if classes <= 60:
        for row, column in zip(*counts.nonzero(), strict=True):
            color = "white" if shares[row, column] > 0.35 else "black"
            text = str(counts[row, column])
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=font - len(text) // 4)
        short = [name if len(name) <= 40 else name[:39] + "…" for name in names]
        turned: dict[str, Any] = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if classes <= 12 else {"rotation": 90}
        )
        axis.set_xticks(range(classes), short, fontsize=font + 1, **turned)
        axis.set_yticks(range(classes), short, fontsize=font + 1)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="predicted", ylabel="true")
    bar = figure.colorbar(image, ax=axis, shrink=0.6, aspect=30, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight")


def reliability_diagram(bins: dict[str, Sequence[float]], path: Path) -> None:
    """Write a PNG of accuracy against confidence, which agree on the diagonal, and of how many images each bin has.

    Args:
        bins: `images`, `confidence` and `accuracy` of bins equally wide from 0 to 1, as in
            [`metrics.calibration.Reliability`].
        path: of the picture.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    images, confidence, accuracy = (np.asarray(bins[name]) for name in ("images", "confidence", "accuracy"))
    width = 1 / len(images)
    centres = (np.arange(len(images)) + 0.5) * width
    there = images > 0
    error = (np.abs(accuracy - confidence) * images).sum() / images.sum()
    figure = Figure(figsize=(4.4, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color="0.5", lw=1, ls="--", label="perfectly calibrated")
    top.bar(centres[there], accuracy[there], 0.92 * width, color=BLUE, alpha=0.85, label="accuracy")
    sure = confidence[there]
    top.scatter(sure, sure, color=ORANGE, marker="_", s=90, zorder=3, label="mean confidence")
    top.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"expected calibration error {error:.2%}")
    top.yaxis.set_major_formatter(PercentFormatter(1))
    top.legend(loc="upper left", framealpha=0.9, edgecolor="none")
    bottom.bar(centres, images / images.sum(), 0.92 * width, color="0.6")
    bottom.set(xlabel="confidence", ylabel="images")
    for axis in (bottom.xaxis, bottom.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axis in (top, bottom):
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    top.title.set_fontsize(11)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def roc_picture(record: dict[str, Any], path: Path) -> None:
    """Write a PNG of a ROC curve with the threshold that was chosen.

    Args:
        record: of [`tasks.classification.binary.evaluate_binary`].
        path: of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    roc, point = record["roc"], record["operating_point"]
    low, high = record["auroc_interval"]
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.5", lw=1, ls="--", label="chance")
    axis.plot(roc["false_alarms"], roc["sensitivity"], color=BLUE, label="the model")
    chosen = {"color": ORANGE, "fmt": "o", "label": f"probability ≥ {point['threshold']:.3f}", "capsize": 3}
    up, across = (
        [[abs(point[name] - end)] for end in point[f"{name}_interval"]] for name in ("sensitivity", "specificity")
    )
    axis.errorbar([1 - point["specificity"]], [point["sensitivity"]], up, across[::-1], **chosen)
    axis.set(xlabel="false positive rate (1 - specificity)", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
    axis.set_title(f"{record['positive']}: AUROC {record['auroc']:.3f} ({low:.3f} to {high:.3f})", fontsize=11)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(1))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower right", frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def abstention_picture(record: dict[str, Any], path: Path) -> None:
    """Write a PNG of the error rate among the most confident answers, by the share that is answered.

    Args:
        record: of [`tasks.classification.binary.evaluate_binary`].
        path: of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    curve = record["abstention"]["curve"]
    figure = Figure(figsize=(4.4, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(curve["coverage"], curve["risk"], color=BLUE)
    axis.axhline(curve["risk"][-1], color="0.5", lw=1, ls="--", label="all images answered")
    axis.set(xlabel="share of images answered, most confident first", ylabel="error rate", xlim=(0, 1))
    axis.set_ylim(0, 1.3 * max(curve["risk"][-1], 0.01))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(1, decimals=None))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper left", frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
