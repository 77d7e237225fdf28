"""SR-GAN (Ledig et al. 2017, arXiv:1609.04802): sub-pixel generators and their discriminators.

One generator class serves the paper's SRResNet and the fast networks of dense 3x3 convolutions, whose training
branches fold exactly into plain convolutions with `fuse()`. Images are float in [0, 1], without normalisation.
"""

from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from typing import Any

import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    l1_loss,
    normalize,
)
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from transformers import initialization
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.modeling_outputs import ImageSuperResolutionOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_common import CheckedConfig  # noqa: F401 -- has transformers copy that file
from .configuration_srgan import SRGANConfig
from .discriminator_srgan import DISCRIMINATORS
from .generator_srgan import BranchedConv2d, InputUpscaler, SRGANGenerator, post_operation
from .model_card import model_card  # noqa: F401 -- has transformers copy that file
from .modeling_common import FamilyPreTrainedModel, initialize_batch_norm
from .tiles_srgan import FEW_VALUES

CUSTOM_PIPELINES = {
    "image-super-resolution": {
        "impl": "pipeline_srgan.SuperResolutionPipeline",
        "pt": ["AutoModelForImageToImage"],
        "type": "image",
    }
}


@dataclass
class SRGANDiscriminatorOutput(ModelOutput):
    """Scores before the sigmoid, above 0 for images taken as real: (N, 1, H, W) of the U-Net, else (N, 1).

    `hidden_states`, where asked for: features (N, C, h, w), from the image's size to an eighth of it (a sixteenth of
    the discriminator `srgan`).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class SRGANOutput(ModelOutput):
    """`loss` is the pixel loss; `reconstruction` the upscaled images; `fake_logits`, `real_logits` the scores of
    reconstruction and labels; `hidden_states`, on request, the generator's features."""

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    fake_logits: torch.Tensor | None = None
    real_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class SRGANPreTrainedModel(FamilyPreTrainedModel):
    config: SRGANConfig
    base_model_prefix = "srgan"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["SRGANBlock", "InputUpscaler", "UNetDiscriminator"]
    auto_classes = {
        "AutoModel": "modeling_srgan.SRGANModel",
        "AutoModelForImageToImage": "modeling_srgan.SRGANForImageSuperResolution",
    }
    pipeline_tag = None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d | nn.Linear):
            if getattr(module, "zero_start", False):
                initialization.zeros_(module.weight)
            elif not nn.utils.parametrize.is_parametrized(module, "weight"):
                initialization.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, ParametrizationList):
            # As PyTorch: the scale is divided out, but a larger weight would learn more slowly.
            initialization.kaiming_uniform_(module.original, a=5**0.5)
            initialize_spectral_norm(module[0], module.original)
        elif isinstance(module, _SpectralNorm):
            initialize_spectral_norm(module)
        elif isinstance(module, BranchedConv2d):
            if getattr(module, "zero_start", False):
                initialization.zeros_(module.weight)
            else:
                initialization.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
            initialization.kaiming_normal_(module.expand, a=0.2, nonlinearity="leaky_relu")
            for parameter in (module.bias, module.pointwise, module.squeeze, module.identity):
                if parameter is not None:
                    initialization.zeros_(parameter)
        elif isinstance(module, nn.BatchNorm2d):
            initialize_batch_norm(module)
        elif isinstance(module, nn.PReLU):
            initialization.constant_(module.weight, 0.25)
        elif isinstance(module, InputUpscaler):
            initialization.copy_(module.kernel, module.make_kernel())

    def get_input_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- there are none
        return None


def initialize_spectral_norm(norm: Any, weight: torch.Tensor | None = None) -> None:
    """Start from random directions where they were not loaded, or with a weight, from its first singular vectors."""
    u, v = (normalize(torch.randn_like(vector), dim=0) for vector in (norm._u, norm._v))
    if weight is not None:
        matrix = norm._reshape_weight_to_matrix(weight)
        for _ in range(15):
            u = normalize(matrix @ v, dim=0)
            v = normalize(matrix.T @ u, dim=0)
    initialization.copy_(norm._u, u)
    initialization.copy_(norm._v, v)


def check_images(images: torch.Tensor, name: str, num_channels: int, minimum_size: int = 1) -> None:
    shape = None if images is None else tuple(images.shape)
    if shape is None or len(shape) != 4 or shape[1] != num_channels or min(shape[2:]) < minimum_size:
        size = f", of at least {minimum_size}×{minimum_size} pixels" if minimum_size > 1 else ""
        raise ValueError(f"{name} must have the shape (batch, {num_channels}, height, width){size}; got {shape}.")


