"""The local Hub speaks the official client's protocol, by LFS and by Xet."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from hub_server import PART_SIZE, HubServer
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

REPO = "tester/model"
CARD = b"---\nlicense: apache-2.0\n---\n# Card\n"
RANDOM = random.Random(0)
SMALL = RANDOM.randbytes(200_000)
LARGE = RANDOM.randbytes(2 * PART_SIZE + 12_345)
BY = pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])

PUSH = f"""
    from huggingface_hub import HfApi
    HfApi().create_repo({REPO!r}, exist_ok=True)
    print(HfApi().upload_folder(repo_id={REPO!r}, folder_path=FOLDER, **OPTIONS).oid)
"""
PULL = f"""
    import hashlib
    from huggingface_hub import hf_hub_download
    for name in ("README.md", "small.safetensors", "weights/large.safetensors"):
        data = open(hf_hub_download({REPO!r}, name, **OPTIONS), "rb").read()
        print(hashlib.sha256(data).hexdigest())
"""


def with_values(code: str, **values: object) -> str:
    return "\n".join([f"{name} = {value!r}" for name, value in values.items()]) + code.replace("\n    ", "\n")


def switches(xet: bool, offline: bool = False) -> dict[str, str]:
    return {"HF_HUB_DISABLE_XET": str(int(not xet)), "HF_HUB_OFFLINE": str(int(offline))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    (folder / "README.md").write_bytes(CARD)
    (folder / "small.safetensors").write_bytes(SMALL)
    (folder / "weights" / "large.safetensors").write_bytes(LARGE)
    return folder


@pytest.fixture
def push(run_isolated: Callable[..., str], folder: Path) -> Callable[..., str]:
    """Pushes the folder from a fresh process and gives the commit's id."""

    def push(xet: bool = True, **options: object) -> str:
        return run_isolated(with_values(PUSH, FOLDER=str(folder), OPTIONS=options), env=switches(xet)).strip()

    return push


@pytest.fixture
def pull(run_isolated: Callable[..., str]) -> Callable[..., None]:
    """Downloads the three files in a fresh process and checks each byte."""

    def pull(xet: bool = True, offline: bool = False, home: Path | None = None, **options: object) -> None:
        got = run_isolated(with_values(PULL, OPTIONS=options), env=switches(xet, offline), home=home)
        assert got.split() == [hashlib.sha256(data).hexdigest() for data in (CARD, SMALL, LARGE)]

    return pull


def titles(repo_id: str = REPO, **options: object) -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(repo_id, **options)]


@BY
def test_push_and_download(hub: HubServer, push: Callable, pull: Callable, xet: bool) -> None:
    oid = push(xet)
    repo = hub.repos["model", REPO]
    assert HfApi().model_info(REPO).sha == oid == repo.refs["refs/heads/main"]
    assert repo.commits[oid].files["weights/large.safetensors"].data == LARGE
    pull(xet)
    used = set(hub.routes())
    by_lfs = {"lfs_batch", "lfs_put", "lfs_put_part", "lfs_complete", "lfs_verify", "lfs_get"}
    by_xet = {"xet_write_token", "xet_read_token"}
    assert used & (by_lfs | by_xet) == (by_xet if xet else by_lfs)
    stored = sum(xorb.stat().st_size for xorb in hub.xet.rglob("default.*"))
    assert (stored > len(SMALL) + len(LARGE)) == xet


def test_what_was_pushed_by_xet_downloads_over_http(hub: HubServer, push: Callable, pull: Callable) -> None:
    push(xet=True)
    pull(xet=False)
    assert "lfs_get" in hub.routes()
    assert "xet_read_token" not in hub.routes()


def test_what_was_pushed_by_lfs_downloads_with_xet_installed(hub: HubServer, push: Callable, pull: Callable) -> None:
    push(xet=False)
    pull(xet=True)
    assert "lfs_get" in hub.routes()


def test_processes_push_by_xet_in_turns(hub: HubServer, push: Callable, pull: Callable) -> None:
    HfApi().create_repo(REPO)
    for name in ("before.bin", "after.bin"):
        HfApi().upload_file(repo_id=REPO, path_or_fileobj=SMALL + name.encode(), path_in_repo=name)
        assert Path(hf_hub_download(REPO, name)).read_bytes() == SMALL + name.encode()
        push()
        pull()
    assert hub.repos["model", REPO].at("main").files["after.bin"].xet_hash


