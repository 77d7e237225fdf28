"""The data that ships with the package."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datasets


SAMPLES = Path(__file__).parents[1] / "samples"


def sample_dataset(name: str = "fashion_mnist") -> "datasets.DatasetDict":
    """A small labelled data set with the splits `train` and `test`.

    Args:
        name: `fashion_mnist`, 6,000 + 1,000 grey images of 28×28 in 10 classes (Xiao et al. 2017, MIT licence).

    Returns:
        Splits with the columns `image` (PIL, mode L) and `label` (`ClassLabel`); no network is needed.

    Raises:
        ValueError: for an unknown name.
    """
    known = sorted(path.parent.name for path in SAMPLES.glob("*/train.parquet"))
    if name not in known:
        raise ValueError(f"There is no sample data set {name!r}; the package has: {', '.join(known)}.")
    import datasets

    files = {split: str(SAMPLES / name / f"{split}.parquet") for split in ("train", "test")}
    return datasets.load_dataset("parquet", data_files=files)


def sample_photos() -> dict[str, Path]:
    """The photos that ship, by name (`astronaut`, `cat`, …); `SOURCES.txt` beside them says where each is from."""
    photos = SAMPLES / "photos"
    return {
        "astronaut": photos / "astronaut.png",
        "cat": photos / "chelsea.png",
        "coffee": photos / "coffee.png",
        "elephant": photos / "elephant-660-480.jpg",
        "grapefruit": photos / "grapefruit-slice-332-332.jpg",
        "rocket": photos / "rocket.jpg",
    }
