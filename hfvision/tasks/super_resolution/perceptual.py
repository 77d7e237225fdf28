"""Perceptual loss and perceptual distance: how far two images are apart in the features of a classifier."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import grayscale_to_rgb, rgb_to_grayscale
from transformers import PreTrainedModel

from ...data.transforms.normalize import Normalize
from ...hub.loading import load_model
from ...metrics.perceptual import feature_distance
from ...metrics.psnr import check_images
from ..classification.start import load_start

DEFAULT_NETWORK = "imagenet-lite0"
SMALLEST = 32  # pixels a side: the last stage has one position for so many


class PerceptualLoss:
    """The mean [`feature_distance`] of images in the hidden states of a frozen classifier.

    Johnson et al. 2016 (arXiv:1603.08155) with the unit-normalized features of Zhang et al. 2018 (arXiv:1801.03924).

    Args:
        classifier: gives `hidden_states`; it is frozen and set to evaluation mode.
        normalize: the classifier's normalization.

    Raises:
        ValueError: if the classifier gives no hidden states.
    """

    def __init__(self, classifier: PreTrainedModel, normalize: Normalize):
        self.classifier = classifier
        nn.Module.to(classifier.eval().requires_grad_(False), memory_format=torch.channels_last)
        self.normalize = normalize
        with torch.no_grad():
            self.features(torch.zeros(1, 3, 2 * SMALLEST, 2 * SMALLEST))

    @classmethod
    def from_pretrained(cls, name: str) -> "PerceptualLoss":
        """With the classifier `name`: a Hub id, a folder, a shipped checkpoint, or `timm/…`.

        Raises:
            ValueError, FileNotFoundError: if there is no such classifier, or it gives no hidden states.
        """
        if name.startswith("timm/"):
            model, processor = load_start(name, names=["image"])
        else:
            model, processor = load_model(name, "image-classification")
        return cls(model, Normalize.from_processor(processor))

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The hidden states for float images (N, C, H, W) in [0, 1], C of 1 or 3."""
        if self.classifier.device != images.device:
            self.classifier.to(images.device)  # pyright: ignore[reportArgumentType]  # the stub loses self
        channels = len(self.normalize.mean)
        if images.shape[1] != channels:
            images = grayscale_to_rgb(images) if channels == 3 else rgb_to_grayscale(images)
        pixel_values = self.normalize(images).contiguous(memory_format=torch.channels_last)
        states = self.classifier(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        if not states:
            raise ValueError("The perceptual network gives no hidden states: choose another classifier.")
        return states

    def distances(self, images: Tensor, targets: Tensor) -> Tensor:
        """Float (N,) for images (N, C, H, W) in about [0, 1]; the gradient flows to `images` only."""
        with torch.no_grad():
            wanted = self.features(targets)
        return feature_distance(self.features(images), wanted)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """The mean of [`distances`], a scalar."""
        return self.distances(images, targets).mean()


@lru_cache(maxsize=1)
def default_network() -> PerceptualLoss:
    return PerceptualLoss.from_pretrained(DEFAULT_NETWORK)


@torch.inference_mode()
def perceptual_distance(
    prediction: Tensor,
    target: Tensor,
    *,
    crop: int = 0,
    network: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """How different two images look to an ImageNet classifier, lower is more alike.

    >>> image = torch.rand(1, 3, 64, 64)
    >>> hfvision.perceptual_distance(image, image)
    tensor([0.])

    The unit-normalized features of five stages of EfficientNet-Lite0 (the shipped `imagenet-lite0`) are compared, all
    channels weighted alike ([`feature_distance`]). It is not LPIPS, whose network is another and whose weights are
    fitted to human judgments: compare its values only with each other.

    Args:
        prediction, target: float (N, C, H, W) in [0, 1], C of 1 or 3, of at least 32 pixels a side.
        crop: pixels left out at each side.
        network: `distances` of another [`PerceptualLoss`].

    Returns:
        Float32 (N,).

    Raises:
        ValueError: for images of different shapes, out of range, or too small.
    """
    check_images(prediction, target, crop)
    if min(prediction.shape[-2:]) - 2 * crop < SMALLEST:
        raise ValueError(
            f"Images for the perceptual distance need {SMALLEST} pixels a side, got {tuple(prediction.shape[-2:])} "
            f"with crop={crop}."
        )
    pair = (x.clamp(0, 1)[..., crop : x.shape[-2] - crop, crop : x.shape[-1] - crop] for x in (prediction, target))
    return (network or default_network().distances)(*pair)