@BY
def test_branch(hub: HubServer, push: Callable, pull: Callable, xet: bool) -> None:
    api = HfApi()
    api.create_repo(REPO)
    api.create_branch(REPO, branch="exp/1")
    with pytest.raises(HfHubHTTPError, match="already exists"):
        api.create_branch(REPO, branch="exp/1")
    push(xet, revision="exp/1")
    assert api.list_repo_files(REPO) == [".gitattributes"]
    pull(xet, revision="exp/1")
    assert {ref.name for ref in api.list_repo_refs(REPO).branches} == {"main", "exp/1"}
    api.delete_branch(REPO, branch="exp/1")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="exp/1")


@BY
def test_pull_request(hub: HubServer, push: Callable, pull: Callable, xet: bool) -> None:
    api = HfApi()
    oid = push(xet, create_pr=True, commit_message="Better weights")
    assert titles() == ["initial commit"]
    pull(xet, revision="refs/pr/1")
    pull(xet, revision=oid)
    (discussion,) = api.get_repo_discussions(REPO)
    assert (discussion.num, discussion.title, discussion.is_pull_request) == (1, "Better weights", True)
    (ref,) = api.list_repo_refs(REPO, include_pull_requests=True).pull_requests
    assert (ref.ref, ref.target_commit) == ("refs/pr/1", oid)
    more = api.upload_file(repo_id=REPO, path_or_fileobj=b"x", path_in_repo="x.txt", revision="refs/pr/1")
    assert titles(revision="refs/pr/1") == [more.commit_message, "Better weights", "initial commit"]
    second = api.upload_file(repo_id=REPO, path_or_fileobj=b"y", path_in_repo="y.txt", create_pr=True)
    assert (second.pr_num, second.pr_revision) == (2, "refs/pr/2")


@BY
def test_a_push_without_changes_makes_no_commit(hub: HubServer, push: Callable, xet: bool) -> None:
    first = push(xet)
    assert push(xet) == first
    assert len(titles()) == 2
    assert hub.routes().count("commit") == 1


@BY
def test_offline_reload_from_the_cache(
    hub: HubServer, push: Callable, pull: Callable, tmp_path: Path, xet: bool
) -> None:
    push(xet)
    home = tmp_path / "home"
    pull(xet, home=home)
    asked = len(hub.request_log)
    pull(xet, home=home, offline=True)
    assert len(hub.request_log) == asked
    with pytest.raises(pytest.fail.Exception, match="LocalEntryNotFoundError"):
        pull(xet, offline=True)


def test_wrong_or_absent_token(hub: HubServer) -> None:
    HfApi().create_repo(REPO)
    card = {"repo_id": REPO, "path_or_fileobj": CARD, "path_in_repo": "README.md"}
    wrong = HfApi(token="hf_wrong")
    for call in (wrong.whoami, lambda: wrong.create_repo("tester/other"), lambda: wrong.model_info(REPO)):
        with pytest.raises(HfHubHTTPError) as error:
            call()
        assert error.value.response.status_code == 401
    for api in (wrong, HfApi(token=False)):
        with pytest.raises(HfHubHTTPError, match="401"):
            api.upload_file(**card)
    assert titles() == ["initial commit"]
    assert HfApi(token=False).model_info(REPO).id == REPO


def test_missing_repo_revision_and_file(hub: HubServer) -> None:
    api = HfApi()
    api.create_repo(REPO)
    for missing in (lambda: api.model_info("tester/none"), lambda: hf_hub_download("tester/none", "a.txt")):
        with pytest.raises(RepositoryNotFoundError):
            missing()
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(REPO)
    for missing in (
        lambda: api.model_info(REPO, revision="none"),
        lambda: hf_hub_download(REPO, ".gitattributes", revision="none"),
        lambda: api.upload_file(repo_id=REPO, path_or_fileobj=b"", path_in_repo="a", revision="none"),
    ):
        with pytest.raises(RevisionNotFoundError):
            missing()
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPO, "none.txt")
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(REPO, "none"))


def test_repositories_are_created_once_and_deleted(hub: HubServer) -> None:
    api = HfApi()
    assert api.create_repo("model").repo_id == REPO
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO)
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(REPO)


@pytest.mark.parametrize(("repo_type", "extra"), [("dataset", {}), ("space", {"space_sdk": "gradio"})])
def test_datasets_and_spaces(hub: HubServer, repo_type: str, extra: dict[str, str]) -> None:
    api, where = HfApi(), {"repo_id": "tester/other", "repo_type": repo_type}
    url = api.create_repo(**where, **extra)
    assert (url.repo_id, url.repo_type) == ("tester/other", repo_type)
    api.upload_file(path_or_fileobj=SMALL, path_in_repo="data/a.bin", **where)
    assert Path(hf_hub_download(filename="data/a.bin", **where)).read_bytes() == SMALL
    assert "data/a.bin" in api.list_repo_files(**where)
    assert "xet_read_token" in hub.routes()


