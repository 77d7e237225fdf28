"""What an evaluation of robustness measures of each image: attacks, radii, signs of gradient masking, corruptions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype
from transformers.image_processing_utils import BaseImageProcessor

from ..data.transforms.keyed import image_keys
from ..data.transforms.normalize import Normalize
from ..utils.console import progress_bar
from .attacks.config import Attack
from .attacks.gradient import attacking, pgd
from .attacks.threat import PixelClassifier
from .attacks.worst_case import worst_case
from .config import ATTACKS, RobustnessConfig
from .corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .masking import MEASURES, right
from .summary import ATTACK, CORRUPTION, CURVE, MASKING

TIMES_EPSILON = (0.125, 0.25, 0.5, 1, 1.5, 2, 4)
MASKING_IMAGES = 200
# Forward passes an image, about, with a gradient counted as three: for the time left. Others have one.
PASSES = {"fgsm": 4, "pgd": 60, "apgd_ce": 300, "apgd_targeted_dlr": 1500, "square": 2500}
PASSES |= {"transfer_ce": 160, "transfer_margin": 160, "few_steps": 30, "many_steps": 120, "black_box": 300}
# A batch: `images` uint8 (N, C, H, W), `pixels` the same as float32 in [0, 1], `labels` and `index` int64 (N,).
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Measurement:
    """One condition, and on how many images it is measured whether the model is right.

    Attributes:
        name: unique.
        measure: from a batch and the earlier measurements of its images, bool (N,) each, to bool (N,).
        images: the first so many.
        passes: forward passes an image, about.
    """

    name: str
    measure: Callable[[Batch, dict[str, Tensor]], Tensor]
    images: int
    passes: float = 1


@dataclass(frozen=True)
class Victim:
    """The model that is attacked.

    Attributes:
        model: as attacks see it.
        gradients: whether its logits have gradients.
        parent: what attacks are made on where it has none.
        attacks: by name, in their order.
    """

    model: PixelClassifier
    gradients: bool
    parent: PixelClassifier | None
    attacks: Mapping[str, Attack]

    @classmethod
    def prepare(
        cls, model: nn.Module, processor: BaseImageProcessor, example: Tensor, config: RobustnessConfig
    ) -> "Victim":
        """The model with its normalization, and the attacks that it allows; `example` float32 (1, C, H, W)."""
        normalize = Normalize.from_processor(processor)
        victim = PixelClassifier(model, normalize, config.dtype)
        gradients, parent = has_gradients(victim, example), None
        if config.transfer_from is not None and not gradients:
            parent = PixelClassifier(config.transfer_from, normalize, config.dtype)
        attacks = ATTACKS[config.attack] if gradients else without_gradients(config.attack, parent)
        return cls(victim, gradients, parent, attacks)

    def is_right(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Whether the answers are the labels, bool (N,)."""
        return right(self.model, pixels, labels)


def has_gradients(model: nn.Module, pixels: Tensor) -> bool:
    with attacking(model, 0):
        try:
            return model(pixels.clone().requires_grad_()).requires_grad
        except RuntimeError:  # as from what takes the tensor to NumPy
            return False


def transferred(parent: nn.Module, loss: str) -> Attack:
    """PGD on `parent` to its end, not only until it is fooled: what is strong there is so for its relatives."""

    def attack(model, images, labels, epsilon, *, norm, seed):
        settings = {"steps": 50, "loss": loss, "until_fooled": False, "seed": seed}
        return pgd(parent, images, labels, epsilon, norm=norm, **settings)

    return attack


def without_gradients(attack: str, parent: nn.Module | None) -> dict[str, Attack]:
    if parent is None or attack == "square":
        return ATTACKS["square"]
    transfer = {"transfer_ce": transferred(parent, "ce"), "transfer_margin": transferred(parent, "margin")}
    return transfer | ATTACKS["square"]


