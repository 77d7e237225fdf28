"""What the card of a segmenter says of its quality and its limits."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult

from ...hub.records import Record, bare, data_name, hub_dataset
from ...utils.markdown import plain
from ...utils.report import markdown_table

VIEWS = {"none": "one view", "flip": "mirrored too", "turn": "turned and mirrored too"}


def segmentation_results(record: Record) -> list[tuple[str, str, Record]]:
    """Data, split and figures, as of `evaluate_segmenter`, of the evaluations in a record."""
    evaluation = record.get("evaluation", {})
    if "dice" in evaluation:
        return [(bare(evaluation["data"]["source"]), evaluation["data"]["split"], evaluation)]
    name = data_name(record) or "the training data"
    parts = [(split, record[split]) for split in ("validation", "test") if "dice" in record.get(split, {})]
    return [(name, split, figures) for split, figures in parts]


def segmentation_tables(record: Record) -> list[str]:
    """Paragraphs on the quality of a segmenter."""
    paragraphs = []
    for data, split, figures in segmentation_results(record):
        low, high = figures["dice_interval"]
        paragraphs.append(
            f"On {figures['images']:,} {plain(split)} images of {plain(data)}, {VIEWS[figures['tta']]}: Dice "
            f"{figures['dice']:.4f} (95 % interval {low:.4f} to {high:.4f}), IoU {figures['iou']:.4f}, both means "
            "over images, of all classes but the background."
        )
        groups = {"all": figures} | {
            plain(f"{figures['by']} {key}"): row for key, row in figures.get("groups", {}).items()
        }
        rows = [[key, row["images"], f"{row['dice']:.4f}", f"{row['iou']:.4f}"] for key, row in groups.items()]
        paragraphs += [markdown_table(["images of", "images", "Dice", "IoU"], rows)] if len(groups) > 1 else []
        scores = [
            [plain(name), *("–" if row[key] is None else f"{row[key]:.4f}" for key in ("dice", "iou", "dice_pooled"))]
            for name, row in figures["classes"].items()
        ]
        paragraphs.append(markdown_table(["class", "Dice", "IoU", "Dice of all pixels together"], scores))
    return paragraphs


def segmentation_entries(record: Record) -> list[EvalResult]:
    """The figures as entries of the front matter's `model-index`."""

    def entry(data: str, split: str, kind: str, label: str, figures: Mapping[str, Any]) -> EvalResult:
        return EvalResult(
            task_type="image-segmentation",
            task_name="Image segmentation",
            dataset_type=hub_dataset(record) or "-".join(data.lower().replace(",", "").split()),
            dataset_name=data,
            dataset_split=split,
            metric_type=kind,
            metric_name=label,
            metric_value=figures[kind],
            metric_args={"test_time_augmentation": figures["tta"]} if figures["tta"] != "none" else None,
        )

    return [
        entry(data, split, kind, label, figures)
        for data, split, figures in segmentation_results(record)
        for kind, label in (("dice", "Dice"), ("iou", "IoU"))
    ]


def segmentation_limits(record: Record) -> list[str]:
    """Sentences on what a segmenter is for, and what not."""
    data = data_name(record)
    grouped = [figures["groups"] for *_, figures in segmentation_results(record) if "groups" in figures]
    weak = min(grouped[-1].items(), key=lambda item: item[1]["dice"]) if grouped else None
    told = (
        f"It is weakest on {plain(weak[0])}: Dice {weak[1]['dice']:.3f} on {weak[1]['images']:,} images."
        if weak
        else ""
    )
    return [
        f"For images like those of {plain(data)}." if data else "For images like those it was trained on.",
        "Every pixel gets one of its classes, also where none fits; touching objects of one class become one region, "
        "so that regions are no count of objects.",
        told,
        "Areas measured in its masks carry its errors.",
        "It is not a medical device, and must not decide alone where a mistake can hurt somebody.",
    ]
