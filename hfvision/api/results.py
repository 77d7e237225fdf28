"""What the verbs give back."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from PIL import Image

from ..compression.recipe import describe
from ..hub.loading import LoadedModel
from ..hub.memory import load_once
from ..records import ModelRecord
from ..tasks.classification.predict import Classification


@dataclass(frozen=True, repr=False)
class SavedModel(PathLike[str]):
    """A folder with a model that was made, which goes wherever a model goes.

    Attributes:
        folder: with the model, its image processor, record and card.
        record: what was measured: `record.test`, `record.validation`, `record.training`, `record.compression`.
    """

    folder: Path
    record: ModelRecord

    def __fspath__(self) -> str:
        return str(self.folder)

    def load(self) -> LoadedModel:
        """The model and its image processor, as [`load_model`] gives them; the model is kept for the next verb."""
        return load_once(self)

    def __repr__(self) -> str:
        if self.record.compression:
            return f"SavedModel({self.folder}: {'; '.join(describe(self.record).splitlines())})"
        found = {"test": self.record.test, "validation": self.record.validation}
        shown = [f"{name} {figures!r}" for name, figures in found.items() if figures is not None]
        return f"SavedModel({self.folder}{': ' if shown else ''}{', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Attacked:
    """An image that was changed to mislead a classifier.

    Attributes:
        original: the image as the model gets it, RGB or L.
        image: the same after the attack.
        before, after: what the classifier says of both.
        epsilon: how far a pixel may have been changed, as it was given.
    """

    original: Image.Image
    image: Image.Image
    before: Classification
    after: Classification
    epsilon: str | float

    @property
    def succeeded(self) -> bool:
        """Whether the classifier says something else now."""
        return self.before.label != self.after.label

    def __repr__(self) -> str:
        was, now = (f"{each.label} {each.probability:.1%}" for each in (self.before, self.after))
        return f"Attacked({was} → {now}, epsilon {self.epsilon})"
