"""Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) for any resolution.

Query, key and value are separate projections, and heads and MLP widths are per layer, so that adapters and pruning
have something to hold. There is no head mask: a head is removed by `num_attention_heads` in the configuration.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto import modeling_auto
from transformers.processing_utils import Unpack
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .configuration_common import CheckedConfig  # noqa: F401 -- has transformers copy that file
from .configuration_vit import VisionTransformerConfig
from .model_card import model_card  # noqa: F401 -- has transformers copy that file
from .modeling_common import EncoderPreTrainedModel, initialize_batch_norm


@dataclass
class DistilledImageClassifierOutput(ModelOutput):
    """What a classifier with a distillation token returns; all logits are (N, num_labels).

    `cls_logits` are those of the head that learns from labels, `distillation_logits` those of the head that learns
    from a teacher, and `logits` is their mean. `loss` is the mean of the two heads' cross-entropies.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    cls_logits: torch.FloatTensor | None = None
    distillation_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def convolutional_stem(config: VisionTransformerConfig) -> nn.Sequential:
    stem, channels, widths = nn.Sequential(), config.num_channels, config.stem_widths or []
    halvings = config.patch_size.bit_length() - 1
    for index, width in enumerate(widths):
        stride = 2 if index >= len(widths) - halvings else 1
        stem.append(nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=not config.stem_norm))
        if config.stem_norm:
            stem.append(nn.BatchNorm2d(width))
        stem.append(nn.ReLU())
        channels = width
    return stem


