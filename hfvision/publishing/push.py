"""Publishes a model: weights, processor, code, pipeline and card in one commit, and a Space beside it in another."""

import copy
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoImageProcessor, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.io.picture_metadata import without_metadata
from ..hub.loading import load_config, load_model, quantization
from ..tasks.base import find_task, task_of
from ..utils.connection import is_lost_connection
from ..utils.console import logger
from ..utils.files import write_text
from .cards.write import card_files
from .generated import is_generated
from .publishable import check_file, check_publishable, is_publishable, kind_of
from .space import write_space

PAUSES = (1, 4)  # seconds before what a lost connection stopped is tried again


@dataclass(frozen=True)
class Pushed:
    """What was pushed where: `url` to look at, the `commit` that holds it, and whether that one is `new`."""

    url: str
    commit: str
    new: bool


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    with_space: bool = False,
    token: str | None = None,
) -> dict[str, Pushed]:
    """Push the model in a folder to the Hub: what loads it anywhere, its record, pictures and card, in one commit.

    Weights go as they are stored; the code of hfvision's families is added, so that the model loads without hfvision.
    A card that somebody wrote stays, in the folder or in the repository. What has not changed is not sent, without any
    change there is no commit, and after an interruption the same call goes on. Pictures go without their metadata.

    Args:
        folder: of a classifier, an upscaler or a segmenter, as a training, `save_pretrained` or a compression leaves
            it.
        repo_id: `user/name`.
        private: make a new repository private.
        revision: branch to push to, made where it is missing.
        create_pr: open a pull request instead of committing to the branch.
        with_space: also push a Space of the same name that serves the model.
        token: Hub token; the stored one where not given.

    Returns:
        `model`, and `space` where there is one.

    Raises:
        FileNotFoundError: if there is no such folder with a model.
        ValueError: if the model cannot be loaded, a file is a symbolic link, too large, or not what its name says, or
            one holds what looks like a secret or an absolute path; nothing is sent then.
        ConnectionError: if the Hub cannot be reached, or is lost more often than three times.
        PermissionError: if the Hub does not accept the token.
        HfHubHTTPError: if the Hub refuses otherwise.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} with a model.")
    config = load_config(str(folder))
    api, pushed = HfApi(token=token), {}
    with tempfile.TemporaryDirectory() as model_folder, tempfile.TemporaryDirectory() as space_folder:
        stage(folder, Path(model_folder), repo_id, token or get_token())
        if with_space:
            write_space(Path(space_folder), repo_id, config)
            check_publishable(Path(space_folder), token or get_token())
        options = {"private": private, "revision": revision, "create_pr": create_pr}
        message = f"Upload {(config.architectures or ['model'])[0]}"
        pushed["model"], _ = upload(api, Path(model_folder), repo_id, message, **options)
        if with_space:
            space = upload(api, Path(space_folder), repo_id, "Upload Space", kind="space", private=private)
            pushed["space"], _ = space
    return pushed


def push_to_hub(
    model: PreTrainedModel,
    repo_id: str,
    *,
    processor: BaseImageProcessor,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """Push a model with its image processor, its code and its card to the Hub, in one commit.

    The repository is made where it is missing. A card that somebody wrote into it stays. Pushing again without a
    change makes no commit.

    Args:
        model: a model of one of hfvision's families; one with adapters of PEFT is merged, and left as it was.
        repo_id: `user/name`.
        processor: its image processor.
        private, revision, create_pr, token: as for [`push_folder`]; errors are, too.
    """
    if hasattr(model, "merge_and_unload"):
        merge: Any = copy.deepcopy(model)
        model = merge.merge_and_unload()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        if find_task(model.config):
            write_card_files(Path(folder), Path(folder), repo_id)
        else:
            Path(folder, "README.md").unlink(missing_ok=True)
            write_card: Any = model.write_model_card
            write_card(folder, repo_id)
        options = {"private": private, "revision": revision, "create_pr": create_pr}
        return upload(HfApi(token=token), Path(folder), repo_id, f"Upload {type(model).__name__}", **options)[1]


def stage(folder: Path, target: Path, repo_id: str, token: str | None) -> None:
    """Put into `target` what is published of the model in `folder`; what is left out is named, with the reason.

    Raises:
        ValueError: as [`push_folder`].
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds adapters: push the folder of the merged model, {folder.resolve().parent}.")
    left_out: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if reason := stage_file(path, target, token):
            left_out.setdefault(reason, []).append(ascii(path.name)[1:-1])
    for reason, names in left_out.items():
        logger.warning(f"not pushed, {reason}: {', '.join(names)}")
    config = load_config(str(folder))
    with tempfile.TemporaryDirectory() as saved:
        save_with_code(folder, Path(saved), config)
        for path in Path(saved).iterdir():
            if path.suffix in (".json", ".py") and not path.name.endswith(".index.json"):
                shutil.copy(path, target)
    write_card_files(folder, target, repo_id)


