"""Semantic segmentation by a vision transformer: its tokens, and convolutions that bring them to the image's size."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, pad
from transformers import initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.auto import modeling_auto
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .configuration_common import CheckedConfig  # noqa: F401 -- has transformers copy that file
from .configuration_vit import VisionTransformerSegmentationConfig
from .model_card import model_card  # noqa: F401 -- has transformers copy that file
from .modeling_common import FamilyPreTrainedModel  # noqa: F401 -- has transformers copy that file
from .modeling_vit import VisionTransformerModel, VisionTransformerPreTrainedModel
from .segmentation_loss import pixel_cross_entropy


class VisionTransformerDecoderStep(GradientCheckpointingLayer):
    """Doubles height and width: bilinear, 3×3 convolution, normalisation of each image by itself, GELU."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.convolution: Any = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        self.convolution.before_activation = True
        self.normalization = nn.GroupNorm(1, width)
        self.activation = nn.GELU()

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        hidden_state = interpolate(hidden_state, scale_factor=2, mode="bilinear", align_corners=False)
        return self.activation(self.normalization(self.convolution(hidden_state)))


class VisionTransformerForSemanticSegmentation(VisionTransformerPreTrainedModel):
    """A class for each pixel of images of any size.

    The patch tokens are doubled in height and width until a step is smaller than 2, brought to the image's size, and,
    beside the image itself, go through a last 3×3 convolution. Images are padded inside with their own edge to whole
    patches, and position embeddings are interpolated. Weights of a classifier's encoder are taken by
    `from_pretrained`; the decoder starts anew.

    `logits` are float (N, num_labels, H, W), of the size of `pixel_values`; `hidden_states` and `attentions` are the
    transformer's.
    """

    config: VisionTransformerSegmentationConfig  # pyright: ignore[reportIncompatibleVariableOverride] -- narrower
    auto_classes = {
        "AutoModel": "modeling_vit.VisionTransformerModel",
        "AutoModelForSemanticSegmentation": "modeling_vit_segmentation.VisionTransformerForSemanticSegmentation",
    }
    pipeline_tag = "image-segmentation"

    def __init__(self, config: VisionTransformerSegmentationConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vit = VisionTransformerModel(config)
        widths = [config.hidden_size, *config.resolved_decoder_widths()]
        self.decoder = nn.ModuleList(VisionTransformerDecoderStep(before, after) for before, after in pairwise(widths))
        self.head = nn.Conv2d(widths[-1] + config.num_channels, config.num_labels, kernel_size=3, padding=1)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if getattr(module, "before_activation", False):
            initialization.kaiming_normal_(module.get_parameter("weight"), mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.GroupNorm):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SemanticSegmenterOutput:
        """`pixel_values`: float (N, channels, H, W), normalised by the image processor; `labels`: int64 (N, H, W) of
        classes, 255 where a pixel does not count, for the mean cross-entropy in `loss`."""
        padded, patch = pixel_values, self.config.patch_size
        if pixel_values is not None and pixel_values.ndim == 4:  # else the encoder says what is wrong
            below, right = (-side % patch for side in pixel_values.shape[-2:])
            if below or right:
                padded = pad(pixel_values, (0, right, 0, below), mode="replicate")
        outputs = self.vit(padded, return_dict=True, **kwargs)
        height, width = padded.shape[-2:]
        tokens = outputs.last_hidden_state[:, self.vit.embeddings.prefix_tokens :]
        hidden_state = tokens.transpose(1, 2).unflatten(2, (height // patch, width // patch))
        for step in self.decoder:
            hidden_state = step(hidden_state)
        if hidden_state.shape[-2:] != padded.shape[-2:]:
            hidden_state = interpolate(hidden_state, size=(height, width), mode="bilinear", align_corners=False)
        logits = self.head(torch.cat([hidden_state, padded.to(hidden_state.dtype)], dim=1))
        logits = logits[..., : pixel_values.shape[-2], : pixel_values.shape[-1]]
        return SemanticSegmenterOutput(
            loss=pixel_cross_entropy(logits, labels) if labels is not None else None,  # pyright: ignore[reportArgumentType] -- any Tensor
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


# Pipelines report an error for the class of a model that is not listed there, though it works.
pipeline_models = modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
pipeline_models[VisionTransformerSegmentationConfig.model_type] = "VisionTransformerForSemanticSegmentation"  # pyright: ignore[reportArgumentType]

__all__ = ["VisionTransformerForSemanticSegmentation"]
