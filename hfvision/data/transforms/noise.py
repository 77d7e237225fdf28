"""Noise of photographs. Which one is drawn is decided by a `random.Random`; images are float (C, H, W) in [0, 1]."""

import math
from random import Random
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

Channels = Literal["grey", "color", "correlated"]
LUMA = torch.tensor([0.299, 0.587, 0.114])  # BT.601


def generator(rng: Random) -> torch.Generator:
    return torch.Generator().manual_seed(rng.getrandbits(63))


def gaussian_noise(image: Tensor, sigma: float, channels: Channels, rng: Random) -> Tensor:
    """White Gaussian noise of standard deviation `sigma`, clamped to [0, 1].

    Args:
        image: float (C, H, W) in [0, 1].
        sigma: standard deviation, 1/255 being one level of 8 bit.
        channels: the same noise in all channels, noise of their own, or noise with a random covariance between them
            (Zhang et al. 2021, BSRGAN, arXiv:2103.14006, section 3.3) whose mean variance is `sigma`².
        rng: decides the noise.
    """
    source = generator(rng)
    count = 1 if channels == "grey" else image.shape[0]
    noise = torch.randn(count, *image.shape[1:], generator=source)
    if channels == "correlated":
        noise = torch.einsum("ij,jhw->ihw", random_mixing(count, source), noise)
    return (image + sigma * noise).clamp_(0, 1)


def random_mixing(count: int, source: torch.Generator) -> Tensor:
    """A matrix (count, count) that gives white noise a random covariance of trace `count`."""
    axes, _ = torch.linalg.qr(torch.randn(count, count, generator=source, dtype=torch.float64))
    variances = torch.rand(count, generator=source, dtype=torch.float64) + 1e-6
    return (axes * (variances / variances.mean()).sqrt()).float()


def poisson_noise(image: Tensor, strength: float, grey: bool, rng: Random) -> Tensor:
    """Shot noise of 255 photons at white, times `strength`, clamped to [0, 1].

    After Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833, section 3.1). Poisson numbers are approximated from normal
    ones z, with their variance and skewness: λ + √λ·z + (z² - 1)/6 (Cornish and Fisher 1938), ten times as fast.

    Args:
        image: float (C, H, W) in [0, 1].
        strength: factor of the noise.
        grey: the noise of the luma in all channels, instead of noise of their own.
        rng: decides the noise.
    """
    light = image
    if grey and image.shape[0] == 3:
        light = (image * LUMA[:, None, None]).sum(0, keepdim=True)
    normal = torch.randn(light.shape, generator=generator(rng))
    noise = (light * 255).sqrt() * normal + (normal.square() - 1) / 6
    return (image + strength / 255 * noise).clamp_(0, 1)


def sensor_noise(image: Tensor, shot: float, rng: Random) -> Tensor:
    """The noise of a camera's sensor, as strong in the shadows as in the light after the tone curve, or stronger.

    In linear light, noise of variance shot·x + read, as measured by Brooks et al. 2019 (arXiv:1811.11127, section
    3.1): read = shot²·¹⁸·e¹·²⁰, times a log-normal number. The tone curve is a power of 1.8 to 2.4. Red and blue,
    which white balance amplifies, get up to twice the variance; half of the images have the noise smoothed, as
    demosaicing and the camera's own denoising do.

    Args:
        image: float (C, H, W) in [0, 1].
        shot: variance of the shot noise at white in linear light; 0.0001 (base ISO) to 0.012 (a dark room).
        rng: decides the noise.
    """
    gamma = rng.uniform(1.8, 2.4)
    read = shot**2.18 * math.exp(1.2 + rng.gauss(0, 0.26))
    gains = torch.tensor([rng.uniform(1, 2), 1.0, rng.uniform(1, 2)])[:, None, None]
    smooth = rng.random() < 0.5
    noise = torch.randn(image.shape, generator=generator(rng))
    if smooth:
        share = rng.uniform(0.2, 0.7)
        blurred = avg_pool2d(pad(noise[None], (1,) * 4, mode="replicate"), 3, stride=1)[0]
        noise = torch.lerp(noise, blurred, share) / ((1 - share * 8 / 9) ** 2 + 8 * (share / 9) ** 2) ** 0.5
    linear = image**gamma
    variance = (shot * linear + read) * (gains if image.shape[0] == 3 else 1)
    return (linear + variance.sqrt() * noise).clamp_(0, 1) ** (1 / gamma)
