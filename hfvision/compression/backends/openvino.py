"""Models computed by OpenVINO on the CPU: made from PyTorch, quantized to 8 bits, saved, loaded, called alike."""

import ctypes
import importlib
import math
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput, ImageSuperResolutionOutput
from transformers.utils import logging

from ...hub.loading import find_file
from ...hub.validation import library_errors

XML, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
OUTPUTS = {"logits": ImageClassifierOutput, "reconstruction": ImageSuperResolutionOutput}
TOLERANCE = 1e-3  # of the largest difference between OpenVINO and PyTorch, over the largest output
LARGEST = 2**28  # values of a tensor of a network from outside, of one image
MAX_XML_BYTES, MAX_XML_DEPTH = 100_000_000, 32
COMPILED = 8  # shapes of the input that have a program of their own


def optional(name: str, extra: str) -> ModuleType:
    """An installed module; ImportError with the line that installs it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install 'hfvision[{extra}]'") from error


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
    """A classifier or upscaler in OpenVINO's form, with the call and the outputs of the PyTorch model.

    Float (N, C, H, W) in, `ImageClassifierOutput` or `ImageSuperResolutionOutput` out, on the CPU alone and without
    gradients. It computes on as many threads as PyTorch (`torch.set_num_threads`). An input shape that comes a second
    time gets a program compiled for it.

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
        self.name = next(name for name in OUTPUTS if name in model.output(0).get_names())
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.programs: dict[tuple, Any] = {}

    @torch.no_grad()
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> ImageClassifierOutput | ImageSuperResolutionOutput:
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
        return OUTPUTS[self.name](**{self.name: torch.from_numpy(result)})

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
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copy(path, save_directory)

    def write_model_card(self, folder: str | Path, name: str) -> None:
        """The card of the folder that this model was loaded from stands for it."""
        if (self.folder / "README.md").is_file() and Path(folder).resolve() != self.folder.resolve():
            shutil.copy(self.folder / "README.md", folder)


def load_openvino(name: str, config: PreTrainedConfig, precision: str = "f32") -> OpenVINOModel:
    """The model of a folder or Hub id that holds `openvino_model.xml` and `.bin`.

    Raises:
        ImportError: if OpenVINO is not installed.
        ValueError: if the files cannot be read, or describe no network of one image and one output.
    """
    openvino, label = optional("openvino", "openvino"), f"{name}/{XML}"
    xml, weights = (find_file(name, file, config._commit_hash) for file in (XML, WEIGHTS))
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
    if len(model.inputs) != 1 or len(model.outputs) != 1 or not model.output(0).get_names() & set(OUTPUTS):
        raise ValueError(f"{label} must have one input, and one output called {' or '.join(OUTPUTS)}.")
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


