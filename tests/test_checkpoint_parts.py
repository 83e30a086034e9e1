"""A part whose weights are a file of their own: read when it is first used, and by all who look, as if it had been."""

import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import toy
from checkpoint_tools import CONFIG, WEIGHTS, change, change_tensors, manifest, refused, refused_load, same, seal
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from zoo import _parts
from zoo.checkpoint.fingerprint import fingerprint
from zoo.errors import CheckpointError, ConfigError

PART = "decoder.safetensors"
IDS = [[1, 2, 3, 4]]


class Curve(nn.Module):
    """A decoder with weights, statistics, and a table that it computes."""

    def __init__(self, size=3):
        super().__init__()
        self.weights = nn.Parameter(torch.rand(size))
        self.register_buffer("seen", torch.tensor(7))
        self.register_buffer("powers", torch.arange(float(size)), persistent=False)

    def forward(self, x):
        return (self.weights * x[..., None] ** self.powers).sum(-1)


@dataclass(frozen=True)
class Config(toy.ImageConfig):
    decoder_size: int | None = 3


class ToyParts(toy.ToyImage):
    """An image toy whose decoder has a file of its own, if it has one."""

    family = "toy_parts"
    config_class = Config
    part_names = ("decoder",)

    def __init__(self, config):
        super().__init__(config)
        if config.decoder_size is None:
            self.decoder = nn.Identity()
        else:
            self.add_part("decoder", lambda: Curve(config.decoder_size))
        self.head = toy.Scale(3.0)  # behind it, so that the order counts


@pytest.fixture(autouse=True)
def toys():
    with toy.registered(), toy.registered(ToyParts):
        yield


def make(seed=0, **config):
    torch.manual_seed(seed)
    tok = ToyParts(Config(**config)).eval()
    tok.name = "toy_parts.x"
    return tok


def is_unread(tok):
    return list(_parts.unread(tok)) == ["decoder"]


@pytest.fixture
def saved(tmp_path):
    return zoo.save(make(), tmp_path / "saved")


def reseal(folder, edit):
    """Change the tensors of the part, and state the right digest."""
    tensors = load_file(folder / PART)
    save_file(edit(tensors) or tensors, folder / PART)
    seal(folder)


