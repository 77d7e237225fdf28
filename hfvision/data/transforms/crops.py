"""Random crops of photographs held in memory, for training super-resolution."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate, l1_loss
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from .keyed import image_keys, uniform


class RandomCrops(Dataset):
    """Square crops at random places, flipped and turned at random, other ones in each epoch.

    Items are `{"labels": uint8 (C, size, size), "index": int64 ()}`, decided by seed, epoch and index. Larger
    photographs are drawn more often.

    Args:
        photos: images, kept decoded as uint8; one that is there twice is drawn twice as often.
        size: side of a crop in pixels.
        count: items in one epoch.
        seed: of places, flips and turns.
        num_channels: C, 3 for colour or 1 for grey.
        turn: flip and turn; off for what has an upright, as signs and text.
        candidates: crops drawn for each one given, which is the one of most [`detail`]: there is more to learn from it
            (after Wang et al. 2021, arXiv:2111.15185).
        shrink: smallest factor by which photographs are shrunk before crops are taken, each time by another one, up to
            1 or what leaves a crop in a small photograph. Shrunk, they have more detail in a pixel, and less of JPEG
            (Dong et al. 2016, arXiv:1608.00367, section 4.1).

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
        candidates: int = 1,
        shrink: float = 1.0,
    ):
        photos = list(photos)
        small = next((photo.size for photo in photos if min(photo.size) < size), None)
        if not photos or small is not None:
            raise ValueError(f"Crops of {size}×{size} need photographs of at least that size, got {small or 'none'}.")
        mode = "L" if num_channels == 1 else "RGB"
        distinct = {id(photo): photo for photo in photos}
        pixels = {key: pil_to_tensor(photo.convert(mode)) for key, photo in distinct.items()}
        self.photos = [pixels[id(photo)] for photo in photos]
        areas = torch.tensor([float(photo[0].numel()) for photo in self.photos])
        self.shares = areas.cumsum(0) / areas.sum()
        self.size = size
        self.count = count
        self.seed = seed
        self.turn = turn
        self.candidates = candidates
        self.shrink = shrink
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        keys = image_keys(self.seed, self.epoch, torch.tensor([index]))
        flip, turns, *places = uniform(keys, 2 + 3 * self.candidates)[0].tolist()
        factors = uniform(keys, self.candidates, stream=1)[0].tolist()
        crops = [
            self.crop((places[3 * i], places[3 * i + 1], places[3 * i + 2]), factor)
            for i, factor in enumerate(factors)
        ]
        crop = crops[0] if self.candidates == 1 else max(crops, key=detail)
        if self.turn:
            crop = turned(crop, flip < 0.5, int(4 * turns))
        return {"labels": crop.contiguous(), "index": torch.tensor(index)}

    def crop(self, place: tuple[float, float, float], factor: float) -> torch.Tensor:
        which, y, x = place
        photo = self.photos[min(int(torch.searchsorted(self.shares, which, right=True)), len(self.photos) - 1)]
        factor = self.shrink + (1 - self.shrink) * factor
        side = min(round(self.size / factor), *photo.shape[1:])
        top = int(y * (photo.shape[1] - side + 1))
        left = int(x * (photo.shape[2] - side + 1))
        crop = photo[:, top : top + side, left : left + side]
        if side == self.size:
            return crop
        return resize(crop, [self.size, self.size], InterpolationMode.BICUBIC, antialias=True)


def turned(image: torch.Tensor, flip: bool, turns: int) -> torch.Tensor:
    """An image (..., H, W), mirrored where `flip`, then turned by a quarter `turns` times, against the clock."""
    return torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))


def turned_back(image: torch.Tensor, flip: bool, turns: int) -> torch.Tensor:
    """The image (..., H, W) of which [`turned`] made this one."""
    image = torch.rot90(image, -turns, (-2, -1))
    return image.flip(-1) if flip else image


def detail(image: torch.Tensor) -> float:
    """Mean absolute difference of an image, uint8 (C, H, W), from itself at half the size, in levels of 255."""
    image = image.float().mean(0, keepdim=True)
    return l1_loss(interpolate(avg_pool2d(image, 2)[None], size=image.shape[1:])[0], image).item()
