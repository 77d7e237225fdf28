"""Evaluation of super-resolution by the protocol of the literature: PSNR and SSIM on luma, and NIQE."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from ...data.io.images import read_image
from ...data.io.tree import find_images, read_tree
from ...data.transforms.resize import downscale, modcrop
from ...metrics.niqe import BLOCK, niqe
from ...metrics.psnr import psnr
from ...metrics.ssim import ssim
from ...models.image_processing_classification import flatten_pil
from ...utils.console import progress_bar
from .baselines import DTYPES, Dtype, Upscaler, interpolations, network, opencv_networks
from .cost import STACKS, cpu_cost, plain_stack
from .perceptual import SMALLEST as SMALLEST_PERCEIVED
from .perceptual import perceptual_distance
from .tiles import choose_dtype

# Grey files of the sets of papers, which WebP and JPEG 2000 copies of them hold as colour; the other images of equal
# channels, as Set14's "man", are colour files in the originals too.
SINGLE_CHANNEL = {("Set14", "img_003"), ("Set14", "bridge")}
SMALLEST = 8  # pixels of a side of the low-resolution image; SSIM needs as many


def find_sets(folders: Sequence[str | Path]) -> dict[str, Path]:
    """The folders of photographs to measure on, by the name of their set.

    A folder that holds images is a set, with those below it; of another one, each folder in it is.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are no images in it, or two sets have one name.
    """
    sets: dict[str, Path] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder} of photographs.")
        parts = [folder]
        tree = read_tree(folder)
        if not any(path.parent == folder for path in tree.images):
            parts = [part for part in tree.children(folder) if tree.counts[part]] or [folder]
        for part in parts:
            find_images(part)
            name = part.resolve().name
            if name in sets:
                raise ValueError(f"Two folders of photographs are called {name}: rename one of them.")
            sets[name] = part
    return sets


def read_original(path: Path, scale: int) -> Tensor:
    """A photograph as float (1, C, H, W) in [0, 1], sides cut to multiples of `scale`; C is 1 for a grey file, else 3.

    Raises:
        ValueError: for a file that is no readable image, or one too small to be measured.
    """
    image = read_image(path)
    if min(image.size) < SMALLEST * scale:
        raise ValueError(
            f"{path} has {image.width}×{image.height} pixels: to measure ×{scale}, a side needs {SMALLEST * scale}."
        )
    original = pil_to_tensor(flatten_pil(image, "L" if image.mode in ("L", "LA", "I;16") else "RGB"))[None] / 255
    if (path.parent.name, path.stem) in SINGLE_CHANNEL and (original == original[:, :1]).all():
        original = original[:, :1]
    return modcrop(original, scale)


def measure(restored: Tensor, original: Tensor, crop: int) -> dict[str, float | None]:
    """`psnr` (dB), `ssim`, `perceptual` and `niqe` of one image (1, C, H, W) in [0, 1].

    None for an infinite PSNR, and for a NIQE that is not defined for so small or so flat an image.
    """
    quality = psnr(restored, original, crop=crop).item()
    return {
        "psnr": quality if quality < float("inf") else None,
        "ssim": ssim(restored, original, crop=crop).item(),
        "perceptual": perceived(restored, original, crop),
        "niqe": naturalness(restored, crop),
    }


def perceived(restored: Tensor, original: Tensor, crop: int) -> float | None:
    """[`perceptual_distance`] of one image (1, C, H, W), None for one that is too small."""
    if min(original.shape[-2:]) - 2 * crop < SMALLEST_PERCEIVED:
        return None
    return perceptual_distance(restored, original, crop=crop).item()


def naturalness(image: Tensor, crop: int) -> float | None:
    """[`metrics.niqe.niqe`] of one image (1, C, H, W), None where it is not defined."""
    if (image.shape[-2] - 2 * crop) // BLOCK * ((image.shape[-1] - 2 * crop) // BLOCK) < 2:
        return None
    value = niqe(image, crop=crop).item()
    return None if value != value else value


def measure_sets(upscalers: Sequence[Upscaler], sets: Mapping[str, Path]) -> dict[str, Any]:
    """The quality of several upscalers of one scale, by the protocol of [`evaluate_superres`].

    Returns:
        `originals`: by set, the mean `niqe` of the photographs as they are; `results`: by upscaler and set, means of
        `psnr`, `ssim`, `perceptual` and `niqe` over the images for which all upscalers have the metric (None if there
        are none), so that an exact restoration is no disadvantage; `each`: by upscaler, set and image, the same.

    Raises:
        ValueError: if an image cannot be read or is too small.
    """
    scale = upscalers[0].scale
    originals: dict[str, dict] = {}
    each: dict[str, dict[str, dict]] = {upscaler.name: {label: {} for label in sets} for upscaler in upscalers}
    for label, folder in sets.items():
        natural = []
        for path in progress_bar(find_images(folder), desc=f"{label} ×{scale}", unit="image", leave=False):
            original = read_original(path, scale)
            small = downscale(original, scale)
            natural.append(naturalness(original, scale))
            for upscaler in upscalers:
                each[upscaler.name][label][path.relative_to(folder).as_posix()] = measure(
                    upscaler(small), original, scale
                )
        originals[label] = {"niqe": mean(natural)}
    results = {
        name: {
            label: shared_means(images, [others[label] for others in each.values()])
            for label, images in by_set.items()
        }
        for name, by_set in each.items()
    }
    return {"originals": originals, "results": results, "each": each}


def evaluate_superres(
    models: Mapping[str, Any],
    sets: Mapping[str, Path],
    *,
    dtype: Dtype = "fp32",
    scales: Sequence[int] = (),
    opencv: Sequence[Path] = (),
) -> dict[str, Any]:
    """All metrics of super-resolution models, with bicubic, Lanczos and, where installed, OpenCV as baselines.

    The low-resolution image is the original, sides cut to multiples of the scale, made smaller by MATLAB's bicubic and
    rounded to 8 bit. Results are rounded to 8 bit, `scale` pixels are cropped at each side, PSNR, SSIM and NIQE are
    on BT.601 luma. Gray files stay gray. Costs are those of [`cost.cpu_cost`], of models in fp32
    and, where the CPU computes in it or `dtype` is that, in bf16, beside plain stacks of 3×3 convolutions
    ([`cost.PlainStack`]) for comparison with other machines.

    Args:
        models: by name, with `config.scale`, as from [`loading.load_model`].
        sets: names and folders of photographs, from [`find_sets`].
        dtype: of the models when quality is measured.
        scales: to measure interpolations at, with those of the models.
        opencv: files of OpenCV's networks ([`contenders.opencv_networks`]).

    Returns:
        `dtype`, `threads`, and `images`: how many each set has.
        `results`: by name, of models as given, of others with their scale: `scale`, `parameters`, `sets`, which by
        name have `psnr` (dB), `ssim`, `perceptual` ([`perceptual_distance`]) and `niqe`, and the costs with their
        dtype, as `cpu_seconds_per_megapixel_bf16`.
        `yardsticks`: the costs of the plain stacks. `originals`: by scale and set, the `niqe` of the photographs
        without `scale` pixels at each side. `each`: by name, set and image, as `sets`.

    Raises:
        ValueError, FileNotFoundError, ImportError: for images that cannot be read or are too small, and for `opencv`
            as [`contenders.opencv_networks`].
    """
    others = opencv_networks(opencv)
    record: dict[str, Any] = {
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "images": {label: len(find_images(folder)) for label, folder in sets.items()},
        **{part: {} for part in ("originals", "results", "yardsticks", "each")},
    }
    wanted = {*scales, *(model.config.scale for model in models.values()), *(other.scale for other in others)}
    for scale in sorted(wanted):
        group = {name: model for name, model in models.items() if model.config.scale == scale}
        plain = [*interpolations(scale), *(other for other in others if other.scale == scale)]
        upscalers = [*plain, *(network(name, model, dtype) for name, model in group.items())]
        quality = measure_sets(upscalers, sets)
        record["originals"][f"×{scale}"] = quality["originals"]
        record["each"] |= quality["each"]
        for name, figures in quality["results"].items():
            size = {"parameters": group[name].num_parameters()} if isinstance(group.get(name), nn.Module) else {}
            record["results"][name] = {"scale": scale, **size, "sets": figures}
        add_costs(record, scale, plain, group)
    return record


def add_costs(record: dict[str, Any], scale: int, others: Sequence[Upscaler], models: Mapping[str, Any]) -> None:
    """Add the costs of upscalers of one scale to the record of [`evaluate_superres`], and those of plain stacks."""
    bf16 = record["dtype"] == "bf16" or choose_dtype("auto", torch.device("cpu")) == torch.bfloat16
    kinds: tuple[Dtype, ...] = DTYPES if bf16 else ("fp32",)
    networks = [network(name, model.to("cpu"), kind) for name, model in models.items() for kind in kinds]
    stacks = [plain_stack(depth, scale, kind) for depth in STACKS for kind in kinds]
    for upscaler in progress_bar([*others, *networks, *stacks], desc=f"costs ×{scale}", leave=False):
        costs = {f"{key}_{upscaler.dtype}": value for key, value in cpu_cost(upscaler).items()}
        part = "results" if upscaler.name in record["results"] else "yardsticks"
        record[part].setdefault(upscaler.name, {"scale": scale}).update(costs)


def shared_means(images: Mapping[str, dict], of_all: Sequence[Mapping[str, dict]]) -> dict[str, float | None]:
    """The mean of each figure of the images, by their paths, over those that have it in all of `of_all`."""
    return {
        key: mean(
            [image[key] for path, image in images.items() if all(each[path][key] is not None for each in of_all)]
        )
        for key in ("psnr", "ssim", "perceptual", "niqe")
    }


def mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return round(torch.tensor(there, dtype=torch.float64).mean().item(), 4) if there else None
