"""What is in a video, frame by frame, and where its shots begin.

Two frames are as far apart as the geometric mean of three distances says, each from 0 to 1 or little more: of the
network's features (one minus their cosine), of their colours (one minus the Bhattacharyya coefficient of joint RGB
histograms) and of their layout (one minus the structural similarity of grey pictures of 16×16 pixels). All three must
differ, so that neither lighting, which moves colours, nor shaking, which moves the layout, looks like a cut.

The score of frame t is the least distance between a frame of the fifth of a second before it and one of the fifth of a
second from it on: at a cut no frame before is like any after, while behind a flash, or a person who runs through the
picture, the old picture comes back. A cut is where the score exceeds a threshold that adapts to how restless the
neighbourhood is, after the idea of Yeo and Liu (1995, "Rapid scene analysis on compressed video"). Fades are found by
the frames of one colour that they lead through. Dissolves from one shot into another are not found.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.io.video import DamagedVideoError, declared_frames, read_frames
from ...hub.loading import load_by, load_config, load_model, load_processor
from ...utils.console import progress_bar
from ..classification.transfer import head_names

THRESHOLD = 0.2  # cuts between photographs score 0.3 to 0.8, shaken and flickering shots up to 0.15
CONTRAST = 10.0  # of 255: differences of layout below it hardly count, as the constant of structural similarity
BLANK, PICTURE = 4.0, 12.0  # standard deviations, of 255: at most of one colour, at least of something to be seen
MEMORY, NEIGHBOURHOOD, RAMP, PAUSE = 0.2, 1.0, 0.4, 1.0  # seconds
BLOCK = 4096  # frames whose distances are computed at once


@dataclass(frozen=True)
class VideoFeatures:
    """What is kept of each of the N frames of a video, about 2 kB; not its pixels.

    Attributes:
        times: float64 (N,), seconds since the first frame.
        features: float16 (N, D), of the network, of length 1.
        colours: float16 (N, 512), square roots of the shares of pixels with each of 8×8×8 colours.
        layouts: float16 (N, 256), grey values of 16×16 pixels from 0 to 255, less their mean.
        probabilities: float16 (N, C), of the classifier's classes; None for a network that is no classifier.
        size: (width, height) of the first frame in pixels.
        problem: why the frames end before the file does; None if they do not.
    """

    times: Tensor
    features: Tensor
    colours: Tensor
    layouts: Tensor
    probabilities: Tensor | None
    size: tuple[int, int]
    problem: str | None = None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def step(self) -> float:
        """Seconds from one frame to the next, the median; 0.04 where there is one frame."""
        return (self.times.diff().median().item() if len(self) > 1 else 0.0) or 0.04


@dataclass
class Collected:
    """Lists that become the tensors of [`VideoFeatures`]."""

    times: list[float] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    colours: list[Tensor] = field(default_factory=list)
    layouts: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)


def load_encoder(name: str, *, trust_remote_code: bool = False) -> tuple[nn.Module, BaseImageProcessor]:
    """A classifier, or an encoder without head, by Hub id, folder or name of a shipped checkpoint, and its processor.

    Raises:
        FileNotFoundError, ValueError: as `loading.load_model`.
    """
    config = load_config(name, trust_remote_code=trust_remote_code)
    if any("ForImageClassification" in architecture for architecture in config.architectures or ["Model"]):
        model, processor = load_model(name, "image-classification", trust_remote_code=trust_remote_code)
        return model.float() if isinstance(model, nn.Module) else model, processor
    model, _ = load_by(AutoModel, name, config=config, trust_remote_code=trust_remote_code)
    return model.float().eval(), load_processor(name, config, trust_remote_code=trust_remote_code)


@torch.inference_mode()
def video_features(
    source: str | Path, model: nn.Module, processor: BaseImageProcessor, *, batch_size: int = 32
) -> VideoFeatures:
    """What a network sees in each frame of a video.

    Frames are read one after the other and brought to the network's size at once: in memory are one frame, a batch of
    such small pictures, and about 2 kB for each frame that was read. Of a file that is cut off or damaged, the frames
    before that are taken, and `problem` says so.

    Args:
        source: what FFmpeg can read.
        model: gives `logits` for `pixel_values`, of a classifier, whose features are then what its head gets; or
            `pooler_output`, or `last_hidden_state` (N, tokens, D), which is averaged.
        processor: the model's.
        batch_size: frames that go through the network together.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or holds no video.
    """
    found, batch, size, problem = Collected(), [], None, None

    def flush() -> None:
        features, probabilities = encode(model, torch.cat(batch))
        found.features.append(normalize(features, dim=1).half().cpu())
        if probabilities is not None:
            found.probabilities.append(probabilities.half().cpu())
        batch.clear()

    with progress_bar(total=declared_frames(source), unit="frame", desc=Path(source).name, leave=False) as bar:
        try:
            for time, pixels in read_frames(source):
                image = Image.fromarray(pixels)
                size = size or image.size
                found.times.append(time)
                found.colours.append(colours_of(image))
                found.layouts.append(layout_of(image))
                batch.append(processor(image, return_tensors="pt")["pixel_values"])
                if len(batch) == batch_size:
                    flush()
                bar.update()
        except DamagedVideoError as error:
            problem = str(error)
    if batch:
        flush()
    if size is None:
        raise ValueError(f"{source} holds no video.")
    return VideoFeatures(
        torch.tensor(found.times, dtype=torch.float64),
        torch.cat(found.features),
        torch.stack(found.colours),
        torch.stack(found.layouts),
        torch.cat(found.probabilities) if found.probabilities else None,
        size,
        problem,
    )


def encode(model: nn.Module, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Features (N, D) and, of a classifier, probabilities (N, C), float32."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if parameter is not None:
        pixel_values = pixel_values.to(parameter.device, parameter.dtype)
    with input_of_head(model) as seen:
        outputs = model(pixel_values=pixel_values)
    logits = getattr(outputs, "logits", None)
    if logits is not None:
        features = seen[0] if seen else logits
    else:
        pooled = getattr(outputs, "pooler_output", None)
        features = outputs.last_hidden_state if pooled is None else pooled
    features = features.mean(1) if features.ndim == 3 else features.flatten(1)
    return features.float(), None if logits is None else logits.float().softmax(-1)


@contextmanager
def input_of_head(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the head of a classifier gets, once it is called; nothing where the head is not known."""
    seen: list[Tensor] = []
    try:
        head = model.get_submodule(head_names(model)[0])
    except (AttributeError, ValueError):
        yield seen
        return
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def colours_of(image: Image.Image) -> Tensor:
    """See [`VideoFeatures`]."""
    levels = np.asarray(image.resize((64, 64), Image.Resampling.BOX)).astype(np.int64) // 32
    counts = np.bincount((levels @ [64, 8, 1]).ravel(), minlength=512)
    return torch.from_numpy(counts / 64**2).sqrt().half()


