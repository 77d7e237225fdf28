"""Configuration of the CNN family: every width is in the configuration, so that a pruned network reloads."""

import copy
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.backbone_utils import BackboneConfigMixin

from .configuration_common import CheckedConfig

# Arguments of timm.create_model that follow from other fields, or would make it read other files.
BACKBONE_ARGUMENTS = {
    *("model_name", "pretrained", "num_classes", "in_chans", "features_only", "out_indices"),
    *("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"),
}

PRESETS: dict[str, dict[str, Any]] = {
    "textbook": {
        "image_size": 28,
        "stage_widths": [[[64]], [[128]]],
        "stage_strides": [2, 2],
        "downsample": "pool_last",
        "norm": "none",
        "pool_size": 7,
        "classifier_hidden_size": 256,
    },
    "tiny": {
        "image_size": 32,
        "stage_widths": [[[32]], [[64]], [[128]]],
        "stage_strides": [2, 2, 2],
        "downsample": "pool_last",
    },
    # The shape of the CIFAR-10 speed records: a 2x2 stem of patch filters, then three groups of two convolutions,
    # the first pooled before its normalisation (Jordan 2024, arXiv:2404.00498).
    "cifar": {
        "image_size": 32,
        "stem_width": 24,
        "stem_kernel_size": 2,
        "stem_norm": False,
        "stage_widths": [[[64, 64]], [[256, 256]], [[256, 256]]],
        "stage_strides": [2, 2, 2],
        "downsample": "pool_first",
        "hidden_act": "gelu",
        "pool_type": "max",
        "logit_scale": 1 / 9,
    },
    # He et al. 2016, arXiv:1512.03385.
    "resnet18": {
        "image_size": 224,
        "stem_width": 64,
        "stem_kernel_size": 7,
        "stem_stride": 2,
        "stem_pool": True,
        "stage_widths": [[[width, width]] * 2 for width in (64, 128, 256, 512)],
        "stage_strides": [1, 2, 2, 2],
        "block_type": "basic",
    },
    "resnet50": {
        "image_size": 224,
        "stem_width": 64,
        "stem_kernel_size": 7,
        "stem_stride": 2,
        "stem_pool": True,
        "stage_widths": [
            [[width, width, 4 * width]] * depth for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3))
        ],
        "stage_strides": [1, 2, 2, 2],
        "block_type": "bottleneck",
    },
    # The contracting path of a U-Net (Ronneberger et al. 2015, arXiv:1505.04597), an eighth as wide, normalised.
    "unet": {
        "image_size": 128,
        "stage_widths": [[[16, 16]], [[32, 32]], [[64, 64]], [[96, 96]], [[128, 128]]],
        "stage_strides": [1, 2, 2, 2, 2],
        "downsample": "stride",
    },
}


