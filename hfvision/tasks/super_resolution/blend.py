"""Between two super-resolution networks: the calm picture of the one trained by pixels, the sharp one of the GAN."""

import copy
from typing import Any

import torch

from ...models.srgan.configuration_srgan import SRGANConfig
from ...models.srgan.modeling_srgan import SRGANForImageSuperResolution


@torch.no_grad()
def blend(
    first: SRGANForImageSuperResolution, second: SRGANForImageSuperResolution, alpha: float
) -> SRGANForImageSuperResolution:
    """A network with weights between those of two (Wang et al. 2018, ESRGAN, arXiv:1809.00219, equation 4).

    Works where the second was trained further from the first, or both from one network; networks trained apart do not
    blend. Residual blocks that only one has, after those of the other, count there as ones that add nothing.

    Args:
        first, second: of one architecture, but for such blocks; training branches are folded in copies of them.
        alpha: share of the second, from 0 (the first alone) to 1.

    Returns:
        A folded network in evaluation mode.

    Raises:
        ValueError: for networks of different architecture, or an alpha out of range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}.")
    if not of_one_architecture(first.config, second.config):
        raise ValueError(
            "The two networks differ in architecture, so that there is nothing between them: blend a network with one "
            "that was trained further from it."
        )
    first, second = copy.deepcopy(first).fuse(), copy.deepcopy(second).fuse()
    mine, theirs = with_blocks_of(second, first), with_blocks_of(first, second)
    blended = max(first, second, key=lambda model: len(model.config.block_widths))
    blended.load_state_dict({name: torch.lerp(mine[name], theirs[name].to(mine[name].dtype), alpha) for name in mine})
    return blended.eval()


def of_one_architecture(first: SRGANConfig, second: SRGANConfig) -> bool:
    """Whether two networks are alike but for residual blocks at the end of the longer one."""
    shape = ("scale", "num_channels", "hidden_size", "block_residual", "trunk_residual", "norm", "hidden_act")
    shape += ("head_kernel_size", "tail_kernel_size", "upsampler", "skip", "pixel_unshuffle")
    if any(getattr(first, name) != getattr(second, name) for name in shape):
        return False
    widths = sorted((first.block_widths, second.block_widths), key=len)
    return widths[0] == widths[1] or (
        first.block_residual and not first.norm and widths[0] == widths[1][: len(widths[0])]
    )


def with_blocks_of(whole: SRGANForImageSuperResolution, part: SRGANForImageSuperResolution) -> dict[str, torch.Tensor]:
    """The weights of `part`, with the blocks that only `whole` has, whose last convolutions are nought."""
    state, have = part.state_dict(), len(part.config.block_widths)
    added: Any = whole.generator.blocks[have:]
    for number, block in enumerate(added, have):
        for name, weight in block.state_dict().items():
            last = name.startswith(f"layers.{len(block.layers) - 1}.")
            state[f"generator.blocks.{number}.{name}"] = torch.zeros_like(weight) if last else weight
    return state
