"""The loss of super-resolution networks: pixels, a teacher, perceptual features, a discriminator, grid artifacts."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss, mse_loss, normalize, pixel_unshuffle

from ...data.transforms.crops import turned, turned_back
from ...data.transforms.degradation_presets import PRESETS
from ...data.transforms.degradations import degrade
from ...data.transforms.keyed import image_keys, uniform
from ...metrics.psnr import rgb_to_y
from ...models.srgan.modeling_srgan import SRGANDiscriminator, SRGANForImageSuperResolution
from ..distill import hints
from .gan import DiscriminatorLoss, generator_loss
from .perceptual import PerceptualLoss

if TYPE_CHECKING:
    from .config import SuperResTrainingConfig


@dataclass
class SuperResolutionLoss:
    """From a batch of crops to the loss: degradation, network, and the terms that are switched on.

    Attributes:
        config: the settings.
        scale: of the network.
        autocast: the context that the frozen networks compute in.
        teacher, perceptual: for distillation and the perceptual term, where there are.
        discriminator, discriminator_loss: the GAN's, where there is one; the latter is given the images.
    """

    config: "SuperResTrainingConfig"
    scale: int
    autocast: Callable[..., AbstractContextManager]
    teacher: SRGANForImageSuperResolution | None = None
    perceptual: PerceptualLoss | None = None
    discriminator: SRGANDiscriminator | None = None
    discriminator_loss: DiscriminatorLoss | None = None

    def __call__(self, net: nn.Module, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        labels = batch["labels"].float().div(255).contiguous(memory_format=torch.channels_last)
        keys = image_keys(self.config.seed, epoch, batch["index"])
        small = degrade(labels, self.scale, keys, PRESETS[self.config.degradation])
        features = self.teacher is not None and self.config.distillation == "features"
        output = net(pixel_values=small, output_hidden_states=features)
        restored = output.reconstruction.float()
        loss = pixel_loss(restored, labels, self.config.pixel_loss, self.config.luma)
        values = {"pixels": loss.detach()}
        if self.teacher is not None:
            term = self.teacher_term(self.teacher, output, small, keys)
            loss = torch.lerp(loss, term, self.config.distillation_weight)
        loss = self.config.pixel_weight * loss
        if self.perceptual is not None:
            with self.autocast():
                values["features"] = self.perceptual(restored, labels)
            loss = loss + self.config.perceptual_weight * values["features"]
        if self.discriminator is not None:
            values["fooled"] = self.adversarial_term(self.discriminator, restored, labels)
            loss = loss + self.config.gan_weight * values["fooled"]
            if self.config.grid_weight:
                values["grid"] = grid_loss(restored, labels, self.scale)
                loss = loss + self.config.grid_weight * values["grid"]
        return {"loss": loss} | {name: value.detach() for name, value in values.items()}

    def teacher_term(self, teacher: SRGANForImageSuperResolution, output: Any, small: Tensor, keys: Tensor) -> Tensor:
        """How far the network's output is from the teacher's, in pixels or features."""
        teacher.to(small.device)  # pyright: ignore[reportArgumentType]  # the stub loses self
        if self.config.distillation == "features":
            with torch.no_grad(), self.autocast():
                answer = teacher(pixel_values=small, output_hidden_states=True)
            return attention_transfer_loss(hints(output.hidden_states), hints(answer.hidden_states))
        with torch.no_grad(), self.autocast():
            if self.config.self_ensemble:
                answers = augmented_outputs(teacher, small, keys)
            else:
                answers = teacher.reconstruct(small)
        return pixel_loss(output.reconstruction.float(), answers.float(), self.config.pixel_loss, self.config.luma)

    def adversarial_term(self, discriminator: SRGANDiscriminator, restored: Tensor, labels: Tensor) -> Tensor:
        """The generator's loss; the images are stored for the discriminator's."""
        assert self.discriminator_loss is not None
        assert self.config.gan != "none"
        discriminator.requires_grad_(False)
        fake = discriminator(pixel_values=restored).logits.float()
        with torch.no_grad():
            real = discriminator(pixel_values=labels).logits.float()
        discriminator.requires_grad_(True)
        self.discriminator_loss.real, self.discriminator_loss.fake = labels, restored.detach()
        return generator_loss(real, fake, self.config.gan)


def augmented_outputs(teacher: SRGANForImageSuperResolution, small: Tensor, keys: Tensor) -> Tensor:
    """The teacher's outputs for images (N, C, H, W), each randomly mirrored and rotated before, and back after.

    Their expected value is its geometric self-ensemble (Lim et al. 2017, arXiv:1707.02921, section 3.4).
    """
    ways = [(flip < 0.5, int(4 * turns)) for flip, turns in uniform(keys, 2, stream=2).tolist()]
    small = torch.stack([turned(image, *way) for image, way in zip(small, ways, strict=True)])
    answers = teacher.reconstruct(small.contiguous(memory_format=torch.channels_last))
    return torch.stack([turned_back(image, *way) for image, way in zip(answers, ways, strict=True)])


def pixel_loss(images: Tensor, targets: Tensor, kind: Literal["l1", "l2", "charbonnier"], luma: float = 0.0) -> Tensor:
    """Mean absolute or squared difference, or √(d² + 10⁻⁶), after Charbonnier (Lai et al. 2017, arXiv:1704.03915).

    The share `luma` of it is of the luma Y of color images (N, 3, H, W), by the weights of [`rgb_to_y`].
    """
    if luma and images.shape[1] == 3:
        brightness = pixel_loss(rgb_to_y(images), rgb_to_y(targets), kind)
        return torch.lerp(pixel_loss(images, targets, kind), brightness, luma)
    if kind == "charbonnier":
        return ((images - targets).square() + 1e-6).sqrt().mean()
    return l1_loss(images, targets) if kind == "l1" else mse_loss(images, targets)


def grid_loss(images: Tensor, targets: Tensor, scale: int) -> Tensor:
    """The part of the error of images, float (N, C, H, W), that is periodic with the scale, as a checkerboard.

    The error of each of the `scale`² positions in a cell, averaged over 8×8 cells, minus that of the whole cell; its
    mean absolute value. Texture rarely has that period; artifacts of pixel shuffle (Odena et al. 2016,
    doi:10.23915/distill.00003) have it everywhere.
    """
    errors = pixel_unshuffle(images - targets, scale).unflatten(1, (images.shape[1], scale**2))
    errors = errors - errors.mean(2, keepdim=True)
    return avg_pool2d(errors.flatten(1, 2), min(8, *errors.shape[-2:]), stride=4).abs().mean()


def attention_transfer_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The squared distance of attention maps (Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2) of features
    (N, C, H, W) whose H and W agree, with any C."""
    maps = [[normalize(x.float().square().mean(1).flatten(1)) for x in features] for features in (student, teacher)]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(*maps, strict=True)]).mean()
