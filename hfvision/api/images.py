"""What a classifier sees in an image, and what misleads it."""

from typing import Any, Literal

import torch
from torchvision.transforms.v2.functional import to_pil_image

from ..data.datasets.class_names import class_names
from ..data.datasets.prepare import PixelReader
from ..data.image_source import ImageLike, load_image
from ..data.transforms.normalize import Normalize
from ..hub.checkpoints import DEFAULT_CLASSIFIER
from ..hub.loading import ModelLike
from ..hub.memory import load_once
from ..inspection.explain import Explanation, Method, explain_image
from ..models.image_processing_classification import flatten_pil
from ..robustness.attacks.apgd import apgd
from ..robustness.attacks.gradient import fgsm, pgd
from ..robustness.attacks.square import square
from ..robustness.attacks.threat import Norm, PixelClassifier
from ..tasks.classification.predict import Classification
from .results import Attacked

ATTACKS = {"pgd": pgd, "fgsm": fgsm, "apgd": apgd, "square": square}


def explain(
    image: ImageLike,
    model: ModelLike = DEFAULT_CLASSIFIER,
    *,
    label: str | None = None,
    method: Method | None = None,
    layer: str | None = None,
    trust_remote_code: bool = False,
) -> Explanation:
    """Where in an image a classifier's answer comes from, as a heat map.

    >>> hfvision.explain(hfvision.sample_photos()["cat"], "cnn-cifar10-small")
    Explanation(cat 81.4%, grad_cam)

    Args:
        image: path, address, bytes, PIL image or array of any size, see [`load_image`].
        model: a classifier, by name or loaded, see [`classify`].
        label, method, layer: see [`explain_image`].
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such image or model.
        ValueError: as [`explain_image`].
    """
    loaded = load_once(model, "image-classification", trust_remote_code=trust_remote_code)
    return explain_image(load_image(image), *loaded, label=label, method=method, layer=layer)


def attack(
    image: ImageLike,
    model: ModelLike = DEFAULT_CLASSIFIER,
    *,
    label: str | None = None,
    method: Literal["pgd", "fgsm", "apgd", "square"] = "pgd",
    epsilon: str | float = "8/255",
    norm: Norm = "linf",
    trust_remote_code: bool = False,
) -> Attacked:
    """Change an image so little that people hardly see it, and so that a classifier takes it for something else.

    >>> hfvision.attack(hfvision.sample_photos()["cat"], "cnn-cifar10-small", epsilon="16/255").succeeded
    True

    Args:
        image: path, address, bytes, PIL image or array of any size, see [`load_image`].
        model: a classifier with gradients, by name or loaded, see [`classify`]; `square` needs no gradients.
        label: the true class; the classifier's own answer where not given.
        method: the attack.
        epsilon: how far a pixel may be changed, in [0, 1], or for `l2` the whole image.
        norm: what epsilon measures, `linf` or `l2`.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such image or model.
        ValueError: for an unknown label or method, an epsilon that cannot be meant, or a model without gradients.
    """
    if method not in ATTACKS:
        raise ValueError(f"There is no attack {method!r}: choose one of {', '.join(ATTACKS)}.")
    loaded = load_once(model, "image-classification", trust_remote_code=trust_remote_code, float32=True)
    network, processor = loaded
    reader = PixelReader(processor)
    pixels = reader.pixels([flatten_pil(load_image(image), reader.mode)])
    victim = PixelClassifier(network, Normalize.from_processor(processor))
    clean = pixels.to(network.device).float() / 255
    before = scores_of(victim, clean, network.config)
    names = class_names(network.config)
    if label is not None and label not in names:
        raise ValueError(f"The model has no class {label!r}; it has {', '.join(names[:20])}.")
    labels = torch.tensor([names.index(label or before.label)], device=network.device)
    options: Any = {"norm": norm}
    attacked = ATTACKS[method](victim, clean.clone(), labels, epsilon, **options)
    pictures = [to_pil_image(each[0].cpu()) for each in (clean, attacked)]
    return Attacked(pictures[0], pictures[1], before, scores_of(victim, attacked, network.config), epsilon)


@torch.inference_mode()
def scores_of(victim: PixelClassifier, pixels: torch.Tensor, config: Any, top: int = 5) -> Classification:
    probabilities, indices = victim(pixels)[0].float().softmax(0).topk(min(top, config.num_labels))
    names = class_names(config)
    labels = [names[index] for index in indices.tolist()]
    return Classification(dict(zip(labels, probabilities.tolist(), strict=True)))
