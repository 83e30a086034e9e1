"""StableToken in use: what it takes, what it refuses, what it leaves alone, saving and loading."""

import dataclasses

import pytest
import soundfile
import torch
from tiny_stabletoken import TINY, make, speech

import zoo
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError
from zoo.families.stabletoken import StableTokenTokenizer
from zoo.families.stabletoken.official import folder as official

VOTING = {"kind": "voting_lfq", "dim": 32, "num_bits": 6}


def test_lists_files_and_arrays(tmp_path):
    tokenizer = make()
    wave = (speech(9000) * 20000).round().clamp(-32768, 32767) / 32768
    soundfile.write(tmp_path / "a.wav", wave.numpy(), 16000)
    expected = tokenizer.encode(wave).tolist()
    for form in (tmp_path / "a.wav", wave.numpy(), (wave, 16000), [wave], wave[None]):
        assert tokenizer.encode(form).tolist() == expected
    ragged = tokenizer.encode([wave, wave[:700]])
    assert ragged.tolist() == [expected[0], tokenizer.encode(wave[:700]).tolist()[0]]
    assert ragged.ids[1, 2:].tolist() == [0] * 13


def test_resampling_and_channels_on_request():
    tokenizer = make()
    stereo = speech(8000).repeat(2, 1)
    with pytest.raises(InputError, match="8000"):
        tokenizer.encode((stereo[0], 8000))
    with pytest.raises(InputError, match="channels"):
        tokenizer.encode((stereo, 16000))
    tokens = tokenizer.encode((stereo, 8000), resample=True, mix_down=True)
    assert tokens.lengths.tolist() == [25]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.empty(0), "empty"),
        (torch.empty(2, 0), "empty"),
        (torch.full((1, 900), torch.nan), "NaN"),
        (torch.full((900,), torch.inf), "inf"),
        (torch.ones(900) * 300, "-1…1"),
        ([], "empty"),
        ("nowhere.wav", "nowhere.wav"),
        (torch.zeros(900, dtype=torch.complex64), "complex"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(InputError, match=message):
        make().encode(bad)


def test_empty_files(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.wav"):
        make().encode(tmp_path / "empty.wav")


@pytest.mark.parametrize("lengths", [[0, 5], [901, 5], [5], [1.5, 2]])
def test_bad_lengths(lengths):
    with pytest.raises(InputError, match="length"):
        make().encode(torch.zeros(2, 900), lengths)


def test_decode_says_that_there_is_no_decoder():
    tokenizer = make()
    with pytest.raises(TokenError, match="no waveform decoder"):
        tokenizer.decode(tokenizer.encode(speech(900)))
    with pytest.raises(TokenError, match=r"0 … 63"):
        tokenizer.decode(torch.tensor([[64]]))
    with pytest.raises(TokenError, match="no decoder"):
        tokenizer.decoder(torch.zeros(1))


def test_only_float32():
    tokenizer = make()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(ConfigError, match="same ids only in"):
            tokenizer.to_dtype(dtype)
    with pytest.raises(ConfigError, match="float16"):
        make().half().encode(speech(900))


def test_encode_changes_nothing_and_records_nothing():
    tokenizer = make().train()
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    state = torch.get_rng_state()
    tokens = tokenizer.encode(speech(5000))
    assert not tokens.ids.is_inference()  # an embedding of the ids can be trained
    assert tokenizer.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in tokenizer.state_dict().items())
    assert tokenizer.eval().encode(speech(5000)).equal(tokens)


def test_saved_in_half_the_size(tmp_path):
    tokenizer = make()
    zoo.save(tokenizer, tmp_path / "x", name="stabletoken.tiny")
    zoo.save(tokenizer, tmp_path / "half", name="stabletoken.tiny", dtype=torch.float16)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("x", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    loaded = zoo.load(tmp_path / "half")
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())
    wave = speech(40_000)
    same = (loaded.encode(wave).ids == tokenizer.encode(wave).ids).float().mean()
    assert same > 0.9
    with torch.no_grad():
        tokenizer.encoder.conv1.bias[0] = 1e5
    with pytest.raises(CheckpointError, match="float16"):
        zoo.save(tokenizer, tmp_path / "large", dtype=torch.float16)
    with pytest.raises(ConfigError, match="float64"):
        zoo.save(tokenizer, tmp_path / "large", dtype=torch.float64)
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize(
    ("quantizer", "shape"),
    [
        ({"kind": "fsq", "levels": [8, 5, 5]}, (3, 63)),
        ({"kind": "vq", "codebook_size": 50, "dim": 32}, (3, 63)),
        ({"kind": "lfq", "num_bits": 7}, (3, 63)),
        ({"kind": "residual", "num_stages": 3, "stage": {"kind": "vq", "codebook_size": 9, "dim": 4}}, (3, 63, 3)),
    ],
)
def test_any_quantizer(tmp_path, quantizer, shape):
    tokenizer = make(quantizer=quantizer)
    waves = [speech(count, count) for count in (1, 900, 40_000)]
    tokens = tokenizer.encode(waves)
    assert tokens.ids.shape == shape
    assert tokens.codebook_size == tokenizer.quantizer.codebook_size
    assert tokens.ids[2].unique().numel() > 1
    assert [tokens[i].tolist() for i in range(3)] == [tokenizer.encode(wave).tolist() for wave in waves]
    zoo.save(tokenizer, tmp_path / "x", name="stabletoken.tiny")
    assert zoo.load(tmp_path / "x").encode(waves).equal(tokens)
    with pytest.raises(ConfigError, match="voting_lfq"):
        official.write(tokenizer, tmp_path / "y")


@pytest.mark.parametrize("stored", [False, True])
def test_save_and_load(tmp_path, stored):
    tokenizer = make(stored_positions=stored)
    zoo.save(tokenizer, tmp_path / "x", name="stabletoken.tiny")
    loaded = zoo.load(tmp_path / "x")
    assert isinstance(loaded, StableTokenTokenizer)
    assert loaded.config == tokenizer.config
    waves = [speech(count, count) for count in (1, 900, 40_000)]
    assert loaded.encode(waves).equal(tokenizer.encode(waves))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"quantizer": VOTING | {"num_voters": 4}}, "odd"),
        ({"quantizer": VOTING | {"num_clean": 2}}, "majority"),
        ({"quantizer": VOTING | {"num_clean": 6}}, "num_clean"),
        ({"quantizer": VOTING | {"dim": 16}}, "d_model"),
        ({"quantizer": VOTING | {"kind": "voting"}}, "voting_lfq"),
        ({"quantizer": VOTING | {"levels": [5]}}, "levels"),
        ({"quantizer": {"kind": "none", "dim": 32}}, "ids"),
        ({"pooling_position": 3}, "pooling_position"),
        ({"pooling_position": 0}, "pooling_position"),
        ({"pooling_kernel": 3}, "multiple of pooling_kernel"),
        ({"pooling_type": "median"}, "one of"),
        ({"quantizer": VOTING | {"num_bits": 0}}, "num_bits"),
        ({"n_fft": 100}, "n_fft"),
        ({"num_mel": 0}, "num_mel"),
        ({"d_model": 32.0}, "d_model"),
        ({"quantizer": VOTING | {"bias": 1}}, "bias"),
    ],
)
def test_bad_configs(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **changes)
