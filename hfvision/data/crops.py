"""Random crops of photographs held in memory, for training super-resolution."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor


class RandomCrops(Dataset):
    """Square crops at random places, flipped and turned at random: each item is new at each reading.

    Items are `{"labels": float32 (3, size, size) in [0, 1]}`. Larger photographs are drawn more often.

    Args:
        photos: RGB images, kept decoded as uint8.
        size: side of a crop in pixels.
        count: items in one epoch.

    Raises:
        ValueError: if a photograph is smaller than a crop.
    """

    def __init__(self, photos: Sequence[Image.Image], size: int, count: int):
        small = next((photo.size for photo in photos if min(photo.size) < size), None)
        if not photos or small is not None:
            raise ValueError(f"Crops of {size}×{size} need photographs of at least that size, got {small or 'none'}.")
        self.photos = [pil_to_tensor(photo.convert("RGB")) for photo in photos]
        self.weights = torch.tensor([float(photo[0].numel()) for photo in self.photos])
        self.size = size
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        photo = self.photos[int(torch.multinomial(self.weights, 1))]
        top = int(torch.randint(photo.shape[1] - self.size + 1, ()))
        left = int(torch.randint(photo.shape[2] - self.size + 1, ()))
        crop = photo[:, top : top + self.size, left : left + self.size]
        flip, turns = torch.randint(2, ()).item(), int(torch.randint(4, ()))
        crop = torch.rot90(crop.flip(2) if flip else crop, turns, (1, 2))
        return {"labels": crop.float() / 255}
