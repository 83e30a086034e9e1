"""The `.zoo` token file: what is written is read again, by others too, and everything else is refused."""

import hashlib
import json
import os

import numpy as np
import pytest
import torch
import toy
from safetensors.numpy import load_file
from token_files import UNSAFE, made, read, rewrite

import zoo
from zoo import registry, tokenfile
from zoo.errors import CheckpointError, NotFittedError, TokenError
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.modalities.action import ActionTokenizer
from zoo.tokens import Tokens

MODALITIES = tuple(toy.CLASSES)


@pytest.fixture
def stored(tmp_path):
    """A token file of speech, and what is in it."""
    tok, tokens = made()
    path = tokenfile.save(tmp_path / "talks.zoo", tokens, tok, ["a.wav", "b.wav", "c/d.wav"], rates=[16000, None, 1.5])
    return path, tok, tokens


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_saved_is_loaded_again(modality, tmp_path):
    tok, tokens = made(modality)
    file = tokenfile.load(tokenfile.save(tmp_path / "x.zoo", tokens, tok, ["a", "b", "c"]))
    assert file.tokens.equal(tokens)
    assert file.tokens.ids.dtype == torch.int64
    assert file.tokens.ids.shape == tokens.ids.shape
    assert (file.tokens.model, file.tokens.grid) == (tok.name, tokens.grid)
    if tokens.signal_lengths is None:
        assert file.tokens.signal_lengths is None
    else:
        assert torch.equal(file.tokens.signal_lengths, tokens.signal_lengths)
    assert torch.equal(tok.decode(file.tokens), tok.decode(tokens))
    assert (file.model, file.source, file.spec) == (tok.name, "", tok.spec)
    assert (file.names, file.rates) == (("a", "b", "c"), (None, None, None))
    file.require_made_by(tok)


def test_padding_of_any_width_is_dropped_and_made_again(tmp_path):
    tok, tokens = made()
    wide = torch.nn.functional.pad(tokens.ids, (0, 50), value=7)
    padded = Tokens(wide, tokens.lengths, tokens.codebook_size, tokens.model)
    file = tokenfile.load(tokenfile.save(tmp_path / "x.zoo", padded, tok))
    assert file.tokens.equal(tokens)
    assert file.tokens.ids.shape == tokens.ids.shape
    assert (file.tokens.ids[~file.tokens.mask] == 0).all()
    assert file.names == ("item_000000", "item_000001", "item_000002")


def test_items_of_no_tokens_are_kept(tmp_path):
    tok, tokens = made()
    for short in (tokens.truncate(torch.tensor([2, 0, 1])), tokens.truncate(0)):
        assert tokenfile.load(tokenfile.save(tmp_path / "x.zoo", short, tok, overwrite=True)).tokens.equal(short)


def test_it_is_what_its_documentation_says(stored):
    path, tok, tokens = stored
    arrays, facts = read(path)
    assert arrays["ids"].dtype == np.uint8
    assert arrays["ids"].tolist() == [i for item in tokens.tolist() for i in item]
    assert arrays["lengths"].tolist() == [10, 3, 1]
    assert arrays["signal_lengths"].tolist() == [37, 10, 1]
    assert facts.pop("library_version")
    assert facts.pop("fingerprint") == tokenfile.fingerprint(tok)
    spec = facts.pop("spec")
    assert (spec["modality"], spec["codebook_size"], spec["sample_rate"]) == ("speech", 256, 16000)
    assert facts == {
        "format": "tokenizer-zoo tokens",
        "format_version": 1,
        "model": "toy_speech.s0",
        "source": "",
        "grid": None,
        "base": 0,
        "names": ["a.wav", "b.wav", "c/d.wav"],
        "rates": [16000.0, None, 1.5],
    }
    for key in facts:
        assert f"* `{key}`, " in tokenfile.__doc__
    assert load_file(path).keys() == {"ids", "lengths", "signal_lengths"}


def test_equal_tokens_give_equal_files_of_the_size_of_their_ids(tmp_path):
    tok, tokens = made("image", 200)
    first, second = (tokenfile.save(tmp_path / name, tokens, tok).read_bytes() for name in ("a.zoo", "b.zoo"))
    assert first == second
    assert len(first) < 200 * (4 + 8 + len('\\"item_000000\\",')) + 1500


@pytest.mark.parametrize(("size", "dtype"), [(2, "u1"), (256, "u1"), (257, "u2"), (2**16, "u2"), (2**16 + 1, "u4")])
def test_ids_take_the_smallest_dtype(size, dtype, tmp_path):
    tok = toy.make("image", codebook_size=size)
    tokens = tok.encode(torch.ones(1, 3, 8, 8))
    path = tokenfile.save(tmp_path / "x.zoo", tokens, tok)
    assert load_file(path)["ids"].dtype == np.dtype(dtype)
    assert int(tokenfile.load(path).tokens.ids.max()) == size - 1


def test_a_wider_dtype_is_read_too(stored):
    path, _, tokens = stored
    rewrite(path, {"ids": load_file(path)["ids"].astype(np.uint64)})
    assert tokenfile.load(path).tokens.equal(tokens)


# What a file says of its model


