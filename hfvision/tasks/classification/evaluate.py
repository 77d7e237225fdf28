"""Evaluation of a classifier on a labelled split: accuracy, calibration, each class, speed."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names, match_classes
from ...data.transforms.augment import test_time_views
from ...data.transforms.normalize import Normalize
from ...engine.loader import collate
from ...hub.loading import quantization
from ...metrics.accuracy import accuracy, wilson_interval
from ...metrics.calibration import expected_calibration_error, negative_log_likelihood, reliability
from ...metrics.confusion import class_scores, confusion_matrix
from ...robustness.attacks.threat import PixelClassifier
from ...utils.console import progress_bar

TestTimeAugmentation = Literal["none", "flip", "flip_shift"]


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    dataset: Dataset,
    normalize: Normalize,
    *,
    batch_size: int = 256,
    tta: TestTimeAugmentation = "none",
    accelerator: Accelerator | None = None,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The logits and labels of all images, the same on every process; the model is left in evaluation mode.

    Args:
        model: gives `.logits` for `pixel_values`; on the accelerator's device, prepared by it or not.
        dataset: from [`prepare_images`]. Unreadable images, which were replaced, are left out.
        normalize: the model's.
        batch_size: images a step and process.
        tta: whose [`data.transforms.augment.test_time_views`] the logits are averaged over.
        accelerator: made where not given.
        attack: changes the images first; one of [`robustness.attacks.gradient`] with its settings.

    Returns:
        Float32 (N, C) and int64 (N,), on the CPU, in the order of `dataset`.

    Raises:
        ValueError: if no image could be read.
    """
    accelerator = accelerator or Accelerator()
    # With its own generator: a loader draws from the global one otherwise, which a training may be using.
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate, generator=torch.Generator())
    loader = prepare_data_loader(loader, accelerator.device, put_on_device=True)
    floats = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    dtype = next(floats, torch.float32)
    model.eval()
    parts = []
    for batch in progress_bar(
        loader, desc="evaluating", mininterval=0.5, leave=False, disable=not accelerator.is_main_process
    ):
        images = batch["images"]
        if attack is not None:
            victim = PixelClassifier(accelerator.unwrap_model(model, keep_fp32_wrapper=True), normalize)
            with torch.inference_mode(False):  # for gradients
                images = attack(victim, images.float() / 255, batch["labels"].clone())
        logits = sum(
            weight * model(pixel_values=normalize(view).to(dtype)).logits.float()
            for weight, view in test_time_views(images, tta)
        )
        read = batch.get("read", torch.ones_like(batch["labels"], dtype=torch.bool))
        # The last batches are padded with the first images to be of one size on all processes.
        logits, labels, read = accelerator.gather_for_metrics((logits, batch["labels"], read))
        parts.append((logits[read].cpu(), labels[read].cpu()))
    logits, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    if not len(labels):
        raise ValueError("None of the images can be read.")
    return logits, labels


