"""Publishes a model: weights, processor, code, pipeline and card in one commit."""

import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor


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
        model: a model of one of hfvision's families.
        repo_id: `user/name`.
        processor: its image processor.
        private: make a new repository private.
        revision: branch to push to, made where it is missing.
        create_pr: open a pull request instead of committing to the branch.
        token: Hub token; the stored one where not given.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        Path(folder, "README.md").unlink()
        model.write_model_card(folder, repo_id)
        processor.save_pretrained(folder)
        keep = ["README.md"] if has_card(api, repo_id, revision) else []
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            ignore_patterns=keep,
            revision=revision,
            create_pr=create_pr,
            commit_message=f"Upload {type(model).__name__}",
        )


def has_card(api: HfApi, repo_id: str, revision: str | None) -> bool:
    """Whether the repository has a model card of somebody's own, rather than none or transformers' empty template."""
    if not api.file_exists(repo_id, "README.md", revision=revision):
        return False
    card = Path(api.hf_hub_download(repo_id, "README.md", revision=revision))
    return "[More Information Needed]" not in card.read_text(encoding="utf-8")
