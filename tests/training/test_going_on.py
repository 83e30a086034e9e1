"""Going on from a model: what training needs beside the tokenizer goes with it, and its licence."""

import json
from pathlib import Path

import pytest
import torch
import toy_training
import training_runs as runs
from speech_corpus import write_whisper
from tiny_stabletoken import TINY, TINY_DECODER
from torch import nn
from toy_recipe import toy_family

import zoo
from zoo import checkpoint
from zoo import config as configs
from zoo.cli import main
from zoo.errors import CheckpointError, ConfigError
from zoo.families.stabletoken.decoder_training import DecoderTraining, VocoderTraining
from zoo.families.stabletoken.training import StableTokenTraining
from zoo.hub.card import card_for
from zoo.training import parts_of, tokenizer_of
from zoo.training.origin import differences, licence_of_card

__all__ = ["toy_family"]  # a fixture

pytestmark = [
    pytest.mark.usefixtures("toy_family"),
    *(pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE),
]
CONFIG = configs.to_dict(TINY)
VQ = {"kind": "vq", "codebook_size": 32, "dim": 4}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder)
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Whisper\n")
    return str(folder)


def written(module, path):
    """Write what a checkpoint of a run would have."""
    content = {"state_dict": module.state_dict(), "global_step": 1}
    module._trainer = None
    module.trainer = type("Trainer", (), {"optimizers": [], "state": type("State", (), {"fn": "fit"})})()
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return str(path)


def speech(whisper, **options):
    return StableTokenTraining(CONFIG, whisper, loss_weights={"distillation": 1.0}, **options)


