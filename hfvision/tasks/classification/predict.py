"""Says what is in images, by a classifier."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from PIL import Image

from ...data.datasets.class_names import class_names
from ...data.image_source import ImageLike, load_image
from ...hub.checkpoints import DEFAULT_CLASSIFIER
from ...hub.loading import LoadedModel, ModelLike
from ...hub.memory import load_once
from .confidence import is_low, recorded_threshold


@dataclass(frozen=True)
class Classification:
    """What a classifier says of an image.

    Attributes:
        scores: the probability, 0 to 1, of each of the likeliest classes, by name, likeliest first.
        low_confidence: whether the likeliest class is more likely wrong than right, as measured when the model was
            evaluated; None where that is not recorded.
    """

    scores: dict[str, float]
    low_confidence: bool | None = None

    @property
    def label(self) -> str:
        """The likeliest class."""
        return next(iter(self.scores))

    @property
    def probability(self) -> float:
        """Of the likeliest class, 0 to 1."""
        return self.scores[self.label]

    def __repr__(self) -> str:
        shown = ", ".join(f"{label} {score:.1%}" for label, score in self.scores.items())
        return f"Classification({shown}{'; low confidence' if self.low_confidence else ''})"


@overload
def classify(
    image: ImageLike, model: ModelLike = DEFAULT_CLASSIFIER, *, top: int = 5, trust_remote_code: bool = False
) -> Classification: ...
@overload
def classify(
    image: Sequence[ImageLike], model: ModelLike = DEFAULT_CLASSIFIER, *, top: int = 5, trust_remote_code: bool = False
) -> list[Classification]: ...
def classify(
    image: ImageLike | Sequence[ImageLike],
    model: ModelLike = DEFAULT_CLASSIFIER,
    *,
    top: int = 5,
    trust_remote_code: bool = False,
) -> Classification | list[Classification]:
    """Say what is in an image, or in each of several.

    >>> hfvision.classify(hfvision.sample_photos()["coffee"], top=2)
    Classification(espresso 95.0%, cup 1.5%)
    >>> hfvision.classify(hfvision.sample_photos()["cat"], "cnn-cifar10-small").label
    'cat'

    Args:
        image: path, address, bytes, PIL image or array of any size, see [`load_image`]; or a list of these.
        model: a classifier by Hub id, folder or name of a shipped checkpoint, or a loaded one. The last models that
            were named are kept in memory, see [`hub.memory.load_once`].
        top: how many classes to give, the likeliest first.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such image or model.
        ValueError: for what is no readable image, or no classifier that can be loaded, or `top` below 1.
        FloatingPointError: if the model gives values that are not finite.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}.")
    loaded = load_once(model, "image-classification", trust_remote_code=trust_remote_code)
    threshold = recorded_threshold(os.fspath(model)) if isinstance(model, str | os.PathLike) else None
    if isinstance(image, list | tuple):
        return [classify_image(load_image(each), loaded, top=top, threshold=threshold) for each in image]
    return classify_image(load_image(image), loaded, top=top, threshold=threshold)  # pyright: ignore[reportArgumentType]


@torch.inference_mode()
def classify_image(
    image: Image.Image, loaded: LoadedModel, *, top: int = 5, threshold: float | None = None
) -> Classification:
    """[`classify`] for an image that is read and a classifier that is loaded.

    Args:
        image: of any mode and size.
        loaded: the classifier and its image processor.
        top: how many classes to give.
        threshold: from [`recorded_threshold`].

    Raises:
        FloatingPointError: if the model gives values that are not finite.
    """
    model, processor = loaded
    inputs = processor(image, return_tensors="pt").to(model.device, model.dtype)
    logits = model(**inputs).logits[0].float()
    if not logits.isfinite().all():
        raise FloatingPointError(f"{type(model).__name__} gives logits that are not finite: its weights are damaged.")
    probabilities, indices = logits.softmax(-1).topk(min(top, len(logits)))
    names = class_names(model.config)
    scores = dict(zip([names[index] for index in indices.tolist()], probabilities.tolist(), strict=True))
    return Classification(scores, is_low(next(iter(scores.values())), threshold))
