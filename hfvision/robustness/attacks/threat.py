"""The threat model: pixels in [0, 1] change within a ball of radius epsilon, and the model answers."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.image_processing_utils import BaseImageProcessor

from ...data.transforms.normalize import Normalize
from ..threat_model import Norm


def check_batch(model: nn.Module, images: Tensor, labels: Tensor, targets: Tensor | None = None) -> None:
    """Refuse what no attack can work on; how many classes there are shows only when the model has answered.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), their classes.
        targets: int64 (N,), the class that each is to be taken for, another one than its own.

    Raises:
        ValueError: for other shapes, dtypes, values or devices.
    """
    devices = {images.device, labels.device, *(parameter.device for parameter in model.parameters())}
    if len(devices) > 1:
        raise ValueError(
            f"Model, images and labels must be on one device, got {', '.join(sorted(map(str, devices)))}."
        )
    if images.ndim != 4 or images.dtype != torch.float32:
        raise ValueError(
            f"Expected images float32 (N, C, H, W) in [0, 1], got {name_of(images.dtype)} {tuple(images.shape)}"
            f"{': 8-bit pixels are divided by 255' if images.dtype == torch.uint8 else ''}."
        )
    if images.isnan().any():
        raise ValueError("The images have pixels that are not a number (NaN).")
    if images.numel() and (images.min() < 0 or images.max() > 1):
        raise ValueError(
            f"The images have values from {images.min():.3g} to {images.max():.3g}, and an attack takes pixels in "
            "[0, 1]: were they normalized already? Normalization is the model's part (PixelClassifier)."
        )
    for name, classes in {"labels": labels, "targets": targets}.items():
        if classes is None:
            continue
        if classes.shape != images.shape[:1] or classes.dtype != torch.int64:
            raise ValueError(
                f"Expected {name} int64 ({len(images)},), one for each image, got "
                f"{name_of(classes.dtype)} {tuple(classes.shape)}."
            )
        if (classes < 0).any():
            raise ValueError(f"The {name} must be classes from 0 on, got {classes.min()}.")
    if targets is not None and (targets == labels).any():
        raise ValueError(f"The target of image {(targets == labels).nonzero()[0].item()} is its own label.")


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class PixelClassifier(nn.Module):
    """A classifier as an attack sees it: images in [0, 1] at the model's own size in, logits out.

    Normalization is part of it, so that epsilon means pixels. Resizing is not: an attack runs at the model's size.

    Args:
        model: any model that gives `.logits` for `pixel_values`.
        normalize: the model's, as [`Normalize.from_processor`] finds it.
        dtype: what the forward pass is computed in by autocast, as torch.bfloat16; gradients of images stay float32.
    """

    def __init__(self, model: nn.Module, normalize: Normalize, dtype: torch.dtype | None = None):
        super().__init__()
        self.model, self.normalize, self.dtype = model, normalize, dtype

    @classmethod
    def from_processor(
        cls, model: nn.Module, processor: BaseImageProcessor, dtype: torch.dtype | None = None
    ) -> "PixelClassifier":
        return cls(model, Normalize.from_processor(processor), dtype)

    def forward(self, images: Tensor) -> Tensor:
        pixel_values = self.normalize(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            return self.model(pixel_values=pixel_values).logits.float()


def norms(perturbations: Tensor, norm: Norm) -> Tensor:
    """The length of each perturbation: (N, C, H, W) to (N, 1, 1, 1)."""
    order = math.inf if norm == "linf" else 2
    return torch.linalg.vector_norm(perturbations.flatten(1), order, dim=1).view(-1, 1, 1, 1)


def project(perturbed: Tensor, images: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The point of the ball of radius `epsilon` around `images`, and of [0, 1], that an attack goes on from.

    For L∞ the nearest one. For L2 first the nearest of the ball, then its pixels clipped to [0, 1], which brings no
    pixel farther from the image's, as that one is in [0, 1] too.

    Args:
        perturbed, images: float (N, C, H, W); `images` in [0, 1].
    """
    difference = perturbed - images
    if norm == "linf":
        difference = difference.clamp(-epsilon, epsilon)
    else:
        difference = difference * (epsilon / norms(difference, norm).clamp_min(1e-12)).clamp_max(1)
    return (images + difference).clamp(0, 1)


def steepest_ascent_direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of length 1 in `norm` along which a linear function rises most; (N, C, H, W) to the same."""
    if norm == "linf":
        return gradient.sign()
    return gradient / norms(gradient, norm).clamp_min(1e-12)


@contextmanager
def under_attack(model: nn.Module, seed: int | None = None) -> Iterator[None]:
    """A model's parameters take no gradients and it is in evaluation mode; afterwards all is as it was.

    Modes of every part, `requires_grad`, `.grad` and the global random state are given back, whatever happens.

    Args:
        model: the model or its [`PixelClassifier`].
        seed: for the global random state meanwhile.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        with torch.random.fork_rng(devices):
            if seed is not None:
                torch.manual_seed(seed)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, want in wanted:
            parameter.requires_grad_(want)