def test_commits_change_delete_and_check_their_parent(hub: HubServer) -> None:
    api = HfApi()
    api.create_repo(REPO)
    adds = [CommitOperationAdd(path, path.encode()) for path in ("a.txt", "d/b.txt", "d/e/c.txt")]
    first = api.create_commit(REPO, adds, commit_message="three", commit_description="files")
    tree = {(type(entry).__name__, entry.path) for entry in api.list_repo_tree(REPO, "d")}
    assert tree == {("RepoFile", "d/b.txt"), ("RepoFolder", "d/e")}
    (info,) = api.get_paths_info(REPO, ["d/b.txt", "none"])
    assert (info.size, info.blob_id) == (7, "2f830030932be70c459a9fb8b971ec2af2eaf79b")
    api.create_commit(REPO, [CommitOperationDelete("d/"), CommitOperationDelete("a.txt")], commit_message="x")
    assert api.list_repo_files(REPO) == [".gitattributes"]
    assert set(api.list_repo_files(REPO, revision=first.oid)) == {".gitattributes", *(a.path_in_repo for a in adds)}
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(REPO, [CommitOperationAdd("z", b"z")], commit_message="z", parent_commit=first.oid)


def test_a_card_without_metadata_is_warned_about(hub: HubServer) -> None:
    HfApi().create_repo(REPO)
    with pytest.warns(UserWarning, match="missing yaml metadata"):
        HfApi().upload_file(repo_id=REPO, path_or_fileobj=b"# Card", path_in_repo="README.md")


def test_ranges(hub: HubServer) -> None:
    HfApi().create_repo(REPO)
    for name, data in (("a.txt", b"0123456789"), ("b.bin", SMALL)):
        HfApi().upload_file(repo_id=REPO, path_or_fileobj=data, path_in_repo=name)
        url = f"{hub.url}/{REPO}/resolve/main/{name}"
        part = get_session().get(url, headers={"Range": "bytes=3-6"}, follow_redirects=True)
        assert (part.status_code, part.content) == (206, data[3:7])
        assert part.headers["Content-Range"] == f"bytes 3-6/{len(data)}"
        assert get_session().get(url, headers={"Range": "bytes=4-"}, follow_redirects=True).content == data[4:]
        past = get_session().get(url, headers={"Range": f"bytes={len(data)}-"}, follow_redirects=True)
        assert past.status_code == 416


@pytest.mark.parametrize("route", ["lfs_put", "lfs_put_part"])
def test_an_upload_that_was_cut_is_resumed(hub: HubServer, push: Callable, pull: Callable, route: str) -> None:
    hub.fail_next(route)
    push(xet=False)
    assert hub.routes().count(route) == {"lfs_put": 1, "lfs_put_part": 3}[route]
    pull(xet=False)


def test_a_request_that_the_client_does_not_repeat_fails_when_cut(hub: HubServer) -> None:
    hub.fail_next("create_repo")
    with pytest.raises(Exception, match="disconnected"):
        HfApi().create_repo(REPO)
    assert hub.repos == {}
    assert HfApi().create_repo(REPO).repo_id == REPO
    with pytest.raises(ValueError, match="lfs_pull"):
        hub.fail_next("lfs_pull")


def test_isolated_processes(run_isolated: Callable[..., str], tmp_path: Path) -> None:
    home = run_isolated("""
        import os, importlib.util
        assert importlib.util.find_spec("hfvision") is None
        print(os.environ["HF_HOME"])
    """).strip()
    assert Path(home).parent == tmp_path
    assert run_isolated("import os; print(os.environ['HF_HOME'])", home="x") == "x\n"
    for module in ("hfvision", "hfvision.models"):
        with pytest.raises(pytest.fail.Exception, match="ModuleNotFoundError"):
            run_isolated(f"import {module}")


def test_servers_are_apart_and_close() -> None:
    with HubServer() as one, HubServer() as two:
        HfApi(endpoint=one.url, token=one.token).create_repo(REPO)
        assert not HfApi(endpoint=two.url, token=two.token).repo_exists(REPO)
        folder = one.xet.parent
    assert not folder.exists()
    with pytest.raises(URLError, match="refused"):
        urlopen(two.url)
