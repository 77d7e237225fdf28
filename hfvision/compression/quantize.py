"""Quantizes a model: 8-bit OpenVINO for CPUs, quanto's 8 or 4 bits for PyTorch, ONNX for elsewhere, or bf16."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..hub.files import resolve_model
from ..hub.loading import load_config, load_model
from ..hub.openvino_model import OpenVINOModel
from ..hub.records import earlier_record
from ..publishing.cards.write import write_card
from ..records import CompressionStep, ModelRecord, SizeChange, StepQuality, write_record
from ..tasks.base import Task, task_of
from ..tasks.compression import CalibrationConfig, CalibrationData
from ..utils.files import atomic_model_folder, check_model_folder, check_training_folder
from .backends.onnx import save_onnx
from .backends.openvino import save_openvino, to_int8, to_openvino
from .backends.quanto import save_quanto
from .fold import fold

Method = Literal["openvino", "quanto", "onnx", "bf16"]
PACKED = ("model.safetensors", "openvino_model.bin", "openvino_model.xml", "model.onnx", "model.onnx.data")


def quantize(
    model: str,
    out: Path,
    *,
    method: Method = "openvino",
    calibration: str | Sequence[str] | None = None,
    images: int = 300,
    bits: Literal[8, 4] = 8,
    max_drop: float | None = None,
    seed: int = 0,
    force: bool = False,
    trust_remote_code: bool = False,
) -> ModelRecord:
    """Quantize a model into a folder of its own, which `load_model`, `pipeline` and the commands take like any other.

    - `openvino`: weights and activations of 8 bits (NNCF, static, with calibration): smaller and much faster on CPUs,
      most so with AVX-512 VNNI or AMX; it works without. Super-resolution keeps its first layer and its skip in float.
    - `quanto`: weights of 8 bits, or of 4 in linear layers, still a PyTorch model that runs on GPUs too; smaller, on a
      CPU not faster.
    - `onnx`: `model.onnx` of free batch (and size, for super-resolution), in float, for deployment elsewhere.
    - `bf16`: the weights in half their size; faster where the hardware computes in bf16.

    Args:
        model: Hub id, folder, or shipped checkpoint. It is not changed.
        out: folder to write.
        method: one of these.
        calibration: for `openvino`, and for the figures of the others: labelled images as [`load_image_dataset`]
            takes them for classifiers, photographs as [`load_photos`] for super-resolution. What a classifier loses is
            measured on the images that its training held out, where that is recorded.
        images: of them to calibrate with (crops of photographs).
        bits: of `quanto`'s linear layers.
        max_drop: for `openvino`: points of top-1, or dB of PSNR, that may be lost on the validation images; layers go
            back to float until it holds.
        seed: of the choice of images.
        force: replace a model that is there already.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Returns:
        The record that is written to `record.json`, its last step of `compression` this one: `method`, `settings`,
        `bytes` before and after, and, with images, `validation`: `images`, `metric`, `before`, `after`, `agreement`
        (share of equal answers; for super-resolution the PSNR in dB between both results).

    Raises:
        FileNotFoundError: if there is no such model or data.
        ImportError: if what the method needs is not installed.
        ValueError: for a model that is quantized already or of an unknown kind, too few images, an existing `out`.
        OSError: if the folder cannot be written; nothing of it is left then.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}; got {method!r}.")
    if method == "openvino" and calibration is None:
        raise ValueError("openvino needs images to calibrate with: give --calibration, as the data of the training.")
    if max_drop is not None and (method != "openvino" or max_drop <= 0):
        raise ValueError(f"max_drop is for openvino and must be above 0, got {max_drop} with {method}.")
    config = load_config(model, trust_remote_code=trust_remote_code)
    refuse_quantized(model, config)
    task = task_of(config, model, trust_remote_code=trust_remote_code)
    check_out(out, model, force)
    parent, processor = load_model(model, task.pipeline, trust_remote_code=trust_remote_code)
    parent: Any = parent.float()
    fuse_branches(parent)
    examples = None
    if calibration is not None:
        sources = [calibration] if isinstance(calibration, str) else list(calibration)
        trained = earlier_record(model).settings
        examples = task.compression.calibration(
            parent, processor, CalibrationConfig(sources, images, seed, training=trained)
        )
    before = examples.measure(parent) if examples else None

    fp32_bytes = sum(tensor.nbytes for tensor in parent.state_dict().values())
    settings: dict[str, Any] = {"calibration_images": sum(map(len, examples.batches))} if examples else {}
    if method != "openvino":
        parent = folded_if_possible(parent)
    with atomic_model_folder(out) as folder:
        parent.save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        if method == "openvino":
            settings |= {"bits": 8, "max_drop": max_drop, "seed": seed}
            quantized = int8_model(parent, cast(CalibrationData, examples), max_drop and max_drop * task.metric.unit)
            save_openvino(quantized.model, folder)
        elif method == "quanto":
            settings |= {"bits": bits}
            save_quanto(parent, bits, folder)
        elif method == "onnx":
            settings |= {"largest_difference": save_onnx(parent, folder)}
        else:
            parent.to(torch.bfloat16).save_pretrained(folder)
        if method in ("openvino", "onnx"):
            (folder / "model.safetensors").unlink()
        if method != "bf16":
            mark_quantized(folder, method, settings)
        quality = None
        if examples is not None and before is not None and method != "onnx":
            after = examples.measure(load_model(str(folder), task.pipeline)[0])
            quality = compare(before, after, examples, task)
        size = packed_bytes(Path(resolve_model(model))), packed_bytes(folder)
        step = CompressionStep(
            step="quantize",
            method=method,
            settings=settings,
            bytes=SizeChange(before=size[0], before_fp32=fp32_bytes, after=size[1]),
            validation=quality,
        )
        earlier = earlier_record(model)
        name = earlier.parent or Path(model).name
        record = replace(earlier, parent=name, compression=[*earlier.compression, step])
        write_record(folder / "record.json", record)
        write_card(folder)
    return record


