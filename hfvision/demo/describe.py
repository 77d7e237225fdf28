"""The tab that looks inside a model: its size, its graph, its card."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from ..hub.files import resolve_model
from ..hub.openvino_model import OpenVINOModel
from ..inspection.graph import computational_graph, in_words, to_svg
from ..inspection.layers import summarize
from ..utils.markdown import markdown_table
from .limits import refuse
from .models import Offers, load, megabytes

UPSCALED = 64  # pixels of a side of the image that an upscaler is described for


@lru_cache(maxsize=32)
def inside(name: str, scale: int | None) -> tuple[str, str]:
    """Facts of a model as Markdown, and its graph as SVG in HTML."""
    model, _ = load(name)
    side = UPSCALED if scale else getattr(model.config, "image_size", None) or 224
    size = megabytes(name)
    stored = [] if size is None else [["weights", f"{size:.2f} MB"]]
    if isinstance(model, OpenVINOModel):
        facts = markdown_table(["computed by", "OpenVINO, in 8 bits"], stored)
        return facts, "<p>Its layers are those of the model that it was made from.</p>"
    pixels = torch.rand(1, getattr(model.config, "num_channels", 3), side, side, device=model.device)
    summary = summarize(model, pixels)
    rows = [
        ["input", "×".join(map(str, summary.input_shape))],
        ["parameters", f"{summary.parameters:,}"],
        ["multiply-adds", in_words(summary.multiply_adds)],
        ["activations", in_words(summary.activations)],
        ["memory of one pass", f"{summary.peak_memory_bytes / 1e6:.1f} MB"],
        *stored,
    ]
    svg = to_svg(computational_graph(model, pixels))
    return markdown_table(["network", summary.model], rows), f'<div class="graph">{svg}</div>'


def card(name: str) -> str:
    """The model's card without its front matter."""
    path = Path(resolve_model(name)) / "README.md"
    if not path.is_file():
        return "This model has no card here."
    text = path.read_text(encoding="utf-8")
    return text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text


def describe_tab(offers: Offers, shared: dict[str, Any]) -> None:
    """Draw the tab; `shared` are the arguments of all events."""

    def describe_model(model: str) -> tuple[str, str, str]:
        """What a model is made of.

        Args:
            model: one of the models of the list.

        Returns:
            Parameters, multiply-adds and memory as Markdown, the computational graph as SVG, and the model card.
        """
        try:
            found = offers.find(model)
        except ValueError as error:
            raise refuse(str(error)) from None
        return *inside(found.name, found.scale), card(found.name)

    labels = [model.label for model in offers.models]
    name = gr.Dropdown(labels, value=labels[0] if labels else None, label="Model")
    button = gr.Button("Look inside", variant="primary")
    with gr.Row():
        with gr.Column():
            facts = gr.Markdown()
            with gr.Accordion("Model card", open=False):
                text = gr.Markdown()
        graph = gr.HTML(label="Computational graph")
    outputs = [facts, graph, text]
    button.click(describe_model, name, outputs, api_name="describe_model", **shared)
    name.input(describe_model, name, outputs, api_visibility="private", **shared)