@strict
class CNNConfig(BackboneConfigMixin, CheckedConfig):
    r"""Configuration of [`CNNModel`], [`CNNForImageClassification`] and [`CNNBackbone`].

    `CNNConfig.from_preset(name, **overrides)` gives the ready-made shapes: `textbook`, `tiny`, `cifar`, `resnet18`,
    `resnet50` and `unet`.

    Args:
        num_channels (`int`, defaults to 3): channels of the input image.
        image_size (`int`, defaults to 32): side in pixels that images are brought to; the network itself takes any
            size unless `pool_size` is `None`.
        stem_width (`int`, *optional*): output channels of the first convolution; `None` leaves the stem out.
        stem_kernel_size, stem_stride (`int`): of that convolution. Padding is `(kernel - 1) // 2`.
        stem_norm (`bool`): normalise after the stem's convolution.
        stem_pool (`bool`): end the stem with a 3x3 max pooling of stride 2.
        stage_widths (`list[list[list[int]]]`): output channels of each convolution, of each block, of each stage.
        stage_strides (`list[int]`): how much each stage shrinks its input.
        block_type (`str`): `plain` (3x3 convolutions one after the other), `basic` (the same with a shortcut) or
            `bottleneck` (1x1, 3x3, 1x1 with a shortcut).
        shortcut_projections (`list[list[bool]]`, *optional*): which blocks have a 1x1 convolution in their
            shortcut. `None`: those whose shortcut changes shape; the resolved lists are what is saved.
        downsample (`str`): `stride` (in the stage's first 3x3 convolution), `pool_first` (max pooling after the
            stage's first convolution, before its normalisation) or `pool_last` (max pooling after the stage).
        norm (`str`): `batch`, `group` (as many groups as divide both 32 and the width) or `none`.
        norm_eps, norm_momentum (`float`): of the normalisation; the momentum is batch normalisation's.
        hidden_act (`str`): activation by its transformers name.
        pool_type (`str`): `avg` or `max`.
        pool_size (`int`, *optional*): side of the pooled feature map that is flattened for the classifier. `None`
            flattens the whole feature map: the network then takes images of `image_size` alone.
        classifier_hidden_size (`int`, *optional*): width of a fully connected layer before the last one.
        classifier_dropout (`float`): dropout before the last layer.
        logit_scale (`float`): factor on the logits.
        backbone (`str`, *optional*): a timm model, as `timm/convnext_atto`, in place of stem and stages. It brings
            its own pooling; weights are random unless [`CNNPreTrainedModel.from_timm`] fetches them. Vision
            transformers are made for images of any size where timm can (`dynamic_img_size`).
        backbone_kwargs (`dict`, *optional*): further arguments of `timm.create_model`, such as `drop_path_rate`,
            `global_pool` or `act_layer`; timm refuses what the architecture does not take.
        backbone_widths (`dict[str, list[int]]`, *optional*): of a timm backbone with fewer channels than timm makes:
            output and input channels of each of its layers, by name, as pruning leaves them. With `norm="none"` a
            timm backbone has its batch normalization folded into its convolutions.
        out_features (`list[str]`), out_indices (`list[int]`, *optional*): which feature maps [`CNNBackbone`] gives, of
            `stem`, `stage1`, …; of a timm backbone there is no `stem`. The last one where not given.

    Raises:
        ValueError: for an unknown field, or widths, strides and shortcuts that do not fit each other.
    """

    model_type = "hfvision_cnn"
    extra_keys = frozenset({"out_features", "out_indices", "stage_names"})

    num_channels: int = 3
    image_size: int = 32
    stem_width: int | None = None
    stem_kernel_size: int = 3
    stem_stride: int = 1
    stem_norm: bool = True
    stem_pool: bool = False
    stage_widths: list[list[list[int]]] = field(default_factory=lambda: [[[32]], [[64]], [[128]]])
    stage_strides: list[int] = field(default_factory=lambda: [2, 2, 2])
    block_type: Literal["plain", "basic", "bottleneck"] = "plain"
    shortcut_projections: list[list[bool]] | None = None
    downsample: Literal["stride", "pool_first", "pool_last"] = "stride"
    norm: Literal["batch", "group", "none"] = "batch"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    hidden_act: str = "relu"
    pool_type: Literal["avg", "max"] = "avg"
    pool_size: int | None = 1
    classifier_hidden_size: int | None = None
    classifier_dropout: float | int = 0.0
    logit_scale: float | int = 1.0
    backbone: str | None = None
    backbone_kwargs: dict[str, Any] | None = None
    backbone_widths: dict[str, list[int]] | None = None

    def __post_init__(self, **kwargs):
        self.refuse_unknown_fields(kwargs)
        saved_names = kwargs.pop("stage_names", None) or []
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        if self.shortcut_projections is None and self.block_type != "plain":
            self.shortcut_projections = self._shape_changing_shortcuts()
        if self.backbone is None:
            self.stage_names = ["stem"] + [f"stage{i}" for i in range(1, len(self.stage_widths) + 1)]
            self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)
        else:
            # CNNBackbone completes this: timm knows how many stages there are. Version 0.1 saved wrong ones.
            old = "stem" in saved_names
            self.stage_names = None
            self.set_output_features_output_indices(
                out_features=None if old else out_features, out_indices=None if old else out_indices
            )
        super().__post_init__(**kwargs)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "CNNConfig":
        """The configuration called `name` (a key of `PRESETS`), with some fields replaced."""
        if name not in PRESETS:
            raise ValueError(f"No CNN preset is called {name!r}; there are {', '.join(PRESETS)}.")
        return cls(**copy.deepcopy(PRESETS[name]) | overrides)

    def set_output_features_output_indices(self, out_features: list[str] | None, out_indices: list[int] | None):
        """As in transformers; over a timm backbone checked once its stages are known."""
        if self.stage_names is None:
            self._out_features, self._out_indices = out_features, out_indices
        else:
            super().set_output_features_output_indices(out_features, out_indices)

    @property
    def depths(self) -> list[int]:
        """Blocks of each stage."""
        return [len(blocks) for blocks in self.stage_widths]

    @property
    def stem_channels(self) -> int:
        """Channels that enter the first stage."""
        return self.num_channels if self.stem_width is None else self.stem_width

    def _shape_changing_shortcuts(self) -> list[list[bool]]:
        flags, channels = [], self.stem_channels
        for widths, stride in zip(self.stage_widths, self.stage_strides, strict=False):
            flags.append([])
            for index, block in enumerate(widths):
                flags[-1].append(channels != block[-1] or (index == 0 and stride > 1))
                channels = block[-1]
        return flags

    def validate_stages(self):
        """Widths, strides and shortcuts describe the same stages."""
        if not self.stage_widths or not all(stage and all(stage) for stage in self.stage_widths):
            raise ValueError(f"stage_widths needs at least one width in every block, got {self.stage_widths}.")
        if any(width < 1 for stage in self.stage_widths for block in stage for width in block):
            raise ValueError(f"stage_widths must all be at least 1, got {self.stage_widths}.")
        if len(self.stage_strides) != len(self.stage_widths) or min(self.stage_strides) < 1:
            raise ValueError(
                f"stage_strides must hold one stride of at least 1 for each of the {len(self.stage_widths)} stages, "
                f"got {self.stage_strides}."
            )
        convolutions = {"basic": 2, "bottleneck": 3}.get(self.block_type)
        if convolutions and any(len(block) != convolutions for stage in self.stage_widths for block in stage):
            raise ValueError(
                f"A block of type {self.block_type!r} has {convolutions} convolutions, got {self.stage_widths}."
            )
        if self.shortcut_projections is not None:
            if self.block_type == "plain":
                raise ValueError("shortcut_projections needs block_type 'basic' or 'bottleneck'.")
            needed = self._shape_changing_shortcuts()
            if [len(stage) for stage in self.shortcut_projections] != [len(stage) for stage in needed]:
                raise ValueError(f"shortcut_projections must have the shape of {needed}.")
            for given, required in zip(self.shortcut_projections, needed, strict=True):
                if any(r and not g for g, r in zip(given, required, strict=True)):
                    raise ValueError(f"shortcut_projections leaves out a needed projection: needed are {needed}.")
        if self.block_type != "plain" and self.downsample != "stride":
            raise ValueError(f"downsample={self.downsample!r} is for block_type 'plain', not {self.block_type!r}.")

    def validate_backbone(self):
        """Arguments of timm are for a timm backbone, and are not those that follow from other fields."""
        given = self.backbone_kwargs or {}
        if given and self.backbone is None:
            raise ValueError(f"backbone_kwargs={given} need a timm model as backbone.")
        if self.backbone_widths is not None and self.backbone is None:
            raise ValueError("backbone_widths need a timm model as backbone.")
        for name in BACKBONE_ARGUMENTS & given.keys():
            raise ValueError(f"backbone_kwargs cannot hold {name!r}: it is set by the model and its other fields.")
        if given.get("global_pool") == "":
            raise ValueError("backbone_kwargs needs a global_pool that pools, such as 'avg', got ''.")

    def validate_sizes(self):
        """Sizes and rates are in their ranges."""
        for name in ("num_channels", "image_size", "stem_kernel_size", "stem_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("stem_width", "pool_size", "classifier_hidden_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 or None, got {getattr(self, name)}.")
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"classifier_dropout must be in [0, 1), got {self.classifier_dropout}.")


