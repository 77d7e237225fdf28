"""What a record says of a model's quality: as tables of its card, and as entries that the Hub reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ...hub.records import Record, bare, data_name, hub_dataset
from ...robustness.summary import epsilon_text
from ...utils.markdown import code, fenced, plain
from ...utils.report import markdown_table

VIEWS = {"none": "one view", "flip": "mirrored too", "flip_shift": "flip and shift"}
NORMS = {"linf": "L∞", "l2": "L2"}
# The data sets of the Hub that hold the photographs of super-resolution's sets.
HUB_SETS = {"Set5": "eugenesiow/Set5", "Set14": "eugenesiow/Set14"}


@dataclass(frozen=True)
class Result:
    """One evaluation of a classifier: on what, by which views, and its `figures` as of `evaluate_classifier`."""

    data: str
    split: str
    view: str
    figures: Record

    @property
    def accuracy(self) -> str:
        low, high = self.figures["top1_interval"]
        return f"{self.figures['top1']:.2%} ({low:.1%} to {high:.1%})"


def classifier_results(record: Record) -> list[Result]:
    """The evaluations in a record: those at the end of its training, or those made afterwards."""
    evaluation = record.get("evaluation", {})
    if "top1" in evaluation:
        data = evaluation["data"]
        return [Result(bare(data["source"]), data["split"], evaluation["tta"], evaluation)]
    made = [figures for figures in evaluation.get("results", {}).values() if "top1" in figures]
    if made:
        split = evaluation.get("split", "test")
        return [Result(evaluation["data"], split, figures["tta"], figures) for figures in made]
    name = data_name(record) or "the training data"
    return [
        Result(name, split, record[split]["tta"], record[split])
        for split in ("validation", "test")
        if "top1" in record.get(split, {})
    ]


def classifier_tables(results: Sequence[Result]) -> list[str]:
    """Paragraphs on the quality of a classifier."""
    splits = {plain(f"{result.figures['images']:,} {result.split} images of {result.data}") for result in results}
    one = len(splits) == 1
    columns = [VIEWS[result.view] if one else f"{plain(result.split)}, {VIEWS[result.view]}" for result in results]
    figures = [result.figures for result in results]
    rows = [["accuracy (95 % interval)", *(result.accuracy for result in results)]]
    if all("top5" in row for row in figures):
        rows.append(["top-5 accuracy", *(f"{row['top5']:.2%}" for row in figures)])
    rows.append(["expected calibration error", *(f"{row['ece']:.3f}" for row in figures)])
    rows.append(["negative log-likelihood", *(f"{row['nll']:.3f}" for row in figures)])
    timed = [row["speed"] for row in figures if "latency_ms" in row.get("speed", {})]
    paragraphs = [f"On the {' and the '.join(sorted(splits))}:"]
    if len(timed) == len(figures):
        rows.append(["milliseconds an image, one at a time", *(f"{row['latency_ms']['median']:.1f}" for row in timed)])
    paragraphs.append(markdown_table(["", *columns], rows))
    if timed:
        speed = timed[-1]
        paragraphs.append(f"Time is on {hardware(speed['device'], speed['threads'])}, in {plain(speed['dtype'])}.")
    last = results[-1]
    if "classes" not in last.figures:
        return paragraphs
    classes = sorted(last.figures["classes"].items(), key=lambda item: item[1]["f1"])[:20]
    if len(classes) == len(last.figures["classes"]):
        classes = list(last.figures["classes"].items())
    which = "Each class" if len(classes) == len(last.figures["classes"]) else "The 20 classes of the lowest F1"
    scores = [[plain(name), *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))] for name, row in classes]
    paragraphs.append(f"{which}, {plain(last.split)} images, {VIEWS[last.view]}:")
    return [*paragraphs, markdown_table(["class", "precision", "recall", "F1"], scores)]


def binary_table(part: Record) -> list[str]:
    """Paragraphs on a classifier of two classes as a test for one of them."""
    point, data = part["operating_point"], part["data"]

    def share(name: str) -> str:
        low, high = point[f"{name}_interval"]
        return f"{point[name]:.1%} ({low:.1%} to {high:.1%})"

    low, high = part["auroc_interval"]
    groups = f" of {part['groups']:,} groups" if part["groups"] else ""
    rows = [
        ["AUROC", f"{part['auroc']:.4f} ({low:.4f} to {high:.4f})"],
        ["sensitivity", share("sensitivity")],
        ["specificity", share("specificity")],
        ["expected calibration error", f"{part['ece']:.3f}"],
        *([f"wrong of the surest {at}", f"{risk:.2%}"] for at, risk in part["abstention"]["at"].items()),
    ]
    return [
        f"As a test for {plain(part['positive'])}, on {part['images']:,} {plain(data['split'])} images{groups} of "
        f"{plain(bare(data['source']))}, from a probability of {point['threshold']:.3f} on "
        f"({plain(point['chosen'])}), with 95 % intervals:",
        markdown_table(["", "figure"], rows),
    ]


def published_sentence(weights: Record) -> str:
    published = weights["published"]
    return (
        f"Published, not measured here: {published['top1']:.1%} top-1 accuracy on {plain(published['data'])}, by "
        f"{plain(weights['authors'])}."
    )


def low_confidence_sentence(part: Record) -> str:
    return (
        f"Of the {part['images']:,} answers with a probability below {part['threshold']:.1%}, {part['right']:,} are "
        f"right: {code('hfvision classify')} says of such an answer that its confidence is low."
    )


def calibration_sentence(part: Record) -> str:
    return (
        f"Its probabilities are calibrated by a temperature of {part['temperature']:.3f}, fitted on "
        f"{part['images']:,} images ({plain(part['split'])}): the calibration error went from "
        f"{part['before']['ece']:.2%} to {part['after']['ece']:.2%} ({plain(part['measured_on'])}). Where classes are "
        "rarer or images are made otherwise, this no longer holds."
    )


def hardware(device: str, threads: int) -> str:
    return f"{threads} CPU thread{'s' if threads > 1 else ''}" if device == "cpu" else plain(device)


def superres_rows(record: Record, scale: int) -> dict[str, Record]:
    """The evaluated upscalers of one scale by name, interpolations and networks."""
    results = record.get("evaluation", {}).get("results", {})
    return {name: row for name, row in results.items() if "sets" in row and row["scale"] == scale}


def own_row(rows: Mapping[str, Record], name: str) -> Record | None:
    """The figures of the model called `name`; where no name fits, those of the one network."""
    named = [row for key, row in rows.items() if name in (key, Path(key).name)]
    networks = [row for row in rows.values() if "parameters" in row]
    return named[0] if named else networks[0] if len(networks) == 1 else None


def superres_tables(rows: Mapping[str, Record], scale: int) -> list[str]:
    """Paragraphs on the quality of an upscaler beside the others that were measured with it."""

    def figures(row: Record) -> str:
        parts = (("psnr", 2), ("ssim", 4), ("niqe", 2))
        return " / ".join("–" if row[key] is None else f"{row[key]:.{digits}f}" for key, digits in parts if key in row)

    sets = list(next(iter(rows.values()))["sets"])
    niqe = any("niqe" in row for each in rows.values() for row in each["sets"].values())
    measures = "PSNR in dB, higher is better, / SSIM, higher / NIQE, lower" if niqe else "PSNR in dB / SSIM"
    paragraphs = [
        f"{measures}: on luma, {scale} pixels cropped at each side; low resolution by MATLAB's bicubic, rounded to "
        "8 bit:",
        markdown_table(
            ["set", *(plain(bare(name)) for name in rows)],
            [[plain(label), *(figures(row["sets"][label]) for row in rows.values())] for label in sets],
        ),
    ]
    cost = "cpu_seconds_per_megapixel_"
    kinds = [kind for kind in ("fp32", "bf16", "uint8") if any(cost + kind in row for row in rows.values())]
    if kinds:
        paragraphs.append("CPU seconds for a megapixel of output, on one thread:")
        table = [
            [plain(bare(name)), *(f"{row[cost + kind]:.3f}" if cost + kind in row else "" for kind in kinds)]
            for name, row in rows.items()
        ]
        paragraphs.append(markdown_table(["", *kinds], table))
    return paragraphs


def robustness_tables(part: Record) -> list[str]:
    """Paragraphs on robustness: norm, epsilon, images, attacks and compute, and what was left of the accuracy."""

    def text(figure: Record) -> str:
        low, high = figure["interval"]
        return f"{figure['accuracy']:.2%} ({low:.1%} to {high:.1%})"

    attacks = [
        f"{name}{' (' + ', '.join(f'{key} {value}' for key, value in keywords.items()) + ')' if keywords else ''}"
        for name, keywords in part["settings"].items()
    ]
    ball = f"{NORMS[part['norm']]} ≤ {epsilon_text(part['epsilon'], part['norm'])}"
    data = f" of {plain(bare(part['data']['source']))}, {plain(part['data']['split'])}" if part.get("data") else ""
    hours = f"{part['seconds'] / 60:.0f} minutes on {hardware(part['device'], part['threads'])}"
    rows = [["no attack", text(part["clean"])]]
    rows += [[plain(f"after {name}"), text(figure)] for name, figure in part["attacks"].items()]
    if "robust" in part:
        rows.append(["**robust**", text(part["robust"])])
    if "corruptions" in part:
        rows.append(["mean of natural corruptions, 5 severities", f"{part['corruptions']['mean']:.2%}"])
    paragraphs = [
        f"Attacked within {ball} on {part['images']:,} images{data}, each attack on what withstood those before: "
        f"{plain(', '.join(attacks))}; computed in {plain(part['precision'])}, seed {part['seed']}, {hours}.",
        markdown_table(["", "accuracy (95 % interval)"], rows),
    ]
    if part.get("command"):
        paragraphs.append(fenced(part["command"], "bash"))
    if not part["complete"]:
        paragraphs.append("This evaluation was not finished: the attacks that are missing may break more.")
    if part["masked"]:
        paragraphs.append("Its gradients are masked: the robust accuracy above is **not to be believed**.")
    return [*paragraphs, *map(plain, part["notes"])]


# Figures of a step of compression, before and after it: what they are called, and how they are written.
COMPRESSION = {
    "parameters": ("parameters", "{:,}"),
    "macs": ("multiply-adds", "{:,}"),
    "bytes": ("bytes of weights", "{:,}"),
    "latency_ms": ("milliseconds an image", "{:.2f}"),
    "top1": ("accuracy on {:,} validation images", "{:.2%}"),
    "psnr": ("PSNR on {:,} validation photographs, dB", "{:.2f}"),
}


def compression_tables(record: Record) -> list[str]:
    """Paragraphs on how a model was made smaller: the steps of the record's `compression`, each with its settings and
    with `before` and `after` of what was measured."""
    paragraphs = [f"Made from {code(bare(record['parent']))}."] if record.get("parent") else []
    for number, step in enumerate(record["compression"], 1):
        settings = {key: value for key, value in step.get("settings", {}).items() if value is not None}
        details = [step.get("method"), *(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())]
        paragraphs.append(f"Step {number}: {plain(step['step'])}, {', '.join(map(plain, filter(None, details)))}.")
        rows = []
        validation = step.get("validation", {})
        measured = step | ({validation["metric"]: validation} if validation else {})
        for key, (label, form) in COMPRESSION.items():
            pair = measured.get(key)
            if isinstance(pair, Mapping) and pair.get("after") is not None:
                before = form.format(pair["before"]) if pair.get("before") is not None else ""
                rows.append([label.format(pair.get("images", 0)), before, form.format(pair["after"])])
        if rows:
            paragraphs.append(markdown_table(["", "before", "after"], rows))
        if validation.get("metric") == "top1" and "agreement" in validation:
            paragraphs.append(f"Both give the same answer for {validation['agreement']:.2%} of the images.")
    return paragraphs


def model_index(record: Record, task: str, name: str, scale: int | None) -> list[EvalResult]:
    """The figures as entries of the front matter's `model-index`."""

    def entry(data: str, kind: str, label: str, value: float, split: str | None = None, **args: Any) -> EvalResult:
        identifier = HUB_SETS.get(data, hub_dataset(record) if scale is None else None)
        return EvalResult(
            task_type="image-to-image" if scale else task,
            task_name=f"Super-resolution ×{scale}" if scale else "Image classification",
            dataset_type=identifier or "-".join(data.lower().replace(",", "").split()),
            dataset_name=data,
            dataset_split=split,
            metric_type=kind,
            metric_name=label,
            metric_value=value,
            metric_args=args or None,
        )

    if scale:
        row = own_row(superres_rows(record, scale), name) or {"sets": {}}
        return [
            entry(data, key, key.upper(), figures[key])
            for data, figures in row["sets"].items()
            for key in ("psnr", "ssim", "niqe")
            if figures.get(key) is not None
        ]
    entries = []
    for result in classifier_results(record):
        args = {} if result.view == "none" else {"test_time_augmentation": result.view}
        label = "Accuracy" + (f", {VIEWS[result.view]}" if args else "")
        entries.append(entry(result.data, "accuracy", label, result.figures["top1"], result.split, **args))
    part = record.get("robustness", {})
    if "robust" in part:
        ball = f"{NORMS[part['norm']]} {epsilon_text(part['epsilon'], part['norm'])}"
        args = {key: part[key] for key in ("norm", "epsilon", "images")} | {"attacks": list(part["attacks"])}
        data = part.get("data") or {"source": "the evaluated images", "split": None}
        label, value = f"Accuracy under attack, {ball}", part["robust"]["accuracy"]
        entries.append(entry(bare(data["source"]), "robust_accuracy", label, value, data["split"], **args))
    return entries


def eval_results(record: Record, name: str, scale: int | None) -> dict[str, str]:
    """The figures as the Hub's `.eval_results` files: YAML by file name, one a data set of the Hub.

    A file is of a data set that the Hub knows and holds one value of each task: PSNR, or accuracy of one view.
    """
    if scale:
        row = own_row(superres_rows(record, scale), name) or {"sets": {}}
        found = {
            HUB_SETS[data]: EvalResultEntry(
                HUB_SETS[data], f"bicubic_x{scale}", figures["psnr"], notes="PSNR in dB on luma, borders cropped"
            )
            for data, figures in row["sets"].items()
            if data in HUB_SETS and figures["psnr"] is not None
        }
    else:
        dataset, results = hub_dataset(record), classifier_results(record)
        best = results[0] if results else None
        found = {}
        if dataset and best:
            notes = f"top-1 accuracy, {best.split} split, {best.data}, {VIEWS[best.view]}"
            found[dataset] = EvalResultEntry(dataset, "default", best.figures["top1"], notes=notes)
    return {
        f"{dataset.split('/')[-1].lower()}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True
        )
        for dataset, entry in found.items()
    }
