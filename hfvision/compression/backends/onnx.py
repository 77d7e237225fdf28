"""Export to ONNX, checked by ONNX Runtime."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ...tasks.base import SIDES_TO_PAD, task_of
from ...utils.optional import optional
from .openvino import PlainOutput, input_side

TOLERANCE = 1e-3  # of the largest difference, over the largest output
OPSET = 20


def save_onnx(model: PreTrainedModel, folder: Path) -> float:
    """Write `model.onnx`, of free batch and, for networks for any size, free sides, and compare its outputs.

    Args:
        model: of one of hfvision's families.
        folder: that is there.

    Returns:
        The largest difference from the outputs of PyTorch, on a batch and size other than the exported ones, over the
        largest of these.

    Raises:
        ImportError: if onnx, onnxscript or onnxruntime is not installed.
        ValueError: if the outputs differ by more than 0.1 %.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        optional(name, "onnx")
    task = task_of(model.config, "The model")
    side, channels = input_side(model.config), getattr(model.config, "num_channels", 3)
    plain = PlainOutput(model.float().cpu().eval())
    height, width = (side, side) if side else SIDES_TO_PAD if task.pads else (48, 40)
    sides = {} if side else {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            plain,
            (torch.rand(2, channels, height, width),),
            folder / "model.onnx",
            input_names=["pixel_values"],
            output_names=[task.output],
            dynamic_shapes={"pixel_values": {0: torch.export.Dim.DYNAMIC} | sides},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    remove_traces(folder / "model.onnx")
    pixels = torch.rand(3, channels, side or 33, side or 57, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain(pixels)
    found = torch.from_numpy(onnx_session(folder / "model.onnx").run(None, {"pixel_values": pixels.numpy()})[0])
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    if not difference < TOLERANCE:
        raise ValueError(f"ONNX Runtime gives other outputs than PyTorch: they differ by {difference:.2%}.")
    return difference


def remove_traces(path: Path) -> None:
    """Remove what the exporter notes of the code behind each node: stack traces with paths of this machine."""
    onnx = optional("onnx", "onnx")

    def strip(message: Any) -> None:
        for field, value in message.ListFields():
            if field.name in ("doc_string", "metadata_props"):
                message.ClearField(field.name)
            elif field.message_type:
                for part in [value] if hasattr(value, "ListFields") else value:
                    strip(part)

    model = onnx.load(path)
    strip(model)
    onnx.save(model, path)


def onnx_session(path: Path, threads: int | None = None) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU, of as many threads as PyTorch where not given."""
    onnxruntime = optional("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
