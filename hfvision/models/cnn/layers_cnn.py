"""Layers of the CNN family: convolution, blocks, stages, encoder and pooling."""

import math
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_cnn import CNNConfig


def make_norm(config: CNNConfig, width: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm2d(width, eps=config.norm_eps, momentum=config.norm_momentum)
    if config.norm == "group":
        return nn.GroupNorm(math.gcd(32, width), width, eps=config.norm_eps)
    return nn.Identity()


class CNNConvLayer(nn.Module):
    """Convolution, optional max pooling, normalisation, optional activation."""

    def __init__(
        self,
        config: CNNConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pool: int = 1,
        norm: bool = True,
        activation: bool = True,
    ):
        super().__init__()
        norm = norm and config.norm != "none"
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2, bias=not norm
        )
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        self.normalization = make_norm(config, out_channels) if norm else nn.Identity()
        self.activation = ACT2FN[config.hidden_act] if activation else nn.Identity()

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.activation(self.normalization(self.pool(self.convolution(hidden_state))))


class CNNBlock(GradientCheckpointingLayer):
    """The convolutions of one block, with the shortcut around them where the block is residual."""

    def __init__(self, config: CNNConfig, in_channels: int, widths: list[int], stride: int, projection: bool):
        super().__init__()
        residual = config.block_type != "plain"
        kernels = [1, 3, 1] if config.block_type == "bottleneck" else [3] * len(widths)
        strided = kernels.index(3)
        self.layers = nn.Sequential()
        channels = in_channels
        for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            self.layers.append(
                CNNConvLayer(
                    config,
                    channels,
                    width,
                    kernel,
                    stride=stride if index == strided and config.downsample == "stride" else 1,
                    pool=stride if index == 0 and config.downsample == "pool_first" else 1,
                    activation=not residual or index < len(widths) - 1,
                )
            )
            channels = width
        self.shortcut = None
        self.activation = nn.Identity()
        if residual:
            self.shortcut = (
                CNNConvLayer(config, in_channels, channels, kernel_size=1, stride=stride, activation=False)
                if projection
                else nn.Identity()
            )
            self.activation = ACT2FN[config.hidden_act]
            # A residual block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
            last: Any = self.layers[-1]
            last.normalization.zero_start = True

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        output = self.layers(hidden_state)
        if self.shortcut is not None:
            output = output + self.shortcut(hidden_state)
        return self.activation(output)


class CNNStage(nn.Module):
    def __init__(
        self,
        config: CNNConfig,
        in_channels: int,
        block_widths: list[list[int]],
        stride: int,
        projections: list[bool],
    ):
        super().__init__()
        self.blocks = nn.ModuleList()
        for index, widths in enumerate(block_widths):
            block_stride = stride if index == 0 else 1
            self.blocks.append(CNNBlock(config, in_channels, widths, block_stride, projections[index]))
            in_channels = widths[-1]
        self.pool = nn.MaxPool2d(stride) if config.downsample == "pool_last" and stride > 1 else nn.Identity()

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden_state = block(hidden_state)
        return self.pool(hidden_state)


class CNNEncoder(nn.Module):
    """Stem and stages: (N, channels, H, W) to (N, last width, H / reduction, W / reduction)."""

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.stem = nn.Sequential()
        if config.stem_width is not None:
            self.stem.append(
                CNNConvLayer(
                    config,
                    config.num_channels,
                    config.stem_width,
                    config.stem_kernel_size,
                    config.stem_stride,
                    norm=config.stem_norm,
                )
            )
        if config.stem_pool:
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.ModuleList()
        channels = config.stem_channels
        flags = config.shortcut_projections or [[False] * len(stage) for stage in config.stage_widths]
        for blocks, stride, projections in zip(config.stage_widths, config.stage_strides, flags, strict=True):
            self.stages.append(CNNStage(config, channels, blocks, stride, projections))
            channels = blocks[-1][-1]
        self.minimum_size = minimum_size(config)

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """The stem's output and each stage's."""
        height, width = pixel_values.shape[-2:]
        if height < self.minimum_size or width < self.minimum_size:
            raise ValueError(
                f"pixel_values of {height}×{width} pixels are too small for this network, which needs at least "
                f"{self.minimum_size}×{self.minimum_size}: resize the images with its image processor."
            )
        feature_maps = [self.stem(pixel_values.to(next(self.parameters()).dtype))]
        for stage in self.stages:
            feature_maps.append(stage(feature_maps[-1]))
        return feature_maps


def minimum_size(config: CNNConfig) -> int:
    """Smallest side in pixels for which no pooling window is empty."""
    size = 1
    for stride in reversed(config.stage_strides):
        size = size * stride if config.downsample != "stride" else (size - 1) * stride + 1
    if config.stem_pool:
        size = (size - 1) * 2 + 1
    if config.stem_width is not None:
        kernel = config.stem_kernel_size
        size = max(1, (size - 1) * config.stem_stride + kernel - 2 * ((kernel - 1) // 2))
    return size


def feature_map_size(config: CNNConfig) -> int:
    """Side of the last feature map for an image of `config.image_size`."""
    size = config.image_size
    if config.stem_width is not None:
        kernel = config.stem_kernel_size
        size = (size + 2 * ((kernel - 1) // 2) - kernel) // config.stem_stride + 1
    if config.stem_pool:
        size = (size - 1) // 2 + 1
    for stride in config.stage_strides:
        size = (size - 1) // stride + 1 if config.downsample == "stride" else size // stride
    return size


class CNNPooler(nn.Module):
    """Pools the last feature map to `pool_size` and flattens it: (N, C, H, W) to (N, C * pool_size**2)."""

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.full_size = feature_map_size(config) if config.pool_size is None else None
        self.image_size = config.image_size
        pool = nn.AdaptiveAvgPool2d if config.pool_type == "avg" else nn.AdaptiveMaxPool2d
        self.pool = nn.Identity() if config.pool_size is None else pool(config.pool_size)
        side = self.full_size or config.pool_size or 1
        self.out_features = config.stage_widths[-1][-1][-1] * side**2

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        if self.full_size is not None and tuple(feature_map.shape[-2:]) != (self.full_size, self.full_size):
            raise ValueError(
                f"This network flattens its feature map and takes images of {self.image_size}×{self.image_size} "
                "pixels only: resize them with its image processor, or set pool_size in its configuration."
            )
        return self.pool(feature_map).flatten(1)
