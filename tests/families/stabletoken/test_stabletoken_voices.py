"""Voices that speech is decoded in: names, vectors, the command line."""

from dataclasses import replace

import pytest
import soundfile
import torch
from speech_corpus import write_corpus
from tiny_stabletoken import TINY_DECODER, make, speech

import zoo
from zoo import config as configs
from zoo.cli import main
from zoo.errors import InputError
from zoo.families.stabletoken.decoder.voices import speaker_vector, voice_vector
from zoo.families.stabletoken.decoder_training import DecoderTraining, VocoderTraining

NAMED = replace(TINY_DECODER, voice="anna", voices=("bert", "carl"))
SIZE = TINY_DECODER.speaker_size


@pytest.fixture(scope="module")
def tokenizer():
    return make(decoder=NAMED)


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return tokenizer.encode([speech(8000), speech(4800)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    write_corpus(folder / "corpus")
    zoo.save(make(), folder / "tokens", name="stabletoken.tiny")
    return folder


class TestNames:
    def test_zero_is_the_voice_of_one_speaker_or_of_no_one(self):
        for voice in (None, "anna"):
            assert not voice_vector(voice, NAMED).any()
        assert not voice_vector(None, TINY_DECODER).any()

    def test_names_stand_for_the_vectors_that_training_uses(self):
        assert torch.equal(voice_vector("bert", NAMED), speaker_vector("bert", SIZE))
        assert voice_vector("bert", NAMED).norm() == pytest.approx(1)

    def test_vectors_are_taken_as_they_are(self):
        vector = torch.arange(SIZE, dtype=torch.float64)
        assert torch.equal(voice_vector(vector, NAMED), vector.float())
        assert torch.equal(voice_vector(vector.tolist(), NAMED), vector.float())

    @pytest.mark.parametrize(
        ("voice", "message"),
        [
            ("dora", "no 'dora'; known: anna, bert, carl"),
            ("carla", "no 'carla'; did you mean 'carl'"),
            ("", "no ''; known: anna"),
            (torch.zeros(SIZE + 1), f"a vector of {SIZE} finite numbers, got the shape"),
            (torch.zeros(1, SIZE), f"a vector of {SIZE} finite numbers, got the shape"),
            (torch.full((SIZE,), torch.nan), "finite"),
            (object(), "a name or a vector"),
            (["a"] * SIZE, "a name or a vector"),
        ],
    )
    def test_bad_voices(self, tokenizer, tokens, voice, message):
        with pytest.raises(InputError, match=message):
            tokenizer.decode(tokens, voice=voice)
        with pytest.raises(InputError, match=message):
            tokenizer.check_decode(voice=voice)

    def test_a_decoder_without_names_says_so(self):
        with pytest.raises(InputError, match="none is known by name"):
            voice_vector("anna", TINY_DECODER)


class TestDecode:
    def test_the_voice_is_heard(self, tokenizer, tokens):
        own = tokenizer.decode(tokens)
        assert torch.equal(tokenizer.decode(tokens, voice="anna"), own)
        bert = tokenizer.decode(tokens, voice="bert")
        assert bert.shape == own.shape
        assert not torch.equal(bert, own)
        assert torch.equal(tokenizer.decode(tokens, voice=speaker_vector("bert", SIZE)), bert)

    def test_every_item_is_still_its_own(self, tokenizer, tokens):
        together = tokenizer.decode(tokens, voice="carl")
        alone = tokenizer.decode(tokens[1:2], voice="carl")
        assert torch.equal(together[1, : alone.shape[1]], alone[0])

    def test_only_a_vectors_direction_counts(self, tokenizer, tokens):
        vector = speaker_vector("bert", SIZE)
        assert torch.allclose(
            tokenizer.decode(tokens, voice=3 * vector), tokenizer.decode(tokens, voice=vector), atol=1e-5
        )

    def test_voices_are_saved(self, tmp_path, tokenizer, tokens):
        zoo.save(tokenizer, tmp_path / "model")
        loaded = zoo.load(tmp_path / "model")
        assert (loaded.config.decoder.voice, loaded.config.decoder.voices) == ("anna", ("bert", "carl"))
        assert torch.equal(loaded.decode(tokens, voice="bert"), tokenizer.decode(tokens, voice="bert"))

    def test_the_command_line(self, tmp_path, place, tokenizer, capsys):
        zoo.save(tokenizer, tmp_path / "model")
        sound = next((place / "corpus/audio").iterdir())
        file, out = str(tmp_path / "x.zoo"), str(tmp_path / "out")
        assert main(["encode", str(tmp_path / "model"), str(sound), "-o", file]) == 0
        decode = ["decode", file, "--model", str(tmp_path / "model"), "-o"]
        capsys.readouterr()
        assert main([*decode, out, "--voice", "dora"]) != 0
        assert "known: anna, bert, carl" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        assert main([*decode, out, "--voice", "bert"]) == 0
        (written,) = (tmp_path / "out").iterdir()
        ids = zoo.load(tmp_path / "model").encode(sound)
        wave = torch.from_numpy(soundfile.read(written, dtype="float32")[0])
        wanted = tokenizer.decode(ids, voice="bert", generator=torch.Generator().manual_seed(0))[0]
        assert (wave - wanted).abs().max() < 1e-3


def test_stages_that_go_on_keep_them(tmp_path):
    zoo.save(make(decoder=NAMED), tmp_path / "named", name="stabletoken.tiny")
    plain = configs.to_dict(TINY_DECODER)
    for kind, more in ((VocoderTraining, {}), (DecoderTraining, {"voice": "anna"})):
        for decoder in (None, plain):
            module = kind(str(tmp_path / "named"), decoder=decoder, crop_tokens=8, **more)
            assert module.tokenizer.config.decoder == NAMED
