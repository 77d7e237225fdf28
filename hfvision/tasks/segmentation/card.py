"""What the card of a segmenter says of its quality and its limits."""

from huggingface_hub import EvalResult

from ...records import ModelRecord, SegmenterFigures, strip_path
from ...records.figures import MaskScores
from ...utils.markdown import markdown_table, plain
from ..card import CardSection, CardSubject, ResultData, class_sentence, intended_for, number

KINDS = {
    "hfvision_cnn_segmentation": "A segmenter, a convolutional network",
    "hfvision_vit_segmentation": "A segmenter, a vision transformer with a convolutional decoder,",
}
VIEWS = {"none": "one view", "flip": "with horizontal flips", "turn": "with rotations and flips"}


def segmentation_results(record: ModelRecord) -> list[tuple[str, str, SegmenterFigures]]:
    """Data, split and figures of the evaluations in a record."""
    evaluation = record.evaluation
    if isinstance(evaluation, SegmenterFigures):
        data = evaluation.data
        source = strip_path(data.source) if data else "the evaluated images"
        return [(source, (data.split if data else None) or "test", evaluation)]
    name = record.data_name or "the training data"
    parts = {"validation": record.validation, "test": record.test}
    return [(name, split, part) for split, part in parts.items() if isinstance(part, SegmenterFigures)]


def segmentation_tables(record: ModelRecord) -> list[str]:
    """Paragraphs on the quality of a segmenter."""
    paragraphs = []
    for data, split, figures in segmentation_results(record):
        interval = figures.dice_interval
        within = f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
        paragraphs.append(
            f"On {figures.images:,} {plain(split)} images of {plain(data)}, "
            f"{VIEWS.get(figures.tta, plain(figures.tta))}: Dice {figures.dice:.4f}{within}, IoU {figures.iou:.4f}, "
            "both averaged over images and over all classes except the background."
        )
        groups: dict[str, MaskScores] = {"all": figures}
        groups |= {plain(f"{figures.by} {key}"): row for key, row in (figures.groups or {}).items()}
        if len(groups) > 1:
            rows = [[key, row.images, f"{row.dice:.4f}", f"{row.iou:.4f}"] for key, row in groups.items()]
            paragraphs.append(markdown_table(["images of", "images", "Dice", "IoU"], rows))
        scores = [
            [plain(name), *(number(value, ".4f") for value in (row.dice, row.iou, row.dice_pooled))]
            for name, row in figures.classes.items()
        ]
        paragraphs.append(markdown_table(["class", "Dice", "IoU", "Dice of all pixels pooled"], scores))
    return paragraphs


def results(subject: CardSubject) -> list[EvalResult]:
    entries = []
    for name, split, figures in segmentation_results(subject.record):
        data = ResultData("image-segmentation", "Image segmentation", name, subject.record.hub_dataset, split)
        arguments = {"test_time_augmentation": figures.tta} if figures.tta != "none" else None
        entries.append(data.entry("dice", "Dice", figures.dice, arguments))
        entries.append(data.entry("iou", "IoU", figures.iou, arguments))
    return entries


def limits(subject: CardSubject) -> list[str]:
    record = subject.record
    grouped = [figures.groups for *_, figures in segmentation_results(record) if figures.groups]
    weakest = ""
    if grouped:
        name, scores = min(grouped[-1].items(), key=lambda item: item[1].dice)
        weakest = f"It is weakest on {plain(name)}: Dice {scores.dice:.3f} on {scores.images:,} images."
    return [
        intended_for(record),
        "Every pixel gets one of its classes, even where none fits; touching objects of one class become one region, "
        "so the number of regions is not a count of objects.",
        weakest,
        "Areas measured in its masks carry its errors.",
        "It is not a medical device, and must not decide alone where a mistake can hurt somebody.",
    ]


CARD = CardSection(
    pipeline_tag="image-segmentation",
    kind=lambda config: KINDS.get(config.model_type),
    classes=lambda config: [class_sentence(config, " in each pixel")],
    paragraphs=lambda subject: {"Figures": segmentation_tables(subject.record)},
    results=results,
    benchmarks=lambda subject: [],
    limits=limits,
    example=lambda config: 'print(segment("photo.jpg")[0])',
)
