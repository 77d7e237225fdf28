"""SR-GAN (Ledig et al. 2017, arXiv:1609.04802): sub-pixel generators and their discriminators.

One generator class serves the paper's SRResNet and the fast networks of dense 3x3 convolutions, whose training
branches fold exactly into plain convolutions with `fuse()`. Images are float in [0, 1], without normalisation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from shutil import copy
from typing import Any

import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    conv2d,
    interpolate,
    l1_loss,
    normalize,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
)
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, initialization
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ImageSuperResolutionOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_srgan import FEW_VALUES, SRGANConfig

MODEL_CARD = """---
library_name: transformers
{pipeline_tag}tags: [hfvision, super-resolution]
---

# {name}

{description}: {parameters:,} parameters, ×{scale}, {channels}.

```python
{usage}
```

Class `{architecture}` of hfvision; its code travels with the weights.

<!-- hfvision-short-card 1 -->
"""

PIPELINE_USAGE = """from transformers import pipeline

upscale = pipeline("image-super-resolution", model="{name}", trust_remote_code=True)
upscale("photo.jpg").save("photo_x{scale}.png")"""

MODEL_USAGE = """from transformers import AutoConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

model_class = get_class_from_dynamic_module("modeling_srgan.{architecture}", "{name}")
model = model_class.from_pretrained("{name}")"""


class BranchedConv2d(nn.Module):
    """A 3x3 convolution trained as a sum of linear branches, computed as the one convolution they amount to.

    Branches: 3x3; 1x1; the identity times a learned factor where the widths agree; 3x3 to `expansion` times the
    output channels followed by 1x1 (Bhardwaj et al. 2022, arXiv:2103.09404). Folding happens on the weights at each
    step, so training costs little more than the plain convolution and `fold()` changes nothing.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.pointwise = nn.Parameter(torch.empty(out_channels, in_channels))
        self.expand = nn.Parameter(torch.empty(expansion * out_channels, in_channels, 3, 3))
        self.squeeze = nn.Parameter(torch.empty(out_channels, expansion * out_channels))
        self.identity = nn.Parameter(torch.empty(())) if in_channels == out_channels else None

    def folded_weight(self) -> torch.Tensor:
        """The weight (out, in, 3, 3) of the convolution that equals all branches together."""
        center = self.pointwise
        if self.identity is not None:
            center = center + self.identity * torch.eye(len(center), dtype=center.dtype, device=center.device)
        expanded = torch.einsum("oe,eixy->oixy", self.squeeze, self.expand)
        return self.weight + expanded + pad(center[:, :, None, None], (1, 1, 1, 1))

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return conv2d(hidden_state, self.folded_weight(), self.bias, padding=1)

    def fold(self) -> nn.Conv2d:
        """The plain convolution with the same output."""
        weight = self.folded_weight().detach()
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, device=weight.device, dtype=weight.dtype)
        conv.weight.data.copy_(weight)
        conv.bias.data.copy_(self.bias.detach())
        return conv.train(self.training)


def make_conv(config: SRGANConfig, in_channels: int, out_channels: int) -> nn.Module:
    if config.branch_expansion is None or config.fused:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return BranchedConv2d(in_channels, out_channels, config.branch_expansion)


def start_from_zero(layers: nn.Sequential) -> None:
    """Mark the last convolution: each part of a long sum starts as nothing, or the sum would grow with depth."""
    [layer for layer in layers if isinstance(layer, nn.Conv2d | BranchedConv2d)][-1].zero_start = True


class SRGANBlock(GradientCheckpointingLayer):
    """Convolutions from the trunk's width through the block's widths and back."""

    def __init__(self, config: SRGANConfig, widths: list[int]):
        super().__init__()
        self.residual = config.block_residual
        self.layers = nn.Sequential()
        channels = [config.hidden_size, *widths, config.hidden_size]
        for index in range(len(channels) - 1):
            self.layers.append(make_conv(config, channels[index], channels[index + 1]))
            if config.norm:
                self.layers.append(nn.BatchNorm2d(channels[index + 1]))
            if not self.residual or index < len(channels) - 2:
                self.layers.append(ACT2FN[config.hidden_act])
        if self.residual and not config.norm:
            start_from_zero(self.layers)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        output = self.layers(hidden_state)
        return output + hidden_state if self.residual else output


