"""The Hub: what `hf://owner/repo[@revision]` names, downloading it at one commit, publishing a checkpoint folder.

Only configurations, safetensors and model cards travel, and no pickle but one that is asked for by its full name, for
the sake of authors' layouts that have such. The files of a snapshot are compared at every use with the digests under
which the cache stores them: the Hub client checks no more than the size of a download.
"""

from __future__ import annotations

import glob
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from zoo.checkpoint.atomic import STAGING
from zoo.errors import CheckpointError, HubError, ZooError
from zoo.hub.card_text import BLOCK, refreshed
from zoo.strict import decode, read_text

__all__ = ["HubLocation", "PushResult", "Snapshot", "complete", "download", "parse_uri", "push"]

CARD = "README.md"
DEFAULT_ALLOW = ("*.json", "*.safetensors", CARD)
PICKLE_SUFFIXES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
# The client matches names with regard to case, so `.PT` needs a pattern that knows both.
_PICKLES = ["*." + "".join(f"[{c}{c.upper()}]" for c in suffix[1:]) for suffix in PICKLE_SUFFIXES]

_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
_PATH = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*\.safetensors", re.ASCII)
_REVISION = re.compile(r"\w(?:[\w.+-]*[\w+-])?(?:/\w(?:[\w.+-]*[\w+-])?)*", re.ASCII)
_LOG_IN = "Log in with `hf auth login`, set HF_TOKEN, or pass token=."


