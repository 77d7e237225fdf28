"""Evaluation of a segmenter: Dice and IoU of each class, also by a column of the data."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names
from ...data.datasets.segmentation import MaskedImages
from ...data.transforms.normalize import Normalize
from ...metrics.overlap import dice, iou, overlap
from ...utils.console import progress_bar

TestTimeAugmentation = Literal["none", "flip", "turn"]


def views(image: Tensor, tta: TestTimeAugmentation) -> Iterator[tuple[Tensor, Any]]:
    """Views of images (N, C, H, W) for test-time augmentation, each with the function that inverts it: the images,
    with `flip` also mirrored, with `turn` all eight rotations and reflections."""
    if tta not in ("none", "flip", "turn"):
        raise ValueError(f"tta must be none, flip or turn, got {tta!r}.")
    for turns in range(4 if tta == "turn" else 1):
        for mirror in (False, True) if tta != "none" else (False,):
            view = image.flip(3) if mirror else image

            def back(logits: Tensor, turns: int = turns, mirror: bool = mirror) -> Tensor:
                logits = torch.rot90(logits, -turns, (2, 3))
                return logits.flip(3) if mirror else logits

            yield torch.rot90(view, turns, (2, 3)), back


@torch.inference_mode()
def segment_pixels(
    model: nn.Module, images: Tensor, normalize: Normalize, tta: TestTimeAugmentation = "none"
) -> Tensor:
    """Probabilities of the classes, float32 (N, C, H, W), of images uint8 (N, channels, H, W) on the model's device.

    With `tta`, the mean over [`views`] of the images.

    Raises:
        ValueError: for another `tta`.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    total, count = torch.zeros((), device=images.device), 0
    for view, back in views(images, tta):
        logits = at_size(model(pixel_values=normalize(view).to(dtype)).logits.float(), view.shape[-2:])
        total, count = total + back(logits.softmax(1)), count + 1
    return total / count


