"""Anomalies, found by the distance of an image's patches to those of normal images, in the features of a classifier.

PatchCore (Roth et al. 2022, "Towards total recall in industrial anomaly detection", arXiv:2106.08265): features of
intermediate stages, averaged over a neighborhood; a memory bank of them, thinned out by a greedy coreset; the image
score of its equation 7. Three things are added: features are whitened by how they differ between similar images, and
of unit length; the score is the mean of the farthest patches rather than the farthest alone; and the layout of the
whole image is compared with that of normal images too, since an object of another kind may consist of known patches.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate
from torchvision.transforms.v2.functional import gaussian_blur, grayscale_to_rgb
from transformers import PreTrainedModel

from ...data.transforms.normalize import Normalize
from ...hub.checkpoints import DEFAULT_CLASSIFIER
from ...hub.loading import load_model
from ...hub.network_checks import check_finite
from ...utils.files import atomic_write, write_text
from ...utils.json_files import read_json
from .gan import Anomalies, resize_and_normalize
from .memory import Memory

FILE, TENSORS = "patchcore.json", "patchcore.safetensors"
PARTS = ("patches", "layouts")
SAVED = ("mean", "projection", "bank")
BATCH = 16
SMALLEST = 16  # pixels: the side below which an image says too little
CANDIDATES = 100_000  # patches at most that the coreset is chosen from
CALIBRATED = 250  # normal images at most, of each half, that are scored by the memory of the other half


@dataclass(frozen=True)
class PatchCoreConfig:
    """How [`fit_patchcore`] compares images.

    Attributes:
        model: the classifier whose features are compared: Hub id, folder or shipped checkpoint.
        image_size: side in pixels that images are brought to, a multiple of 32.
        stages: whose feature maps make the patches, counted from 1; the first has the resolution.
        neighborhood: side in cells of what is averaged into a patch, odd.
        coreset: share of the patches that the memory keeps, above 0 and at most 1.
        neighbors: of the nearest remembered patch, in the re-weighting of the score.
        peak: share of an image's patches, the farthest, whose mean is its score; 0 for the farthest alone.
        layout_stage: whose feature map is the layout.
        layout_size: side in cells that it is averaged to.
        layout_weight: of the layout in the score, 0 to 1; the patches have the rest.
        seed: of the choice of patches.

    Raises:
        ValueError: for a number out of its range.
    """

    model: str = DEFAULT_CLASSIFIER
    image_size: int = 128
    stages: tuple[int, ...] = (3,)
    neighborhood: int = 3
    coreset: float = 0.04
    neighbors: int = 9
    peak: float = 0.25
    layout_stage: int = 4
    layout_size: int = 4
    layout_weight: float = 0.65
    seed: int = 0

    def __post_init__(self):
        if self.image_size < 64 or self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, at least 64; got {self.image_size}.")
        if not self.stages or min(*self.stages, self.layout_stage) < 1:
            raise ValueError(f"stages must be counted from 1, got {self.stages} and {self.layout_stage}.")
        if self.neighborhood < 1 or self.neighborhood % 2 == 0:
            raise ValueError(f"neighborhood must be odd, got {self.neighborhood}.")
        if not 0 < self.coreset <= 1:
            raise ValueError(f"coreset must be above 0 and at most 1, got {self.coreset}.")
        if not (0 <= self.peak <= 1 and 0 <= self.layout_weight <= 1):
            raise ValueError(f"peak and layout_weight must be from 0 to 1, got {self.peak} and {self.layout_weight}.")
        if min(self.neighbors, self.layout_size) < 1:
            raise ValueError(
                f"neighbors and layout_size must be at least 1, got {self.neighbors} and {self.layout_size}."
            )

    def combine(self, parts: Tensor) -> Tensor:
        """The score (N,) of parts (N, 2), by `PARTS`, in standard deviations from normal."""
        return (1 - self.layout_weight) * parts[:, 0] + self.layout_weight * parts[:, 1]


class Features(NamedTuple):
    """`patches`: float32 (N, P, C), row by row; `layout`: float32 (N, D)."""

    patches: Tensor
    layout: Tensor


class Calibration(NamedTuple):
    """What normal images score: `mean`, `std` float32 (2,), of the parts, by `PARTS`; `heat`, of their patches;
    `threshold`, of the score; `false_alarms`, the share of them above it; `images`, how many were learned from."""

    mean: Tensor
    std: Tensor
    heat: float
    threshold: float
    false_alarms: float
    images: int


@dataclass(frozen=True)
class PatchCore:
    """What normal images look like to a classifier; made by [`fit_patchcore`].

    Called with images (N, C, H, W), C of 1 or 3, uint8 or float in [0, 1], of 16 pixels a side at least, it gives
    [`Anomalies`], whose `parts` are those of `PARTS`.
    """

    config: PatchCoreConfig
    network: "FeatureNetwork"
    patches: Memory
    layouts: Memory
    calibration: Calibration

    part_names = PARTS
    num_channels = 3
    hottest = 2.0  # times the normal heat that is drawn white

    @property
    def size(self) -> int:
        return self.config.image_size

    @property
    def threshold(self) -> float:
        return self.calibration.threshold

    @property
    def false_alarms(self) -> float:
        return self.calibration.false_alarms

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Anomalies:
        known, parts, heats = self.calibration, [], []
        for batch in images.split(BATCH):
            raw, distances = compare(self.network(batch), self.patches, self.layouts, self.config)
            parts.append((raw - known.mean) / known.std)
            heats.append(heat_map(distances / known.heat, self.config.image_size))
        parts = torch.cat(parts)
        score = self.config.combine(parts)
        return Anomalies(score, score > known.threshold, torch.cat(heats), parts)


class FeatureNetwork:
    """The stages of a classifier as [`Features`].

    Raises:
        ValueError, FileNotFoundError: if there is no such classifier, or it lacks a stage.
    """

    def __init__(self, config: PatchCoreConfig):
        self.config = config
        self.model: PreTrainedModel
        self.model, processor = load_model(config.model, "image-classification")
        self.normalize = Normalize.from_processor(processor)
        if len(self.normalize.mean) != 3:
            raise ValueError(f"{config.model} takes grey images: choose a classifier of color images.")
        found = len(self.states(torch.zeros(1, 3, config.image_size, config.image_size)))
        if found < max(*config.stages, config.layout_stage):
            raise ValueError(
                f"{config.model} has {found} stages, stages={config.stages} and layout_stage={config.layout_stage} "
                "are wanted."
            )

    @torch.inference_mode()
    def states(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(pixel_values=self.normalize(images), output_hidden_states=True)
        states = outputs.hidden_states or ()
        if any(state.ndim != 4 for state in states):
            raise ValueError(f"{self.config.model} has no feature maps: choose a convolutional network.")
        return states

    def __call__(self, images: Tensor) -> Features:
        """Of images (N, 1 or 3, H, W), uint8 or float in [0, 1]."""
        config = self.config
        states = self.states(prepare_images(images, config.image_size).float() / 255)
        maps = [states[stage - 1].float() for stage in config.stages]
        side, around = maps[0].shape[-2:], config.neighborhood // 2
        maps = [avg_pool2d(each, config.neighborhood, 1, around, count_include_pad=False) for each in maps]
        maps = [each if each.shape[-2:] == side else interpolate(each, side, mode="bilinear") for each in maps]
        layout = adaptive_avg_pool2d(states[config.layout_stage - 1].float(), config.layout_size)
        return Features(torch.cat(maps, 1).flatten(2).transpose(1, 2), layout.flatten(1))


def prepare_images(images: Tensor, size: int) -> Tensor:
    """Images (N, 1 or 3, H, W), uint8 or float in [0, 1], as uint8 (N, 3, size, size), all in the same light.

    Raises:
        ValueError: for images of another shape, or smaller than 16 pixels a side.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"Expected one image or more, (N, 1 or 3, H, W), got the shape {tuple(images.shape)}.")
    if min(images.shape[-2:]) < SMALLEST:
        height, width = images.shape[-2:]
        raise ValueError(f"Images need {SMALLEST} pixels a side, got {width}×{height}.")
    if images.shape[1] == 1:
        images = grayscale_to_rgb(images)
    return resize_and_normalize(images, size).mul(255).round().to(torch.uint8)


