"""Calibration of a classifier: temperature scaling, fitted on validation images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from torch import nn
from transformers import PreTrainedModel

from ...data.datasets.class_names import class_names, match_classes
from ...data.datasets.classification import load_image_dataset
from ...data.datasets.prepare import prepare_images
from ...data.datasets.splits import choose_groups, choose_validation
from ...data.transforms.normalize import Normalize
from ...hub.loading import load_model, quantization
from ...hub.records import earlier_record, validation_settings
from ...metrics.calibration import fit_temperature
from ...records import Calibration, CalibrationError, ClassifierFigures, ModelRecord, write_record
from ...utils.files import atomic_model_folder, check_model_folder
from ...utils.plots import reliability_diagram
from .evaluate import evaluate_classifier, predict_logits


@dataclass(frozen=True)
class CalibrationData:
    """How the labelled images of a source are read, as for [`data.datasets.classification.load_image_dataset`].

    Attributes:
        image_column, label_column: where they are not found automatically.
        validation, validation_group: where the data has no validation split; where not given, those that the record
            of the model's training has, so that the temperature is not fitted on images of the training.
    """

    image_column: str | None = None
    label_column: str | None = None
    validation: float | None = None
    validation_group: str | None = None


def calibrate(
    model: str,
    data: str,
    out: Path,
    options: CalibrationData | None = None,
    *,
    force: bool = False,
    trust_remote_code: bool = False,
) -> ModelRecord:
    """Fit the temperature of a classifier on validation images, write the calibrated model, and measure the effect.

    Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"): the last layer's weights and
    biases are divided by the temperature, so that whatever loads the model gets calibrated probabilities; predicted
    classes are the same. The effect is measured on the test split, or, where the data has none, on a half of the
    validation images that is then not fitted on.

    Args:
        model: Hub id, folder or shipped checkpoint.
        data: as for [`data.datasets.classification.load_image_dataset`].
        out: folder for the model, its processor, record.json and reliability.png, before and after.
        options: how the data is read.
        force: replace an existing model.
        trust_remote_code: as for [`loading.load_model`].

    Returns:
        The record: what was recorded of the model before, `test` as of [`evaluate_classifier`], and
        `calibration` with `temperature`, the number of `images`, the `split` and the `data` that it was fitted on,
        `measured_on`, and `before` and `after` with `nll` and `ece`.

    Raises:
        FileNotFoundError: if the model or the data does not exist.
        ValueError: if model and data do not fit, no temperature is the best, or the model's logits cannot be scaled.
    """
    check_model_folder(out, force=force)
    net, processor = load_model(model, "image-classification", trust_remote_code=trust_remote_code)
    splits, fitted_on, measured_on = calibration_splits(model, data, options or CalibrationData())
    names = splits["train"].features["label"].names
    images = {split: prepare_images(splits[split], processor) for split in ("validation", "test")}
    net = net.float()
    normalize = Normalize.from_processor(processor)
    order = match_classes(class_names(net.config), names)
    before = evaluate_classifier(net, images["test"], processor, names=names)
    logits, labels = predict_logits(net, images["validation"], normalize)
    temperature = fit_temperature(logits[:, order], labels)
    scale_logits(net, 1 / temperature, images["validation"][0]["images"], normalize)
    after = evaluate_classifier(net, images["test"], processor, names=names)
    errors = [CalibrationError(nll=figures["nll"], ece=figures["ece"]) for figures in (before, after)]
    fit: dict[str, Any] = {"temperature": temperature, "images": len(labels), "split": fitted_on, "data": data}
    calibration = Calibration(**fit, measured_on=measured_on, before=errors[0], after=errors[1])
    test = ClassifierFigures.from_json(after, "test")
    record = replace(earlier_record(model), test=test, calibration=calibration)
    with atomic_model_folder(out) as folder:
        net.save_pretrained(folder)
        processor.save_pretrained(folder)
        reliability_diagram(before["reliability"], folder / "reliability_before.png")
        reliability_diagram(after["reliability"], folder / "reliability.png")
        write_record(folder / "record.json", record)
    return record


def calibration_splits(model: str, data: str, options: CalibrationData) -> tuple[DatasetDict, str, str]:
    """The data with a `validation` split to fit on and a `test` split to measure on, and what these are."""
    splits = load_image_dataset(
        data,
        image_column=options.image_column,
        label_column=options.label_column,
        **validation_settings(model, options.validation, options.validation_group),
    )
    if not isinstance(splits, DatasetDict):
        raise ValueError("A stream cannot be calibrated on: give data with a known length.")
    if "test" in splits:
        return splits, "validation", "test"
    return halved(splits), "half of validation", "the other half of validation"


def halved(splits: DatasetDict) -> DatasetDict:
    """The splits with one half of each class of `validation`, by whole groups where there are any, as `test`."""
    if "validation" not in splits:
        raise ValueError("There are no validation images to fit a temperature on: ask for a part with --validation.")
    whole = splits["validation"]
    labels = np.asarray(whole.with_format("numpy")["label"][:])
    by_group = "group" in whole.column_names
    chosen = choose_groups(labels, whole["group"][:], 0.5, 0) if by_group else choose_validation(labels, 0.5, 0)
    sides = {"validation": ~chosen, "test": chosen}
    return DatasetDict(splits | {name: whole.select(side.nonzero()[0]) for name, side in sides.items()})


@torch.no_grad()
def scale_logits(model: PreTrainedModel, factor: float, image: torch.Tensor, normalize: Normalize) -> None:
    """Multiply a classifier's logits by `factor`, in the weights and biases of its last layers.

    Args:
        model: whose linear layers with `num_labels` outputs are the last ones.
        factor: above 0.
        image: uint8 (C, H, W), to check the scaled logits on.
        normalize: the model's.

    Raises:
        ValueError: if that does not multiply the logits by `factor`; the model is then unchanged.
    """
    if quantization(model.config) is not None:
        raise ValueError("The weights are quantized: calibrate the model that they were made from, then quantize it.")
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels]
    parameters = [parameter for head in heads for parameter in head.parameters()]
    pixel_values = normalize(image[None].to(model.device)).to(model.dtype)
    before = model(pixel_values=pixel_values).logits
    saved = [parameter.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.mul_(factor)
    after = model(pixel_values=pixel_values).logits
    if not torch.allclose(after, before * factor, rtol=1e-3, atol=1e-3 * (before * factor).abs().max().item()):
        for parameter, value in zip(parameters, saved, strict=True):
            parameter.copy_(value)
        raise ValueError(
            f"The last layer of {type(model).__name__} is no linear one that gives its logits: not scaled."
        )


def format_calibration(calibration: Calibration) -> str:
    """The figures of [`calibrate`] for the terminal."""
    before, after = calibration.before, calibration.after
    lines = {
        "temperature": f"{calibration.temperature:.3f}, fitted on {calibration.images:,} images ({calibration.split})",
        "calibration error": f"{before.ece:.2%} before, {after.ece:.2%} after ({calibration.measured_on})",
        "negative log-likelihood": f"{before.nll:.4f} before, {after.nll:.4f} after",
    }
    return "\n".join(f"{name:25}{text}" for name, text in lines.items())
