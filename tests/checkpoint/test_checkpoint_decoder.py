"""A decoder whose weights are a file of their own: read with the rest, or left alone by who only encodes."""

import copy
import json
import os
import pickle
from pathlib import Path

import children
import pytest
import torch
import toy
from checkpoint_tools import CONFIG, WEIGHTS, change, change_tensors, manifest, refused, refused_load, same, seal
from safetensors.torch import load_file, save_file
from toy_decoder import IDS, Curve, ToyDecoder, make

import zoo
from zoo import tokenfile
from zoo.checkpoint import DECODER
from zoo.checkpoint.fingerprint import fingerprint
from zoo.errors import CheckpointError, ConfigError, TokenError
from zoo.tokenizer import NoDecoder


@pytest.fixture(autouse=True)
def toys():
    with toy.registered(), toy.registered(ToyDecoder):
        yield


@pytest.fixture
def saved(tmp_path):
    return zoo.save(make(), tmp_path / "saved")


def reseal(folder, edit):
    """Change the tensors of the decoder, and state the right digest."""
    tensors = load_file(folder / DECODER)
    save_file(edit(tensors) or tensors, folder / DECODER)
    seal(folder)


class TestFiles:
    def test_what_is_saved_is_what_is_loaded(self, saved, tmp_path):
        tok = make()
        assert sorted(path.name for path in saved.iterdir()) == [CONFIG, DECODER, WEIGHTS]
        assert set(manifest(saved)["files"]) == {DECODER, WEIGHTS}
        assert set(load_file(saved / DECODER)) == {"weights", "seen"}
        assert not [name for name in load_file(saved / WEIGHTS) if name.startswith("decoder")]
        assert len({(saved / name).stat().st_mode for name in (CONFIG, DECODER, WEIGHTS)}) == 1
        again = zoo.load(saved)
        assert torch.equal(again.decode(IDS), tok.decode(IDS))
        assert same(again, tok)
        assert fingerprint(again) == fingerprint(tok)
        for one in (again, copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
            twice = zoo.save(one, tmp_path / str(id(one)))
            for name in (CONFIG, DECODER, WEIGHTS):
                assert (twice / name).read_bytes() == (saved / name).read_bytes()

    def test_without_a_decoder_of_its_own(self, tmp_path):
        folder = zoo.save(make(decoder_size=None), tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
        assert same(zoo.load(folder), make(decoder_size=None))

    @pytest.mark.parametrize("decoder", [True, False])
    def test_checkpoints_of_one_file_are_read(self, saved, decoder):
        tensors = load_file(saved / WEIGHTS) | {f"decoder.{k}": v for k, v in load_file(saved / DECODER).items()}
        save_file(tensors, saved / WEIGHTS)
        (saved / DECODER).unlink()
        change(saved, files={WEIGHTS: {}})
        seal(saved)
        again = zoo.load(saved, decoder=decoder)
        assert isinstance(again.decoder, Curve if decoder else NoDecoder)
        assert fingerprint(again) == fingerprint(make(), decoder=decoder)

    def test_half_the_size(self, tmp_path):
        tok = make()
        folder = zoo.save(tok, tmp_path, dtype=torch.float16)
        assert load_file(folder / DECODER)["weights"].dtype == torch.float16
        assert load_file(folder / DECODER)["seen"].dtype == torch.int64
        again = zoo.load(folder)
        assert again.decoder.weights.dtype == torch.float32
        assert torch.equal(again.decoder.weights, tok.decoder.weights.half().float())
        assert torch.equal(again.encoder.weight, tok.encoder.weight)

    def test_overwriting(self, saved):
        (saved / "README.md").write_text("card")
        with refused(CheckpointError, f"({CONFIG}, {WEIGHTS}, {DECODER})", "overwrite=True"):
            zoo.save(make(1), saved)
        assert same(zoo.load(saved), make())
        zoo.save(make(1), saved, overwrite=True)
        assert same(zoo.load(saved), make(1))
        zoo.save(make(1, decoder_size=None), saved, overwrite=True)
        assert sorted(path.name for path in saved.iterdir()) == ["README.md", CONFIG, WEIGHTS]

    def test_a_file_of_that_name_is_not_overwritten_by_accident(self, tmp_path):
        (tmp_path / DECODER).write_text("mine")
        with refused(CheckpointError, f"already holds a checkpoint ({DECODER})"):
            zoo.save(make(), tmp_path)
        zoo.save(make(decoder_size=None), tmp_path)
        zoo.save(make(1, decoder_size=None), tmp_path, overwrite=True)  # nor is it a checkpoint's that is replaced
        assert (tmp_path / DECODER).read_text() == "mine"


class TestWithoutDecoder:
    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"?")])
    def test_the_file_is_not_looked_at(self, saved, spoil):
        spoil(saved / DECODER)
        tok = zoo.load(saved, decoder=False)
        images = toy.signals("image", 3)
        assert tok.encode(images).equal(make().encode(images))
        assert not tok.is_whole
        assert isinstance(tok.decoder, NoDecoder)
        assert not [name for name in tok.state_dict() if name.startswith("decoder")]
        refused_load(saved, CheckpointError, DECODER)

    def test_it_neither_decodes_nor_is_saved(self, saved, tmp_path):
        tok = zoo.load(saved, decoder=False)
        for action in (lambda: tok.decode(IDS), lambda: zoo.save(tok, tmp_path / "other")):
            with refused(TokenError, "toy_decoder.x was loaded without its decoder", "load it again without decoder="):
                action()
        assert not (tmp_path / "other").exists()

    def test_families_of_one_file_are_loaded_whole(self, tmp_path):
        folder = zoo.save(toy.make("image", seed=1), tmp_path)
        assert same(zoo.load(folder, decoder=False), toy.make("image", seed=1))

    def test_its_fingerprint_is_that_of_all_but_the_decoder(self, saved, tmp_path):
        half = zoo.load(saved, decoder=False)
        assert fingerprint(half) == fingerprint(make(), decoder=False) != fingerprint(make())
        other = make()
        other.decoder.weights.data += 1
        assert fingerprint(other, decoder=False) == fingerprint(half)
        other.encoder.weight.data += 1
        assert fingerprint(other, decoder=False) != fingerprint(half)

    def test_what_it_encodes_the_whole_one_decodes(self, saved, tmp_path):
        half, whole = zoo.load(saved, decoder=False), zoo.load(saved)
        file = tokenfile.load(tokenfile.save(tmp_path / "a.zoo", half.encode(toy.signals("image", 3)), half))
        file.require_made_by(whole)
        file.require_made_by(half)
        whole.encoder.weight.data += 1
        with refused(TokenError, "its weights or settings differ"):
            file.require_made_by(whole)
        whole = zoo.load(saved)
        file = tokenfile.load(tokenfile.save(tmp_path / "b.zoo", whole.encode(toy.signals("image", 3)), whole))
        whole.decoder.weights.data += 1
        with refused(TokenError, "its weights or settings differ"):  # the one that made them had another decoder
            file.require_made_by(whole)

    def test_the_command_that_encodes_does_without(self, saved, tmp_path, monkeypatch):
        from PIL import Image

        from zoo.cli import main

        monkeypatch.chdir(tmp_path)
        content = (saved / DECODER).read_bytes()
        (saved / DECODER).unlink()
        Image.new("RGB", (8, 8), (10, 200, 30)).save("a.png")
        assert not main(["encode", str(saved), "a.png", "-o", "a.zoo"])
        (saved / DECODER).write_bytes(content)
        assert not main(["decode", "a.zoo", "-o", "out"])
        assert list((tmp_path / "out").iterdir())


