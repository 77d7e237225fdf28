"""Between two super-resolution networks: the calm picture of the one trained by pixels, the sharp one of the GAN."""

import copy

import torch

from .models.srgan.modeling_srgan import SRGANForImageSuperResolution


@torch.no_grad()
def blend(
    first: SRGANForImageSuperResolution, second: SRGANForImageSuperResolution, alpha: float
) -> SRGANForImageSuperResolution:
    """A network with weights between those of two (Wang et al. 2018, ESRGAN, arXiv:1809.00219, equation 4).

    Works where the second was trained further from the first; networks trained apart do not blend.

    Args:
        first, second: of one architecture; training branches are folded in copies of them.
        alpha: share of the second, from 0 (the first alone) to 1.

    Returns:
        A folded network in evaluation mode.

    Raises:
        ValueError: for networks of different architecture, or an alpha out of range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}.")
    blended, other = copy.deepcopy(first).fuse(), copy.deepcopy(second).fuse()
    mine, theirs = blended.state_dict(), other.state_dict()
    different = [name for name in {*mine, *theirs} if name not in mine or name not in theirs]
    different += [name for name in mine if name in theirs and mine[name].shape != theirs[name].shape]
    if different or blended.config.scale != other.config.scale:
        raise ValueError(
            "The two networks differ in architecture, so that there is nothing between them: blend a network with one "
            "that was trained further from it."
        )
    blended.load_state_dict({name: torch.lerp(mine[name], theirs[name].to(mine[name].dtype), alpha) for name in mine})
    return blended.eval()