def evaluate_classifier(
    model: PreTrainedModel,
    dataset: Dataset,
    processor: BaseImageProcessor,
    *,
    names: Sequence[str] | None = None,
    batch_size: int = 256,
    tta: TestTimeAugmentation = "none",
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """All metrics of a classifier on one split, ready for JSON.

    Args:
        model: a classifier as it was loaded or trained, not prepared; it is moved to the accelerator's device.
        dataset: from [`data.datasets.prepare.prepare_images`] with `processor`.
        processor: the model's.
        names: of the data's classes, in the order of its labels; where not given, they are the model's.
        batch_size, tta, accelerator: as for [`predict_logits`].

    Returns:
        `images`; `top1` with its 95 % `top1_interval`, and `top5` for more than five classes, 0 to 1; `nll`; `ece`;
        `classes`, by name, with `images`, `precision`, `recall`, `f1`; `confusion_matrix`, rows are true classes;
        `reliability`, bins of confidence; `tta`; `parameters`; and `speed`: `images_per_second` of the whole
        evaluation, reading and all processes included, and on the main process `latency_ms` (`median`, `p90`) of one
        image from 8-bit pixels to logits, with `device`, `threads` and `dtype`.

    Raises:
        ValueError: if `names` are not the model's classes, or no image could be read.
    """
    accelerator = accelerator or Accelerator()
    normalize = Normalize.from_processor(processor)
    known = class_names(model.config)
    order = match_classes(known, names or known)
    model.to(accelerator.device).eval()  # pyright: ignore[reportArgumentType]  # the stub lacks torch.device
    start = time.perf_counter()
    logits, labels = predict_logits(model, dataset, normalize, batch_size=batch_size, tta=tta, accelerator=accelerator)
    speed: dict[str, Any] = {"images_per_second": len(labels) / (time.perf_counter() - start)}
    record = classification_metrics(logits[:, order], labels, names or known)
    if accelerator.is_main_process:
        speed |= single_image_speed(model, dataset, normalize, tta)
    accelerator.wait_for_everyone()
    return record | {"tta": tta, "parameters": model.num_parameters(), "speed": speed}


def classification_metrics(logits: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """The metrics of [`evaluate_classifier`] that follow from predictions.

    Args:
        logits: float (N, C).
        labels: int64 (N,).
        names: of the C classes.
    """
    top1 = accuracy(logits, labels)
    matrix = confusion_matrix(logits.argmax(1), labels, len(names))
    columns = {"images": matrix.sum(1)} | class_scores(matrix)._asdict()
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return {
        "images": len(labels),
        "top1": top1,
        "top1_interval": wilson_interval(top1, len(labels)),
        **({"top5": accuracy(logits, labels, top_k=5)} if len(names) > 5 else {}),
        "nll": negative_log_likelihood(logits, labels),
        "ece": expected_calibration_error(logits, labels),
        "classes": {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, rows, strict=True)},
        "confusion_matrix": matrix.tolist(),
        "reliability": {name: values.tolist() for name, values in reliability(logits, labels)._asdict().items()},
    }


@torch.inference_mode()
def single_image_speed(
    model: PreTrainedModel, dataset: Dataset, normalize: Normalize, tta: TestTimeAugmentation, seconds: float = 1.0
) -> dict[str, Any]:
    """Latency of single images, over `seconds` and at least ten images."""
    image = dataset[0]["images"][None].to(model.device)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 13 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        for _, view in test_time_views(image, tta):
            model(pixel_values=normalize(view).to(model.dtype))
        if model.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    median, p90 = torch.tensor(times[3:]).quantile(torch.tensor([0.5, 0.9])).tolist()
    return {
        "latency_ms": {"median": median, "p90": p90},
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "dtype": "int8" if quantization(model.config) == "openvino" else str(model.dtype).removeprefix("torch."),
    }


def format_evaluation(record: dict[str, Any]) -> str:
    """The figures of [`evaluate_classifier`], with `model` and `data`, for the terminal.

    Of more than 20 classes, the 20 of the lowest F1 are listed.
    """
    low, high = record["top1_interval"]
    data, speed, latency = record["data"], record["speed"], record["speed"]["latency_ms"]
    lines = {
        "model": f"{record['model']}, {record['parameters']:,} parameters",
        "data": f"{data['source']}, {data['split']}: {record['images']:,} images, {len(record['classes'])} classes",
        "top-1 accuracy": f"{record['top1']:.2%}, 95% interval {low:.2%} to {high:.2%}",
        **({"top-5 accuracy": f"{record['top5']:.2%}"} if "top5" in record else {}),
        "test-time augmentation": record["tta"],
        "negative log-likelihood": f"{record['nll']:.4f}",
        "calibration error": f"{record['ece']:.2%}",
        "speed": f"{speed['images_per_second']:,.0f} images/s, reading and batching included",
        "one image": f"{latency['median']:.2f} ms, 90% within {latency['p90']:.2f} ms; {speed['dtype']}, "
        f"{speed['device']}, {speed['threads']} CPU thread{'s' if speed['threads'] > 1 else ''}",
    }
    rows = sorted(record["classes"].items(), key=lambda item: item[1]["f1"])[:20]
    width = max(len(name) for name, _ in rows) + 2
    shown = "class" if len(rows) == len(record["classes"]) else "worst"
    table = [f"{shown:{max(width, 7)}}{'images':>8}{'precision':>11}{'recall':>9}{'F1':>9}"]
    for name, row in rows:
        scores = f"{row['precision']:>11.2%}{row['recall']:>9.2%}{row['f1']:>9.2%}"
        table.append(f"{name:{max(width, 7)}}{row['images']:>8,}{scores}")
    return "\n".join([*(f"{name:25}{text}" for name, text in lines.items()), "", *table])
