"""What can be cut out of hfvision's families: units that several layers share, and the widths that count them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models.cnn.configuration_cnn import CNNConfig
from ..models.cnn.modeling_cnn import CNNForImageClassification
from ..models.cnn.modeling_cnn_segmentation import CNNForSemanticSegmentation
from ..models.srgan.modeling_srgan import SRGANForImageSuperResolution
from ..models.vit.modeling_vit import VisionTransformerForImageClassification
from ..models.vit.modeling_vit_segmentation import VisionTransformerForSemanticSegmentation
from .timm_pruning import find_channels, timm_widths

Path = tuple[str | int, ...]


class Producer(NamedTuple):
    """A layer whose outputs are the units.

    Attributes:
        module: its name; the first dimension of its tensors counts the units.
        rows: how many rows of that dimension a unit has.
    """

    module: str
    rows: int = 1


class Consumer(NamedTuple):
    """A layer that takes the units as inputs.

    Attributes:
        module: its name; the second dimension of its weight counts the units.
        columns: how many columns of that dimension a unit has.
        offset: of the first unit's column, where other inputs come before.
    """

    module: str
    columns: int = 1
    offset: int = 0


@dataclass
class Group:
    """Units (channels, heads) that are removed or kept together in all layers that produce or consume them.

    Attributes:
        name: of the layer that produces them first.
        size: how many there are.
        producers, consumers: the layers that have them as outputs and as inputs.
        widths: where the configuration says how many there are.
        step: how many are cut at a time: 8 in wide layers, which suits SIMD instructions.
    """

    name: str
    size: int
    producers: list[Producer] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    widths: list[Path] = field(default_factory=list)
    step: int = 1


def make_group(groups: list[Group], name: str, size: int, width: Path | None) -> Group:
    group = Group(name, size, widths=[width] if width else [], step=8 if size >= 32 else 1)
    groups.append(group)
    return group


def find_groups(model: nn.Module) -> list[Group]:
    """The groups of a model of hfvision: channels of a CNN (of its decoder too), heads, MLP units and stem channels of
    a ViT, channels of an upscaler's trunk and blocks. A ViT's segmentation decoder is normalized over all of its
    channels and stays whole.

    Raises:
        ImportError: for a timm backbone, if torch-pruning is not installed.
        ValueError: for another model, a segmenter over a timm backbone, a timm backbone without channels that can be
            cut, group normalization, or branches that are not fused.
    """
    for model_class, groups_of in GROUPS.items():
        if isinstance(model, model_class):
            return groups_of(model)
    raise ValueError(f"A {type(model).__name__} cannot be pruned: hfvision prunes its CNN, ViT and SR-GAN.")


def linear_layer(model: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    """The convolution or linear layer called `name`."""
    module = model.get_submodule(name)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        raise TypeError(f"{name} is a {type(module).__name__}, not a convolution or linear layer.")
    return module


class CNNGroups:
    """Collects the groups of a CNN, layer by layer."""

    def __init__(self, model: PreTrainedModel, config: CNNConfig):
        if config.backbone is not None:
            raise ValueError(f"A segmenter over the timm backbone {config.backbone!r} cannot be pruned.")
        if config.norm == "group":
            raise ValueError("Group normalization mixes channels: such a network cannot be pruned.")
        self.model, self.config = model, config
        self.groups: list[Group] = []

    def add(self, layer: str, size: int, width: Path | None) -> Group:
        """A new group of the outputs of `layer`."""
        return make_group(self.groups, layer, size, width)

    def produce(self, group: Group | None, layer: str) -> None:
        """The [`CNNConvLayer`] called `layer` produces the group."""
        if group is not None:
            names = [f"{layer}.{part}" for part in ("convolution", "normalization")]
            group.producers += [Producer(n) for n in names if list(self.model.get_submodule(n).parameters())]

    def consume(self, group: Group | None, module: str, columns: int = 1, offset: int = 0) -> None:
        """The convolution or linear layer called `module` consumes the group."""
        if group is not None:
            group.consumers.append(Consumer(module, columns, offset))

    def block(self, name: str, place: Path, widths: list[int], stream: Group | None) -> Group | None:
        """The convolutions of one block, and the group of its output."""
        hidden, identity = stream, False
        for number, width in enumerate(widths):
            layer, path = f"{name}.layers.{number}", (*place, number)
            self.consume(hidden, f"{layer}.convolution")
            last = number == len(widths) - 1
            identity = last and isinstance(self.model.get_submodule(name).shortcut, nn.Identity)
            if identity:
                hidden = stream
                if hidden is not None:
                    hidden.widths.append(path)
            else:
                hidden = self.add(layer, width, path)
            self.produce(hidden, layer)
        if self.config.block_type != "plain" and not identity:
            self.consume(stream, f"{name}.shortcut.convolution")
            self.produce(hidden, f"{name}.shortcut")
        return hidden

    def encoder(self) -> list[Group | None]:
        """The group of each feature map: the stem's, None where it is the image itself, and each stage's."""
        stream = None
        if self.config.stem_width is not None:
            stream = self.add("stem", self.config.stem_width, ("stem_width",))
            self.produce(stream, "cnn.encoder.stem.0")
        streams = [stream]
        for s, stage in enumerate(self.config.stage_widths):
            for b, widths in enumerate(stage):
                stream = self.block(f"cnn.encoder.stages.{s}.blocks.{b}", ("stage_widths", s, b), widths, stream)
            streams.append(stream)
        return streams


def cnn_groups(model: CNNForImageClassification) -> list[Group]:
    config, found = model.config, CNNGroups(model, model.config)
    last = found.encoder()[-1]
    columns = model.cnn.out_features // config.stage_widths[-1][-1][-1]
    found.consume(last, "hidden.0" if config.classifier_hidden_size else "classifier", columns)
    if config.classifier_hidden_size:
        hidden = found.add("hidden.0", config.classifier_hidden_size, ("classifier_hidden_size",))
        hidden.producers.append(Producer("hidden.0"))
        hidden.consumers.append(Consumer("classifier"))
    return found.groups


def cnn_segmentation_groups(model: CNNForSemanticSegmentation) -> list[Group]:
    found = CNNGroups(model, model.config)
    streams = found.encoder()
    channels = [channels for channels, _ in model.feature_maps()]
    deepest, *skips = reversed(model.used)
    hidden, width = streams[deepest], channels[deepest]
    for step, skip in enumerate(skips):
        layers = [f"decoder.{step}.layers.{number}" for number in (0, 1)]
        found.consume(hidden, f"{layers[0]}.convolution")
        found.consume(streams[skip], f"{layers[0]}.convolution", offset=width)
        for number, layer in enumerate(layers):
            if number:
                found.consume(hidden, f"{layer}.convolution")
            width = linear_layer(model, f"{layer}.convolution").weight.shape[0]
            hidden = found.add(layer, width, ("decoder_widths", step, number))
            found.produce(hidden, layer)
    found.consume(hidden, "head")
    return found.groups


def vit_groups(
    model: VisionTransformerForImageClassification | VisionTransformerForSemanticSegmentation,
) -> list[Group]:
    config, groups = model.config, []
    if config.stem_widths is not None:
        convolutions = convolution_names(model, "vit.embeddings.stem")
        for index, (width, names) in enumerate(zip(config.stem_widths, convolutions, strict=True)):
            group = make_group(groups, names[0], width, ("stem_widths", index))
            group.producers = [Producer(name) for name in names]
            last = index == len(convolutions) - 1
            group.consumers = [Consumer("vit.embeddings.projection" if last else convolutions[index + 1][0])]
    head_dim: Any = config.head_dim  # never None in a finished configuration
    for index in range(config.num_hidden_layers):
        layer = f"vit.layers.{index}"
        heads = config.per_layer("num_attention_heads")[index]
        group = make_group(groups, f"{layer}.attention", heads, ("num_attention_heads", index))
        group.producers = [Producer(f"{layer}.attention.{part}_proj", head_dim) for part in "qkv"]
        group.consumers = [Consumer(f"{layer}.attention.o_proj", head_dim)]
        width = config.per_layer("intermediate_size")[index]
        group = make_group(groups, f"{layer}.mlp", width, ("intermediate_size", index))
        group.producers, group.consumers = [Producer(f"{layer}.mlp.fc1")], [Consumer(f"{layer}.mlp.fc2")]
    return groups


def superres_groups(model: SRGANForImageSuperResolution) -> list[Group]:
    config, groups = model.config, []
    if config.branch_expansion is not None and not config.fused:
        raise ValueError("Training branches must be folded before pruning: model.fuse().")
    trunk = make_group(groups, "generator.head.0", config.hidden_size, ("hidden_size",))
    trunk.producers.append(Producer("generator.head.0"))
    for b in range(len(config.block_widths)):
        convolutions = convolution_names(model, f"generator.blocks.{b}.layers")
        trunk.consumers.append(Consumer(convolutions[0][0]))
        trunk.producers += [Producer(name) for name in convolutions[-1]]
        for index, width in enumerate(config.block_widths[b]):
            group = make_group(groups, convolutions[index][0], width, ("block_widths", b, index))
            group.producers = [Producer(name) for name in convolutions[index]]
            group.consumers = [Consumer(convolutions[index + 1][0])]
    if config.trunk_residual:
        (names,) = convolution_names(model, "generator.fusion")
        trunk.consumers.append(Consumer(names[0]))
        trunk.producers += [Producer(name) for name in names]
    convolutions = convolution_names(model, "generator.upsampler")
    trunk.consumers += [Consumer(name) for (name,) in convolutions]
    for (name,) in convolutions[:-1]:  # their channels become pixels, `factor**2` of each unit
        trunk.producers.append(Producer(name, linear_layer(model, name).weight.shape[0] // config.hidden_size))
    return groups


def classifier_groups(model: CNNForImageClassification) -> list[Group]:
    return cnn_groups(model) if model.config.backbone is None else timm_groups(model)


def timm_groups(model: CNNForImageClassification) -> list[Group]:
    groups: list[Group] = []
    for channels in find_channels(model):
        group = make_group(groups, channels.makers[0], channels.size, None)
        group.producers = [Producer(name) for name in channels.makers]
        group.consumers = [Consumer(name) for name in channels.takers]
        group.widths = [("backbone_widths", *place) for place in channels.widths]
    return groups


GROUPS: dict[type[nn.Module], Callable[[Any], list[Group]]] = {
    CNNForImageClassification: classifier_groups,
    CNNForSemanticSegmentation: cnn_segmentation_groups,
    VisionTransformerForImageClassification: vit_groups,
    VisionTransformerForSemanticSegmentation: vit_groups,
    SRGANForImageSuperResolution: superres_groups,
}


def convolution_names(model: nn.Module, sequence: str) -> list[list[str]]:
    """The convolutions in a sequence, by name, each with the batch normalization that follows it."""
    names: list[list[str]] = []
    for name, module in model.get_submodule(sequence).named_children():
        if isinstance(module, nn.Conv2d):
            names.append([f"{sequence}.{name}"])
        elif isinstance(module, nn.BatchNorm2d):
            names[-1].append(f"{sequence}.{name}")
    return names


def narrowed(config: Any, sizes: dict[str, int], groups: list[Group]) -> Any:
    """The configuration with as many units in each group as `sizes` says."""
    fields = {name: unshared(value) for name, value in config.to_dict().items()}
    for name in ("num_attention_heads", "intermediate_size"):
        if name in fields:
            fields[name] = config.per_layer(name)
    if fields.get("backbone") and fields.get("backbone_widths") is None:
        fields["backbone_widths"] = timm_widths(config)
    paths = [(path, sizes[group.name]) for group in groups for path in group.widths]
    if steps := {path[1] for path, _ in paths if path[0] == "decoder_widths"}:
        fields["decoder_widths"] = [[0, 0] for _ in steps]
    for path, size in paths:
        place = fields
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = size
    return type(config).from_dict(fields)


def unshared(value: Any) -> Any:
    """A list of lists in which no list stands in two places."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    return [unshared(item) for item in value] if isinstance(value, list) else value


def unit_places(units: Tensor, each: int) -> Tensor:
    """The places, int64 (units · each,), of units that have `each` rows or columns in a row."""
    offsets = units.new_tensor(range(each))
    return (units[:, None] * each + offsets).flatten()
