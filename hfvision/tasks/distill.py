"""Knowledge distillation: a student learns from a teacher's predictions or from its features."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate, kl_div, log_softmax, mse_loss
from torchvision.transforms.v2.functional import grayscale_to_rgb, resize, rgb_to_grayscale, to_dtype
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.datasets.class_names import class_names, match_classes
from ..data.transforms.normalize import Normalize
from ..engine.precision import choose_precision
from ..hub.loading import load_model

PROJECTIONS = "distillation_projections"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student), both softened by the temperature T (Hinton et al. 2015, arXiv:1503.02531).

    Args:
        student_logits, teacher_logits: float (N, C).
        temperature: above 0; the factor T² keeps the gradient's size.

    Returns:
        The mean over the images, a float scalar.
    """
    student = log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = log_softmax(teacher_logits.float() / temperature, dim=-1)
    return temperature**2 * kl_div(student, teacher, reduction="batchmean", log_target=True)


def hard_distillation_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy with the class that the teacher predicts (Touvron et al. 2021, arXiv:2012.12877, equation 3).

    Args:
        student_logits, teacher_logits: float (N, C).
    """
    return cross_entropy(student_logits, teacher_logits.argmax(-1))


def feature_matching_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], projections: Iterable[nn.Module]
) -> Tensor:
    """The error of the student's projected features (FitNets: Romero et al. 2015, arXiv:1412.6550).

    For each pair the mean squared error over the mean square of the teacher's features, so that the scale of a layer
    does not matter; then the mean over the pairs.

    Args:
        student_features, teacher_features: pairs of feature maps (N, C, H, W) or tokens (N, T, C). Maps of different
            sides are averaged to the smaller one; other features with different numbers of positions to one position.
        projections: one learned module a pair, from the student's last dimension C to the teacher's.
    """
    losses = []
    for student, teacher, projection in zip(student_features, teacher_features, projections, strict=True):
        student, teacher = align_positions(student, teacher)
        losses.append(mse_loss(projection(student).float(), teacher.float()) / teacher.float().square().mean())
    return torch.stack(losses).mean()


def align_positions(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Two feature tensors as (N, positions, C) with the same positions."""
    if left.ndim == right.ndim == 4:
        side = (min(left.shape[2], right.shape[2]), min(left.shape[3], right.shape[3]))
        left, right = adaptive_avg_pool2d(left, side), adaptive_avg_pool2d(right, side)
    left, right = (x.flatten(2).transpose(1, 2) if x.ndim == 4 else x for x in (left, right))
    if left.shape[1] != right.shape[1]:
        left, right = left.mean(1, keepdim=True), right.mean(1, keepdim=True)
    return left, right


def pixel_logits(logits: Tensor, counted: Tensor) -> Tensor:
    """The logits of the pixels that count, (pixels, C), from logits (N, C, h, w), which are brought to their size.

    Args:
        logits: float (N, C, h, w).
        counted: bool (N, H, W).
    """
    if logits.shape[-2:] != counted.shape[-2:]:
        logits = interpolate(logits, size=counted.shape[-2:], mode="bilinear", align_corners=False)
    return logits.movedim(1, -1)[counted]


