"""Makes the pictures of the README again: `python scripts/make_pictures.py`."""

from pathlib import Path

import torch
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from transformers import AutoModelForImageToImage

import hfvision
from hfvision import (
    CNNConfig,
    CNNForImageClassification,
    VisionTransformerConfig,
    VisionTransformerForImageClassification,
)
from hfvision.data.transforms.resize import downscale, modcrop, resize_bicubic
from hfvision.inspection.graph import computational_graph, to_svg
from hfvision.utils.files import write_text
from hfvision.utils.plots import side_by_side

DOCS = Path(__file__).parents[1] / "docs" / "images"
# A box is left, top, right, bottom.
DETAILS = {
    "upscaler.png": {"photo": "cat", "upscalers": ["sr-tiny-x2"], "box": (110, 60, 290, 180)},
    "upscaler-x4.png": {"photo": "astronaut", "upscalers": ["sr-light-x4"], "box": (330, 175, 510, 295)},
    "upscaler-gan.png": {"photo": "astronaut", "upscalers": ["sr-light-x4", "sr-gan-x4"], "box": (150, 60, 330, 180)},
}


def main() -> None:
    textbook = CNNForImageClassification(CNNConfig.from_preset("textbook", num_labels=10))
    write_text(DOCS / "textbook.svg", to_svg(computational_graph(textbook, torch.rand(1, 3, 28, 28))))
    vit = VisionTransformerForImageClassification._from_config(
        VisionTransformerConfig.from_preset("tiny", num_labels=1000), attn_implementation="eager"
    )
    write_text(DOCS / "vit.svg", to_svg(computational_graph(vit, torch.rand(1, 3, 224, 224))))

    for picture, details in DETAILS.items():
        detail_of(**details, path=DOCS / picture)


def detail_of(photo: str, upscalers: list[str], box: tuple[int, int, int, int], path: Path) -> None:
    """A detail of a sample photograph, made small and large again by bicubic and by upscalers, and as it was."""
    models = {name: AutoModelForImageToImage.from_pretrained(hfvision.checkpoint(name)) for name in upscalers}
    scale = models[upscalers[0]].config.scale
    pixels = pil_to_tensor(hfvision.read_image(hfvision.sample_photos()[photo]))
    original = modcrop(pixels[None].float() / 255, scale)
    small = downscale(original, scale)
    images = {"bicubic": resize_bicubic(small, scale)}
    with torch.inference_mode():
        images |= {f"hfvision {name}": model(small).reconstruction for name, model in models.items()}
    images["original"] = original
    details = {}
    for name, image in images.items():
        detail = to_pil_image(image[0].clamp(0, 1)).crop(box)
        details[name] = detail.resize((2 * detail.width, 2 * detail.height), 0)
    side_by_side(details, path)


if __name__ == "__main__":
    main()