class TestDamage:
    def test_missing(self, saved):
        (saved / DECODER).unlink()
        refused_load(saved, CheckpointError, f"{DECODER} is missing: the checkpoint is incomplete")

    def test_of_another_size(self, saved):
        content = (saved / DECODER).read_bytes()
        (saved / DECODER).write_bytes(content[:-1])
        refused_load(saved, CheckpointError, f"{DECODER} is truncated")
        (saved / DECODER).write_bytes(content + b" ")
        refused_load(saved, CheckpointError, f"{DECODER} is larger than it should be")

    def test_of_content(self, saved):
        content = (saved / DECODER).read_bytes()
        (saved / DECODER).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        refused_load(saved, CheckpointError, f"{saved / DECODER} is damaged", "Delete it, and download or copy it")

    @pytest.mark.parametrize(
        ("edit", "reasons"),
        [
            (lambda t: t.update(more=torch.ones(1)), ["more is unexpected"]),
            (lambda t: t.pop("seen") * 0 and None, ["seen is missing"]),
            (lambda t: t.update(weights=torch.ones(4)), ["weights has the shape (4,) instead of (3,)"]),
            (lambda t: t.update(weights=torch.ones(3).double()), ["weights holds torch.float64 values"]),
            (lambda t: t.update(weights=torch.full((3,), torch.nan)), ["NaN or infinite values in weights"]),
        ],
    )
    def test_on_purpose(self, saved, edit, reasons):
        reseal(saved, edit)
        refused_load(saved, CheckpointError, saved / DECODER, *reasons)

    def test_another_kind_of_file(self, saved):
        (saved / DECODER).write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
        seal(saved)
        refused_load(saved, CheckpointError, f"{saved / DECODER} is not a safetensors file")

    def test_a_config_that_asks_for_too_much(self, saved):
        change(saved, config={"decoder_size": 2**40})
        refused_load(saved, ConfigError, saved / CONFIG, "tables of")

    def test_a_config_of_which_none_can_be_built(self, saved):
        change(saved, config={"decoder_size": -1})
        refused_load(saved, ConfigError, saved / CONFIG, "can be built from its config (RuntimeError")

    def test_a_file_that_the_config_does_not_have(self, saved):
        change(saved, config={"decoder_size": None})
        refused_load(saved, CheckpointError, f"lists {DECODER}, and a tokenizer of its config has no decoder")

    def test_files_that_the_family_does_not_have(self, saved):
        (saved / DECODER).rename(saved / "head.safetensors")
        values = manifest(saved)["files"]
        values["head.safetensors"] = values.pop(DECODER)
        change(saved, files=values)
        refused_load(saved, CheckpointError, "lists the files head.safetensors, model.safetensors")

    def test_the_same_weights_twice(self, saved):
        change_tensors(saved, decoder__weights=torch.ones(3))
        refused_load(saved, CheckpointError, "decoder.weights is unexpected")