def layout_of(image: Image.Image) -> Tensor:
    """See [`VideoFeatures`]."""
    grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel()
    return torch.from_numpy(grey - grey.mean()).half()


def frame_distances(video: VideoFeatures, first: Tensor, second: Tensor) -> Tensor:
    """float32 (M,), the distance of each of the M pairs of frames, given by their numbers (M,): see the module."""
    features, colours, layouts = (
        (values[first].float(), values[second].float()) for values in (video.features, video.colours, video.layouts)
    )
    by_network = 1 - (features[0] * features[1]).sum(1)
    by_colour = 1 - (colours[0] * colours[1]).sum(1)
    same, power = (layouts[0] * layouts[1]).mean(1), sum(layout.square().mean(1) for layout in layouts)
    by_layout = 1 - (2 * same + CONTRAST**2) / (power + CONTRAST**2)
    return (by_network.clamp(0) * by_colour.clamp(0) * by_layout.clamp(0)) ** (1 / 3)


def cut_scores(video: VideoFeatures) -> Tensor:
    """float32 (N,), how much each frame looks like the first of a shot; 0 for the first of the video."""
    count, reach = len(video), max(1, round(MEMORY / video.step))
    scores = torch.full((count,), torch.inf)
    scores[:1] = 0
    for lag in range(1, min(2 * reach, count)):
        numbers = torch.arange(count - lag)
        distances = torch.cat([frame_distances(video, part, part + lag) for part in numbers.split(BLOCK)])
        for before in range(max(1, lag - reach + 1), min(lag, reach) + 1):
            later = lag - before
            here = scores[before : count - later]
            here.copy_(torch.minimum(here, distances[: len(here)]))
    return scores


