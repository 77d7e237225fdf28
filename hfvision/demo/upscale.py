"""The tab that makes a photograph larger, beside its bicubic version."""

from functools import lru_cache
from time import perf_counter
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..data.io.images import Photo, to_pil
from ..tasks.super_resolution.blend import blend, of_one_architecture
from ..tasks.super_resolution.upscale import Upscaling, shipped_upscalers, write_photo
from .examples import add_examples
from .limits import MAX_UPSCALED, on_gpu, read_uploaded_photo, refuse, result_path, upload_field, within_seconds
from .models import Offer, Offers, load

AUTOMATIC = "automatic"
CROP = (288, 216)  # width and height in pixels of what is shown pixel for pixel
GRID = 16  # pixels; crops start at multiples of it


def choose(offers: Offers, scale: int, label: str, gan_share: float) -> tuple[Any, str]:
    """The network for a request and what it is called: a model, or a blend of one trained by pixels and a GAN."""
    fitting = [model for model in offers.upscalers() if model.scale == scale]
    if not fitting:
        there = ", ".join(
            f"×{s}" for s in sorted({model.scale for model in offers.upscalers() if model.scale is not None})
        )
        raise refuse(f"There is no model for ×{scale} here, but for {there or 'no scale'}.")
    if gan_share:
        pair = blendable(offers, scale)
        if pair is None:
            raise refuse(f"There is no GAN for ×{scale} here to blend with: set its share to 0.")
        share = round(min(max(gan_share, 0.0), 1.0), 1)
        return blended(pair[0].name, pair[1].name, share), f"{pair[0].label} with {share:.0%} of {pair[1].label}"
    if label == AUTOMATIC:
        first = shipped_upscalers().get(scale)
        model = next((model for model in fitting if model.name == first), fitting[0])
    else:
        try:
            model = offers.find(label)
        except ValueError as error:
            raise refuse(str(error)) from None
        if model.scale != scale:
            what = f"upscales ×{model.scale}" if model.scale else "is a classifier"
            raise refuse(f"{model.label} {what}: choose a model for ×{scale}, or {AUTOMATIC}.")
    return load(model.name)[0], model.label


def blendable(offers: Offers, scale: int) -> tuple[Offer, Offer] | None:
    """The network trained by pixels and the GAN trained further from it, where both are there."""
    fitting = [model for model in offers.upscalers() if model.scale == scale]
    for gan in (model for model in fitting if model.gan):
        for plain in (model for model in fitting if not model.gan):
            first, second = (load(model.name)[0].config for model in (plain, gan))
            if of_one_architecture(first, second):
                return plain, gan
    return None


@lru_cache(maxsize=4)
def blended(plain: str, gan: str, share: float) -> Any:
    return blend(load(plain)[0], load(gan)[0], share)


@on_gpu
def enlarge(network: Any, photo: Photo) -> np.ndarray:
    """Pixels as of `photo`, larger."""
    try:
        return np.concatenate(list(within_seconds(Upscaling(network).strips(photo.pixels))))
    except ValueError as error:
        raise refuse(str(error)) from None


