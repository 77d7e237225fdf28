"""What can be cut out of hfvision's families: units that several layers share, and the widths that count them."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ..models.cnn.modeling_cnn import CNNForImageClassification
from ..models.srgan.modeling_srgan import SRGANForImageSuperResolution
from ..models.vit.modeling_vit import VisionTransformerForImageClassification

Path = tuple[str | int, ...]


@dataclass
class Group:
    """Units (channels, heads) that go or stay together in all layers that make them or take them.

    Attributes:
        name: of the layer that makes them first.
        size: how many there are.
        makers: modules of whose tensors the first dimension counts the units, and how many rows a unit has.
        takers: modules of whose weight the second dimension counts them, and how many columns a unit has.
        widths: where the configuration says how many there are.
        step: how many are cut at a time: 8 in wide layers, which instructions for vectors like.
    """

    name: str
    size: int
    makers: list[tuple[str, int]] = field(default_factory=list)
    takers: list[tuple[str, int]] = field(default_factory=list)
    widths: list[Path] = field(default_factory=list)
    step: int = 1


def make_group(groups: list[Group], name: str, size: int, width: Path | None) -> Group:
    group = Group(name, size, widths=[width] if width else [], step=8 if size >= 32 else 1)
    groups.append(group)
    return group


def find_groups(model: PreTrainedModel) -> list[Group]:
    """The groups of a CNN (channels), a ViT (heads, MLP and stem channels) or an upscaler (channels of trunk, blocks).

    Raises:
        ValueError: for another model, a timm backbone, group normalisation, or branches that are not fused.
    """
    if isinstance(model, CNNForImageClassification):
        return cnn_groups(model)
    if isinstance(model, VisionTransformerForImageClassification):
        return vit_groups(model)
    if isinstance(model, SRGANForImageSuperResolution):
        return superres_groups(model)
    raise ValueError(f"A {type(model).__name__} cannot be pruned: hfvision prunes its CNN, ViT and SR-GAN.")


def cnn_groups(model: CNNForImageClassification) -> list[Group]:
    config, groups = model.config, []
    if config.backbone is not None:
        raise ValueError(f"The timm backbone {config.backbone!r} cannot be pruned: its widths are not in the config.")
    if config.norm == "group":
        raise ValueError("Group normalisation mixes channels: such a network cannot be pruned.")

    def makes(group: Group | None, layer: str) -> None:
        if group is not None:
            names = [f"{layer}.{part}" for part in ("convolution", "normalization")]
            group.makers += [(name, 1) for name in names if list(model.get_submodule(name).parameters())]

    def takes(group: Group | None, module: str, columns: int = 1) -> None:
        if group is not None:
            group.takers.append((module, columns))

    stream = None
    if config.stem_width is not None:
        stream = make_group(groups, "stem", config.stem_width, ("stem_width",))
        makes(stream, "cnn.encoder.stem.0")
    for s, stage in enumerate(config.stage_widths):
        for b, widths in enumerate(stage):
            block, hidden = f"cnn.encoder.stages.{s}.blocks.{b}", stream
            for number, width in enumerate(widths):
                layer, place = f"{block}.layers.{number}", ("stage_widths", s, b, number)
                takes(hidden, f"{layer}.convolution")
                identity = number == len(widths) - 1 and isinstance(model.get_submodule(block).shortcut, nn.Identity)
                if identity:
                    hidden = stream
                    if hidden is not None:
                        hidden.widths.append(place)
                else:
                    hidden = make_group(groups, layer, width, place)
                makes(hidden, layer)
            if config.block_type != "plain" and not identity:
                takes(stream, f"{block}.shortcut.convolution")
                makes(hidden, f"{block}.shortcut")
            stream = hidden
    columns = model.cnn.out_features // config.stage_widths[-1][-1][-1]
    takes(stream, "hidden.0" if config.classifier_hidden_size else "classifier", columns)
    if config.classifier_hidden_size:
        hidden = make_group(groups, "hidden.0", config.classifier_hidden_size, ("classifier_hidden_size",))
        hidden.makers.append(("hidden.0", 1))
        hidden.takers.append(("classifier", 1))
    return groups


def vit_groups(model: VisionTransformerForImageClassification) -> list[Group]:
    config, groups = model.config, []
    if config.stem_widths is not None:
        convolutions = convolution_names(model, "vit.embeddings.stem")
        for index, (width, names) in enumerate(zip(config.stem_widths, convolutions, strict=True)):
            group = make_group(groups, names[0], width, ("stem_widths", index))
            group.makers = [(name, 1) for name in names]
            last = index == len(convolutions) - 1
            group.takers = [("vit.embeddings.projection" if last else convolutions[index + 1][0], 1)]
    for index in range(config.num_hidden_layers):
        layer = f"vit.layers.{index}"
        heads = config.per_layer("num_attention_heads")[index]
        group = make_group(groups, f"{layer}.attention", heads, ("num_attention_heads", index))
        group.makers = [(f"{layer}.attention.{part}_proj", config.head_dim) for part in "qkv"]
        group.takers = [(f"{layer}.attention.o_proj", config.head_dim)]
        width = config.per_layer("intermediate_size")[index]
        group = make_group(groups, f"{layer}.mlp", width, ("intermediate_size", index))
        group.makers, group.takers = [(f"{layer}.mlp.fc1", 1)], [(f"{layer}.mlp.fc2", 1)]
    return groups


def superres_groups(model: SRGANForImageSuperResolution) -> list[Group]:
    config, groups = model.config, []
    if config.branch_expansion is not None and not config.fused:
        raise ValueError("Training branches must be folded before pruning: model.fuse().")
    trunk = make_group(groups, "generator.head.0", config.hidden_size, ("hidden_size",))
    trunk.makers.append(("generator.head.0", 1))
    for b in range(len(config.block_widths)):
        convolutions = convolution_names(model, f"generator.blocks.{b}.layers")
        trunk.takers.append((convolutions[0][0], 1))
        trunk.makers += [(name, 1) for name in convolutions[-1]]
        for index, width in enumerate(config.block_widths[b]):
            group = make_group(groups, convolutions[index][0], width, ("block_widths", b, index))
            group.makers = [(name, 1) for name in convolutions[index]]
            group.takers = [(convolutions[index + 1][0], 1)]
    if config.trunk_residual:
        (names,) = convolution_names(model, "generator.fusion")
        trunk.takers.append((names[0], 1))
        trunk.makers += [(name, 1) for name in names]
    convolutions = convolution_names(model, "generator.upsampler")
    trunk.takers += [(name, 1) for (name,) in convolutions]
    for (name,) in convolutions[:-1]:  # their channels become pixels, `factor**2` of each unit
        trunk.makers.append((name, model.get_submodule(name).out_channels // config.hidden_size))
    return groups


def convolution_names(model: nn.Module, sequence: str) -> list[list[str]]:
    """The convolutions in a sequence, by name, each with the batch normalisation that follows it."""
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
    for group in groups:
        for path in group.widths:
            place = fields
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = sizes[group.name]
    return type(config).from_dict(fields)


def unshared(value: Any) -> Any:
    """A list of lists in which no list stands in two places."""
    return [unshared(item) for item in value] if isinstance(value, list) else value
