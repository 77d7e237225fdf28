"""The ways to compute a model that are compared: PyTorch eager, bf16 and compiled, OpenVINO, ONNX Runtime."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..hub.openvino_model import OpenVINOModel
from .backends.onnx import onnx_session, save_onnx
from .backends.openvino import PlainOutput, save_openvino, to_openvino

ENGINES = ("eager", "bf16", "compile", "openvino", "openvino-bf16", "onnx")


@dataclass(frozen=True)
class Contender:
    """A model on an engine.

    Attributes:
        name: of the model, and the engine.
        model: its name alone.
        engine: one of `ENGINES`, or `int8` for a model that OpenVINO computes already.
        run: float32 pixels (N, C, H, W) to float32 logits or images.
        bytes: of its weights in the form that the engine reads; None where it has no file.
    """

    name: str
    model: str
    engine: str
    run: Callable[[Tensor], Tensor]
    bytes: int | None


def contenders(name: str, model: Any, engines: tuple[str, ...], size: int | None) -> list[Contender]:
    """A model on all of `engines` that are installed; a quantized one on the engine that it is made for.

    Args:
        name: for tables.
        model: from [`loading.load_model`], in fp32.
        engines: some of `ENGINES`.
        size: bytes of the file that the model was loaded from, for models that are quantized.
    """
    plain = PlainOutput(model)
    if isinstance(model, OpenVINOModel):
        return [Contender(f"{name} · int8", name, "int8", plain, size)]
    if getattr(model.config, "quantization_config", None):
        return [Contender(f"{name} · quanto", name, "quanto", plain, size)]
    found = []
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    for engine in engines:
        run, size = make(engine, model, weights)
        if run is not None:
            found.append(Contender(f"{name} · {engine}", name, engine, run, size))
    return found


def make(engine: str, model: Any, weights: int) -> tuple[Callable[[Tensor], Tensor] | None, int | None]:
    """The model on an engine as a function, and the bytes of its weights there; None where it is not installed."""
    if engine == "eager":
        return PlainOutput(model), weights
    if engine == "compile":
        return torch.compile(PlainOutput(copy.deepcopy(model)), dynamic=False), weights
    if engine == "bf16":
        half = PlainOutput(copy.deepcopy(model).to(torch.bfloat16).to(memory_format=torch.channels_last))
        return lambda x: half(x.to(torch.bfloat16)).float(), weights // 2
    if engine.startswith("openvino"):
        if find_spec("openvino") is None:
            return None, None
        with tempfile.TemporaryDirectory() as folder:
            converted = to_openvino(model)
            save_openvino(converted, Path(folder))
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
        precision = "bf16" if engine.endswith("bf16") else "f32"
        compiled: Any = OpenVINOModel(converted, model.config, precision=precision)
        return PlainOutput(compiled), size
    if any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        return None, None
    with tempfile.TemporaryDirectory() as folder:
        save_onnx(copy.deepcopy(model), Path(folder))
        path = Path(folder) / "model.onnx"
        session, size = onnx_session(path), path.stat().st_size
    return lambda x: torch.from_numpy(session.run(None, {"pixel_values": x.contiguous().numpy()})[0]), size
