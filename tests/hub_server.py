"""A small Hugging Face Hub on the loopback, for tests: the official client talks to it, unpatched.

    with HubServer() as hub:
        HfApi(endpoint=hub.url, token=hub.token).create_repo("tester/cnn")

Repositories live in memory, each with commits, branches and pull requests. Large files come in by Git LFS
(basic, or multipart above `PART_SIZE`) or by Xet. For Xet the server only hands out the address of a folder,
which `hf_xet` itself reads and writes as its content store; the server then finds the pushed files in the
shards of that folder, and has `hf_xet` fetch their bytes so that it can serve them over plain HTTP as well.
"""

import base64
import codecs
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

PART_SIZE = 1 << 20  # bytes; larger LFS files are uploaded in parts of this size
INLINE_LIMIT = 10 << 20  # bytes; larger files, and those that are not text, are LFS or Xet files

ID = r"(?P<repo_id>[\w.-]+(?:/[\w.-]+)?)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{ID}"
WEB = rf"/(?:(?P<kind>datasets|spaces)/)?{ID}"
REV = r"(?P<rev>[^/]+)"
STORAGE = "/storage/(?P<oid>[0-9a-f]{64})"


@dataclass(frozen=True)
class File:
    data: bytes
    lfs: bool = False
    xet_hash: str | None = None

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def blob(self) -> bytes:
        """What git holds: the content, or the LFS pointer to it."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize "
        return f"{pointer}{len(self.data)}\n".encode() if self.lfs else self.data

    @cached_property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.blob) + self.blob).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid

    def info(self, path: str) -> dict:
        size = len(self.data)
        info = {"type": "file", "path": path, "rfilename": path, "size": size, "oid": self.git_oid}
        lfs = {"oid": self.sha256, "sha256": self.sha256, "size": size, "pointerSize": len(self.blob)}
        return info | {"blobId": self.git_oid, "lfs": lfs if self.lfs else None, "xetHash": self.xet_hash}


class Commit(NamedTuple):
    oid: str
    parents: list[str]
    title: str
    message: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    type: str
    id: str
    private: bool = False
    sdk: str | None = None  # of a Space
    refs: dict[str, str] = field(default_factory=dict)  # full name, such as refs/heads/main -> commit id
    commits: dict[str, Commit] = field(default_factory=dict)
    pull_requests: list[dict] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    def ref(self, rev: str) -> str | None:
        return next((name for name in (f"refs/heads/{rev}", rev) if name in self.refs), None)

    def at(self, rev: str) -> Commit:
        """The commit at a branch, at a pull request (`refs/pr/1`) or of an id."""
        oid = self.refs.get(self.ref(rev), rev)
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return self.commits[oid]

    def add(self, ref: str, files: dict[str, File], title: str, message: str = "") -> Commit:
        parents = [self.refs[ref]] if ref in self.refs else []
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = f"{self.path} {parents} {date} {title} {[(p, f.git_oid) for p, f in files.items()]}"
        oid = hashlib.sha1(text.encode() + os.urandom(8)).hexdigest()  # unique, as clients cache by it
        self.refs[ref], self.commits[oid] = oid, Commit(oid, parents, title, message, date, files)
        return self.commits[oid]

    def open_pull_request(self, title: str, author: str, base: Commit, status: str) -> dict:
        number = len(self.pull_requests) + 1
        self.refs[f"refs/pr/{number}"] = base.oid
        about = {"num": number, "title": title, "author": {"name": author}, "createdAt": base.date}
        about |= {"repo": {"name": self.id, "type": self.type}, "isPullRequest": True, "status": status}
        about |= {"events": [], "changes": {"base": "refs/heads/main"}, "filesWithConflicts": []}
        self.pull_requests.append(about)
        return about


class Request(NamedTuple):
    route: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def repo_key(self) -> tuple[str, str]:
        named = self.json
        return named.get("type", "model"), f"{named['organization'] or HubServer.user}/{named['name']}"


class Reply(NamedTuple):
    body: Any = b""  # bytes, or data for JSON
    status: int = 200
    headers: dict[str, str] = {}


class HubError(Exception):
    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        headers |= {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = Reply({"error": message}, status, headers)


class Route(NamedTuple):
    method: str
    pattern: re.Pattern
    handle: Callable[..., Reply]
    access: str


ROUTES: list[Route] = []


def route(method: str, pattern: str, access: str = "read") -> Callable:
    """`access`: "write" needs the token; "signed" is the storage, which must not be shown the token."""

    def add(handle: Callable[..., Reply]) -> Callable[..., Reply]:
        ROUTES.append(Route(method, re.compile(pattern), handle, access))
        return handle

    return add


class HubServer:
    """A Hub that listens from its construction to `close()`.

    Attributes: `url`, `token`, `repos` by (type, id), `lfs` (content by sha256), `xet` (the folder that is
    Xet's content store), `request_log` (each request as it came in).
    """

    token = "hf_test_token"
    user = "tester"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hub-"))
        self._count = itertools.count(1)
        self.lock = threading.Lock()
        self.clear()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        # Clients follow a redirect on the same host and so lose the commit's id: storage has another host.
        self.storage_url = f"http://localhost:{self._http.server_port}/storage"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def clear(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.request_log: list[Request] = []
        self._parts: dict[tuple[str, int], bytes] = {}
        self._failing: Counter[str] = Counter()
        self.xet = self._folder / f"xet-{next(self._count)}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "HubServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fail_next(self, route: str, times: int = 1) -> None:
        """Cut the connection in the middle of the next requests to `route`, such as `lfs_put` or `commit`."""
        if route not in {known.handle.__name__ for known in ROUTES}:
            raise ValueError(f"no route {route!r}")
        self._failing[route] += times

    def mend(self) -> None:
        """Cut no more connections."""
        self._failing.clear()

    def cuts(self, route: str) -> bool:
        due = self._failing[route] > 0
        self._failing[route] -= due
        return due

    def routes(self) -> list[str]:
        """The names of the routes asked for so far, in order."""
        return [request.route for request in self.request_log]

    def answer(self, found: Route, groups: dict[str, str], request: Request) -> Reply:
        given = request.headers.get("Authorization")
        if given and found.access == "signed":
            raise HubError(400, "Only one auth mechanism allowed: the url is signed, a token was sent too")
        if given and given != f"Bearer {self.token}":
            raise HubError(401, "Invalid credentials in Authorization header")
        if not given and found.access == "write":
            raise HubError(401, "Invalid username or password.")
        if "repo_id" in groups:
            key = ((groups.pop("kind") or "models").removesuffix("s"), groups.pop("repo_id"))
            if key not in self.repos:
                raise HubError(404 if given else 401, "Repository not found", "RepoNotFound")
            groups["repo"] = self.repos[key]
        return found.handle(self, request, **groups)

    # Accounts and repositories

    @route("GET", "/api/whoami-v2", "write")
    def whoami(self, request: Request) -> Reply:
        token = {"displayName": "tests", "role": "write"}
        return Reply({"type": "user", "name": self.user, "orgs": [], "auth": {"accessToken": token}})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Reply:
        warning = {"message": "empty or missing yaml metadata in repo card"}
        return Reply({"errors": [], "warnings": [] if request.json["content"].startswith("---") else [warning]})

    @route("POST", "/api/repos/create", "write")
    def create_repo(self, request: Request) -> Reply:
        asked = request.json
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repo = Repo(*request.repo_key, private=private, sdk=asked.get("sdk"))
        if repo.type == "space" and repo.sdk is None:
            raise HubError(400, '"sdk" is required for a Space')
        reply = {"url": f"{self.url}/{repo.path}", "id": repo.id}
        if request.repo_key in self.repos:
            return Reply(reply | {"error": f"You already created this {repo.type} repo"}, 409)
        attributes = File(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        repo.add("refs/heads/main", {".gitattributes": attributes}, "initial commit")
        self.repos[request.repo_key] = repo
        return Reply(reply)

    @route("DELETE", "/api/repos/delete", "write")
    def delete_repo(self, request: Request) -> Reply:
        if self.repos.pop(request.repo_key, None) is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return Reply()

    @route("GET", f"{API}/refs")
    def refs(self, request: Request, repo: Repo) -> Reply:
        prefixes = {"branches": "refs/heads/", "converts": "refs/convert/", "tags": "refs/tags/"}
        if "include_prs" in request.query:
            prefixes["pullRequests"] = "refs/pr/"
        named = {kind: [] for kind in prefixes}
        for (kind, prefix), (ref, oid) in itertools.product(prefixes.items(), repo.refs.items()):
            if ref.startswith(prefix):
                named[kind].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid})
        return Reply(named)

    @route("POST", f"{API}/branch/{REV}", "write")
    def create_branch(self, request: Request, repo: Repo, rev: str) -> Reply:
        if f"refs/heads/{rev}" in repo.refs:
            raise HubError(409, f"Reference already exists: {rev}")
        repo.refs[f"refs/heads/{rev}"] = repo.at(request.json.get("startingPoint", "main")).oid
        return Reply()

    @route("DELETE", f"{API}/branch/{REV}", "write")
    def delete_branch(self, request: Request, repo: Repo, rev: str) -> Reply:
        if repo.refs.pop(f"refs/heads/{rev}", None) is None:
            raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return Reply()

    @route("GET", f"{API}/commits/{REV}")
    def commits(self, request: Request, repo: Repo, rev: str) -> Reply:
        history = [repo.at(rev)]
        while history[-1].parents:
            history.append(repo.commits[history[-1].parents[0]])
        fields = ("title", "message", "date", "parents")
        authors = [{"user": self.user}]
        told = [{key: getattr(c, key) for key in fields} | {"id": c.oid, "authors": authors} for c in history]
        return Reply(told)

    @route("GET", f"{API}/discussions")
    def discussions(self, request: Request, repo: Repo) -> Reply:
        return Reply({"discussions": repo.pull_requests, "count": len(repo.pull_requests), "start": 0})

    @route("POST", f"{API}/discussions", "write")
    def create_pull_request(self, request: Request, repo: Repo) -> Reply:
        return Reply(repo.open_pull_request(request.json["title"], self.user, repo.at("main"), "draft"))

    @route("GET", rf"{API}/discussions/(?P<number>\d+)")
    def discussion(self, request: Request, repo: Repo, number: str) -> Reply:
        if int(number) > len(repo.pull_requests):
            raise HubError(404, f"There is no pull request {number}")
        return Reply(repo.pull_requests[int(number) - 1])

    # Listing and downloading

    @staticmethod
    def listing(files: dict[str, File]) -> dict[str, dict]:
        """Every file and folder, by path."""
        entries = {path: file.info(path) for path, file in files.items()}
        for folder in {str(parent) for path in files for parent in list(Path(path).parents)[:-1]}:
            oid = hashlib.sha1(folder.encode()).hexdigest()
            entries[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
        return dict(sorted(entries.items()))

    @route("GET", rf"{API}/tree/{REV}(?:/(?P<path>.+))?")
    def tree(self, request: Request, repo: Repo, rev: str, path: str | None) -> Reply:
        entries = self.listing(repo.at(rev).files)
        if path is not None and entries.get(path, {}).get("type") != "directory":
            raise HubError(404, f"{path} does not exist on {rev}", "EntryNotFound")
        prefix = f"{path}/" if path else ""
        deep = request.query.get("recursive", [""])[0].lower() in ("true", "1")
        inside = {name.removeprefix(prefix): e for name, e in entries.items() if name.startswith(prefix)}
        return Reply([entry for name, entry in inside.items() if deep or "/" not in name])

    @route("POST", f"{API}/paths-info/{REV}")
    def paths_info(self, request: Request, repo: Repo, rev: str) -> Reply:
        entries = self.listing(repo.at(rev).files)
        return Reply([entries[p] for p in parse_qs(request.body.decode()).get("paths", []) if p in entries])

    @route("GET", rf"{WEB}/resolve/{REV}/(?P<path>.+)")
    def resolve(self, request: Request, repo: Repo, rev: str, path: str) -> Reply:
        commit = repo.at(rev)
        headers = {"X-Repo-Commit": commit.oid}
        file = commit.files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", **headers)
        headers["ETag"] = f'"{file.etag}"'
        if not file.lfs:
            return self.ranged(request, file.data, headers)
        self.lfs[file.sha256] = file.data
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.data))}
        if file.xet_hash:
            refresh = f"{self.url}/api/{repo.type}s/{repo.id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{refresh}>; rel="xet-auth"'}
        return Reply(b"", 302, headers | {"Location": f"{self.storage_url}/{file.sha256}"})

    @staticmethod
    def ranged(request: Request, data: bytes, headers: dict[str, str]) -> Reply:
        headers = headers | {"Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if wanted is None:
            return Reply(data, 200, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if first > last:
            raise HubError(416, "Range not satisfiable", **{"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return Reply(data[first : last + 1], 206, headers)

    # Uploading

    @route("POST", f"{API}/preupload/{REV}", "write")
    def preupload(self, request: Request, repo: Repo, rev: str) -> Reply:
        commit = repo.at(rev)

        def is_text(sample: bytes) -> bool:
            try:
                return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(sample)
            except UnicodeDecodeError:
                return False

        def plan(path: str, size: int, sample: str) -> dict:
            mode = "regular" if size <= INLINE_LIMIT and is_text(base64.b64decode(sample)) else "lfs"
            oid = commit.files[path].etag if path in commit.files else None
            return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        return Reply({"files": [plan(**file) for file in request.json["files"]], "commitOid": commit.oid})

    @route("POST", rf"{WEB}\.git/info/lfs/objects/batch", "write")
    def lfs_batch(self, request: Request, repo: Repo) -> Reply:
        def plan(oid: str, size: int) -> dict:
            if oid in self.lfs:
                return {"oid": oid, "size": size}
            upload: dict[str, Any] = {"href": f"{self.storage_url}/{oid}"}
            if size > PART_SIZE:
                urls = {str(n + 1): f"{upload['href']}/{n + 1}" for n in range(-(-size // PART_SIZE))}
                header = {"chunk_size": str(PART_SIZE), **urls}
                upload = {"href": f"{upload['href']}/complete", "header": header}
            verify = {"href": f"{self.url}/{repo.path}.git/info/lfs/objects/verify"}
            return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

        return Reply({"transfer": "basic", "objects": [plan(**wanted) for wanted in request.json["objects"]]})

    @route("POST", rf"{WEB}\.git/info/lfs/objects/verify", "write")
    def lfs_verify(self, request: Request, repo: Repo) -> Reply:
        oid, size = request.json["oid"], request.json["size"]
        if oid not in self.lfs or len(self.lfs[oid]) != size:
            raise HubError(404, f"LFS object {oid} is missing or of another size")
        return Reply({})

    @route("GET", STORAGE, "signed")
    def lfs_get(self, request: Request, oid: str) -> Reply:
        if oid not in self.lfs:
            raise HubError(404, "No such object")
        return self.ranged(request, self.lfs[oid], {"ETag": f'"{oid}"'})

    @route("PUT", STORAGE, "signed")
    def lfs_put(self, request: Request, oid: str) -> Reply:
        return self.store(oid, request.body)

    @route("PUT", rf"{STORAGE}/(?P<part>\d+)", "signed")
    def lfs_put_part(self, request: Request, oid: str, part: str) -> Reply:
        self._parts[oid, int(part)] = request.body
        return Reply(b"", 200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    @route("POST", f"{STORAGE}/complete", "signed")
    def lfs_complete(self, request: Request, oid: str) -> Reply:
        numbers = [part["partNumber"] for part in request.json["parts"]]
        return self.store(oid, b"".join(self._parts.pop((oid, number), b"") for number in numbers))

    def store(self, oid: str, data: bytes) -> Reply:
        if hashlib.sha256(data).hexdigest() != oid:
            raise HubError(400, f"The uploaded content is not that of {oid}")
        self.lfs[oid] = data
        return Reply({})

    @route("POST", f"{API}/commit/{REV}", "write")
    def commit(self, request: Request, repo: Repo, rev: str) -> Reply:
        base, ref = repo.at(rev), repo.ref(rev)
        files, header = dict(base.files), {}
        for item in map(json.loads, request.body.splitlines()):
            value = item["value"]
            match item["key"]:
                case "header":
                    header = value
                case "file":
                    files[value["path"]] = File(base64.b64decode(value["content"]))
                case "lfsFile":
                    files[value["path"]] = self.large_file(value["oid"])
                case "deletedFile" | "deletedFolder":
                    gone = value["path"].rstrip("/")
                    files = {p: f for p, f in files.items() if p != gone and not p.startswith(f"{gone}/")}
        if header.get("parentCommit", base.oid) != base.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        reply: dict[str, Any] = {"success": True}
        if request.query.get("create_pr") == ["1"]:
            number = repo.open_pull_request(header["summary"], self.user, base, "open")["num"]
            ref = f"refs/pr/{number}"
            reply["pullRequestUrl"] = f"{self.url}/{repo.path}/discussions/{number}"
        elif ref is None:
            raise HubError(400, f"{rev} is a commit, not a branch")
        oid = repo.add(ref, files, header["summary"], header["description"]).oid
        return Reply(reply | {"commitOid": oid, "commitUrl": f"{self.url}/{repo.path}/commit/{oid}"})

    def large_file(self, sha256: str) -> File:
        """A file that was uploaded before the commit that names it."""
        if sha256 in self.lfs:
            return File(self.lfs[sha256], lfs=True)
        if xet_hash := self.xet_hashes().get(sha256):
            return File(self.xet_read(xet_hash), lfs=True, xet_hash=xet_hash)
        raise HubError(422, f"The file {sha256} was never uploaded")

    # Xet

    @route("GET", f"{API}/xet-write-token/{REV}", "write")
    def xet_write_token(self, request: Request, repo: Repo, rev: str) -> Reply:
        return self.xet_token(f"local://{self.xet}")

    @route("GET", f"{API}/xet-read-token/{REV}")
    def xet_read_token(self, request: Request, repo: Repo, rev: str) -> Reply:
        return self.xet_token(self.xet_snapshot())

    @staticmethod
    def xet_token(store: str) -> Reply:
        until = int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": store, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(until)}
        return Reply({"casUrl": store, "accessToken": "xet", "exp": until}, 200, headers)

    def xet_snapshot(self) -> str:
        """The address of a copy of the store: a process locks the store that it opens against all others."""
        store, copy = self.xet / "xet/xorbs", self._folder / f"xet-{next(self._count)}"

        def link(source: str, target: str) -> None:
            (shutil.copyfile if source.endswith(".redb") else os.link)(source, target)

        if store.is_dir():
            shutil.copytree(store, copy / "xet/xorbs", copy_function=link)
        return f"local://{copy}"

    def xet_read(self, xet_hash: str) -> bytes:
        import hf_xet

        with hf_xet.XetSession().new_download_stream_group(endpoint=self.xet_snapshot()) as group:
            return b"".join(group.download_stream(hf_xet.XetFileInfo(xet_hash, None)))

    def xet_hashes(self) -> dict[str, str]:
        """Xet hash by sha256, read from the file section of the store's shards (records of 48 bytes)."""

        def text(digest: bytes) -> str:
            return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))

        hashes = {}
        for shard in self.xet.glob("xet/xorbs/shards/*.mdb"):
            data, at = shard.read_bytes(), 48
            while (digest := data[at : at + 32]) != b"\xff" * 32:
                flags, entries = struct.unpack_from("<II", data, at + 32)
                verified, has_sha256 = flags >> 31, flags >> 30 & 1
                at += 48 * (1 + entries * (1 + verified))
                if has_sha256:
                    hashes[text(data[at : at + 32])] = text(digest)
                    at += 48
        return hashes

    @route("GET", rf"{API}(?:/revision/{REV})?")  # the widest pattern, so the last
    def repo_info(self, request: Request, repo: Repo, rev: str | None) -> Reply:
        commit, first = repo.at(rev or "main"), next(iter(repo.commits.values()))
        siblings = [file.info(path) for path, file in commit.files.items()]
        dates = {"createdAt": first.date, "lastModified": commit.date}
        facts = {
            "private": repo.private,
            "sdk": repo.sdk,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
        }
        return Reply({"id": repo.id, "sha": commit.oid, "siblings": siblings} | dates | facts)


