"""The hfvision Space: a photograph made twice as wide and high, beside its bicubic version.

python spaces/vision/app.py
"""

import gradio as gr
from PIL import Image

from hfvision import sample_photos
from hfvision.upscale import load_upscaler, upscale

MAX_PIXELS = 4_000_000
UPSCALER = load_upscaler("sr-tiny-x2")


def upscale_image(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Make a photograph twice as wide and high.

    Args:
        image: a photograph of at most 4 million pixels.

    Returns:
        The photograph upscaled by bicubic interpolation, and by the network.
    """
    if image is None:
        raise gr.Error("Choose a photograph first.", print_exception=False)
    if image.width * image.height > MAX_PIXELS:
        raise gr.Error(
            f"This photograph has {image.width}×{image.height} pixels; at most {MAX_PIXELS:,} are taken.",
            print_exception=False,
        )
    result = upscale(image, UPSCALER)
    return image.convert(result.mode).resize(result.size, Image.Resampling.BICUBIC), result


with gr.Blocks(title="hfvision") as demo:
    gr.Markdown("# hfvision\nA photograph twice as wide and high. Move the slider: bicubic left, hfvision right.")
    source = gr.Image(type="pil", format="png", label="Photograph")
    button = gr.Button("Upscale", variant="primary")
    result = gr.ImageSlider(type="pil", format="png", label="Bicubic | hfvision")
    gr.Examples([[str(path)] for path in sample_photos().values()], source)
    button.click(upscale_image, source, result, concurrency_id="cpu", concurrency_limit=1)

if __name__ == "__main__":
    demo.queue(max_size=32).launch()
