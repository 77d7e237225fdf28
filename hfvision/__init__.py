"""hfvision: image models the Hugging Face way, from training to serving.

Importing this package registers its model families with transformers' Auto classes and the task
`image-super-resolution` with its pipelines. Everything else is imported when it is first used.
"""

from importlib import import_module

from .models.register import register_families

__version__ = "0.1.0"

PUBLIC_NAMES = {
    "AnomalyDetector": "anomaly",
    "Augmentation": "data.augment",
    "CNNBackbone": "models.cnn.modeling_cnn",
    "CNNConfig": "models.cnn.configuration_cnn",
    "CNNForImageClassification": "models.cnn.modeling_cnn",
    "CNNForSemanticSegmentation": "models.cnn.modeling_cnn_segmentation",
    "CNNModel": "models.cnn.modeling_cnn",
    "CNNSegmentationConfig": "models.cnn.configuration_cnn",
    "ClassifierPruneConfig": "compression.recipe",
    "ClassifierTrainingConfig": "training.classify",
    "Distiller": "training.distill",
    "FreshAugmentation": "data.augment",
    "ImageClassificationProcessor": "models.image_processing_classification",
    "ImageSegmentationProcessor": "models.image_processing_segmentation",
    "PixelClassifier": "robustness.threat",
    "MaskAugmentation": "data.mask_crops",
    "SRGANConfig": "models.srgan.configuration_srgan",
    "SRGANDiscriminator": "models.srgan.modeling_srgan",
    "SRGANForImageSuperResolution": "models.srgan.modeling_srgan",
    "SRGANImageProcessor": "models.srgan.image_processing_srgan",
    "SRGANModel": "models.srgan.modeling_srgan",
    "SegmenterTrainingConfig": "training.segment",
    "SuperResPruneConfig": "compression.recipe",
    "SuperResolutionPipeline": "models.srgan.pipeline_srgan",
    "SuperResTrainingConfig": "training.superres",
    "Upscaling": "upscale",
    "VisionTransformerConfig": "models.vit.configuration_vit",
    "VisionTransformerForImageClassification": "models.vit.modeling_vit",
    "VisionTransformerForSemanticSegmentation": "models.vit.modeling_vit_segmentation",
    "VisionTransformerModel": "models.vit.modeling_vit",
    "VisionTransformerSegmentationConfig": "models.vit.configuration_vit",
    "add_lora": "training.transfer",
    "apgd": "robustness.apgd",
    "attention_rollout": "explain",
    "auroc": "metrics.auroc",
    "calibrate": "training.calibrate",
    "camera_move": "data.clips",
    "checkpoint": "checkpoints",
    "convert_vit": "models.vit.convert",
    "corrupt": "robustness.corruptions",
    "damage": "data.damage",
    "evaluate_binary": "training.binary",
    "evaluate_classifier": "training.evaluate",
    "evaluate_robustness": "robustness.evaluate",
    "evaluate_segmenter": "segmentation.evaluate",
    "evaluate_superres": "superres.evaluate",
    "expand_dataset": "data.expand",
    "explain_image": "explain",
    "fgsm": "robustness.attacks",
    "fit_detector": "anomaly",
    "flicker": "metrics.flicker",
    "fold": "compression.fold",
    "grad_cam": "explain",
    "key_frames": "shots",
    "list_checkpoints": "checkpoints",
    "load_detector": "anomaly",
    "load_image_dataset": "data.load",
    "load_mask_dataset": "data.masks",
    "load_segmenter": "training.segment",
    "load_start": "training.transfer",
    "load_upscaler": "upscale",
    "pgd": "robustness.attacks",
    "prepare_images": "data.prepare",
    "prune_and_train": "compression.recipe",
    "push_folder": "hub",
    "push_to_hub": "hub",
    "quantize": "compression.quantize",
    "read_frames": "video",
    "read_image": "data.images",
    "read_photo": "data.images",
    "sample_dataset": "data.load",
    "sample_photos": "data.load",
    "shot_boundaries": "shots",
    "segment": "segmentation.predict",
    "square": "robustness.square",
    "static_pixels": "metrics.flicker",
    "summarize_video": "summarize",
    "train_classifier": "training.classify",
    "train_segmenter": "training.segment",
    "train_superres": "training.superres",
    "upscale_file": "upscale",
    "upscale_video": "film",
    "video_features": "shots",
    "worst_case": "robustness.worst_case",
    "write_card": "cards",
    "write_frames": "video",
}


def __getattr__(name: str):
    if name not in PUBLIC_NAMES:
        raise AttributeError(f"module 'hfvision' has no attribute {name!r}")
    return getattr(import_module(f".{PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC_NAMES])


__all__ = ["__version__", *PUBLIC_NAMES]

register_families()