def post_operation(layer: nn.Module) -> tuple[str, list[float]] | None:
    """Name and parameters by which oneDNN knows an activation that it can compute along with a convolution."""
    if isinstance(layer, nn.ReLU):
        return "relu", []
    if isinstance(layer, nn.LeakyReLU):
        return "leaky_relu", [layer.negative_slope]
    if isinstance(layer, nn.PReLU) and layer.weight.numel() == 1:
        return "leaky_relu", [layer.weight.item()]
    return None


def in_one_pass(layers: nn.Sequential, hidden_state: torch.Tensor, plus: torch.Tensor | None = None) -> torch.Tensor:
    """`layers(hidden_state)`, + `plus` where they end in a convolution: each convolution with the activation or the
    sum after it in one pass over memory."""
    device = hidden_state.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_state.dtype
    hidden_state = hidden_state.to(dtype)
    for conv, activation in zip_longest(layers[::2], layers[1::2]):
        weights = (conv.weight.to(dtype), conv.bias.to(dtype), conv.padding, conv.stride, conv.dilation, conv.groups)
        if activation is None:
            hidden_state = torch.ops.mkldnn._convolution_pointwise.binary(
                hidden_state, plus, *weights, "add", 1.0, None, [], None
            )
        else:
            name, parameters = post_operation(activation)
            hidden_state = torch.ops.mkldnn._convolution_pointwise(hidden_state, *weights, name, parameters, "")
    return hidden_state


def keys_kernel(distance: torch.Tensor) -> torch.Tensor:
    """The cubic convolution kernel of Keys (1981) with a = -0.5; 0 from a distance of 2 on."""
    d = distance.abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0))


