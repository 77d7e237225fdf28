"""Makes optimum's OpenVINO exporter know the model families, once a program imports that exporter.

After `import hfvision`, `OVModelForImageClassification.from_pretrained(folder, export=True)`, `main_export` and
`optimum-cli export openvino` take the folders of every family. This module itself does not import optimum.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from transformers import PreTrainedConfig

EXPORTER = "optimum.exporters.openvino.model_configs"
TASKS = {
    "hfvision_cnn": ("image-classification", "feature-extraction"),
    "hfvision_vit": ("image-classification", "feature-extraction"),
    "hfvision_srgan": ("image-to-image",),
    "hfvision_cnn_segmentation": ("image-segmentation", "semantic-segmentation"),
    "hfvision_vit_segmentation": ("image-segmentation", "semantic-segmentation"),
}


class ExporterFinder(MetaPathFinder):
    """Finds optimum's OpenVINO exporter as the other finders do, and has the families registered once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != EXPORTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = RegisteringLoader(spec.loader)
        return spec


class RegisteringLoader(Loader):
    """Loads optimum's OpenVINO exporter, then registers the families with it."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        register_exports()


def register_when_imported() -> None:
    """Register the families with optimum's OpenVINO exporter: now if it is imported already, else once it is."""
    if EXPORTER in sys.modules:
        register_exports()
    elif not any(isinstance(finder, ExporterFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ExporterFinder())


def register_exports() -> None:
    """Register an export configuration for each family and task with optimum's `TasksManager`."""
    from optimum.exporters.openvino.config import VisionOpenVINOConfig
    from optimum.exporters.tasks import TasksManager
    from optimum.utils.normalized_config import NormalizedVisionConfig

    class ImageExportConfig(VisionOpenVINOConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedVisionConfig

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            free_sides = {2: "height", 3: "width"} if takes_any_size(self._config) else {}
            return {"pixel_values": {0: "batch_size"} | free_sides}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            pooled = {"pooler_output": {0: "batch_size"}} if self.task == "feature-extraction" else {}
            return super().outputs | pooled

    register = TasksManager.create_register("openvino", overwrite_existing=True)
    for model_type, tasks in TASKS.items():
        register(model_type, *tasks)(ImageExportConfig)


def takes_any_size(config: PreTrainedConfig) -> bool:
    """Whether an exported model takes images of other sizes than `config.image_size`.

    Tracing fixes how the segmenters pad images, and how position embeddings are interpolated.
    """
    if config.model_type == "hfvision_cnn":
        return getattr(config, "backbone", None) is None and getattr(config, "pool_size", None) is not None
    return config.model_type == "hfvision_srgan"
