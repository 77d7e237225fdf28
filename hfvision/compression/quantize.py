"""Quantizes a model: 8-bit OpenVINO for CPUs, quanto's 8 or 4 bits for PyTorch, ONNX for elsewhere, or bf16."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names, match_classes
from ..data.datasets.classification import load_image_dataset
from ..data.datasets.photos import load_photos
from ..data.datasets.prepare import prepare_images
from ..data.transforms.degradation_presets import PRESETS
from ..data.transforms.degradations import degrade
from ..data.transforms.keyed import image_keys
from ..data.transforms.normalize import Normalize
from ..data.transforms.resize import modcrop, quantize_8bit
from ..hub.files import resolve_model
from ..hub.loading import load_config, load_model
from ..hub.openvino_model import OpenVINOModel
from ..hub.records import earlier_record
from ..metrics.accuracy import accuracy
from ..metrics.psnr import psnr
from ..models.image_processing_classification import flatten_pil
from ..publishing.cards.write import write_card
from ..records import CompressionStep, ModelRecord, SizeChange, StepQuality, TrainingSettings, write_record
from ..tasks.base import SEGMENTATION, SUPER_RESOLUTION, task_of
from ..tasks.classification.evaluate import predict_logits
from ..utils.files import atomic_model_folder, check_model_folder, check_training_folder
from .backends.onnx import save_onnx
from .backends.openvino import save_openvino, to_int8, to_openvino
from .backends.quanto import save_quanto
from .fold import fold

Method = Literal["openvino", "quanto", "onnx", "bf16"]
MINIMUM = 10  # images to calibrate with
BATCH = 10
CROP = 96  # side in pixels of what super-resolution calibrates with
SHOWN = 192  # side in pixels of what its PSNR is measured on, before the scale
VALIDATED = 2000  # images at most
PACKED = ("model.safetensors", "openvino_model.bin", "openvino_model.xml", "model.onnx", "model.onnx.data")


@dataclass(frozen=True)
class Examples:
    """Images that a model is calibrated with, and others that tell what the quantization costs.

    Attributes:
        batches: float32 (N, C, H, W), as the network gets them.
        measure: of a model as [`loading.load_model`] gives it, its answers and its quality: `top1`, 0 to 1, or the
            mean `psnr` in dB.
        images: how many are measured on.
        metric: `top1` or `psnr`.
        fingerprint: of the data, where it has one.
    """

    batches: list[Tensor]
    measure: Callable[[Any], tuple[list[Tensor], float]]
    images: int
    metric: Literal["top1", "psnr"]
    fingerprint: str | None = None


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
    if task is SEGMENTATION:
        raise ValueError(f"{model} is a segmenter, which this version does not quantize.")
    check_out(out, model, force)
    parent, processor = load_model(model, task.pipeline, trust_remote_code=trust_remote_code)
    parent = parent.float()
    if hasattr(parent, "fuse"):
        parent.fuse()
    examples = None
    if calibration is not None:
        sources = [calibration] if isinstance(calibration, str) else list(calibration)
        trained = earlier_record(model).settings
        if task is SUPER_RESOLUTION:
            examples = photograph_examples(parent, sources, images, seed, trained)
        else:
            examples = labelled_examples(parent, processor, sources, images, seed, trained)
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
            quantized = int8_model(parent, examples, max_drop)
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
        if examples is not None and method != "onnx":
            after = examples.measure(load_model(str(folder), task.pipeline)[0])
            quality = compare(before, after, examples)
        size = packed_bytes(Path(resolve_model(model))), packed_bytes(folder)
        step = CompressionStep(
            step="quantize",
            method=method,
            settings=settings,
            bytes=SizeChange(before=size[0], before_fp32=fp32_bytes, after=size[1]),
            validation=quality,
        )
        earlier = earlier_record(model)
        parent = earlier.parent or Path(model).name
        record = replace(earlier, parent=parent, compression=[*earlier.compression, step])
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


def labelled_examples(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    sources: Sequence[str],
    images: int,
    seed: int,
    trained: TrainingSettings,
) -> Examples:
    """Of labelled images: to calibrate with from the training split, to validate with from the validation split, which
    is the one of the model's training where its record has the settings (`trained`)."""
    if len(sources) > 1:
        raise ValueError(f"A classifier calibrates with one data set, got {', '.join(sources)}.")
    if trained.validation:
        options = {"validation": trained.validation, "validation_group": trained.validation_group}
        splits = load_image_dataset(sources[0], seed=seed if trained.seed is None else trained.seed, **options)
    else:
        splits = load_image_dataset(sources[0], seed=seed)
    names = splits["train"].features["label"].names
    order = match_classes(class_names(model.config), names)
    normalize = Normalize.from_processor(processor)
    chosen = [splits[name].shuffle(seed=seed) for name in ("train", "validation")]
    calibration, validation = (
        prepare_images(split.select(range(min(len(split), count))), processor)
        for split, count in zip(chosen, (images, VALIDATED), strict=True)
    )
    enough(len(calibration), sources[0])
    batches = [
        normalize(calibration.__getitems__(list(range(start, min(start + BATCH, len(calibration)))))["images"])
        for start in range(0, len(calibration), BATCH)
    ]

    def measure(net: Any) -> tuple[list[Tensor], float]:
        logits, labels = predict_logits(net, validation, normalize)
        logits = logits[:, order]
        return [logits], accuracy(logits, labels)

    return Examples(batches, measure, len(validation), "top1", splits["train"]._fingerprint)


