"""Writes the card of a model from what was recorded when it was trained and evaluated, and from nothing else."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

from huggingface_hub import ModelCardData

from ...hub.checkpoints import FOLDER
from ...hub.loading import load_config, quantization
from ...hub.records import PARTS, Record, data_name, hub_dataset, read_json, read_record, record_files
from ...hub.validation import check_record, record_errors
from ...tasks.base import SUPER_RESOLUTION, TASKS, Task, is_own_family, task_of
from ...tasks.segmentation.card import segmentation_entries, segmentation_tables
from ...utils.markdown import code, fenced, plain, start_of_line
from ...utils.report import write_text
from ...utils.secrets import hide_paths
from .figures import (
    binary_table,
    calibration_sentence,
    classifier_results,
    classifier_tables,
    compression_tables,
    eval_results,
    low_confidence_sentence,
    model_index,
    own_row,
    published_sentence,
    robustness_tables,
    superres_rows,
    superres_tables,
)
from .text import citation, describe, limits, training

GENERATED = "<!-- Written by `hfvision card` from record.json: change that, not this. -->"
# What is in a file that nobody wrote: our card and Space, transformers' template.
MACHINE_MADE = (GENERATED, "# Written by `hfvision push --with-space`", "[More Information Needed]")
# The short cards of saved models: what is in them, and how they end.
SHORT = "of hfvision; its code travels with the weights"
SHORT_ENDS = ("travels with the weights.", "of every layer.")
WEIGHTS = (".safetensors", ".bin", ".onnx", ".onnx.data")


def record_about(
    folder: Path,
    *,
    licence: str | None = None,
    data: Mapping[str, str | None] | None = None,
    limits: str | None = None,
    hide: bool = False,
) -> None:
    """Add to the records of a model what a training does not know: licences, what the data is called, further limits.

    Args:
        folder: of the model.
        licence: of the weights, as the Hub calls it.
        data: `name`, `source` and `licence` of the training data; those that are None stay as they are.
        limits: sentences that the card's section on limits ends with.
        hide: cut absolute paths in the records and config.yaml down to their last part.

    Raises:
        ValueError: for a record that cannot be read, or data with a licence and without a name.
    """
    for file in ("record.json", *PARTS):
        if (part := read_json(folder / file)) and hide:
            write_text(folder / file, json.dumps(hide_paths(part), indent=2) + "\n")
    if hide and (folder / "config.yaml").is_file():
        write_text(folder / "config.yaml", hide_paths((folder / "config.yaml").read_text(encoding="utf-8")))
    record = read_json(folder / "record.json")
    check_record(record, str(folder / "record.json"))
    about = dict(record.get("about", {}))
    given = {key: value for key, value in (data or {}).items() if value is not None}
    if given:
        with record_errors(str(folder / "record.json")):
            known = about.get("data") or [{"name": data_name(record)}]
            about["data"] = [known[0] | given, *known[1:]]
        if about["data"][0]["name"] is None:
            raise ValueError("It is not recorded what the data is called: say it with --data-name.")
    about |= {key: value for key, value in {"licence": licence, "limits": limits}.items() if value}
    if about != record.get("about", {}):
        write_text(folder / "record.json", json.dumps({"about": about} | record | {"about": about}, indent=2) + "\n")


def is_machine_made(text: str) -> bool:
    """Whether nobody wrote this card or app, or added to it, so that it may be written anew."""
    short = SHORT in text and text.rstrip().endswith(SHORT_ENDS) and "\n## " not in text
    return short or any(sign in text for sign in MACHINE_MADE)


def write_card(folder: Path, source: str | None = None) -> list[Path]:
    """Write README.md and `.eval_results/*.yaml` of the model in `folder`, from its record; the files written.

    Args:
        folder: of a classifier, an upscaler or a segmenter, as `save_pretrained` or a training leaves it.
        source: the Hub id that the card loads the model by; where not given, the name of a shipped checkpoint or the
            folder's.

    Raises:
        FileNotFoundError, ValueError: if there is no such model, or a record that cannot be read.
    """
    files = card_files(folder, source=source)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def card_files(folder: Path, *, source: str | None = None) -> dict[str, str]:
    """The text of the files of [`write_card`], by their path in `folder`."""
    config, record = load_config(str(folder)), read_record(folder)
    kind = task_of(config, str(folder))
    with record_errors(record_files(folder)):
        return written_files(folder, config, record, kind, source)


def written_files(folder: Path, config: Any, record: Record, kind: Task, source: str | None) -> dict[str, str]:
    task, scale = kind.pipeline, config.scale if kind is SUPER_RESOLUTION else None
    shipped = source is None and folder.resolve().parent == FOLDER
    name = folder.resolve().name
    title = source.split("/")[-1] if source else name
    source = source or (name if shipped or folder.is_absolute() else folder.as_posix())
    method = quantization(config)
    remote = is_own_family(config) and not shipped
    command = f"hfvision {kind.verb} photo.jpg --model {shlex.quote(source)}"
    weights = sum(path.stat().st_size for kind in WEIGHTS for path in folder.glob(f"*{kind}"))
    sections = {
        "": [describe(config, record, scale, weights)],
        "Use": [
            fenced(usage(json.dumps(source, ensure_ascii=False), task, scale, shipped, remote, method), "python"),
            f"or {code(command)}.",
        ],
        "Figures": figures(record, task, name, scale),
        "Robustness": robustness_tables(record["robustness"]) if "robustness" in record else [],
        "Compression": compression_tables(record) if "compression" in record else [],
        "Training": training(record),
        "Intended use and limits": limits(config, record, scale),
        "Citation": [citation(record)],
    }
    text = [
        f"---\n{metadata(record, task, title, name, scale, method).to_yaml()}\n---",
        GENERATED,
        f"# {plain(title)}",
    ]
    for heading, paragraphs in sections.items():
        text += [f"## {heading}"] if heading and paragraphs else []
        text += map(wrapped, paragraphs)
    files = {"README.md": "\n\n".join(text) + "\n"}
    return files | {f".eval_results/{file}": entry for file, entry in eval_results(record, name, scale).items()}


def wrapped(paragraph: str) -> str:
    if paragraph.startswith(("|", "```")):
        return paragraph
    first, *lines = wrap(paragraph, 119, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join([first, *map(start_of_line, lines)])


def metadata(record: Record, task: str, title: str, name: str, scale: int | None, method: str | None) -> ModelCardData:
    about, dataset = record.get("about", {}), hub_dataset(record)
    emissions = record.get("training", {}).get("emissions")
    segments = task == "image-segmentation"
    entries = segmentation_entries(record) if segments else model_index(record, task, name, scale)
    return ModelCardData(
        library_name=method if method in ("openvino", "onnx") else "transformers",
        pipeline_tag="image-to-image" if scale else task,
        license=about.get("licence"),
        datasets=None if scale or dataset is None else [dataset],
        metrics=list(dict.fromkeys(entry.metric_type for entry in entries)) or None,
        tags=["hfvision", *(["super-resolution"] if scale else []), *([method] if method else [])],
        model_name=title if entries else None,
        eval_results=entries or None,
        **({"co2_eq_emissions": emissions} if emissions else {}),
    )


def usage(source: str, task: str, scale: int | None, shipped: bool, remote: bool, method: str | None) -> str:
    """Lines of Python that load the model called `source`, in quotation marks, and use it on `photo.jpg`."""
    name = next(kind.verb for kind in TASKS if kind.pipeline == task)
    trust = ", trust_remote_code=True" if remote else ""
    answer = f'upscale("photo.jpg").save("photo_x{scale}.png")' if scale else f'print({name}("photo.jpg")[0])'
    if method == "onnx":
        return f"""import onnxruntime
