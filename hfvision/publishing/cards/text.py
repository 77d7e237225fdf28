"""The paragraphs of a card: what a model is, how it was made, what it is for, and what not."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedConfig

from ...hub.records import Record, bare, data_name, was_trained
from ...robustness.threat_model import DEFAULT_EPSILON
from ...tasks.base import SEGMENTATION, task_of
from ...tasks.segmentation.card import segmentation_limits
from ...utils.markdown import code, fenced, plain
from .figures import classifier_results, hardware

KINDS = {
    "hfvision_cnn": "A convolutional network",
    "hfvision_vit": "A vision transformer",
    "hfvision_cnn_segmentation": "A segmenter, a convolutional network",
    "hfvision_vit_segmentation": "A segmenter, a vision transformer with a convolutional decoder,",
}


def describe(config: PreTrainedConfig, record: Record, scale: int | None, weights: int) -> str:
    kind = f"A ×{scale} super-resolution network" if scale else KINDS.get(config.model_type)
    kind = kind or f"A classifier of type {code(config.model_type)}"
    kind = plain(record["about"]["description"]) if record.get("about", {}).get("description") else kind
    count = record.get("training", {}).get("parameters") or count_parameters(config)
    channels = {1: "grey ", 3: "colour "}.get(getattr(config, "num_channels", 3), "")
    side = getattr(config, "image_size", None)
    size = "×".join(map(str, side if isinstance(side, list | tuple) else (side, side)))
    task = task_of(config, "The model")
    segments, any_size = task is SEGMENTATION, task.any_size
    what = f"{channels}images" + (" of any size" if any_size else f" of {size} pixels" if side else "")
    sentences = [f"{kind} of {count:,} parameters, for {what}."]
    if not scale:
        names = list(config.id2label.values())
        separator = "; " if any("," in name for name in names) else ", "
        shown = separator.join([*map(plain, names[:20]), *(["…"] if len(names) > 20 else [])])
        where = " in each pixel" if segments else ""
        sentences.append(f"It tells {len(names)} classes apart{where}: {shown}.")
    sentences.append(f"Its weights take {weights / 1e6:.2f} MB.")
    return " ".join(sentences)


def count_parameters(config: PreTrainedConfig) -> int:
    with torch.device("meta"):
        return task_of(config, "The model").auto_class.from_config(config).num_parameters()


def training(record: Record) -> list[str]:
    """Paragraphs on procedure, data and cost of the training."""
    part = record.get("training", {})
    config, data = part.get("config", {}), part.get("data", {})
    paragraphs = [fenced(part["command"], "bash")] if part.get("command") else []
    if paragraphs and "parent" in record and not was_trained(record.get("compression", [])):
        paragraphs = [f"What it was made from, {code(bare(record['parent']))}, was trained so:", *paragraphs]
    counts = data if isinstance(data, Mapping) else {}
    photographs = counts.get("photographs", part.get("photos"))
    said = [f"{photographs:,} photographs"] if photographs else []
    said += [f"{counts['images']:,} images"] if "images" in counts else []
    for unit in ("epochs", "steps"):
        value = config.get(unit, part.get(unit))
        said += (
            [f"{value:,} {unit if value > 1 else unit[:-1]}"]
            if value and not (unit == "epochs" and photographs)
            else []
        )
    if part.get("history") and photographs:
        said.append(f"{len(part['history']) * config['steps_per_epoch']:,} steps")
    seed = config.get("seed", part.get("seed"))
    said += [f"seed {seed}"] if seed is not None else []
    if said:
        paragraphs.append(", ".join(said) + ".")
    chosen_by = {
        "photographs": counts.get("validation_photographs"),
        "images": counts.get("validation_images", record.get("validation", {}).get("images")),
    }
    newest = config.get("keep") == "last" or config.get("gan", "none") != "none"
    did = "showed its progress; the newest weights were kept" if newest else "chose the weights"
    paragraphs += [f"{count:,} other {what} {did}." for what, count in chosen_by.items() if count]
    if config.get("adversarial", "none") != "none":
        epsilon = config["epsilon"] or DEFAULT_EPSILON[config["norm"]]
        paragraphs.append(
            f"It was trained on attacked images: {plain(config['adversarial'])}, {plain(config['norm'])} within "
            f"{plain(epsilon)}, {config['attack_steps']} steps where the method takes several."
        )
    if config.get("gan", "none") != "none":
        paragraphs.append(
            f"Trained against a discriminator ({plain(config['gan'])}), from {plain(bare(config['model']))}."
        )
    if config.get("teacher"):
        teacher = code(bare(config["teacher"]))
        if config.get("self_ensemble"):
            teacher = f"the mean of what {teacher} makes of turned and mirrored crops"
        paragraphs.append(f"It learned from {teacher} too.")
    if weights := record.get("about", {}).get("weights"):
        paragraphs.append(
            f"The weights are those of {plain(weights['authors'])}, under {plain(weights['licence'])}, as in "
            f"{code(weights['file'])} of the package {code(weights['package'])} (SHA-256 {weights['sha256']}); "
            f"changed: {plain(weights['changes'])}."
        )
    return paragraphs + training_data(record) + cost(part, record)


def training_data(record: Record) -> list[str]:
    about, data = record.get("about", {}), record.get("training", {}).get("data", {})
    described = []
    for each in about.get("data", []):
        facts = ", ".join(each[key] for key in ("source", "licence") if each.get(key))
        described.append(f"{each['name']} ({facts})" if facts else each["name"])
    text = "; ".join(described) or ("; ".join(data) if isinstance(data, list) else data_name(record)) or ""
    paragraphs = [f"Data: {plain(text)}."] if text else []
    licence = [f"Licence of the weights: {plain(about['licence'])}."] if about.get("licence") else []
    if "BY-SA" in text:
        licence.append("Some of the data is under CC BY-SA: what is made from it is shared alike.")
    return [*paragraphs, " ".join(licence)] if licence else paragraphs


def cost(part: Record, record: Record) -> list[str]:
    if "seconds" not in part:
        return []
    environment = part.get("environment", record.get("environment"))
    machine = (environment or {}).get("machine", {})
    where = machine.get("gpu") or (hardware("cpu", machine["threads"]) if "threads" in machine else None)
    seconds = part["seconds"]
    minutes = f"{seconds / 60:,.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
    sentence = f"Cost: {minutes}{f' on {plain(where)}' if where else ''}."
    if part.get("emissions"):
        emissions = part["emissions"]
        sentence += f" About {emissions['emissions']:,.0f} g of CO₂, by {plain(emissions['source'])}."
    if environment:
        versions = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items())
        sentence += f" Versions: {plain(versions)}."
    return [sentence]


def limits(config: PreTrainedConfig, record: Record, scale: int | None) -> list[str]:
    settings, data = record.get("training", {}).get("config", {}), data_name(record)
    sentences = []
    if scale:
        sentences.append("For photographs that shall be looked at larger.")
        if settings.get("degradation", "bicubic") != "bicubic":
            sentences.append("It was trained on blurred, noisy and compressed images.")
        elif record.get("training"):
            sentences.append(
                "It gives back the detail that bicubic reduction takes away; noise, blur and JPEG artefacts of real "
                "photographs are not removed, and may become more visible."
            )
        if settings.get("gan", "none") != "none":
            sentences.append(
                "It invents texture that looks real and was not there: not for medicine, number plates, faces that "
                "shall be recognised, or any other evidence."
            )
    elif task_of(config, "The model") is SEGMENTATION:
        sentences += segmentation_limits(record)
    else:
        known = f"For images like those of {plain(data)}." if data else "For images like those it was trained on."
        sentences += [known, f"Every image gets one of its {config.num_labels} classes, also where none fits."]
        if classifier_results(record) and "calibration" not in record:
            sentences.append("Its confidence is no probability: see the calibration error.")
        if "robustness" not in record:
            sentences.append("What attacks on its images leave of it is not measured.")
        sentences.append("It must not decide alone where a mistake can hurt somebody.")
    sentences.append(plain(record.get("about", {}).get("limits", "")))
    if not any(key in record for key in ("training", "evaluation", "robustness", "compression")):
        sentences.append("Nothing about its training or its quality is recorded.")
    return [" ".join(filter(None, sentences))]


def citation(record: Record) -> str:
    environment = record.get("training", {}).get("environment", record.get("environment", {}))
    version = environment.get("libraries", {}).get("hfvision")
    lines = ["  title = {hfvision: image models the Hugging Face way}", "  author = {{The hfvision authors}}"]
    lines += [f"  version = {{{version}}}"] if version else []
    ours = "@software{hfvision,\n" + ",\n".join(lines) + "\n}"
    return fenced("\n\n".join(filter(None, [ours, record.get("about", {}).get("citation")])), "bibtex")