@strict
class CNNSegmentationConfig(CNNConfig):
    r"""Configuration of [`CNNForSemanticSegmentation`]: that of its encoder, and the width of its decoder.

    Args:
        decoder_widths (`list[int | list[int]]`, *optional*): output channels of the decoder's steps, from the smallest
            feature map to the largest: one for each size that the encoder's feature maps have, but the smallest. A
            step has two convolutions, whose widths may be given apart, as `[48, 32]`. `None`: each step is as wide as
            the encoder is at its size, 64 at most.

    Raises:
        ValueError: as [`CNNConfig`], and for a width below 1, or not one or two for a step.
    """

    model_type = "hfvision_cnn_segmentation"

    decoder_widths: list[int | list[int]] | None = None

    def feature_maps(self) -> list[tuple[int, int]]:
        """Channels of each of the encoder's feature maps, and how many times smaller than the image it is; without a
        timm backbone, which knows its own."""
        stride = (self.stem_stride if self.stem_width is not None else 1) * (2 if self.stem_pool else 1)
        found = [(self.stem_channels, stride)]
        for blocks, stage_stride in zip(self.stage_widths, self.stage_strides, strict=True):
            stride *= stage_stride
            found.append((blocks[-1][-1], stride))
        return found

    def resolved_decoder_widths(self, skip_channels: list[int]) -> list[list[int]]:
        """The widths of both convolutions of each step of the decoder.

        Args:
            skip_channels: channels of the feature map that each step takes from the encoder.

        Raises:
            ValueError: for another number of `decoder_widths`.
        """
        widths = self.decoder_widths
        if widths is None:
            widths = [min(64, channels) for channels in skip_channels]
        if len(widths) != len(skip_channels):
            raise ValueError(f"decoder_widths must hold {len(skip_channels)} widths for this encoder, got {widths}.")
        return [list(width) if isinstance(width, list) else [width, width] for width in widths]

    def validate_decoder(self):
        """The decoder has widths."""
        for width in self.decoder_widths or []:
            pair = width if isinstance(width, list) else [width, width]
            if len(pair) != 2 or min(pair) < 1:
                raise ValueError(
                    f"decoder_widths must hold one width of at least 1, or two, for each step, got "
                    f"{self.decoder_widths}."
                )


def used_feature_maps(strides: list[int]) -> list[int]:
    """Which feature maps a segmentation decoder takes: of each size the deepest."""
    last = len(strides) - 1
    return [i for i in range(len(strides)) if i == last or strides[i] != strides[i + 1]]


__all__ = ["CNNConfig", "CNNSegmentationConfig"]