def photograph_examples(
    model: PreTrainedModel, sources: Sequence[str], images: int, seed: int, trained: TrainingSettings
) -> Examples:
    """Of photographs, made smaller as in training, whose settings `trained` are: crops to calibrate with; the middles
    to validate with, of every fifth photograph, which is not calibrated with where there are five or more."""
    name = trained.degradation or "bicubic"
    if name not in PRESETS:
        raise ValueError(
            f"The record.json of the model names the degradation {name!r}, not one of {', '.join(PRESETS)}."
        )
    degradation = PRESETS[name]
    scale, channels = model.config.scale, model.config.num_channels
    mode = "L" if channels == 1 else "RGB"
    photos = load_photos(sources, min_side=32 * scale)
    originals = [pil_to_tensor(flatten_pil(photo, mode))[None] for photo in photos]
    held_out = originals[::5]
    rest = [original for number, original in enumerate(originals) if number % 5] if len(originals) >= 5 else originals
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for number in range(images):
        original = rest[number % len(rest)]
        side = min(CROP * scale, *(length // scale * scale for length in original.shape[-2:]))
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in original.shape[-2:])
        crop = original[..., top : top + side, left : left + side].float() / 255
        batches.append(degrade(crop, scale, image_keys(seed, 0, torch.tensor([number])), degradation))
    enough(len(batches), ", ".join(sources))
    pairs = []
    for number, original in enumerate(held_out):
        sides = [min(SHOWN * scale, length) // scale * scale for length in original.shape[-2:]]
        original = modcrop(center_crop(original, sides).float() / 255, scale)
        pairs.append((degrade(original, scale, image_keys(seed, 1, torch.tensor([number])), degradation), original))

    @torch.inference_mode()
    def measure(net: Any) -> tuple[list[Tensor], float]:
        restored = [quantize_8bit(net(pixel_values=small).reconstruction.float()) for small, _ in pairs]
        values = [psnr(image, pair[1], crop=scale).item() for image, pair in zip(restored, pairs, strict=True)]
        return restored, sum(values) / len(values)

    return Examples(batches, measure, len(pairs), "psnr")


def enough(count: int, source: str) -> None:
    if count < MINIMUM:
        raise ValueError(f"{source} gives {count} images to calibrate with: at least {MINIMUM} are needed.")


def int8_model(model: PreTrainedModel, examples: Examples, max_drop: float | None = None) -> OpenVINOModel:
    """The model in 8 bits, in OpenVINO's form. `max_drop` is in points of top-1, or dB."""
    converted = to_openvino(model)
    smallest = max_drop and (max_drop / 100 if examples.metric == "top1" else max_drop)

    def validate(compiled: Any) -> float:
        return examples.measure(CompiledModel(compiled, model.config))[1]

    quantized = to_int8(
        converted,
        [batch.numpy() for batch in examples.batches],
        attention=hasattr(model.config, "num_attention_heads"),
        validate=validate,
        max_drop=smallest,
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


def compare(before: tuple[list[Tensor], float], after: tuple[list[Tensor], float], examples: Examples) -> StepQuality:
    if examples.metric == "top1":
        agreement = accuracy(after[0][0], before[0][0].argmax(1))
    else:
        pairs = zip(after[0], before[0], strict=True)
        values = [psnr(one, other).item() for one, other in pairs]
        agreement = sum(min(value, 100.0) for value in values) / len(values)
    return StepQuality(
        images=examples.images,
        metric=examples.metric,
        before=before[1],
        after=after[1],
        agreement=agreement,
        fingerprint=examples.fingerprint,
    )
