"""What the training of segmenters minimizes: cross-entropy and soft Dice."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ...data.datasets.segmentation import IGNORED
from ...data.transforms.normalize import Normalize
from ...models.cnn.segmentation_loss import pixel_cross_entropy
from ..distill import Distiller
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
    """From a batch of crops to the loss: normalization, network, cross-entropy and Dice, and the teacher's."""

    config: SegmenterTrainingConfig
    normalize: Normalize
    distiller: Distiller | None = None

    def __call__(self, net: nn.Module, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        images = self.normalize(batch["images"]).contiguous(memory_format=torch.channels_last)
        labels = batch["labels"].long()
        dice = torch.zeros(())

        def label_loss(logits: Tensor) -> Tensor:
            nonlocal dice
            logits = at_size(logits.float(), labels.shape[1:])
            dice = soft_dice_loss(logits, labels)
            return pixel_cross_entropy(logits, labels) + self.config.dice_weight * dice

        if self.distiller is None:
            loss = label_loss(net(pixel_values=images).logits)
        else:
            loss, _ = self.distiller(net, images, batch["images"], label_loss, labels != IGNORED)
        return {"loss": loss, "dice": 1 - dice.detach()}
