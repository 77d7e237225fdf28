"""Random crops of photographs held in memory, for training super-resolution."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from .keyed import image_keys, uniform


class RandomCrops(Dataset):
    """Square crops at random places, flipped and turned at random, other ones in each epoch.

    Items are `{"labels": uint8 (C, size, size), "index": int64 ()}`, decided by seed, epoch and index. Larger
    photographs are drawn more often.

    Args:
        photos: images, kept decoded as uint8.
        size: side of a crop in pixels.
        count: items in one epoch.
        seed: of places, flips and turns.
        num_channels: C, 3 for colour or 1 for grey.
        turn: flip and turn; off for what has an upright, as signs and text.

    Raises:
        ValueError: if a photograph is smaller than a crop.
    """

    def __init__(
        self,
        photos: Sequence[Image.Image],
        size: int,
        count: int,
        seed: int = 0,
        num_channels: int = 3,
        turn: bool = True,
    ):
        small = next((photo.size for photo in photos if min(photo.size) < size), None)
        if not photos or small is not None:
            raise ValueError(f"Crops of {size}×{size} need photographs of at least that size, got {small or 'none'}.")
        mode = "L" if num_channels == 1 else "RGB"
        self.photos = [pil_to_tensor(photo.convert(mode)) for photo in photos]
        pixels = torch.tensor([float(photo[0].numel()) for photo in self.photos])
        self.shares = pixels.cumsum(0) / pixels.sum()
        self.size = size
        self.count = count
        self.seed = seed
        self.turn = turn
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        which, y, x, flip, turns = uniform(image_keys(self.seed, self.epoch, torch.tensor([index])), 5)[0].tolist()
        photo = self.photos[min(int(torch.searchsorted(self.shares, which, right=True)), len(self.photos) - 1)]
        top = int(y * (photo.shape[1] - self.size + 1))
        left = int(x * (photo.shape[2] - self.size + 1))
        crop = photo[:, top : top + self.size, left : left + self.size]
        if self.turn:
            crop = torch.rot90(crop.flip(2) if flip < 0.5 else crop, int(4 * turns), (1, 2))
        return {"labels": crop.contiguous(), "index": torch.tensor(index)}
