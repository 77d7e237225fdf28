"""How good a model is, on any data."""

import tempfile
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, cast

from ..data.datasets.class_names import class_names
from ..data.datasets.classification import load_image_dataset
from ..data.datasets.photos import load_photos
from ..data.datasets.prepare import prepare_images
from ..data.datasets.segmentation import MaskedImages, load_mask_dataset, name_classes
from ..data.datasets.sources import describe_source, without_streams
from ..hub.loading import LoadedModel, ModelLike
from ..hub.memory import load_once
from ..hub.records import validation_settings
from ..records import ClassifierFigures, SegmenterFigures, UpscalerFigures
from ..records.figures import ImageQuality
from ..tasks.base import CLASSIFICATION, SEGMENTATION, SUPER_RESOLUTION, task_of
from ..tasks.classification.evaluate import evaluate_classifier
from ..tasks.segmentation.evaluate import evaluate_segmenter
from ..tasks.super_resolution.baselines import network
from ..tasks.super_resolution.evaluate import find_sets, measure_sets
from ..utils.types import DataSource, unwrap

Figures = ClassifierFigures | SegmenterFigures | UpscalerFigures
Split = Literal["test", "validation", "train"]


def evaluate(
    model: ModelLike,
    data: DataSource,
    *,
    split: Split = "test",
    tta: str = "none",
    batch_size: int = 256,
    trust_remote_code: bool = False,
) -> Figures:
    """Measure how good a model is: a classifier, a segmenter or an upscaler.

    >>> hfvision.evaluate("cnn-cifar10-small", few_cifar, split="train").images
    20
    >>> hfvision.evaluate("sr-tiny-x2", few_photos)
    UpscalerFigures(×2: photos 38.58 dB)

    Args:
        model: Hub id, folder or name of a shipped checkpoint, or a loaded model, which is not changed.
        data: labelled images as for [`load_image_dataset`], images with masks as for [`load_mask_dataset`], or for an
            upscaler photographs: folders, or a data set.
        split: part of the data; not for photographs. The validation part is chosen as the model's training chose it.
        tta: test-time augmentation: `none`, `flip`, for classifiers `flip_shift`, for segmenters `turn`.
        batch_size: images a step, of a classifier.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Returns:
        `ClassifierFigures` (`top1`, `top1_interval`, `ece`, `classes` …), `SegmenterFigures` (`dice`, `iou` …) or
        `UpscalerFigures` (`sets`, each with `psnr`, `ssim` and `niqe`, by the protocol of the literature).

    Raises:
        FileNotFoundError: if there is no such model or data.
        ValueError: if the data has no such split, or its classes are not the model's.
    """
    loaded = load_once(model, trust_remote_code=trust_remote_code, float32=True)
    task = task_of(loaded.model.config, type(loaded.model).__name__, trust_remote_code=True)
    if task is SUPER_RESOLUTION:
        if split != "test" or tta != "none":
            raise ValueError("split and tta are for classifiers and segmenters: leave them out for an upscaler.")
        return evaluate_photos(loaded, data)
    chosen: dict[str, Any] = {"validation": 0 if split == "train" else 0.1}
    if split == "validation":
        chosen = validation_settings(fspath(model)) if isinstance(model, str | PathLike) else {}
    load = load_image_dataset if task is CLASSIFICATION else load_mask_dataset
    splits = without_streams(load(data, **chosen), data)
    if split not in splits:
        raise ValueError(f"{describe_source(data)} has no split {split!r}: choose {' or '.join(map(str, splits))}.")
    rows = splits[split]
    about = {"data": {"source": describe_source(data), "split": split, "fingerprint": rows._fingerprint}}
    if task is SEGMENTATION:
        images = MaskedImages(rows, getattr(loaded.model.config, "num_channels", 3))
        name_classes({split: images}, class_names(loaded.model.config))
        found = evaluate_segmenter(loaded.model, images, loaded.processor, tta=cast(Any, tta))
        return SegmenterFigures.from_json(plain(found) | about, "the evaluation")
    names = rows.features["label"].names
    prepared = prepare_images(rows, loaded.processor)
    options: Any = {"names": names, "batch_size": batch_size, "tta": tta}
    found = evaluate_classifier(loaded.model, prepared, loaded.processor, **options)
    return ClassifierFigures.from_json(plain(found) | about, "the evaluation")


def plain(found: Any) -> dict[str, Any]:
    return found.to_json() if hasattr(found, "to_json") else dict(found)


def evaluate_photos(loaded: LoadedModel, data: DataSource) -> UpscalerFigures:
    """[`evaluate`] for an upscaler; photographs of a data set are written to a folder, as PNG, for it."""
    upscaler = network("model", loaded.model)
    data = unwrap(data)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(data, str | PathLike):
            sets: Mapping[str, Path] = find_sets([fspath(data)])
        else:
            photos = load_photos(data)
            for number, photo in enumerate(photos):
                photo.save(Path(folder, f"{number:06}.png"))
            sets = {"photos": Path(folder)}
        found = measure_sets([upscaler], sets)["results"]["model"]
    qualities = {name: ImageQuality.from_json(row, "the evaluation") for name, row in found.items()}
    return UpscalerFigures(scale=upscaler.scale, sets=qualities, parameters=loaded.model.num_parameters())
