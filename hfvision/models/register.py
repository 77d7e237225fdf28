"""Makes transformers' Auto classes and pipelines know the families, each at the moment transformers imports them.

Registering at once would import torch and all of transformers' Auto machinery with `import hfvision`.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec


def register_configs() -> None:
    from transformers import AutoConfig

    from .cnn.configuration_cnn import CNNConfig
    from .srgan.configuration_srgan import SRGANConfig
    from .vit.configuration_vit import VisionTransformerConfig

    for config in (CNNConfig, VisionTransformerConfig, SRGANConfig):
        AutoConfig.register(config.model_type, config)


def register_models() -> None:
    from transformers import AutoBackbone, AutoModel, AutoModelForImageClassification, AutoModelForImageToImage

    from .cnn.modeling_cnn import CNNBackbone, CNNConfig, CNNForImageClassification, CNNModel
    from .srgan.modeling_srgan import SRGANConfig, SRGANForImageSuperResolution, SRGANModel
    from .vit.modeling_vit import (
        VisionTransformerConfig,
        VisionTransformerForImageClassification,
        VisionTransformerModel,
    )

    AutoModel.register(CNNConfig, CNNModel)
    AutoModel.register(VisionTransformerConfig, VisionTransformerModel)
    AutoModel.register(SRGANConfig, SRGANModel)
    AutoModelForImageClassification.register(CNNConfig, CNNForImageClassification)
    AutoModelForImageClassification.register(VisionTransformerConfig, VisionTransformerForImageClassification)
    AutoModelForImageToImage.register(SRGANConfig, SRGANForImageSuperResolution)
    AutoBackbone.register(CNNConfig, CNNBackbone)


def register_image_processors() -> None:
    from transformers import AutoImageProcessor

    from .cnn.configuration_cnn import CNNConfig
    from .image_processing_classification import ImageClassificationProcessor
    from .srgan.configuration_srgan import SRGANConfig
    from .srgan.image_processing_srgan import SRGANImageProcessor
    from .vit.configuration_vit import VisionTransformerConfig

    for config, processor in (
        (CNNConfig, ImageClassificationProcessor),
        (VisionTransformerConfig, ImageClassificationProcessor),
        (SRGANConfig, SRGANImageProcessor),
    ):
        AutoImageProcessor.register(config, image_processor_classes={"torchvision": processor})


def register_pipelines() -> None:
    from transformers import AutoModelForImageToImage
    from transformers.pipelines import PIPELINE_REGISTRY

    from .srgan.pipeline_srgan import SuperResolutionPipeline

    PIPELINE_REGISTRY.register_pipeline(
        "image-super-resolution",
        pipeline_class=SuperResolutionPipeline,
        pt_model=AutoModelForImageToImage,
        type="image",
    )


class AfterImport(MetaPathFinder):
    """Runs a function once, right after the module it belongs to has been imported."""

    def __init__(self, functions: dict[str, Callable[[], None]]):
        self.functions = functions

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        if name not in self.functions:
            return None
        function = self.functions.pop(name)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_register(module):
            execute(module)
            function()

        spec.loader.exec_module = execute_and_register
        return spec


def register_families() -> None:
    """Register the families with what transformers has imported so far now, and with the rest when it comes."""
    functions = {
        "transformers.models.auto.configuration_auto": register_configs,
        "transformers.models.auto.modeling_auto": register_models,
        "transformers.models.auto.image_processing_auto": register_image_processors,
        "transformers.pipelines": register_pipelines,
    }
    sys.meta_path.insert(0, AfterImport({name: f for name, f in functions.items() if name not in sys.modules}))
    for name, function in functions.items():
        if name in sys.modules:
            function()
