"""CNN family: stem, stages of plain or residual blocks, pooling and a classification head, or any timm backbone."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, initialization
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BackboneOutput,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple

from .configuration_cnn import CNNConfig
from .timm_backbone import check_size, create_timm_model, initialize_as_timm, keep_feature_maps, make_timm_encoder

logger = logging.get_logger(__name__)

MODEL_CARD = """---
library_name: transformers
pipeline_tag: {pipeline_tag}
tags: [hfvision]
---

# {name}

A convolutional network for images of {size}×{size} pixels: {parameters:,}
parameters{classes}.

```python
{usage}
```

Class `{architecture}` of hfvision; its code travels with the weights. The
configuration spells out the width of every layer.

<!-- hfvision-short-card 1 -->
"""

CLASSIFIER_USAGE = """from transformers import pipeline

classify = pipeline("image-classification", model="{name}", trust_remote_code=True)
classify("photo.jpg")"""

FEATURES_USAGE = """from transformers import {auto_class}

model = {auto_class}.from_pretrained("{name}", trust_remote_code=True)"""


def make_norm(config: CNNConfig, width: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm2d(width, eps=config.norm_eps, momentum=config.norm_momentum)
    if config.norm == "group":
        return nn.GroupNorm(math.gcd(32, width), width, eps=config.norm_eps)
    return nn.Identity()


class CNNConvLayer(nn.Module):
    """Convolution, optional max pooling, normalisation, optional activation."""

    def __init__(
        self,
        config: CNNConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pool: int = 1,
        norm: bool = True,
        activation: bool = True,
    ):
        super().__init__()
        norm = norm and config.norm != "none"
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2, bias=not norm
        )
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        self.normalization = make_norm(config, out_channels) if norm else nn.Identity()
        self.activation = ACT2FN[config.hidden_act] if activation else nn.Identity()

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.activation(self.normalization(self.pool(self.convolution(hidden_state))))


class CNNBlock(GradientCheckpointingLayer):
    """The convolutions of one block, with the shortcut around them where the block is residual."""

    def __init__(self, config: CNNConfig, in_channels: int, widths: list[int], stride: int, projection: bool):
        super().__init__()
        residual = config.block_type != "plain"
        kernels = [1, 3, 1] if config.block_type == "bottleneck" else [3] * len(widths)
        strided = kernels.index(3)
        self.layers = nn.Sequential()
        channels = in_channels
        for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            self.layers.append(
                CNNConvLayer(
                    config,
                    channels,
                    width,
                    kernel,
                    stride=stride if index == strided and config.downsample == "stride" else 1,
                    pool=stride if index == 0 and config.downsample == "pool_first" else 1,
                    activation=not residual or index < len(widths) - 1,
                )
            )
            channels = width
        self.shortcut = None
        self.activation = nn.Identity()
        if residual:
            self.shortcut = (
                CNNConvLayer(config, in_channels, channels, kernel_size=1, stride=stride, activation=False)
                if projection
                else nn.Identity()
            )
            self.activation = ACT2FN[config.hidden_act]
            # A residual block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
            self.layers[-1].normalization.zero_start = True

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        output = self.layers(hidden_state)
        if self.shortcut is not None:
            output = output + self.shortcut(hidden_state)
        return self.activation(output)


class CNNStage(nn.Module):
    def __init__(
        self,
        config: CNNConfig,
        in_channels: int,
        block_widths: list[list[int]],
        stride: int,
        projections: list[bool],
    ):
        super().__init__()
        self.blocks = nn.ModuleList()
        for index, widths in enumerate(block_widths):
            block_stride = stride if index == 0 else 1
            self.blocks.append(CNNBlock(config, in_channels, widths, block_stride, projections[index]))
            in_channels = widths[-1]
        self.pool = nn.MaxPool2d(stride) if config.downsample == "pool_last" and stride > 1 else nn.Identity()

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden_state = block(hidden_state)
        return self.pool(hidden_state)


class CNNEncoder(nn.Module):
    """Stem and stages: (N, channels, H, W) to (N, last width, H / reduction, W / reduction)."""

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.stem = nn.Sequential()
        if config.stem_width is not None:
            self.stem.append(
                CNNConvLayer(
                    config,
                    config.num_channels,
                    config.stem_width,
                    config.stem_kernel_size,
                    config.stem_stride,
                    norm=config.stem_norm,
                )
            )
        if config.stem_pool:
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.ModuleList()
        channels = config.stem_channels
        flags = config.shortcut_projections or [[False] * len(stage) for stage in config.stage_widths]
        for blocks, stride, projections in zip(config.stage_widths, config.stage_strides, flags, strict=True):
            self.stages.append(CNNStage(config, channels, blocks, stride, projections))
            channels = blocks[-1][-1]
        self.minimum_size = minimum_size(config)

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """The stem's output and each stage's."""
        height, width = pixel_values.shape[-2:]
        if height < self.minimum_size or width < self.minimum_size:
            raise ValueError(
                f"pixel_values of {height}×{width} pixels are too small for this network, which needs at least "
                f"{self.minimum_size}×{self.minimum_size}: resize the images with its image processor."
            )
        feature_maps = [self.stem(pixel_values.to(next(self.parameters()).dtype))]
        for stage in self.stages:
            feature_maps.append(stage(feature_maps[-1]))
        return feature_maps


def minimum_size(config: CNNConfig) -> int:
    """Smallest side in pixels for which no pooling window is empty."""
    size = 1
    for stride in reversed(config.stage_strides):
        size = size * stride if config.downsample != "stride" else (size - 1) * stride + 1
    if config.stem_pool:
        size = (size - 1) * 2 + 1
    if config.stem_width is not None:
        kernel = config.stem_kernel_size
        size = max(1, (size - 1) * config.stem_stride + kernel - 2 * ((kernel - 1) // 2))
    return size


def feature_map_size(config: CNNConfig) -> int:
    """Side of the last feature map for an image of `config.image_size`."""
    size = config.image_size
    if config.stem_width is not None:
        kernel = config.stem_kernel_size
        size = (size + 2 * ((kernel - 1) // 2) - kernel) // config.stem_stride + 1
    if config.stem_pool:
        size = (size - 1) // 2 + 1
    for stride in config.stage_strides:
        size = (size - 1) // stride + 1 if config.downsample == "stride" else size // stride
    return size


class CNNPooler(nn.Module):
    """Pools the last feature map to `pool_size` and flattens it: (N, C, H, W) to (N, C * pool_size**2)."""

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.full_size = feature_map_size(config) if config.pool_size is None else None
        self.image_size = config.image_size
        pool = nn.AdaptiveAvgPool2d if config.pool_type == "avg" else nn.AdaptiveMaxPool2d
        self.pool = nn.Identity() if config.pool_size is None else pool(config.pool_size)
        side = self.full_size or config.pool_size
        self.out_features = config.stage_widths[-1][-1][-1] * side**2

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        if self.full_size is not None and tuple(feature_map.shape[-2:]) != (self.full_size, self.full_size):
            raise ValueError(
                f"This network flattens its feature map and takes images of {self.image_size}×{self.image_size} "
                "pixels only: resize them with its image processor, or set pool_size in its configuration."
            )
        return self.pool(feature_map).flatten(1)


class CNNPreTrainedModel(PreTrainedModel):
    config: CNNConfig
    base_model_prefix = "cnn"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["CNNBlock"]
    auto_classes = {
        "AutoModel": "modeling_cnn.CNNModel",
        "AutoModelForImageClassification": "modeling_cnn.CNNForImageClassification",
        "AutoBackbone": "modeling_cnn.CNNBackbone",
    }
    card_usage = FEATURES_USAGE
    pipeline_tag = "image-feature-extraction"

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
            start = initialization.zeros_ if getattr(module, "zero_start", False) else initialization.ones_
            start(module.weight)
            initialization.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm2d):
                initialization.zeros_(module.running_mean)
                initialization.ones_(module.running_var)
                initialization.zeros_(module.num_batches_tracked)

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **options
    ):
        if self.config.backbone is not None:
            base = getattr(self, self.base_model_prefix, self)
            try:
                base.encoder.set_grad_checkpointing(enable)
            except (AssertionError, AttributeError) as error:
                raise ValueError(f"{self.config.backbone} does not support gradient checkpointing.") from error
            base.gradient_checkpointing = enable
        super()._set_gradient_checkpointing(enable, checkpoint_with_gradients(gradient_checkpointing_func), **options)

    def train(self, mode: bool = True):
        """As in PyTorch, but batch normalisation whose weights are frozen stays in evaluation mode.

        Adapters (PEFT) are saved without running statistics: these must not change under a frozen network.
        """
        super().train(mode)
        for module in self.modules() if mode else ():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers; `num_channels=1` with `ignore_mismatched_sizes=True` makes a network for colour one for
        grey images: the weights of its first convolution are summed over the colours."""
        source, wants_report = pretrained_model_name_or_path, kwargs.pop("output_loading_info", False)
        model, report = super().from_pretrained(source, *args, output_loading_info=True, **kwargs)
        lost = [key for key, theirs, ours in report["mismatched_keys"] if theirs[1:2] == (3,) and ours[1:2] == (1,)]
        if lost and model.config.num_channels == 1:
            changed = {"num_channels": 3}
            if "config" in kwargs:
                changed = {"config": copy.deepcopy(model.config)}
                changed["config"].num_channels = 3
            colour = super().from_pretrained(source, *args, **kwargs | changed)
            for key in lost:
                model.get_parameter(key).data.copy_(colour.get_parameter(key).sum(1, keepdim=True))
            logger.warning(f"Summed over the colours, for grey images: {', '.join(lost)}.")
        return (model, report) if wants_report else model

    @classmethod
    def from_timm(cls, backbone: str, **config_fields: Any) -> "CNNPreTrainedModel":
        """This class over a timm backbone with its published weights, fetched from the Hub.

        Args:
            backbone: a timm model, with or without a tag: `timm/convnext_atto.d2_in1k`.
            config_fields: further fields of [`CNNConfig`], as `num_labels`.
        """
        model = cls(cls.config_class(backbone=backbone, **config_fields))
        encoder = getattr(model, cls.base_model_prefix, model).encoder
        published = create_timm_model(model.config, pretrained=True).state_dict()
        encoder.load_state_dict({name: published[name] for name in encoder.state_dict()})
        return model

    def save_pretrained(self, save_directory, **kwargs):
        if self._auto_class is not None:
            self.config.auto_map = dict(self.auto_classes)
        super().save_pretrained(save_directory, **kwargs)
        self.write_model_card(save_directory, Path(save_directory).resolve().name)

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        self.write_model_card(working_dir, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def write_model_card(self, folder, name):
        """Write README.md unless there is one; transformers' empty template counts as none."""
        card = Path(folder) / "README.md"
        if card.exists() and "[More Information Needed]" not in card.read_text(encoding="utf-8"):
            return
        labels = [" ".join(str(label).replace("`", "'").split()) for label in self.config.id2label.values()]
        has_head = self.pipeline_tag != "image-feature-extraction"
        names = ", ".join(f"`{label}`" for label in labels[:10]) + (", …" if len(labels) > 10 else "")
        text = MODEL_CARD.format(
            name=name,
            architecture=type(self).__name__,
            pipeline_tag=self.pipeline_tag,
            size=self.config.image_size,
            parameters=self.num_parameters(),
            classes=f", {len(labels)} classes ({names})" if has_head else ", without a classification head",
            usage=self.card_usage.format(name=name, auto_class=self._auto_class or "AutoModel"),
        )
        card.write_text(text, encoding="utf-8")


def checkpoint_with_gradients(checkpoint_function: Callable) -> Callable:
    """`checkpoint_function`, and where that is re-entrant, for a block none of whose inputs has a gradient, too.

    Re-entrant checkpointing would silently give the weights of such a block no gradient: its input gets one.
    """
    if not getattr(checkpoint_function, "keywords", {}).get("use_reentrant"):
        return checkpoint_function

    def run(function: Callable, hidden_state: torch.Tensor, *inputs: Any) -> Any:
        has_gradient = any(isinstance(value, torch.Tensor) and value.requires_grad for value in inputs)
        if torch.is_grad_enabled() and not has_gradient and not hidden_state.requires_grad:
            hidden_state = hidden_state.detach().requires_grad_()
        return checkpoint_function(function, hidden_state, *inputs)

    return run


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
            self.out_features = self.pooler.out_features
        else:
            self.encoder = make_timm_encoder(config)
            self._no_split_modules = [type(self.encoder).__name__]
            self.out_features = getattr(self.encoder, "head_hidden_size", None) or self.encoder.num_features
        self.post_init()

    def get_input_embeddings(self):
        return None

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """`pixel_values`: float (N, channels, H, W), normalised by the image processor."""
        check_channels(pixel_values, self.config.num_channels)
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

    card_usage = CLASSIFIER_USAGE
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

    def get_input_embeddings(self):
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

    def get_input_embeddings(self):
        return None

    @can_return_tuple
    @filter_output_hidden_states
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
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
MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[CNNConfig.model_type] = "CNNForImageClassification"

__all__ = ["CNNBackbone", "CNNForImageClassification", "CNNModel", "CNNPreTrainedModel"]
