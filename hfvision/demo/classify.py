"""The tab that says what is in an image, by a model and by its compressed form."""

from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import gradio as gr
import torch
from PIL import Image

from ..models.image_processing_classification import flatten_pil
from ..tasks.card import hardware
from ..tasks.classification.confidence import is_low, low_confidence_note, recorded_threshold
from ..utils.markdown import markdown_table
from .examples import add_examples
from .limits import on_gpu, read_upload, refuse, upload_field
from .models import Offers, load, megabytes

TIMED = 0.15  # seconds of repeated runs, of which the fastest counts, as the machine may do other things meanwhile
RUNS = 3  # at least


@dataclass(frozen=True)
class Answer:
    """What a model says of an image.

    Attributes:
        scores: by label, the likeliest first.
        waited: milliseconds from question to answer.
        computed: milliseconds of all processor cores together, which other work on the machine does not lengthen.
    """

    scores: dict[str, float]
    waited: float
    computed: float


def read_for(model: Any, path: str | None) -> Image.Image:
    """An uploaded image in the colours that the model takes."""
    return flatten_pil(read_upload(path), "L" if getattr(model.config, "num_channels", 3) == 1 else "RGB")


@on_gpu
@torch.inference_mode()
def ask(name: str, path: str | None) -> Answer:
    """The answer of the classifier called `name` for an uploaded image."""
    model, processor = load(name)
    image = read_for(model, path)
    pixels = processor(image, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
    times = []
    logits = torch.empty(0)
    end = perf_counter() + TIMED
    while len(times) < RUNS or perf_counter() < end:
        start, used = perf_counter(), process_time()
        logits = model(pixel_values=pixels).logits
        if pixels.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append((1000 * (perf_counter() - start), 1000 * (process_time() - used)))
    probabilities = logits[0].float().softmax(0)
    top = probabilities.topk(min(5, len(probabilities)))
    labels = [model.config.id2label[index] for index in top.indices.tolist()]
    return Answer(dict(zip(labels, top.values.tolist(), strict=True)), *map(min, *times))


def compare(offers: Offers, path: str | None, name: str) -> tuple[dict, dict | None, str]:
    """What `classify_image` returns."""
    try:
        model = offers.find(name)
    except ValueError as error:
        raise refuse(str(error)) from None
    if model.scale:
        raise refuse(f"{model.label} is an upscaler: choose a classifier.")
    rows, answers = [], []
    for each in filter(None, (model, offers.compressed(model.name))):
        answer = ask(each.name, path)
        figures = (megabytes(each.name), answer.waited, answer.computed)
        rows.append([each.label, *("" if figure is None else f"{figure:.2f}" for figure in figures)])
        answers.append(answer)
    device = load(model.name)[0].device
    threshold = recorded_threshold(model.name)
    low = is_low(next(iter(answers[0].scores.values())), threshold)
    note = f"**{low_confidence_note(threshold)}**\n\n" if low and threshold is not None else ""
    where = hardware(str(device), torch.get_num_threads())
    text = f"{note}{markdown_table(['', 'MB of weights', 'ms an image', 'ms of processor'], rows)}\n\nOn {where}."
    if len(answers) == 1:
        return answers[0].scores, None, f"{text} There is no compressed form of this model here."
    same = next(iter(answers[0].scores)) == next(iter(answers[1].scores))
    first, second = ((device.type == "cpu" and a.computed) or a.waited for a in answers)
    verdict = "Both say the same" if same else "They disagree"
    text += f" **{verdict}**; the small one is {first / second:.1f} times as fast."
    return answers[0].scores, answers[1].scores, text


def classify_tab(offers: Offers, shared: dict[str, Any]) -> None:
    """Draw the tab; `shared` are the arguments of all events."""

    choices = [model.label for model in offers.classifiers()]
    first = choices[0] if choices else None

    def classify_image(image: str, model: str | None = first) -> tuple[dict, dict | None, str]:
        """Say what is in an image, by a model and by its compressed form.

        Args:
            image: a PNG, JPEG, WebP or TIFF file.
            model: one of the classifiers of the list; the first where not given.

        Returns:
            The five likeliest classes with their probabilities, those of the compressed model, and a table of the
            size of both and the time they took.
        """
        return compare(offers, image, model or "")

    labels = [
        gr.Label(num_top_classes=5, label=label, min_width=200, render=False)
        for label in ("The model", "Its compressed form")
    ]
    facts = gr.Markdown(render=False)
    outputs = [*labels, facts]
    with gr.Row():
        with gr.Column():
            source = upload_field("Image", 280)
            name = gr.Dropdown(choices, value=first, label="Model")
            button = gr.Button("Classify", variant="primary")
            add_examples(classify_image, [source, name], [first], outputs)
        with gr.Column():
            with gr.Row():
                for label in labels:
                    label.render()
            facts.render()
    button.click(classify_image, [source, name], outputs, api_name="classify_image", **shared)
