"""hfvision: image models the Hugging Face way, from training to serving.

Importing this package registers its model families with transformers' Auto classes and the task
`image-super-resolution` with its pipelines. Everything else is imported when it is first used.
"""

from importlib import import_module

from .models.registry import register_families

__version__ = "0.1.0"

PUBLIC_NAMES = {
    "AnomalyDetector": "tasks.anomaly.gan",
    "Augmentation": "data.transforms.augment",
    "CNNBackbone": "models.cnn.modeling_cnn",
    "CNNConfig": "models.cnn.configuration_cnn",
    "CNNForImageClassification": "models.cnn.modeling_cnn",
    "CNNForSemanticSegmentation": "models.cnn.modeling_cnn_segmentation",
    "CNNModel": "models.cnn.modeling_cnn",
    "CNNSegmentationConfig": "models.cnn.configuration_cnn",
    "ClassifierPruneConfig": "compression.recipe",
    "ClassifierTrainingConfig": "tasks.classification.train",
    "Distiller": "tasks.classification.distill",
    "FreshAugmentation": "data.transforms.augment",
    "ImageClassificationProcessor": "models.image_processing_classification",
    "ImageSegmentationProcessor": "models.image_processing_segmentation",
    "PixelClassifier": "robustness.attacks.threat",
    "MaskAugmentation": "data.datasets.mask_crops",
    "SRGANConfig": "models.srgan.configuration_srgan",
    "SRGANDiscriminator": "models.srgan.modeling_srgan",
    "SRGANForImageSuperResolution": "models.srgan.modeling_srgan",
    "SRGANImageProcessor": "models.srgan.image_processing_srgan",
    "SRGANModel": "models.srgan.modeling_srgan",
    "SegmenterTrainingConfig": "tasks.segmentation.train",
    "SuperResPruneConfig": "compression.recipe",
    "SuperResolutionPipeline": "models.srgan.pipeline_srgan",
    "SuperResTrainingConfig": "tasks.super_resolution.config",
    "Upscaling": "tasks.super_resolution.upscale",
    "VisionTransformerConfig": "models.vit.configuration_vit",
    "VisionTransformerForImageClassification": "models.vit.modeling_vit",
    "VisionTransformerForSemanticSegmentation": "models.vit.modeling_vit_segmentation",
    "VisionTransformerModel": "models.vit.modeling_vit",
    "VisionTransformerSegmentationConfig": "models.vit.configuration_vit",
    "add_lora": "tasks.classification.transfer",
    "apgd": "robustness.attacks.apgd",
    "attention_rollout": "inspection.explain",
    "auroc": "metrics.auroc",
    "calibrate": "tasks.classification.calibrate",
    "camera_move": "tasks.video.clips",
    "checkpoint": "hub.checkpoints",
    "convert_vit": "models.vit.convert",
    "corrupt": "robustness.corruptions",
    "damage": "tasks.anomaly.damage",
    "evaluate_binary": "tasks.classification.binary",
    "evaluate_classifier": "tasks.classification.evaluate",
    "evaluate_robustness": "robustness.evaluate",
    "evaluate_segmenter": "tasks.segmentation.evaluate",
    "evaluate_superres": "tasks.super_resolution.evaluate",
    "expand_dataset": "data.datasets.expand",
    "explain_image": "inspection.explain",
    "fgsm": "robustness.attacks.gradient",
    "fit_detector": "tasks.anomaly.gan",
    "flicker": "metrics.flicker",
    "fold": "compression.fold",
    "grad_cam": "inspection.explain",
    "key_frames": "tasks.video.shots",
    "list_checkpoints": "hub.checkpoints",
    "load_detector": "tasks.anomaly.gan",
    "load_image_dataset": "data.datasets.classification",
    "load_mask_dataset": "data.datasets.segmentation",
    "load_model": "hub.loading",
    "load_segmenter": "tasks.segmentation.train",
    "load_start": "tasks.classification.transfer",
    "load_upscaler": "tasks.super_resolution.upscale",
    "pgd": "robustness.attacks.gradient",
    "prepare_images": "data.datasets.prepare",
    "prune_and_train": "compression.recipe",
    "push_folder": "publishing.push",
    "push_to_hub": "publishing.push",
    "quantize": "compression.quantize",
    "read_frames": "data.io.video",
    "read_image": "data.io.images",
    "read_photo": "data.io.images",
    "sample_dataset": "data.datasets.samples",
    "sample_photos": "data.datasets.samples",
    "shot_boundaries": "tasks.video.shots",
    "segment": "tasks.segmentation.predict",
    "square": "robustness.attacks.square",
    "static_pixels": "metrics.flicker",
    "summarize_video": "tasks.video.summarize",
    "train_classifier": "tasks.classification.train",
    "train_segmenter": "tasks.segmentation.train",
    "train_superres": "tasks.super_resolution.train",
    "upscale": "tasks.super_resolution.upscale",
    "upscale_file": "tasks.super_resolution.files",
    "upscale_video": "tasks.super_resolution.video",
    "video_features": "tasks.video.shots",
    "worst_case": "robustness.attacks.worst_case",
    "write_card": "publishing.cards.write",
    "write_frames": "data.io.video",
}


def __getattr__(name: str):
    if name not in PUBLIC_NAMES:
        raise AttributeError(f"module 'hfvision' has no attribute {name!r}")
    return getattr(import_module(f".{PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC_NAMES])


__all__ = ["__version__", *PUBLIC_NAMES]

register_families()
