"""The real Hub client against the server of `hub_server.py`."""

import contextlib
import os
import socket
from pathlib import Path

import children
import pytest

from zoo.errors import CheckpointError, HubError
from zoo.hub import HubLocation, download, parse_uri, push

pytest_plugins = ["hub_env"]

CONFIG = b'{"family": "toy"}\n'
WEIGHTS = bytes(range(256)) * 8
CARD = b"---\nlicense: apache-2.0\n---\n# Toy\n"
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": CARD}
TOY = HubLocation("alice/toy")


@pytest.fixture
def folder(tmp_path):
    """A checkpoint folder."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch, hub):
    """A function that switches this process to offline mode and forgets the requests so far."""
    from huggingface_hub import constants

    def switch():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub.requests.clear()

    return switch


@contextlib.contextmanager
def refused(kind, *parts):
    """Expect an error of this kind whose message has all the parts."""
    with pytest.raises(kind) as caught:
        yield
    message = str(caught.value)
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"


def run(code, **environment):
    """Run code in a process of its own, with these variables set; return the lines it prints."""
    done = children.run(code, cwd=Path(__file__).parents[2], env=os.environ | environment, strict=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def read(snapshot):
    return {name: (snapshot.folder / name).read_bytes() for name in snapshot.files}


# The address


@pytest.mark.parametrize(
    ("uri", "repo_id", "revision"),
    [
        ("hf://owner/repo", "owner/repo", None),
        ("hf://owner/repo@main", "owner/repo", "main"),
        ("hf://EPFL-VILAB/flextok_d18_d28_dfn@v1.0", "EPFL-VILAB/flextok_d18_d28_dfn", "v1.0"),
        ("hf://o/r@refs/pr/4", "o/r", "refs/pr/4"),
        ("hf://o/r@" + "0123456789abcdef" * 2 + "01234567", "o/r", "0123456789abcdef" * 2 + "01234567"),
    ],
)
def test_uri_is_read_and_written_back(uri, repo_id, revision):
    location = parse_uri(uri)
    assert location == HubLocation(repo_id, revision)
    assert str(location) == uri


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("owner/repo", "does not start with hf://"),
        ("HF://owner/repo", "does not start with hf://"),
        (" hf://owner/repo", "does not start with hf://"),
        ("hf://", "not the name of a Hub repository"),
        ("hf://repo", "not the name of a Hub repository"),
        ("hf:///repo", "not the name of a Hub repository"),
        ("hf://owner/", "not the name of a Hub repository"),
        ("hf://../x", "not the name of a Hub repository"),
        ("hf://owner/..", "not the name of a Hub repository"),
        ("hf://owner/a..b", "not the name of a Hub repository"),
        ("hf://owner/a--b", "not the name of a Hub repository"),
        ("hf://owner/repo/file.json", "not the name of a Hub repository"),
        ("hf://owner/re po", "not the name of a Hub repository"),
        ("hf://owner/repo\n", "not the name of a Hub repository"),
        ("hf://owner/répo", "not the name of a Hub repository"),
        ("hf://owner/repo@", "not a revision"),
        ("hf://owner/repo@ main", "not a revision"),
        ("hf://owner/repo@../../x", "not a revision"),
        ("hf://owner/repo@a/../b", "not a revision"),
        ("hf://owner/repo@a..b", "not a revision"),
        ("hf://owner/repo@/etc", "not a revision"),
        ("hf://owner/repo@a//b", "not a revision"),
        ("hf://owner/repo@a@b", "not a revision"),
        ("hf://owner/repo@main\n", "not a revision"),
    ],
)
def test_malformed_uri_is_refused(uri, reason):
    with refused(HubError, repr(uri), "hf://owner/repo[@revision]", reason):
        parse_uri(uri)


def test_revision_beside_the_uri():
    assert parse_uri("hf://o/r", revision="v1") == parse_uri("hf://o/r@v1") == parse_uri("hf://o/r@v1", revision="v1")
    with refused(HubError, "revision='v2' contradicts"):
        parse_uri("hf://o/r@v1", revision="v2")
    with refused(HubError, "'../x' is not a revision"):
        parse_uri("hf://o/r", revision="../x")


def test_import_does_not_load_the_client():
    code = "import sys, zoo.hub; print('huggingface_hub' in sys.modules)"
    assert run(code) == ["False"]


# Download


def test_each_kind_of_revision_gives_its_commit(hub, cache):
    first = hub.commit("alice/toy", FILES)
    hub.repos["alice/toy"].tags["v1"] = first
    second = hub.commit("alice/toy", {"config.json": b"{}"})
    side = hub.commit("alice/toy", {"config.json": b"[]"}, branch="side/try")
    expected = {None: second, "main": second, "v1": first, "side/try": side, first: first, second: second}
    for revision, commit in expected.items():
        snapshot = download(HubLocation("alice/toy", revision), cache_dir=cache)
        assert (snapshot.repo_id, snapshot.revision, snapshot.commit) == ("alice/toy", revision, commit)
        assert read(snapshot) == hub.files("alice/toy", commit)
        assert snapshot.unverified == ()


def test_default_cache_is_that_of_the_client(hub):
    hub.commit("alice/toy", FILES)
    assert Path(os.environ["HF_HOME"]) in download(TOY).folder.parents


def test_only_the_allowed_files_are_requested(hub, cache):
    others = {"pytorch_model.bin": b"pickle", "old.PT": b"pickle", "sub/vae.ckpt": b"pickle", "notes.txt": b"text"}
    hub.commit("alice/toy", FILES | others | {"sub/tokens.json": b"{}"})
    assert download(TOY, cache_dir=cache).files == ("README.md", "config.json", "model.safetensors", "sub/tokens.json")
    assert download(TOY, allow=["config.json"], cache_dir=cache).files == ("config.json",)
    assert "notes.txt" in download(TOY, allow=["*"], cache_dir=cache).files
    assert not [line for line in hub.requests if line.endswith((".bin", ".PT", ".ckpt"))]


def test_asking_for_pickles_is_refused(hub):
    with refused(HubError, "['*.bin']", "pickles", "Ask for *.safetensors"):
        download(TOY, allow=["*.json", "*.bin"])
    assert hub.requests == []


def test_repository_with_pickles_only(hub, cache):
    hub.commit("alice/toy", {"pytorch_model.bin": b"pickle"})
    with refused(HubError, "hf://alice/toy has none of the files *.json, *.safetensors, README.md", "pickles"):
        download(TOY, cache_dir=cache)


def test_cached_commit_needs_no_request(hub, cache):
    commit = hub.commit("alice/toy", FILES)
    download(HubLocation("alice/toy", commit), cache_dir=cache)
    hub.requests.clear()
    assert read(download(HubLocation("alice/toy", commit), cache_dir=cache)) == FILES
    assert hub.requests == []


@pytest.mark.parametrize("revision", [None, "main", "v1", "commit"])
def test_offline_uses_the_cache_and_makes_no_request(hub, cache, offline, revision):
    commit = hub.commit("alice/toy", FILES)
    hub.repos["alice/toy"].tags["v1"] = commit
    location = HubLocation("alice/toy", commit if revision == "commit" else revision)
    download(location, cache_dir=cache)
    offline()
    snapshot = download(location, cache_dir=cache)
    assert (snapshot.commit, read(snapshot)) == (commit, FILES)
    assert hub.requests == []


def test_offline_says_what_is_missing(hub, cache, offline):
    commit = hub.commit("alice/toy", FILES)
    download(HubLocation("alice/toy", commit), allow=["*.json"], cache_dir=cache)
    offline()
    for location in (HubLocation("alice/other"), HubLocation("alice/toy", "v9"), HubLocation("alice/toy", "a" * 40)):
        with refused(HubError, f"Could not download {location}", "HF_HUB_OFFLINE is set", "Unset it"):
            download(location, cache_dir=cache)
    with refused(HubError, "2 file(s) are missing (model.safetensors, README.md)", "Unset it"):
        download(HubLocation("alice/toy", commit), cache_dir=cache)
    assert hub.requests == []


def test_offline_by_the_environment(hub, tmp_path):
    # In a process of its own, as the client reads the variable when it is imported.
    code = """
        import sys
        from zoo.errors import HubError
        from zoo.hub import download, parse_uri
        print(download(parse_uri("hf://alice/toy@main")).commit)
        try:
            download(parse_uri("hf://alice/other"))
        except HubError as error:
            print(error)
    """
    commit = hub.commit("alice/toy", FILES)
    download(TOY, cache_dir=tmp_path / "hub")
    hub.requests.clear()
    first, second = run(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert first == commit
    assert "Could not download hf://alice/other" in second
    assert "HF_HUB_OFFLINE is set" in second
    assert hub.requests == []


def test_unreachable_hub_falls_back_on_the_cache(hub, cache):
    commit = hub.commit("alice/toy", FILES)
    download(TOY, cache_dir=cache)
    hub.failure = 503
    assert download(TOY, cache_dir=cache).commit == commit


# What is damaged


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damage_on_the_way_is_found_and_can_be_repaired(hub, cache, name):
    hub.commit("alice/toy", FILES)
    hub.damage("alice/toy", name, b"X" + FILES[name][1:])
    for _ in range(2):
        with pytest.raises(CheckpointError, match=f"{name} of hf://alice/toy is damaged.*Remove") as caught:
            download(TOY, cache_dir=cache)
    hub.damage("alice/toy", name, FILES[name])
    blob = next(path for path in cache.rglob("blobs/*") if str(path) in str(caught.value))
    blob.unlink()
    assert read(download(TOY, cache_dir=cache)) == FILES


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"X" + content[1:], lambda _: b""])
@pytest.mark.parametrize("network", [True, False])
def test_damage_on_the_disk_is_found(hub, cache, offline, name, damage, network):
    hub.commit("alice/toy", FILES)
    blob = (download(TOY, cache_dir=cache).folder / name).resolve()
    blob.write_bytes(damage(FILES[name]))
    if not network:
        offline()
    with refused(CheckpointError, f"{name} of hf://alice/toy is damaged", f"Remove the damaged copy, {blob}"):
        download(TOY, cache_dir=cache)
    assert network or hub.requests == []


def test_truncated_download_is_refused(hub, cache):
    hub.commit("alice/toy", FILES)
    hub.damage("alice/toy", "model.safetensors", WEIGHTS[:-1])
    with refused(HubError, "Could not download hf://alice/toy", "size 2048 but has size 2047", "model.safetensors"):
        download(TOY, cache_dir=cache)


def test_file_missing_on_the_hub(hub, cache):
    hub.commit("alice/toy", FILES)
    hub.damage("alice/toy", "model.safetensors", None)
    with refused(HubError, "a file is missing there", "model.safetensors"):
        download(TOY, cache_dir=cache)


def test_cache_without_links_is_said_to_be_unverified(hub, cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    hub.commit("alice/toy", FILES)
    snapshot = download(TOY, cache_dir=cache)
    assert read(snapshot) == FILES
    assert snapshot.unverified == snapshot.files


def test_blob_in_a_shared_store(hub, cache):
    hub.commit("alice/toy", FILES)
    pointer = download(TOY, cache_dir=cache).folder / "model.safetensors"
    shared = cache / "blobs" / ("a" * 64)  # the store names contents by another digest than SHA-256
    shared.parent.mkdir()
    blob = pointer.resolve()
    blob.rename(shared)
    blob.symlink_to(shared)
    assert download(TOY, cache_dir=cache).unverified == ()
    shared.write_bytes(WEIGHTS[::-1])
    with refused(CheckpointError, f"Remove the damaged copy, {shared}"):
        download(TOY, cache_dir=cache)


# What the Hub refuses


def test_errors_of_the_hub_say_what_to_do(hub, cache):
    hub.commit("alice/toy", FILES)
    hub.commit("alice/secret", FILES)
    hub.repos["alice/secret"].private = True
    hub.commit("bob/gated", FILES)
    hub.repos["bob/gated"].gated = True
    cases = [
        ("hf://alice/nothing", None, ["alice/nothing does not exist, or is private", "hf auth login", "HF_TOKEN"]),
        ("hf://alice/secret", "hf_bob", ["alice/secret does not exist, or is private", "token"]),
        ("hf://alice/secret", False, ["alice/secret does not exist, or is private", "token"]),
        ("hf://bob/gated", None, ["access is restricted", f"Ask for it at {hub.url}/bob/gated"]),
        ("hf://alice/toy@v9", None, ["no branch, tag or commit 'v9'"]),
        ("hf://alice/toy@" + "b" * 40, None, ["no branch, tag or commit 'bbbb"]),
        ("hf://alice/toy", "hf_wrong", ["the token was refused", "hf auth login"]),
    ]
    for uri, token, parts in cases:
        with refused(HubError, f"Could not download {uri}: ", *parts):
            download(parse_uri(uri), token=token, cache_dir=cache)
    assert read(download(HubLocation("alice/secret"), cache_dir=cache)) == FILES


@pytest.mark.parametrize(("status", "part"), [(500, "Try again later"), (429, "too many requests"), (403, "right")])
def test_status_is_explained(hub, cache, status, part):
    hub.failure = status
    with refused(HubError, part, str(status)):
        download(TOY, cache_dir=cache)


def test_unreachable_hub(hub, cache, folder, monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    for action in (lambda: download(TOY, cache_dir=cache), lambda: push(folder, "alice/toy")):
        with refused(HubError, f"{closed} cannot be reached", "Check the network"):
            action()
    assert hub.requests == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interruption_is_not_swallowed(hub, monkeypatch, kind):
    def interrupted(*_, **__):
        raise kind

    monkeypatch.setattr("huggingface_hub.snapshot_download", interrupted)
    with pytest.raises(kind):
        download(TOY)


# Push


def test_pushed_folder_comes_back(hub, folder, cache):
    (folder / "tokens.json").write_bytes(b"[1]")
    result = push(folder, "alice/toy", tag="v1", message="First")
    assert (result.repo_id, result.url, result.card_kept) == ("alice/toy", f"{hub.url}/alice/toy", False)
    assert hub.repos["alice/toy"].branches == {"main": result.commit}
    assert hub.repos["alice/toy"].tags == {"v1": result.commit}
    assert hub.repos["alice/toy"].messages == {result.commit: "First"}
    assert [line for line in hub.requests if "/commit/" in line] == ["POST /api/models/alice/toy/commit/main"]
    snapshot = download(parse_uri("hf://alice/toy@v1"), cache_dir=cache)
    assert snapshot.commit == result.commit
    assert read(snapshot) == FILES | {"tokens.json": b"[1]"}


def test_card_of_the_repository_is_kept(hub, folder):
    hub.commit("alice/toy", {"README.md": b"# Written by hand", "extra.json": b"{}"})
    result = push(folder, "alice/toy")
    assert result.card_kept
    expected = {"README.md": b"# Written by hand", "extra.json": b"{}", "config.json": CONFIG}
    assert hub.files("alice/toy") == expected | {"model.safetensors": WEIGHTS}


def test_second_push_updates_and_third_changes_nothing(hub, folder):
    first = push(folder, "alice/toy")
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    (folder / "README.md").write_bytes(b"# Generated again")
    second = push(folder, "alice/toy")
    assert second.commit != first.commit
    assert hub.files("alice/toy")["model.safetensors"] == WEIGHTS[::-1]
    assert hub.files("alice/toy", first.commit)["model.safetensors"] == WEIGHTS
    assert hub.files("alice/toy")["README.md"] == CARD
    assert push(folder, "alice/toy").commit == second.commit


def test_card_that_appears_meanwhile_is_not_overwritten(hub, folder, monkeypatch):
    from huggingface_hub import HfApi

    original = HfApi.create_commit

    def late(self, *args, **options):
        hub.commit("alice/toy", {"README.md": b"# Just written"})
        return original(self, *args, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    with refused(HubError, "somebody else has changed the repository", "push again"):
        push(folder, "alice/toy")
    assert hub.files("alice/toy")["README.md"] == b"# Just written"
    assert "config.json" not in hub.files("alice/toy")


@pytest.mark.parametrize(
    ("add", "remove", "part"),
    [
        ([], ["config.json"], "config.json is missing"),
        ([], ["model.safetensors"], "there is no *.safetensors"),
        (["model.pt", "old.BIN"], [], "never published: model.pt, old.BIN"),
        (
            ["train.log", "log/events.json", ".hidden.json"],
            [],
            "do not belong to a checkpoint: .hidden.json, log/, train.log",
        ),
    ],
)
def test_other_folders_are_refused(hub, folder, add, remove, part):
    for name in add:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name in remove:
        (folder / name).unlink()
    with refused(CheckpointError, f"{folder} cannot be published", part, "Expected a folder with config.json"):
        push(folder, "alice/toy")
    assert hub.requests == []


def test_bad_arguments_are_refused_before_any_request(hub, folder, tmp_path, monkeypatch):
    with refused(CheckpointError, f"{tmp_path / 'none'} is not a folder"):
        push(tmp_path / "none", "alice/toy")
    with refused(HubError, "'toy' is not the name of a Hub repository"):
        push(folder, "toy")
    with refused(HubError, "'v 1' is not a revision"):
        push(folder, "alice/toy", tag="v 1")
    with refused(HubError, "a commit does not change", "Give a branch"):
        push(folder, "alice/toy", revision="c" * 40)
    monkeypatch.delenv("HF_TOKEN")
    with refused(HubError, "without a token", "hf auth login", "HF_TOKEN"):
        push(folder, "alice/toy")
    assert hub.requests == []


def test_branch_and_existing_tag(hub, folder):
    main = hub.commit("alice/toy", {"config.json": b"{}"})
    hub.commit("alice/toy", {}, branch="next")
    hub.repos["alice/toy"].tags["v1"] = main
    result = push(folder, "alice/toy", revision="next", tag="v2")
    assert hub.repos["alice/toy"].branches == {"main": main, "next": result.commit}
    assert hub.repos["alice/toy"].tags["v2"] == result.commit
    with refused(HubError, "already has a revision 'v1'", main, "Choose another tag"):
        push(folder, "alice/toy", tag="v1")
    with refused(HubError, "no branch, tag or commit 'nowhere'"):
        push(folder, "alice/toy", revision="nowhere")
    assert hub.repos["alice/toy"].branches == {"main": main, "next": result.commit}


def test_failed_tag_names_the_commit_that_is_there(hub, folder, monkeypatch):
    from huggingface_hub import HfApi

    def broken(*_, **__):
        hub.failure = 500
        return original(*_, **__)

    original = HfApi.create_tag
    monkeypatch.setattr(HfApi, "create_tag", broken)
    with pytest.raises(HubError) as caught:
        push(folder, "alice/toy", tag="v1")
    assert f"tag commit {hub.repos['alice/toy'].branches['main']}, which is uploaded, as 'v1'" in str(caught.value)


def test_private_is_never_published_in_public(hub, folder):
    push(folder, "alice/secret", private=True)
    assert hub.repos["alice/secret"].private
    before = hub.commit("alice/open", {})
    with refused(HubError, "alice/open exists and is public"):
        push(folder, "alice/open", private=True)
    assert hub.repos["alice/open"].branches == {"main": before}


def test_rights(hub, folder):
    hub.commit("alice/toy", {})
    for repo_id, options, part in [
        ("alice/toy", {"token": "hf_bob"}, "does not have the right"),
        ("alice/new", {"token": "hf_bob"}, "does not have the right"),
        ("alice/toy", {"token": "hf_wrong"}, "the token was refused"),
        ("alice/new", {"create": False}, "does not exist, or is private"),
    ]:
        with refused(HubError, f"Could not push to hf://{repo_id}", part):
            push(folder, repo_id, **options)
    assert list(hub.repos) == ["alice/toy"]
    assert hub.files("alice/toy") == {}


def test_malformed_card(hub, folder):
    (folder / "README.md").write_bytes(b"---\nlicense: [\n---\n")
    with refused(HubError, "Invalid metadata in README.md"):
        push(folder, "alice/toy")
    assert "config.json" not in hub.files("alice/toy")


def test_offline_push(hub, folder, offline):
    offline()
    with refused(HubError, "Could not push to hf://alice/toy", "HF_HUB_OFFLINE is set", "Unset it"):
        push(folder, "alice/toy")
    assert hub.requests == []
