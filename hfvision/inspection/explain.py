"""What in an image a classifier's answer comes from, as a heat map: Grad-CAM for CNNs, attention rollout for ViTs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import to_pil_image
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names
from ..data.datasets.prepare import PixelReader
from ..data.transforms.normalize import Normalize
from ..hub.loading import quantization
from ..models.image_processing_classification import flatten_pil

Method = Literal["grad_cam", "rollout"]


class Explanation(NamedTuple):
    """An answer and where it comes from.

    `label`, the class that is explained, and its `probability`, 0 to 1; `method`; `heat`, float32 (H, W) from 0 to 1,
    as large as what the network was given; `overlay`, the heat over what the network saw, RGB, as large as the image,
    or, where the processor cuts a part out, as that part enlarged to the image's height.
    """

    label: str
    probability: float
    method: Method
    heat: Tensor
    overlay: Image.Image

    def __repr__(self) -> str:
        return f"Explanation({self.label} {self.probability:.1%}, {self.method})"


def grad_cam(
    model: nn.Module, pixel_values: Tensor, target: Sequence[int] | Tensor | None = None, layer: str | None = None
) -> Tensor:
    """Where the feature maps speak for a class: their sum, weighted by the mean gradient of its logit, above zero.

    Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
    equations 1 and 2.

    Args:
        model: a classifier that gives `.logits` for `pixel_values` and has feature maps (N, C, h, w).
        pixel_values: float (N, C, H, W), normalised as the model takes them.
        target: N classes; where not given, the likeliest of each image.
        layer: name of the module whose output is taken, as `cnn.encoder.stages.2`; where not given, the last one in
            the forward pass with feature maps of more than one position.

    Returns:
        float32 (N, H, W) from 0 to 1, bilinearly enlarged, the largest of each image 1; 0 everywhere where nothing
        speaks for the class.

    Raises:
        ValueError: for a model without such feature maps, an unknown layer, or a target out of range.
    """
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != len(pixel_values):
            return
        if output.shape[-2:].numel() > 1 and output.requires_grad:
            maps.append(output)

    modules = dict(model.named_modules())
    if layer is not None and layer not in modules:
        raise ValueError(f"{type(model).__name__} has no layer {layer!r}: `hfvision info` lists them.")
    watched = modules.values() if layer is None else [modules[layer]]
    hooks = [module.register_forward_hook(keep) for module in watched]
    try:
        with torch.enable_grad():
            logits = model(pixel_values=pixel_values.detach().requires_grad_()).logits
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        what = type(model).__name__ if layer is None else f"The layer {layer!r}"
        raise ValueError(f"{what} gives no feature maps (N, C, h, w): attention rollout is for transformers.")
    chosen = logits.argmax(1) if target is None else torch.as_tensor(target, device=logits.device)
    if chosen.shape != logits.shape[:1] or chosen.min() < 0 or chosen.max() >= logits.shape[1]:
        raise ValueError(f"target must be {len(logits)} classes from 0 to {logits.shape[1] - 1}, got {target}.")
    (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), maps[-1])
    heat = (gradient.mean((2, 3), keepdim=True) * maps[-1]).sum(1).relu().detach().float()
    return enlarged(heat, pixel_values.shape[-2:])


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """How much each token at the end is made of each at the start: attention, mean of the heads and half of it the
    residual connection, multiplied layer by layer.

    Abnar and Zuidema 2020, "Quantifying attention flow in transformers", section 3.

    Args:
        attentions: of each layer, first to last, float (N, heads, T, T) with rows that sum to one.

    Returns:
        float32 (N, T, T); each row sums to one.

    Raises:
        ValueError: for none, or attentions of another form, as those of windows.
    """
    shapes = {(attention.shape[0], *attention.shape[2:]) for attention in attentions if attention is not None}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3 or any(attention is None for attention in attentions):
        raise ValueError("Attention rollout needs the attention of all tokens to all in every layer.")
    total: Tensor | None = None
    for attention in attentions:
        mixed = 0.5 * attention.float().mean(1) + 0.5 * torch.eye(attention.shape[-1], device=attention.device)
        mixed = mixed / mixed.sum(-1, keepdim=True)
        total = mixed if total is None else mixed @ total
    if total is None:
        raise ValueError("Attention rollout needs the attention of at least one layer.")
    return total


@torch.no_grad()
def attention_rollout(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """How much of each patch has flowed into what the head of a vision transformer reads, by [`rollout`].

    It is the same for all classes, as no class enters it. What is read is the class token (and the distillation token)
    or, for a model whose configuration has `pooling` "mean", the patches.

    Args:
        model: a vision transformer, hfvision's or one of transformers, whose configuration has `patch_size`.
        pixel_values: float (N, C, H, W), normalised as the model takes them.

    Returns:
        float32 (N, H, W) from 0 to 1, bilinearly enlarged, the largest of each image 1 and the smallest 0.

    Raises:
        ValueError: for a model without patches or without such attention.
    """
    patch = getattr(model.config, "patch_size", None)
    if not isinstance(patch, int):
        raise ValueError(f"{type(model).__name__} cuts no patches of one size: Grad-CAM is for CNNs.")
    with eager_attention(model):
        outputs = model(pixel_values=pixel_values, output_attentions=True)
    attentions = getattr(outputs, "attentions", None)
    if not attentions:
        raise ValueError(f"{type(model).__name__} gives no attentions.")
    flow = rollout(attentions)
    rows, columns = (side // patch for side in pixel_values.shape[-2:])
    prefix = flow.shape[-1] - rows * columns
    if prefix < 0:
        raise ValueError(f"{type(model).__name__} has fewer tokens than patches: rollout cannot place them.")
    pooled = getattr(model.config, "pooling", "cls") == "mean" or prefix == 0
    read = flow.mean(1) if pooled else flow[:, :prefix].mean(1)
    heat = read[:, prefix:].unflatten(1, (rows, columns))
    return enlarged(heat - heat.amin((1, 2), keepdim=True), pixel_values.shape[-2:])


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """The implementation of attention that gives its weights, for a while."""
    usual = model.config._attn_implementation or "eager"
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def enlarged(heat: Tensor, size: Sequence[int]) -> Tensor:
    """Heat maps (N, h, w), none below 0, as (N, *size), the largest value of each 1 unless all are 0."""
    heat = interpolate(heat[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    largest = heat.amax((1, 2), keepdim=True)
    return heat / largest.where(largest > 0, 1.0)


def explain_image(
    image: Image.Image,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    *,
    label: str | None = None,
    method: Method | None = None,
    layer: str | None = None,
) -> Explanation:
    """Where in an image a classifier's answer comes from.

    A heat map shows what the network used, not whether that was right to use, and not what is ill in a patient.

    Args:
        image: as of [`data.io.images.read_image`].
        model: a classifier, in evaluation mode.
        processor: the model's.
        label: the class to explain; where not given, the likeliest one.
        method: `grad_cam` or `rollout`; where not given, rollout for what has `patch_size` and no feature maps.
        layer: as for [`grad_cam`].

    Raises:
        ValueError: for an unknown label or method, or a model that the method is not for.
    """
    if quantization(model.config) is not None:
        raise ValueError("A quantized model has no gradients and attentions to look at: explain its parent.")
    if method not in (None, "grad_cam", "rollout"):
        raise ValueError(f"method must be grad_cam or rollout, got {method!r}.")
    names = class_names(model.config)
    if label is not None and label not in names:
        raise ValueError(f"The model has no class {label!r}; it has {', '.join(names[:20])}.")
    reader = PixelReader(processor)
    flat = flatten_pil(image, reader.mode)
    pixels = reader.pixels([flat])
    parameter = next(model.parameters())
    pixel_values = Normalize.from_processor(processor)(pixels).to(parameter.device, parameter.dtype)
    with torch.no_grad():
        probabilities = model(pixel_values=pixel_values).logits[0].float().softmax(-1)
    number = int(probabilities.argmax()) if label is None else names.index(label)
    method = method or ("rollout" if is_transformer(model) and layer is None else "grad_cam")
    if method == "rollout":
        heat = attention_rollout(model, pixel_values)[0]
    else:
        heat = grad_cam(model, pixel_values, [number], layer)[0]
    seen, sides = flat, dict(getattr(processor, "size", None) or {})
    if getattr(processor, "do_center_crop", False) or not {"height", "width"} <= set(sides):
        seen = to_pil_image(pixels[0])
        seen = seen.resize((round(seen.width * flat.height / seen.height), flat.height))
    return Explanation(names[number], probabilities[number].item(), method, heat.cpu(), overlay(seen, heat.cpu()))


def is_transformer(model: PreTrainedModel) -> bool:
    """Whether a model mixes patches by attention alone."""
    return isinstance(getattr(model.config, "patch_size", None), int) and hasattr(model.config, "num_attention_heads")


def overlay(image: Image.Image, heat: Tensor, strength: float = 0.5) -> Image.Image:
    """A heat map, float (h, w) in [0, 1], in colours over a grey version of an image: RGB, of the image's size.

    Args:
        image: of any mode.
        heat: brought to the image's size.
        strength: how much of the colour there is where the heat is 1; where it is 0 there is none.
    """
    from matplotlib import colormaps

    size = (image.height, image.width)
    heat = interpolate(heat[None, None], size=size, mode="bilinear", align_corners=False)[0, 0].clamp(0, 1)
    colours = torch.from_numpy(colormaps["inferno"](heat.numpy())[..., :3]).float()
    grey = torch.frombuffer(bytearray(image.convert("L").tobytes()), dtype=torch.uint8).view(size).float() / 255
    alpha = strength * heat.sqrt()[..., None]
    mixed = (1 - alpha) * grey[..., None] + alpha * colours
    return to_pil_image((255 * mixed).round().to(torch.uint8).permute(2, 0, 1))
