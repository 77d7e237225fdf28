"""Random crops of images with their masks: what moves a pixel moves its class alike."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, sqrt

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from ..transforms.augment import seeded
from ..transforms.keyed import image_keys
from .segmentation import IGNORED, MaskedImages

FILL = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
CROP = 64  # stream of the random numbers, beside those of `augment`


@dataclass(frozen=True)
class MaskAugmentation:
    """How training crops are varied, image and mask alike; 0 or False is off. Numbers are drawn anew for each crop.

    Attributes:
        flip: mirrored left to right, one crop of two.
        turn: mirrored top to bottom, and turned by a quarter, one crop of two each; for what has no upright.
        rotation: degrees to either side.
        zoom: shown from 1 / (1 + `zoom`) to 1 + `zoom` times as large.
        light: brightness and contrast of the image are each multiplied by 1 / (1 + `light`) to 1 + `light`.
        colour: its saturation changes by up to this share, its hue by a quarter of it (of a full turn).

    Raises:
        ValueError: for a value out of range.
    """

    flip: bool = True
    turn: bool = False
    rotation: float = 0
    zoom: float = 0.25
    light: float = 0.25
    colour: float = 0.2

    def __post_init__(self):
        for name, high in {"rotation": 180, "zoom": 3, "light": 3, "colour": 1}.items():
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be from 0 (off) to {high}, got {getattr(self, name)}.")

    def transform(self, size: int) -> v2.Transform:
        """torchvision's transform of an image and its mask to crops of `size` pixels.

        What lies beyond the image is black, and 255 in the mask: it does not count.
        """
        steps: list[v2.Transform] = []
        if self.rotation or self.zoom:
            window = ceil(size * (1 + self.zoom) * (sqrt(2) if self.rotation else 1))
            scale = (1 / (1 + self.zoom), 1 + self.zoom)
            bilinear = InterpolationMode.BILINEAR
            steps += [
                v2.Pad((window - size + 1) // 2, fill=FILL),  # so that the image's edge comes into crops too
                v2.RandomCrop(window, pad_if_needed=True, fill=FILL),
                v2.RandomAffine(self.rotation, scale=scale, interpolation=bilinear, fill=FILL),
                v2.CenterCrop(size),
            ]
        else:
            steps.append(v2.RandomCrop(size, pad_if_needed=True, fill=FILL))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.turn:
            steps += [v2.RandomVerticalFlip(), v2.RandomApply([v2.RandomRotation((90, 90))])]
        if self.light or self.colour:
            light = (1 / (1 + self.light), 1 + self.light)
            steps.append(v2.ColorJitter(light, light, self.colour, self.colour / 4))
        return v2.Compose(steps)


class MaskedCrops(Dataset):
    """Square crops of images and masks, other ones in each epoch.

    Items are `{"images": uint8 (C, size, size), "labels": uint8 (size, size), "index": int64 ()}`, decided by seed,
    epoch and index; labels are classes, or 255 where a pixel does not count.

    Args:
        images: with their masks.
        size: side of a crop in pixels; smaller images are padded.
        augmentation: how crops are varied.
        count: crops in one epoch, of the images in turn; one an image where not given.
        seed: of places and variations.
    """

    def __init__(
        self,
        images: MaskedImages,
        size: int,
        augmentation: MaskAugmentation,
        count: int | None = None,
        seed: int = 0,
    ):
        self.images = images
        self.size = size
        self.augmentation = augmentation
        self.count = count or len(images)
        self.seed = seed
        self.epoch = 0

    @cached_property
    def transform(self) -> v2.Transform:
        return self.augmentation.transform(self.size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.count:
            raise IndexError(index)
        image, mask = self.images[index % len(self.images)]
        key = image_keys(self.seed, self.epoch, torch.tensor([index]))[0]
        image, mask = seeded(self.transform, key, CROP, tv_tensors.Image(image), tv_tensors.Mask(mask))
        return {
            "images": image.as_subclass(Tensor).contiguous(),
            "labels": mask.as_subclass(Tensor).contiguous(),
            "index": torch.tensor(index),
        }
