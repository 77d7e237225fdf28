"""CNN family: stem, stages of plain or residual blocks, pooling and a classification head, or any timm backbone."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import initialization
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_outputs import (
    BackboneOutput,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
)
from transformers.models.auto import modeling_auto
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .configuration_cnn import CNNConfig
from .configuration_common import CheckedConfig  # noqa: F401 -- has transformers copy that file
from .layers_cnn import CNNEncoder, CNNPooler
from .model_card import model_card  # noqa: F401 -- has transformers copy that file
from .modeling_common import EncoderPreTrainedModel, initialize_batch_norm
from .timm_backbone import check_size, create_timm_model, initialize_as_timm, keep_feature_maps, make_timm_encoder


class CNNPreTrainedModel(EncoderPreTrainedModel):
    config: CNNConfig
    encoder: Any  # a CNNEncoder, or a timm model
    base_model_prefix = "cnn"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["CNNBlock"]
    auto_classes = {
        "AutoModel": "modeling_cnn.CNNModel",
        "AutoModelForImageClassification": "modeling_cnn.CNNForImageClassification",
        "AutoBackbone": "modeling_cnn.CNNBackbone",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if getattr(module, "from_timm", False):
            initialize_as_timm(self.encoder, self.config)
        elif isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            initialization.kaiming_uniform_(module.weight, a=math.sqrt(5))
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            if isinstance(module, nn.BatchNorm2d):
                initialize_batch_norm(module)
            start = initialization.zeros_ if getattr(module, "zero_start", False) else initialization.ones_
            start(module.weight)
            initialization.zeros_(module.bias)

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **options
    ):
        if self.config.backbone is not None:
            base: Any = getattr(self, self.base_model_prefix, self)
            try:
                base.encoder.set_grad_checkpointing(enable)
            except (AssertionError, AttributeError) as error:
                raise ValueError(f"{self.config.backbone} does not support gradient checkpointing.") from error
            base.gradient_checkpointing = enable
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, **options)

    @classmethod
    def from_timm(cls, backbone: str, **config_fields: Any) -> "CNNPreTrainedModel":
        """This class over a timm backbone with its published weights, fetched from the Hub.

        Args:
            backbone: a timm model, with or without a tag: `timm/convnext_atto.d2_in1k`.
            config_fields: further fields of [`CNNConfig`], as `num_labels`.
        """
        config_class: Any = cls.config_class
        model = cls(config_class(backbone=backbone, **config_fields))
        base: Any = getattr(model, cls.base_model_prefix, model)
        encoder = base.encoder
        published = create_timm_model(model.config, pretrained=True).state_dict()
        encoder.load_state_dict({name: published[name] for name in encoder.state_dict()})
        return model


class CNNModel(CNNPreTrainedModel):
    """The network without its head.

    `last_hidden_state` is the last feature map (N, C, h, w); `pooler_output` is what the head gets, (N, features);
    `hidden_states`, on request, are the output of the stem, where there is one, and of each stage. Under gradient
    checkpointing the running statistics of batch normalisation are updated twice a step.
    """

    def __init__(self, config: CNNConfig):
        super().__init__(config)
        if config.backbone is None:
            self.encoder = CNNEncoder(config)
            self.pooler = CNNPooler(config)
            self.out_features: int = self.pooler.out_features
        else:
            self.encoder = make_timm_encoder(config)
            self._no_split_modules = [type(self.encoder).__name__]
            self.out_features = getattr(self.encoder, "head_hidden_size", None) or self.encoder.num_features
        self.post_init()

    def get_input_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- there are none
        return None

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues] -- as in transformers
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """`pixel_values`: float (N, channels, H, W), normalised by the image processor."""
        check_channels(pixel_values, self.config.num_channels)
        feature_maps: Any = None
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if self.config.backbone is None:
            feature_maps = self.encoder(pixel_values)
            last, pooled = feature_maps[-1], self.pooler(feature_maps[-1])
            if len(self.encoder.stem) == 0:
                del feature_maps[0]  # the image itself
        else:
            check_size(self.encoder, pixel_values)
            pixel_values = pixel_values.to(self.dtype)
            if output_hidden_states:
                last, feature_maps = self.encoder.forward_intermediates(pixel_values)
            else:
                last = self.encoder.forward_features(pixel_values)
            pooled = self.encoder.forward_head(last, pre_logits=True).flatten(1)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last,
            pooler_output=pooled,
            hidden_states=tuple(feature_maps) if output_hidden_states else None,
        )


def check_channels(pixel_values: torch.Tensor, num_channels: int) -> None:
    if pixel_values is None or pixel_values.ndim != 4 or pixel_values.shape[1] != num_channels:
        shape = None if pixel_values is None else tuple(pixel_values.shape)
        raise ValueError(f"pixel_values must have the shape (batch, {num_channels}, height, width), got {shape}.")


class CNNForImageClassification(CNNPreTrainedModel):
    """The network with its classification head: pooled features, optional hidden layer, dropout, logits."""

    pipeline_tag = "image-classification"

    def __init__(self, config: CNNConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.cnn = CNNModel(config)
        features = self.cnn.out_features
        self.hidden = nn.Sequential()
        if config.classifier_hidden_size is not None:
            self.hidden.append(nn.Linear(features, config.classifier_hidden_size))
            self.hidden.append(ACT2FN[config.hidden_act])
            features = config.classifier_hidden_size
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(features, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- there are none
        return None

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutputWithNoAttention:
        """`pixel_values`: float (N, channels, H, W); `labels`: int64 (N,), for the cross-entropy in `loss`."""
        outputs = self.cnn(pixel_values, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(self.hidden(outputs.pooler_output))) * self.config.logit_scale
        loss = self.loss_function(labels, logits, self.config) if labels is not None else None
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


class CNNBackbone(BackboneMixin, CNNPreTrainedModel):
    """The feature maps named in `config.out_features` (`stem`, `stage1`, …), for detection and segmentation heads.

    Those of a timm backbone are `stage1`, `stage2`, … in the order of its `feature_info`. A classifier's weights load.
    """

    has_attentions = False

    def __init__(self, config: CNNConfig):
        if config.backbone is None:
            super().__init__(config)
            self.num_features = [config.stem_channels] + [stage[-1][-1] for stage in config.stage_widths]
            self.encoder = CNNEncoder(config)
        else:
            encoder = make_timm_encoder(config)
            widths = keep_feature_maps(encoder, config)
            config.stage_names = [f"stage{number}" for number in range(1, len(widths) + 1)]
            config.set_output_features_output_indices(config._out_features, config._out_indices)
            super().__init__(config)
            self._no_split_modules = [type(encoder).__name__]
            self.num_features = widths
            self.encoder = encoder
        self.post_init()

    def get_input_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- there are none
        return None

    @can_return_tuple
    @filter_output_hidden_states
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues] -- as in transformers
    ) -> BackboneOutput:
        """`pixel_values`: float (N, channels, H, W)."""
        check_channels(pixel_values, self.config.num_channels)
        if self.config.backbone is None:
            hidden_states = self.encoder(pixel_values)
        else:
            check_size(self.encoder, pixel_values)
            hidden_states = self.encoder.forward_intermediates(pixel_values.to(self.dtype), intermediates_only=True)
        feature_maps = tuple(
            feature_map
            for name, feature_map in zip(self.stage_names, hidden_states, strict=True)
            if name in self.out_features
        )
        return BackboneOutput(feature_maps=feature_maps, hidden_states=tuple(hidden_states))


# Pipelines report an error for the class of a model that is not listed there, though it works.
pipeline_models = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
pipeline_models[CNNConfig.model_type] = "CNNForImageClassification"  # pyright: ignore[reportArgumentType]

__all__ = ["CNNBackbone", "CNNForImageClassification", "CNNModel", "CNNPreTrainedModel"]
