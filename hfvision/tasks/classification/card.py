"""What the card of a classifier says of its quality, its robustness and its limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import EvalResult, EvalResultEntry
from transformers import PreTrainedConfig

from ...records import (
    BinaryFigures,
    Calibration,
    ClassifierFigures,
    Evaluation,
    ModelRecord,
    RobustnessFigures,
    strip_path,
)
from ...records.figures import Accuracy, LowConfidence
from ...records.model import WeightSource
from ...robustness.summary import epsilon_text
from ...utils.markdown import code, fenced, markdown_table, plain
from ..card import CardSection, CardSubject, ResultData, class_sentence, hardware, intended_for, number

KINDS = {"hfvision_cnn": "A convolutional network", "hfvision_vit": "A vision transformer"}
VIEWS = {"none": "one view", "flip": "with horizontal flips", "flip_shift": "with flips and shifts"}
NORMS = {"linf": "L∞", "l2": "L2"}
TASK = ("image-classification", "Image classification")
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Result:
    """One evaluation of a classifier, and the data and split that it is on."""

    data: str
    split: str
    figures: ClassifierFigures

    @property
    def view(self) -> str:
        return VIEWS.get(self.figures.tta, self.figures.tta)

    @property
    def accuracy(self) -> str:
        low, high = self.figures.top1_interval
        return f"{self.figures.top1:.2%} ({low:.1%} to {high:.1%})"


def classifier_results(record: ModelRecord) -> list[Result]:
    """The evaluations in a record: those made afterwards, or those at the end of its training."""
    evaluation = record.evaluation
    if isinstance(evaluation, ClassifierFigures):
        data = evaluation.data
        source = strip_path(data.source) if data else "the evaluated images"
        return [Result(source, (data.split if data else None) or "test", evaluation)]
    if isinstance(evaluation, Evaluation):
        made = [figures for figures in evaluation.results.values() if isinstance(figures, ClassifierFigures)]
        data = evaluation.data
        source = data if isinstance(data, str) else strip_path(data.source) if data else "the evaluated images"
        if made:
            return [Result(source, evaluation.split or "test", figures) for figures in made]
    name = record.data_name or "the training data"
    parts = {"validation": record.validation, "test": record.test}
    return [Result(name, split, part) for split, part in parts.items() if isinstance(part, ClassifierFigures)]


def classifier_tables(results: Sequence[Result]) -> list[str]:
    """Paragraphs on the quality of a classifier."""
    splits = {plain(f"{result.figures.images:,} {result.split} images of {result.data}") for result in results}
    one = len(splits) == 1
    columns = [result.view if one else f"{plain(result.split)}, {result.view}" for result in results]
    figures = [result.figures for result in results]
    rows = [["accuracy (95 % interval)", *(result.accuracy for result in results)]]
    if all(each.top5 is not None for each in figures):
        rows.append(["top-5 accuracy", *(number(each.top5, ".2%") for each in figures)])
    rows.append(["expected calibration error", *(number(each.ece, ".3f") for each in figures)])
    rows.append(["negative log-likelihood", *(number(each.nll, ".3f") for each in figures)])
    timed = [each.speed for each in figures if each.speed and each.speed.latency_ms]
    medians = [f"{speed.latency_ms.median:.1f}" for speed in timed if speed.latency_ms]
    if len(timed) == len(figures):
        rows.append(["milliseconds per image, one at a time", *medians])
    paragraphs = [f"On the {' and the '.join(sorted(splits))}:", markdown_table(["", *columns], rows)]
    if timed:
        speed = timed[-1]
        paragraphs.append(f"Measured on {hardware(speed.device, speed.threads)}, in {plain(speed.dtype)}.")
    return [*paragraphs, *class_table(results[-1])]


def class_table(result: Result) -> list[str]:
    """Precision, recall and F1 of each class, or of those of the lowest F1."""
    classes = result.figures.classes
    if not classes:
        return []
    shown = list(classes.items())
    which = "Each class"
    if len(classes) > SHOWN_CLASSES:
        shown = sorted(shown, key=lambda item: item[1].f1)[:SHOWN_CLASSES]
        which = f"The {SHOWN_CLASSES} classes of the lowest F1"
    rows = [[plain(name), f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}"] for name, row in shown]
    title = f"{which}, {plain(result.split)} images, {result.view}:"
    return [title, markdown_table(["class", "precision", "recall", "F1"], rows)]


def binary_table(part: BinaryFigures) -> list[str]:
    """Paragraphs on a classifier of two classes as a test for one of them."""
    point = part.operating_point

    def share(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"

    low, high = part.auroc_interval
    groups = f" of {part.groups:,} groups" if part.groups else ""
    rows = [
        ["AUROC", f"{part.auroc:.4f} ({low:.4f} to {high:.4f})"],
        ["sensitivity", share(point.sensitivity, point.sensitivity_interval)],
        ["specificity", share(point.specificity, point.specificity_interval)],
        ["expected calibration error", f"{part.ece:.3f}"],
        *([f"error rate of the most confident {plain(at)}", f"{risk:.2%}"] for at, risk in part.abstention.at.items()),
    ]
    return [
        f"As a test for {plain(part.positive)}, on {part.images:,} {plain(part.data.split)} images{groups} of "
        f"{plain(strip_path(part.data.source))}, positive from a probability of {point.threshold:.3f} "
        f"({plain(point.chosen)}), with 95 % intervals:",
        markdown_table(["", "figure"], rows),
    ]


def published_sentence(weights: WeightSource) -> list[str]:
    published = weights.published
    if published is None:
        return []
    return [
        f"Published, not measured here: {published.top1:.1%} top-1 accuracy on {plain(published.data)}, by "
        f"{plain(weights.authors)}."
    ]


def low_confidence_sentence(part: LowConfidence) -> str:
    return (
        f"Of the {part.images:,} answers with a probability below {part.threshold:.1%}, {part.right:,} are correct: "
        f"{code('hfvision classify')} marks such answers as low confidence."
    )


def calibration_sentence(part: Calibration) -> str:
    return (
        f"Its probabilities are calibrated by temperature scaling: a temperature of {part.temperature:.3f}, fitted on "
        f"{part.images:,} images ({plain(part.split)}), took the calibration error from {part.before.ece:.2%} to "
        f"{part.after.ece:.2%} ({plain(part.measured_on)}). This no longer holds where classes are rarer or "
        "images are made differently."
    )


def robustness_tables(part: RobustnessFigures) -> list[str]:
    """Paragraphs on robustness: norm, epsilon, images, attacks and compute, and the accuracy that is left."""

    def text(figure: Accuracy) -> str:
        return f"{figure.accuracy:.2%} ({figure.interval[0]:.1%} to {figure.interval[1]:.1%})"

    attacks = [
        f"{name}{' (' + ', '.join(f'{key} {value}' for key, value in keywords.items()) + ')' if keywords else ''}"
        for name, keywords in part.settings.items()
    ]
    data = f" of {plain(strip_path(part.data.source))}, {plain(part.data.split)}" if part.data else ""
    cost = f"{part.seconds / 60:.0f} minutes on {hardware(part.device, part.threads)}"
    rows = [["no attack", text(part.clean)]] if part.clean else []
    rows += [[plain(f"after {name}"), text(figure)] for name, figure in part.attacks.items()]
    rows += [["**robust**", text(part.robust)]] if part.robust else []
    if part.corruptions:
        rows.append(["mean of natural corruptions, 5 severities", f"{part.corruptions.mean:.2%}"])
    paragraphs = [
        f"Attacked within {ball(part, ' ≤ ')} on {part.images:,} images{data}, each attack on the images that "
        f"withstood those before it: {plain(', '.join(attacks))}; computed in {plain(part.precision)}, seed "
        f"{part.seed}, {cost}.",
        markdown_table(["", "accuracy (95 % interval)"], rows),
    ]
    paragraphs += [fenced(part.command, "bash")] if part.command else []
    if not part.complete:
        paragraphs.append("This evaluation was not finished: the remaining attacks may break more.")
    if part.masked:
        paragraphs.append("Gradient masking was detected: the robust accuracy above is **unreliable**.")
    return [*paragraphs, *map(plain, part.notes)]


def ball(part: RobustnessFigures, between: str) -> str:
    return f"{NORMS.get(part.norm, part.norm)}{between}{epsilon_text(part.epsilon, part.norm)}"


def paragraphs(subject: CardSubject) -> dict[str, list[str]]:
    record, results = subject.record, classifier_results(subject.record)
    figures = classifier_tables(results) if results else []
    figures += binary_table(record.binary) if record.binary else []
    figures += [calibration_sentence(record.calibration)] if record.calibration else []
    if isinstance(record.evaluation, Evaluation) and record.evaluation.low_confidence:
        figures.append(low_confidence_sentence(record.evaluation.low_confidence))
    published = published_sentence(record.about.weights) if record.about.weights else []
    return {"Figures": published + figures} | (
        {"Robustness": robustness_tables(record.robustness)} if record.robustness else {}
    )


def results(subject: CardSubject) -> list[EvalResult]:
    record, entries = subject.record, []
    for result in classifier_results(record):
        data = ResultData(*TASK, result.data, record.hub_dataset, result.split)
        augmented = result.figures.tta != "none"
        label = f"Accuracy, {result.view}" if augmented else "Accuracy"
        arguments = {"test_time_augmentation": result.figures.tta} if augmented else None
        entries.append(data.entry("accuracy", label, result.figures.top1, arguments))
    part = record.robustness
    if part and part.robust:
        arguments = {"norm": part.norm, "epsilon": part.epsilon, "images": part.images, "attacks": list(part.attacks)}
        source = strip_path(part.data.source) if part.data else "the evaluated images"
        data = ResultData(*TASK, source, record.hub_dataset, part.data.split if part.data else None)
        label = f"Accuracy under attack, {ball(part, ' ')}"
        entries.append(data.entry("robust_accuracy", label, part.robust.accuracy, arguments))
    return entries


def benchmarks(subject: CardSubject) -> list[EvalResultEntry]:
    """The accuracy of one view on the data set of the Hub that the model was evaluated on."""
    dataset, found = subject.record.hub_dataset, classifier_results(subject.record)
    if not dataset or not found:
        return []
    best = found[0]
    notes = f"top-1 accuracy, {best.split} split, {best.data}, {best.view}"
    return [EvalResultEntry(dataset, "default", best.figures.top1, notes=notes)]


def limits(subject: CardSubject) -> list[str]:
    record = subject.record
    return [
        intended_for(record),
        f"Every image gets one of its {subject.config.num_labels} classes, even where none fits.",
        "Its confidence is not a calibrated probability: see the calibration error."
        if classifier_results(record) and not record.calibration
        else "",
        "" if record.robustness else "Its robustness to adversarial attacks is not measured.",
        "It must not decide alone where a mistake can hurt somebody.",
    ]


def kind(config: PreTrainedConfig) -> str | None:
    return KINDS.get(config.model_type)


CARD = CardSection(
    pipeline_tag="image-classification",
    kind=kind,
    classes=lambda config: [class_sentence(config)],
    paragraphs=paragraphs,
    results=results,
    benchmarks=benchmarks,
    limits=limits,
    example=lambda config: 'print(classify("photo.jpg")[0])',
)
