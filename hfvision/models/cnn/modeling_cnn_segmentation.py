"""Semantic segmentation by a CNN: its encoder, and a decoder with skips as a U-Net's (arXiv:1505.04597)."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, pad
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.auto import modeling_auto
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .configuration_cnn import CNNSegmentationConfig, used_feature_maps
from .configuration_common import CheckedConfig  # noqa: F401 -- has transformers copy that file
from .layers_cnn import CNNConvLayer, minimum_size
from .model_card import model_card  # noqa: F401 -- has transformers copy that file
from .modeling_cnn import CNNModel, CNNPreTrainedModel, check_channels
from .modeling_common import FamilyPreTrainedModel  # noqa: F401 -- has transformers copy that file
from .segmentation_loss import pixel_cross_entropy
from .timm_backbone import check_size, keep_feature_maps


class CNNDecoderStep(GradientCheckpointingLayer):
    """Brings a feature map to the size of a larger one, and both together through two convolutions."""

    def __init__(self, config: CNNSegmentationConfig, channels: int, skip_channels: int, widths: list[int]):
        super().__init__()
        self.layers = nn.Sequential(
            CNNConvLayer(config, channels + skip_channels, widths[0]), CNNConvLayer(config, widths[0], widths[1])
        )

    def forward(self, hidden_state: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        hidden_state = interpolate(hidden_state, size=skip.shape[-2:], mode="nearest")
        return self.layers(torch.cat([hidden_state, skip], dim=1))


class CNNForSemanticSegmentation(CNNPreTrainedModel):
    """A class for each pixel of images of any size: encoder, decoder and a 1×1 convolution.

    The decoder takes the deepest feature map of each size. Images are padded inside with their own edge, so that every
    stride divides them. Weights of a classifier's encoder are taken by `from_pretrained`; the decoder starts anew.
    Needs a timm backbone that can do without its head (`prune_intermediate_layers`), where there is one.

    `logits` are float (N, num_labels, H, W), of the size of `pixel_values`; `hidden_states`, on request, the encoder's
    feature maps of the padded images.
    """

    config: CNNSegmentationConfig  # pyright: ignore[reportIncompatibleVariableOverride] -- narrower
    _no_split_modules = ["CNNBlock", "CNNDecoderStep"]
    auto_classes = {
        "AutoModel": "modeling_cnn.CNNModel",
        "AutoModelForSemanticSegmentation": "modeling_cnn_segmentation.CNNForSemanticSegmentation",
    }
    pipeline_tag = "image-segmentation"

    def __init__(self, config: CNNSegmentationConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.cnn: Any = CNNModel(config)
        if config.backbone is not None:
            keep_feature_maps(self.cnn.encoder, config)
        channels, strides = map(list, zip(*self.feature_maps(), strict=True))
        self.used = used_feature_maps(strides)
        skips = [channels[i] for i in reversed(self.used[:-1])]
        self.decoder = nn.ModuleList()
        width = channels[-1]
        for skip, widths in zip(skips, config.resolved_decoder_widths(skips), strict=True):
            self.decoder.append(CNNDecoderStep(config, width, skip, widths))
            width = widths[-1]
        self.head = nn.Conv2d(width, config.num_labels, kernel_size=1)
        stemless = config.backbone is None and len(self.cnn.encoder.stem) == 0
        self.first = int(stemless)  # the feature map before is the image itself
        self.stride = math.lcm(*strides)
        even = config.backbone is None and config.stem_width is not None and config.stem_kernel_size % 2 == 0
        self.lost = int(even and config.stem_stride == 1)  # pixels that an even kernel takes away
        self.minimum = self.stride if config.backbone is not None else minimum_size(config) - self.lost
        self.post_init()

    def feature_maps(self) -> list[tuple[int, int]]:
        """Channels of each of the encoder's feature maps, and how many times smaller than the image it is."""
        if self.config.backbone is not None:
            return [(info["num_chs"], info["reduction"]) for info in self.cnn.encoder.feature_info]
        return self.config.feature_maps()

    def padded_size(self, size: int) -> int:
        """The side, at least `size`, that the encoder halves without a rest."""
        # Rounded up without negative numbers, whose division exporters round to zero.
        return (max(size, self.minimum) + self.stride - 1) // self.stride * self.stride + self.lost

    def get_input_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- there are none
        return None

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues] -- as in transformers
    ) -> SemanticSegmenterOutput:
        """`pixel_values`: float (N, channels, H, W), normalised by the image processor; `labels`: int64 (N, H, W) of
        classes, 255 where a pixel does not count, for the mean cross-entropy in `loss`."""
        check_channels(pixel_values, self.config.num_channels)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        height, width = pixel_values.shape[-2:]
        below, right = self.padded_size(height) - height, self.padded_size(width) - width
        padded = pad(pixel_values, (0, right, 0, below), mode="replicate") if below or right else pixel_values
        if self.config.backbone is None:
            feature_maps = self.cnn.encoder(padded)
        else:
            check_size(self.cnn.encoder, padded)
            feature_maps = self.cnn.encoder.forward_intermediates(padded.to(self.dtype), intermediates_only=True)
        hidden_state, *skips = [feature_maps[i] for i in reversed(self.used)]
        for step, skip in zip(self.decoder, skips, strict=True):
            hidden_state = step(hidden_state, skip)
        logits = self.head(hidden_state)
        size = (padded.shape[-2] - self.lost, padded.shape[-1] - self.lost)
        if tuple(logits.shape[-2:]) != size:
            logits = interpolate(logits, size=size, mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
        return SemanticSegmenterOutput(
            loss=pixel_cross_entropy(logits, labels) if labels is not None else None,  # pyright: ignore[reportArgumentType] -- any Tensor
            logits=logits,  # pyright: ignore[reportArgumentType] -- any Tensor
            hidden_states=tuple(feature_maps[self.first :]) if output_hidden_states else None,
        )


# Pipelines report an error for the class of a model that is not listed there, though it works.
pipeline_models = modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
pipeline_models[CNNSegmentationConfig.model_type] = "CNNForSemanticSegmentation"  # pyright: ignore[reportArgumentType]

__all__ = ["CNNForSemanticSegmentation"]