@dataclass(frozen=True)
class HubLocation:
    """A repository on the Hub and, if one is given, the branch, tag or commit of it. `str()` gives the URI.

    Attributes:
        repo_id: owner/repo.
        revision: Branch, tag or commit.
        path: Of the one file of safetensors in it that is meant, "" for the repository as a whole.
    """

    repo_id: str
    revision: str | None = None
    path: str = ""

    def __post_init__(self) -> None:
        # Both parts become folder names in the cache, so nothing may pass that could lead out of it.
        owner, slash, name = self.repo_id.partition("/")
        if not (slash and _NAME.fullmatch(owner) and _NAME.fullmatch(name)) or re.search(r"\.\.|--", self.repo_id):
            raise HubError(
                f"{self.repo_id!r} is not the name of a Hub repository. Expected owner/repo, each of letters, digits, "
                "'-', '_' and '.', without '..' or '--', and without '-' or '.' at either end."
            )
        if self.revision is not None and (not _REVISION.fullmatch(self.revision) or ".." in self.revision):
            raise HubError(f"{self.revision!r} is not a revision. Expected a branch, tag or commit, or none at all.")
        if self.path and (not _PATH.fullmatch(self.path) or ".." in self.path):
            raise HubError(f"{self.path!r} is not the path of a file there. Expected folder/file.safetensors.")

    def __str__(self) -> str:
        return f"hf://{self.repo_id}{self.path and '/' + self.path}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit in the local cache, which owns the folder: nothing may be written there.

    Attributes:
        commit: The full id that `revision`, which was asked for, was resolved to.
        files: The files that were asked for and are there, relative to the folder.
        unverified: Those that could not be compared with a digest: a cache without symbolic links keeps none.
    """

    folder: Path
    repo_id: str
    commit: str
    revision: str | None
    files: tuple[str, ...]
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True)
class PushResult:
    """What was published: the commit, the address of the repository, and whether its own card was kept."""

    repo_id: str
    commit: str
    url: str
    card_kept: bool


def parse_uri(uri: str, *, revision: str | None = None) -> HubLocation:
    """Read `hf://owner/repo` or `hf://owner/repo@revision`; `revision` says it where the URI does not.

    One file of a repository that has several models is `hf://owner/repo/folder/file.safetensors`, with or without
    `@revision`.

    Raises:
        HubError: If it has another form, or names another revision. Nothing is trimmed or guessed.

    Example:
        >>> parse_uri("hf://owner/repo@v1.0")
        HubLocation(repo_id='owner/repo', revision='v1.0')
    """
    name, at, named = uri.removeprefix("hf://").partition("@")
    owner, _, rest = name.partition("/")
    repo, _, path = rest.partition("/")
    is_file = path.endswith(".safetensors")
    repo_id = f"{owner}/{repo}" if is_file else name
    try:
        if not uri.startswith("hf://"):
            raise HubError("it does not start with hf://.")
        if at and revision not in (None, named):
            raise HubError(f"revision={revision!r} contradicts it. Give one of the two.")
        return HubLocation(repo_id, named if at else revision, path if is_file else "")
    except HubError as error:
        raise HubError(f"{uri!r} cannot be read as hf://owner/repo[@revision]: {error}") from None


def download(
    location: HubLocation,
    *,
    allow: Sequence[str] = DEFAULT_ALLOW,
    ignore: Sequence[str] = (),
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> Snapshot:
    """Bring the allowed files of one commit into the local cache and verify them.

    Nothing is requested with HF_HUB_OFFLINE=1, nor for a full commit id that is cached. If the Hub cannot be reached, a
    branch or tag means the commit that it meant when it was last downloaded.

    Args:
        location: What to download.
        allow: Patterns of the files to take, as in a shell, except that `*` also matches `/`.
        ignore: Patterns of files to leave out all the same.
        token: Access token; None takes the one of the environment or of the login, False sends none.
        cache_dir: Another cache than the default one of the Hub client.

    Raises:
        HubError: If the files cannot be had, or there are none.
        CheckpointError: If a file in the cache is not what the Hub said it is.
    """
    if pickles := [pattern for pattern in allow if pattern.lower().endswith(PICKLE_SUFFIXES)]:
        raise HubError(f"{pickles} would match pickles, which can run code when read. Ask for *.safetensors.")
    folder = _fetch(location, allow, [*_PICKLES, *ignore], token, cache_dir)
    present = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    allowed = (name for name in present if any(fnmatchcase(name, pattern) for pattern in allow))
    files = tuple(
        name
        for name in allowed
        if not name.lower().endswith(PICKLE_SUFFIXES) and not any(fnmatchcase(name, pattern) for pattern in ignore)
    )
    if not files:
        raise HubError(
            f"{location} has none of the files {', '.join(allow)} at commit {folder.name}. Expected a configuration "
            "and safetensors; weights that are only there as pickles (.pt, .bin, ...) are not read: convert them."
        )
    unverified = tuple(name for name in files if not _verify(folder / name, location))
    return Snapshot(folder, location.repo_id, folder.name, location.revision, files, unverified)


def complete(
    snapshot: Snapshot,
    names: Sequence[str],
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> Snapshot:
    """Bring further files of a snapshot's commit into the cache and verify them.

    They may be pickles, which whoever asks for them must then read as tensors and nothing else.

    Args:
        snapshot: What `download` returned.
        names: Paths in the repository, in full. Those that it lacks are left out.
        token: As for `download`.
        cache_dir: As for `download`.

    Raises:
        HubError: If the files cannot be had.
        CheckpointError: If a file in the cache is not what the Hub said it is.
    """
    location = HubLocation(snapshot.repo_id, snapshot.commit)
    folder = _fetch(location, [glob.escape(name) for name in names], [], token, cache_dir)
    there = [name for name in names if (folder / name).is_file()]
    unverified = [name for name in there if not _verify(folder / name, location)]
    return replace(
        snapshot,
        files=tuple(sorted({*snapshot.files, *there})),
        unverified=tuple(sorted({*snapshot.unverified, *unverified})),
    )


def push(
    folder: str | Path,
    repo_id: str,
    *,
    revision: str | None = None,
    tag: str | None = None,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload tokenizer",
    create: bool = True,
    change_licence: bool = False,
    facts: str | None = None,
) -> PushResult:
    """Publish a checkpoint folder in one commit.

    Of a model card that the repository already has, the blocks between `<!-- zoo:… -->` markers become those of the
    folder's card, and its author's words stay; other files are updated, and none is deleted.

    Args:
        folder: It has `config.json`, `*.safetensors`, perhaps a card and other `*.json`, and nothing else.
        repo_id: The repository, as owner/repo.
        revision: The branch to commit to; None is the default branch.
        tag: A tag to set on the commit; it must not exist yet.
        private: Whether the repository must be private. A public one is then refused, not changed.
        token: Access token with the right to write; None takes the one of the environment or of the login.
        message: The commit message.
        create: Whether to create the repository if there is none.
        change_licence: Whether the licence that the repository's card states may become another.
        facts: A card whose blocks are taken if the folder's own card has none.

    Raises:
        CheckpointError: If the folder is not a checkpoint folder, or has files that must not be published.
        HubError: If the Hub cannot be reached or refuses, or the repository's card states another licence.
    """
    target = HubLocation(repo_id, revision)
    names = _checkpoint_files(Path(folder))
    if re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise HubError(f"Cannot push to {target}: a commit does not change. Give a branch, or leave it out.")
    HubLocation(repo_id, tag)  # refuses a malformed tag before anything is uploaded
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import RevisionNotFoundError

    with _client_errors("push to", target):
        if not (token := token or get_token()):
            raise HubError(f"Cannot push to {target} without a token that may write there. {_LOG_IN}")
        api = HfApi(token=token)
        if create:
            api.create_repo(repo_id, private=private, exist_ok=True)
        head = api.model_info(repo_id, revision=revision)
        if private and not head.private:
            raise HubError(f"{repo_id} exists and is public, but private=True. Make it private first, or take another.")
        with suppress(RevisionNotFoundError):
            if tag is not None and (taken := api.model_info(repo_id, revision=tag).sha):
                raise HubError(f"{repo_id} already has a revision {tag!r}, commit {taken}. Choose another tag.")
        card_kept = any(file.rfilename == CARD for file in head.siblings or ())
        contents: dict[str, Path | bytes] = {name: Path(folder) / name for name in names}
        if card_kept and CARD in names:
            with tempfile.TemporaryDirectory() as scratch:
                there = Path(api.hf_hub_download(repo_id, CARD, revision=head.sha, local_dir=scratch)).read_bytes()
            new = read_text(Path(folder) / CARD, HubError)
            if facts is not None and BLOCK.search(new) is None:
                new = facts
            card = refreshed(decode(there, f"{CARD} of {repo_id}", HubError), new, change_licence=change_licence)
            contents[CARD] = card.encode()
            if contents[CARD] == there:
                del contents[CARD]
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(name, content) for name, content in contents.items()],
            commit_message=message,
            revision=revision,
            parent_commit=head.sha,  # so that a card that appears in the meantime is not overwritten either
        )
    if tag is not None:
        with _client_errors(f"tag commit {commit.oid}, which is uploaded, as {tag!r} in", target):
            api.create_tag(repo_id, tag=tag, revision=commit.oid)
    return PushResult(repo_id, commit.oid, str(commit.repo_url), card_kept)


def _fetch(
    location: HubLocation,
    allow: Sequence[str],
    ignore: Sequence[str],
    token: str | bool | None,
    cache_dir: str | Path | None,
) -> Path:
    """Have the client bring files into the cache, and return the snapshot's folder, `.../snapshots/<commit>`."""
    from huggingface_hub import constants, snapshot_download

    with _client_errors("download", location):
        path = snapshot_download(
            location.repo_id,
            revision=location.revision,
            allow_patterns=list(allow),
            ignore_patterns=list(ignore),
            token=token,
            cache_dir=cache_dir,
            local_files_only=constants.HF_HUB_OFFLINE,
        )
    return Path(path)