DRIVER = """
    import json, os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    folder = Path(sys.argv[2])
    import toy, torch, zoo
    from checkpoint_tools import same
    from toy_decoder import ToyDecoder, make
    from zoo.errors import CheckpointError
    torch.set_num_threads(1)
    zoo.register(ToyDecoder)
    old, new, further = make(1), make(2), make(1)
    new.encoder.weight.data += 1
    further.decoder.weights.data += 1

    def outcome(model):
        try:
            tok = zoo.load(folder)
        except CheckpointError as error:
            return f"load: {error}"
        return "old" if same(tok, old) else "new" if same(tok, model) else "MIXTURE"

    def save_until(step, model):
        '''Save, and be killed before the n-th replacement of a file.'''
        pid = os.fork()
        if pid:
            return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        replace, left = Path.replace, [step]
        def counted(self, target):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return replace(self, target)
        Path.replace = counted
        zoo.save(model, folder, overwrite=True)
        os._exit(0)

    results = []
    for model in (new, further):
        for step in range(4):
            zoo.save(old, folder, overwrite=True)
            results.append([save_until(step, model), outcome(model)])
    print(json.dumps(results))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_save_leaves_no_mixture(tmp_path):
    done = children.run(DRIVER, Path(toy.__file__).parent, tmp_path)
    assert not done.returncode, done.stderr
    results = json.loads(done.stdout)
    assert [was_killed for was_killed, _ in results] == [True, True, True, False] * 2
    outcomes = [outcome for _, outcome in results]
    assert outcomes[0] == outcomes[4] == outcomes[5] == "old"  # in the last, what was replaced is what was there
    assert outcomes[3] == outcomes[7] == "new"
    for outcome, file in ((outcomes[1], WEIGHTS), (outcomes[2], WEIGHTS), (outcomes[6], DECODER)):
        assert outcome.startswith(f"load: {tmp_path / file} is damaged"), outcome
        assert "A save into this folder was interrupted" in outcome


class TestHub:
    @pytest.fixture(autouse=True)
    def cached(self, tmp_path, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def test_it_is_downloaded_by_who_decodes(self, hub):
        commit = zoo.push(make(), "alice/parts", tag="v1").commit
        assert {DECODER, WEIGHTS, CONFIG} <= set(hub.files("alice/parts"))
        half = zoo.load(f"hf://alice/parts@{commit}", decoder=False)
        assert not [line for line in hub.requests if DECODER in line]
        assert half.encode(toy.signals("image", 3)).equal(make().encode(toy.signals("image", 3)))
        whole = zoo.load(f"hf://alice/parts@{commit}")
        assert [line for line in hub.requests if DECODER in line]
        assert torch.equal(whole.decode(IDS), make().decode(IDS))

    def test_a_damaged_one_is_not_published(self, hub, saved, capsys):
        from zoo.cli import main

        content = (saved / DECODER).read_bytes()
        (saved / DECODER).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert main(["push", str(saved), "alice/parts"])
        assert f"{DECODER} is damaged" in capsys.readouterr().err
        assert "alice/parts" not in hub.repos
        (saved / DECODER).write_bytes(content)
        assert not main(["push", str(saved), "alice/parts"])
        assert hub.files("alice/parts")[DECODER] == content
