"""What callers may give for a path, a model, data or an image, where a module that imports no library says so.

At run time these are what a command line gives, text or a path: the command line is built from annotations without
torch, transformers and datasets. Type checkers see everything that the functions of the package take.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from PIL import Image
    from torch import nn
    from transformers.image_processing_utils import BaseImageProcessor

    StrPath = str | Path
    ModelSource = str | Path | nn.Module | tuple[nn.Module, BaseImageProcessor]
    DataSource = (
        str | Path | datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict
    )
    ImageSource = str | Path | bytes | Image.Image | np.ndarray
else:
    StrPath = Path
    ModelSource = DataSource = ImageSource = str

__all__ = ["DataSource", "ImageSource", "ModelSource", "StrPath"]
