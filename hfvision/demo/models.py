"""Which models the demo offers: what the package carries and what it was started with, sorted by their records."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..compression.quantize import packed_bytes
from ..hub.checkpoints import DEFAULT_CLASSIFIER, list_checkpoints
from ..hub.files import resolve_model
from ..hub.loading import load_config, load_model, quantization
from ..hub.openvino_model import OpenVINOModel
from ..records import ModelRecord, read_record
from ..tasks.base import CLASSIFICATION, SUPER_RESOLUTION, Task, task_of


@dataclass(frozen=True)
class Offer:
    """A model that can be chosen.

    Attributes:
        name: a shipped checkpoint, a folder or a Hub id.
        task: what it does.
        scale: of an upscaler.
        parent: what it was made from, of a compressed model.
        quantized: whether it is one of 8 bits, computed by OpenVINO.
        hardened: whether it was trained on attacked images.
        gan: whether it was trained as a GAN.
    """

    name: str
    task: Task
    scale: int | None = None
    parent: str | None = None
    quantized: bool = False
    hardened: bool = False
    gan: bool = False

    @property
    def label(self) -> str:
        """What people see: the name without the folders it lies in."""
        return self.name if self.name in list_checkpoints() else Path(self.name).name


@dataclass(frozen=True)
class Offers:
    """All models of a demo."""

    models: tuple[Offer, ...] = ()

    def classifiers(self) -> list[Offer]:
        """Classifiers that are no compressed form of another one; the first is what the tabs begin with."""
        names = {model.name for model in self.models}
        return [m for m in self.models if m.task is CLASSIFICATION and not (m.quantized and m.parent in names)]

    def upscalers(self) -> list[Offer]:
        return [model for model in self.models if model.task is SUPER_RESOLUTION and not model.quantized]

    def compressed(self, name: str) -> Offer | None:
        """The compressed form of the model called `name`, the quantized one before others."""
        forms = [model for model in self.models if model.parent == name]
        return max(forms, key=lambda model: model.quantized, default=None)

    def attacked(self) -> list[Offer]:
        """The first standard and the first hardened classifier of one set of classes, where there are both."""
        able = [model for model in self.classifiers() if not model.quantized and model.parent is None]
        hardened = next((model for model in able if model.hardened), None)
        standard = [model for model in able if not model.hardened]
        if hardened is None:
            return standard[:1]
        classes = load_config(hardened.name).id2label
        return [*[m for m in standard if load_config(m.name).id2label == classes][:1], hardened]

    def find(self, label: str) -> Offer:
        """The model of this label or name.

        Raises:
            ValueError: if there is none.
        """
        for model in self.models:
            if label in (model.name, model.label):
                return model
        raise ValueError(f"There is no model {label!r}: choose of {', '.join(model.label for model in self.models)}.")


def find_offers(extra: Sequence[str] = ()) -> Offers:
    """What the package carries, its default classifier first, after the models of `extra`: folders or Hub ids.

    Models that need a library that is not installed are left out.

    Raises:
        FileNotFoundError, ValueError: as of [`loading.load_config`], for a model of `extra`.
    """
    shipped = sorted(list_checkpoints(), key=lambda name: name != DEFAULT_CLASSIFIER)
    names = dict.fromkeys([*extra, *shipped])
    found = [offer(name) for name in names]
    return Offers(tuple(model for model in found if not model.quantized or find_spec("openvino")))


def offer(name: str) -> Offer:
    config, folder = load_config(name), Path(resolve_model(name))
    record = read_record(folder) if folder.is_dir() else ModelRecord()
    return Offer(
        name,
        task_of(config, name),
        scale=getattr(config, "scale", None),
        parent=record.parent,
        quantized=quantization(config) == "openvino",
        hardened=record.settings.is_adversarial,
        gan=record.settings.uses_gan,
    )


@lru_cache(maxsize=8)
def load(name: str) -> tuple[Any, Any]:
    """The model and its image processor, in fp32, on the GPU where there is one."""
    model: Any
    model, processor = load_model(name, task_of(load_config(name), name).pipeline)
    model = model.float()
    if torch.cuda.is_available() and not isinstance(model, OpenVINOModel):
        model = model.to("cuda")
    return model, processor


def megabytes(name: str) -> float | None:
    """The size of a model's weights in MB, where they are on this disk."""
    size = packed_bytes(Path(resolve_model(name)))
    return size / 1e6 if size else None
