"""Every damaged or hostile checkpoint ends in an error that names the file, and nothing in it is executed."""

import os
import random
import sys

import pytest
import torch
import toy
from checkpoint_tools import CONFIG, WEIGHTS, Payload, change, manifest, refused_load, rewrite, seal

import zoo
from zoo.errors import CheckpointError, ConfigError, ZooError

WHERE = f"/{CONFIG}"
WEIGHTS_AT = f"/{WEIGHTS}"


@pytest.fixture(autouse=True)
def toys():
    with toy.registered():
        yield


@pytest.fixture
def folder(tmp_path):
    return zoo.save(toy.make("image"), tmp_path / "checkpoint")


# -------------------------------------------------------------------------------------------------------- config.json

OTHER_NAMES = ["../x.safetensors", "/etc/x.json", "sub/x.safetensors", "..\\x.json", "C:x.json", ".x.json", "x.json\n"]


@pytest.mark.parametrize("name", [*OTHER_NAMES, "model.pt", "pytorch_model.bin", "..", "", CONFIG])
def test_names_that_lead_out_of_the_folder_or_to_pickles(folder, name, tmp_path):
    files = manifest(folder)["files"]
    for path in (tmp_path / "x.safetensors", folder / "sub" / "x.safetensors", folder / "model.pt"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((folder / WEIGHTS).read_bytes())
    for listed in ({name: files[WEIGHTS]}, {**files, name: files[WEIGHTS]}):
        change(folder, files=listed)
        refused_load(folder, ConfigError, WHERE, f"lists the file {name!r}", "no folders and no pickles")


@pytest.mark.parametrize("listed", [{}, {"weights.safetensors": 0}, {WEIGHTS: 0, "extra.json": 0}])
def test_files_that_the_family_does_not_have(folder, listed):
    facts = manifest(folder)["files"][WEIGHTS]
    (folder / "weights.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    change(folder, files=dict.fromkeys(listed, facts))
    refused_load(folder, CheckpointError, WHERE, "a toy_image checkpoint has model.safetensors")


FACTS = [{}, {"size": 1}, {"sha256": "0"}, {"size": 1.0, "sha256": "0"}, {"size": True, "sha256": "0"}, None, [1, "0"]]


@pytest.mark.parametrize("facts", [*FACTS, {"size": 1, "sha256": "0", "md5": "0"}, {"size": 1, "sha256": 0}])
def test_files_without_size_or_digest(folder, facts):
    change(folder, files={WEIGHTS: facts})
    refused_load(folder, ConfigError, WHERE, """files['model.safetensors'] must be {"size": int, "sha256": str}, got""")


ENTRY_CASES = {
    "unknown key": ({"auto_map": "x"}, ConfigError, "unknown key 'auto_map'; known: format, format_version"),
    "unknown key in config": ({"config": {"pach": 4}}, ConfigError, "unknown key 'pach'; did you mean 'patch'?"),
    "wrong type in config": ({"config": {"patch": "4"}}, ConfigError, "patch must be int, got '4' (str)"),
    "wrong type deeper": ({"config": {"size": [8, 8.5]}}, ConfigError, "size[1] must be int, got 8.5 (float)"),
    "a list": ({"name": []}, ConfigError, "name must be str, got []"),
    "not a dictionary": ({"files": []}, ConfigError, "files must be dict, got []"),
    "a boolean": ({"licence": True}, ConfigError, "licence must be str, got True"),
    "no name": ({"name": None}, ConfigError, "lacks the key 'name'"),
    "no files": ({"files": None}, ConfigError, "lacks the key 'files'"),
    "no format": ({"format": None}, CheckpointError, "not in this library's format", "pass family="),
    "another format": (
        {"format": "diffusers"},
        CheckpointError,
        """its "format" is 'diffusers', not 'tokenizer-zoo'""",
    ),
    "no version": ({"format_version": None}, CheckpointError, "format version None; this library reads version 1"),
    "later version": ({"format_version": 2}, CheckpointError, "format version 2; this library reads", "pip install -U"),
    "text version": ({"format_version": "1"}, CheckpointError, "format version '1'"),
    "float version": ({"format_version": 1.0}, CheckpointError, "format version 1.0"),
    "boolean version": ({"format_version": True}, CheckpointError, "format version True"),
    "unknown family": ({"family": "toy_imag"}, CheckpointError, "family 'toy_imag', which is not there; did you mean"),
    "other family": ({"family": "toy_action", "name": "toy_action"}, ConfigError, "unknown key 'size'"),
    "other family, same keys": (
        {"family": "toy_video", "name": "toy_video"},
        ConfigError,
        "must have 3 entries, got 2",
    ),
    "family that is a path": ({"family": "../x"}, CheckpointError, "family '../x', which is not there"),
    "name of another family": ({"name": "beast.nano"}, ConfigError, "such as toy_image.nano, got 'beast.nano'"),
    "name that is a path": ({"name": "toy_image.../x"}, ConfigError, "a name is toy_image.variant"),
    "name with a line": ({"name": "toy_image.a\nb"}, ConfigError, "a name is toy_image.variant"),
    "more than addresses": ({"config": {"codebook_size": 2**62}}, ConfigError, "no toy_image tokenizer can be built"),
    "more than int64": ({"config": {"codebook_size": 10**30}}, ConfigError, "no toy_image tokenizer can be built"),
    "division by zero": ({"config": {"patch": 0}}, ConfigError, "can be built from its config (ZeroDivisionError"),
    "refused by the family": (
        {"config": {"codebook_size": -3}},
        ConfigError,
        "codebook_size must be at least 2, got -3",
    ),
    "more text than a message": ({"config": {"patch": "x" * 10**5}}, ConfigError, "patch must be int, got 'xxx"),
}


@pytest.mark.parametrize("case", ENTRY_CASES)
def test_entries_that_are_wrong(folder, case):
    entries, kind, *parts = ENTRY_CASES[case]
    change(folder, **entries)
    refused_load(folder, kind, WHERE, *parts)


@pytest.mark.parametrize("config", [[], "x", 3, [["patch", 4]]])
def test_a_config_that_is_no_object(folder, config):
    rewrite(folder, {**manifest(folder), "config": config})
    refused_load(folder, ConfigError, WHERE, "config must be dict, got ")


def test_a_config_that_asks_for_terabytes_is_refused_before_any_is_allocated(folder, monkeypatch):
    built = []
    build = toy.Levels.__init__

    def watched(self, size):
        build(self, size)
        built.append(self.table.device.type)

    monkeypatch.setattr(toy.Levels, "__init__", watched)
    change(folder, config={"codebook_size": 10**13})
    refused_load(
        folder, CheckpointError, WEIGHTS_AT, "quantizer.table has the shape (16,) instead of (10000000000000,)"
    )
    assert built == ["meta"]


def test_tables_that_are_not_in_the_file_are_bounded_too(folder, monkeypatch):
    def derived(self, size):
        torch.nn.Module.__init__(self)
        self.register_buffer("table", torch.zeros(16, dtype=torch.float64))
        self.register_buffer("derived", torch.zeros(size, size), persistent=False)

    monkeypatch.setattr(toy.Levels, "__init__", derived)
    change(folder, config={"codebook_size": 10**6})
    refused_load(folder, ConfigError, WHERE, "asks for tables of 4.0e+12 bytes beside the weights")


def twice(text, key):
    return text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1)


TEXT_CASES = {
    "cut": (lambda t: t[:-3], "is not valid JSON: "),
    "empty": (lambda t: "", "is not valid JSON: "),
    "a list": (lambda t: f"[{t}]", "must hold a JSON object, got list"),
    "a word": (lambda t: '"tokenizer-zoo"', "must hold a JSON object, got str"),
    "null": (lambda t: "null", "must hold a JSON object, got NoneType"),
    "NaN": (lambda t: t.replace('"patch": 4', '"patch": NaN'), "NaN is not a JSON number"),
    "Infinity": (lambda t: t.replace('"patch": 4', '"patch": -Infinity'), "-Infinity is not a JSON number"),
    "key twice": (lambda t: twice(t, "family"), "the key 'family' is there twice"),
    "key twice in config": (lambda t: twice(t, "patch"), "the key 'patch' is there twice"),
    "file twice": (lambda t: twice(t, WEIGHTS), "the key 'model.safetensors' is there twice"),
    "digest twice": (lambda t: twice(t, "sha256"), "the key 'sha256' is there twice"),
    "comment": (lambda t: "// a comment\n" + t, "is not valid JSON: "),
    "two objects": (lambda t: t + t, "is not valid JSON: Extra data"),
    "deep list": (lambda t: "[" * 10**5 + "]" * 10**5, "is not valid JSON: "),
    "deep object": (lambda t: '{"a":' * 10**5 + "1" + "}" * 10**5, "is not valid JSON: "),
    "long number": (lambda t: t.replace("16", "1" * 10**5), "is not valid JSON: "),
    "too large": (lambda t: t + " " * 2**20, "has more than 1048576 bytes"),
}


@pytest.mark.parametrize("case", TEXT_CASES)
def test_json_that_is_wrong(folder, case):
    mutate, *parts = TEXT_CASES[case]
    text = (folder / CONFIG).read_text()
    assert mutate(text) != text
    rewrite(folder, mutate(text))
    refused_load(folder, CheckpointError, WHERE, *parts)
    refused_load(folder, CheckpointError, WHERE, *parts, family="toy_image")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_json_that_is_not_utf_8(folder, encoding):
    text = (folder / CONFIG).read_text().replace("nothing", "café")
    (folder / CONFIG).write_bytes(text.encode(encoding))
    refused_load(folder, CheckpointError, WHERE, "is not text in UTF-8: ")


def test_nesting_that_json_allows_and_a_config_does_not(folder):
    for depth in (300, 600, 800, 900, 950):
        text = (folder / CONFIG).read_text().replace('"patch": 4', '"patch": ' + "[" * depth + "]" * depth)
        other = folder.parent / f"deep{depth}"
        other.mkdir()
        (other / CONFIG).write_text(text)
        (other / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
        refused_load(other, ZooError, WHERE)


# -------------------------------------------------------------------------------------------------- files and folders


def test_missing_weights(folder):
    (folder / WEIGHTS).unlink()
    refused_load(folder, CheckpointError, WEIGHTS_AT, "is missing: the checkpoint is incomplete")


def test_missing_config(folder):
    (folder / CONFIG).unlink()
    refused_load(folder, CheckpointError, "has no config.json", "It has model.safetensors.")


def test_an_empty_folder(tmp_path):
    refused_load(tmp_path, CheckpointError, "has no config.json", "It has nothing.")


def test_a_folder_of_very_many_files_is_not_listed_whole(tmp_path):
    for i in range(500):
        (tmp_path / f"{i:03}.txt").touch()
    refused_load(tmp_path, CheckpointError, "It has 000.txt, 001.txt,", "and 488 more.")


def test_a_folder_with_nothing_but_pickles(folder, tmp_path):
    marker = tmp_path / "executed"
    (folder / WEIGHTS).unlink()
    (folder / CONFIG).unlink()
    torch.save({"x": Payload(marker)}, folder / "pytorch_model.bin")
    refused_load(folder, CheckpointError, "It has pytorch_model.bin: pickles, which are not read", "can execute code")
    (folder / CONFIG).write_text('{"architectures": ["X"], "model_type": "x"}')
    refused_load(folder, CheckpointError, WHERE, "not in this library's format", "None")
    assert not marker.exists()


def test_links_are_followed_to_whole_files_only(folder, tmp_path):
    expected = zoo.load(folder).encoder.weight
    stored = tmp_path / "blob"
    (folder / WEIGHTS).rename(stored)
    (folder / WEIGHTS).symlink_to(stored)  # as the cache of the Hub client has it
    assert torch.equal(zoo.load(folder).encoder.weight, expected)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert torch.equal(zoo.load(link).encoder.weight, expected)
    for name, at in ((WEIGHTS, "is missing"), (CONFIG, "has no config.json")):
        for target in (tmp_path / "nowhere", folder / name, tmp_path):
            (folder / name).unlink()
            (folder / name).symlink_to(target)
            what = "is not a file" if name == CONFIG and target == tmp_path else at
            refused_load(folder, CheckpointError, what)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_pipes_do_not_make_it_wait(folder):
    for name in (WEIGHTS, CONFIG):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        refused_load(folder, CheckpointError, "is missing" if name == WEIGHTS else "is not a file")


def test_unreadable_files_are_refused(folder, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("zoo.checkpoint.folder._digest", refuse)
    refused_load(folder, CheckpointError, "cannot be read: [Errno 13] Permission denied", WEIGHTS)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    refused_load(folder, CheckpointError, "cannot be read: [Errno 13] Permission denied", CONFIG)


# ----------------------------------------------------------------------------------------------------------- by chance


def mutated(content, chance):
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(len(content))
        content[place : place + chance.choice([0, 1, 1, 9])] = chance.randbytes(chance.choice([0, 1, 1, 4]))
    return bytes(content)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_whatever_is_changed_it_loads_whole_or_is_refused(folder, name):
    original = {file: (folder / file).read_bytes() for file in (CONFIG, WEIGHTS)}
    chance = random.Random(0)
    loaded = 0
    for _ in range(250):
        for file, content in original.items():
            (folder / file).write_bytes(content)
        (folder / name).write_bytes(mutated(original[name], chance))
        if name == WEIGHTS:
            seal(folder)
        tok, message = attempt(folder)
        if tok is None:
            assert str(folder) in message
        else:
            loaded += 1
            assert tok.encode(torch.rand(2, 3, *tok.config.size)).ids.shape[0] == 2
    assert 0 < loaded < 200


def attempt(folder):
    try:
        return zoo.load(folder), ""
    except ZooError as error:
        return None, str(error)