def at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (N, C, h, w), interpolated to `size` if they have another, as those of some families on the Hub."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def count_overlaps(
    model: nn.Module,
    images: MaskedImages,
    normalize: Normalize,
    num_classes: int,
    *,
    tta: TestTimeAugmentation = "none",
    accelerator: Accelerator | None = None,
) -> Tensor:
    """[`metrics.overlap.overlap`] of each image, int64 (N, C, 3), on the CPU of every process.

    Images go through whole and one at a time, as in a pipeline; each process takes its share of them. The model, on
    the accelerator's device, is left in evaluation mode.
    """
    accelerator = accelerator or Accelerator()
    model.eval()
    counts = torch.zeros((len(images), num_classes, 3), dtype=torch.long, device=accelerator.device)
    shares = -(-len(images) // accelerator.num_processes)
    for number in progress_bar(range(shares), desc="evaluating", leave=False, disable=not accelerator.is_main_process):
        index = number * accelerator.num_processes + accelerator.process_index
        image, mask = images[index % len(images)]
        prediction = segment_pixels(model, image[None].to(accelerator.device), normalize, tta)[0].argmax(0)
        if index < len(images):  # all processes take part in the last batch, as sharded models need
            counts[index] = overlap(prediction, mask.to(accelerator.device), num_classes)
    return cast(Tensor, accelerator.reduce(counts, "sum")).cpu()


def foreground(names: Sequence[str]) -> list[int]:
    """The indices of the classes that metrics are averaged over: all but the one called `background`."""
    return [number for number, name in enumerate(names) if name.lower() != "background"] or list(range(len(names)))


def image_scores(counts: Tensor, names: Sequence[str]) -> Tensor:
    """The Dice coefficient of each image, float64 (N,): the mean over its classes but the background; 1 where neither
    the image nor the prediction has any of them."""
    return dice(counts)[:, foreground(names)].nanmean(1).nan_to_num(1)


def scores(counts: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """The metrics of some images, ready for JSON, from their [`count_overlaps`]; see [`evaluate_segmenter`]."""
    each = image_scores(counts, names)
    pooled, ious = dice(counts.sum(0)), iou(counts.sum(0))
    classes = foreground(names)
    resampled = each[torch.randint(len(each), (2000, len(each)), generator=torch.Generator().manual_seed(0))].mean(1)
    return {
        "images": len(counts),
        "dice": each.mean().item(),
        "dice_interval": resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist(),
        "iou": iou(counts)[:, classes].nanmean(1).nan_to_num(1).mean().item(),
        "dice_pooled": none_for_nan(pooled[classes].nanmean()),
        "iou_pooled": none_for_nan(ious[classes].nanmean()),
        "classes": {
            name: {
                "pixels": counts[:, number, 2].sum().item(),
                "dice": none_for_nan(dice(counts)[:, number].nanmean()),
                "iou": none_for_nan(iou(counts)[:, number].nanmean()),
                "dice_pooled": none_for_nan(pooled[number]),
                "iou_pooled": none_for_nan(ious[number]),
            }
            for number, name in enumerate(names)
        },
    }


def none_for_nan(value: Tensor) -> float | None:
    """The number in a tensor, None for NaN, which JSON lacks."""
    return None if value.isnan() else value.item()


def evaluate_segmenter(
    model: PreTrainedModel,
    images: MaskedImages,
    processor: BaseImageProcessor,
    *,
    names: Sequence[str] | None = None,
    by: str | None = None,
    tta: TestTimeAugmentation = "none",
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """All metrics of a segmenter on one split, ready for JSON.

    Args:
        model: a segmenter, not prepared; it is moved to the accelerator's device.
        images: with their masks, of the model's classes in its order.
        processor: the model's.
        names: of the classes in the masks; they must be the model's. The model's where not given.
        by: a column of the data: metrics are also given for the images of each value.
        tta: see [`segment_pixels`].
        accelerator: made where not given.

    Returns:
        `images`; `dice` and `iou`, the means over images, each image's a mean over its classes but the background,
        and 1 where neither it nor the prediction has any; `dice_interval`, 95 %, by bootstrap; `dice_pooled` and
        `iou_pooled`, of all pixels together; `classes`, by name, with the same and the number of true `pixels`; with
        `by`, `by` and `groups`, the same for each value; `each`, the Dice coefficient of each image; `tta`;
        `parameters`.

    Raises:
        ValueError: if there is no such column, or the classes are not the model's.
    """
    accelerator = accelerator or Accelerator()
    known = class_names(model.config)
    names = list(names or known)
    if len(names) != len(known):
        raise ValueError(
            f"The model knows {len(known)} classes ({', '.join(known[:5])}), the masks have {len(names)} "
            f"({', '.join(names[:5])}): they must be the same."
        )
    if by is not None and by not in images.rows.features:
        raise ValueError(f"There is no column {by!r}; there are: {', '.join(images.rows.features)}.")
    model.to(accelerator.device)  # pyright: ignore[reportArgumentType]  # the stub loses self
    normalize = Normalize.from_processor(processor)
    counts = count_overlaps(model, images, normalize, len(known), tta=tta, accelerator=accelerator)
    record = scores(counts, known)
    if by is not None:
        values = [str(value) for value in images.rows[by][:]]
        chosen = {value: [i for i, other in enumerate(values) if other == value] for value in sorted(set(values))}
        record |= {"by": by, "groups": {value: scores(counts[rows], known) for value, rows in chosen.items()}}
    each = image_scores(counts, known).tolist()
    return record | {"each": each, "tta": tta, "parameters": model.num_parameters()}


def format_segmentation(record: dict[str, Any]) -> str:
    """The metrics of [`evaluate_segmenter`], with `model` and `data`, for the terminal."""
    low, high = record["dice_interval"]
    data, groups = record["data"], record.get("groups", {})
    lines = {
        "model": f"{record['model']}, {record['parameters']:,} parameters",
        "data": f"{data['source']}, {data['split']}: {record['images']:,} images",
        "Dice": f"{record['dice']:.4f}, mean of images, 95% interval {low:.4f} to {high:.4f}",
        "IoU": f"{record['iou']:.4f}, mean of images",
        "test-time augmentation": record["tta"],
    }
    rows = {"all": record} | {f"{record['by']} {name}": row for name, row in groups.items()}
    width = max(map(len, [*rows, *record["classes"]])) + 2
    table = [f"{'':{width}}{'images':>8}{'Dice':>9}{'IoU':>9}{'Dice of all pixels':>20}"]
    for name, row in rows.items():
        pooled = "–" if row["dice_pooled"] is None else f"{row['dice_pooled']:.4f}"
        table.append(f"{name:{width}}{row['images']:>8,}{row['dice']:>9.4f}{row['iou']:>9.4f}{pooled:>20}")
    table += ["", f"{'class':{width}}{'pixels':>12}{'Dice':>9}{'IoU':>9}"]
    for name, row in record["classes"].items():
        figures = ["–" if row[key] is None else f"{row[key]:.4f}" for key in ("dice", "iou")]
        table.append(f"{name:{width}}{row['pixels']:>12,}{figures[0]:>9}{figures[1]:>9}")
    return "\n".join([*(f"{name:25}{text}" for name, text in lines.items()), "", *table])
