"""A small Hub on the loopback interface: enough of its HTTP interface for the real client to create, push and read."""

import base64
import hashlib
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import yaml


@dataclass
class StoredFile:
    """`etag` and `size` are those of the content that was committed, `body` is what is served: a test may damage it."""

    etag: str
    size: int
    body: bytes | None

    @classmethod
    def of(cls, path: str, content: bytes) -> "StoredFile":
        """As the Hub does: large storage names a content by its SHA-256, git by a SHA-1 with its length."""
        git = hashlib.sha1(b"blob %d\0" % len(content) + content)
        digest = hashlib.sha256(content) if path.endswith(".safetensors") else git
        return cls(digest.hexdigest(), len(content), content)

    @property
    def is_large(self) -> bool:
        return len(self.etag) == 64


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)  # of the commits that came by HTTP

    def resolve(self, revision: str) -> str:
        commit = self.branches.get(revision) or self.tags.get(revision) or revision
        if commit not in self.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit


class RefusalError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **body):
        self.status, self.code, self.message, self.body = status, code, message, body


class HubServer:
    """Repositories in memory, served while the context is open; the port is known from the start.

    `tokens` maps a token to its user, who may write to the repositories of that name. `requests` lists every request as
    "METHOD path". `failure` is a status that every request is answered with.
    """

    def __init__(self, tokens: dict[str, str] | None = None):
        self.tokens = tokens or {}
        self.counter = itertools.count()
        self.lock = threading.RLock()
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
        self.http.server_bind()  # takes the port without listening, so that who asks too early is refused at once
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.reset()

    def reset(self) -> None:
        """Forget all repositories and requests."""
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failure: int | None = None

    def __enter__(self) -> "HubServer":
        self.http.server_activate()
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.http.shutdown()
        self.http.server_close()

    # What a test does without HTTP.

    def commit(
        self, repo_id: str, files: dict[str, bytes], branch: str = "main", parent: str = "main", sha: str | None = None
    ) -> str:
        """Add a commit with these files on top of the branch (made from `parent` if it is new); return its sha."""
        stored = {path: StoredFile.of(path, content) for path, content in files.items()}
        return self.add_commit(self.repos.setdefault(repo_id, Repo()), stored, branch, parent, sha)

    def add_commit(
        self, repo: Repo, files: dict[str, StoredFile], branch: str, parent: str = "main", sha: str | None = None
    ) -> str:
        with self.lock:
            before = repo.commits.get(repo.branches.get(branch) or repo.branches.get(parent, ""), {})
            sha = sha or hashlib.sha1(f"commit {next(self.counter)}".encode()).hexdigest()
            repo.commits[sha] = {**before, **files}
            repo.branches[branch] = sha
        return sha

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[repo_id]
        return {path: file.body for path, file in repo.commits[repo.resolve(revision)].items()}

    def damage(self, repo_id: str, path: str, body: bytes | None, revision: str = "main") -> None:
        """Serve `body` instead of the file, under the unchanged etag and size; None removes the file from the store."""
        repo = self.repos[repo_id]
        repo.commits[repo.resolve(revision)][path].body = body


class Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: bytes | dict | list = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_request(self) -> None:
        path = self.path.partition("?")[0]
        self.data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if self.hub.failure:
                raise RefusalError(self.hub.failure, message="out of order")
            for method, pattern, function in ROUTES:
                if self.command in method and (match := re.fullmatch(pattern, path)):
                    return function(self, *(part and unquote(part) for part in match.groups()))
            raise RefusalError(404, message=f"no such endpoint: {path}")
        except RefusalError as no:
            self.answer(no.status, {"error": no.message, **no.body}, {"X-Error-Code": no.code} if no.code else None)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815 - the names that http.server looks for

    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise RefusalError(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def repo(self, repo_id: str, write: bool = False, content: bool = False) -> Repo:
        repo, user, owner = self.hub.repos.get(repo_id), self.user(), repo_id.split("/")[0]
        if repo is None or (repo.private and user != owner):
            # As the Hub does: who has not said who they are cannot know whether it exists.
            raise RefusalError(404 if user else 401, "RepoNotFound", "Repository not found")
        if content and repo.gated and user != owner:
            raise RefusalError(403, "GatedRepo", "Access to this repository is restricted")
        if write and user != owner:
            raise RefusalError(403, message=f"{user} may not write to {repo_id}")
        return repo

    def create(self) -> None:
        wanted = json.loads(self.data)
        user = self.user()
        repo_id = f"{wanted['organization'] or user}/{wanted['name']}"
        if user != repo_id.split("/")[0]:
            raise RefusalError(403 if user else 401, message=f"{user} may not create {repo_id}")
        if repo_id in self.hub.repos:
            raise RefusalError(409, message="You already created this model repo", url=f"{self.hub.url}/{repo_id}")
        repo = self.hub.repos[repo_id] = Repo(private=wanted.get("visibility") == "private")
        self.hub.add_commit(repo, {".gitattributes": StoredFile.of(".gitattributes", b"*.safetensors lfs\n")}, "main")
        self.answer(200, {"url": f"{self.hub.url}/{repo_id}"})

    def validate_yaml(self) -> None:
        content = json.loads(self.data)["content"]
        try:
            yaml.safe_load(content.split("---")[1] if content.startswith("---") else "")
        except yaml.YAMLError as error:
            raise RefusalError(400, message="bad", errors=[{"message": str(error)}], warnings=[]) from None
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, repo_id: str, branch: str) -> None:
        repo = self.repo(repo_id, write=True)
        tree = repo.commits[repo.resolve(branch)]
        answers = []
        for path in (file["path"] for file in json.loads(self.data)["files"]):
            mode = "lfs" if path.endswith(".safetensors") else "regular"
            oid = tree[path].etag if path in tree else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer(200, {"files": answers})

    def lfs_batch(self, repo_id: str) -> None:
        self.repo(repo_id, write=True)
        objects = []
        for wanted in json.loads(self.data)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}}}
            objects.append(wanted if wanted["oid"] in self.hub.lfs else {**wanted, "actions": actions})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.data).hexdigest() != oid:
            raise RefusalError(400, message="content does not match its oid")
        self.hub.lfs[oid] = self.data
        self.answer(200)

    def commit(self, repo_id: str, branch: str) -> None:
        repo = self.repo(repo_id, write=True)
        files, message = {}, ""
        for line in map(json.loads, self.data.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, repo.branches.get(branch)):
                    raise RefusalError(412, message="A commit has happened since. Please refresh and try again.")
            if line["key"] == "file":
                files[value["path"]] = StoredFile.of(value["path"], base64.b64decode(value["content"]))
            if line["key"] == "lfsFile":
                files[value["path"]] = StoredFile.of(value["path"], self.hub.lfs[value["oid"]])
        if branch not in repo.branches:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        sha = self.hub.add_commit(repo, files, branch)
        repo.messages[sha] = message
        self.answer(200, {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}", "commitOid": sha})

    def tag(self, repo_id: str, revision: str) -> None:
        repo, name = self.repo(repo_id, write=True), json.loads(self.data)["tag"]
        if name in repo.tags:
            raise RefusalError(409, message="Tag reference exists already")
        repo.tags[name] = repo.resolve(revision)
        self.answer(200)

    def info(self, repo_id: str, revision: str | None) -> None:
        repo = self.repo(repo_id)
        sha = repo.resolve(revision or "main")
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        self.answer(200, {"id": repo_id, "sha": sha, "private": repo.private, "siblings": siblings})

    def tree(self, repo_id: str, revision: str) -> None:
        repo, entries = self.repo(repo_id, content=True), []
        for path, file in repo.commits[repo.resolve(revision)].items():
            lfs = {"lfs": {"oid": file.etag, "size": file.size, "pointerSize": 130}} if file.is_large else {}
            entries.append({"type": "file", "path": path, "oid": file.etag[:40], "size": file.size, **lfs})
        self.answer(200, entries)

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        repo = self.repo(repo_id, content=True)
        sha = repo.resolve(revision)
        file = repo.commits[sha].get(path)
        if file is None or file.body is None:
            raise RefusalError(404, "EntryNotFound", f"{path} does not exist")
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": sha, "X-Linked-Size": str(file.size)}
        if file.is_large:  # as for a file in large storage, whose own ETag is the storage's business
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "ETag": '"storage"'}
        self.answer(200, file.body, headers)


ID = r"([^/]+/[^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("POST", f"/api/models/{ID}/preupload/([^/]+)", Handler.preupload),
    ("POST", f"/{ID}.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", "/lfs/([0-9a-f]{64})", Handler.lfs_put),
    ("POST", f"/api/models/{ID}/commit/([^/]+)", Handler.commit),
    ("POST", f"/api/models/{ID}/tag/([^/]+)", Handler.tag),
    ("GET", f"/api/models/{ID}(?:/revision/([^/]+))?", Handler.info),
    ("GET", f"/api/models/{ID}/tree/([^/]+)", Handler.tree),
    ("GET HEAD", f"/{ID}/resolve/([^/]+)/(.+)", Handler.resolve),
]