def stage_file(path: Path, target: Path, token: str | None) -> str | None:
    """Copy a file of a model's folder into `target` if it is published; why something of it is left out."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir() and not path.is_symlink():
        return "folders"
    if not is_publishable(path):
        return "of no kind that a model needs"
    copy = target / path.name
    if kind_of(path) != "picture":
        shutil.copyfile(path, copy)
        if kind_of(path) == "text":  # before it is read for the card
            check_file(copy, Path(path.name), token)
        return None
    data = path.read_bytes()
    try:
        stripped = without_metadata(data)
    except ValueError as error:
        raise ValueError(f"{path} is not published: {error}.") from error
    copy.write_bytes(stripped)
    return None if stripped == data else "the metadata in"


def save_with_code(folder: Path, target: Path, config: Any) -> None:
    """Save configuration, processor and code of the model in `folder`, after a look at whether it loads whole."""
    task = task_of(config, str(folder))
    if quantization(config):
        AutoImageProcessor.from_pretrained(folder).save_pretrained(target)
        task.auto_class.from_config(config).save_pretrained(target)
        return
    model, processor = load_model(str(folder), task.pipeline)
    model.save_pretrained(target)
    processor.save_pretrained(target)


def write_card_files(folder: Path, target: Path, repo_id: str) -> None:
    """The card of the model in `folder`, written into `target`, unless somebody wrote one."""
    for name, text in card_files(folder, source=repo_id).items():
        own = folder / name
        if name != "README.md" or not own.is_file() or is_generated(own.read_text(encoding="utf-8")):
            write_text(target / name, text)


def upload(
    api: HfApi,
    folder: Path,
    repo_id: str,
    message: str,
    *,
    kind: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> tuple[Pushed, CommitInfo]:
    """Bring a repository to what is in `folder`, in one commit or, where it is that already, in none.

    Raises:
        ValueError: if something in the folder must not be published, before anything is sent.
    """
    check_publishable(folder, api.token if isinstance(api.token, str) else get_token())
    sdk = "gradio" if kind == "space" else None
    url = with_retries(lambda: api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk))
    repo_id = url.repo_id
    if private and not with_retries(lambda: api.repo_info(repo_id, repo_type=kind)).private:
        raise ValueError(
            f"{url} already exists and is public: make it private in its settings, or push without private."
        )
    if revision is not None and not create_pr:
        with_retries(lambda: api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True))
    before = with_retries(lambda: api.repo_info(repo_id, repo_type=kind, revision=revision)).sha
    file = "README.md" if kind == "model" else "app.py"
    mine = is_generated((folder / file).read_text(encoding="utf-8"))
    keep = mine and with_retries(lambda: is_written(api, repo_id, file, kind, revision))
    if keep and kind == "space":
        raise ValueError(f"{url} is a Space that somebody wrote: it is left as it is.")
    commit = with_retries(
        lambda: api.upload_folder(
            repo_id=repo_id,
            repo_type=kind,
            folder_path=folder,
            ignore_patterns=["README.md"] if keep else None,
            revision=revision,
            create_pr=create_pr,
            commit_message=message,
        )
    )
    page = commit.pr_url or (f"{url}/tree/{revision}" if revision else str(url))
    return Pushed(page, commit.oid, commit.oid != before), commit


def is_written(api: HfApi, repo_id: str, file: str, kind: str, revision: str | None) -> bool:
    """Whether the repository has a model card, or a Space's app, that somebody wrote."""
    if not api.file_exists(repo_id, file, repo_type=kind, revision=revision):
        return False
    there = Path(api.hf_hub_download(repo_id, file, repo_type=kind, revision=revision))
    return not is_generated(there.read_text(encoding="utf-8"))


def with_retries(call: Callable[[], Any]) -> Any:
    """What `call` returns; it is retried after a lost connection, and what has arrived is not sent again.

    Raises:
        ConnectionError: if it is lost once more after the last of `PAUSES`.
        PermissionError: if the Hub does not accept the token.
    """
    for pause in (*PAUSES, None):
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code != 401:
                raise
            raise PermissionError(
                f"{constants.ENDPOINT} does not accept this token: log in with `hf auth login`, or give a valid one."
            ) from error
        except Exception as error:
            cause = error.__cause__ if type(error) is RuntimeError else error  # which an upload wraps it in
            if not is_lost_connection(cause):
                raise
            if pause is None:
                raise ConnectionError(
                    f"There is no connection to {constants.ENDPOINT} ({cause}). Check HF_ENDPOINT and the network, "
                    "and run the same again: what has arrived is not sent again."
                ) from error
        time.sleep(pause)
    raise AssertionError
