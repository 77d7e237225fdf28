"""The tasks that models are trained for, and the one place that says which of them a model does."""

from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedConfig

from ..hub.loading import AUTO_MODELS, supports
from ..models.registry import IMAGE_PROCESSORS
from .card import CardSection
from .classification import card as classification
from .segmentation import card as segmentation
from .super_resolution import card as super_resolution

EXAMPLE_SIDE = 64  # pixels of an example image for a network of any size


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
    """

    name: str
    pipeline: str
    output: str
    verb: str
    noun: str
    any_size: bool
    card: CardSection = field(repr=False, compare=False)

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


CLASSIFICATION = Task(
    name="classification",
    pipeline="image-classification",
    output="logits",
    verb="classify",
    noun="a classifier",
    any_size=False,
    card=classification.CARD,
)
SUPER_RESOLUTION = Task(
    name="super_resolution",
    pipeline="image-super-resolution",
    output="reconstruction",
    verb="upscale",
    noun="an upscaler",
    any_size=True,
    card=super_resolution.CARD,
)
SEGMENTATION = Task(
    name="segmentation",
    pipeline="image-segmentation",
    output="logits",
    verb="segment",
    noun="a segmenter",
    any_size=True,
    card=segmentation.CARD,
)
TASKS = (CLASSIFICATION, SUPER_RESOLUTION, SEGMENTATION)


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