def compare(features: Features, patches: Memory, layouts: Memory, config: PatchCoreConfig) -> tuple[Tensor, Tensor]:
    """The parts (N, 2), by `PARTS`, as distances, and the distance of each patch, (N, P)."""
    distances, indices = torch.cdist(patches.embed(features.patches), patches.bank).min(2)
    layout = torch.cdist(layouts.embed(features.layout), layouts.bank).min(1).values
    return torch.stack([peak_score(features.patches, distances, indices, patches, config), layout], 1), distances


def peak_score(
    features: Tensor, distances: Tensor, indices: Tensor, memory: Memory, config: PatchCoreConfig
) -> Tensor:
    """The mean score (N,) of the farthest patches, each distance re-weighted by equation 7 of PatchCore.

    A patch far from its nearest remembered patch is the more abnormal the farther it is from that one's neighbors
    too: s = (1 - exp(d*) / Σ exp(d_b)) d*, the sum over the neighbors b of the nearest, itself among them.

    Args:
        features: float (N, P, C).
        distances, indices: (N, P), to the nearest of `memory`, and its number.
    """
    count = max(1, round(config.peak * distances.shape[1]))
    farthest, places = distances.topk(count, 1)
    embedded = memory.embed(features.gather(1, places[..., None].expand(-1, -1, features.shape[2])))
    nearest = memory.bank[indices.gather(1, places)]
    size = min(config.neighbors, len(memory.bank))
    around = torch.cdist(nearest, memory.bank).topk(size, largest=False).indices
    others = (embedded[:, :, None] - memory.bank[around]).norm(dim=3)
    weights = 1 - (farthest - others.logsumexp(2)).exp() if size > 1 else torch.ones_like(farthest)
    return (weights * farthest).mean(1)


