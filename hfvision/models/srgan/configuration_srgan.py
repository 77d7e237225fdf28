"""Configuration of the SR-GAN family: generator and discriminator."""

import copy
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_common import CheckedConfig

PRESETS: dict[str, dict[str, Any]] = {
    # Ledig et al. 2017, arXiv:1609.04802, figure 4.
    "srresnet": {
        "hidden_size": 64,
        "block_widths": [[64]] * 16,
        "head_kernel_size": 9,
        "tail_kernel_size": 9,
        "norm": True,
        "hidden_act": "prelu",
        "upsampler": "stepwise",
        "skip": "none",
    },
    # Dense 3x3 convolutions trained with linear branches that fold into them, on top of a bicubic upscaling.
    "fast-tiny": {
        "hidden_size": 32,
        "block_widths": [[32, 32, 32]],
        "block_residual": False,
        "trunk_residual": False,
        "branch_expansion": 2,
    },
    "fast-light": {"hidden_size": 48, "block_widths": [[48]] * 7, "branch_expansion": 2},
    "fast-quality": {"hidden_size": 128, "block_widths": [[128]] * 12, "branch_expansion": 2},
    # The body at half the input's resolution, as in FFDNet (Zhang et al. 2018, arXiv:1710.04026): for photographs that
    # are noisy or compressed.
    "photo": {"hidden_size": 96, "block_widths": [[96]] * 6, "branch_expansion": 2, "pixel_unshuffle": 2},
}


@strict
class SRGANConfig(CheckedConfig):
    r"""Configuration of [`SRGANForImageSuperResolution`], [`SRGANDiscriminator`] and [`SRGANModel`].

    `SRGANConfig.from_preset(name, **overrides)` gives the generators `srresnet` (with batch normalisation as in the
    paper; `norm=False` leaves it out), `fast-tiny`, `fast-light`, `fast-quality` and `photo`.

    Args:
        scale (`int`): 2, 3 or 4: how many times wider and higher the output is.
        num_channels (`int`): 3 (colour) or 1 (grey).
        hidden_size (`int`): channels of the trunk, before and after each block.
        block_widths (`list[list[int]]`): channels inside each block; a block of n widths has n + 1 convolutions.
        block_residual (`bool`): blocks add their input to their output (and then end without an activation).
        trunk_residual (`bool`): a last convolution after the blocks, added to the head's output.
        head_kernel_size, tail_kernel_size (`int`): odd kernels of the first and the last convolution.
        norm (`bool`): batch normalisation in the blocks.
        hidden_act (`str`): activation by its transformers name.
        branch_expansion (`int`, *optional*): train every 3x3 convolution of the body with extra linear branches
            (1x1, identity, and 3x3 to `branch_expansion` times the channels followed by 1x1) that fold into it.
            `None`: plain convolutions.
        fused (`bool`): the branches are folded: plain convolutions are what is saved and loaded.
        upsampler (`str`): `direct` (one convolution to `scale**2` images, one pixel shuffle) or `stepwise` (by 2,
            3 or 2·2 with an activation in between, as in the paper).
        pixel_unshuffle (`int`): 1, or 2: each cell of 2x2 input pixels becomes one pixel of four times the channels
            before the first convolution, so that the body runs at half the input's resolution. Inputs of odd sides
            are extended by their last row or column, and the output is cropped.
        skip (`str`): what the network's output is added to: the input upscaled by `bicubic` or `nearest`, or `none`.
        discriminator (`str`): `unet` (a score for every pixel, spectral normalisation; Wang et al. 2021,
            arXiv:2107.10833) or `srgan` (one score an image; Ledig et al. 2017).
        discriminator_width (`int`): channels of the discriminator's first convolution.

    Raises:
        ValueError: for an unknown field, or values that do not fit each other.
    """

    model_type = "hfvision_srgan"

    scale: Literal[2, 3, 4] = 4
    num_channels: Literal[1, 3] = 3
    hidden_size: int = 48
    block_widths: list[list[int]] = field(default_factory=lambda: [[48]] * 7)
    block_residual: bool = True
    trunk_residual: bool = True
    head_kernel_size: int = 3
    tail_kernel_size: int = 3
    norm: bool = False
    hidden_act: str = "prelu"
    branch_expansion: int | None = None
    fused: bool = False
    upsampler: Literal["direct", "stepwise"] = "direct"
    pixel_unshuffle: Literal[1, 2] = 1
    skip: Literal["none", "nearest", "bicubic"] = "bicubic"
    discriminator: Literal["unet", "srgan"] = "unet"
    discriminator_width: int = 64

    def __post_init__(self, **kwargs):
        self.refuse_unknown_fields(kwargs)
        super().__post_init__(**kwargs)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "SRGANConfig":
        """The configuration called `name` (a key of `PRESETS`), with some fields replaced."""
        if name not in PRESETS:
            raise ValueError(f"No SR-GAN preset is called {name!r}; there are {', '.join(PRESETS)}.")
        return cls(**copy.deepcopy(PRESETS[name]) | overrides)

    def validate_widths(self):
        """Widths are positive, kernels odd."""
        if not self.block_widths or any(width < 1 for block in self.block_widths for width in block):
            raise ValueError(
                f"block_widths needs at least one block, of widths of at least 1; got {self.block_widths}."
            )
        for name in ("hidden_size", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("head_kernel_size", "tail_kernel_size"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, got {getattr(self, name)}.")
        if self.pixel_unshuffle > 1 and self.upsampler == "stepwise":
            raise ValueError("pixel_unshuffle needs upsampler='direct'.")
        if self.branch_expansion is not None and self.branch_expansion < 1:
            raise ValueError(f"branch_expansion must be at least 1 or None, got {self.branch_expansion}.")


__all__ = ["SRGANConfig"]
