"""Makes transformers' Auto classes and pipelines know the families, when they are needed.

Registering at once would import torch and all of transformers' Auto machinery with `import hfvision`. So a module of
this package is imported as soon as the part of transformers that has to know it has been, and registers itself right
after its own import, whichever of the two comes first.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

PACKAGE = __package__


def register_config(module: ModuleType) -> None:
    from transformers import AutoConfig

    config = getattr(module, module.__all__[0])
    AutoConfig.register(config.model_type, config)


def register_models(module: ModuleType) -> None:
    import transformers

    for auto_class, name in module.AUTO_CLASSES.items():
        model = getattr(module, name)
        getattr(transformers, auto_class).register(model.config_class, model)


def register_image_processor(module: ModuleType) -> None:
    from transformers import AutoImageProcessor

    from .cnn.configuration_cnn import CNNConfig
    from .srgan.configuration_srgan import SRGANConfig
    from .vit.configuration_vit import VisionTransformerConfig

    name = module.__all__[0]
    configs = [SRGANConfig] if name == "SRGANImageProcessor" else [CNNConfig, VisionTransformerConfig]
    for config in configs:
        AutoImageProcessor.register(config, image_processor_classes={"torchvision": getattr(module, name)})


def register_pipeline(module: ModuleType) -> None:
    from transformers import AutoModelForImageToImage
    from transformers.pipelines import PIPELINE_REGISTRY

    PIPELINE_REGISTRY.register_pipeline(
        "image-super-resolution",
        pipeline_class=module.SuperResolutionPipeline,
        pt_model=AutoModelForImageToImage,
        type="image",
    )


REGISTRATIONS: dict[str, tuple[Callable[[ModuleType], None], list[str]]] = {
    "transformers.models.auto.configuration_auto": (
        register_config,
        ["cnn.configuration_cnn", "vit.configuration_vit", "srgan.configuration_srgan"],
    ),
    "transformers.models.auto.modeling_auto": (
        register_models,
        ["cnn.modeling_cnn", "vit.modeling_vit", "srgan.modeling_srgan"],
    ),
    "transformers.models.auto.image_processing_auto": (
        register_image_processor,
        ["image_processing_classification", "srgan.image_processing_srgan"],
    ),
    "transformers.pipelines": (register_pipeline, ["srgan.pipeline_srgan"]),
}


class AfterImport(MetaPathFinder):
    """Calls a function with a module once, right after its import."""

    def __init__(self, functions: dict[str, Callable[[ModuleType], None]]):
        self.functions = functions

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        if name not in self.functions:
            return None
        function = self.functions.pop(name)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_call(module):
            execute(module)
            function(module)

        spec.loader.exec_module = execute_and_call
        return spec


def register_families() -> None:
    """Register every family with every part of transformers that is imported, now or later."""
    functions: dict[str, Callable[[ModuleType], None]] = {}
    imported = []
    for trigger, (register, names) in REGISTRATIONS.items():
        ours = [f"{PACKAGE}.{name}" for name in names]
        functions |= dict.fromkeys(ours, register)
        if trigger in sys.modules:
            imported += ours
        else:
            functions[trigger] = lambda _, ours=ours: import_all(ours)
    sys.meta_path.insert(0, AfterImport(functions))
    import_all(imported)


def import_all(names: list[str]) -> None:
    for name in names:
        if name not in sys.modules:
            import_module(name)
