"""The public names, for type checkers and editors; `__init__.py` imports each when it is first used."""

from .api.compression import prune as prune
from .api.compression import push as push
from .api.compression import quantize as quantize
from .api.evaluation import evaluate as evaluate
from .api.images import attack as attack
from .api.images import explain as explain
from .api.results import Attacked as Attacked
from .api.results import SavedModel as SavedModel
from .api.training import distill as distill
from .api.training import train_classifier as train_classifier
from .api.training import train_segmenter as train_segmenter
from .api.training import train_superres as train_superres
from .compression.config import ClassifierPruneConfig as ClassifierPruneConfig
from .compression.config import SuperResPruneConfig as SuperResPruneConfig
from .compression.fold import fold as fold
from .compression.recipe import prune_and_train as prune_and_train
from .data.datasets.classification import load_image_dataset as load_image_dataset
from .data.datasets.expand import expand_dataset as expand_dataset
from .data.datasets.prepare import prepare_images as prepare_images
from .data.datasets.samples import sample_dataset as sample_dataset
from .data.datasets.samples import sample_photos as sample_photos
from .data.datasets.segmentation import load_mask_dataset as load_mask_dataset
from .data.image_source import load_image as load_image
from .data.io.images import read_image as read_image
from .data.io.images import read_photo as read_photo
from .data.io.video import read_frames as read_frames
from .data.io.video import write_frames as write_frames
from .data.transforms.augment import FreshAugmentation as FreshAugmentation
from .data.transforms.augmentation import Augmentation as Augmentation
from .data.transforms.augmentation import MaskAugmentation as MaskAugmentation
from .hub.checkpoints import checkpoint as checkpoint
from .hub.checkpoints import list_checkpoints as list_checkpoints
from .hub.loading import LoadedModel as LoadedModel
from .hub.loading import load_model as load_model
from .hub.memory import forget_models as forget_models
from .inspection.explain import attention_rollout as attention_rollout
from .inspection.explain import explain_image as explain_image
from .inspection.explain import grad_cam as grad_cam
from .metrics.auroc import auroc as auroc
from .metrics.flicker import flicker as flicker
from .metrics.flicker import static_pixels as static_pixels
from .models.cnn.configuration_cnn import CNNConfig as CNNConfig
from .models.cnn.configuration_cnn import CNNSegmentationConfig as CNNSegmentationConfig
from .models.cnn.modeling_cnn import CNNBackbone as CNNBackbone
from .models.cnn.modeling_cnn import CNNForImageClassification as CNNForImageClassification
from .models.cnn.modeling_cnn import CNNModel as CNNModel
from .models.cnn.modeling_cnn_segmentation import CNNForSemanticSegmentation as CNNForSemanticSegmentation
from .models.image_processing_classification import ImageClassificationProcessor as ImageClassificationProcessor
from .models.image_processing_segmentation import ImageSegmentationProcessor as ImageSegmentationProcessor
from .models.srgan.configuration_srgan import SRGANConfig as SRGANConfig
from .models.srgan.image_processing_srgan import SRGANImageProcessor as SRGANImageProcessor
from .models.srgan.modeling_srgan import SRGANDiscriminator as SRGANDiscriminator
from .models.srgan.modeling_srgan import SRGANForImageSuperResolution as SRGANForImageSuperResolution
from .models.srgan.modeling_srgan import SRGANModel as SRGANModel
from .models.srgan.pipeline_srgan import SuperResolutionPipeline as SuperResolutionPipeline
from .models.vit.configuration_vit import VisionTransformerConfig as VisionTransformerConfig
from .models.vit.configuration_vit import VisionTransformerSegmentationConfig as VisionTransformerSegmentationConfig
from .models.vit.convert import convert_vit as convert_vit
from .models.vit.modeling_vit import VisionTransformerForImageClassification as VisionTransformerForImageClassification
from .models.vit.modeling_vit import VisionTransformerModel as VisionTransformerModel
from .models.vit.modeling_vit_segmentation import (
    VisionTransformerForSemanticSegmentation as VisionTransformerForSemanticSegmentation,
)
from .publishing.cards.write import write_card as write_card
from .publishing.push import push_folder as push_folder
from .publishing.push import push_to_hub as push_to_hub
from .records import ClassifierFigures as ClassifierFigures
from .records import SegmenterFigures as SegmenterFigures
from .records import UpscalerFigures as UpscalerFigures
from .robustness.attacks.apgd import apgd as apgd
from .robustness.attacks.gradient import fgsm as fgsm
from .robustness.attacks.gradient import pgd as pgd
from .robustness.attacks.square import square as square
from .robustness.attacks.threat import PixelClassifier as PixelClassifier
from .robustness.attacks.worst_case import worst_case as worst_case
from .robustness.corruptions import corrupt as corrupt
from .robustness.evaluate import evaluate_robustness as evaluate_robustness
from .tasks.anomaly.damage import damage as damage
from .tasks.anomaly.detect import load_detector as load_detector
from .tasks.anomaly.gan import AnomalyDetector as AnomalyDetector
from .tasks.anomaly.gan import fit_detector as fit_detector
from .tasks.anomaly.patchcore import PatchCore as PatchCore
from .tasks.anomaly.patchcore import PatchCoreConfig as PatchCoreConfig
from .tasks.anomaly.patchcore import fit_patchcore as fit_patchcore
from .tasks.anomaly.patchcore import save_patchcore as save_patchcore
from .tasks.classification.binary import BinaryTest as BinaryTest
from .tasks.classification.binary import evaluate_binary as evaluate_binary
from .tasks.classification.calibrate import calibrate as calibrate
from .tasks.classification.config import ClassifierTrainingConfig as ClassifierTrainingConfig
from .tasks.classification.evaluate import evaluate_classifier as evaluate_classifier
from .tasks.classification.predict import Classification as Classification
from .tasks.classification.predict import classify as classify
from .tasks.classification.start import load_start as load_start
from .tasks.classification.transfer import add_lora as add_lora
from .tasks.distill import Distiller as Distiller
from .tasks.segmentation.config import SegmenterTrainingConfig as SegmenterTrainingConfig
from .tasks.segmentation.evaluate import evaluate_segmenter as evaluate_segmenter
from .tasks.segmentation.predict import Segmentation as Segmentation
from .tasks.segmentation.predict import segment as segment
from .tasks.segmentation.start import load_segmenter as load_segmenter
from .tasks.super_resolution.config import SuperResTrainingConfig as SuperResTrainingConfig
from .tasks.super_resolution.evaluate import evaluate_superres as evaluate_superres
from .tasks.super_resolution.files import upscale_file as upscale_file
from .tasks.super_resolution.perceptual import perceptual_distance as perceptual_distance
from .tasks.super_resolution.upscale import Upscaling as Upscaling
from .tasks.super_resolution.upscale import load_upscaler as load_upscaler
from .tasks.super_resolution.upscale import upscale as upscale
from .tasks.super_resolution.video import upscale_video as upscale_video
from .tasks.video.clips import camera_move as camera_move
from .tasks.video.shots import key_frames as key_frames
from .tasks.video.shots import shot_boundaries as shot_boundaries
from .tasks.video.shots import video_features as video_features
from .tasks.video.summarize import summarize_video as summarize_video

