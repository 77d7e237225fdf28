"""Random crops of images with their masks: what moves a pixel moves its class alike."""

from functools import cached_property
from math import ceil, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from ..transforms.augment import seeded
from ..transforms.augmentation import MaskAugmentation
from ..transforms.keyed import image_keys
from .segmentation import IGNORED, MaskedImages

FILL: dict[Any, Any] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
CROP = 64  # stream of the random numbers, beside those of `augment`


def mask_transform(augmentation: MaskAugmentation, size: int) -> v2.Transform:
    """torchvision's transform of an image and its mask to crops of `size` pixels.

    What lies beyond the image is black, and 255 in the mask: it does not count.
    """
    steps: list[v2.Transform] = []
    if augmentation.rotation or augmentation.zoom:
        window = ceil(size * (1 + augmentation.zoom) * (sqrt(2) if augmentation.rotation else 1))
        scale = (1 / (1 + augmentation.zoom), 1 + augmentation.zoom)
        bilinear = InterpolationMode.BILINEAR
        steps += [
            v2.Pad((window - size + 1) // 2, fill=FILL),  # so that the image's edge comes into crops too
            v2.RandomCrop(window, pad_if_needed=True, fill=FILL),
            v2.RandomAffine(
                (-augmentation.rotation, augmentation.rotation), scale=scale, interpolation=bilinear, fill=FILL
            ),
            v2.CenterCrop(size),
        ]
    else:
        steps.append(v2.RandomCrop(size, pad_if_needed=True, fill=FILL))
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    if augmentation.turn:
        steps += [v2.RandomVerticalFlip(), v2.RandomApply([v2.RandomRotation((90, 90))])]
    if augmentation.light or augmentation.colour:
        light = (1 / (1 + augmentation.light), 1 + augmentation.light)
        steps.append(v2.ColorJitter(light, light, augmentation.colour, augmentation.colour / 4))
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
        return mask_transform(self.augmentation, self.size)

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
