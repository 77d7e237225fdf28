"""The paragraphs that cards of all tasks have: what a model is, how it was trained, on what, at what cost."""

import torch
from transformers import PreTrainedConfig

from ...records import ModelRecord, NamedData, Training, strip_path
from ...robustness.threat_model import DEFAULT_EPSILON
from ...tasks.base import Task
from ...tasks.card import CardSubject, hardware
from ...utils.markdown import code, fenced, plain


def describe(subject: CardSubject, task: Task, weights: int) -> str:
    """What a model is and takes, in a few sentences; `weights` are bytes."""
    config, record = subject.config, subject.record
    kind = task.card.kind(config) or f"{task.noun.capitalize()} of type {code(config.model_type)}"
    kind = plain(record.about.description) if record.about.description else kind
    count = (record.training and record.training.parameters) or count_parameters(config, task)
    channels = {1: "grayscale ", 3: "color "}.get(getattr(config, "num_channels", 3), "")
    side = getattr(config, "image_size", None)
    size = "×".join(map(str, side if isinstance(side, list | tuple) else (side, side)))
    what = f"{channels}images" + (" of any size" if task.any_size else f" of {size} pixels" if side else "")
    sentences = [f"{kind} of {count:,} parameters, for {what}.", *task.card.classes(config)]
    return " ".join([*sentences, f"Its weights take {weights / 1e6:.2f} MB."])


def count_parameters(config: PreTrainedConfig, task: Task) -> int:
    with torch.device("meta"):
        return task.auto_class.from_config(config).num_parameters()


def training_paragraphs(record: ModelRecord) -> list[str]:
    """Paragraphs on procedure, data and cost of the training."""
    part = record.training or Training()
    paragraphs = [fenced(part.command, "bash")] if part.command else []
    if paragraphs and record.parent and not record.was_retrained:
        paragraphs = [f"Its parent, {code(strip_path(record.parent))}, was trained with:", *paragraphs]
    if amount := training_amount(part):
        paragraphs.append(", ".join(amount) + ".")
    paragraphs += validation_sentences(record) + method_sentences(record)
    if weights := record.about.weights:
        paragraphs.append(
            f"The weights are those of {plain(weights.authors)}, under {plain(weights.license)}, as in "
            f"{code(weights.file)} of the package {code(weights.package)} (SHA-256 {weights.sha256}); "
            f"changed: {plain(weights.changes)}."
        )
    return paragraphs + data_paragraphs(record) + cost_paragraphs(part, record)


def training_amount(part: Training) -> list[str]:
    """How much a model was trained: images, epochs, steps, seed."""
    config, data = part.config, part.data
    photographs = data.photographs
    amounts = [(photographs, "photographs"), (data.images, "images")]
    amounts += [(config.epochs if not photographs else None, "epochs"), (config.steps, "steps")]
    if part.history and photographs and config.steps_per_epoch:
        amounts.append((len(part.history) * config.steps_per_epoch, "steps"))
    counted = [f"{count:,} {unit[:-1] if count == 1 else unit}" for count, unit in amounts if count]
    return counted + ([f"seed {config.seed}"] if config.seed is not None else [])


def validation_sentences(record: ModelRecord) -> list[str]:
    """What the images that were held out of the training were for."""
    data, settings = record.data, record.settings
    images = data.validation_images
    if images is None and record.validation:
        images = record.validation.images
    newest = settings.keep == "last" or settings.uses_gan
    did = "monitor its progress; the newest weights were kept" if newest else "select the weights"
    counts = {"photographs": data.validation_photographs, "images": images}
    return [f"{count:,} other {what} were used to {did}." for what, count in counts.items() if count]


def method_sentences(record: ModelRecord) -> list[str]:
    """Adversarial training, a discriminator, a teacher: what was special about the training."""
    config, sentences = record.settings, []
    if config.is_adversarial:
        norm = config.norm or "linf"
        epsilon = config.epsilon or {str(name): value for name, value in DEFAULT_EPSILON.items()}.get(
            norm, "an unknown epsilon"
        )
        steps = f", {config.attack_steps} steps where the method takes several" if config.attack_steps else ""
        sentences.append(
            f"It was trained on attacked images: {plain(config.adversarial)}, {plain(norm)} within {plain(epsilon)}"
            f"{steps}."
        )
    if config.uses_gan:
        start = f", from {plain(strip_path(config.model))}" if config.model else ""
        sentences.append(f"Trained against a discriminator ({plain(config.gan)}){start}.")
    if config.teacher:
        teacher = code(strip_path(config.teacher))
        if config.self_ensemble:
            teacher = f"the mean of {teacher}'s outputs for rotated and flipped crops"
        sentences.append(f"It also learned from {teacher} as teacher.")
    return sentences


def data_paragraphs(record: ModelRecord) -> list[str]:
    text = "; ".join(map(data_text, record.about.data)) or record.data_name or ""
    paragraphs = [f"Data: {plain(text)}."] if text else []
    license = [f"License of the weights: {plain(record.about.license)}."] if record.about.license else []
    if "BY-SA" in text:
        license.append("Some of the data is under CC BY-SA: what is made from it is shared alike.")
    return [*paragraphs, " ".join(license)] if license else paragraphs


def data_text(data: NamedData) -> str:
    facts = ", ".join(filter(None, (data.source, data.license)))
    return f"{data.name} ({facts})" if facts else data.name


def cost_paragraphs(part: Training, record: ModelRecord) -> list[str]:
    if part.seconds is None:
        return []
    environment = part.environment or record.environment
    machine = environment.machine if environment else None
    where = ""
    if machine and (machine.gpu or machine.threads):
        where = f" on {hardware(machine.gpu, machine.threads)}"
    minutes = f"{part.seconds / 60:,.0f} minutes" if part.seconds < 7200 else f"{part.seconds / 3600:.1f} hours"
    sentences = [f"Cost: {minutes}{where}."]
    if part.emissions:
        sentences.append(f"About {part.emissions.emissions:,.0f} g of CO₂, by {plain(part.emissions.source)}.")
    if environment:
        versions = ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
        sentences.append(f"Versions: {plain(versions)}.")
    return [" ".join(sentences)]


def limits_paragraph(subject: CardSubject, task: Task) -> str:
    record = subject.record
    sentences = [*task.card.limits(subject), plain(record.about.limits or "")]
    if not (record.training or record.evaluation or record.robustness or record.compression):
        sentences.append("Nothing about its training or its quality is recorded.")
    return " ".join(filter(None, sentences))


def citation(record: ModelRecord) -> str:
    environment = (record.training and record.training.environment) or record.environment
    version = environment.libraries.get("hfvision") if environment else None
    lines = ["  title = {hfvision: image models the Hugging Face way}", "  author = {{The hfvision authors}}"]
    lines += [f"  version = {{{version}}}"] if version else []
    ours = "@software{hfvision,\n" + ",\n".join(lines) + "\n}"
    return fenced("\n\n".join(filter(None, [ours, record.about.citation])), "bibtex")
