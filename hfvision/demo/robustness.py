"""The tab that attacks a classifier, standard and hardened, and shows the attack."""

from functools import partial
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from ..data.transforms.normalize import Normalize
from ..robustness.attacks.apgd import apgd
from ..robustness.attacks.gradient import fgsm, pgd
from ..robustness.attacks.square import square
from ..robustness.attacks.threat import PixelClassifier
from .classify import read_for
from .examples import add_examples
from .limits import on_gpu, refuse, stopwatch, upload_field
from .models import Offer, Offers, load

USUAL = "PGD, 20 steps"
ATTACKS = {
    "FGSM, one step": fgsm,
    USUAL: partial(pgd, steps=20),
    "APGD, 50 steps": partial(apgd, steps=50),
    "Square, 500 queries, without gradients": partial(square, queries=500),
}
LARGEST = 16  # of the 255 levels of a pixel
SHOWN = 288  # pixels of a side of a picture, at least


def show(image: Tensor) -> Image.Image:
    """(C, H, W) in [0, 1] as a picture large enough to look at, every pixel a square."""
    picture = to_pil_image((255 * image.cpu().clamp(0, 1)).round().to(torch.uint8))
    times = max(1, SHOWN // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


@on_gpu
def attack_one(model: Offer, path: str | None, attack: str, epsilon: float) -> tuple[Any, ...]:
    """The image as the model gets it, the change magnified, the attacked image, and the answers before and after."""
    network, processor = load(model.name)
    image = read_for(network, path)
    bare = processor(image, return_tensors="pt", do_normalize=False, do_rescale=False)["pixel_values"]
    pixels = bare.to(network.device).float() / 255
    victim = PixelClassifier(network, Normalize.from_processor(processor))
    victim.register_forward_pre_hook(stopwatch())
    with torch.inference_mode():
        before = victim(pixels)[0].softmax(0)
    attacked = pixels
    if epsilon:
        attacked = ATTACKS[attack](victim, pixels.clone(), before.argmax()[None].clone(), epsilon / 255)
    with torch.inference_mode():
        after = victim(attacked)[0].softmax(0)
    change = (attacked - pixels)[0] * 255 / max(epsilon, 1) / 2 + 0.5
    answers = [
        {network.config.id2label[i]: scores[i].item() for i in scores.topk(min(3, len(scores))).indices.tolist()}
        for scores in (before, after)
    ]
    return show(pixels[0]), show(change), show(attacked[0]), *answers


def verdict(model: Offer, before: dict[str, float], after: dict[str, float]) -> str:
    (was, sure), (now, surer) = (next(iter(answer.items())) for answer in (before, after))
    what = "hardened" if model.hardened else "standard"
    if was == now:
        return f"**{model.label}** ({what}) still says **{was}** ({sure:.0%} → {surer:.0%})."
    return f"**{model.label}** ({what}) is fooled: **{was}** ({sure:.0%}) becomes **{now}** ({surer:.0%})."


def run(offers: Offers, path: str | None, attack: str, epsilon: float) -> tuple[Any, ...]:
    """What `attack_image` returns."""
    if attack not in ATTACKS:
        raise refuse(f"There is no attack {attack!r}: choose of {'; '.join(ATTACKS)}.")
    if not 0 <= epsilon <= LARGEST:
        raise refuse(f"The budget must be from 0 to {LARGEST} levels of a pixel's 255, got {epsilon:g}.")
    attacked = offers.attacked()
    if not attacked:
        raise refuse("There is no classifier here to attack.")
    lines, results = [], []
    for model in attacked:
        original, change, picture, before, after = attack_one(model, path, attack, epsilon)
        results += [original, change, picture, after]
        lines.append(verdict(model, before, after))
    if not any(model.hardened for model in attacked):
        lines.append("There is no hardened model of these classes here to compare with.")
    return "\n\n".join(lines), *results


def robustness_tab(offers: Offers, shared: dict[str, Any]) -> None:
    """Draw the tab; `shared` are the arguments of all events."""

    def attack_image(image: str, attack: str = USUAL, epsilon: float = 4) -> tuple:
        """Change an image so little that people hardly see it, and so that a classifier takes it for something else.

        Args:
            image: a PNG, JPEG, WebP or TIFF file; the classifier's own answer is taken for the truth.
            attack: one of the attacks of the list.
            epsilon: by how many of its 255 levels each pixel may change, 0 to 16.

        Returns:
            What became of it, in words; then for the standard model, and for the hardened one where there is one: the
            image as the model gets it, the change magnified, the attacked image, and the answer for it.
        """
        return run(offers, image, attack, epsilon)

    models = offers.attacked()
    text = gr.Markdown(render=False)
    rows = [
        [
            *(
                gr.Image(
                    format="png",
                    label=label,
                    interactive=False,
                    min_width=140,
                    buttons=[],
                    elem_classes="pixels",
                    render=False,
                )
                for label in ("what it sees", "change, magnified", "attacked")
            ),
            gr.Label(num_top_classes=3, label="its answer", min_width=140, render=False),
        ]
        for _ in models
    ]
    outputs = [text, *(component for row in rows for component in row)]
    with gr.Row():
        with gr.Column():
            source = upload_field("Image", 260)
        with gr.Column():
            attack = gr.Dropdown(list(ATTACKS), value=USUAL, label="Attack")
            epsilon = gr.Slider(
                0, LARGEST, 4, step=1, label="Budget", info="how far each pixel may go, of its 255 levels"
            )
            button = gr.Button("Attack", variant="primary")
    inputs = [source, attack, epsilon]
    add_examples(attack_image, inputs, [USUAL if models else None, 4], outputs)
    text.render()
    for model, row in zip(models, rows, strict=True):
        gr.Markdown(f"### {'Hardened' if model.hardened else 'Standard'} model: {model.label}")
        with gr.Row():
            for component in row:
                component.render()
    button.click(attack_image, inputs, outputs, api_name="attack_image", **shared)
