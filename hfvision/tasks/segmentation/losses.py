"""What the training of segmenters minimizes: cross-entropy and soft Dice."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ...data.datasets.segmentation import IGNORED
from ...data.transforms.normalize import Normalize
from ...models.cnn.segmentation_loss import pixel_cross_entropy
from .config import SegmenterTrainingConfig
from .evaluate import at_size


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 minus the soft Dice coefficient over the whole batch, mean of the classes (Milletari et al. 2016,
    arXiv:1606.04797, with sums instead of squares).

    Args:
        logits: float (N, C, H, W).
        labels: int64 (N, H, W), classes, or 255 (`ignore_index`).

    Returns:
        A float scalar from 0 to 1.
    """
    counts = (labels != IGNORED)[:, None]
    truth = one_hot(labels.where(counts[:, 0], 0), logits.shape[1]).movedim(-1, 1) * counts
    found = logits.softmax(1) * counts
    both, either = (found * truth).sum((0, 2, 3)), (found + truth).sum((0, 2, 3))
    return 1 - ((2 * both + 1) / (either + 1)).mean()


@dataclass
class SegmenterLoss:
    """From a batch of crops to the loss: normalization, network, cross-entropy and Dice."""

    config: SegmenterTrainingConfig
    normalize: Normalize

    def __call__(self, net: nn.Module, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        images = self.normalize(batch["images"]).contiguous(memory_format=torch.channels_last)
        labels = batch["labels"].long()
        logits = at_size(net(pixel_values=images).logits.float(), labels.shape[1:])
        entropy = pixel_cross_entropy(logits, labels)
        dice = soft_dice_loss(logits, labels)
        return {"loss": entropy + self.config.dice_weight * dice, "dice": 1 - dice.detach()}
