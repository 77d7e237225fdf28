"""The tasks that models are trained for, and the one place that says which of them a model does."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from transformers import PreTrainedConfig

from ..hub.loading import AUTO_MODELS, supports
from ..models.registry import IMAGE_PROCESSORS
from .card import CardSection
from .classification import card as classification
from .compression import QualityMetric, TaskCompression
from .segmentation import card as segmentation
from .super_resolution import card as super_resolution

EXAMPLE_SIDE = 64  # pixels of an example image for a network of any size
SIDES_TO_PAD = (67, 75)  # of an example image for one that pads: no stride divides them


@dataclass(frozen=True)
class Task:
    """What differs between tasks for everything that takes models of any task.

    Attributes:
        name: the folder of the task in `hfvision.tasks`.
        pipeline: the task of transformers' `pipeline`, a key of `AUTO_MODELS`.
        output: the field of a model's output that holds its answer.
        verb: the command that applies a model to images.
        noun: what a model of this task is called in messages.
        any_size: whether the network takes images of any size.
        card: what the card of a model says that differs between tasks.
        trainer: what `hfvision train` calls it.
        metric: how well a model does.
        pads: whether the network pads its images to what its strides divide.
    """

    name: str
    pipeline: str
    output: str
    verb: str
    noun: str
    any_size: bool
    card: CardSection = field(repr=False, compare=False)
    trainer: str
    metric: QualityMetric
    pads: bool = False

    @property
    def compression(self) -> TaskCompression:
        """How models of this task are compressed: the module `compression` in the folder of the task, imported when it
        is asked for, as it brings the task's training with it."""
        return import_module(f"{__package__}.{self.name}.compression").COMPRESSION

    @property
    def auto_class(self) -> Any:
        """transformers' Auto class that loads the models of this task."""
        return AUTO_MODELS[self.pipeline]

    def example_side(self, config: PreTrainedConfig) -> int:
        """The side in pixels of a square example image for a model of this task."""
        if self.any_size and not getattr(config, "image_size", None):
            return EXAMPLE_SIDE
        side = getattr(config, "image_size", None) or 224
        return side if isinstance(side, int) else max(side)

    def signature(self, config: PreTrainedConfig) -> tuple[Any, ...]:
        """What models must have in common to be compared: task, scale or classes, and the shape of an example image,
        C, H and W."""
        scale = getattr(config, "scale", None) if self is SUPER_RESOLUTION else None
        answers = f"×{scale}" if scale else f"{config.num_labels} classes"
        side = self.example_side(config)
        return (self.noun, answers, getattr(config, "num_channels", 3), side, side)


CLASSIFICATION = Task(
    name="classification",
    pipeline="image-classification",
    output="logits",
    verb="classify",
    noun="a classifier",
    any_size=False,
    card=classification.CARD,
    trainer="classifier",
    metric=QualityMetric("top1", "top-1", "{:.2%}", "{:.2%}"),
)
SUPER_RESOLUTION = Task(
    name="super_resolution",
    pipeline="image-super-resolution",
    output="reconstruction",
    verb="upscale",
    noun="an upscaler",
    any_size=True,
    card=super_resolution.CARD,
    trainer="superres",
    metric=QualityMetric("psnr", "PSNR", "{:.2f} dB", "{:.1f} dB", unit=1),
)
SEGMENTATION = Task(
    name="segmentation",
    pipeline="image-segmentation",
    output="logits",
    verb="segment",
    noun="a segmenter",
    any_size=True,
    card=segmentation.CARD,
    trainer="segmenter",
    metric=QualityMetric("dice", "Dice", "{:.4f}", "{:.2%}"),
    pads=True,
)
TASKS = (CLASSIFICATION, SUPER_RESOLUTION, SEGMENTATION)
METRICS = {task.metric.name: task.metric for task in TASKS}


def find_task(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> Task | None:
    """The task of a model with this configuration; None for a model of another kind.

    Args:
        config: of any model that transformers knows.
        trust_remote_code: go by the Auto classes that the code of a repository names, too.
    """
    return next((task for task in TASKS if supports(config, task.pipeline, trust_remote_code=trust_remote_code)), None)


def task_of(config: PreTrainedConfig, name: str, *, trust_remote_code: bool = False) -> Task:
    """[`find_task`] of the model called `name` in messages.

    Raises:
        ValueError: for a model of another kind.
    """
    task = find_task(config, trust_remote_code=trust_remote_code)
    if task is None:
        *others, last = (task.noun for task in TASKS)
        raise ValueError(f"{name} is a {config.model_type!r} model, not {', '.join(others)} or {last}.")
    return task


def is_own_family(config: PreTrainedConfig) -> bool:
    """Whether the model is of one of this package's families, whose code travels with pushed weights."""
    return type(config) in IMAGE_PROCESSORS