def changed(module):
    """Give all that is trained other values."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    return module


def test_h3_the_layers_behind_the_quantizer_go_with_the_model_through_every_stage(whisper, tmp_path):
    first = changed(speech(whisper, train_text_decoder=False))
    recognizer = first.state_dict()
    vocoder = VocoderTraining(written(first, tmp_path / "1.ckpt"), configs.to_dict(TINY_DECODER))
    flow = DecoderTraining(written(vocoder, tmp_path / "2.ckpt"))
    last = written(flow, tmp_path / "3.ckpt")
    assert (
        main(["export", last, "-o", str(tmp_path / "model"), "--name", "stabletoken.mine", "--dtype", "float16"]) == 0
    )
    assert zoo.load(tmp_path / "model").spec.licence == "mit"
    # The recipe has no decoder, and the model has one.
    with pytest.warns(UserWarning, match="its decoder is left out, and has to be trained anew") as told:
        again = speech(whisper, weights=str(tmp_path / "model"), train_text_decoder=False)
    assert "afresh" not in str(told[0].message)
    trained = [name for name, p in first.named_parameters() if p.requires_grad]
    assert {name.split(".")[1] for name in trained if name.startswith("recognizer.")} >= {"positions", "layers", "norm"}
    for name in trained:
        torch.testing.assert_close(again.state_dict()[name], recognizer[name], rtol=2e-3, atol=2e-3, msg=name)


def test_h3_the_recogniser_may_be_left_out_of_a_small_model(whisper, tmp_path):
    last = written(changed(speech(whisper, train_text_decoder=False)), tmp_path / "x.ckpt")
    for name, options in (("whole", ["--dtype", "float16"]), ("bare", ["--dtype", "float16", "--without-training"])):
        command = ["export", last, "-o", str(tmp_path / name), "--name", "stabletoken.mine", *options]
        assert main(command) == 0
    whole, bare = (zoo.load(tmp_path / name) for name in ("whole", "bare"))
    assert zoo.training_parts(whole).keys() == parts_of(last).keys()
    assert zoo.training_parts(bare) == {}
    state = bare.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())
    stored = (tmp_path / "whole/training.safetensors").stat().st_size
    assert stored < 2.2 * sum(tensor.numel() for tensor in parts_of(last).values()) + 4000  # two bytes each
    with pytest.warns(UserWarning, match="recognizer.positions, recognizer.layers.* which start afresh"):
        speech(whisper, weights=str(tmp_path / "bare"), train_text_decoder=False)


def test_h3_what_ships_states_what_starts_afresh(whisper, tmp_path):
    config = configs.to_dict(zoo.load("stabletoken", decoder=False).config)
    with pytest.raises(ConfigError) as told:
        StableTokenTraining(CONFIG, whisper, weights="stabletoken")
    assert "does not fit the model: attention_reach is 32 there and None here; d_model is 384 there and 32 here" in str(
        told.value
    )
    assert len(str(told.value)) < 400
    assert differences(config, config) == ""
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == "a.c is 2 there and 3 here"


class Headed(toy_training.ToyTraining):
    """A toy with a trained head, a frozen teacher and a count beside the tokenizer."""

    def __init__(self, weights=None, **options):
        super().__init__(**options)
        self.head = nn.Linear(2, 2)
        self.teacher = nn.Linear(2, 2).requires_grad_(False)
        self.register_module("count", nn.BatchNorm1d(1, affine=False))
        if weights is not None:
            self._start_from(weights)


def test_h3_parts_are_what_is_trained_or_counted(tmp_path):
    last = written(changed(Headed(config={"quantizer": VQ})), tmp_path / "x.ckpt")
    names = {"head.weight", "head.bias", "count.running_mean", "count.running_var", "count.num_batches_tracked"}
    assert set(parts_of(last)) == names
    folder = zoo.save(tokenizer_of(last), tmp_path / "model", name="toy_chunks.mine", training=parts_of(last))
    listed = json.loads((folder / "config.json").read_text())["files"]
    assert set(listed) == {"model.safetensors", "training.safetensors"}
    again = Headed(config={"quantizer": VQ}, weights=str(folder))
    assert torch.equal(again.head.weight, parts_of(last)["head.weight"])
    # Who has no such parts carries them on.
    plain = toy_training.ToyTraining(config={"quantizer": VQ}, weights=str(folder))
    assert set(parts_of(written(plain, tmp_path / "y.ckpt"))) == names
    # Saved without, they start afresh, and are named.
    bare = zoo.save(zoo.load(folder), tmp_path / "bare")
    assert checkpoint.read_training(bare) == {}
    with pytest.warns(UserWarning, match="what training needs of head.weight, head.bias, count.running_mean"):
        Headed(config={"quantizer": VQ}, weights=str(bare))


def test_h3_a_damaged_part_is_found_when_it_is_read(tmp_path):
    last = written(Headed(config={"quantizer": VQ}), tmp_path / "x.ckpt")
    folder = zoo.save(tokenizer_of(last), tmp_path / "model", training=parts_of(last))
    content = bytearray((folder / "training.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "training.safetensors").write_bytes(content)
    zoo.load(folder)
    with pytest.raises(CheckpointError, match=r"training\.safetensors is damaged"):
        Headed(config={"quantizer": VQ}, weights=str(folder))
    zoo.save(zoo.load(folder), folder, overwrite=True)
    assert not (folder / "training.safetensors").exists()


# Licences


def test_h5_the_licence_is_that_of_what_the_run_started_from(whisper, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in Path(whisper).iterdir():
        if path.name != "README.md":
            (bare / path.name).write_bytes(path.read_bytes())
    for folder, licence in ((whisper, "mit"), (str(bare), "unknown")):
        last, out = written(speech(folder), tmp_path / "x.ckpt"), str(tmp_path / licence)
        capsys.readouterr()
        assert main(["export", last, "-o", out]) == 0
        assert ("state it with --licence" in capsys.readouterr().err) == (licence == "unknown")
        tok = zoo.load(Path(out))
        assert tok.spec.licence == licence
        card = card_for(tok)
        assert f"license: {licence}\n" in card
        # There is no decoder, so the snippet has none.
        assert "tok.encode(" in card
        assert "tok.decode(" not in card
    assert main(["export", last, "-o", out, "--overwrite", "--licence", "CC-BY-4.0"]) == 0
    assert zoo.load(Path(out)).spec.licence == "CC-BY-4.0"


def test_h5_the_licence_goes_from_run_to_run(tmp_path):
    first = zoo.save(tokenizer_of(written(Headed(config={"quantizer": VQ}), tmp_path / "x.ckpt")), tmp_path / "a")
    assert zoo.load(first).spec.licence == "Apache-2.0"  # from nobody's weights
    second = zoo.save(zoo.load(first), tmp_path / "b", licence="CC-BY-NC-4.0")
    third = toy_training.ToyTraining(config={"quantizer": VQ}, weights=str(second))
    fourth = toy_training.ToyTraining(config={"quantizer": VQ}, weights=written(third, tmp_path / "y.ckpt"))
    assert tokenizer_of(written(fourth, tmp_path / "z.ckpt")).spec.licence == "CC-BY-NC-4.0"


def test_h5_licences_in_the_front_matter_of_a_card(tmp_path):
    cases = {"---\nlicense: mit\n---\n": "mit", "---\ntags:\n- a\nlicense: 'cc-by-4.0'\n---": "cc-by-4.0"}
    cases |= {"license: mit": "", "---\ntags: []\n---\nlicense: mit\n": "", "---\nlicense:\n- mit\n---\n": ""}
    for text, expected in cases.items():
        (tmp_path / "README.md").write_text(text)
        assert licence_of_card(tmp_path) == expected, text
    assert licence_of_card(tmp_path / "none") == ""
