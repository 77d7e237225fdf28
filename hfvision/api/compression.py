"""Smaller models, and models for others."""

from pathlib import Path
from typing import Any, Literal, cast

from ..compression.config import ClassifierPruneConfig, SuperResPruneConfig
from ..compression.quantize import Method
from ..compression.quantize import quantize as quantize_folder
from ..compression.recipe import parse_prune_options, prune_and_train
from ..hub.files import resolve_model
from ..hub.loading import ModelLike
from ..hub.memory import model_folder
from ..publishing.push import Pushed, push_folder
from ..utils.types import DataSource, StrPath, as_names
from .results import SavedModel


def quantize(
    model: ModelLike,
    data: DataSource | None = None,
    *,
    out: StrPath,
    method: Method = "openvino",
    bits: Literal[8, 4] = 8,
    images: int = 300,
    force: bool = False,
    **options: Any,
) -> SavedModel:
    """Store a model in fewer bits: smaller, and with OpenVINO much faster on CPUs.

    >>> hfvision.quantize("cnn-cifar10-small", out=runs / "bf16", method="bf16")
    SavedModel(...)

    Args:
        model: Hub id, folder or name of a shipped checkpoint, or a loaded model. It is not changed.
        data: to calibrate with, needed for `openvino`, and to measure what it costs: labelled images for a classifier,
            photographs for an upscaler.
        out: folder to write.
        method, bits, images, force, options: see [`compression.quantize.quantize`].

    Raises:
        FileNotFoundError, ImportError, ValueError, OSError: as [`compression.quantize.quantize`].
    """
    with model_folder(model) as name:
        calibration = None if data is None else as_names(data)
        settings: dict[str, Any] = {"method": method, "bits": bits, "images": images, "force": force} | options
        return SavedModel(Path(out), quantize_folder(name, Path(out), calibration=calibration, **settings))


def prune(model: ModelLike, data: DataSource, *, out: StrPath, **options: Any) -> SavedModel:
    """Cut channels and heads out of a model and train what is left beside its parent.

    >>> hfvision.prune("cnn-cifar10-small", few_cifar, out=runs / "pruned", target_params=0.9, finetune=False,
    ...     importance="magnitude")
    SavedModel(...)

    Args:
        model: Hub id, folder or name of a shipped checkpoint, or a loaded model. It is not changed.
        data: what to train on, as for a training of such a model.
        out: folder to write.
        options: fields of `ClassifierPruneConfig` or `SuperResPruneConfig`, as `target_params=0.5` and `epochs=10`.

    Raises:
        TypeError: for an unknown option.
        FileNotFoundError, ValueError: as [`compression.recipe.prune_and_train`].
    """
    with model_folder(model) as name:
        base = parse_prune_options(name, ["--target-params", "0.5", "--data", "photos"])
        kind = SuperResPruneConfig if isinstance(base, SuperResPruneConfig) else ClassifierPruneConfig
        chosen = {key: getattr(base, key) for key in ("validation", "validation_group", "seed") if hasattr(base, key)}
        config = kind(**chosen | {"model": name, "data": cast(Any, data), "out": out} | options)
        return SavedModel(config.out, prune_and_train(config))


def push(
    model: ModelLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    with_space: bool = False,
    token: str | None = None,
) -> dict[str, Pushed]:
    """Push a model with its processor, code, record and card to the Hub, in one commit.

    >>> hfvision.push(runs / "clothes", "tester/clothes")["model"].new
    True

    Args:
        model: folder or name of a shipped checkpoint, or a loaded model.
        repo_id, private, revision, create_pr, with_space, token: see [`push_folder`].

    Raises:
        FileNotFoundError, ValueError, ConnectionError, PermissionError, HfHubHTTPError: as [`push_folder`].
    """
    options: Any = {"private": private, "revision": revision, "create_pr": create_pr, "with_space": with_space}
    with model_folder(model) as name:
        return push_folder(resolve_model(name), repo_id, token=token, **options)
