"""From transformers' ViT checkpoints (`google/vit-*` and the like) to hfvision's class."""

import re
from typing import Any

from transformers import ViTForImageClassification

from .configuration_vit import VisionTransformerConfig
from .modeling_vit import VisionTransformerForImageClassification

# transformers renamed ViT's modules within version 5; both spellings are read.
RENAMES = {
    r"embeddings\.patch_embeddings\.projection": "embeddings.projection",
    r"(encoder\.layer|layers)\.(\d+)\.": r"layers.\2.",
    r"attention\.attention\.query": "attention.q_proj",
    r"attention\.attention\.key": "attention.k_proj",
    r"attention\.attention\.value": "attention.v_proj",
    r"attention\.output\.dense": "attention.o_proj",
    r"intermediate\.dense": "mlp.fc1",
    r"(?<!attention\.)output\.dense": "mlp.fc2",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"vit\.layernorm": "vit.norm",
}


def convert_vit(source: ViTForImageClassification) -> VisionTransformerForImageClassification:
    """The same network in hfvision's class: equal logits, label names kept.

    Args:
        source: a model of transformers' ViT architecture with square images and patches.

    Raises:
        ValueError: if images or patches are not square.
    """
    old = source.config
    sides = {}
    for name in ("image_size", "patch_size"):
        value = getattr(old, name)
        side = {value} if isinstance(value, int) else set(value)
        if len(side) > 1:
            raise ValueError(f"Only square images and patches can be converted, got {name}={value}.")
        sides[name] = side.pop()
    kept = (
        "num_channels",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "qkv_bias",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "layer_norm_eps",
        "initializer_range",
        "id2label",
        "label2id",
    )
    config_class: Any = VisionTransformerConfig
    config = config_class(**sides, pooling="cls", **{name: getattr(old, name) for name in kept})
    state = {}
    for key, tensor in source.state_dict().items():
        for pattern, replacement in RENAMES.items():
            key = re.sub(pattern, replacement, key)
        state[key] = tensor
    model: Any = VisionTransformerForImageClassification(config)
    model.load_state_dict(state)
    return model.to(source.dtype).train(source.training)
