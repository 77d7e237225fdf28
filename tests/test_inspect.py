"""Layer table, totals, receptive fields and drawings of the computational graph."""

import json
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
import transformers
from torch import nn

from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    SRGANConfig,
    SRGANForImageSuperResolution,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.inspection.graph import Block, Graph, Node, computational_graph, in_words, to_mermaid, to_svg
from hfvision.inspection.layers import format_table, layer_table, summarize

IMAGE = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)


def textbook() -> CNNForImageClassification:
    return CNNForImageClassification(CNNConfig.from_preset("textbook", num_labels=10))


def vit(attention: str = "eager", **overrides) -> VisionTransformerForImageClassification:
    sizes = {"patch_size": 4, "stem_widths": None, "hidden_size": 24, "num_hidden_layers": 6, "intermediate_size": 48}
    config = VisionTransformerConfig.from_preset("cifar", **sizes | overrides)
    model = VisionTransformerForImageClassification(config)
    model.set_attn_implementation(attention)
    return model


def distilled_vit() -> VisionTransformerForImageClassification:
    return vit(stem_widths=[4, 8, 8], distillation_token=True, drop_path_rate=0.1)


def residual(depth: int = 3) -> CNNForImageClassification:
    widths = [[[8, 8]] * depth, [[16, 16]]]
    return CNNForImageClassification(
        CNNConfig(stem_width=8, stage_widths=widths, stage_strides=[1, 2], block_type="basic")
    )


def upscaler(preset: str = "fast-light") -> SRGANForImageSuperResolution:
    return SRGANForImageSuperResolution(SRGANConfig.from_preset(preset, hidden_size=8, block_widths=[[8]] * 4))


class SpatialAttention(nn.Module):
    """Attention written with functions alone, around a layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.mix = nn.Linear(8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.mix(self.mix(self.patches(image).flatten(2).transpose(1, 2)))
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(dim=1)


class Branching(nn.Module):
    """Takes a way that depends on the values of the image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 1 if image.sum() > 0 else image - 1


def blocks_of(graph: Graph) -> list[Block]:
    waiting, found = list(graph.items), []
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, Block):
            found.append(item)
            waiting += item.items
    return found


def nodes_of(graph: Graph) -> list[Node]:
    return [item for owner in [graph, *blocks_of(graph)] for item in owner.items if isinstance(item, Node)]


def labels(graph: Graph) -> list[str]:
    return [node.label for node in nodes_of(graph)]


# Layers and totals


def test_textbook_layers_by_hand():
    rows = {layer.name.split(".")[-1]: layer for layer in layer_table(nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, 10),
    ), IMAGE)}  # fmt: skip
    assert [rows[name].receptive_field for name in "0123456789"] == [3, 3, 4, 8, 8, 10, *[None] * 4]
    assert (rows["0"].type, rows["0"].output_shape, rows["0"].parameters) == ("Conv2d", (1, 64, 32, 32), 1792)
    assert rows["0"].multiply_adds == 32 * 32 * 64 * 27
    assert rows["3"].multiply_adds == 16 * 16 * 128 * 64 * 9
    assert rows["7"].multiply_adds == 128 * 8 * 8 * 256
    assert rows["2"].activations == 64 * 16 * 16
    assert rows["6"].activations == 0  # a view


@pytest.mark.parametrize("build", [textbook, vit, distilled_vit, residual, upscaler], ids=lambda f: f.__name__)
def test_totals_are_the_sums_of_the_layers(build):
    model = build()
    summary = summarize(model, IMAGE)
    assert summary.parameters == model.num_parameters() == sum(layer.parameters for layer in summary.layers)
    assert summary.multiply_adds == sum(layer.multiply_adds for layer in summary.layers) > 0
    assert summary.activations == sum(layer.activations for layer in summary.layers) > 0
    assert summary.weight_bytes == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))


