"""Reports of super-resolution evaluations: tables, and crops side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchvision.transforms.v2.functional import to_pil_image

from ...data.transforms.resize import downscale
from ...utils.files import atomic_write
from ...utils.markdown import markdown_table
from ...utils.plots import caption_font
from .baselines import DTYPES, interpolations, network
from .evaluate import read_original

COSTS = (
    "cpu_seconds_per_megapixel",
    "threaded_cpu_seconds_per_megapixel",
    "threaded_seconds_per_megapixel",
    "peak_memory_mb",
)
CROP = 192  # pixels of a crop's side, in the picture as large


def format_superres(record: Mapping[str, Any]) -> str:
    """Tables of [`evaluate.evaluate_superres`], of quality and of cost, one each for every scale."""
    return "\n\n".join(
        f"{quality_table(record, scale)}\n\n{cost_table(record, scale)}"
        for scale in sorted({row["scale"] for row in record["results"].values()})
    )


def quality_table(record: Mapping[str, Any], scale: int) -> str:
    sets = record["images"]
    header = [f"×{scale}: PSNR-Y / SSIM / perceptual / NIQE", *(f"{label} ({count})" for label, count in sets.items())]
    rows = [
        ["originals", *(f"– / – / – / {number(record['originals'][f'×{scale}'][label]['niqe'])}" for label in sets)]
    ]
    for name, result in record["results"].items():
        if result["scale"] == scale:
            rows.append([name, *(figures(result["sets"][label]) for label in sets)])
    return markdown_table(header, rows)


def figures(row: Mapping[str, float | None]) -> str:
    parts = number(row["psnr"]), number(row["ssim"], 4), number(row["perceptual"], 3), number(row["niqe"])
    return " / ".join(parts)


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def cost_table(record: Mapping[str, Any], scale: int) -> str:
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    header = [f"×{scale}: cost of 512×512", "in", "1 thread: CPU-s/MP", f"{threads}: CPU-s/MP", f"{threads}: s/MP"]
    header += ["memory, MB", "CPU-s of a plain stack"]
    stack = record["yardsticks"][f"plain stack of 4 ×{scale}"]
    yardstick = stack.get("cpu_seconds_per_megapixel_bf16", stack["cpu_seconds_per_megapixel_fp32"])
    rows = []
    for name, row in (record["results"] | record["yardsticks"]).items():
        for dtype in (*DTYPES, "uint8"):
            if row["scale"] != scale or f"cpu_seconds_per_megapixel_{dtype}" not in row:
                continue
            cpu, threaded, clock, memory = (row[f"{key}_{dtype}"] for key in COSTS)
            ratio = cpu / yardstick
            costs = [number(value, 4) for value in (cpu, threaded, clock)]
            rows.append([name, dtype, *costs, number(memory, 0), number(ratio)])
    return markdown_table(header, rows)


def comparison_picture(
    models: Mapping[str, Any], sets: Mapping[str, Path], record: Mapping[str, Any], scale: int, path: Path
) -> None:
    """Write a PNG of crops, pixel for pixel: low resolution, enlarged; bicubic; the models of one scale; the original.

    The photographs are those with the lowest, the median and the highest gain of the first model over bicubic in PSNR;
    the crop is where bicubic's error is highest, which does not depend on the model.

    Args:
        models, sets: as for [`evaluate.evaluate_superres`].
        record: what it returned.
        scale: of the models to show.
        path: of the picture.
    """
    shown = [network(name, model) for name, model in models.items() if model.config.scale == scale]
    upscalers = [interpolations(scale)[0], *shown]
    bicubic, first = (record["each"][upscaler.name] for upscaler in upscalers[:2])
    gains = sorted(
        ((figure["psnr"] or 0) - (bicubic[label][name]["psnr"] or 0), label, name)
        for label, images in first.items()
        for name, figure in images.items()
    )
    chosen = {gains[0]: "least", gains[len(gains) // 2]: "median", gains[-1]: "most"}
    rows = []
    for (gain, label, name), rank in chosen.items():
        original = read_original(sets[label] / name, scale)
        small = downscale(original, scale)
        results = [upscaler(small) for upscaler in upscalers]
        window = hardest_window(results[0], original)
        nearest = small.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        cells = {"low resolution": crop(nearest, window)}
        for upscaler, result in zip(upscalers, results, strict=True):
            quality = record["each"][upscaler.name][label][name]["psnr"]
            caption = f"{upscaler.name}: {number(quality)} dB".replace("×", "x")  # which Pillow's font lacks
            cells[caption] = crop(result, window)
        cells["original"] = crop(original, window)
        rows.append((f"{label}/{name}, gain over bicubic {gain:+.2f} dB, the {rank} of {len(gains)}", cells))
    draw_rows(rows, path)


def hardest_window(result: Tensor, original: Tensor) -> tuple[int, int]:
    """Top and left of the `CROP`×`CROP` pixels in which a result differs most from the original, (1, C, H, W) both."""
    error = (result - original).square().mean(1, keepdim=True)
    size = tuple(min(CROP, side) for side in error.shape[-2:])
    sums = avg_pool2d(error, size, stride=1)
    return divmod(int(sums.argmax()), sums.shape[-1])


def crop(image: Tensor, window: tuple[int, int]) -> Image.Image:
    top, left = window
    return to_pil_image(image[0, :, top : top + CROP, left : left + CROP]).convert("RGB")


def draw_rows(rows: Sequence[tuple[str, Mapping[str, Image.Image]]], path: Path) -> None:
    """Write a PNG of rows of images, each row under its caption and each image under its own."""
    margin, line = 8, 18
    width = max(len(cells) for _, cells in rows) * (CROP + margin) + margin
    canvas = Image.new("RGB", (width, len(rows) * (CROP + 2 * line + margin) + margin), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (caption, cells) in enumerate(rows):
        top = margin + index * (CROP + 2 * line + margin)
        draw.text((margin, top), caption, fill="black", font=caption_font(12))
        for column, (text, image) in enumerate(cells.items()):
            left = margin + column * (CROP + margin)
            draw.text((left, top + line), text, fill="#555555", font=caption_font(11))
            canvas.paste(image, (left, top + 2 * line))
    with atomic_write(path) as temporary:
        canvas.save(temporary)