class VisionTransformerEmbeddings(nn.Module):
    """Patches, tokens and positions: (N, channels, H, W) to (N, tokens, hidden_size).

    The class token comes first where there is one, then the distillation token, then the patches.
    """

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        self.patch_size = config.patch_size
        self.num_channels = config.num_channels
        self.grid = config.image_size // config.patch_size
        if config.stem_widths is None:
            self.stem = None
            self.projection = nn.Conv2d(
                config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
            )
        else:
            self.stem = convolutional_stem(config)
            self.projection = nn.Conv2d(config.stem_widths[-1], config.hidden_size, kernel_size=1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if config.pooling == "cls" else None
        self.distillation_token = (
            nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if config.distillation_token else None
        )
        self.prefix_tokens = int(config.pooling == "cls") + int(config.distillation_token)
        self.position_embeddings = nn.Parameter(torch.zeros(1, self.prefix_tokens + self.grid**2, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """Position embeddings for a grid of patches, bicubically interpolated unless it is the stored one."""
        if rows == self.grid and columns == self.grid:
            return self.position_embeddings
        patches = self.position_embeddings[:, self.prefix_tokens :]
        patches = patches.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        patches = nn.functional.interpolate(patches, size=(rows, columns), mode="bicubic", align_corners=False)
        patches = patches.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)
        return torch.cat([self.position_embeddings[:, : self.prefix_tokens], patches], dim=1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if pixel_values is None or pixel_values.ndim != 4 or pixel_values.shape[1] != self.num_channels:
            shape = None if pixel_values is None else tuple(pixel_values.shape)
            raise ValueError(
                f"pixel_values must have the shape (batch, {self.num_channels}, height, width), got {shape}."
            )
        height, width = pixel_values.shape[-2:]
        if height % self.patch_size or width % self.patch_size or not height or not width:
            raise ValueError(
                f"pixel_values of {height}×{width} pixels cannot be cut into patches of {self.patch_size}: resize the "
                "images with the image processor."
            )
        pixel_values = pixel_values.to(self.projection.weight.dtype)
        patches = self.projection(pixel_values if self.stem is None else self.stem(pixel_values))
        rows, columns = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        for token in (self.distillation_token, self.cls_token):
            if token is not None:
                tokens = torch.cat([token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(tokens + self.positions(rows, columns))


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling, dim=-1)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class VisionTransformerAttention(nn.Module):
    def __init__(self, config: VisionTransformerConfig, num_heads: int):
        super().__init__()
        self.config = config
        self.head_dim: Any = config.head_dim  # which the configuration has set
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = False
        width = num_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(width, config.hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, tokens, _ = hidden_states.shape
        query, key, value = (
            projection(hidden_states).view(batch, tokens, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention_forward
        )
        output, weights = attention(
            self,
            query,
            key,
            value,
            None,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
            **kwargs,
        )
        return self.o_proj(output.reshape(batch, tokens, -1)), weights


class VisionTransformerMLP(nn.Module):
    def __init__(self, config: VisionTransformerConfig, intermediate_size: int):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


class VisionTransformerDropPath(nn.Module):
    """In training, leaves the whole branch out for a part `rate` of the images and scales it up for the others."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(1 - self.rate)
        return branch * kept / (1 - self.rate)


class VisionTransformerLayer(GradientCheckpointingLayer):
    """Attention and MLP, each after a layer normalisation and around a residual connection."""

    def __init__(self, config: VisionTransformerConfig, num_heads: int, intermediate_size: int, drop_path_rate: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = VisionTransformerAttention(config, num_heads)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionTransformerMLP(config, intermediate_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path = VisionTransformerDropPath(drop_path_rate)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        attended, _ = self.attention(self.norm1(hidden_states), **kwargs)
        hidden_states = hidden_states + self.drop_path(self.dropout(attended))
        return hidden_states + self.drop_path(self.dropout(self.mlp(self.norm2(hidden_states))))


class VisionTransformerPreTrainedModel(EncoderPreTrainedModel):
    config: VisionTransformerConfig
    base_model_prefix = "vit"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["VisionTransformerEmbeddings", "VisionTransformerLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {
        "hidden_states": VisionTransformerLayer,
        "attentions": VisionTransformerAttention,
    }
    auto_classes = {
        "AutoModel": "modeling_vit.VisionTransformerModel",
        "AutoModelForImageClassification": "modeling_vit.VisionTransformerForImageClassification",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        std = self.config.initializer_range
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and self.config.stem_widths:
            initialization.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.Conv2d):
            initialization.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            initialize_batch_norm(module)
        elif isinstance(module, VisionTransformerEmbeddings):
            for parameter in (module.position_embeddings, module.cls_token, module.distillation_token):
                if parameter is not None:
                    initialization.trunc_normal_(parameter, std=std)


class VisionTransformerModel(VisionTransformerPreTrainedModel):
    """The transformer without its head.

    `last_hidden_state` holds the normalised tokens (N, tokens, hidden_size), `pooler_output` (N, hidden_size) the
    class token or the mean of the patch tokens; `hidden_states` and `attentions` are given on request (attentions
    need `attn_implementation="eager"`).
    """

    def __init__(self, config: VisionTransformerConfig):
        super().__init__(config)
        self.embeddings = VisionTransformerEmbeddings(config)
        depth = config.num_hidden_layers
        self.layers = nn.ModuleList(
            VisionTransformerLayer(config, heads, width, config.drop_path_rate * number / depth)
            for number, heads, width in zip(
                range(1, depth + 1),
                config.per_layer("num_attention_heads"),
                config.per_layer("intermediate_size"),
                strict=True,
            )
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.projection

    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        """`pixel_values`: float (N, channels, H, W), normalised; H, W multiples of the patch."""
        hidden_states = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = self.norm(hidden_states)
        patches = hidden_states[:, self.embeddings.prefix_tokens :]
        pooled = hidden_states[:, 0] if self.config.pooling == "cls" else patches.mean(dim=1)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class VisionTransformerForImageClassification(VisionTransformerPreTrainedModel):
    """The transformer with a linear classification head on its pooled output.

    With `distillation_token` there is a second head, on that token, and the outputs are those of
    [`DistilledImageClassifierOutput`]: the first head is for the labels, the second for a teacher's answers, and
    predictions are the mean of both (Touvron et al. 2021, arXiv:2012.12877). `loss` has no teacher to ask and teaches
    both heads the labels.
    """

    pipeline_tag = "image-classification"

    def __init__(self, config: VisionTransformerConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vit = VisionTransformerModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.distillation_classifier = (
            nn.Linear(config.hidden_size, config.num_labels) if config.distillation_token else None
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput | DistilledImageClassifierOutput:
        """`pixel_values`: float (N, channels, H, W); `labels`: int64 (N,), for the cross-entropy in `loss`."""
        outputs = self.vit(pixel_values, return_dict=True, **kwargs)
        heads = [self.classifier(outputs.pooler_output)]
        if self.distillation_classifier is not None:
            token = outputs.last_hidden_state[:, self.vit.embeddings.prefix_tokens - 1]
            heads.append(self.distillation_classifier(token))
        loss = None
        if labels is not None:
            loss = sum(self.loss_function(labels, logits, self.config) for logits in heads) / len(heads)
        found = {"loss": loss, "hidden_states": outputs.hidden_states, "attentions": outputs.attentions}
        if self.distillation_classifier is None:
            return ImageClassifierOutput(logits=heads[0], **found)
        return DistilledImageClassifierOutput(
            logits=(heads[0] + heads[1]) / 2, cls_logits=heads[0], distillation_logits=heads[1], **found
        )


# Pipelines report an error for the class of a model that is not listed there, though it works.
pipeline_models = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
pipeline_models[VisionTransformerConfig.model_type] = "VisionTransformerForImageClassification"  # pyright: ignore[reportArgumentType]

__all__ = [
    "DistilledImageClassifierOutput",
    "VisionTransformerForImageClassification",
    "VisionTransformerModel",
    "VisionTransformerPreTrainedModel",
]
