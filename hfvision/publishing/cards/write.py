"""Writes the card of a model from what was recorded when it was trained and evaluated, and from nothing else."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData, eval_result_entries_to_yaml

from ...hub.checkpoints import FOLDER
from ...hub.loading import load_config, quantization
from ...records import REPORTS, NamedData, read_record, record_text
from ...tasks.base import Task, task_of
from ...tasks.card import CardSubject
from ...utils.console import to_json
from ...utils.files import write_text
from ...utils.json_files import read_json
from ...utils.markdown import code, fenced, plain, start_of_line
from ...utils.secrets import hide_paths
from ..generated import HEAD
from .compression import compression_paragraphs
from .text import citation, describe, limits_paragraph, training_paragraphs
from .usage import Usage

RECORD = "record.json"
WEIGHTS = (".safetensors", ".bin", ".onnx", ".onnx.data")


def record_about(
    folder: Path,
    *,
    license: str | None = None,
    data: Mapping[str, str | None] | None = None,
    limits: str | None = None,
    hide: bool = False,
) -> None:
    """Add to the record of a model what a training does not know: licenses, what the data is called, further limits.

    Args:
        folder: of the model.
        license: of the weights, as the Hub calls it.
        data: `name`, `source` and `license` of the training data; those that are None stay as they are.
        limits: sentences that the card's section on limits ends with.
        hide: cut absolute paths in the records and config.yaml down to their last part.

    Raises:
        ValueError: for a record that cannot be read, or data with a license and without a name.
    """
    path = folder / RECORD
    record = read_record(folder, reports=False)
    if hide:
        hide_recorded_paths(folder)
        record = read_record(folder, reports=False)
    about = record.about
    given = {key: value for key, value in (data or {}).items() if value is not None}
    if given:
        first = about.data[0] if about.data else NamedData(name=record.data_name or "")
        first = replace(first, **given)
        if not first.name:
            raise ValueError("The name of the training data is not recorded: give it with --data-name.")
        about = replace(about, data=[first, *about.data[1:]])
    about = replace(about, **{key: value for key, value in {"license": license, "limits": limits}.items() if value})
    if about != record.about:
        write_text(path, record_text(replace(record, about=about)))


def hide_recorded_paths(folder: Path) -> None:
    """Cut absolute paths in the records and config.yaml of a model down to their last part."""
    for path in (folder / file for file in (RECORD, *REPORTS)):
        if path.is_file():
            write_text(path, to_json(hide_paths(read_json(path))) + "\n")
    if (folder / "config.yaml").is_file():
        write_text(folder / "config.yaml", hide_paths((folder / "config.yaml").read_text(encoding="utf-8")))


def write_card(folder: Path, source: str | None = None) -> list[Path]:
    """Write README.md and `.eval_results/*.yaml` of the model in `folder`, from its record; the files written.

    Args:
        folder: of a classifier, an upscaler or a segmenter, as `save_pretrained` or a training leaves it.
        source: the Hub id that the card loads the model by; where not given, the name of a shipped checkpoint or the
            folder's.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if the record cannot be read, or was written by a later version of hfvision.
    """
    files = card_files(folder, source=source)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def card_files(folder: Path, *, source: str | None = None) -> dict[str, str]:
    """The text of the files of [`write_card`], by their path in `folder`; arguments and errors are its."""
    config = load_config(str(folder))
    subject = CardSubject(config, read_record(folder), folder.resolve().name)
    task = task_of(config, str(folder))
    title = source.split("/")[-1] if source else subject.name
    shipped = source is None and folder.resolve().parent == FOLDER
    source = source or (subject.name if shipped or folder.is_absolute() else folder.as_posix())
    weights = sum(path.stat().st_size for suffix in WEIGHTS for path in folder.glob(f"*{suffix}"))
    command = f"hfvision {task.verb} photo.jpg --model {shlex.quote(source)}"
    sections = {
        "": [describe(subject, task, weights)],
        "Use": [fenced(Usage(source, task, config, shipped).python(), "python"), f"or {code(command)}."],
        **task_sections(subject, task),
        "Compression": compression_paragraphs(subject.record) if subject.record.compression else [],
        "Training": training_paragraphs(subject.record),
        "Intended use and limits": [limits_paragraph(subject, task)],
        "Citation": [citation(subject.record)],
    }
    text = [f"---\n{metadata(subject, task, title).to_yaml()}\n---", HEAD, f"# {plain(title)}"]
    for heading, paragraphs in sections.items():
        text += [f"## {heading}"] if heading and paragraphs else []
        text += map(wrapped, paragraphs)
    return {"README.md": "\n\n".join(text) + "\n"} | benchmark_files(subject, task)


def task_sections(subject: CardSubject, task: Task) -> dict[str, list[str]]:
    """The sections of the task; that on figures ends with the command that prints them and what is noted of them."""
    sections = task.card.paragraphs(subject)
    evaluation, note = subject.record.evaluation, subject.record.about.note
    if sections.get("Figures") and evaluation and evaluation.command:
        sections["Figures"] += ["Reproduce with", fenced(evaluation.command, "bash")]
    if sections.get("Figures") and note:
        sections["Figures"].append(plain(note))
    return sections


def benchmark_files(subject: CardSubject, task: Task) -> dict[str, str]:
    """The figures as the Hub's `.eval_results` files: YAML by file name, one for each data set of the Hub."""
    return {
        f".eval_results/{entry.dataset_id.split('/')[-1].lower()}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True
        )
        for entry in task.card.benchmarks(subject)
    }


def wrapped(paragraph: str) -> str:
    if paragraph.startswith(("|", "```")):
        return paragraph
    first, *lines = wrap(paragraph, 119, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join([first, *map(start_of_line, lines)])


def metadata(subject: CardSubject, task: Task, title: str) -> ModelCardData:
    """The front matter of a card."""
    record, method = subject.record, quantization(subject.config)
    results: list[EvalResult] = task.card.results(subject)
    dataset = None if task.name == "super_resolution" else record.hub_dataset
    emissions = record.training.emissions if record.training else None
    further: dict[str, Any] = {"co2_eq_emissions": emissions.to_json()} if emissions else {}
    return ModelCardData(
        library_name=method if method in ("openvino", "onnx") else "transformers",
        pipeline_tag=task.card.pipeline_tag,
        license=record.about.license,
        datasets=[dataset] if dataset else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["hfvision", *task.card.tags, *([method] if method else [])],
        model_name=title if results else None,
        eval_results=results or None,
        **further,
    )