class TestFiles:
    def test_what_is_saved_is_what_is_loaded(self, saved, tmp_path):
        tok = make()
        assert sorted(path.name for path in saved.iterdir()) == [CONFIG, PART, WEIGHTS]
        assert set(manifest(saved)["files"]) == {PART, WEIGHTS}
        assert set(load_file(saved / PART)) == {"weights", "seen"}
        assert not [name for name in load_file(saved / WEIGHTS) if name.startswith("decoder")]
        assert len({(saved / name).stat().st_mode for name in (CONFIG, PART, WEIGHTS)}) == 1
        again = zoo.load(saved)
        assert is_unread(again)
        assert torch.equal(again.decode(IDS), tok.decode(IDS))
        assert not is_unread(again)
        assert same(again, tok)
        assert list(dict(again.named_parameters())) == list(dict(tok.named_parameters()))
        for one in (zoo.load(saved), again):  # whether it has been read or not
            twice = zoo.save(one, tmp_path / f"twice-{is_unread(one)}")
            for name in (CONFIG, PART, WEIGHTS):
                assert (twice / name).read_bytes() == (saved / name).read_bytes()

    def test_without_such_a_part(self, tmp_path):
        folder = zoo.save(make(decoder_size=None), tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
        assert same(zoo.load(folder), make(decoder_size=None))

    def test_checkpoints_of_one_file_are_read(self, saved):
        tensors = load_file(saved / WEIGHTS) | {f"decoder.{k}": v for k, v in load_file(saved / PART).items()}
        save_file(tensors, saved / WEIGHTS)
        (saved / PART).unlink()
        change(saved, files={WEIGHTS: {}})
        seal(saved)
        again = zoo.load(saved)
        assert isinstance(again._modules["decoder"], Curve)
        assert same(again, make())
        assert fingerprint(again) == fingerprint(make())

    def test_half_the_size(self, tmp_path):
        tok = make()
        folder = zoo.save(tok, tmp_path, dtype=torch.float16)
        assert load_file(folder / PART)["weights"].dtype == torch.float16
        assert load_file(folder / PART)["seen"].dtype == torch.int64
        again = zoo.load(folder)
        assert again.decoder.weights.dtype == torch.float32
        assert torch.equal(again.decoder.weights, tok.decoder.weights.half().float())
        assert torch.equal(again.encoder.weight, tok.encoder.weight)

    def test_overwriting(self, saved):
        (saved / "README.md").write_text("card")
        with refused(CheckpointError, f"({CONFIG}, {WEIGHTS}, {PART})", "overwrite=True"):
            zoo.save(make(1), saved)
        assert same(zoo.load(saved), make())
        zoo.save(make(1), saved, overwrite=True)
        assert same(zoo.load(saved), make(1))
        zoo.save(make(1, decoder_size=None), saved, overwrite=True)
        assert sorted(path.name for path in saved.iterdir()) == ["README.md", CONFIG, WEIGHTS]

    def test_a_file_of_that_name_is_not_overwritten_by_accident(self, tmp_path):
        (tmp_path / PART).write_text("mine")
        with refused(CheckpointError, f"already holds a checkpoint ({PART})"):
            zoo.save(make(), tmp_path)
        zoo.save(make(decoder_size=None), tmp_path)
        assert (tmp_path / PART).read_text() == "mine"
        zoo.save(make(1, decoder_size=None), tmp_path, overwrite=True)  # nor is it a checkpoint's that is replaced
        assert (tmp_path / PART).read_text() == "mine"

    @pytest.mark.parametrize("is_read", [False, True])
    def test_saving_over_oneself(self, saved, is_read):
        tok = zoo.load(saved)
        if is_read:
            tok.read_parts()
        zoo.save(tok, saved, dtype=torch.float16, overwrite=True)
        assert torch.equal(tok.decode(IDS), make().decode(IDS))
        assert torch.equal(zoo.load(saved).decoder.weights, make().decoder.weights.half().float())


class TestUnread:
    def test_encoding_does_without(self, saved, tmp_path):
        tok = zoo.load(saved)
        (saved / PART).rename(tmp_path / "away")
        images = toy.signals("image", 3)
        expected = make()
        assert tok.encode(images).equal(expected.encode(images))
        assert tok.num_parameters == expected.num_parameters == 5
        assert [p.numel() for p in tok.parameters_read()] == [1, 1]
        assert tok.device == expected.device
        assert tok.to("cpu").train().eval() is tok
        assert tok.share_memory() is tok
        assert f"(decoder): Unread({saved / PART}, read when it is first used)" in repr(tok)
        assert is_unread(tok)
        for _ in range(2):
            with refused(CheckpointError, f"{saved / PART} is missing", "It is read when it is first used"):
                tok.decode(IDS)
        (tmp_path / "away").rename(saved / PART)
        assert torch.equal(tok.decode(IDS), expected.decode(IDS))

    def test_the_fingerprint_is_the_same_and_keeps_nothing(self, saved):
        tok = zoo.load(saved)
        assert fingerprint(tok) == fingerprint(make())
        assert is_unread(tok)
        assert fingerprint(tok.read_parts()) == fingerprint(make())
        with torch.no_grad():
            tok.decoder.weights[0] += 1
        assert fingerprint(tok) != fingerprint(make())

    def test_the_folder_may_be_relative(self, saved, monkeypatch):
        monkeypatch.chdir(saved.parent)
        tok = zoo.load("./saved")
        monkeypatch.chdir("/")
        assert torch.equal(tok.decode(IDS), make().decode(IDS))


def parent(tok):
    return nn.ModuleDict({"tok": tok})


USES = {
    "its name": lambda tok: tok.decoder.weights,
    "a path": lambda tok: tok.get_parameter("decoder.weights"),
    "a submodule": lambda tok: tok.get_submodule("decoder").weights,
    "parameters": lambda tok: dict(tok.named_parameters())["decoder.weights"],
    "modules": lambda tok: next(module for module in tok.modules() if isinstance(module, Curve)).weights,
    "children": lambda tok: dict(tok.named_children())["decoder"].weights,
    "state_dict": lambda tok: tok.state_dict()["decoder.weights"],
    "parameters of a parent": lambda tok: dict(parent(tok).named_parameters())["tok.decoder.weights"],
    "state_dict of a parent": lambda tok: parent(tok).state_dict()["tok.decoder.weights"],
    "a copy": lambda tok: copy.deepcopy(tok).decoder.weights,
    "a shallow copy": lambda tok: copy.copy(tok).decoder.weights,
    "a pickle": lambda tok: pickle.loads(pickle.dumps(tok)).decoder.weights,
    "read_parts": lambda tok: tok.read_parts()._modules["decoder"].weights,
    "a copy of a parent": lambda tok: copy.deepcopy(parent(tok))["tok"].decoder.weights,
}


@pytest.mark.parametrize("use", USES)
def test_whoever_looks_sees_the_part(saved, use):
    assert torch.equal(USES[use](zoo.load(saved)), make().decoder.weights)


class TestChanges:
    @pytest.mark.parametrize("wrap", [lambda tok: tok, parent])
    def test_weights_that_are_loaded_stay(self, saved, wrap):
        tok = zoo.load(saved)
        other = make(seed=5)
        wrap(tok).load_state_dict(wrap(other).state_dict())
        assert torch.equal(tok.decoder.weights, other.decoder.weights)
        assert not torch.equal(tok.decoder.weights, make().decoder.weights)

    def test_dtypes(self, saved):
        tok = zoo.load(saved).half().float()
        assert torch.equal(tok.decoder.weights, make().decoder.weights.half().float())
        assert zoo.load(saved).to(torch.float64).decoder.powers.dtype == torch.float64
        assert torch.equal(zoo.load(saved, dtype=torch.float32).decode(IDS), make().decode(IDS))

    def test_modes(self, saved):
        tok = zoo.load(saved)
        assert not tok.decoder.training
        assert zoo.load(saved).train().decoder.training
        assert not parent(zoo.load(saved).train()).eval()["tok"].decoder.training
        assert not any(p.requires_grad for p in zoo.load(saved).requires_grad_(False).parameters())

    def test_what_is_applied_is_applied_to_it(self, saved):
        seen = []
        zoo.load(saved).apply(lambda module: seen.append(type(module).__name__))
        assert "Curve" in seen

    def test_without_values(self, saved, tmp_path):
        tok = zoo.load(saved).to("meta")
        assert tok.decoder.weights.is_meta
        with refused(CheckpointError, "is on the meta device"):
            zoo.save(tok, tmp_path / "other")

    def test_another_decoder_in_its_place(self, saved):
        tok = zoo.load(saved)
        (saved / PART).unlink()
        tok.decoder = Curve()
        assert not is_unread(tok)
        assert tok.decode(IDS).shape == (1, 3, 8, 8)
        del tok.decoder
        assert not hasattr(tok, "decoder")

    def test_read_in_whatever_mode_it_can_be_trained(self, saved):
        for mode in (torch.inference_mode, torch.no_grad):
            tok = zoo.load(saved)
            with mode():
                tok.decode(IDS)
            tok.decoder(torch.ones(2)).sum().backward()
            assert tok.decoder.weights.grad.tolist() == [2, 2, 2]

    def test_the_callers_defaults_do_not_count_and_are_left_alone(self, saved):
        tok = zoo.load(saved)
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        dtype = torch.get_default_dtype()
        try:
            torch.set_default_dtype(torch.bfloat16)
            with torch.device("meta"):
                tok.read_parts()
            assert torch.get_default_dtype() == torch.bfloat16
        finally:
            torch.set_default_dtype(dtype)
        assert torch.equal(torch.rand(3), expected)
        assert same(tok, make())
        assert torch.equal(tok.decoder.powers, make().decoder.powers)


def test_threads_that_decode_at_once_read_it_once(saved):
    for _ in range(5):
        tok = zoo.load(saved)
        together, found = threading.Barrier(8), []

        def decode(tok=tok, together=together, found=found):
            together.wait()
            found.append((tok.decode(IDS), tok.decoder))

        threads = [threading.Thread(target=decode) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len({id(decoder) for _, decoder in found}) == 1
        assert all(torch.equal(image, make().decode(IDS)) for image, _ in found)


class TestDamage:
    def test_missing(self, saved):
        (saved / PART).unlink()
        refused_load(saved, CheckpointError, f"{PART} is missing: the checkpoint is incomplete")

    def test_of_another_size(self, saved):
        content = (saved / PART).read_bytes()
        (saved / PART).write_bytes(content[:-1])
        refused_load(saved, CheckpointError, f"{PART} is truncated")
        (saved / PART).write_bytes(content + b" ")
        refused_load(saved, CheckpointError, f"{PART} is larger than it should be")

    def test_of_content_is_found_when_it_is_used_and_can_be_repaired(self, saved):
        content = (saved / PART).read_bytes()
        (saved / PART).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        tok = zoo.load(saved)
        assert tok.encode(toy.signals("image", 3)).equal(make().encode(toy.signals("image", 3)))
        uses = (lambda: tok.decode(IDS), tok.state_dict, lambda: fingerprint(tok), lambda: copy.deepcopy(tok))
        for use in uses:
            with refused(CheckpointError, f"{saved / PART} is damaged", "Delete it, and download or copy it again."):
                use()
        (saved / PART).write_bytes(content)
        assert torch.equal(tok.decode(IDS), make().decode(IDS))

    def test_of_one_that_is_loaded_before_it_is_replaced(self, saved):
        tok = zoo.load(saved)
        zoo.save(make(1), saved, overwrite=True)
        with refused(CheckpointError, f"{saved / PART} is damaged", "if another checkpoint was saved there"):
            tok.decode(IDS)
        assert torch.equal(zoo.load(saved).decode(IDS), make(1).decode(IDS))

    @pytest.mark.parametrize(
        ("edit", "parts"),
        [
            (lambda t: t.update(more=torch.ones(1)), ["more is unexpected"]),
            (lambda t: t.pop("seen") * 0 and None, ["seen is missing"]),
            (lambda t: t.update(weights=torch.ones(4)), ["weights has the shape (4,) instead of (3,)"]),
            (lambda t: t.update(weights=torch.ones(3).double()), ["weights holds torch.float64 values"]),
            (lambda t: t.update(weights=torch.full((3,), torch.nan)), ["NaN or infinite values in weights"]),
        ],
    )
    def test_on_purpose(self, saved, edit, parts):
        reseal(saved, edit)
        tok = zoo.load(saved)
        with refused(CheckpointError, saved / PART, *parts):
            tok.decode(IDS)

    def test_another_kind_of_file(self, saved):
        (saved / PART).write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
        seal(saved)
        tok = zoo.load(saved)
        with refused(CheckpointError, f"{saved / PART} is not a safetensors file"):
            tok.decode(IDS)

    def test_a_config_that_asks_for_too_much(self, saved):
        change(saved, config={"decoder_size": 2**40})
        tok = zoo.load(saved)
        with refused(ConfigError, saved / PART, "tables of"):
            tok.decode(IDS)

    def test_a_config_of_which_no_part_can_be_built(self, saved):
        change(saved, config={"decoder_size": -1})
        with refused(ConfigError, saved / PART, "can be built from its config (RuntimeError"):
            zoo.load(saved).decode(IDS)

    def test_files_that_the_config_does_not_have(self, saved):
        change(saved, config={"decoder_size": None})
        refused_load(saved, CheckpointError, f"lists {PART}, and a tokenizer of its config has no such part")

    def test_files_that_the_family_does_not_have(self, saved):
        (saved / PART).rename(saved / "head.safetensors")
        values = manifest(saved)["files"]
        values["head.safetensors"] = values.pop(PART)
        change(saved, files=values)
        refused_load(saved, CheckpointError, "lists the files head.safetensors, model.safetensors")

    def test_the_same_weights_twice(self, saved):
        change_tensors(saved, decoder__weights=torch.ones(3))
        refused_load(saved, CheckpointError, "decoder.weights is unexpected")

    def test_a_class_that_forgets_to_name_it(self, monkeypatch):
        monkeypatch.setattr(ToyParts, "part_names", ())
        with refused(ConfigError, "ToyParts.part_names lacks 'decoder'"):
            make()


DRIVER = """
    import json, os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    folder = Path(sys.argv[2])
    import toy, torch, zoo
    from checkpoint_tools import same
    from test_checkpoint_parts import IDS, ToyParts, make
    from zoo.errors import CheckpointError
    torch.set_num_threads(1)
    zoo.register(ToyParts)
    old, new, further = make(1), make(2), make(1)
    new.encoder.weight.data += 1
    further.decoder.weights.data += 1

    def outcome(model):
        try:
            tok = zoo.load(folder)
        except CheckpointError as error:
            return f"load: {error}"
        try:
            tok.decode(IDS)
        except CheckpointError as error:
            return f"decode: {error}"
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
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    results = json.loads(done.stdout)
    assert [was_killed for was_killed, _ in results] == [True, True, True, False] * 2
    outcomes = [outcome for _, outcome in results]
    damaged = f"{tmp_path / WEIGHTS} is damaged"
    assert outcomes[0] == outcomes[4] == "old"
    assert outcomes[3] == outcomes[7] == "new"
    for outcome in outcomes[1:3]:
        assert outcome.startswith(f"load: {damaged}"), outcome
        assert "A save into this folder was interrupted" in outcome
    # The new checkpoint differs in the part alone: what is read at once is what both have.
    assert outcomes[5] == "old"
    assert outcomes[6].startswith(f"decode: {tmp_path / PART} is damaged"), outcomes[6]


class TestHub:
    def test_it_travels(self, hub, tmp_path):
        result = zoo.push(make(), "alice/parts", tag="v1")
        assert {PART, WEIGHTS, CONFIG} <= set(hub.files("alice/parts"))
        tok = zoo.load(f"hf://alice/parts@{result.commit}")
        assert is_unread(tok)
        assert torch.equal(tok.decode(IDS), make().decode(IDS))

    def test_a_damaged_one_is_not_published(self, hub, saved, capsys):
        from zoo.cli import main

        content = (saved / PART).read_bytes()
        (saved / PART).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert main(["push", str(saved), "alice/parts"])
        assert f"{PART} is damaged" in capsys.readouterr().err
        assert "alice/parts" not in hub.repos
        (saved / PART).write_bytes(content)
        assert not main(["push", str(saved), "alice/parts"])
        assert hub.files("alice/parts")[PART] == content


def test_info_counts_what_has_not_been_read(saved, capsys):
    from zoo.cli import main

    assert not main(["info", str(saved), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["num_parameters"] == 5
    assert facts["fingerprint"] == fingerprint(make())