def refuse_quantized(name: str, config: Any) -> None:
    settings = getattr(config, "quantization_config", None)
    if settings:
        settings = settings if isinstance(settings, dict) else settings.to_dict()
        raise ValueError(f"{name} is quantized already ({settings.get('quant_method')}): start from its parent.")


def check_out(out: Path, model: str, force: bool, *, training: bool = False) -> None:
    """As [`files.check_model_folder`], or for a training [`files.check_training_folder`]; `out` is not the model."""
    if Path(resolve_model(model)).resolve() == out.resolve():
        raise ValueError(f"--out {out} is the model itself: give another folder.")
    if training:
        check_training_folder(out, resume=force)
    else:
        check_model_folder(out, force=force)


def fuse_branches(model: PreTrainedModel) -> None:
    """Fold the training branches of a super-resolution network in place; other models have none."""
    if fuse := getattr(model, "fuse", None):
        fuse()


def int8_model(model: PreTrainedModel, data: CalibrationData, max_drop: float | None = None) -> OpenVINOModel:
    """The model in 8 bits, in OpenVINO's form; it loses at most `max_drop` of its quality where given."""
    converted = to_openvino(model)

    def validate(compiled: Any) -> float:
        return data.measure(CompiledModel(compiled, model.config))[1]

    quantized = to_int8(
        converted,
        [batch.numpy() for batch in data.batches],
        attention=hasattr(model.config, "num_attention_heads"),
        validate=validate,
        max_drop=max_drop,
    )
    return OpenVINOModel(quantized, model.config)


class CompiledModel(OpenVINOModel):
    """A model that has been compiled by somebody else."""

    def __init__(self, compiled: Any, config: Any):
        super().__init__(compiled, config)
        self.request = compiled.create_infer_request()

    def program(self, shape: tuple[int, ...]) -> Any:
        return self.request


def folded_if_possible(model: PreTrainedModel) -> PreTrainedModel:
    try:
        return fold(model)
    except ValueError:
        return model


def mark_quantized(folder: Path, method: str, settings: dict[str, Any]) -> None:
    """Say in `config.json` what the weights are, so that the right loader takes them."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": settings.get("bits", 32)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def packed_bytes(folder: Path) -> int | None:
    """The size of the weights in a folder; None for one that is not on this disk."""
    if not folder.is_dir():
        return None
    return sum((folder / name).stat().st_size for name in PACKED if (folder / name).is_file())


def compare(
    before: tuple[list[Tensor], float], after: tuple[list[Tensor], float], data: CalibrationData, task: Task
) -> StepQuality:
    """The quality before and after a step of compression, from what `data.measure` gave."""
    return StepQuality(
        images=data.images,
        metric=task.metric.name,
        before=before[1],
        after=after[1],
        agreement=task.compression.agreement(after[0], before[0]),
        fingerprint=data.fingerprint,
    )