def test_frozen_and_half_precision_weights():
    model = textbook().half()
    model.classifier.requires_grad_(False)
    summary = summarize(model, IMAGE.half())
    assert summary.parameters - summary.trainable_parameters == 256 * 10 + 10
    assert summary.weight_bytes == 2 * summary.parameters


def test_attention_counts_the_same_however_it_is_computed():
    eager, fused = (summarize(vit(kind), IMAGE) for kind in ("eager", "sdpa"))
    assert eager.multiply_adds == fused.multiply_adds
    tokens, width = 64, 3 * 8
    rows = {layer.name: layer for layer in fused.layers}
    assert rows["vit.layers.0.attention"].multiply_adds == 2 * tokens * tokens * width
    assert rows["vit.layers.0.attention.q_proj"].multiply_adds == tokens * 24 * width


def test_functions_and_repeated_calls_count_to_their_module():
    rows = {layer.name: layer for layer in layer_table(SpatialAttention(), IMAGE)}
    assert rows["mix"].multiply_adds == 2 * 16 * 8 * 8
    assert rows["mix"].activations == 2 * 16 * 8
    assert rows["mix"].parameters == 72
    assert rows[""].multiply_adds == 2 * 16 * 16 * 8
    assert rows[""].parameters == 0


def test_shared_weights_count_once_and_uncalled_ones_show():
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    model[1].weight = model[0].weight
    model[0].spare = nn.Linear(2, 2)
    summary = summarize(model, IMAGE)
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters == 32 * 32 + 32 + 32 + 6
    assert "not called" in format_table(summary)


def test_peak_memory_is_what_is_alive_at_once():
    size = IMAGE.nbytes
    grow_and_shrink = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU())
    assert summarize(grow_and_shrink, IMAGE).peak_memory_bytes == size + 4 * size + 4 * size
    assert summarize(nn.ReLU(), IMAGE).peak_memory_bytes == 2 * size
    long_chain = nn.Sequential(*[nn.ReLU() for _ in range(10)])
    assert summarize(long_chain, IMAGE).peak_memory_bytes == 3 * size


def test_measuring_leaves_the_model_as_it_was():
    model = residual().train()
    model.classifier.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    summarize(model, IMAGE)
    computational_graph(model, IMAGE, backward=True)
    assert model.training
    assert not model.classifier.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_table_fits_a_terminal_and_dict_is_json():
    summary = summarize(residual(), IMAGE)
    table = format_table(summary)
    assert max(map(len, table.splitlines())) <= 100
    assert len(set(table.splitlines()[2 : 2 + len(summary.layers)])) == len(summary.layers)
    assert in_words(summary.parameters) in table
    as_json = json.loads(json.dumps(summary.to_dict()))
    assert as_json["multiply_adds"] == summary.multiply_adds
    assert as_json["layers"][0]["output_shape"] == list(summary.layers[0].output_shape)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1792, "1.79 K"), (1605888, "1.61 M"), (999600, "1 M"), (4e12, "4 T")]
)
def test_numbers_in_words(number, text):
    assert in_words(number) == text


# Receptive fields, against the pixels that a gradient reaches in a network of positive weights


class Residual(nn.Sequential):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) + image


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 1, (1, 5), stride=2, padding=(0, 2))
        self.right = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        right = self.right(image)
        return torch.cat([self.left(image)[:, :, :-1, :-1], right], dim=1)


class UNet(nn.Module):
    def __init__(self, mode: str):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(1, 1, 4, stride=2, padding=1) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(2))
        self.mode = mode

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        half = self.down[0](image)
        result = self.down[1](half)
        for conv, skip in zip(self.up, (half, image), strict=True):
            result = conv(nn.functional.interpolate(result, scale_factor=2, mode=self.mode)) + skip
        return result