class SRGANForImageSuperResolution(SRGANPreTrainedModel):
    """The generator: images of any size, float in [0, 1], upscaled `config.scale` times."""

    pipeline_tag = "image-to-image"
    _keys_to_ignore_on_load_unexpected = [r"^discriminator\."]

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.generator = SRGANGenerator(config)
        self.post_init()

    def fuse(self) -> "SRGANForImageSuperResolution":
        """Fold the training branches into plain convolutions, in place; same output, fewer parameters."""
        self.generator.fuse()
        self.config.fused = True
        return self

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        pipeline = Path(__file__).with_name("pipeline_srgan.py")
        if self._auto_class is not None and pipeline.exists():
            self.config.custom_pipelines = CUSTOM_PIPELINES
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            for file in (pipeline, *get_relative_import_files(pipeline)):
                copy(file, save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)

    def reconstruct(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`forward`'s `reconstruction` alone, faster on a CPU where no gradients are computed.

        There oneDNN computes convolutions together with the activations and sums after them; in fp32 the bits are
        those of `forward`.

        Args:
            pixel_values: low-resolution images (N, C, H, W), float in [0, 1].

        Returns:
            (N, C, H * scale, W * scale).
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels)
        pixel_values = pixel_values.to(self.dtype)
        if self.suits_one_pass(pixel_values):
            return self.generator.reconstruct(pixel_values)
        return self(pixel_values, return_dict=True).reconstruction

    def suits_one_pass(self, pixel_values: torch.Tensor) -> bool:
        """Whether [`in_one_pass`] can compute this network of this input, in fp32 with the bits of `forward`."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else pixel_values.dtype
        mkldnn = torch.backends.mkldnn
        if torch.is_grad_enabled() or not (mkldnn.is_available() and mkldnn.enabled):
            return False
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        if pixel_values.numel() <= FEW_VALUES or dtype not in (torch.float32, torch.bfloat16):
            return False
        net = self.generator
        parts = [net.head, *(block.layers for block in net.blocks), net.fusion or []]
        plain = all(type(layer) is nn.Conv2d or post_operation(layer) for part in parts for layer in part)
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in self.modules())
        devices = {tensor.device.type for tensor in (pixel_values, *self.parameters())}
        return plain and not hooked and devices == {"cpu"}

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues] -- as in transformers
    ) -> ImageSuperResolutionOutput:
        """
        Args:
            pixel_values: low-resolution images (N, C, H, W), float in [0, 1].
            labels: the wanted high-resolution images (N, C, H * scale, W * scale), for the mean absolute error in
                `loss`.
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels)
        reconstruction, hidden_states = self.generator(pixel_values.to(self.dtype))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return ImageSuperResolutionOutput(
            loss=pixel_loss(reconstruction, labels),  # pyright: ignore[reportArgumentType] -- any Tensor
            reconstruction=reconstruction,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )


def pixel_loss(reconstruction: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    if labels is None:
        return None
    if labels.shape != reconstruction.shape:
        raise ValueError(f"labels must have the shape {tuple(reconstruction.shape)}, got {tuple(labels.shape)}.")
    return l1_loss(reconstruction, labels.to(reconstruction.dtype))


class SRGANDiscriminator(SRGANPreTrainedModel):
    """Tells upscaled images from photographs."""

    _keys_to_ignore_on_load_unexpected = [r"^generator\."]

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.discriminator = DISCRIMINATORS[config.discriminator](config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues] -- as in transformers
    ) -> SRGANDiscriminatorOutput:
        """
        Args:
            pixel_values: images (N, C, H, W), float in [0, 1].
            labels: 1 for real and 0 for upscaled images, (N,), for the binary cross-entropy in `loss`.
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels, self.discriminator.minimum_size)
        logits, hidden_states = self.discriminator(pixel_values.to(self.dtype))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        loss = None
        if labels is not None:
            targets = labels.to(logits.dtype).view(-1, *[1] * (logits.ndim - 1)).expand_as(logits)
            loss = binary_cross_entropy_with_logits(logits, targets)
        hidden_states = tuple(hidden_states) if output_hidden_states else None
        return SRGANDiscriminatorOutput(loss=loss, logits=logits, hidden_states=hidden_states)


class SRGANModel(SRGANPreTrainedModel):
    """Generator and discriminator in one checkpoint, for training; each part loads from it by its own class."""

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.generator = SRGANGenerator(config)
        self.discriminator = DISCRIMINATORS[config.discriminator](config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues] -- as in transformers
    ) -> SRGANOutput:
        """
        Args:
            pixel_values: low-resolution images (N, C, H, W), float in [0, 1].
            labels: high-resolution images (N, C, H * scale, W * scale), for `loss` and `real_logits`.
        """
        check_images(pixel_values, "pixel_values", self.config.num_channels)
        reconstruction, hidden_states = self.generator(pixel_values.to(self.dtype))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        check_images(reconstruction, "the upscaled images", self.config.num_channels, self.discriminator.minimum_size)
        loss = pixel_loss(reconstruction, labels)
        return SRGANOutput(
            loss=loss,
            reconstruction=reconstruction,
            fake_logits=self.discriminator(reconstruction)[0],
            real_logits=self.discriminator(labels.to(self.dtype))[0] if labels is not None else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )


__all__ = ["SRGANDiscriminator", "SRGANForImageSuperResolution", "SRGANModel", "SRGANPreTrainedModel"]