class InputUpscaler(nn.Module):
    """Upscales the input by `scale` with a fixed filter: (N, C, H, W) to (N, C, H * scale, W * scale).

    `bicubic` is Keys' kernel, as in MATLAB's imresize, edge pixels repeated outside.
    """

    def __init__(self, scale: int, mode: str):
        super().__init__()
        self.scale = scale
        self.mode = mode
        self.register_buffer("kernel", self.make_kernel(), persistent=False)

    def make_kernel(self) -> torch.Tensor:
        """(scale * scale, 5, 5): for each output pixel of a cell, the weights of the 5x5 input pixels around.

        Not of four dimensions, which channels_last would lay out so that DDP cannot send it as its only buffer.
        """
        offsets = (torch.arange(self.scale, dtype=torch.float64, device="cpu") + 0.5) / self.scale - 0.5
        distance = (torch.arange(-2, 3, dtype=torch.float64, device="cpu") - offsets[:, None]).abs()
        rows = (distance <= 0.5).double() if self.mode == "nearest" else keys_kernel(distance)
        return torch.einsum("iy,jx->ijyx", rows, rows).reshape(self.scale**2, 5, 5).float()

    def cells(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The output before its pixels are put in their places: (N, C * scale * scale, H, W)."""
        device = pixel_values.device.type
        if torch.is_autocast_enabled(device):  # whose half precision is for what is added to this
            with torch.autocast(device, enabled=False):
                return self.cells(pixel_values)
        channels = pixel_values.shape[1]
        padded = pad(pixel_values, (2, 2, 2, 2), mode="replicate")
        kernel = self.kernel.to(pixel_values.dtype)[:, None].repeat(channels, 1, 1, 1)
        return conv2d(padded, kernel, groups=channels)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_shuffle(self.cells(pixel_values), self.scale)


class SRGANGenerator(nn.Module):
    """Low-resolution image (N, C, H, W) to high-resolution image (N, C, H * scale, W * scale)."""

    def __init__(self, config: SRGANConfig):
        super().__init__()
        width, channels, scale = config.hidden_size, config.num_channels, config.scale
        self.scale, self.cell = scale, config.pixel_unshuffle
        self.head = nn.Sequential(
            nn.Conv2d(channels * self.cell**2, width, config.head_kernel_size, padding=config.head_kernel_size // 2),
            ACT2FN[config.hidden_act],
        )
        self.blocks = nn.ModuleList(SRGANBlock(config, widths) for widths in config.block_widths)
        self.fusion = None
        if config.trunk_residual:
            self.fusion = nn.Sequential(make_conv(config, width, width))
            if config.norm:
                self.fusion.append(nn.BatchNorm2d(width))
            else:
                start_from_zero(self.fusion)
        self.upsampler = nn.Sequential()
        tail = config.tail_kernel_size
        if config.upsampler == "stepwise":
            for factor in {2: [2], 3: [3], 4: [2, 2]}[scale]:
                self.upsampler.append(nn.Conv2d(width, width * factor**2, 3, padding=1))
                self.upsampler.append(nn.PixelShuffle(factor))
                self.upsampler.append(ACT2FN[config.hidden_act])
            self.upsampler.append(nn.Conv2d(width, channels, tail, padding=tail // 2))
        else:
            factor = scale * self.cell
            self.upsampler.append(nn.Conv2d(width, channels * factor**2, tail, padding=tail // 2))
            self.upsampler.append(nn.PixelShuffle(factor))
        self.skip = None
        if config.skip != "none":
            self.skip = InputUpscaler(scale, config.skip)
            start_from_zero(self.upsampler)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        hidden_state = self.head(self.to_cells(pixel_values))
        hidden_states = [hidden_state]
        for block in self.blocks:
            hidden_states.append(block(hidden_states[-1]))
        trunk = hidden_states[-1]
        if self.fusion is not None:
            trunk = hidden_state + self.fusion(trunk)
        image = self.crop(self.upsampler(trunk), pixel_values)
        return image if self.skip is None else image + self.skip(pixel_values), hidden_states

    def to_cells(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C * cell**2, ceil(H / cell), ceil(W / cell))."""
        if self.cell == 1:
            return pixel_values
        height, width = pixel_values.shape[-2:]
        padded = pad(pixel_values, (0, -width % self.cell, 0, -height % self.cell), mode="replicate")
        return pixel_unshuffle(padded, self.cell).contiguous(memory_format=torch.channels_last)

    def crop(self, image: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        """`image` without what the padding of [`SRGANGenerator.to_cells`] became."""
        height, width = pixel_values.shape[-2:]
        return image if self.cell == 1 else image[..., : height * self.scale, : width * self.scale]

    def reconstruct(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The image of `forward`, by [`in_one_pass`]."""
        trunk = hidden_state = in_one_pass(self.head, self.to_cells(pixel_values))
        for block in self.blocks:
            trunk = in_one_pass(block.layers, trunk, trunk if block.residual else None)
        if self.fusion is not None:
            trunk = in_one_pass(self.fusion, trunk, hidden_state)
        if self.skip is None:
            return self.crop(self.upsampler(trunk), pixel_values)
        if len(self.upsampler) > 2 or self.cell > 1:
            return self.crop(self.upsampler(trunk), pixel_values) + self.skip(pixel_values)
        conv, shuffle = self.upsampler
        return shuffle(conv(trunk) + self.skip.cells(pixel_values))

    def fuse(self) -> None:
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, BranchedConv2d):
                    setattr(module, name, child.fold())


class UNetDiscriminator(nn.Module):
    """A score for every pixel, (N, 1, H, W), with spectral normalisation (Wang et al. 2021, arXiv:2107.10833)."""

    def __init__(self, config: SRGANConfig):
        super().__init__()
        width = config.discriminator_width
        self.head = nn.Conv2d(config.num_channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, stride=2, padding=1, bias=False))
            for i in range(3)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 3, padding=1, bias=False))
            for i in reversed(range(3))
        )
        self.tail = nn.Sequential(
            spectral_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        self.activation = nn.LeakyReLU(0.2)
        self.minimum_size = 8

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        levels = [self.activation(self.head(image))]
        for conv in self.down:
            levels.append(self.activation(conv(levels[-1])))
        hidden_state = levels[-1]
        for conv, level in zip(self.up, reversed(levels[:-1]), strict=True):
            hidden_state = interpolate(hidden_state, size=level.shape[-2:], mode="bilinear", align_corners=False)
            hidden_state = self.activation(conv(hidden_state)) + level
        return self.tail(hidden_state), levels


class SRGANImageDiscriminator(nn.Module):
    """One score an image, (N, 1): the paper's, for any size of at least 16 (the paper's 96 pixels pool to 6x6)."""

    def __init__(self, config: SRGANConfig):
        super().__init__()
        width = config.discriminator_width
        self.features = nn.Sequential(
            nn.Conv2d(config.num_channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        channels = width
        for out_channels, stride in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
            self.features.append(nn.Conv2d(channels, width * out_channels, 3, stride, padding=1, bias=False))
            self.features.append(nn.BatchNorm2d(width * out_channels))
            self.features.append(nn.LeakyReLU(0.2))
            channels = width * out_channels
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(6),
            nn.Flatten(),
            nn.Linear(channels * 36, 16 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(16 * width, 1),
        )
        self.minimum_size = 16

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        hidden_states = []
        for layer in self.features:
            image = layer(image)
            if isinstance(layer, nn.LeakyReLU):
                hidden_states.append(image)
        return self.classifier(image), hidden_states


DISCRIMINATORS = {"unet": UNetDiscriminator, "srgan": SRGANImageDiscriminator}


@dataclass
class SRGANDiscriminatorOutput(ModelOutput):
    """Scores before the sigmoid, above 0 for images taken as real: (N, 1, H, W) of the U-Net, else (N, 1).

    `hidden_states`, where asked for: features (N, C, h, w), from the image's size to an eighth of it (a sixteenth of
    the discriminator `srgan`).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class SRGANOutput(ModelOutput):
    """`loss` is the pixel loss; `reconstruction` the upscaled images; `fake_logits`, `real_logits` the scores of
    reconstruction and labels; `hidden_states`, on request, the generator's features."""

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    fake_logits: torch.Tensor | None = None
    real_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class SRGANPreTrainedModel(PreTrainedModel):
    config: SRGANConfig
    base_model_prefix = "srgan"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["SRGANBlock", "InputUpscaler", "UNetDiscriminator"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d | nn.Linear):
            if getattr(module, "zero_start", False):
                initialization.zeros_(module.weight)
            elif not nn.utils.parametrize.is_parametrized(module, "weight"):
                initialization.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, ParametrizationList):
            # As PyTorch: the scale is divided out, but a larger weight would learn more slowly.
            initialization.kaiming_uniform_(module.original, a=5**0.5)
            initialize_spectral_norm(module[0], module.original)
        elif isinstance(module, _SpectralNorm):
            initialize_spectral_norm(module)
        elif isinstance(module, BranchedConv2d):
            if getattr(module, "zero_start", False):
                initialization.zeros_(module.weight)
            else:
                initialization.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
            initialization.kaiming_normal_(module.expand, a=0.2, nonlinearity="leaky_relu")
            for parameter in (module.bias, module.pointwise, module.squeeze, module.identity):
                if parameter is not None:
                    initialization.zeros_(parameter)
        elif isinstance(module, nn.BatchNorm2d):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
            initialization.zeros_(module.running_mean)
            initialization.ones_(module.running_var)
            initialization.zeros_(module.num_batches_tracked)
        elif isinstance(module, nn.PReLU):
            initialization.constant_(module.weight, 0.25)
        elif isinstance(module, InputUpscaler):
            initialization.copy_(module.kernel, module.make_kernel())

    def get_input_embeddings(self):
        return None

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **options
    ):
        super()._set_gradient_checkpointing(enable, checkpoint_with_gradients(gradient_checkpointing_func), **options)

    def train(self, mode: bool = True):
        """As in PyTorch, but batch normalisation whose weights are frozen stays in evaluation mode.

        Adapters (PEFT) are saved without running statistics: these must not change under a frozen network.
        """
        super().train(mode)
        for module in self.modules() if mode else ():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    def save_pretrained(self, save_directory, **kwargs):
        if self._auto_class is not None:
            module = type(self).__module__.split(".")[-1]
            self.config.auto_map = {auto: f"{module}.{name}" for auto, name in AUTO_CLASSES.items()}
        super().save_pretrained(save_directory, **kwargs)
        self.write_model_card(save_directory, Path(save_directory).resolve().name)

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        self.write_model_card(working_dir, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def write_model_card(self, folder, name):
        """Write README.md unless there is one; transformers' empty template counts as none."""
        card = Path(folder) / "README.md"
        if card.exists() and "[More Information Needed]" not in card.read_text(encoding="utf-8"):
            return
        upscales = isinstance(self, SRGANForImageSuperResolution)
        architecture = type(self).__name__
        usage = PIPELINE_USAGE if upscales else MODEL_USAGE
        text = MODEL_CARD.format(
            name=name,
            architecture=architecture,
            pipeline_tag="pipeline_tag: image-to-image\n" if upscales else "",
            description=self.card_description,
            parameters=self.num_parameters(),
            scale=self.config.scale,
            channels="colour images" if self.config.num_channels == 3 else "grey images",
            usage=usage.format(name=name, scale=self.config.scale, architecture=architecture),
        )
        card.write_text(text, encoding="utf-8")


def checkpoint_with_gradients(checkpoint_function: Callable) -> Callable:
    """`checkpoint_function`, and where that is re-entrant, for a block none of whose inputs has a gradient, too.

    Re-entrant checkpointing would silently give the weights of such a block no gradient: its input gets one.
    """
    if not getattr(checkpoint_function, "keywords", {}).get("use_reentrant"):
        return checkpoint_function

    def run(function: Callable, hidden_state: torch.Tensor, *inputs: Any) -> Any:
        has_gradient = any(isinstance(value, torch.Tensor) and value.requires_grad for value in inputs)
        if torch.is_grad_enabled() and not has_gradient and not hidden_state.requires_grad:
            hidden_state = hidden_state.detach().requires_grad_()
        return checkpoint_function(function, hidden_state, *inputs)

    return run


def initialize_spectral_norm(norm: _SpectralNorm, weight: torch.Tensor | None = None) -> None:
    """Start from random directions where they were not loaded, or with a weight, from its first singular vectors."""
    u, v = (normalize(torch.randn_like(vector), dim=0) for vector in (norm._u, norm._v))
    if weight is not None:
        matrix = norm._reshape_weight_to_matrix(weight)
        for _ in range(15):
            u = normalize(matrix @ v, dim=0)
            v = normalize(matrix.T @ u, dim=0)
    initialization.copy_(norm._u, u)
    initialization.copy_(norm._v, v)


def check_images(images: torch.Tensor, name: str, num_channels: int, minimum_size: int = 1) -> None:
    shape = None if images is None else tuple(images.shape)
    if shape is None or len(shape) != 4 or shape[1] != num_channels or min(shape[2:]) < minimum_size:
        size = f", of at least {minimum_size}×{minimum_size} pixels" if minimum_size > 1 else ""
        raise ValueError(f"{name} must have the shape (batch, {num_channels}, height, width){size}; got {shape}.")


class SRGANForImageSuperResolution(SRGANPreTrainedModel):
    """The generator: images of any size, float in [0, 1], upscaled `config.scale` times."""

    card_description = "A super-resolution network"
    _keys_to_ignore_on_load_unexpected = [r"^discriminator\."]

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.generator = SRGANGenerator(config)
        self.post_init()

    def fuse(self) -> "SRGANForImageSuperResolution":
        """Fold the training branches into plain convolutions, in place; same output, fewer parameters."""
        self.generator.fuse()
        self.config.fused = True
        return self

    def save_pretrained(self, save_directory, **kwargs):
        code = [Path(__file__).with_name(name) for name in PIPELINE_CODE]
        if self._auto_class is not None and all(file.exists() for file in code):
            self.config.custom_pipelines = CUSTOM_PIPELINES
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            for file in code:
                copy(file, save_directory)
        super().save_pretrained(save_directory, **kwargs)

    def reconstruct(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`forward`'s `reconstruction` alone, faster on a CPU where no gradients are computed.

        There oneDNN computes convolutions together with the activations and sums after them; in fp32 the bits are
        those of `forward`.

        Args:
            pixel_values: low-resolution images (N, C, H, W), float in [0, 1].

        Returns:
            (N, C, H * scale, W * scale).
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels)
        pixel_values = pixel_values.to(self.dtype)
        if self.suits_one_pass(pixel_values):
            return self.generator.reconstruct(pixel_values)
        return self(pixel_values, return_dict=True).reconstruction

    def suits_one_pass(self, pixel_values: torch.Tensor) -> bool:
        """Whether [`in_one_pass`] can compute this network of this input, in fp32 with the bits of `forward`."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else pixel_values.dtype
        mkldnn = torch.backends.mkldnn
        if torch.is_grad_enabled() or not (mkldnn.is_available() and mkldnn.enabled):
            return False
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        if pixel_values.numel() <= FEW_VALUES or dtype not in (torch.float32, torch.bfloat16):
            return False
        net = self.generator
        parts = [net.head, *(block.layers for block in net.blocks), net.fusion or []]
        plain = all(type(layer) is nn.Conv2d or post_operation(layer) for part in parts for layer in part)
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in self.modules())
        devices = {tensor.device.type for tensor in (pixel_values, *self.parameters())}
        return plain and not hooked and devices == {"cpu"}

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageSuperResolutionOutput:
        """
        Args:
            pixel_values: low-resolution images (N, C, H, W), float in [0, 1].
            labels: the wanted high-resolution images (N, C, H * scale, W * scale), for the mean absolute error in
                `loss`.
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels)
        reconstruction, hidden_states = self.generator(pixel_values.to(self.dtype))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return ImageSuperResolutionOutput(
            loss=pixel_loss(reconstruction, labels),
            reconstruction=reconstruction,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )


def pixel_loss(reconstruction: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    if labels is None:
        return None
    if labels.shape != reconstruction.shape:
        raise ValueError(f"labels must have the shape {tuple(reconstruction.shape)}, got {tuple(labels.shape)}.")
    return l1_loss(reconstruction, labels.to(reconstruction.dtype))


class SRGANDiscriminator(SRGANPreTrainedModel):
    """Tells upscaled images from photographs."""

    card_description = "The discriminator of a super-resolution GAN, for training"
    _keys_to_ignore_on_load_unexpected = [r"^generator\."]

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.discriminator = DISCRIMINATORS[config.discriminator](config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SRGANDiscriminatorOutput:
        """
        Args:
            pixel_values: images (N, C, H, W), float in [0, 1].
            labels: 1 for real and 0 for upscaled images, (N,), for the binary cross-entropy in `loss`.
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels, self.discriminator.minimum_size)
        logits, hidden_states = self.discriminator(pixel_values.to(self.dtype))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        loss = None
        if labels is not None:
            targets = labels.to(logits.dtype).view(-1, *[1] * (logits.ndim - 1)).expand_as(logits)
            loss = binary_cross_entropy_with_logits(logits, targets)
        hidden_states = tuple(hidden_states) if output_hidden_states else None
        return SRGANDiscriminatorOutput(loss=loss, logits=logits, hidden_states=hidden_states)


class SRGANModel(SRGANPreTrainedModel):
    """Generator and discriminator in one checkpoint, for training; each part loads from it by its own class."""

    card_description = "Generator and discriminator of a super-resolution GAN"

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.generator = SRGANGenerator(config)
        self.discriminator = DISCRIMINATORS[config.discriminator](config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SRGANOutput:
        """
        Args:
            pixel_values: low-resolution images (N, C, H, W), float in [0, 1].
            labels: high-resolution images (N, C, H * scale, W * scale), for `loss` and `real_logits`.
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels)
        reconstruction, hidden_states = self.generator(pixel_values.to(self.dtype))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        check_images(reconstruction, "the upscaled images", self.config.num_channels, self.discriminator.minimum_size)
        loss = pixel_loss(reconstruction, labels)
        return SRGANOutput(
            loss=loss,
            reconstruction=reconstruction,
            fake_logits=self.discriminator(reconstruction)[0],
            real_logits=self.discriminator(labels.to(self.dtype))[0] if labels is not None else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )


PIPELINE_CODE = ["pipeline_srgan.py", "image_processing_srgan.py"]
CUSTOM_PIPELINES = {
    "image-super-resolution": {
        "impl": "pipeline_srgan.SuperResolutionPipeline",
        "pt": ["AutoModelForImageToImage"],
        "type": "image",
    }
}
AUTO_CLASSES = {"AutoModel": "SRGANModel", "AutoModelForImageToImage": "SRGANForImageSuperResolution"}

__all__ = ["SRGANDiscriminator", "SRGANForImageSuperResolution", "SRGANModel", "SRGANPreTrainedModel"]
