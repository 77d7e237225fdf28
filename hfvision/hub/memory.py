"""Models that are already in memory: loaded once for several calls, or written to a folder for what takes a folder."""

import copy
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from threading import RLock

import torch
from safetensors import safe_open
from torch import nn

from .checkpoints import list_checkpoints
from .files import commit_of, resolve_model
from .loading import LoadedModel, ModelLike, check_task, load_config, load_model, origin_of

KEPT = 4  # models, those used last
Stamp = tuple[tuple[str, int, int, int], ...] | str | None
_kept: OrderedDict[tuple[str, bool, bool], tuple[Stamp, LoadedModel]] = OrderedDict()
_lock = RLock()


def load_once(
    model: ModelLike, task: str | None = None, *, trust_remote_code: bool = False, float32: bool = False
) -> LoadedModel:
    """[`load_model`], with the models of the last calls kept: for callers that do not change what they get.

    A folder whose files have changed since (names, sizes, times), and a Hub id of another commit, are loaded anew. The
    four models used last stay in memory; [`forget_models`] frees them.

    Args:
        model, task, trust_remote_code: as for [`load_model`]; a model that is given is not kept.
        float32: computed in float32, whatever its weights are stored in; a given model in another type is copied.
    """
    if not isinstance(model, str | PathLike):
        return in_float32(load_model(model, task)) if float32 else load_model(model, task)
    model = fspath(model)
    with _lock:
        key, stamp = (model, trust_remote_code, float32), stamp_of(model, trust_remote_code)
        if key in _kept and _kept[key][0] == stamp:
            _kept.move_to_end(key)
            loaded = _kept[key][1]
            if task is not None:
                check_task(model, task, loaded.model.config, True)
            return loaded
        _kept.pop(key, None)
        if float32:
            loaded = in_float32(load_once(model, task, trust_remote_code=trust_remote_code))
        else:
            loaded = load_model(model, task, trust_remote_code=trust_remote_code)
        _kept[key] = stamp, loaded
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return loaded


def forget_models() -> None:
    """Free the models that [`load_once`] keeps."""
    with _lock:
        _kept.clear()


def stamp_of(model: str, trust_remote_code: bool) -> Stamp:
    """What changes when the files of a model do: of a folder their names, sizes and times, of the Hub the commit."""
    folder = Path(resolve_model(model))
    if not folder.is_dir():
        return commit_of(load_config(model, trust_remote_code=trust_remote_code))
    found = ((path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found)


def in_float32(loaded: LoadedModel) -> LoadedModel:
    """The model itself where it computes in float32 already, else a copy that does."""
    floats = [parameter.dtype for parameter in loaded.model.parameters() if parameter.is_floating_point()]
    if all(dtype == torch.float32 for dtype in floats):
        return loaded
    return loaded._replace(model=copy.deepcopy(loaded.model).float())


@contextmanager
def model_folder(model: ModelLike) -> Iterator[str]:
    """The name of a model for what takes a name or a folder.

    A loaded model whose weights are still those of the folder that it was loaded from is named by that folder; another
    one is written, with its image processor, to a folder that is removed at the end.
    """
    if isinstance(model, str | PathLike):
        yield fspath(model)
        return
    loaded = load_model(model)
    origin = origin_of(loaded.model)
    if origin and is_as_stored(loaded.model, origin):
        yield next((name for name, folder in list_checkpoints().items() if str(folder) == origin), origin)
        return
    with tempfile.TemporaryDirectory(prefix="hfvision-") as parent:
        folder = Path(parent, type(loaded.model).__name__)
        loaded.model.save_pretrained(folder)
        loaded.processor.save_pretrained(folder)
        yield str(folder)


def is_as_stored(model: nn.Module, origin: str) -> bool:
    """Whether the weights of a model are those in the folder `origin`, but for their type."""
    path = Path(origin, "model.safetensors")
    if hasattr(model, "folder"):  # OpenVINO's weights do not change
        return True
    if not path.is_file():
        return False
    state = model.state_dict()
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if not set(names) <= set(state):
            return False
        return all(torch.equal(file.get_tensor(name).to(state[name].dtype), state[name].cpu()) for name in names)