class Handler(BaseHTTPRequestHandler):
    """Reads a request, has the hub answer it, writes the reply."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def body(self, length: int) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(length)
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def serve(self) -> None:
        url, length = urlsplit(self.path), int(self.headers.get("Content-Length", 0))
        method = "GET" if self.command == "HEAD" else self.command
        matches = ((r, r.pattern.fullmatch(url.path)) for r in ROUTES if r.method == method)
        found, match = next(((r, m) for r, m in matches if m), (None, None))
        name = found.handle.__name__ if found else "unknown"
        cut = self.hub.cuts(name)
        body = self.rfile.read(length // 2) if cut else self.body(length)
        if cut or len(body) < length:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        request = Request(name, self.command, self.path, parse_qs(url.query), self.headers, body)
        self.hub.request_log.append(request)
        try:
            if found is None:
                raise HubError(404, f"This test server has no {method} {url.path}")
            groups = {key: value and unquote(value) for key, value in match.groupdict().items()}
            with self.hub.lock:
                reply = self.hub.answer(found, groups, request)
        except HubError as error:
            reply = error.reply
        except Exception:
            reply = Reply({"error": traceback.format_exc()}, 501)
        self.write(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def write(self, reply: Reply) -> None:
        binary = isinstance(reply.body, bytes)
        data = reply.body if binary else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/octet-stream" if binary else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, value in reply.headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
