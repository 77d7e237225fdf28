"""Pictures of attacks: what they change, accuracy against the radius, and the loss around an image."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names, match_classes
from ..utils.files import atomic_write
from ..utils.plots import BLUE, ORANGE
from .attacks.gradient import Goal, ce, evaluate_loss, loss_and_grad, pgd, random_points
from .attacks.threat import PixelClassifier, steepest_ascent_direction, under_attack
from .config import LabeledImages
from .masking import right
from .summary import epsilon_text
from .threat_model import Norm

RIGHT, WRONG = "#1a7f37", "#cf222e"


def draw_all(
    models: Mapping[str, tuple[PreTrainedModel, BaseImageProcessor]],
    records: Mapping[str, Mapping[str, Any]],
    dataset: LabeledImages,
    names: Sequence[str],
    folder: Path,
) -> None:
    """Write `epsilon.png` and, if all models have gradients, `attack.png` and `loss.png`, of images all have right.

    Args:
        models: one or more, with their image processors, by name.
        records: of [`evaluate.evaluate_robustness`] of the same attack, by the model's name.
        dataset: images to choose from, of the size of all models; from [`data.datasets.prepare.prepare_images`].
        names: of the data's classes.
        folder: for the pictures.
    """
    short = {name: Path(name).name for name in models}
    if len(set(short.values())) == len(short):
        models = {short[name]: model for name, model in models.items()}
        records = {short[name]: record for name, record in records.items()}
    if all("curve" in record for record in records.values()):
        epsilon_curves(records, folder / "epsilon.png")
    if not all(record["gradients"] for record in records.values()):
        return
    batch = dataset.__getitems__(list(range(min(100, len(dataset)))))
    device = next(next(iter(models.values()))[0].parameters()).device
    images = to_dtype(batch["images"], torch.float32, scale=True).to(device)
    victims, orders = {}, {}
    for name, (model, processor) in models.items():
        victims[name] = PixelClassifier.from_processor(model, processor)
        known = class_names(model.config)
        orders[name] = torch.tensor(match_classes(known, names))
    labels = {name: order[batch["labels"]].to(device) for name, order in orders.items()}
    good = torch.stack([right(victims[name], images, labels[name]) for name in models]).all(0)
    chosen = good.nonzero()[:6, 0]
    if not len(chosen):
        return
    images, labels = images[chosen], {name: classes[chosen] for name, classes in labels.items()}
    record = next(iter(records.values()))
    epsilon, norm = record["epsilon"], record["norm"]
    attack = partial(pgd, norm=norm, steps=20, until_fooled=False, seed=record["seed"])
    attacked = {name: attack(victims[name], images, labels[name], epsilon) for name in models}
    # The name, in the data, of each class of a model.
    called = {name: [names[int(number)] for number in order.argsort().tolist()] for name, order in orders.items()}
    truth = [names[int(label)] for label in batch["labels"][chosen.cpu()].tolist()]
    attack_grid(images, truth, attacked, victims, called, folder / "attack.png")
    first = {name: int(classes[0]) for name, classes in labels.items()}
    loss_surface(victims, images[0], first, epsilon, folder / "loss.png", norm=norm, seed=record["seed"])


def attack_grid(
    images: Tensor,
    truth: Sequence[str],
    attacked: Mapping[str, Tensor],
    models: Mapping[str, nn.Module],
    names: Mapping[str, Sequence[str]],
    path: Path,
) -> None:
    """Write a PNG with a row an image: the original and, for each attack, the change magnified and the result.

    Under original and result stand the answers of all models with their confidence, green where right.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        truth: the name of each image's class.
        attacked: like `images`, by the name of the model that the attack was made on.
        models: [`threat.PixelClassifier`]s by name.
        names: of each model's classes, in its order.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    columns = 1 + 2 * len(attacked)
    figure = Figure(figsize=(1.9 * columns, (1.9 + 0.17 * len(models)) * len(images) + 0.5), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    told = {name: answers(models, points) for name, points in {"": images, **attacked}.items()}

    def show(axis: Any, pixels: Tensor, lines: Sequence[tuple[str, str]]) -> None:
        axis.imshow(pixels.cpu().permute(1, 2, 0).expand(-1, -1, 3).numpy(), interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        style = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "top"}
        for number, (text, colour) in enumerate(lines):
            axis.annotate(text, (0.5, 0), (0, -4 - 12 * number), fontsize=8, color=colour, **style)

    def said(of: str, row: int) -> list[tuple[str, str]]:
        lines = []
        for model, (classes, shares) in told[of].items():
            name = names[model][classes[row]]
            text = f"{name if len(name) <= 18 else name[:17] + '…'} {shares[row]:.0%}"
            colour = RIGHT if name == truth[row] else WRONG
            lines.append((f"{model}: {text}" if len(models) > 1 else text, colour))
        return lines

    for row, image in enumerate(images):
        show(axes[row][0], image, said("", row))
        for number, (name, points) in enumerate(attacked.items()):
            difference = points[row] - image
            largest = difference.abs().max().item()
            times = 0.5 / largest if largest else 1.0
            note = f"× {times:.0f}" if largest else "nothing changed"
            show(axes[row][1 + 2 * number], 0.5 + difference * times, [(note, "0.4")])
            show(axes[row][2 + 2 * number], points[row], said(name, row))
    axes[0][0].set_title("original", fontsize=9)
    for number, name in enumerate(attacked):
        on = f" on {name}" if len(attacked) > 1 else ""
        axes[0][1 + 2 * number].set_title(f"attack{on},\nmagnified", fontsize=9)
        axes[0][2 + 2 * number].set_title(f"original and\nattack{on}", fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight")


def answers(models: Mapping[str, nn.Module], images: Tensor) -> dict[str, tuple[list[int], list[float]]]:
    """By model the likeliest class of each image and its probability."""
    told = {}
    for name, model in models.items():
        with under_attack(model), torch.no_grad():
            shares, classes = model(images).softmax(1).max(1)
        told[name] = (classes.tolist(), shares.tolist())
    return told


def epsilon_curves(records: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a PNG of accuracy against epsilon, with 95 % intervals; a ring is the ensemble's, at its epsilon.

    Args:
        records: one or more of [`evaluate.evaluate_robustness`], by the name of the model.
        path: of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axis = figure.subplots()
    colours = [BLUE, ORANGE, "#4d9221", "#8e44ad"]
    linf = all(record["norm"] == "linf" for record in records.values())
    unit = 255 if linf else 1
    for colour, (name, record) in zip(colours, records.items(), strict=False):
        radii = [point["epsilon"] * unit for point in record["curve"]]
        low, high = zip(*(point["interval"] for point in record["curve"]), strict=True)
        axis.fill_between(radii, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(radii, [point["accuracy"] for point in record["curve"]], color=colour, marker=".", label=name)
        ring = {"marker": "o", "s": 55, "facecolors": "none", "edgecolors": colour, "linewidths": 1.5, "zorder": 3}
        axis.scatter(
            record["epsilon"] * unit, record["robust"]["accuracy"], label=f"{name}, {record['attack']}", **ring
        )
    axis.set(xlabel="epsilon, grey levels of 255 (L∞)" if linf else "epsilon (L2)", ylabel="accuracy", ylim=(-0.02, 1))
    axis.set_xlim(left=0)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def loss_surface(
    models: Mapping[str, nn.Module],
    image: Tensor,
    labels: Mapping[str, int],
    epsilon: float,
    path: Path,
    *,
    norm: Norm = "linf",
    seed: int = 0,
) -> None:
    """Write a PNG of the cross-entropy around an image, in the plane of its gradient's direction and a random one.

    Both go as far as epsilon to either side. The axes are the same for all models.

    Args:
        models: [`threat.PixelClassifier`]s with gradients, by name.
        image: float32 (C, H, W) in [0, 1].
        labels: by model its number of the image's class.
        epsilon, norm: the scale of the picture.
        path: of the picture.
        seed: of the random direction.
    """
    import numpy as np
    from matplotlib.figure import Figure

    surfaces = {name: losses_around(model, image, labels[name], epsilon, norm, seed) for name, model in models.items()}
    figure = Figure(figsize=(4.6 * len(models), 4.1), layout="constrained")
    side = np.linspace(-1, 1, 25)
    highest = max(surface.max().item() for surface in surfaces.values())
    for number, (name, surface) in enumerate(surfaces.items()):
        axis = figure.add_subplot(1, len(models), number + 1, projection="3d", computed_zorder=False)
        along, across = np.meshgrid(side, side, indexing="ij")
        axis.plot_surface(along, across, surface.numpy(), cmap="viridis", vmin=0, vmax=highest, rcount=25, ccount=25)
        center = surface[12, 12].item()
        axis.scatter([0], [0], zs=center, color=ORANGE, s=30, depthshade=False, zorder=5)  # pyright: ignore[reportArgumentType]
        axis.set(xlabel="gradient", ylabel="random", zlabel="loss", zlim=(0, highest))
        axis.set_title(f"{name}, ±{epsilon_text(epsilon, norm)}", fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight", pad_inches=0.25)


def losses_around(model: nn.Module, image: Tensor, label: int, epsilon: float, norm: Norm, seed: int) -> Tensor:
    """Float32 (25, 25) on the CPU: rows along the gradient, columns along the random direction."""
    images, goal = image[None], Goal(torch.tensor([label], device=image.device))
    with under_attack(model):
        uphill = steepest_ascent_direction(loss_and_grad(model, images, goal, ce)[2], norm)
        # The direction of a random corner, or point of the sphere, of the ball.
        corner = random_points(torch.full_like(images, 0.5), 0.1, norm, seed) - 0.5
        across = steepest_ascent_direction(corner, norm)
        steps = torch.linspace(-epsilon, epsilon, 25, device=image.device)
        rows = []
        for step in steps:
            points = (images + step * uphill + steps.view(-1, 1, 1, 1) * across).clamp(0, 1)
            labels = goal.labels.expand(25)
            rows.append(evaluate_loss(model, points, Goal(labels), ce)[0])
    return torch.stack(rows).cpu()
