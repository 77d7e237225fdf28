"""From the answers to each image to a record of robustness, and from the record to words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from ..metrics.accuracy import wilson_interval
from .corruptions import CORRUPTIONS, SEVERITIES
from .masking import MEASURES, SMALLEST, judge_masking

# How the names of columns begin; `clean` stands alone.
ATTACK, CURVE, MASKING, CORRUPTION = "attack ", "epsilon ", "masking ", "corruption "


def summarize(answers: Mapping[str, Sequence[int]], attacks: Sequence[str]) -> dict[str, Any]:
    """The figures of what [`evaluate.measure`] found, as far as it has come.

    Args:
        answers: for each column 0 or 1 an image: whether the model is right.
        attacks: the names of all attacks that the robust accuracy is after.

    Returns:
        Accuracies are dicts of `accuracy`, 0 to 1, its 95 % `interval` and the number of `images`.
        `clean`; `attacks`, by name, each after those before it; `robust`, after all of them; `curve`, a list of
        accuracies with their `epsilon`, from PGD of 20 steps alone; `corruptions` with `images`, `accuracy` by name,
        a list by severity, and their `mean`; `masking`, the checks, or None where they were not made; `masked`,
        whether one of them did not pass, or None. What is not measured yet is left out.
    """
    measured = {name: values for name, values in answers.items() if values}
    figures: dict[str, Any] = {}
    if "clean" in measured:
        figures["clean"] = accuracy(measured["clean"])
    attacked = {name: accuracy(values) for name, values in under(ATTACK, measured).items()}
    if attacked:
        figures["attacks"] = attacked
    if len(attacked) == len(attacks):
        figures["robust"] = attacked[attacks[-1]]
    curve = under(CURVE, measured)
    if curve:
        points = {0.0: measured["clean"]} | {float(radius): values for radius, values in curve.items()}
        figures["curve"] = [{"epsilon": radius} | accuracy(values) for radius, values in points.items()]
    corruptions = under(CORRUPTION, measured)
    if len(corruptions) == len(CORRUPTIONS) * len(SEVERITIES):
        shares = {name: sum(values) / len(values) for name, values in corruptions.items()}
        by_name = {name: [shares[f"{name} {severity}"] for severity in SEVERITIES] for name in CORRUPTIONS}
        mean = sum(shares.values()) / len(shares)
        figures["corruptions"] = {"images": min(map(len, corruptions.values())), "accuracy": by_name, "mean": mean}
    masking = {name: torch.tensor(values, dtype=torch.bool) for name, values in under(MASKING, measured).items()}
    whole = len(masking) == len(MEASURES) and len({len(values) for values in masking.values()}) == 1
    checks = judge_masking(masking) if whole and masking["clean"].sum() >= SMALLEST else []
    figures["masking"] = [asdict(check) for check in checks] or None
    figures["masked"] = not all(check.passes for check in checks) if checks else None
    return figures


def under(prefix: str, measured: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    return {name.removeprefix(prefix): values for name, values in measured.items() if name.startswith(prefix)}


def accuracy(right: Sequence[int]) -> dict[str, Any]:
    share = sum(right) / len(right)
    return {"accuracy": share, "interval": list(wilson_interval(share, len(right))), "images": len(right)}


def compare(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Clean and robust accuracy, and the mean over corruptions, of two finished records of the same attack: `model`,
    `other`, and `difference`, of the first from the second.

    Raises:
        ValueError: if the images or the attack differ.
    """
    for name in ("images", "norm", "epsilon", "attack", "seed"):
        if record[name] != other[name]:
            raise ValueError(f"The records cannot be compared: {name} is {record[name]!r} and {other[name]!r}.")
    rows = {}
    for name, figure in {"clean": "accuracy", "robust": "accuracy", "corruptions": "mean"}.items():
        mine, theirs = record[name][figure], other[name][figure]
        rows[name] = {"model": mine, "other": theirs, "difference": mine - theirs}
    return rows


def epsilon_text(epsilon: float, norm: str) -> str:
    """As people write it: `8/255` where L∞ is a number of grey levels."""
    levels = 255 * epsilon
    return f"{levels:.3g}/255" if norm == "linf" and levels < 100 else f"{epsilon:.4g}"


def format_robustness(record: Mapping[str, Any]) -> str:
    """The figures of [`evaluate.evaluate_robustness`], with `model` and `data`, for the terminal."""

    def text(figure: Mapping[str, Any]) -> str:
        low, high = figure["interval"]
        return f"{figure['accuracy']:>7.2%}  ({low:.1%} to {high:.1%})"

    norm = {"linf": "L∞", "l2": "L2"}[record["norm"]]
    ball = f"{norm} {epsilon_text(record['epsilon'], record['norm'])}"
    lines = [
        f"{'model':28}{record['model']}",
        f"{'data':28}{record['data']['source']}, {record['data']['split']}: {record['images']:,} images",
        f"{'attack':28}{record['attack']}, {ball}, {record['precision']}",
        "",
        f"{'accuracy':28}(95% interval)",
        f"{'  clean':26}{text(record['clean'])}",
        *(f"{'  after ' + name:26}{text(figure)}" for name, figure in record["attacks"].items()),
        f"{'  robust':26}{text(record['robust'])}",
        "",
    ]
    if "curve" in record:
        lines += ["accuracy after PGD of 20 steps, by epsilon"]
        lines += [f"  {epsilon_text(p['epsilon'], record['norm']):24}{text(p)}" for p in record["curve"]]
        lines += [""]
    corruptions = record["corruptions"]
    lines += [f"accuracy under corruptions  {'':7}" + "".join(f"{severity:>8}" for severity in SEVERITIES)]
    for name, shares in corruptions["accuracy"].items():
        lines += [f"  {name:33}" + "".join(f"{share:>8.1%}" for share in shares)]
    lines += [f"  {'mean':33}{corruptions['mean']:>8.1%}", ""]
    if record["masked"] is not None:
        verdict = "MASKED: its robust accuracy is not to be believed" if record["masked"] else "not masked"
        lines += [f"{'gradients':28}{verdict}"]
        for check in record["masking"]:
            lines += [f"  {'passes' if check['passes'] else 'SUSPICIOUS':12}{check['name']:22}{check['sentence']}"]
        lines += [""]
    lines += [f"note: {note}" for note in record["notes"]]
    minutes, seconds = divmod(round(record["seconds"]), 60)
    lines += [f"{minutes} min {seconds} s on {record['device']}, {record['threads']} threads"]
    return "\n".join(lines)


def format_comparison(compared: Mapping[str, Any]) -> str:
    """What [`compare`] found, with the other model's name as `other`, for the terminal."""
    lines = [f"compared with {compared['other']}"]
    for name in ("clean", "robust", "corruptions"):
        row = compared[name]
        lines.append(f"  {name:24}{row['model']:>9.2%} to {row['other']:.2%}, {100 * row['difference']:+.2f} points")
    return "\n".join(lines)
