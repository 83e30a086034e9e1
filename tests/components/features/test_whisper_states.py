"""Whisper's encoder against transformers' own, with a small random model on the disk."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.components.features import WhisperStates
from zoo.errors import CheckpointError, ConfigError, InputError, MissingExtraError

transformers = pytest.importorskip("transformers")

SECOND = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as `openai/whisper-*` on the Hub have it, decoder included, of 2 seconds instead of 30."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        vocab_size=64,
        max_source_positions=100,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    path = tmp_path_factory.mktemp("whisper")
    transformers.WhisperForConditionalGeneration(config).save_pretrained(path)
    return path


def speech(samples=SECOND, batch=2):
    time = torch.arange(samples) / SECOND
    pitches = torch.tensor([[110.0], [330.0]])[:batch]
    return 0.3 * torch.sin(2 * torch.pi * pitches * time) * torch.sin(7 * time)


def test_the_mel_spectrogram_is_whispers(folder):
    heard = transformers.WhisperFeatureExtractor(chunk_length=2)
    expected = np.stack([heard(wave.numpy(), sampling_rate=SECOND)["input_features"][0] for wave in speech()])
    found = WhisperStates(folder).log_mel(speech())
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=2e-4, rtol=0)


def test_states_are_whispers(folder):
    ours = WhisperStates(folder, ["layers.0", "layer_norm"])
    theirs = transformers.WhisperModel.from_pretrained(folder).encoder.eval()
    with torch.no_grad():
        expected = theirs(ours.log_mel(speech()), output_hidden_states=True)
    found = ours.features(speech())
    assert found["layer_norm"].shape == (2, 16, 50)
    torch.testing.assert_close(found["layer_norm"].transpose(1, 2), expected.last_hidden_state[:, :50])
    torch.testing.assert_close(found["layers.0"].transpose(1, 2), expected.hidden_states[1][:, :50])


@pytest.mark.parametrize(("samples", "states"), [(1, 1), (320, 1), (321, 2), (2 * SECOND, 100)])
def test_there_are_fifty_states_a_second(folder, samples, states):
    assert WhisperStates(folder)(speech(samples))["layer_norm"].shape[2] == states


def test_zeros_at_the_end_change_no_state(folder):
    network = WhisperStates(folder)
    short = speech(SECOND // 2)
    longer = torch.nn.functional.pad(short, (0, SECOND // 2))
    torch.testing.assert_close(network(longer)["layer_norm"][..., :25], network(short)["layer_norm"])


def test_a_neighbour_changes_no_state(folder):
    network = WhisperStates(folder)
    pair = speech() * torch.tensor([[1.0], [0.001]])
    torch.testing.assert_close(network(pair)["layer_norm"][1:], network(pair[1:])["layer_norm"])


def test_gradients_reach_the_speech(folder):
    x = speech().requires_grad_()
    WhisperStates(folder)(x)["layer_norm"].square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_half_precision_files_are_read_in_full(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    network = WhisperStates(tmp_path)
    assert {parameter.dtype for parameter in network.network.parameters()} == {torch.float32}
    torch.testing.assert_close(
        network(speech())["layer_norm"], WhisperStates(folder)(speech())["layer_norm"], atol=0.02, rtol=0
    )


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(SECOND), torch.zeros(1, 0), torch.zeros(1, 2 * SECOND + 1), torch.zeros(1, 9, dtype=torch.int16)],
)
def test_what_is_no_speech_is_refused(folder, wrong):
    with pytest.raises(InputError, match="16000 Hz"):
        WhisperStates(folder)(wrong)


def test_a_layer_that_is_not_there_has_near_matches(folder):
    with pytest.raises(ConfigError, match=r"'layers\.1'"):
        WhisperStates(folder, ["layers.9"])


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(CheckpointError, match="zoo data whisper"):
        WhisperStates(tmp_path / "nowhere")


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="Whisper"):
        WhisperStates(tmp_path)


def test_weights_must_be_there_and_whole(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        WhisperStates(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.encoder.layers.1.fc1.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.1\.fc1\.bias is missing"):
        WhisperStates(tmp_path)


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[eval\]"):
        WhisperStates(folder)


def test_the_global_generator_is_left_alone(folder):
    importlib.import_module("transformers.models.whisper.modeling_whisper")
    state = torch.random.get_rng_state()
    WhisperStates(folder)
    assert torch.equal(torch.random.get_rng_state(), state)
