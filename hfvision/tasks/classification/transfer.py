"""Transfer learning: frozen parts, low-rank adapters, and layer numbers for layer-wise learning rate decay."""

import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar, cast

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

Model = TypeVar("Model", bound=nn.Module)


def head_names(model: nn.Module) -> list[str]:
    """The modules of a classifier that come after its backbone and have weights, by name."""
    base = getattr(model, "base_model_prefix", "")
    names = [name for name, child in model.named_children() if name != base and list(child.parameters())]
    if names:
        return names
    if hasattr(getattr(model, base, None), "get_classifier"):  # transformers' wrapper of timm models
        head = getattr(model, base).get_classifier()
        names = [name for name, module in model.named_modules() if module is head]
    if not names:
        raise ValueError(f"The head of a {type(model).__name__} is not known.")
    return names


def is_in(name: str, modules: Sequence[str]) -> bool:
    """Whether a parameter or module is one of `modules` or inside one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def freeze(model: nn.Module, what: Literal["none", "backbone"]) -> None:
    """Choose what trains: with `backbone` frozen only the head does (a linear probe), with `none` everything.

    Batch normalization layers of a frozen part keep their running statistics (see [`keep_frozen_statistics`]).

    Raises:
        ValueError: for another `what`, or a model whose head is not known.
    """
    if what not in ("none", "backbone"):
        raise ValueError(f"freeze must be 'none' or 'backbone', got {what!r}.")
    model.requires_grad_(True)
    if what == "backbone":
        head = head_names(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_in(name, head))
    keep_frozen_statistics(model)


def keep_frozen_statistics(model: Model) -> Model:
    """Keep every batch normalization layer whose weights are frozen in evaluation mode, also after `model.train()`.

    In training mode it would normalize by the batch and update its running statistics although it is frozen; adapters,
    which are saved without them, would then not reproduce the trained model. Layers that train are released.

    Returns:
        `model`.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            vars(module).pop("train", None)
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
                module.train = types.MethodType(stay_in_evaluation, module)
    return model


def stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    """A `train` that changes nothing."""
    return module


def add_lora(model: PreTrainedModel, rank: int, *, alpha: float | None = None, dora: bool = False) -> PeftModel:
    """Freeze `model` and add trainable low-rank matrices to the layers of its backbone; the head trains in full.

    All linear layers and convolutions get them (LoRA: Hu et al. 2022, arXiv:2106.09685; DoRA: Liu et al. 2024,
    arXiv:2402.09353), except grouped convolutions, which cannot be merged again, and, with DoRA, layers with outputs
    whose weights are all 0; these are frozen. Running statistics of batch normalization do not change, since adapters
    are saved without them.

    Args:
        model: any classifier.
        rank: of the matrices, at least 1.
        alpha: the matrices' product is scaled by `alpha / rank`; `rank` where not given.
        dora: also train the length of each output's weights.

    Returns:
        The model with adapters: `save_pretrained` writes these and the head alone, `PeftModel.from_pretrained(base,
        folder)` loads them, and `merge_and_unload()` gives a plain model with equal outputs.

    Raises:
        ValueError: for a rank below 1, or a backbone without such layers.
    """
    if rank < 1:
        raise ValueError(f"The rank of low-rank adapters must be at least 1, got {rank}.")
    head = head_names(model)
    targets = [
        name
        for name, module in model.named_modules()
        if not is_in(name, head)
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if dora:
        # DoRA divides by the length of each output's weights.
        weights = {name: model.get_parameter(f"{name}.weight").detach().flatten(1) for name in targets}
        zero = [name for name, weight in weights.items() if (weight.norm(dim=1) == 0).any()]
        targets = [name for name in targets if name not in zero]
        if zero:
            warnings.warn(
                f"No DoRA for layers with outputs whose weights are all 0: {', '.join(zero)}. They are frozen.",
                stacklevel=2,
            )
    if not targets:
        raise ValueError(f"The backbone of this {type(model).__name__} has no layers for low-rank adapters.")
    config = LoraConfig(
        r=rank,
        lora_alpha=cast(int, alpha or rank),  # which may be a float
        use_dora=dora,
        target_modules=targets,
        modules_to_save=head,
    )
    adapted = cast(PeftModel, get_peft_model(model, config))
    if dora:
        for module in adapted.modules():
            if isinstance(module, lora.Conv2d):
                module.register_forward_pre_hook(keep_contiguous)
    return keep_frozen_statistics(adapted)


def keep_contiguous(module: lora.Conv2d, inputs: Any) -> None:
    """Make the matrices contiguous: PEFT views them for DoRA, which fails for a model in channels_last."""
    for matrix in cast(Iterable[nn.Conv2d], module.lora_A.values()):
        matrix.weight.data = matrix.weight.data.contiguous()


def number_layers(model: nn.Module) -> None:
    """Give `model` the method `group_matcher`, by which timm's `layer_decay` finds the layer of each weight.

    A layer is one of timm's groups in a timm backbone, else a block that transformers can checkpoint
    (`GradientCheckpointingLayer`); what comes before the blocks is layer 0 and what comes after them the last.

    Raises:
        ValueError: for a model that has neither.
    """
    numbers = layer_numbers(model)
    vars(model)["group_matcher"] = lambda coarse=False: numbers.__getitem__


def layer_numbers(model: nn.Module) -> dict[str, int]:
    """The number of its layer, from 0 at the input, for each parameter by name."""
    names = [name for name, _ in model.named_parameters()]
    for prefix, module in model.named_modules():
        if hasattr(module, "group_matcher") and module is not model:
            matcher = cast(Callable[..., Any], module.group_matcher)
            inside = cast(dict[str, int], group_parameters(module, matcher(coarse=False), reverse=True))
            last = max(inside.values()) + 1
            return {name: inside.get(name.removeprefix(f"{prefix}."), last) for name in names}
    blocks: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, GradientCheckpointingLayer) and not is_in(name, blocks):
            blocks.append(name)
    if not blocks:
        raise ValueError(f"layer_decay does not know the layers of a {type(model).__name__}: leave it out.")
    numbers: dict[str, int] = {}
    blocks_began = False
    for name in names:
        block = next((number for number, block in enumerate(blocks, 1) if is_in(name, [block])), None)
        blocks_began = blocks_began or block is not None
        numbers[name] = block or (len(blocks) + 1 if blocks_began else 0)
    return numbers
