"""What authors have released, as a stranger may have changed it: files of weights, JSON, pickles of tensors."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from zoo.checkpoint.foreign import read_json, read_pickle, read_text, weight_files
from zoo.errors import CheckpointError

INDEX = "model.safetensors.index.json"
PARTS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def write_index(folder, content):
    (folder / INDEX).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def parts(tmp_path):
    """A folder with three parts, the second and third of which belong to the index."""
    for name in PARTS:
        (tmp_path / name).touch()
    write_index(tmp_path, {"metadata": {}, "weight_map": {"a": PARTS[2], "b": PARTS[1], "c": PARTS[2]}})
    return tmp_path


class TestWeightFiles:
    def test_the_parts_are_those_of_the_index(self, parts):
        assert weight_files(parts) == [parts / name for name in PARTS[1:]]

    def test_one_file_comes_before_parts(self, parts):
        (parts / "model.safetensors").touch()
        assert weight_files(parts) == [parts / "model.safetensors"]

    def test_links_are_followed_as_the_hubs_cache_has_them(self, parts, tmp_path_factory):
        linked = tmp_path_factory.mktemp("linked")
        for path in parts.iterdir():
            (linked / path.name).symlink_to(path)
        assert weight_files(linked) == [linked / name for name in PARTS[1:]]

    def test_neither(self, tmp_path):
        (tmp_path / "model.safetensors").mkdir()
        (tmp_path / "pytorch_model.bin").touch()
        with pytest.raises(
            CheckpointError, match=r"no model\.safetensors and no .*index\.json.*Pickled weights are not"
        ):
            weight_files(tmp_path / "nowhere")
        (tmp_path / "model.safetensors").rmdir()
        with pytest.raises(
            CheckpointError, match=r"no model\.safetensors and no .*index\.json.*Pickled weights are not"
        ):
            weight_files(tmp_path)
        (tmp_path / "ema.safetensors").touch()
        with pytest.raises(CheckpointError, match=r"Which of \['ema\.safetensors'\] is meant is not guessed"):
            weight_files(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is not valid JSON"),
            ("[]", "must hold a JSON object, got list"),
            ({}, "must have a weight_map, of tensors to files, got None"),
            ({"weight_map": {}}, "must have a weight_map"),
            ({"weight_map": PARTS}, "must have a weight_map"),
            ({"weight_map": {"a": 3}}, "names of files beside it, got 3"),
            ({"weight_map": {"a": None}}, "names of files beside it, got None"),
            ({"weight_map": {"a": [PARTS[0]]}}, "names of files beside it"),
            ({"weight_map": {"a": f"../{PARTS[0]}"}}, "names of files beside it"),
            ({"weight_map": {"a": f"./{PARTS[0]}"}}, "names of files beside it"),
            ({"weight_map": {"a": f"sub/{PARTS[0]}"}}, "names of files beside it"),
            ({"weight_map": {"a": f"/{PARTS[0]}"}}, "names of files beside it"),
            ({"weight_map": {"a": f"{PARTS[0]}/"}}, "names of files beside it"),
            ({"weight_map": {"a": f"..\\{PARTS[0]}"}}, "names of files beside it"),
            ({"weight_map": {"a": f"C:{PARTS[0]}"}}, "names of files beside it"),
            ({"weight_map": {"a": ".."}}, r"lists '\.\.', and nothing but safetensors"),
            ({"weight_map": {"a": ""}}, "lists '', and nothing but safetensors"),
            ({"weight_map": {"a": "pytorch_model.bin"}}, "nothing but safetensors is read: convert it"),
            ({"weight_map": {"a": PARTS[0], "b": "x.safetensors"}}, r"lacks \['x\.safetensors'\], which model"),
            ({"weight_map": {"a": "a\0.safetensors"}}, "lacks .*download it again"),
            ({"weight_map": {"a": "a" * 300 + ".safetensors"}}, "lacks .*download it again"),
        ],
    )
    def test_a_damaged_index(self, parts, content, message):
        write_index(parts, content)
        with pytest.raises(CheckpointError, match=message) as caught:
            weight_files(parts)
        assert str(parts) in str(caught.value)

    def test_a_part_that_is_a_folder(self, parts):
        (parts / PARTS[2]).unlink()
        (parts / PARTS[2]).mkdir()
        with pytest.raises(CheckpointError, match=f"lacks .*{PARTS[2]}"):
            weight_files(parts)


class TestReadJson:
    def test_an_object(self, tmp_path):
        (tmp_path / "x.json").write_text('{"ä": [1, null]}', encoding="utf-8")
        assert read_json(tmp_path / "x.json") == {"ä": [1, None]}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is not valid JSON"),
            (b'{"a": 1', "is not valid JSON"),
            (b"[" * 10**5 + b"]" * 10**5, "is not valid JSON"),
            (b'{"a": ' + b"1" * 10**5 + b"}", "is not valid JSON"),
            (b"null", "must hold a JSON object, got NoneType"),
            (b"[1]", "must hold a JSON object, got list"),
            (b'{"a": "\xff"}', "is not text in UTF-8"),
        ],
    )
    def test_anything_else(self, tmp_path, content, message):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_json(tmp_path / "x.json")
        assert str(tmp_path / "x.json") in str(caught.value)

    def test_what_is_no_file_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for name in ("pipe", "nothing", "."):
            with pytest.raises(CheckpointError, match=r"(is not a regular file|does not exist). Download it again"):
                read_json(tmp_path / name)

    def test_a_file_larger_than_any_configuration_is_not_read(self, tmp_path):
        with (tmp_path / "x.json").open("wb") as file:
            file.truncate(2**26 + 1)
        with pytest.raises(CheckpointError, match="has more than 67108864 bytes"):
            read_text(tmp_path / "x.json")


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


class TestReadPickle:
    def test_tensors(self, tmp_path):
        tensors = {"a": torch.arange(3), "b.weight": torch.ones(2, 2, dtype=torch.bfloat16)}
        torch.save(tensors, tmp_path / "x.pt")
        found = read_pickle(tmp_path / "x.pt")
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())

    @pytest.mark.filterwarnings("ignore:Sparse invariant checks")
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([torch.ones(1)], "must hold a dictionary of tensors by name, got list"),
            (torch.ones(1), "must hold a dictionary of tensors by name, got Tensor"),
            ({"a": 1}, "plain tensors by name; at 'a' it has int"),
            ({"a": {"b": torch.ones(1)}}, "plain tensors by name; at 'a' it has dict"),
            ({3: torch.ones(1)}, "plain tensors by name; at 3 it has Tensor"),
            ({"a": torch.ones(2).to_sparse()}, "plain tensors by name; at 'a' it has Tensor"),
        ],
    )
    def test_anything_else(self, tmp_path, content, message):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=message):
            read_pickle(tmp_path / "x.pt")

    def test_nothing_is_run(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        torch.save({"a": Bomb()}, "torch.pt")
        Path("plain.pt").write_bytes(pickle.dumps({"a": Bomb()}))
        for name in ("torch.pt", "plain.pt"):
            with pytest.raises(CheckpointError, match="cannot be read as a dictionary of tensors"):
                read_pickle(Path(name))
        assert not Path("exploded").exists()
        pickle.loads(Path("plain.pt").read_bytes())  # it is no dud
        assert Path("exploded").exists()

    def test_damage(self, tmp_path):
        torch.save({"a": torch.ones(100)}, tmp_path / "x.pt")
        (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:-100])
        for name in ("x.pt", "nothing.pt"):
            with pytest.raises(CheckpointError, match=rf"{name} cannot be read as a dictionary of tensors"):
                read_pickle(tmp_path / name)
