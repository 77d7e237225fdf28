"""Discriminators of the SR-GAN family."""

import torch
from torch import nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

from .configuration_srgan import SRGANConfig


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
