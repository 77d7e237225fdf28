"""The short model card of a model saved or pushed by its own methods.

Each family's folder holds an equal copy of this file, as the files of one folder travel to the Hub together.
"""

from typing import Any

CARD = """---
library_name: transformers
{pipeline_tag}tags: [{tags}]
---

# {name}

{summary}

```python
{usage}
```

Class `{architecture}` of hfvision; its code travels with the weights.{remark}

<!-- hfvision-short-card 1 -->
"""

CNN = "A convolutional network for images of {size}×{size} pixels: {parameters:,}\nparameters{classes}."
VIT = (
    "A vision transformer with patches of {patch}×{patch} for images of {size}×{size} pixels: {parameters:,}\n"
    "parameters{classes}."
)
CNN_REMARK = " The\nconfiguration spells out the width of every layer."
VIT_REMARK = " The\nconfiguration spells out heads and MLP width of every layer."
SRGAN = "{description}: {parameters:,} parameters, ×{scale}, {channels}."
SRGAN_DESCRIPTIONS = {
    "SRGANModel": "Generator and discriminator of a super-resolution GAN",
    "SRGANDiscriminator": "The discriminator of a super-resolution GAN, for training",
}

USAGE = {
    "image-classification": """from transformers import pipeline

classify = pipeline("image-classification", model="{name}", trust_remote_code=True)
classify("photo.jpg")""",
    "image-segmentation": """from transformers import pipeline

segment = pipeline("image-segmentation", model="{name}", trust_remote_code=True)
segment("photo.jpg")[0]["mask"].save("mask.png")""",
    "image-to-image": """from transformers import pipeline

upscale = pipeline("image-super-resolution", model="{name}", trust_remote_code=True)
upscale("photo.jpg").save("photo_x{scale}.png")""",
    "image-feature-extraction": """from transformers import {auto_class}

model = {auto_class}.from_pretrained("{name}", trust_remote_code=True)""",
    None: """from transformers import AutoConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

model_class = get_class_from_dynamic_module("modeling_srgan.{architecture}", "{name}")
model = model_class.from_pretrained("{name}")""",
}


def model_card(model: Any, name: str) -> str:
    """README.md of `model`, of any family, for the folder or repository called `name`."""
    config, architecture, tag = model.config, type(model).__name__, model.pipeline_tag
    upscales = hasattr(config, "scale")
    summary = super_resolution_summary if upscales else encoder_summary
    usage = USAGE[tag].format(
        name=name,
        scale=getattr(config, "scale", None),
        architecture=architecture,
        auto_class=model._auto_class or "AutoModel",
    )
    return CARD.format(
        name=name,
        pipeline_tag=f"pipeline_tag: {tag}\n" if tag else "",
        tags="hfvision, super-resolution" if upscales else "hfvision",
        summary=summary(model),
        usage=usage,
        architecture=architecture,
        remark="" if upscales else VIT_REMARK if hasattr(config, "patch_size") else CNN_REMARK,
    )


def super_resolution_summary(model: Any) -> str:
    return SRGAN.format(
        description=SRGAN_DESCRIPTIONS.get(type(model).__name__, "A super-resolution network"),
        parameters=model.num_parameters(),
        scale=model.config.scale,
        channels="colour images" if model.config.num_channels == 3 else "grey images",
    )


def encoder_summary(model: Any) -> str:
    """A CNN or ViT with the first of its class names, whose backticks would end the card's code spans."""
    labels = [" ".join(str(label).replace("`", "'").split()) for label in model.config.id2label.values()]
    names = ", ".join(f"`{label}`" for label in labels[:10]) + (", …" if len(labels) > 10 else "")
    has_head = model.pipeline_tag != "image-feature-extraction"
    return (VIT if hasattr(model.config, "patch_size") else CNN).format(
        patch=getattr(model.config, "patch_size", None),
        size=model.config.image_size,
        parameters=model.num_parameters(),
        classes=f", {len(labels)} classes ({names})" if has_head else ", without a classification head",
    )
