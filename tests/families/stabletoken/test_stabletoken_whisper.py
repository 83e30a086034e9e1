"""Whisper as StableToken's training reads it, against transformers."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from speech_corpus import write_whisper
from tiny_stabletoken import TINY

from zoo.checkpoint.whisper import read_whisper
from zoo.components.whisper.text_decoder import TextDecoder
from zoo.errors import CheckpointError, ConfigError
from zoo.families.stabletoken.encoder import SpeechEncoder
from zoo.families.stabletoken.recognizer import Recognizer

PAIR = dataclasses.replace(TINY, num_layers=2, num_layers_after=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whisper")


@pytest.fixture(scope="module")
def theirs(folder):
    return write_whisper(folder)


@pytest.fixture
def whisper(theirs, folder):
    return read_whisper(folder)


@torch.no_grad()
def test_encoder_and_recognizer_make_up_the_encoder(whisper, theirs):
    mel = torch.randn(2, 16, 200)
    expected = theirs.model.encoder(mel).last_hidden_state
    front = SpeechEncoder(PAIR).eval()
    whisper.fill_encoder(front)
    back = Recognizer(PAIR, whisper, 32).eval()
    hidden = front.stem(mel)
    for layer in [*front.layers, *back.layers]:
        hidden = layer(hidden)
    torch.testing.assert_close(back.norm(hidden), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_text_decoder(whisper, theirs):
    decoder = TextDecoder(whisper.config).eval()
    whisper.fill_text_decoder(decoder)
    states = torch.randn(3, 50, 32)
    ids = torch.randint(0, whisper.config.vocabulary, (3, 17))
    expected = theirs(decoder_input_ids=ids, encoder_outputs=(states,)).logits
    logits = decoder(ids, states, torch.ones(3, 50, dtype=torch.bool))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    # States that do not count may hold anything.
    masked = states.clone()
    masked[:, 30:] = 7
    mask = (torch.arange(50) < 30).expand(3, -1)
    torch.testing.assert_close(decoder(ids, masked, mask), decoder(ids, states[:, :30], mask[:, :30]))


@torch.no_grad()
def test_transcription_is_the_likeliest_continuation(whisper):
    decoder = TextDecoder(whisper.config).eval()
    whisper.fill_text_decoder(decoder)
    states, mask = torch.randn(4, 20, 32), torch.ones(4, 20, dtype=torch.bool)
    prompt, end = whisper.spelling.prompt(), whisper.config.end_id
    found = decoder.transcribe(states, mask, [prompt] * 4, 12)
    assert any(found)
    for row, text in enumerate(found):
        ids = list(prompt)
        for _ in range(12):
            choice = int(decoder(torch.tensor([ids]), states[row : row + 1], mask[:1])[0, -1, : end + 1].argmax())
            if choice == end:
                break
            ids.append(choice)
        assert text == ids[len(prompt) :]
    assert all(len(text) <= 38 for text in decoder.transcribe(states, mask, [prompt] * 4, 1000))


def test_spelling(whisper):
    spelling = whisper.spelling
    assert spelling.decode(spelling.encode("two green cats")) == "two green cats"
    assert spelling.decode([*spelling.encode("Été, 東京"), whisper.config.end_id]) == "Été, 東京"
    assert len(spelling.prompt()) == 2
    several = dataclasses.replace(whisper.config, end_id=50257)
    spelling.config = several
    assert [spelling.tokenizer.id_to_token(i) for i in spelling.prompt("de")[1:]] == [
        "<|de|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    ]
    with pytest.raises(ConfigError, match="eo"):
        spelling.prompt("eo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 16}, "d_model is 32 there and 16 here"),
        ({"num_layers": 4, "num_mel": 16}, "num_layers"),
        ({"num_mel": 8}, "num_mel"),
    ],
)
def test_another_size(whisper, changes, message):
    with pytest.raises(ConfigError, match=message):
        whisper.require_sizes(**changes)


def test_the_same_sizes(whisper):
    whisper.require_sizes(d_model=32, num_layers=3, num_mel=16)


def test_unusable_folders(tmp_path, theirs, folder):
    with pytest.raises(CheckpointError, match="zoo data whisper"):
        read_whisper(tmp_path)
    config = json.loads((folder / "config.json").read_text())

    def write(changes):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))

    for changes, error, message in (
        ({"model_type": "bert"}, ConfigError, "not the config"),
        ({"vocab_size": "many"}, ConfigError, "vocab_size"),
        ({"activation_function": "relu"}, ConfigError, "gelu"),
        ({}, CheckpointError, "no .*safetensors"),
    ):
        write(changes)
        with pytest.raises(error, match=message):
            read_whisper(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.encoder.conv1.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        read_whisper(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"conv1\.bias"):
        read_whisper(tmp_path).fill_encoder(SpeechEncoder(PAIR))
    tensors["model.encoder.conv1.bias"] = torch.zeros(31)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="shape"):
        read_whisper(tmp_path).fill_encoder(SpeechEncoder(PAIR))
