"""What a task hands over to the cards of its models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry
from transformers import PreTrainedConfig

from ..records import ModelRecord
from ..utils.markdown import plain


@dataclass(frozen=True)
class CardSubject:
    """The model that a card is of: its configuration, its record, and what it is called."""

    config: PreTrainedConfig
    record: ModelRecord
    name: str


@dataclass(frozen=True)
class CardSection:
    """The part of a card that differs between tasks; paragraphs are Markdown.

    Attributes:
        pipeline_tag: the task, as the Hub calls it.
        tags: further tags for the Hub.
        kind: what a model is, as `A convolutional network`.
        classes: sentences on what it distinguishes.
        paragraphs: by the heading of their section: `Figures`, `Robustness`.
        results: the figures as entries of the front matter's `model-index`.
        benchmarks: the figures on data sets of the Hub, as entries of its `.eval_results` files.
        limits: sentences on what a model is for, and what not.
        example: a line of Python that uses the pipeline on `photo.jpg`.
    """

    pipeline_tag: str
    kind: Callable[[PreTrainedConfig], str | None]
    classes: Callable[[PreTrainedConfig], list[str]]
    paragraphs: Callable[[CardSubject], dict[str, list[str]]]
    results: Callable[[CardSubject], list[EvalResult]]
    benchmarks: Callable[[CardSubject], list[EvalResultEntry]]
    limits: Callable[[CardSubject], list[str]]
    example: Callable[[PreTrainedConfig], str]
    tags: tuple[str, ...] = ()


def class_sentence(config: PreTrainedConfig, where: str = "") -> str:
    """How many classes a model distinguishes, and the names of the first 20."""
    names = list((config.id2label or {}).values())
    separator = "; " if any("," in name for name in names) else ", "
    shown = separator.join([*map(plain, names[:20]), *(["…"] if len(names) > 20 else [])])
    return f"It distinguishes {len(names)} classes{where}: {shown}."


def hardware(device: str | None, threads: int | None) -> str:
    if device not in (None, "cpu"):
        return plain(device)
    return "CPU" if threads is None else f"{threads} CPU thread{'s' if threads > 1 else ''}"


def number(value: float | None, form: str) -> str:
    """A figure in a format such as `.2%`; a dash where there is none."""
    return "–" if value is None else format(value, form)


def intended_for(record: ModelRecord) -> str:
    data = record.data_name
    return f"For images like those of {plain(data)}." if data else "For images like those it was trained on."


@dataclass(frozen=True)
class ResultData:
    """Data of an entry of `model-index`: its name, its Hub id where it has one, its split, and the task."""

    task_type: str
    task_name: str
    name: str
    hub_id: str | None = None
    split: str | None = None

    def entry(self, metric: str, label: str, value: float, arguments: dict[str, Any] | None = None) -> EvalResult:
        return EvalResult(
            task_type=self.task_type,
            task_name=self.task_name,
            dataset_type=self.hub_id or "-".join(self.name.lower().replace(",", "").split()),
            dataset_name=self.name,
            dataset_split=self.split,
            metric_type=metric,
            metric_name=label,
            metric_value=value,
            metric_args=arguments or None,
        )