STACKS = {
    "plain": nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Conv2d(2, 1, 5, padding=2)),
    "strided": nn.Sequential(nn.Conv2d(1, 1, 7, stride=2, padding=3), nn.AvgPool2d(3, 2, 1), nn.Conv2d(1, 1, 3)),
    "dilated": nn.Sequential(*(nn.Conv2d(1, 1, 3, dilation=d) for d in (1, 2, 4))),
    "oblong": nn.Conv2d(1, 1, (1, 7)),
    "same": nn.Sequential(nn.Conv2d(1, 1, 5, padding="same"), nn.Conv2d(1, 1, 2, stride=2, padding="valid")),
    "residual": nn.Sequential(nn.Conv2d(1, 1, 2, 2), Residual(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 1))),
    "shuffle": nn.Sequential(nn.Conv2d(1, 9, 3), nn.PixelShuffle(3), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)),
    "unshuffle": nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 3)),
    "transposed": nn.Sequential(nn.Conv2d(1, 1, 3), nn.ConvTranspose2d(1, 1, 4, 2, 1), nn.Conv2d(1, 1, 3)),
    "nearest": nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=3), nn.Conv2d(1, 1, 5)),
    "bilinear": nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 3)),
    "shrunk": nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.AdaptiveAvgPool2d(12)),
    "uneven": nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.AdaptiveAvgPool2d(32), nn.Conv2d(1, 1, 2)),
    "inception": Inception(),
    "unet-nearest": UNet("nearest"),
    "unet-bilinear": UNet("bilinear"),
}


