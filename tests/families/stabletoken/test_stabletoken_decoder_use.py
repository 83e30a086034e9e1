"""StableToken with a decoder: speech again at the rate it came in, whatever the batch; saving, loading, bad input."""

import dataclasses
import json
import pickle
import shutil

import children
import pytest
import stabletoken_decoder_reference as decoder_reference
import stabletoken_reference as reference
import torch
from tiny_stabletoken import TINY, TINY_DECODER, make, make_decoder, seeded, some_ids, speech
from torchaudio.functional import resample

import zoo
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError
from zoo.families.stabletoken.decoder.speech import SpeechDecoder
from zoo.families.stabletoken.official import folder as official
from zoo.families.stabletoken.tokenizer import NoDecoder

NATIVE = 22050


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make(decoder=TINY_DECODER)
    tokenizer.decoder.load_state_dict(make_decoder().state_dict())
    return tokenizer


class TestDecode:
    @pytest.mark.parametrize("count", [1, 640, 641, 9000])
    def test_as_long_as_what_went_in(self, tokenizer, count):
        tokens = tokenizer.encode(speech(count))
        wave = tokenizer.decode(tokens)
        assert wave.shape == (1, count)
        assert wave.dtype == torch.float32
        assert tokenizer.output_lengths(tokens).tolist() == [count]
        assert wave.isfinite().all()
        assert wave.abs().max() <= 1

    def test_what_is_decoded_is_resampled_and_cut(self, tokenizer):
        ids = some_ids(7)
        with torch.no_grad():
            native = tokenizer.decoder(ids)
        assert len(native) == TINY_DECODER.num_samples(7) == 24 * 256
        wave = tokenizer.decode(ids[None])[0]
        assert len(wave) == 7 * 640
        expected = resample(native, NATIVE, 16000)
        assert torch.equal(wave[: len(expected)], expected)
        # What no whole frame covers, less than 12 ms, is silence.
        assert 0 < len(wave) - len(expected) < 0.012 * 16000
        assert not wave[len(expected) :].any()

    def test_weights_that_make_no_numbers_are_told(self):
        broken = make(decoder=TINY_DECODER)
        with torch.no_grad():
            for parameter in broken.decoder.vocoder.parameters():
                parameter.fill_(3e38)
        with pytest.raises(CheckpointError, match="values that are not finite: its weights are damaged"):
            broken.decode(some_ids(3)[None])

    def test_the_vocoder_alone(self, tokenizer):
        for count in (640, 9000):
            wave = speech(count)
            copied = tokenizer.vocode(wave)
            assert copied.shape == (
                resample(torch.zeros(-(-count * NATIVE // 16000) // 256 * 256), NATIVE, 16000).shape
            )
            assert torch.equal(copied, tokenizer.vocode(wave))
        assert not torch.equal(tokenizer.vocode(wave), tokenizer.vocode(wave.flip(0)))
        with pytest.raises(InputError, match="at least 640 samples"):
            tokenizer.vocode(speech(500))
        with pytest.raises(TokenError, match="no waveform decoder"):
            make().vocode(wave)

    def test_the_native_rate(self, tokenizer):
        tokens = zoo.Tokens.from_ids([some_ids(7).tolist(), [1]], codebook_size=64)
        waves = tokenizer.decode(tokens, sample_rate=NATIVE)
        lengths = tokenizer.output_lengths(tokens, NATIVE).tolist()
        assert lengths == [7 * 882, 882]
        assert waves.shape == (2, 7 * 882)
        with torch.no_grad():
            native = tokenizer.decoder(some_ids(7))
        assert torch.equal(waves[0, : len(native)], native)
        assert not waves[0, len(native) :].any()
        assert not waves[1, 768:].any()
        tokens = tokenizer.encode(speech(1000))
        assert tokenizer.decode(tokens, sample_rate=8000).shape == (1, 500)
        assert tokenizer.output_lengths(tokens, 44100).tolist() == [2757]

    def test_neighbours_padding_and_order_change_nothing(self, tokenizer):
        waves = [speech(count, count) for count in (4000, 641, 9000, 1)]
        expected = [tokenizer.decode(tokenizer.encode(wave), steps=2)[0] for wave in waves]
        tokens = tokenizer.encode(waves)
        assert tokenizer.output_lengths(tokens).tolist() == [4000, 641, 9000, 1]
        for order in ([0, 1, 2, 3], [2, 3, 1, 0], [1, 3]):
            decoded = tokenizer.decode(tokens[order], steps=2)
            for row, number in zip(decoded, order, strict=True):
                assert torch.equal(row[: len(waves[number])], expected[number])
                assert not row[len(waves[number]) :].any()
        ids = torch.randint(64, (3, 20), generator=seeded(9))  # what lies past an item's end may be anything
        alone = tokenizer.decode(ids[1:2, :6], steps=2)
        assert torch.equal(tokenizer.decode(ids, [20, 6, 0], steps=2)[1, : 6 * 640], alone[0])

    def test_generators_start_all_items_alike(self, tokenizer):
        ids = torch.stack([some_ids(5), some_ids(5), some_ids(5, seed=1)])

        def decode(ids, generator):
            return tokenizer.decode(ids, generator=generator, steps=2)

        first = decode(ids, seeded(1))
        assert torch.equal(first[0], first[1])
        assert torch.equal(decode(ids[2:], seeded(1))[0], first[2])
        assert not torch.equal(decode(ids, seeded(2)), first)
        generator = seeded(1)
        assert torch.equal(decode(ids, generator), first)
        assert not torch.equal(decode(ids, generator), first)  # it has moved on

    def test_options_reach_the_decoder(self, tokenizer):
        ids = some_ids(5)[None]
        default = tokenizer.decode(ids)
        assert torch.equal(tokenizer.decode(ids, steps=10, guidance=0.7), default)
        for options in ({"steps": 2}, {"guidance": 0.0}, {"temperature": 0.5}):
            assert not torch.equal(tokenizer.decode(ids, **options), default)

    def test_it_leaves_everything_alone(self, tokenizer):
        before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
        state = torch.get_rng_state()
        ids = some_ids(5)[None]
        wave = tokenizer.decode(ids)
        assert not wave.requires_grad
        assert torch.equal(torch.get_rng_state(), state)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(tokenizer.train().decode(ids), wave)
        assert tokenizer.training
        tokenizer.eval()
        assert all(torch.equal(before[name], tensor) for name, tensor in tokenizer.state_dict().items())

    def test_nothing_to_decode(self, tokenizer):
        assert tokenizer.decode(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)
        assert tokenizer.decode(torch.zeros(0, 4, dtype=torch.int64)).shape == (0, 0)
        assert tokenizer.decode([[3], []]).shape == (2, 640)


def test_encoding_does_not_feel_the_decoder(tokenizer):
    wave = speech(9000)
    assert tokenizer.encode(wave).tolist() == make().encode(wave).tolist()
    assert tokenizer.num_parameters == make().num_parameters + sum(p.numel() for p in tokenizer.decoder.parameters())


@pytest.mark.parametrize(
    ("tokens", "options", "error", "message"),
    [
        ([[64]], {}, TokenError, r"0 … 63"),
        ([[-1]], {}, TokenError, r"0 … 63"),
        ([[[1, 2]]], {}, TokenError, "codebook"),
        ([[0.5]], {}, TokenError, "integers"),
        ([[1]], {"lengths": [2]}, TokenError, "lengths"),
        (zoo.Tokens.from_ids([[1]], codebook_size=64, model="beast"), {}, TokenError, "beast"),
        ([[1]], {"steps": 0}, ConfigError, "num_steps"),
        ([[1]], {"guidance": float("nan")}, ConfigError, "guidance"),
        ([[1]], {"sample_rate": 0}, ConfigError, "sample_rate"),
        ([[1]], {"sample_rate": 16000.0}, ConfigError, "sample_rate"),
        ([[1]], {"sample_rate": 1_000_003}, InputError, "filter"),
    ],
)
def test_bad_input(tokenizer, tokens, options, error, message):
    with pytest.raises(error, match=message):
        tokenizer.decode(tokens, **options)


def test_only_float32():
    with pytest.raises(ConfigError, match="float64"):
        make(decoder=TINY_DECODER).double().decode([[1]])


def test_configs_that_contradict_each_other():
    with pytest.raises(ConfigError, match="25 tokens a second, got 50"):
        dataclasses.replace(TINY, decoder=dataclasses.replace(TINY_DECODER, token_rate=50))
    with pytest.raises(ConfigError, match="codebook of 63 ids"):
        make(decoder=dataclasses.replace(TINY_DECODER, codebook_size=63))
    two = {"kind": "residual", "num_stages": 2, "stage": {"kind": "vq", "codebook_size": 64, "dim": 4}}
    with pytest.raises(ConfigError, match="has 2 of 64"):
        make(decoder=TINY_DECODER, quantizer=two)


def test_save_and_load(tmp_path, tokenizer):
    zoo.save(tokenizer, tmp_path / "x", name="stabletoken.tiny")
    loaded = zoo.load(tmp_path / "x")
    assert loaded.config == tokenizer.config
    tokens = loaded.encode([speech(9000), speech(700)])
    waves = loaded.decode(tokens, steps=2)
    expected = tokenizer.decode(dataclasses.replace(tokens, model=tokenizer.name), steps=2)
    assert torch.equal(waves, expected)
    assert torch.equal(pickle.loads(pickle.dumps(loaded)).decode(tokens, steps=2), waves)


@pytest.mark.parametrize("written", ["null", "left out"])
def test_checkpoints_without_decoder_load_as_before(tmp_path, written):
    tokenizer = make()
    folder = zoo.save(tokenizer, tmp_path / "x", name="stabletoken.tiny")
    manifest = json.loads((folder / "config.json").read_text())
    assert manifest["config"]["decoder"] is None
    if written == "left out":
        del manifest["config"]["decoder"]
        (folder / "config.json").write_text(json.dumps(manifest))
    loaded = zoo.load(folder)
    assert isinstance(loaded.decoder, NoDecoder)
    assert loaded.encode(speech(9000)).tolist() == tokenizer.encode(speech(9000)).tolist()
    with pytest.raises(TokenError, match="no waveform decoder"):
        loaded.decode([[1]])


def test_without_decoder_none_of_its_code_is_loaded(tmp_path):
    folder = zoo.save(make(), tmp_path / "x", name="stabletoken.tiny")
    code = f"""
import sys, zoo
zoo.load({str(folder)!r})
print([name for name in sys.modules if "stabletoken.decoder." in name or "components.flow" in name])
"""
    done = children.run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['zoo.families.stabletoken.decoder.config']"


class TestReleased:
    def write(self, folder):
        config = reference.RELEASED
        reference.write(folder / "tokenizer", config, reference.random_tensors(config))
        return decoder_reference.write(folder / "decoder")

    def test_the_decoder_beside_the_tokenizer_is_read(self, tmp_path):
        flow, vocoder = self.write(tmp_path)
        tokenizer = zoo.load(tmp_path)
        assert isinstance(tokenizer.decoder, SpeechDecoder)
        assert tokenizer.config.decoder == TINY_DECODER
        assert torch.equal(tokenizer.decoder.flow.tokens.weight, flow["input_embedding.weight"])
        assert torch.equal(tokenizer.decoder.vocoder.ups[1].gain, vocoder["ups.1.weight_g"])
        tokens = tokenizer.encode(speech(3000))
        wave = tokenizer.decode(tokens)
        assert wave.shape == (1, 3000)
        assert wave.std() > 0
        zoo.save(tokenizer, tmp_path / "saved", name="stabletoken.tiny")
        again = zoo.load(tmp_path / "saved")
        assert torch.equal(again.decode(tokens.ids, tokens.lengths)[:, :3000], wave)

    def test_round_trip(self, tmp_path):
        whole = make(decoder=TINY_DECODER, num_mel=20, max_positions=1500)
        official.write(whole, tmp_path / "a")
        back = zoo.load(tmp_path / "a", family="stabletoken")
        assert back.config.decoder == whole.config.decoder
        assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())
        official.write(make(num_mel=20, max_positions=1500), tmp_path / "b")
        assert not (tmp_path / "b/decoder").exists()

    def test_without_the_folder(self, tmp_path):
        self.write(tmp_path)
        shutil.rmtree(tmp_path / "decoder")
        assert isinstance(zoo.load(tmp_path).decoder, NoDecoder)
        (tmp_path / "decoder").mkdir()
        (tmp_path / "decoder/README.md").write_text("Not downloaded.")
        assert isinstance(zoo.load(tmp_path).decoder, NoDecoder)

    def test_half_a_decoder_is_an_error(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "decoder/hift.pt").unlink()
        with pytest.raises(CheckpointError, match=r"hift\.pt"):
            zoo.load(tmp_path)

    def test_another_vocabulary_is_an_error(self, tmp_path):
        self.write(tmp_path)
        config = decoder_reference.CONFIG_YAML.replace("vocab_size: 64", "vocab_size: 32")
        (tmp_path / "decoder/config.yaml").write_text(config)
        with pytest.raises(ConfigError, match="codebook of 32 ids"):
            zoo.load(tmp_path)