def _verify(path: Path, location: HubLocation) -> bool:
    """Compare a cached file with the digest that names its blob; return False if there is none to compare with."""
    if not path.is_symlink():
        return False
    # One link only: a blob may itself be a link into a store shared by repositories, where names mean something else.
    expected = path.readlink().name
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", expected):
        return False
    # 64 digits are the SHA-256 of a content; 40 are git's name of it, or its SHA-1, by which mirrors such as
    # Artifactory name it.
    git_start = b"blob %d\0" % path.stat().st_size
    starts = (b"",) if len(expected) == 64 else (git_start, b"")
    found = ""
    for start in starts:
        digest = hashlib.sha256(start) if len(expected) == 64 else hashlib.sha1(start, usedforsecurity=False)
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda digest=digest: digest).hexdigest()  # type: ignore[misc]
        if found == expected:
            break
    else:
        raise CheckpointError(
            f"{path.name} of {location} is damaged in the cache: expected content with the digest {expected}, found "
            f"{found}. Remove the damaged copy, {path.resolve()}, and load again with access to the network."
        )
    return True


def _checkpoint_files(folder: Path) -> list[str]:
    """Return the names of the files to publish, or say what keeps the folder from being published."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder. Expected one with config.json and *.safetensors.")
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(STAGING)]  # what a killed save left
    names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    wanted = [name for name in names if name == CARD or re.fullmatch(r"[^.].*\.(json|safetensors)", name)]
    pickles = [name for name in names if name.lower().endswith(PICKLE_SUFFIXES)]
    others = [name for name in names if name not in wanted and name not in pickles]
    problems = {
        "config.json is missing": "config.json" not in wanted,
        "there is no *.safetensors": not any(name.endswith(".safetensors") for name in wanted),
        f"pickles can run code when read and are never published: {', '.join(pickles)}": pickles,
        f"these do not belong to a checkpoint: {', '.join(others)}": others,
    }
    if found := [problem for problem, there in problems.items() if there]:
        raise CheckpointError(
            f"{folder} cannot be published: {'; '.join(found)}. Expected a folder with config.json, *.safetensors, "
            f"and perhaps {CARD} and other *.json, and nothing else; `zoo export` makes one."
        )
    return wanted


@contextmanager
def _client_errors(doing: str, location: HubLocation) -> Iterator[None]:
    """Turn what the Hub client raises into a `HubError` that says what to do."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # the client raises its own, those of its HTTP library, and plain Python ones
        raise HubError(f"Could not {doing} {location}: {_explain(error, location)}") from error


