"""The second stage of super-resolution training: the losses of generator and discriminator."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .config import GANLoss


def discriminator_loss(real: Tensor, fake: Tensor, kind: GANLoss) -> Tensor:
    """The loss of the discriminator.

    Args:
        real, fake: scores of photographs and of upscaled images, float of one shape.
        kind: `vanilla` (Goodfellow et al. 2014, arXiv:1406.2661), or `relativistic`, to the mean of the others
            (Jolicoeur-Martineau 2018, arXiv:1807.00734, the average form).

    Returns:
        A float scalar; log 4 for constant scores.
    """
    if kind == "relativistic":
        real, fake = real - fake.mean(), fake - real.mean()
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(real: Tensor, fake: Tensor, kind: GANLoss) -> Tensor:
    """The loss of the generator; arguments as for [`discriminator_loss`]."""
    if kind == "relativistic":
        return discriminator_loss(fake, real, kind)
    return softplus(-fake).mean()


def r1_penalty(real: Tensor, images: Tensor) -> Tensor:
    """The mean over the images of the squared norm of the scores' gradient (Mescheder et al. 2018, arXiv:1801.04406).

    Args:
        real: scores (N, …) of `images` (N, C, H, W), which require a gradient.
    """
    (gradient,) = torch.autograd.grad(real.float().mean(tuple(range(1, real.ndim))).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@dataclass
class DiscriminatorLoss:
    """The discriminator's loss on the images that the generator's loss has just stored here.

    Args:
        kind: as in [`discriminator_loss`].
        r1: factor on half the [`r1_penalty`].
        real, fake: photographs and upscaled images, float (N, C, H, W), without gradient.
    """

    kind: GANLoss
    r1: float = 0.0
    real: Tensor | None = None
    fake: Tensor | None = None

    def __call__(self, net: nn.Module, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        if self.real is None or self.fake is None:
            raise ValueError("The generator's loss comes first: it stores the images.")
        photos = self.real.requires_grad_() if self.r1 else self.real
        # In one forward pass, as DDP allows one a step.
        real, fake = net(pixel_values=torch.cat([photos, self.fake])).logits.float().chunk(2)
        loss = discriminator_loss(real, fake, self.kind)
        values = {"loss": loss, "right": ((real > 0).float().mean() + (fake < 0).float().mean()) / 2}
        if self.r1:
            values["loss"] = loss + 0.5 * self.r1 * r1_penalty(real, photos)
        self.real = self.fake = None
        return values
