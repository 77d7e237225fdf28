"""Registers the model families with transformers: Auto classes, pipelines, and the code that travels with weights."""

from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForImageToImage,
    AutoModelForSemanticSegmentation,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .cnn.configuration_cnn import CNNConfig, CNNSegmentationConfig
from .cnn.modeling_cnn import CNNBackbone, CNNForImageClassification, CNNModel
from .cnn.modeling_cnn_segmentation import CNNForSemanticSegmentation
from .image_processing_classification import ImageClassificationProcessor
from .image_processing_segmentation import ImageSegmentationProcessor
from .openvino_export import register_when_imported
from .srgan.configuration_srgan import SRGANConfig
from .srgan.image_processing_srgan import SRGANImageProcessor
from .srgan.modeling_srgan import SRGANDiscriminator, SRGANForImageSuperResolution, SRGANModel
from .srgan.pipeline_srgan import SuperResolutionPipeline
from .vit.configuration_vit import VisionTransformerConfig, VisionTransformerSegmentationConfig
from .vit.modeling_vit import VisionTransformerForImageClassification, VisionTransformerModel
from .vit.modeling_vit_segmentation import VisionTransformerForSemanticSegmentation

CLASSIFICATION = AutoModelForImageClassification
SUPER_RESOLUTION = AutoModelForImageToImage

AUTO_MODELS = {
    CNNConfig: {AutoModel: CNNModel, CLASSIFICATION: CNNForImageClassification, AutoBackbone: CNNBackbone},
    VisionTransformerConfig: {
        AutoModel: VisionTransformerModel,
        CLASSIFICATION: VisionTransformerForImageClassification,
    },
    SRGANConfig: {AutoModel: SRGANModel, SUPER_RESOLUTION: SRGANForImageSuperResolution},
    CNNSegmentationConfig: {AutoModelForSemanticSegmentation: CNNForSemanticSegmentation},
    VisionTransformerSegmentationConfig: {AutoModelForSemanticSegmentation: VisionTransformerForSemanticSegmentation},
}

IMAGE_PROCESSORS = {
    CNNConfig: ImageClassificationProcessor,
    VisionTransformerConfig: ImageClassificationProcessor,
    SRGANConfig: SRGANImageProcessor,
    CNNSegmentationConfig: ImageSegmentationProcessor,
    VisionTransformerSegmentationConfig: ImageSegmentationProcessor,
}


def register_families() -> None:
    """Make `AutoConfig`, `AutoModel…`, `AutoImageProcessor`, `pipeline` and optimum's OpenVINO exporter know the
    families of this package."""
    for config, models in AUTO_MODELS.items():
        AutoConfig.register(config.model_type, config)
        config.register_for_auto_class()
        for auto, model in models.items():
            auto.register(config, model)
            model.register_for_auto_class(auto.__name__)
    SRGANDiscriminator.register_for_auto_class("AutoModel")
    for config, processor in IMAGE_PROCESSORS.items():
        AutoImageProcessor.register(config, image_processor_classes={"torchvision": processor})
        processor.register_for_auto_class()
    PIPELINE_REGISTRY.register_pipeline(
        "image-super-resolution",
        pipeline_class=SuperResolutionPipeline,
        pt_model=SUPER_RESOLUTION,
        type="image",
    )
    register_when_imported()
