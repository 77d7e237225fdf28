"""The examples in docstrings run, in one process, on data that is made here."""

import doctest
import importlib
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hub_server import HubServer
from PIL import Image

import hfvision
from hfvision.hub.loading import load_model
from hfvision.utils.types import InMemory

# In this order: what is pushed or distilled was trained before.
MODULES = (
    "utils.types",
    "data.image_source",
    "data.datasets.sources",
    "hub.loading",
    "tasks.classification.predict",
    "tasks.segmentation.predict",
    "tasks.super_resolution.perceptual",
    "tasks.super_resolution.upscale",
    "api.training",
    "api.evaluation",
    "api.images",
    "api.compression",
)


def pictures(count: int, side: int, mode: str = "RGB") -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    return [Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples use without making it."""
    clothes = hfvision.sample_dataset()
    classes = list(load_model("cnn-cifar10-small").model.config.id2label.values())
    labels = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=classes))
    image, mask = (pictures(4, 64, mode) for mode in ("RGB", "L"))
    mask = [picture.point(lambda value: 255 * (value > 127)) for picture in mask]
    masks = datasets.Features(image=datasets.Image(), mask=datasets.Image())
    photos = [Image.open(path).convert("RGB").crop((0, 0, 128, 128)) for path in hfvision.sample_photos().values()]
    return {
        "hfvision": hfvision,
        "np": np,
        "InMemory": InMemory,
        "runs": Path("runs"),  # in the folder where the examples run
        "few_clothes": datasets.DatasetDict(train=clothes["train"].take(60), test=clothes["test"].take(60)),
        "few_cifar": datasets.Dataset.from_dict(
            {"image": pictures(20, 32), "label": [*range(10)] * 2}, features=labels
        ),
        "few_masks": datasets.Dataset.from_dict({"image": image, "mask": mask}, features=masks),
        "few_photos": datasets.Dataset.from_dict(
            {"image": photos}, features=datasets.Features(image=datasets.Image())
        ),
    }


@pytest.mark.parametrize("module", MODULES)
def test_examples(
    module: str,
    names: dict[str, Any],
    folder: Path,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    monkeypatch.chdir(folder)
    loaded = importlib.import_module(f"hfvision.{module}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = doctest.testmod(
            loaded, extraglobs=names, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
        )
    assert result.attempted
    assert not result.failed, capsys.readouterr().out