def test_source_is_a_name_or_an_address_where_there_is_one(tmp_path):
    with toy.registered():
        tok, tokens = made("image")
        folder = zoo.save(tok, tmp_path / "model")
        entry = registry.ModelEntry("toy_image.s0", "toy_image", "image", str(folder), "MIT", "", "", 0)

        def source():
            return tokenfile.load(tokenfile.save(tmp_path / "x.zoo", tokens, tok, overwrite=True)).source

        assert source() == ""
        tok.source = os.path.relpath(folder)
        assert source() == str(folder.resolve())
        registry.register(entry)
        assert source() == "toy_image.s0"
        tok.source = "hf://alice/toy@" + "0" * 40
        assert source() == tok.source


@pytest.mark.parametrize("modality", MODALITIES)
def test_fingerprint_survives_saving_and_loading(modality, tmp_path):
    from zoo import checkpoint

    tok = toy.make(modality)
    first = tokenfile.fingerprint(tok)
    assert len(first) == 64
    again = checkpoint.load(type(tok), zoo.save(tok, tmp_path / "m", name=f"{tok.family}.other"))
    assert tokenfile.fingerprint(again) == first
    assert tokenfile.fingerprint(again.to_dtype(torch.float32)) == first


def test_fingerprint_tells_weights_settings_and_families_apart():
    tokenizers = [toy.make(m, seed) for m in MODALITIES for seed in (0, 1)] + [toy.make("image", size=(16, 8))]
    assert len({tokenfile.fingerprint(tok) for tok in tokenizers}) == len(tokenizers)


def test_fingerprint_sees_the_smallest_change_of_what_is_exact():
    episodes = [torch.rand(50, 2, generator=torch.Generator().manual_seed(0))]
    tok = BeastTokenizer(BeastConfig(2, 10, 5))
    with pytest.raises(NotFittedError):
        tokenfile.fingerprint(tok)
    first = tokenfile.fingerprint(tok.fit(episodes))
    assert tokenfile.fingerprint(BeastTokenizer(BeastConfig(2, 10, 5)).fit(episodes)) == first
    assert isinstance(tok, ActionTokenizer)
    tok.quantizer.low[0, 0] *= 1 + 2**-50
    assert tokenfile.fingerprint(tok) != first


def test_fingerprint_does_not_depend_on_an_accepted_dtype(monkeypatch):
    tok = toy.make("image", seed=1)
    monkeypatch.setattr(type(tok), "float_dtypes", (torch.float32, torch.bfloat16))
    first = tokenfile.fingerprint(tok)
    assert tokenfile.fingerprint(tok.to_dtype(torch.bfloat16)) == first
    assert tokenfile.fingerprint(toy.make("image", seed=2)) != first


def test_fingerprint_ignores_a_setting_at_its_default(monkeypatch):
    """A version that adds a setting must still know its files."""
    tok = toy.make("speech", hop=8)
    first = tokenfile.fingerprint(tok)
    config = {"hop": 8}
    expected = hashlib.sha256(json.dumps({"config": config, "family": "toy_speech"}, sort_keys=True).encode())
    for name, tensor in sorted(tok.state_dict().items()):
        expected.update(f"\n{name} float {list(tensor.shape)}\n".encode() + tensor.float().numpy().tobytes())
    assert first == expected.hexdigest()


def test_another_model_of_the_same_name_is_refused(stored):
    path, tok, _ = stored
    other = toy.make("speech", seed=1)
    other.name = tok.name
    with pytest.raises(TokenError, match=r"made by toy_speech\.s0 .* weights or settings differ"):
        tokenfile.load(path).require_made_by(other)


# What is not written


def test_save_refuses_what_could_not_be_decoded(tmp_path):
    tok, tokens = made()
    path = tmp_path / "x.zoo"
    cases = [
        (tokens.offset(5), None, "shifted by 5"),
        (tokens[:0], None, "no items"),
        (Tokens(tokens.ids, tokens.lengths, 256, "toy_speech.s1"), None, "made by 'toy_speech.s1'"),
        (Tokens(tokens.ids + 300, tokens.lengths, 256), None, "must be in 0 … 255"),
        (tokens, ["a", "b"], "3 items need as many names, got 2"),
        (tokens, ["a", "b", 3], "got int"),
    ]
    cases += [(tokens, ["a", "b", name], "names are relative paths") for name in UNSAFE]
    for wrong, names, message in cases:
        with pytest.raises(TokenError, match=message):
            tokenfile.save(path, wrong, tok, names)
    for rates in ([1.0], [1.0, 0.0, None], [1.0, -2.0, None], [1.0, float("nan"), None]):
        with pytest.raises(TokenError, match="rates"):
            tokenfile.save(path, tokens, tok, rates=rates)
    assert list(tmp_path.iterdir()) == []


def test_odd_names_of_real_files_are_fine(tmp_path):
    tok, tokens = made()
    names = ["Bildschirmfoto 2024 um 1.00\u202fPM.wav", "日本/…:?*.wav", "..hidden. wav "]
    assert tokenfile.load(tokenfile.save(tmp_path / "x.zoo", tokens, tok, names)).names == tuple(names)


def test_save_never_leaves_half_a_file(stored, monkeypatch):
    path, tok, tokens = stored
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        tokenfile.save(path, tokens, tok)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CheckpointError, match="No space left"):
        tokenfile.save(path, tokens, tok, overwrite=True)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(CheckpointError, match="cannot be written"):
        tokenfile.save(path.parent / "none" / "x.zoo", tokens, tok)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_has_the_permissions_of_any_other(stored):
    path, _, _ = stored
    path.with_name("other").write_bytes(b"")
    assert path.stat().st_mode == path.with_name("other").stat().st_mode
