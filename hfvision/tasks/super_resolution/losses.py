"""What the training of super-resolution networks minimizes: pixels, a teacher, features, an opponent, no grid."""

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
from ..classification.distill import hints
from .gan import DiscriminatorLoss, PerceptualLoss, generator_loss

if TYPE_CHECKING:
    from .config import SuperResTrainingConfig


@dataclass
class SuperResolutionLoss:
    """From a batch of crops to the loss: smaller images of them, the network, pixels, teacher, features, opponent."""

    config: "SuperResTrainingConfig"
    scale: int
    autocast: Callable[[], AbstractContextManager]
    teacher: SRGANForImageSuperResolution | None = None
    perceptual: PerceptualLoss | None = None
    discriminator: SRGANDiscriminator | None = None
    left_for: DiscriminatorLoss | None = None

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
            loss = torch.lerp(loss, self.by_teacher(output, restored, small, keys), self.config.distillation_weight)
        loss = self.config.pixel_weight * loss
        if self.perceptual is not None:
            with self.autocast():
                values["features"] = self.perceptual(restored, labels)
            loss = loss + self.config.perceptual_weight * values["features"]
        if self.discriminator is not None:
            values["fooled"] = self.by_discriminator(restored, labels)
            loss = loss + self.config.gan_weight * values["fooled"]
            if self.config.grid_weight:
                values["grid"] = grid_loss(restored, labels, self.scale)
                loss = loss + self.config.grid_weight * values["grid"]
        return {"loss": loss} | {name: value.detach() for name, value in values.items()}

    def by_teacher(self, output: Any, restored: Tensor, small: Tensor, keys: Tensor) -> Tensor:
        teacher = self.teacher.to(small.device)
        if self.config.distillation == "features":
            with torch.no_grad(), self.autocast():
                answer = teacher(pixel_values=small, output_hidden_states=True)
            return attention_transfer_loss(hints(output.hidden_states), hints(answer.hidden_states))
        with torch.no_grad(), self.autocast():
            if self.config.self_ensemble:
                answers = answers_when_turned(teacher, small, keys)
            else:
                answers = teacher.reconstruct(small)
        return pixel_loss(restored, answers.float(), self.config.pixel_loss, self.config.luma)

    def by_discriminator(self, restored: Tensor, labels: Tensor) -> Tensor:
        self.discriminator.requires_grad_(False)
        fake = self.discriminator(pixel_values=restored).logits.float()
        with torch.no_grad():
            real = self.discriminator(pixel_values=labels).logits.float()
        self.discriminator.requires_grad_(True)
        self.left_for.real, self.left_for.fake = labels, restored.detach()
        return generator_loss(real, fake, self.config.gan)


def answers_when_turned(teacher: SRGANForImageSuperResolution, small: Tensor, keys: Tensor) -> Tensor:
    """What the teacher makes of images (N, C, H, W), each mirrored and turned by chance before and back after.

    Their mean over all chances is its geometric self-ensemble (Lim et al. 2017, arXiv:1707.02921, section 3.4).
    """
    ways = [(flip < 0.5, int(4 * turns)) for flip, turns in uniform(keys, 2, stream=2).tolist()]
    small = torch.stack([turned(image, *way) for image, way in zip(small, ways, strict=True)])
    answers = teacher.reconstruct(small.contiguous(memory_format=torch.channels_last))
    return torch.stack([turned_back(image, *way) for image, way in zip(answers, ways, strict=True)])


def pixel_loss(images: Tensor, targets: Tensor, kind: Literal["l1", "l2", "charbonnier"], luma: float = 0.0) -> Tensor:
    """Mean absolute or squared difference, or √(d² + 10⁻⁶), after Charbonnier (Lai et al. 2017, arXiv:1704.03915).

    `luma` of it is of the luma Y of colour images (N, 3, H, W), by the weights of [`rgb_to_y`].
    """
    if luma and images.shape[1] == 3:
        brightness = pixel_loss(rgb_to_y(images), rgb_to_y(targets), kind)
        return torch.lerp(pixel_loss(images, targets, kind), brightness, luma)
    if kind == "charbonnier":
        return ((images - targets).square() + 1e-6).sqrt().mean()
    return l1_loss(images, targets) if kind == "l1" else mse_loss(images, targets)


def grid_loss(images: Tensor, targets: Tensor, scale: int) -> Tensor:
    """How much of the difference of images, float (N, C, H, W), repeats itself from one cell of pixels to the next.

    The error of each of the `scale`² places in a cell, averaged over 8×8 cells, less that of the whole cell; its mean
    absolute value. True texture seldom has that period; a pattern of pixel shuffle (Odena et al. 2016,
    doi:10.23915/distill.00003) has it everywhere.
    """
    errors = pixel_unshuffle(images - targets, scale).unflatten(1, (images.shape[1], scale**2))
    errors = errors - errors.mean(2, keepdim=True)
    return avg_pool2d(errors.flatten(1, 2), min(8, *errors.shape[-2:]), stride=4).abs().mean()


def attention_transfer_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """How far the maps of where features are strong are apart (Zagoruyko and Komodakis 2017, arXiv:1612.03928,
    equation 2, squared): the features of both (N, C, H, W), any C, agree in H and W."""
    maps = [[normalize(x.float().square().mean(1).flatten(1)) for x in features] for features in (student, teacher)]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(*maps, strict=True)]).mean()