def hints(hidden_states: Sequence[Tensor]) -> list[Tensor]:
    """The hidden states that are matched: the middle and the last one."""
    return [hidden_states[len(hidden_states) // 2], hidden_states[-1]]


@dataclass
class Distiller:
    """The loss of a student with a frozen teacher.

    Args:
        teacher: a classifier or segmenter; it is put into evaluation mode and gets no gradient.
        processor: the teacher's; images are normalized and resized as by it.
        order: the teacher's class for each class of the student.
        distillation: `soft` or `hard` predictions of the teacher, or its `features`.
        weight: of the teacher's part of the loss, 0 to 1.
        temperature: of both softmaxes, for `soft`.
        precision: of the teacher: `no` (its own dtype), `bf16` or `fp16`.
        projections: for `features`; [`Distiller.attach`] makes them and adds them to the student.
        resize: bring images to the teacher's size; segmenters take them as they are.

    Raises:
        ValueError: for a weight or temperature out of range.
    """

    teacher: PreTrainedModel
    processor: BaseImageProcessor
    order: list[int]
    distillation: Literal["soft", "hard", "features"] = "soft"
    weight: float = 0.5
    temperature: float = 2.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    projections: nn.ModuleList | None = None
    resize: bool = True

    def __post_init__(self):
        if not 0 <= self.weight <= 1:
            raise ValueError(f"distillation_weight must be from 0 to 1, got {self.weight}.")
        if not self.temperature > 0:
            raise ValueError(f"distillation_temperature must be above 0, got {self.temperature}.")
        self.teacher.eval().requires_grad_(False).to(
            memory_format=torch.channels_last  # pyright: ignore[reportCallIssue]  # the stub loses self
        )
        self.normalize = Normalize.from_processor(self.processor)
        example = self.processor(Image.new("RGB", (64, 64)), return_tensors="pt")["pixel_values"]
        self.size = list(example.shape[-2:])

    @classmethod
    def from_config(
        cls, config: Any, model: PreTrainedModel, names: Sequence[str], task: str = "image-classification"
    ) -> "Distiller":
        """From a training's options `teacher`, `distillation`, `distillation_weight`, `distillation_temperature`,
        `mixed_precision` and `trust_remote_code`.

        Args:
            config: the options.
            model: the student; for `features` it gets projections to train.
            names: of the student's classes.
            task: of both, a task of transformers' pipelines. Only classifiers get images of their own size.

        Raises:
            FileNotFoundError: if there is no such teacher.
            ValueError: if it cannot be loaded, or its classes are not the student's.
        """
        teacher, processor = load_model(config.teacher, task, trust_remote_code=config.trust_remote_code)
        known = class_names(teacher.config)
        try:
            order = match_classes(known, names)
        except ValueError as error:
            raise ValueError(f"{config.teacher} cannot be the teacher. {error}") from error
        distiller = cls(
            teacher,
            processor,
            order,
            distillation=config.distillation,
            weight=config.distillation_weight,
            temperature=config.distillation_temperature,
            precision=choose_precision(config.mixed_precision),
            resize=task == "image-classification",
        )
        if config.distillation == "features":
            distiller.attach(model)
        return distiller

    def attach(self, model: PreTrainedModel) -> None:
        """Add the projections of its features to `model` as the submodule `distillation_projections`, so that they
        are trained and checkpointed with it; `save_pretrained` leaves them out. [`Distiller.release`] removes them.

        Raises:
            ValueError: if student or teacher give no hidden states.
        """
        device = next(model.parameters()).device
        side = getattr(model.config, "image_size", None) or 224
        height, width = (side, side) if isinstance(side, int) else side
        images = torch.zeros(1, getattr(model.config, "num_channels", 3), height, width, device=device)
        training = model.training
        with torch.no_grad():
            student = model.eval()(pixel_values=images, output_hidden_states=True).hidden_states
        model.train(training)
        teacher = self.teacher_outputs(images).hidden_states
        if not student or not teacher:
            raise ValueError("distillation='features' needs a student and a teacher that give hidden states.")
        widths = [[x.shape[1] if x.ndim == 4 else x.shape[-1] for x in hints(states)] for states in (student, teacher)]
        self.projections = nn.ModuleList(nn.Linear(*pair) for pair in zip(*widths, strict=True)).to(device)
        model.add_module(PROJECTIONS, self.projections)
        names = [f"{PROJECTIONS}.{name}" for name in self.projections.state_dict()]
        ignored = [*(getattr(model, "_keys_to_ignore_on_save", None) or []), *names]
        model._keys_to_ignore_on_save = ignored  # pyright: ignore[reportArgumentType,reportAttributeAccessIssue]

    def release(self, model: nn.Module) -> None:
        """Remove the projections from `model`, if it has any."""
        if PROJECTIONS in dict(model.named_children()):
            delattr(model, PROJECTIONS)
            del model._keys_to_ignore_on_save

    @torch.no_grad()
    def teacher_outputs(self, images: Tensor) -> Any:
        """The teacher's outputs for `images`, uint8 or float in [0, 1], (N, C, H, W), of any size.

        Gray images are converted to RGB for a teacher of color images, and vice versa.
        """
        if self.teacher.device != images.device:
            self.teacher.to(images.device)  # pyright: ignore[reportArgumentType]  # the stub loses self
        images = to_dtype(images, torch.float32, scale=True)
        channels = len(self.normalize.mean)
        if images.shape[1] != channels:
            images = grayscale_to_rgb(images) if channels == 3 else rgb_to_grayscale(images)
        if self.resize and list(images.shape[-2:]) != self.size:
            images = resize(images, self.size, antialias=True)
        pixel_values = self.normalize(images).to(self.teacher.dtype, memory_format=torch.channels_last)
        dtype = AUTOCAST.get(self.precision)
        with torch.autocast(images.device.type, dtype) if dtype else nullcontext():
            return self.teacher(pixel_values=pixel_values, output_hidden_states=self.distillation == "features")

    def __call__(
        self,
        net: nn.Module,
        pixel_values: Tensor,
        images: Tensor,
        label_loss: Callable[[Tensor], Tensor],
        counted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(1 - weight) · `label_loss(logits)` + weight · the teacher's loss.

        A student with a distillation token learns the labels with one head and the teacher's predictions with the
        other.

        Args:
            net: the student, prepared or not.
            pixel_values: the student's input, float (N, C, H, W), normalized for it.
            images: the same images before normalization, uint8 or float in [0, 1].
            label_loss: from logits to the loss on the labels.
            counted: of segmenters bool (N, H, W), the pixels whose predictions are compared.

        Returns:
            The loss and the student's logits, float (N, classes) or (N, classes, H, W).
        """
        answers = self.teacher_outputs(images)
        if self.projections is not None:
            student = net(pixel_values=pixel_values, output_hidden_states=True)
            by_teacher = feature_matching_loss(
                hints(student.hidden_states), hints(answers.hidden_states), list(self.projections)
            )
            by_labels = label_loss(student.logits)
        else:
            student = net(pixel_values=pixel_values)
            two_heads = "distillation_logits" in student
            learner = student.distillation_logits if two_heads else student.logits
            targets = answers.logits[:, self.order]
            if counted is not None:
                learner, targets = pixel_logits(learner, counted), pixel_logits(targets, counted)
            by_teacher = (
                soft_target_loss(learner, targets, self.temperature)
                if self.distillation == "soft"
                else hard_distillation_loss(learner, targets)
            )
            by_labels = label_loss(student.cls_logits if two_heads else student.logits)
        return (1 - self.weight) * by_labels + self.weight * by_teacher, student.logits
