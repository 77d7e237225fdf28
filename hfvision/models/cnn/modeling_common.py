"""What the models of all families share: gradient checkpointing, frozen statistics, saving with code and a card.

Each family's folder holds an equal copy of this file, as the files of one folder travel to the Hub together.
"""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, initialization
from transformers.utils import logging

from .model_card import model_card

logger = logging.get_logger(__name__)


class FamilyPreTrainedModel(PreTrainedModel):
    """Base of every family.

    `auto_classes` is what `auto_map` in a saved config.json says; `pipeline_tag` is the Hub's word for what the model
    does, None for one without a pipeline.
    """

    auto_classes: dict[str, str] = {}
    pipeline_tag: str | None = "image-feature-extraction"

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **options: Any
    ) -> None:
        super()._set_gradient_checkpointing(enable, checkpoint_with_gradients(gradient_checkpointing_func), **options)

    def train(self, mode: bool = True):
        """As in PyTorch, but batch normalization whose weights are frozen stays in evaluation mode.

        Adapters (PEFT) are saved without running statistics: these must not change under a frozen network.
        """
        super().train(mode)
        for module in self.modules() if mode else ():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in transformers, with the code of every class of the family named in `auto_map`, and a model card."""
        if self._auto_class is not None:
            self.config.auto_map = dict(self.auto_classes)
        super().save_pretrained(save_directory, *args, **kwargs)
        self.write_model_card(save_directory, Path(save_directory).resolve().name)

    def _upload_modified_files(self, working_dir: str | os.PathLike, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        self.write_model_card(working_dir, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def write_model_card(self, folder: str | os.PathLike, name: str) -> None:
        """Write README.md unless there is one; transformers' empty template counts as none."""
        card = Path(folder) / "README.md"
        if card.exists() and "[More Information Needed]" not in card.read_text(encoding="utf-8"):
            return
        card.write_text(model_card(self, name), encoding="utf-8")


class EncoderPreTrainedModel(FamilyPreTrainedModel):
    """Base of the classifiers and segmenters, whose weights for color images become weights for grey ones."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; `num_channels=1` with `ignore_mismatched_sizes=True` makes a network for color images
        one for grey images: the weights of its first convolution are summed over the colors."""
        source, wants_report = pretrained_model_name_or_path, kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(source, *args, output_loading_info=True, **kwargs)
        model, report = loaded
        lost = [key for key, theirs, ours in report["mismatched_keys"] if theirs[1:2] == (3,) and ours[1:2] == (1,)]
        if lost and model.config.num_channels == 1:
            changed: dict[str, Any] = {"num_channels": 3}
            if "config" in kwargs:
                changed = {"config": copy.deepcopy(model.config)}
                changed["config"].num_channels = 3
            color = super().from_pretrained(source, *args, **(kwargs | changed))
            for key in lost:
                model.get_parameter(key).data.copy_(color.get_parameter(key).sum(1, keepdim=True))
            logger.warning(f"Summed over the colors, for grey images: {', '.join(lost)}.")
        return (model, report) if wants_report else model


def checkpoint_with_gradients(checkpoint_function: Callable) -> Callable:
    """`checkpoint_function`, and where that is re-entrant, for a block none of whose inputs has a gradient, too.

    Re-entrant checkpointing would silently give the weights of such a block no gradient: its input gets one.
    """
    if not getattr(checkpoint_function, "keywords", {}).get("use_reentrant"):
        return checkpoint_function

    def run(function: Callable, hidden_state: torch.Tensor, *inputs: Any) -> Any:
        has_gradient = any(isinstance(value, torch.Tensor) and value.requires_grad for value in inputs)
        if torch.is_grad_enabled() and not has_gradient and not hidden_state.requires_grad:
            hidden_state = hidden_state.detach().requires_grad_()
        return checkpoint_function(function, hidden_state, *inputs)

    return run


def initialize_batch_norm(norm: nn.BatchNorm2d) -> None:
    """Give batch normalization the values of a new one, where they were not loaded."""
    values = {
        norm.weight: initialization.ones_,
        norm.bias: initialization.zeros_,
        norm.running_mean: initialization.zeros_,
        norm.running_var: initialization.ones_,
        norm.num_batches_tracked: initialization.zeros_,
    }
    for tensor, initialize in values.items():
        if tensor is not None:
            initialize(tensor)