class PlainOutput(nn.Module):
    """A model as a function of one tensor to one tensor, as exporters want it."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        outputs = self.model(pixel_values=pixel_values)
        return outputs.reconstruction if "reconstruction" in outputs else outputs.logits


def output_name(config: PreTrainedConfig) -> str:
    return "reconstruction" if hasattr(config, "scale") else "logits"


def input_side(config: PreTrainedConfig) -> int | None:
    """The side of the images that a classifier takes; None for any size."""
    side = None if hasattr(config, "scale") else getattr(config, "image_size", None) or 224
    return side if side is None or isinstance(side, int) else max(side)


def to_openvino(model: PreTrainedModel) -> Any:
    """An `openvino.Model` that computes what `model` does.

    The batch is free; so are the sides of images of super-resolution; those of classifiers are `config.image_size`.

    Batch normalisation is left to OpenVINO to fold: with the operations in this order its programs are right, while it
    computes a max pooling between a convolution and GELU wrong in f32 (seen in 2026.4).

    Raises:
        ImportError: if OpenVINO is not installed.
        ValueError: if OpenVINO gives other outputs than PyTorch.
    """
    openvino = optional("openvino", "openvino")
    side, channels = input_side(model.config), getattr(model.config, "num_channels", 3)
    shape = openvino.PartialShape([-1, channels, *([-1, -1] if side is None else [side, side])])
    example = torch.rand(2, channels, side or 64, side or 64)
    plain = PlainOutput(model.float().cpu().eval())
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # tracing reads every attribute, those too that transformers warns of
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(plain, example_input=example, input=[shape])
    finally:
        logging.set_verbosity(verbosity)
    converted.input(0).tensor.set_names({"pixel_values"})
    converted.output(0).tensor.set_names({output_name(model.config)})
    converted.validate_nodes_and_infer_types()
    with torch.inference_mode():
        expected = plain(example)
    found = OpenVINOModel(converted, model.config)(example)[output_name(model.config)]
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    if not difference < TOLERANCE:
        raise ValueError(
            f"OpenVINO gives other outputs for this network than PyTorch, by {difference:.1%}: use quanto or onnx."
        )
    return converted


def float_layers(model: Any) -> list[str]:
    """What stays in float: in super-resolution the first convolution, which sees the pixels, and the sum with the
    enlarged input, which is most of the picture. Nothing in a classifier."""
    if model.output(0).get_any_name() != "reconstruction":
        return []
    nodes = model.get_ordered_ops()
    first = next(node for node in nodes if node.get_type_name() == "Convolution")
    skip = [node for node in nodes if node.get_type_name() == "GroupConvolution"]
    last = [node for node in nodes if node.get_type_name() == "Add"][-1:] if skip else []
    return [node.get_friendly_name() for node in (first, *skip, *last)]


def to_int8(
    model: Any,
    batches: Sequence[np.ndarray],
    *,
    attention: bool = False,
    validate: Callable[[Any], float] | None = None,
    max_drop: float | None = None,
) -> Any:
    """A copy of an `openvino.Model` with weights and activations of 8 bits, by NNCF's post-training quantization.

    Args:
        model: from [`to_openvino`].
        batches: float32 (N, C, H, W) that go through the network to find the range of each activation.
        attention: the model is a transformer: queries, keys and softmax are treated with care.
        validate: with `max_drop`, gives the quality of a compiled model, larger is better.
        max_drop: of that quality at most; layers go back to float, the most harmful first, until it holds.

    Raises:
        ImportError: if NNCF is not installed.
    """
    nncf = optional("nncf", "openvino")
    nncf.set_log_level(40)
    ignored = float_layers(model)
    # Smoothing, which moves scales from activations to weights, lost 17 points of top-1 of a small ViT.
    unsmoothed = nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
    options: dict[str, Any] = {
        "subset_size": len(batches),
        "fast_bias_correction": not ignored,
        "preset": nncf.QuantizationPreset.MIXED,
        "model_type": nncf.ModelType.TRANSFORMER if attention else None,
        "ignored_scope": nncf.IgnoredScope(names=ignored) if ignored else None,
    }
    advanced = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=unsmoothed)
    calibration = nncf.Dataset(batches)
    with redirect_stdout(sys.stderr), signal_stack_kept():  # stderr is where progress belongs
        if max_drop is None:
            return nncf.quantize(model, calibration, advanced_parameters=advanced, **options)
        return nncf.quantize_with_accuracy_control(
            model,
            calibration,
            nncf.Dataset([batches[0]]),
            lambda compiled, _: (validate(compiled), None),
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_quantization_parameters=advanced,
            **options,
        )


def save_openvino(model: Any, folder: Path) -> None:
    """Write `openvino_model.xml`, without notes for debugging and the shapes that its reader infers, and `.bin`."""
    model = model.clone()
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(str(number))
    optional("openvino", "openvino").save_model(model, folder / XML, compress_to_fp16=False)
    tree = ElementTree.parse(folder / XML)
    for element in tree.iter():
        for note in element.findall("rt_info"):
            element.remove(note)
        for shape in element.findall("dim") if element.tag == "port" else ():
            element.remove(shape)
        element.text, element.tail = (element.text or "").strip() or None, None
    tree.write(folder / XML)