def plan(victim: Victim, config: RobustnessConfig, count: int) -> list[Measurement]:
    """All measurements in their order. An image that an attack has broken counts as broken for the attacks after it,
    and one that is broken in a ball for every larger one."""
    epsilon = config.radius
    found = [Measurement("clean", lambda batch, _: victim.is_right(batch["pixels"], batch["labels"]), count)]

    def chain(prefix: str, links: Mapping[str, tuple[Attack, float]]) -> None:
        before = "clean"
        for name, (attack, radius) in links.items():
            survives = partial(after_attack, victim, attack, before, (radius, config))
            found.append(Measurement(prefix + name, survives, count, PASSES.get(name, 60)))
            before = prefix + name

    chain(ATTACK, {name: (attack, epsilon) for name, attack in victim.attacks.items()})
    ascent: Attack | None = None
    if victim.gradients:
        ascent = partial(pgd, steps=20, loss="margin")
    elif victim.parent is not None:
        ascent = transferred(victim.parent, "margin")
    if ascent is not None:
        radii = [epsilon * times for times in TIMES_EPSILON if config.norm == "l2" or epsilon * times <= 1]
        chain(CURVE, {str(radius): (ascent, radius) for radius in radii})
    if victim.gradients:
        few = min(count, MASKING_IMAGES)
        found += [
            Measurement(MASKING + name, partial(masking_sign, victim, name, config), few, PASSES.get(name, 10))
            for name in MEASURES
        ]
    for name, severity in product(CORRUPTIONS, SEVERITIES):
        survives = partial(after_corruption, victim, name, severity, config.seed)
        found.append(Measurement(f"{CORRUPTION}{name} {severity}", survives, count))
    return found


def after_attack(
    victim: Victim,
    attack: Attack,
    before: str,
    ball: tuple[float, RobustnessConfig],
    batch: Batch,
    earlier: dict[str, Tensor],
) -> Tensor:
    """Whether the model is right after the measurement `before` and still after an attack of that radius."""
    (radius, config), robust = ball, earlier[before].clone()
    images, labels = batch["pixels"][robust], batch["labels"][robust]
    if len(images):
        options = {"norm": config.norm, "batch_size": len(images), "seed": config.seed}
        outcome = worst_case(victim.model, images, labels, radius, attacks={"attack": attack}, **options)
        robust[robust.clone()] = outcome.robust
    return robust


def after_corruption(
    victim: Victim, name: str, severity: int, seed: int, batch: Batch, earlier: dict[str, Tensor]
) -> Tensor:
    """Whether the model is right about corrupted images."""
    noisy = corrupt(batch["images"], name, severity, image_keys(seed, 0, batch["index"]))
    return victim.is_right(to_dtype(noisy, torch.float32, scale=True), batch["labels"])


def masking_sign(
    victim: Victim, name: str, config: RobustnessConfig, batch: Batch, earlier: dict[str, Tensor]
) -> Tensor:
    """One of the [`MEASURES`] for the checks of gradient masking."""
    norm, seed = config.norm, config.seed
    return MEASURES[name](victim.model, batch["pixels"], batch["labels"], config.radius, norm, seed)


def measure(
    measurements: Sequence[Measurement],
    load: Callable[[int, int], Batch],
    count: int,
    batch_size: int,
    answers: dict[str, list[int]],
    save: Callable[[], None],
) -> None:
    """Fill `answers`, by measurement 0 or 1 for each image, from where they stopped, batch by batch; save after each
    step."""
    total = sum(each.images * each.passes for each in measurements)
    done = sum(len(answers.get(each.name, [])) * each.passes for each in measurements)
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with progress_bar(
        total=total, initial=done, desc="evaluating", bar_format=form, smoothing=0, mininterval=0.5
    ) as bar:
        for start in range(0, count, batch_size):
            batch: Batch = {}
            for each in measurements:
                stop = min(start + batch_size, each.images)
                values = answers.setdefault(each.name, [])
                if len(values) >= stop:
                    continue
                if not batch:
                    batch = load(start, min(start + batch_size, count))
                bar.set_postfix_str(f"{each.name}, images {start + 1} to {stop}", refresh=False)
                part = {key: tensor[: stop - start] for key, tensor in batch.items()}
                earlier = {name: torch.tensor(past[start:stop], dtype=torch.bool) for name, past in answers.items()}
                earlier = {name: past.to(part["labels"].device) for name, past in earlier.items()}
                values += each.measure(part, earlier).int().tolist()
                save()
                bar.update((stop - start) * each.passes)
