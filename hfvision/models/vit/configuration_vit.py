"""Configuration of the vision transformer family, with the heads and the MLP width of every layer."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_common import CheckedConfig

# Dosovitskiy et al. 2021 (arXiv:2010.11929) and Touvron et al. 2021 (arXiv:2012.12877) for the sizes at 224 pixels.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    # 16 tokens of an early convolutional network: for 32-pixel images, training from scratch and small machines.
    "cifar": {
        "image_size": 32,
        "patch_size": 8,
        "stem_widths": [32, 64, 128, 192],
        "hidden_size": 192,
        "num_hidden_layers": 5,
        "num_attention_heads": 3,
        "intermediate_size": 384,
        "pooling": "mean",
    },
}


@strict
class VisionTransformerConfig(CheckedConfig):
    r"""Configuration of [`VisionTransformerModel`] and [`VisionTransformerForImageClassification`].

    `VisionTransformerConfig.from_preset(name, **overrides)` gives `tiny`, `small`, `base` and `cifar`.

    Args:
        image_size (`int`, defaults to 224): side in pixels that the position embeddings are stored for. Other sizes
            are taken too: the embeddings are interpolated.
        patch_size (`int`): side of a patch; image sides must be multiples of it.
        stem_widths (`list[int]`, *optional*): output channels of 3x3 convolutions, each with batch normalisation and
            ReLU, that take the place of cutting patches (Xiao et al. 2021, arXiv:2106.14881). The last
            log2(`patch_size`) of them halve the image, those before keep its size. `None`: patches are cut.
        stem_norm (`bool`): normalise after the stem's convolutions; without, they have biases.
        num_channels (`int`): channels of the input image.
        hidden_size (`int`): width of the residual stream.
        num_hidden_layers (`int`): number of layers.
        num_attention_heads (`int` or `list[int]`): heads of all layers, or of each (a pruned network).
        head_dim (`int`, *optional*): width of a head; `hidden_size` over the heads where not given.
        intermediate_size (`int` or `list[int]`): MLP width of all layers, or of each.
        hidden_act (`str`): activation of the MLP by its transformers name.
        pooling (`str`): `cls` (a class token) or `mean` (of the patch tokens).
        distillation_token (`bool`): one more token with a head of its own, which learns from a teacher (Touvron et
            al. 2021, arXiv:2012.12877).
        qkv_bias (`bool`): biases in query, key and value projections.
        hidden_dropout_prob, attention_probs_dropout_prob (`float`): dropout rates.
        drop_path_rate (`float`): stochastic depth (Huang et al. 2016, arXiv:1603.09382): how often training leaves out
            a branch of the last layer; the rates of the layers before fall linearly towards 0.
        layer_norm_eps (`float`): of the layer normalisations.
        initializer_range (`float`): standard deviation of the random weights.

    Raises:
        ValueError: for an unknown field, or sizes that do not fit each other.
    """

    model_type = "hfvision_vit"

    image_size: int = 224
    patch_size: int = 16
    stem_widths: list[int] | None = None
    stem_norm: bool = True
    num_channels: int = 3
    hidden_size: int = 192
    num_hidden_layers: int = 12
    num_attention_heads: int | list[int] = 3
    head_dim: int | None = None
    intermediate_size: int | list[int] = 768
    hidden_act: str = "gelu"
    pooling: Literal["cls", "mean"] = "cls"
    distillation_token: bool = False
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        self.refuse_unknown_fields(kwargs)
        if self.head_dim is None:
            if isinstance(self.num_attention_heads, list) or self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"head_dim must be given when hidden_size={self.hidden_size} is not one multiple of "
                    f"num_attention_heads={self.num_attention_heads}."
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "VisionTransformerConfig":
        """The configuration called `name` (a key of `PRESETS`), with some fields replaced."""
        if name not in PRESETS:
            raise ValueError(f"No ViT preset is called {name!r}; there are {', '.join(PRESETS)}.")
        return cls(**PRESETS[name] | overrides)

    def per_layer(self, name: Literal["num_attention_heads", "intermediate_size"]) -> list[int]:
        """The field `name` as one value for each layer."""
        value = getattr(self, name)
        return list(value) if isinstance(value, list) else [value] * self.num_hidden_layers

    def validate_layers(self):
        """Heads and MLP widths are there for every layer."""
        for name in ("num_attention_heads", "intermediate_size"):
            values = self.per_layer(name)
            if len(values) != self.num_hidden_layers or min(values, default=1) < 1:
                raise ValueError(
                    f"{name} must hold one number of at least 1 for each of the {self.num_hidden_layers} layers, "
                    f"got {getattr(self, name)}."
                )

    def validate_stem(self):
        """The stem's convolutions can shrink the image as patches would."""
        if self.stem_widths is None:
            return
        halvings = self.patch_size.bit_length() - 1
        if self.patch_size != 2**halvings:
            raise ValueError(f"patch_size must be a power of 2 for a stem of convolutions, got {self.patch_size}.")
        if len(self.stem_widths) < max(halvings, 1) or min(self.stem_widths) < 1:
            raise ValueError(
                f"stem_widths must hold at least {max(halvings, 1)} widths of at least 1 to shrink the image "
                f"{self.patch_size} times, got {self.stem_widths}."
            )

    def validate_sizes(self):
        """Sizes and rates are in their ranges."""
        for name in (
            "image_size",
            "patch_size",
            "num_channels",
            "hidden_size",
            "num_hidden_layers",
            "head_dim",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}.")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}.")


@strict
class VisionTransformerSegmentationConfig(VisionTransformerConfig):
    r"""Configuration of [`VisionTransformerForSemanticSegmentation`]: of its encoder, and the width of its decoder.

    Args:
        decoder_widths (`list[int]`, *optional*): output channels of the decoder's steps, each of which doubles height
            and width: log2(`patch_size`) of them, rounded down. `None`: halves from `hidden_size` on, 32 at least.

    Raises:
        ValueError: as [`VisionTransformerConfig`], and for another number of widths, or one below 1.
    """

    model_type = "hfvision_vit_segmentation"

    decoder_widths: list[int] | None = None

    def resolved_decoder_widths(self) -> list[int]:
        """`decoder_widths`, or what stands for None."""
        steps = range(1, self.patch_size.bit_length())
        return self.decoder_widths or [max(32, self.hidden_size >> step) for step in steps]

    def validate_decoder(self):
        """There is one width for each step of the decoder."""
        steps = self.patch_size.bit_length() - 1
        widths = self.decoder_widths
        if widths is not None and (len(widths) != steps or min(widths, default=1) < 1):
            raise ValueError(
                f"decoder_widths must hold {steps} widths of at least 1 for patches of {self.patch_size}, got "
                f"{widths}."
            )


__all__ = ["VisionTransformerConfig", "VisionTransformerSegmentationConfig"]
