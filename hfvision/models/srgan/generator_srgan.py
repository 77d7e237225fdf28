"""Generators of the SR-GAN family: layers, the network, and a faster way to compute it on a CPU."""

from itertools import zip_longest
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, pad, pixel_shuffle, pixel_unshuffle
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_srgan import SRGANConfig


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
        conv: Any = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, device=weight.device, dtype=weight.dtype)
        conv.weight.data.copy_(weight)
        conv.bias.data.copy_(self.bias.detach())
        return conv.train(self.training)


def make_conv(config: SRGANConfig, in_channels: int, out_channels: int) -> nn.Module:
    if config.branch_expansion is None or config.fused:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return BranchedConv2d(in_channels, out_channels, config.branch_expansion)


def start_from_zero(layers: nn.Sequential) -> None:
    """Mark the last convolution: each part of a long sum starts as nothing, or the sum would grow with depth."""
    last: Any = [layer for layer in layers if isinstance(layer, nn.Conv2d | BranchedConv2d)][-1]
    last.zero_start = True


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
            operation: Any = post_operation(activation)
            name, parameters = operation
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

    kernel: torch.Tensor

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
        blocks: Any = self.blocks
        for block in blocks:
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