from huggingface_hub import hf_hub_download

session = onnxruntime.InferenceSession(hf_hub_download({source}, "model.onnx"))
print([(port.name, port.shape) for port in (*session.get_inputs(), *session.get_outputs())])"""
    if method and scale:
        return f"""from hfvision import upscale

upscale("photo.jpg", {source}).save("photo_x{scale}.png")"""
    if method == "openvino" and not shipped:
        return f"""from optimum.intel import OVModelForImageClassification
from transformers import AutoImageProcessor, pipeline

settings = {{"INFERENCE_PRECISION_HINT": "f32"}}
model = OVModelForImageClassification.from_pretrained({source}, ov_config=settings{trust})
processor = AutoImageProcessor.from_pretrained({source}{trust})
{name} = pipeline("{task}", model=model, image_processor=processor)
{answer}"""
    if method in ("openvino", "quanto"):
        return f"""from hfvision import load_model
from transformers import pipeline

model, processor = load_model({source}, "{task}")
{name} = pipeline("{task}", model=model, image_processor=processor)
{answer}"""
    imports = "import hfvision\nfrom transformers import pipeline" if shipped else "from transformers import pipeline"
    model = f"hfvision.checkpoint({source})" if shipped else source
    return f'{imports}\n\n{name} = pipeline("{task}", model={model}{trust})\n{answer}'


def figures(record: Record, task: str, name: str, scale: int | None) -> list[str]:
    evaluation = record.get("evaluation", {})
    if scale:
        rows = superres_rows(record, scale)
        paragraphs = superres_tables(rows, scale) if own_row(rows, name) else []
    elif task == "image-segmentation":
        paragraphs = segmentation_tables(record)
    else:
        results = classifier_results(record)
        paragraphs = classifier_tables(results) if results else []
        paragraphs += binary_table(record["binary"]) if "binary" in record else []
        paragraphs += [calibration_sentence(record["calibration"])] if "calibration" in record else []
        low = evaluation.get("low_confidence")
        paragraphs += [low_confidence_sentence(low)] if low else []
    if paragraphs and evaluation.get("command"):
        paragraphs += ["Printed by", fenced(evaluation["command"], "bash")]
    about = record.get("about", {})
    if paragraphs and about.get("note"):
        paragraphs.append(plain(about["note"]))
    return [*([published_sentence(about["weights"])] if "weights" in about else []), *paragraphs]