def cut_thresholds(video: VideoFeatures, scores: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """float32 (N,), `threshold` and the median score of the two seconds around each frame."""
    reach = round(NEIGHBOURHOOD / video.step)
    around = [scores[max(0, t - reach) : t + reach + 1].median() for t in range(len(scores))]
    return threshold + torch.stack(around)


def blank_runs(contrasts: Tensor) -> list[tuple[int, int]]:
    """(first, last) of each run of frames of one colour that has others on both sides."""
    blank = contrasts < BLANK
    edges = torch.nonzero(blank.diff())[:, 0].tolist()
    edges = edges[1:] if blank[0] else edges
    return [(before + 1, last) for before, last in zip(edges[::2], edges[1::2], strict=False)]


def fades(video: VideoFeatures, threshold: float) -> Iterator[tuple[int, int, int, int]]:
    """Runs of frames of one colour between two shots: the first and the last frame, and the last before and the first
    after it that show something.

    They are not between shots where one of the frames before is like one of those after.
    """
    contrasts = torch.cat([part.float().square().mean(1).sqrt() for part in video.layouts.split(BLOCK)])
    reach = max(1, round(RAMP / video.step))
    for first, last in blank_runs(contrasts):
        sides = []
        for numbers in (torch.arange(max(0, first - reach), first), torch.arange(last + 1, last + 1 + reach)):
            numbers = numbers[numbers < len(video)]
            sides.append(numbers[contrasts[numbers] >= PICTURE])
        pairs = torch.cartesian_prod(*sides).T
        if pairs.numel() and frame_distances(video, *pairs).min() > threshold:
            yield first, last, int(sides[0][-1]), int(sides[1][0])


def shot_boundaries(video: VideoFeatures, *, threshold: float = THRESHOLD) -> list[int]:
    """The numbers of the frames that begin a shot, from the second shot on, rising.

    Cuts are exact. A fade through frames of one colour is one boundary in their middle, or, where they last longer
    than a second, one at either end. A shot shorter than a fifth of a second that returns to the one before it counts
    as a flash. A single frame, or a single shot, has none.

    Args:
        video: from [`video_features`].
        threshold: how far frames must be apart at a cut, beyond the restlessness around it; above 0.

    Raises:
        ValueError: for a threshold that is not above 0.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold}.")
    if len(video) < 2:
        return []
    scores = cut_scores(video)
    cuts = set(torch.nonzero(scores > cut_thresholds(video, scores, threshold))[:, 0].tolist())
    for first, last, before, after in fades(video, threshold):
        cuts -= set(range(before + 1, after + 1))
        short = (last + 1 - first) * video.step <= PAUSE
        cuts |= {(first + last + 1) // 2} if short else {first, last + 1}
    return sorted(cuts)


def shots_between(boundaries: Sequence[int], count: int) -> list[range]:
    """The frames of each shot, given where all but the first begin, and how many frames there are."""
    return [range(first, end) for first, end in zip([0, *boundaries], [*boundaries, count], strict=True)]


def key_frames(video: VideoFeatures, boundaries: Sequence[int]) -> list[int]:
    """For each shot the number of the frame whose features are nearest to the mean of the shot's."""
    found = []
    for shot in shots_between(boundaries, len(video)):
        features = video.features[shot.start : shot.stop].float()
        found.append(shot.start + int((features @ features.mean(0)).argmax()))
    return found