def heat_map(distances: Tensor, size: int) -> Tensor:
    """Distances (N, P) as smooth maps (N, size, size)."""
    side = math.isqrt(distances.shape[1])
    maps = interpolate(distances.view(-1, 1, side, side), (size, size), mode="bilinear")
    sigma = size / side / 2
    return gaussian_blur(maps, 2 * [2 * math.ceil(2 * sigma) + 1], 2 * [sigma])[:, 0]


@torch.inference_mode()
def fit_patchcore(
    normal: Tensor,
    config: PatchCoreConfig | None = None,
    false_alarms: float = 0.05,
    held_out: Tensor | None = None,
) -> PatchCore:
    """Remember what normal images look like; the threshold is exceeded by a share of normal images.

    That share is counted on `held_out`, or on images of each half of `normal`, compared with the other half alone.

    Args:
        normal: images (N, 1 or 3, H, W), uint8 or float in [0, 1].
        config: how they are compared.
        false_alarms: that share, above 0 and below 1.
        held_out: other normal images, best of other objects than `normal`, where several images show the same one.

    Raises:
        ValueError: for too few or too small images, a share out of its range, or a classifier that does not serve.
    """
    config = config or PatchCoreConfig()
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms must be above 0 and below 1, got {false_alarms}.")
    least = max(20, math.ceil(1 / false_alarms))
    fewest = min(len(normal), len(normal if held_out is None else held_out))
    if fewest < least:
        raise ValueError(f"A share of {false_alarms:g} false alarms needs {least} normal images, got {fewest}.")
    network = FeatureNetwork(config)
    features = remember(network, normal, config.seed)
    memories = fit_memories(features, config)
    if held_out is None:
        order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(config.seed))
        halves = order[: len(normal) // 2], order[len(normal) // 2 :]
        others = [fit_memories(Features(*(values[half] for values in features)), config) for half in halves]
        tests = [(normal[half[:CALIBRATED]], known) for half, known in zip(halves, others[::-1], strict=True)]
    else:
        tests = [(held_out, memories)]
    found = [compare(network(batch), *known, config) for images, known in tests for batch in images.split(BATCH)]
    raw, heat = torch.cat([parts for parts, _ in found]), torch.cat([distances.mean(1) for _, distances in found])
    mean, std = raw.mean(0), raw.std(0).clamp_min(1e-6)
    score = config.combine((raw - mean) / std)
    threshold = score.quantile(1 - false_alarms).item()
    share = (score > threshold).float().mean().item()
    calibration = Calibration(mean, std, heat.mean().item(), threshold, share, len(normal))
    return PatchCore(config, network, *memories, calibration)


def remember(network: FeatureNetwork, normal: Tensor, seed: int) -> Features:
    """The features of all images, of each as many patches, at random, as keep to `CANDIDATES`."""
    generator = torch.Generator().manual_seed(seed)
    patches, layouts = [], []
    for batch in normal.split(BATCH):
        features = network(batch)
        count, total = len(batch), features.patches.shape[1]
        chosen = torch.rand(count, total, generator=generator).argsort(1)[:, : max(1, CANDIDATES // len(normal))]
        patches.append(features.patches.gather(1, chosen[..., None].expand(-1, -1, features.patches.shape[2])))
        layouts.append(features.layout)
    return Features(torch.cat(patches), torch.cat(layouts))


def fit_memories(features: Features, config: PatchCoreConfig) -> tuple[Memory, Memory]:
    """The memories of patches and of layouts; of layouts all are kept."""
    size = math.ceil(config.coreset * features.patches[..., 0].numel())
    patches = Memory.of_patches(features.patches.flatten(0, 1), size, config.seed)
    return patches, Memory.of_layouts(features.layout, len(features.layout), config.seed)


def save_patchcore(detector: PatchCore, folder: str | Path) -> None:
    """Write `patchcore.json`, how images are compared, and the memories to `patchcore.safetensors`."""
    memories = dict(zip(PARTS, (detector.patches, detector.layouts), strict=True))
    tensors = {f"{name}.{key}": getattr(each, key) for name, each in memories.items() for key in SAVED}
    known = detector.calibration._asdict()
    plain = {key: value.tolist() if isinstance(value, Tensor) else value for key, value in known.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(folder) / TENSORS) as temporary:
        halves = {name: value.half() if name.endswith(".bank") else value for name, value in tensors.items()}
        save_file({name: value.contiguous() for name, value in halves.items()}, temporary)
    text = json.dumps({"config": asdict(detector.config), "calibration": plain}, indent=2)
    write_text(Path(folder) / FILE, text + "\n")


def load_patchcore(folder: str | Path) -> PatchCore:
    """The detector that [`save_patchcore`] has written.

    Raises:
        FileNotFoundError: if the files or the classifier are not there.
        ValueError: if they cannot be read or do not fit each other.
    """
    paths = [Path(folder) / name for name in (FILE, TENSORS)]
    if not all(path.is_file() for path in paths):
        raise FileNotFoundError(f"{folder} does not hold {FILE} and {TENSORS}: make them with hfvision detect fit.")
    try:
        values = read_json(paths[0])
        config = PatchCoreConfig(**values["config"] | {"stages": tuple(values["config"]["stages"])})
        known = values["calibration"]
        calibration = Calibration(**known | {key: torch.tensor(known[key]) for key in ("mean", "std")})
        tensors = load_file(paths[1])
        check_finite(tensors.items(), str(paths[1]))
        patches, layouts = (
            Memory(*(tensors[f"{name}.{key}"].float() for key in SAVED), unit=name == "layouts") for name in PARTS
        )
        network = FeatureNetwork(config)
        example = network(torch.zeros(1, 3, config.image_size, config.image_size))
        raw, _ = compare(example, patches, layouts, config)
        float(((raw - calibration.mean) / calibration.std).sum() + calibration.heat + calibration.threshold)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{paths[0]} cannot be read ({error}): make it anew with hfvision detect fit.") from error
    return PatchCore(config, network, patches, layouts, calibration)
