"""The loss of the segmenters.

The folders of both families of segmenters hold an equal copy of this file, as the files of one folder travel to the
Hub together.
"""

import torch
from torch.nn.functional import cross_entropy

IGNORED = 255  # the label of pixels that do not count


def pixel_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits (N, C, H, W) over the pixels whose label, of int64 (N, H, W), is not 255."""
    total = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)