def _explain(error: BaseException, location: HubLocation) -> str:
    """Say what an error of the Hub client means, and what to do about it."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return _explain(error.__cause__, location)  # the client wraps the reason in something vaguer
    page = f"{constants.ENDPOINT}/{location.repo_id}"
    detail = " ".join(str(error).split())
    by_type: dict[type[Exception], str] = {
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, so nothing may be requested. Unset it.",
        errors.LocalEntryNotFoundError: "HF_HUB_OFFLINE is set, and not all files are in the cache. Unset it, or copy "
        f"the cache from where they were downloaded. ({detail})",
        errors.GatedRepoError: f"access is restricted. Ask for it at {page}, then use a token of that account.",
        errors.RepositoryNotFoundError: f"{page} does not exist, or is private and the token may not see it. {_LOG_IN}",
        errors.RevisionNotFoundError: f"no branch, tag or commit {location.revision or 'main'!r}; see {page}.",
        errors.EntryNotFoundError: f"a file is missing there. Tell its owner, or choose another revision. ({detail})",
    }
    for kind, meaning in by_type.items():
        if isinstance(error, kind):
            return meaning
    if isinstance(error, errors.HfHubHTTPError):
        by_status = {
            401: f"the token was refused: it is wrong or has expired. {_LOG_IN}",
            403: f"the token does not have the right to do this. Expected one that may write to {page}.",
            412: "somebody else has changed the repository in the meantime. Look at the change and push again.",
            429: "there were too many requests. Wait a few minutes and try again.",
        }
        return f"{by_status.get(error.response.status_code, 'the Hub failed to answer. Try again later.')} ({detail})"
    if type(error).__module__.partition(".")[0] in {"httpx", "httpx2", "requests"}:
        return f"{constants.ENDPOINT} cannot be reached. Check the network, the proxy and HF_ENDPOINT. ({detail})"
    return f"{type(error).__name__}: {detail}"
