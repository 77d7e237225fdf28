"""The files of a Space that serves one published model; it needs gradio and transformers, not hfvision."""

from pathlib import Path

from transformers import PreTrainedConfig

from ..hub.loading import quantization
from ..tasks.base import SEGMENTATION, SUPER_RESOLUTION, is_own_family, task_of
from ..utils.files import write_text

README = """---
title: {name}
emoji: {emoji}
sdk: gradio
app_file: app.py
models: [{repo_id}]
short_description: {description}
---

# {name}

{description}, with [{repo_id}](/{repo_id}).
"""

REQUIREMENTS = """gradio>=6.20,<7
torch>=2.10
torchvision>=0.25
transformers>=5.5.4,<6
pillow>=12
{extra}"""

APP = '''"""A Space that serves {repo_id}."""
# Written by `hfvision push --with-space`, which writes it anew while this line is here.

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
{imports}

MAX_PIXELS = {pixels}
{load}


def uploads_only(field: gr.Image) -> gr.Image:
    """Let a field read what was uploaded, and no other file of the server: Gradio itself takes the path of any."""
    read = field.preprocess

    def preprocess(payload: Any) -> Any:
        if payload is not None and not (payload.url or "").startswith("data:"):
            path, uploads = Path(payload.path or "").resolve(), Path(field.GRADIO_CACHE).resolve()
            if not (path.is_relative_to(uploads) and path.is_file()):
                raise gr.Error("There is no such upload here: upload the image again.", print_exception=False)
        return read(payload)

    field.preprocess = preprocess
    return field


def check(image: Image.Image | None) -> Image.Image:
    if image is None:
        raise gr.Error("Choose an image first.", print_exception=False)
    if image.width * image.height > MAX_PIXELS:
        size = f"{{image.width}}×{{image.height}}"
        raise gr.Error(f"This image has {{size}} pixels; at most {{MAX_PIXELS:,}} are taken.", print_exception=False)
    return image

{body}

if __name__ == "__main__":
    demo.queue(max_size=32).launch()
'''

PIPELINE = "from transformers import pipeline"
LOAD = 'model = pipeline("{task}", model="{repo_id}"{trust})'
OPENVINO_IMPORTS = """from optimum.intel import OVModelForImageClassification
from transformers import AutoImageProcessor, pipeline"""
OPENVINO_LOAD = """settings = {{"INFERENCE_PRECISION_HINT": "f32"}}
network = OVModelForImageClassification.from_pretrained("{repo_id}", ov_config=settings{trust})
processor = AutoImageProcessor.from_pretrained("{repo_id}"{trust})
model = pipeline("{task}", model=network, image_processor=processor)"""

CLASSIFY = '''
def classify_image(image: Image.Image) -> dict[str, float]:
    """Say what is in an image: the five most probable classes with their probabilities."""
    answers = model(check(image).convert("RGB"), top_k=5)
    return {{answer["label"]: answer["score"] for answer in answers}}


with gr.Blocks(title="{name}") as demo:
    gr.Markdown("# {name}\\n{description}, with {repo_id}.")
    source = uploads_only(gr.Image(type="pil", format="png", label="Image"))
    button = gr.Button("Classify", variant="primary")
    result = gr.Label(label="Classes")
    button.click(classify_image, source, result, concurrency_limit=1)
'''

UPSCALE = '''
def upscale_image(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Make an image {scale} times as wide and high: by bicubic interpolation, and by the network."""
    result = model(check(image))
    return image.convert(result.mode).resize(result.size, Image.Resampling.BICUBIC), result


with gr.Blocks(title="{name}") as demo:
    gr.Markdown("# {name}\\n{description}, with {repo_id}. Bicubic left, network right.")
    source = uploads_only(gr.Image(type="pil", format="png", image_mode=None, label="Image"))
    button = gr.Button("Upscale", variant="primary")
    result = gr.ImageSlider(type="pil", format="png", label="Bicubic | network")
    button.click(upscale_image, source, result, concurrency_limit=1)
'''


SEGMENT = '''
def segment_image(image: Image.Image) -> tuple[Image.Image, list]:
    """Find the class of each pixel of an image: the image, and a mask for each class that is in it."""
    image = check(image).convert("RGB")
    parts = [(np.asarray(part["mask"]) / 255, part["label"]) for part in model(image)]
    return image, [(mask, label) for mask, label in parts if label.lower() != "background"]


with gr.Blocks(title="{name}") as demo:
    gr.Markdown("# {name}\\n{description}, with {repo_id}.")
    source = uploads_only(gr.Image(type="pil", format="png", label="Image"))
    button = gr.Button("Segment", variant="primary")
    result = gr.AnnotatedImage(format="png", label="Classes")
    button.click(segment_image, source, result, concurrency_limit=1)
'''


def write_space(folder: Path, repo_id: str, config: PreTrainedConfig) -> None:
    """Write the files of a Space that serves the model `repo_id`.

    Args:
        folder: to write to.
        repo_id: of the model.
        config: of the model.

    Raises:
        ValueError: for a quantized model that needs more than transformers and optimum to run.
    """
    task, method = task_of(config, repo_id), quantization(config)
    segments = task is SEGMENTATION
    scale = config.scale if task is SUPER_RESOLUTION else None
    openvino = method == "openvino"
    if method and (scale or not openvino):
        raise ValueError(f"A Space cannot serve a model in the form {method!r}: push it without one, or its parent.")
    facts = {
        "name": repo_id.split("/")[-1],
        "repo_id": repo_id,
        "task": task.pipeline,
        "description": f"Images made {scale} times as wide and high" if scale else "Says what is in images",
        "scale": scale,
        "trust": ", trust_remote_code=True" if is_own_family(config) else "",
        "emoji": "🔎" if scale else "🏷️",
        "pixels": "1_000_000" if scale else "50_000_000",
        "extra": "optimum-intel[openvino]>=2.2\n" if openvino else "",
    }
    if segments:
        facts |= {"description": "Finds what each pixel shows", "emoji": "🧩"}
        facts["pixels"] = "4_000_000"
    facts |= {
        "imports": OPENVINO_IMPORTS if openvino else ("import numpy as np\n" if segments else "") + PIPELINE,
        "load": (OPENVINO_LOAD if openvino else LOAD).format(**facts),
        "body": (UPSCALE if scale else SEGMENT if segments else CLASSIFY).format(**facts),
    }
    write_text(folder / "README.md", README.format(**facts))
    write_text(folder / "requirements.txt", REQUIREMENTS.format(**facts))
    write_text(folder / "app.py", APP.format(**facts))