def eight_bits(photo: Photo) -> Image.Image:
    pixels = photo.pixels
    return to_pil((pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels)


def crop_where_they_differ(one: Image.Image, other: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of `CROP` pixels, or fewer, in which two images of one size differ most."""

    def grey(image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image.convert("L"), dtype=np.float32))[None]

    width, height = (min(side, most) for side, most in zip(one.size, CROP, strict=True))
    cells = avg_pool2d((grey(one) - grey(other)).abs(), GRID, ceil_mode=True)
    window = tuple(
        max(1, min(side // GRID, most)) for side, most in zip((height, width), cells.shape[1:], strict=True)
    )
    sums = avg_pool2d(cells, window, stride=1)[0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    left, top = min(GRID * column, one.width - width), min(GRID * row, one.height - height)
    return left, top, left + width, top + height


def run(
    offers: Offers, path: str | None, scale: int, label: str, gan_share: float
) -> tuple[tuple[str, str], tuple[Image.Image, Image.Image], str, str]:
    """What `upscale_image` returns."""
    photo = read_uploaded_photo(path)
    network, name = choose(offers, int(scale), label, gan_share)
    start = perf_counter()
    pixels = enlarge(network, photo)
    seconds = perf_counter() - start
    height, width = pixels.shape[:2]
    result = result_path(f"upscaled_x{scale}.png")
    write_photo(result, iter([pixels]), (width, height), photo)
    small = eight_bits(photo)
    bicubic = small.resize((width, height), Image.Resampling.BICUBIC)
    plain = result.with_name(f"bicubic_x{scale}.png")
    write_photo(plain, iter([np.asarray(bicubic).reshape(height, width, -1)]), (width, height), photo)
    larger = eight_bits(Photo(pixels, {}))
    box = crop_where_they_differ(bicubic, larger)
    before = f"{small.width}×{small.height}"
    megapixels = width * height / 1e6
    text = f"{before} → {width}×{height} pixels ({megapixels:.2f} megapixels) in {seconds:.2f} s, by {name}."
    return (str(plain), str(result)), (bicubic.crop(box), larger.crop(box)), str(result), text


def upscale_tab(offers: Offers, shared: dict[str, Any]) -> None:
    """Draw the tab; `shared` are the arguments of all events."""

    def upscale_image(
        image: str, scale: int = 2, model: str = AUTOMATIC, gan_share: float = 0.0
    ) -> tuple[tuple[str, str], tuple[Image.Image, Image.Image], str, str]:
        """Make a photograph larger by a super-resolution network.

        Args:
            image: a PNG, JPEG, WebP or TIFF file of at most 4 megapixels.
            scale: how many times wider and higher: 2, 3 or 4.
            model: one of the upscalers of the list, or "automatic".
            gan_share: 0 for the network trained by pixels, 1 for the GAN, in between for a blend.

        Returns:
            The photograph by bicubic interpolation and by the network; a detail of both, pixel for pixel; the result
            as a lossless PNG file, with transparency and colour profile; and what was done in which time.
        """
        return run(offers, image, scale, model, gan_share)

    def scale_of(model: str) -> Any:
        return gr.skip() if model == AUTOMATIC else offers.find(model).scale

    scales = sorted({model.scale for model in offers.upscalers() if model.scale is not None})
    labels = [model.label for model in offers.upscalers()]
    plain = {"format": "png", "image_mode": None, "interactive": False, "render": False}
    slider = gr.ImageSlider(type="filepath", label="Bicubic | network", **plain)
    detail = gr.ImageSlider(type="pil", label="Pixel for pixel", elem_classes="exact", **plain)
    file = gr.File(label="The result, lossless", interactive=False, render=False)
    facts = gr.Markdown(f"Up to {MAX_UPSCALED / 1e6:.0f} megapixels; transparency and profile are kept.", render=False)
    outputs = [slider, detail, file, facts]
    with gr.Row():
        with gr.Column(scale=1):
            source = upload_field("Photograph", 260)
            with gr.Row():
                scale = gr.Radio(
                    [(f"×{s}", s) for s in scales], value=min(scales, default=None), label="Scale", min_width=120
                )
                name = gr.Dropdown([AUTOMATIC, *labels], value=AUTOMATIC, label="Model", min_width=160)
            share = gr.Slider(
                0,
                1,
                0,
                step=0.1,
                label="Share of the GAN",
                info="sharper, and partly invented",
                visible=any(blendable(offers, each) for each in scales),
            )
            button = gr.Button("Upscale", variant="primary")
            inputs = [source, scale, name, share]
            add_examples(upscale_image, inputs, [min(scales, default=None), AUTOMATIC, 0.0], outputs)
            facts.render()
        with gr.Column(scale=2):
            slider.render()
            with gr.Row():
                detail.render()
                file.render()
    whole = scale.api_info() | {"type": "integer"}  # what Gradio says is a string, which tools then refuse
    scale.api_info = lambda: whole
    quietly = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    scale.input(lambda: AUTOMATIC, None, name, **quietly)
    name.input(scale_of, name, scale, **quietly)
    button.click(upscale_image, inputs, outputs, api_name="upscale_image", **shared)