def gradient_support(model: nn.Module, size: int) -> int:
    """The longest side of the input pixels that one output pixel of a network of positive weights depends on."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    image = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = model(image).sum(dim=1)[0]
    sides = []
    for row in range(min(output.shape)):
        (gradient,) = torch.autograd.grad(output[row, row], image, retain_graph=True)
        touched = gradient[0, 0].abs().nonzero()
        sides += (touched.max(dim=0).values - touched.min(dim=0).values + 1).tolist()
    return max(sides)


@pytest.mark.parametrize("name", STACKS)
def test_receptive_field_is_the_gradients_support(name):
    model = STACKS[name]
    summary = summarize(model.float(), torch.rand(1, 1, 48, 48))
    assert summary.receptive_field == gradient_support(model, 48)


def test_receptive_field_of_known_networks():
    resnet = CNNForImageClassification(CNNConfig.from_preset("resnet18"))
    assert summarize(resnet, torch.rand(1, 3, 64, 64)).receptive_field == 435
    assert summarize(textbook(), torch.rand(1, 3, 28, 28)).receptive_field == 10
    rows = {layer.name: layer for layer in layer_table(vit(), IMAGE)}
    assert rows["vit.embeddings.projection"].receptive_field == 4
    assert rows["vit.layers.0.attention.q_proj"].receptive_field == 4
    assert rows["vit.layers.0.attention.o_proj"].receptive_field is None
    assert rows["classifier"].receptive_field is None
    assert summarize(vit(), IMAGE).receptive_field is None
    assert "the whole image" in format_table(summarize(vit(), IMAGE))
    rows = {layer.name: layer for layer in layer_table(vit(stem_widths=[4, 8, 8]), IMAGE)}
    assert rows["vit.embeddings.projection"].receptive_field == 9


# Computational graphs


def test_textbook_graph_is_one_column_of_layers():
    graph = computational_graph(textbook(), torch.rand(1, 3, 28, 28))
    assert labels(graph) == [
        *("Input pixel_values", "Conv2d 3×3, 3→64", "ReLU", "MaxPool2d 2×2, /2", "Conv2d 3×3, 64→128", "ReLU"),
        *("MaxPool2d 2×2, /2", "AdaptiveAvgPool2d to 7×7", "Flatten", "Linear 6272→256", "ReLU"),
        *("classifier: Linear 256→10", "Output"),
    ]
    ids = [node.id for node in nodes_of(graph)]
    assert set(graph.edges) == set(pairwise(ids))
    assert graph.items[1].output_shape == (1, 64, 28, 28)
    assert sum(node.parameters for node in nodes_of(graph)) == textbook().num_parameters()


def test_residual_blocks_fold_with_their_skip():
    graph = computational_graph(residual(depth=3), IMAGE)
    first, second = blocks_of(graph)
    assert (first.title, first.repeats) == ("CNNBlock", 3)
    assert (second.title, second.repeats) == ("CNNBlock", 1)
    assert [node.label for node in first.items][-2:] == ["Add", "ReLU"]
    add = next(node for node in first.items if node.label == "Add")
    before = next(node for node in graph.items if node.label == "ReLU")
    assert (before.id, add.id) in graph.edges
    assert "Conv2d 1×1, 8→16, /2" in [node.label for node in second.items]


def test_blocks_of_other_widths_do_not_fold():
    graph = computational_graph(vit(num_hidden_layers=4, intermediate_size=[48, 48, 32, 32]), IMAGE)
    assert [(b.title, b.repeats) for b in graph.items if isinstance(b, Block)] == [("VisionTransformerLayer", 2)] * 2


def test_outputs_used_further_down_keep_blocks_apart():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Residual(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()) for _ in range(3))

        def forward(self, image):
            first = self.blocks[0](image)
            return self.blocks[2](self.blocks[1](first)) * first

    assert all(block.repeats < 3 for block in blocks_of(computational_graph(Dense(), IMAGE)))


@pytest.mark.parametrize("family", ["hfvision", "transformers"])
def test_attention_is_drawn_inside_its_block(family):
    if family == "hfvision":
        model = vit("eager")
    else:
        config = transformers.ViTConfig(
            hidden_size=24,
            num_hidden_layers=6,
            num_attention_heads=3,
            intermediate_size=48,
            image_size=32,
            patch_size=8,
        )
        model = transformers.ViTForImageClassification(config)
        model.set_attn_implementation("eager")
    graph = computational_graph(model, IMAGE)
    layer, attention = blocks_of(graph)
    assert layer.repeats == 6
    assert attention in layer.items
    inside = [node.label for node in attention.items]
    assert sum("Linear 24→24" in label for label in inside) >= 3
    wanted = iter(["MatMul", "Softmax", "MatMul"])
    step = next(wanted)
    for label in inside:
        if label == step:
            step = next(wanted, None)
    assert step is None
    model.set_attn_implementation("sdpa")
    fused = labels(computational_graph(model, IMAGE))
    assert "Scaled dot-product attention" in fused
    assert "Softmax" not in fused


def test_parameters_used_by_functions_are_named_and_counted():
    model = vit(pooling="cls")
    by_label = {node.label: node for node in nodes_of(computational_graph(model, IMAGE))}
    assert by_label["Concatenate cls_token"].parameters == 24
    assert by_label["Add position_embeddings"].parameters == 65 * 24
    assert by_label["Select [:, 0]"].output_shape == (1, 24)


def test_operations_on_weights_are_not_drawn():
    graph = computational_graph(upscaler(), IMAGE)
    assert any(label.startswith("BranchedConv2d 3×3, 8→8") for label in labels(graph))
    assert not any("Einsum" in label or "Eye" in label for label in labels(graph))
    skip = next(node for node in nodes_of(graph) if node.label == "InputUpscaler")
    assert ("pixel_values", skip.id) in graph.edges
    spectral = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    assert labels(computational_graph(spectral, IMAGE))[1:3] == ["Conv2d 3×3, 3→4", "ReLU"]
    assert nodes_of(computational_graph(spectral, IMAGE))[1].parameters == 3 * 4 * 9 + 4


def test_backward_graph_names_parameters_and_sums():
    graph = computational_graph(residual(depth=1), IMAGE, backward=True)
    backward = nodes_of(graph.backward)
    assert backward[0].id == "loss"
    assert any(node.label == "AddmmBackward0" and "classifier.weight, bias" in node.detail for node in backward)
    named = " ".join(node.detail for node in backward)
    model = residual(depth=1)
    for name, _ in model.named_parameters():
        assert name.rpartition(".")[0] in named
    assert any(node.label == "Sum of gradients" for node in backward)
    folded = computational_graph(vit(), IMAGE, backward=True).backward
    assert [block.repeats for block in blocks_of(folded)] == [6]
    assert "vit.layers.*.attention.q_proj.weight, bias" in {node.detail for node in nodes_of(folded)}


# Drawings

MODELS = {"textbook": textbook, "vit": vit, "distilled": distilled_vit, "residual": residual, "upscaler": upscaler}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_mermaid_declares_what_it_connects(name, backward):
    text = to_mermaid(computational_graph(MODELS[name](), IMAGE, backward))
    assert text.startswith("```mermaid\nflowchart TD\n")
    assert text.endswith("\n```\n")
    lines = [line.strip() for line in text.splitlines()[2:-1]]
    declared = re.findall(r'^\s*(\w+)(?:\[|\(\()"', text, flags=re.M)
    assert len(declared) == len(set(declared))
    links = [line.split(" --> ") for line in lines if " --> " in line]
    assert links
    assert {end for link in links for end in link} == set(declared)
    assert sum(line.startswith("subgraph") for line in lines) == lines.count("end")
    classes = set(re.findall(r":::(\w+)|class \w+ (\w+)", text))
    assert {name for pair in classes for name in pair if name} <= set(re.findall(r"classDef (\w+)", text))


def test_mermaid_escapes_labels():
    graph = Graph("g", (Node("a", 'a "b" <c> #1 `d` *e*', "other"), Node("b", "x", "other")), (("a", "b"),), 1)
    line = next(line for line in to_mermaid(graph).splitlines() if line.strip().startswith("a["))
    assert line.strip() == 'a["a #quot;b#quot; #lt;c#gt; #35;1 #96;d#96; #42;e#42;"]:::other'


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_svg_shows_every_node_inside_its_frame(name, backward):
    graph = computational_graph(MODELS[name](), IMAGE, backward)
    root = ElementTree.fromstring(to_svg(graph))
    width, height = float(root.get("width")), float(root.get("height"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    parts = [graph, graph.backward] if backward else [graph]
    for part in parts:
        for label in labels(part):
            assert label in texts
        for block in blocks_of(part):
            assert block.repeats == 1 or f"×{block.repeats}" in texts
    boxes = list(boxes_of(root, 0, 0))
    assert all(min(x, y) >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    for index, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[index + 1 :]:
            apart = x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
            around = (x <= x2 and y <= y2 and x + w >= x2 + w2 and y + h >= y2 + h2) or (
                x2 <= x and y2 <= y and x2 + w2 >= x + w and y2 + h2 >= y + h
            )
            assert apart or around


def boxes_of(element: ElementTree.Element, x: float, y: float):
    """All rectangles of a picture in its own coordinates: left, top, width, height."""
    if moved := re.fullmatch(r"translate\((\S+),(\S+)\)", element.get("transform", "")):
        x, y = x + float(moved[1]), y + float(moved[2])
    if element.tag.endswith("rect"):
        left, top, width, height = (float(element.get(key, 0)) for key in ("x", "y", "width", "height"))
        yield x + left, y + top, width, height
    for child in element:
        yield from boxes_of(child, x, y)


# Errors


@pytest.mark.parametrize("inspect", [summarize, layer_table, computational_graph])
def test_untraceable_models_give_one_clear_line(inspect):
    with pytest.raises(ValueError, match=r"^Branching cannot be traced by torch.export: \S") as error:
        inspect(Branching(), IMAGE)
    assert "\n" not in str(error.value)


def test_no_autograd_graph_without_parameters():
    with pytest.raises(ValueError, match="Sequential has no trainable parameter"):
        computational_graph(nn.Sequential(nn.ReLU()), IMAGE, backward=True)