__version__: str

__all__ = [
    "AnomalyDetector",
    "Attacked",
    "Augmentation",
    "BinaryTest",
    "CNNBackbone",
    "CNNConfig",
    "CNNForImageClassification",
    "CNNForSemanticSegmentation",
    "CNNModel",
    "CNNSegmentationConfig",
    "Classification",
    "ClassifierFigures",
    "ClassifierPruneConfig",
    "ClassifierTrainingConfig",
    "Distiller",
    "FreshAugmentation",
    "ImageClassificationProcessor",
    "ImageSegmentationProcessor",
    "LoadedModel",
    "MaskAugmentation",
    "PatchCore",
    "PatchCoreConfig",
    "PixelClassifier",
    "SRGANConfig",
    "SRGANDiscriminator",
    "SRGANForImageSuperResolution",
    "SRGANImageProcessor",
    "SRGANModel",
    "SavedModel",
    "Segmentation",
    "SegmenterFigures",
    "SegmenterTrainingConfig",
    "SuperResPruneConfig",
    "SuperResTrainingConfig",
    "SuperResolutionPipeline",
    "UpscalerFigures",
    "Upscaling",
    "VisionTransformerConfig",
    "VisionTransformerForImageClassification",
    "VisionTransformerForSemanticSegmentation",
    "VisionTransformerModel",
    "VisionTransformerSegmentationConfig",
    "__version__",
    "add_lora",
    "apgd",
    "attack",
    "attention_rollout",
    "auroc",
    "calibrate",
    "camera_move",
    "checkpoint",
    "classify",
    "convert_vit",
    "corrupt",
    "damage",
    "distill",
    "evaluate",
    "evaluate_binary",
    "evaluate_classifier",
    "evaluate_robustness",
    "evaluate_segmenter",
    "evaluate_superres",
    "expand_dataset",
    "explain",
    "explain_image",
    "fgsm",
    "fit_detector",
    "fit_patchcore",
    "flicker",
    "fold",
    "forget_models",
    "grad_cam",
    "key_frames",
    "list_checkpoints",
    "load_detector",
    "load_image",
    "load_image_dataset",
    "load_mask_dataset",
    "load_model",
    "load_segmenter",
    "load_start",
    "load_upscaler",
    "perceptual_distance",
    "pgd",
    "prepare_images",
    "prune",
    "prune_and_train",
    "push",
    "push_folder",
    "push_to_hub",
    "quantize",
    "read_frames",
    "read_image",
    "read_photo",
    "sample_dataset",
    "sample_photos",
    "save_patchcore",
    "segment",
    "shot_boundaries",
    "square",
    "static_pixels",
    "summarize_video",
    "train_classifier",
    "train_segmenter",
    "train_superres",
    "upscale",
    "upscale_file",
    "upscale_video",
    "video_features",
    "worst_case",
    "write_card",
    "write_frames",
]
