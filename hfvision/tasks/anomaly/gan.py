"""Anomaly detection by a GAN that was trained on normal images only.

Its generator fails to restore what it has not learned from a small copy, and its discriminator's features differ.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize, unfold
from torchvision.transforms.v2.functional import pil_to_tensor

from ...data.transforms.resize import downscale, resize_bicubic
from ...hub.loading import check_complete, load_by, load_config, load_model
from ...hub.network_checks import check_finite
from ...hub.records import read_record_of
from ...models.srgan.modeling_srgan import SRGANDiscriminator, SRGANForImageSuperResolution
from ...utils.files import atomic_write, write_text
from ...utils.json_files import read_json

FILE, TENSORS = "anomaly.json", "anomaly.safetensors"
BATCH = 64
FLOOR = 1e-6  # added to mean squared errors
CELLS = ("residual", "features")
PARTS = ("restoration", "residual", "realism", "peak")
PEAK = 0.95  # quantile of the cells
LIGHT = (0.5, 0.2)  # mean and standard deviation that every image is normalized to
MIN_DEVIATION = 0.05  # lower deviations of an image are replaced by this, so that noise is not amplified
SHRINKAGE = 0.05  # of the covariances, towards their mean variance


class Measured(NamedTuple):
    """Outputs of the two networks for images, before they are compared with those of normal ones.

    `restoration`: float32 (N,), higher for less normal images; `residual`, `features`: float32 (N, cells, C), the
    generator's error and the discriminator's features in each cell of scale×scale pixels.
    """

    restoration: Tensor
    residual: Tensor
    features: Tensor


class Anomalies(NamedTuple):
    """`score`: float32 (N,), the mean of the parts; `anomalous`: bool (N,), above the threshold;
    `heat`: float32 (N, size, size), 1 for a normal place; `parts`: float32 (N, 4), by `PARTS`, in standard deviations
    from normal."""

    score: Tensor
    anomalous: Tensor
    heat: Tensor
    parts: Tensor


class Cells(NamedTuple):
    """A Gaussian for each cell of the image: `mean` float32 (cells, C), `precision` float32 (cells, C, C)."""

    mean: Tensor
    precision: Tensor

    @classmethod
    def fit(cls, values: Tensor) -> "Cells":
        """Fit to values (N, cells, C), with shrinkage of the covariance."""
        values = values.double().transpose(0, 1)
        mean = values.mean(1, keepdim=True)
        covariance = (values - mean).transpose(1, 2) @ (values - mean) / values.shape[1]
        variance = covariance.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
        covariance += SHRINKAGE * variance * torch.eye(covariance.shape[-1], dtype=torch.float64)
        return cls(mean[:, 0].float(), torch.linalg.inv(covariance).float())

    def distance(self, values: Tensor) -> Tensor:
        """The squared Mahalanobis distance of values (N, cells, C) over C: (N, cells)."""
        difference = values - self.mean
        return torch.einsum("npc,pcd,npd->np", difference, self.precision, difference) / difference.shape[-1]


class Normality(NamedTuple):
    """The statistics of normal images.

    `size`: side in pixels that images are resized to; `residual`, `features`: [`Cells`]; `mean`, `std`: float32 (4,),
    of the parts of normal images, by `PARTS`; `heat`: the mean distance of their cells; `threshold`: of the score;
    `false_alarms`: share of the `images` normal images that are above it, 0 to 1.
    """

    size: int
    residual: Cells
    features: Cells
    mean: Tensor
    std: Tensor
    heat: float
    threshold: float
    false_alarms: float
    images: int


@dataclass(frozen=True)
class AnomalyDetector:
    """A generator and a discriminator, trained on normal images only, and their statistics of normal images.

    Called with images (N, C, H, W), uint8, or float in [0, 1], of any size, it gives [`Anomalies`].
    """

    generator: SRGANForImageSuperResolution
    discriminator: SRGANDiscriminator
    normality: Normality

    part_names = PARTS
    hottest = 8.0  # times the normal heat that is drawn white

    @property
    def size(self) -> int:
        return self.normality.size

    @property
    def num_channels(self) -> int:
        return self.generator.config.num_channels

    @property
    def threshold(self) -> float:
        return self.normality.threshold

    @property
    def false_alarms(self) -> float:
        return self.normality.false_alarms

    def __call__(self, images: Tensor) -> Anomalies:
        known = self.normality
        measured = measure(self.generator, self.discriminator, resize_and_normalize(images, known.size))
        raw, heat = compare(measured, known.residual, known.features)
        parts = (raw - known.mean) / known.std
        score = combine(parts)
        heat = interpolate(heat[:, None] / known.heat, (known.size, known.size), mode="bilinear")[:, 0]
        return Anomalies(score, score > known.threshold, heat, parts)


def combine(parts: Tensor) -> Tensor:
    """The score (N,) of parts (N, 4) in standard deviations: their mean."""
    return parts.mean(1)


def compare(measured: Measured, residual: Cells, features: Cells) -> tuple[Tensor, Tensor]:
    """The parts (N, 4), by `PARTS`, and the mean of both distances of each cell, (N, rows, columns).

    `residual` and `realism` are the logarithms of the mean distances of the cells in `residual` and `features`, `peak`
    that of the quantile `PEAK` of the heat.
    """
    distances = residual.distance(measured.residual), features.distance(measured.features)
    heat = (distances[0] + distances[1]) / 2
    levels = [*(distance.mean(1) for distance in distances), heat.quantile(PEAK, 1)]
    side = math.isqrt(heat.shape[1])
    parts = [measured.restoration, *(level.clamp_min(1e-6).log() for level in levels)]
    return torch.stack(parts, 1), heat.unflatten(1, (side, side))


@torch.inference_mode()
def measure(generator: SRGANForImageSuperResolution, discriminator: SRGANDiscriminator, images: Tensor) -> Measured:
    """How well images are restored from a small copy, and their features in the discriminator.

    `restoration` is the logarithm of the generator's mean squared error over that of bicubic interpolation, which
    measures the amount of detail: much detail alone is no anomaly. `residual` are the generator's errors over the root
    of bicubic's; `features` the discriminator's hidden states at the resolution of the small copy, and its score
    there. That score alone says little, as any sharp image looks real. So each cell is compared with its normal
    statistics, after Defard et al. 2021 (PaDiM, arXiv:2011.08785).

    Args:
        generator, discriminator: of one scale, and trained on such images.
        images: float (N, C, H, H) in [0, 1], H a multiple of the scale.
    """
    scale = generator.config.scale
    parts = []
    for batch in images.split(BATCH):
        small = downscale(batch, scale)
        error = generator(pixel_values=small).reconstruction.clamp(0, 1) - batch
        detail = (resize_bicubic(small, scale).clamp(0, 1) - batch).square().mean((1, 2, 3)) + FLOOR
        restoration = ((error.square().mean((1, 2, 3)) + FLOOR) / detail).log()
        residual = unfold(error / detail.sqrt()[:, None, None, None], scale, stride=scale)
        output = discriminator(pixel_values=batch, output_hidden_states=True)
        states = [state for state in output.hidden_states if state.shape[-1] >= small.shape[-1]]
        score = output.logits if output.logits.ndim == 4 else output.logits[..., None, None]
        side = (small.shape[-2], small.shape[-1])
        features = torch.cat([adaptive_avg_pool2d(each, side) for each in (states[-1], score)], 1)
        parts.append((restoration, residual.transpose(1, 2), features.flatten(2).transpose(1, 2)))
    return Measured(*(torch.cat(part).float() for part in zip(*parts, strict=True)))


def resize_and_normalize(images: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W), uint8 or float in [0, 1], as float32 (N, C, size, size), all with the same mean and
    standard deviation, clipped to [0, 1].

    Raises:
        ValueError: for images of another shape.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"Expected one image or more, (N, C, H, W), got the shape {tuple(images.shape)}.")
    images = images.float() if images.is_floating_point() else images.float() / 255
    if images.shape[-2:] != (size, size):
        images = torch.cat([resize_bicubic(batch, (size, size)) for batch in images.split(BATCH)]).clamp(0, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    deviation = (images - mean).square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(MIN_DEVIATION)
    return ((images - mean) / deviation * LIGHT[1] + LIGHT[0]).clamp(0, 1)


def fit_detector(
    generator: SRGANForImageSuperResolution,
    discriminator: SRGANDiscriminator,
    normal: Tensor,
    size: int,
    false_alarms: float = 0.05,
) -> AnomalyDetector:
    """A detector whose threshold is exceeded by a given share of normal images.

    The statistics of the cells are fitted to all of them; threshold, mean and deviation of the parts by two-fold cross
    validation, as they would be too optimistic otherwise.

    Args:
        generator, discriminator: trained on other normal images, as by `hfvision train superres --gan …`.
        normal: images (N, C, H, W), uint8, or float in [0, 1], not from the training data, in any order.
        size: side in pixels that images are resized to, ideally that of the training crops.
        false_alarms: that share, above 0 and below 1.

    Raises:
        ValueError: for networks that do not fit each other, a size that is no multiple of the scale, too few images
            for that share, or a share out of range.
    """
    check_networks(generator, discriminator, size)
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms must be above 0 and below 1, got {false_alarms}.")
    least = max(20, math.ceil(1 / false_alarms))
    if len(normal) < least:
        raise ValueError(f"A share of {false_alarms:g} false alarms needs {least} normal images, got {len(normal)}.")
    measured = measure(generator, discriminator, resize_and_normalize(normal, size))
    half = torch.randperm(len(normal), generator=torch.Generator().manual_seed(0)) < len(normal) // 2
    raw, heat = torch.empty(len(normal), len(PARTS)), torch.empty(len(normal))
    for held_out in (half, ~half):
        fitted = [Cells.fit(values[~held_out]) for values in (measured.residual, measured.features)]
        raw[held_out], cells = compare(Measured(*(values[held_out] for values in measured)), *fitted)
        heat[held_out] = cells.mean((1, 2))
    mean, std = raw.mean(0), raw.std(0).clamp_min(1e-6)
    score = combine((raw - mean) / std)
    threshold = score.quantile(1 - false_alarms).item()
    share = (score > threshold).float().mean().item()
    cells = Cells.fit(measured.residual), Cells.fit(measured.features)
    normality = Normality(size, *cells, mean, std, heat.mean().item(), threshold, share, len(normal))
    return AnomalyDetector(generator, discriminator, normality)


def check_networks(generator: SRGANForImageSuperResolution, discriminator: SRGANDiscriminator, size: int) -> None:
    """Raise ValueError for networks that do not fit each other, and for a size that does not fit them."""
    scale, channels = generator.config.scale, generator.config.num_channels
    if discriminator.config.num_channels != channels:
        raise ValueError(
            f"The generator has {channels} channels, the discriminator {discriminator.config.num_channels}: give "
            "networks that were trained together."
        )
    least = max(2 * scale, discriminator.discriminator.minimum_size)
    if size % scale or size < least:
        raise ValueError(f"size must be a multiple of the scale {scale}, and {least} or more; got {size}.")


def load_networks(folder: str | Path) -> tuple[SRGANForImageSuperResolution, SRGANDiscriminator]:
    """Generator and discriminator from a folder that `hfvision train superres --gan …` has written.

    Raises:
        FileNotFoundError: if there is no such folder, or it has no discriminator.
        ValueError: if it is another model.
    """
    generator, _ = load_model(str(folder), "image-super-resolution")
    beside = Path(folder) / "discriminator"
    if not (beside / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no discriminator: train it with hfvision train superres --gan vanilla.")
    discriminator, report = load_by(SRGANDiscriminator, str(beside), config=load_config(str(beside)))
    check_complete(report, str(beside), "the discriminator")
    if not isinstance(generator, SRGANForImageSuperResolution) or not isinstance(discriminator, SRGANDiscriminator):
        raise ValueError(f"{folder} is a {type(generator).__name__}: give a folder of hfvision train superres --gan.")
    return generator.float(), discriminator.eval().float()


def trained_size(folder: str | Path) -> int:
    """The side of the crops that the networks in `folder` were trained on, from their record.

    Raises:
        ValueError: if that is not recorded.
    """
    try:
        crop, scale = read_record_of(str(folder)).settings.crop, getattr(load_config(str(folder)), "scale", None)
    except (OSError, ValueError):
        crop = scale = None
    if crop is None or scale is None:
        raise ValueError(f"{folder} does not record the size of its training images: give it with --size.")
    return crop * scale


def save_normality(detector: AnomalyDetector, folder: str | Path) -> None:
    """Write the statistics of normal images beside the networks: `anomaly.json` and, for the cells,
    `anomaly.safetensors`."""
    known = detector.normality
    tensors = {f"{name}.{key}": value for name in CELLS for key, value in getattr(known, name)._asdict().items()}
    values = {name: value for name, value in known._asdict().items() if name not in CELLS}
    plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
    with atomic_write(Path(folder) / TENSORS) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    write_text(Path(folder) / FILE, json.dumps(plain, indent=2) + "\n")


def load_gan_detector(folder: str | Path) -> AnomalyDetector:
    """The detector of a folder with networks and the files of [`save_normality`].

    Raises:
        FileNotFoundError: if networks or files are missing.
        ValueError: for other models, or malformed files.
    """
    generator, discriminator = load_networks(folder)
    paths = [Path(folder) / name for name in (FILE, TENSORS)]
    if not all(path.is_file() for path in paths):
        raise FileNotFoundError(
            f"{folder} does not say what is normal: show it with hfvision detect fit {folder} --method gan --normal "
            "IMAGES."
        )
    values = read_json(paths[0])
    try:
        tensors = load_file(paths[1])
        check_finite(tensors.items(), str(paths[1]))
        cells = {name: Cells(*(tensors[f"{name}.{key}"] for key in Cells._fields)) for name in CELLS}
        fields: dict[str, Any] = values | {name: torch.tensor(values[name]) for name in ("mean", "std")} | cells
        normality = Normality(**fields)
    except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{paths[0]} cannot be read ({error}): make it anew with hfvision detect fit.") from error
    check_networks(generator, discriminator, normality.size)
    return AnomalyDetector(generator, discriminator, normality)


def stack_images(images: Sequence[Image.Image], size: int, num_channels: int) -> Tensor:
    """PIL images of any sizes and modes as uint8 (N, num_channels, size, size), by [`resize_and_normalize`]."""
    mode = "L" if num_channels == 1 else "RGB"
    pixels = [resize_and_normalize(pil_to_tensor(image.convert(mode))[None], size) for image in images]
    return torch.cat(pixels).mul(255).round().to(torch.uint8)


def heat_picture(image: Tensor, heat: Tensor, side: int = 192, hottest: float = 8.0) -> Image.Image:
    """An image beside its overlay with the heat map, from dark for normal to red and white for abnormal places.

    Args:
        image: uint8 (C, H, W).
        heat: float (H, W), of [`Anomalies`].
        side: of each of both, in pixels.
        hottest: the heat, in multiples of the normal one, that is shown white.
    """
    from matplotlib import colormaps

    strength = ((heat - 1) / (hottest - 1)).clamp(0, 1)
    colors = torch.from_numpy(colormaps["inferno"](strength.numpy())[..., :3]).permute(2, 0, 1)
    grey = image.float().mean(0, keepdim=True) / 255
    shown = (0.35 * grey + 0.65 * colors).mul(255).round().to(torch.uint8)
    pair = torch.cat([image.expand(3, -1, -1), shown], 2).permute(1, 2, 0)
    return Image.fromarray(pair.contiguous().numpy()).resize((2 * side, side), Image.Resampling.NEAREST)


def neighbour_distance(features: Tensor, normal: Tensor, neighbours: int = 10) -> Tensor:
    """The distance of features from those of normal images, as a baseline: to the k-th nearest neighbor, of features
    normalized to length 1 (Sun et al. 2022, "Out-of-distribution detection with
    deep nearest neighbors", arXiv:2204.06507).

    Args:
        features: float (N, D).
        normal: float (M, D), M of at least `neighbours`.
        neighbours: k.

    Returns:
        Float (N,), 0 to 2.
    """
    features, normal = (normalize(x.float(), dim=1) for x in (features, normal))
    return torch.cdist(features, normal).kthvalue(neighbours, dim=1).values
