"""Models computed by OpenVINO on the CPU: loaded, checked, and called as those of PyTorch."""

import ctypes
import math
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import ImageClassifierOutput, ImageSuperResolutionOutput, SemanticSegmenterOutput
from transformers.utils.generic import ModelOutput

from ..utils.optional import optional
from .files import commit_of, find_file
from .validation import library_errors

XML, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
# The class of the outputs, by name and number of dimensions.
OUTPUTS = {
    ("logits", 2): ImageClassifierOutput,
    ("logits", 4): SemanticSegmenterOutput,
    ("reconstruction", 4): ImageSuperResolutionOutput,
}
OUTPUT_NAMES = {name for name, _ in OUTPUTS}
LARGEST = 2**28  # values of a tensor of a network from outside, of one image
MAX_XML_BYTES, MAX_XML_DEPTH = 100_000_000, 32
COMPILED = 8  # shapes of the input that have a program of their own


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = [("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give the thread back the signal stack it had.

    OpenVINO's CPU plugin puts one of its own in its place, and frees it without a word when a later plugin's is in use
    (seen in 2026.4): the next signal, such as the end of a data loader's worker, then ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack, stack = ctypes.CDLL(None).sigaltstack, SignalStack()
    sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(stack), None)


class OpenVINOModel(nn.Module):
    """A classifier, segmenter or upscaler in OpenVINO's form, with the call and the outputs of the PyTorch model.

    Float (N, C, H, W) in, `ImageClassifierOutput`, `SemanticSegmenterOutput` or `ImageSuperResolutionOutput` out, on
    the CPU alone and without gradients. It computes on as many threads as PyTorch (`torch.set_num_threads`). An input
    shape that comes a second time gets a program compiled for it.

    Args:
        model: an `openvino.Model` of one input and one output called `logits` or `reconstruction`.
        config: of the PyTorch model.
        folder: with the files of the model; [`OpenVINOModel.save_pretrained`] copies them.
        precision: what layers that are not quantized compute in: `f32`, or `bf16` where the hardware has it.
    """

    main_input_name = "pixel_values"
    _supports_sdpa = False

    def __init__(self, model: Any, config: PreTrainedConfig, folder: Path | None = None, precision: str = "f32"):
        super().__init__()
        self.model, self.config, self.folder, self.precision = model, config, folder, precision
        self.name = next(name for name in OUTPUT_NAMES if name in model.output(0).get_names())
        self.output_class = OUTPUTS[self.name, len(model.output(0).get_partial_shape())]
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.programs: dict[tuple, Any] = {}

    @torch.no_grad()
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> ModelOutput:
        """`pixel_values`: (N, C, H, W) of any float dtype."""
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values must have the shape (batch, {self.config.num_channels}, height, width), "
                f"got {tuple(pixel_values.shape)}."
            )
        pixels = pixel_values.detach().to("cpu", torch.float32).contiguous().numpy()
        try:
            result = self.program(pixels.shape).infer(pixels, share_inputs=True)[0]
        except RuntimeError as error:
            raise ValueError(
                f"This model does not take pixel_values of the shape {pixels.shape}, but "
                f"{self.model.input(0).partial_shape}: resize the images with its image processor."
            ) from error
        return self.output_class(**{self.name: torch.from_numpy(result)})

    def program(self, shape: tuple[int, ...]) -> Any:
        """What computes an input of this shape."""
        threads = torch.get_num_threads()
        key, flexible = (threads, shape), (threads, None)
        if key in self.programs and self.programs[key] is None and len(self.programs) < 2 * COMPILED:
            self.programs[key] = self.compile(threads, shape)
        elif key not in self.programs:
            self.programs[key] = None
        if self.programs[key] is None and flexible not in self.programs:
            self.programs[flexible] = self.compile(threads, None)
        return self.programs[key] or self.programs[flexible]

    def compile(self, threads: int, shape: tuple[int, ...] | None) -> Any:
        openvino = optional("openvino", "openvino")
        model = self.model.clone()
        if shape is not None:
            model.reshape(list(shape))
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": self.precision}
        with signal_stack_kept():
            return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def float(self) -> "OpenVINOModel":
        return self

    def num_parameters(self) -> int:
        """Numbers in the constants of the model, quantization's own among them."""
        constants = [node for node in self.model.get_ops() if node.get_type_name() == "Constant"]
        return sum(int(np.prod(node.shape)) for node in constants)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Copy the files that this model was loaded from."""
        if self.folder is None:
            raise ValueError("This model was not loaded from a folder, whose files could be copied.")
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copy(path, save_directory)

    def write_model_card(self, folder: str | Path, name: str) -> None:
        """The card of the folder that this model was loaded from stands for it."""
        if self.folder is None:
            return
        if (self.folder / "README.md").is_file() and Path(folder).resolve() != self.folder.resolve():
            shutil.copy(self.folder / "README.md", folder)


def load_openvino(name: str, config: PreTrainedConfig, precision: str = "f32") -> OpenVINOModel:
    """The model of a folder or Hub id that holds `openvino_model.xml` and `.bin`.

    Raises:
        ImportError: if OpenVINO is not installed.
        ValueError: if the files cannot be read, or describe no network of one image and one output.
    """
    openvino, label = optional("openvino", "openvino"), f"{name}/{XML}"
    xml, weights = (find_file(name, file, commit_of(config)) for file in (XML, WEIGHTS))
    if xml is None or weights is None:
        raise ValueError(f"{name} cannot be loaded: config.json says OpenVINO, but {XML} or {WEIGHTS} is not there.")
    check_xml(xml, weights, label)
    with library_errors(label):
        model = openvino.Core().read_model(xml)
    check_network(model, label)
    return OpenVINOModel(model, config, xml.parent, precision)


def check_network(model: Any, label: str) -> None:
    """Raise ValueError for a network without one image and one known output, one that computes huge tensors, or one
    with constants that are not finite."""
    if len(model.inputs) != 1 or len(model.outputs) != 1 or not model.output(0).get_names() & OUTPUT_NAMES:
        raise ValueError(f"{label} must have one input, and one output called {' or '.join(sorted(OUTPUT_NAMES))}.")
    shape = model.output(0).get_partial_shape()
    if shape.rank.is_dynamic or shape.rank.get_length() not in {dimensions for _, dimensions in OUTPUTS}:
        raise ValueError(f"The output of {label} must have 2 or 4 dimensions, got {shape}.")
    for node in model.get_ops():
        for output in node.outputs():
            sides = [side.get_min_length() for side in output.get_partial_shape()]
            if math.prod(side for side in sides if side) > LARGEST:
                raise ValueError(f"{label} computes a tensor of the shape {sides}: {LARGEST:,} values are the most.")
        real = node.get_type_name() == "Constant" and node.get_element_type().is_real()
        if real and not np.isfinite(np.asarray(node.data, dtype=np.float32)).all():
            raise ValueError(f"{label} is damaged: {node.get_friendly_name()} holds values that are not finite.")


def check_xml(xml: Path, weights: Path, name: str) -> None:
    """Raise ValueError for a file that is no plain OpenVINO network, or names data that its weights do not hold.

    OpenVINO reads other formats under this name too, which may point at further files, and trusts offsets and depth.
    """
    size, stack = weights.stat().st_size, []
    if xml.stat().st_size > MAX_XML_BYTES:
        raise ValueError(f"{name} has more than {MAX_XML_BYTES:,} bytes.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        stack.append(tag)
        if stack[0] != "net" or len(stack) > MAX_XML_DEPTH:
            raise ValueError("it is no OpenVINO network")
        if tag == "data" and "offset" in attributes:
            offset, length = (int(attributes[key]) for key in ("offset", "size"))
            if offset < 0 or length < 0 or offset + length > size:
                raise ValueError(f"a constant lies outside of {weights.name}")
            check_constant(attributes, length)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.StartDoctypeDeclHandler = refuse_doctype
    with library_errors(name):
        parser.Parse(xml.read_bytes(), True)


def refuse_doctype(*declaration: Any) -> NoReturn:
    raise ValueError("it declares entities, which are not read")


def check_constant(attributes: dict[str, str], length: int) -> None:
    """Raise ValueError for a constant whose shape and type need more bytes than it has."""
    kind = attributes.get("element_type", "")
    bits = re.fullmatch(r"(?:[fui]|bf|nf)(\d+)(?:e\dm\d)?|boolean", kind)
    if bits is None:
        raise ValueError(f"a constant has the type {kind!r}")
    shape = [int(side) for side in attributes.get("shape", "").split(",") if side.strip()]
    if min(shape, default=1) < 0 or not 0 <= 8 * length - math.prod(shape) * int(bits[1] or 8) < 8:
        raise ValueError(f"a constant of the shape {shape} has {length} bytes")
