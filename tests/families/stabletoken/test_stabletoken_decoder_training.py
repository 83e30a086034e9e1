"""Training StableToken's decoder: pitch, spectra, losses, the two stages, their recipes."""

import json
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from speech_corpus import write_corpus
from tiny_stabletoken import TINY, TINY_DECODER, make, speech

import zoo
from zoo import config as configs
from zoo.cli import main
from zoo.components.audio.mel import MelSpectrum
from zoo.components.discriminators.waves import DiscriminatorConfig, Discriminators
from zoo.components.losses.spectral import MultiResolutionSTFT
from zoo.components.vocoder.pitch import fundamental_frequency
from zoo.data.speech import SpeechData
from zoo.errors import ConfigError
from zoo.families.stabletoken.decoder.voices import speaker_vector, voice_vector
from zoo.families.stabletoken.decoder_training import DecoderTraining, VocoderTraining
from zoo.process import random as process_random
from zoo.training import Reconstruction

RATE, HOP = 22050, 256
DECODER = configs.to_dict(TINY_DECODER)
RECIPES = Path(__file__).parents[3] / "recipes/stabletoken"


def tone(pitch, seconds=0.5, harmonics=(1, 2, 3)):
    t = torch.arange(int(RATE * seconds)) / RATE
    return 0.2 * sum(torch.sin(2 * math.pi * pitch * k * t) / k for k in harmonics)[None]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    write_corpus(folder / "corpus")
    zoo.save(make(), folder / "tokens", name="stabletoken.tiny")
    return folder


def batch_of(place, size=4):
    data = SpeechData(str(place / "corpus"), noise=False, batch_size=size)
    return next(iter(data.train_dataloader()))


def stage(kind, place, **changes):
    torch.manual_seed(0)
    module = kind(str(place / "tokens"), **{"decoder": DECODER, "crop_tokens": 8, **changes})
    module._log = lambda *_, **__: None
    return module


class TestPitch:
    @pytest.mark.parametrize("pitch", [80.0, 123.4, 220.0, 440.0])
    def test_tones(self, pitch):
        found = fundamental_frequency(tone(pitch), RATE, HOP)
        assert found.shape == (1, 11025 // HOP)
        inside = found[0, 5:-5]
        assert (inside / pitch - 1).abs().max() < 0.005

    def test_missing_fundamental(self):
        found = fundamental_frequency(tone(150.0, harmonics=(3, 4, 5)), RATE, HOP)
        assert (found[0, 5:-5] / 150 - 1).abs().max() < 0.01

    def test_noise_and_silence_have_none(self):
        noise = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
        assert (fundamental_frequency(noise, RATE, HOP) == 0).float().mean() > 0.95
        assert not fundamental_frequency(torch.zeros(1, RATE), RATE, HOP).any()

    def test_items_do_not_mix(self):
        waves = torch.cat([tone(100.0), tone(300.0)])
        assert torch.equal(fundamental_frequency(waves, RATE, HOP)[1], fundamental_frequency(waves[1:], RATE, HOP)[0])


class TestSpectrum:
    def test_frames_and_floor(self):
        spectrum = MelSpectrum(80, RATE, HOP)
        for count in (512, 1000, 22050, 22051 + 255):
            assert spectrum(torch.zeros(2, count)).shape == (2, 80, count // HOP)
        # (B, M, F) of silence: the logarithm's floor.
        assert torch.allclose(spectrum(torch.zeros(1, 2048)), torch.tensor(1e-5).log())

    def test_a_tone_is_in_its_band(self):
        spectrum = MelSpectrum(80, RATE, HOP)

        # Slaney's mel: linear to 1000 Hz, 200/3 Hz each, then logarithmic.
        def mel(f):
            return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

        for pitch in (300.0, 1000.0, 4000.0):
            band = spectrum(tone(pitch, harmonics=(1,)))[0, :, 10:-10].mean(1).argmax().item()
            assert abs(band - (mel(pitch) / mel(8000.0) * 81 - 1)) < 1

    def test_loudness(self):
        spectrum, wave = MelSpectrum(80, RATE, HOP), tone(500.0)
        difference = (spectrum(2 * wave) - spectrum(wave))[0, 10, 5:-5]
        assert torch.allclose(difference, torch.tensor(2.0).log(), atol=1e-3)

    def test_bad_rates(self):
        with pytest.raises(ConfigError, match="16000 Hz or more"):
            MelSpectrum(80, 8000, HOP)


class TestSpectralLoss:
    def test_values(self):
        loss, wave = MultiResolutionSTFT(), 0.1 * torch.randn(2, 8192, generator=torch.Generator().manual_seed(1))
        assert loss(wave, wave) == 0
        # Twice the target: convergence 1 and log 2 at every resolution.
        assert torch.allclose(loss(2 * wave, wave), torch.tensor(1 + math.log(2)), atol=1e-3)

    def test_phase_does_not_count(self):
        t = torch.arange(8192) / RATE
        first, second = (0.3 * torch.sin(2 * math.pi * 440 * t + phase)[None] for phase in (0.0, 2.0))
        other = 0.3 * torch.sin(2 * math.pi * 880 * t)[None]
        loss = MultiResolutionSTFT()
        assert loss(second, first) < 0.3 * loss(other, first)  # edges and the quietest bins do count

    def test_silence_has_gradients(self):
        wave = torch.zeros(1, 4096, requires_grad=True)
        MultiResolutionSTFT()(wave, torch.randn(1, 4096)).backward()
        assert wave.grad.isfinite().all()

    def test_bad_sizes(self):
        for sizes in ((), (510,)):
            with pytest.raises(ConfigError, match="multiples of 4"):
                MultiResolutionSTFT(sizes)


class TestStages:
    @pytest.mark.parametrize("kind", [VocoderTraining, DecoderTraining])
    def test_learns_and_changes_nothing_else(self, kind, place):
        module, batch = stage(kind, place), batch_of(place, 1)
        trained = {id(p) for part in module.trained_modules() for p in part.parameters()}
        before = {name: p.clone() for name, p in module.named_parameters()}
        ids = module.tokenizer.encode(batch.waves, batch.lengths).ids
        optimizer = torch.optim.AdamW(module.trained_modules()[0].parameters(), lr=1e-2)
        totals = []
        for _ in range(12):
            torch.manual_seed(1)  # the same stretches, times and noise
            losses = module.losses(batch)
            total = sum(module.loss_weights[name] * loss for name, loss in losses.items())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            totals.append(total.item())
        assert totals[-1] < 0.8 * totals[0], totals
        for name, parameter in module.named_parameters():
            changed = not torch.equal(parameter, before[name])
            if id(parameter) not in trained:
                assert not changed, name
        assert any(not torch.equal(p, before[name]) for name, p in module.named_parameters() if id(p) in trained)
        assert torch.equal(module.tokenizer.encode(batch.waves, batch.lengths).ids, ids)

    def test_every_weight_is_trained(self, place):
        """Nothing of a decoder is left out by the two stages together, but what `decode` does not use."""
        idle = []
        for kind in (VocoderTraining, DecoderTraining):
            module = stage(kind, place, loss_weights={"prior": 1.0} if kind is DecoderTraining else None)
            sum(module.losses(batch_of(place)).values()).backward()
            part = module.trained_modules()[0]
            idle += [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []

    def test_stretches_are_where_their_tokens_are(self, place):
        module, batch = stage(DecoderTraining, place, crop_tokens=3), batch_of(place)
        torch.manual_seed(3)
        ids, mel, speaker = module._pairs(batch)
        assert ids.shape[1] == 3
        assert mel.shape[1:] == (8, 10)
        assert len(ids) == len(mel) == len(speaker) > len(batch.waves)
        whole = module.tokenizer.encode(batch.waves, batch.lengths)
        # Every stretch occurs in an utterance, and its spectrum is that of the samples there.
        for row in range(len(ids)):
            places = [
                (item, start)
                for item, count in enumerate(whole.lengths.tolist())
                for start in range(count - 2)
                if torch.equal(whole.ids[item, start : start + 3], ids[row])
            ]
            spectra = [module.spectrum(module.crops(batch.waves, batch.lengths, [spot], 3))[0] for spot in places]
            assert any(torch.allclose(each, mel[row], atol=1e-5) for each in spectra)

    def test_short_utterances_end_in_silence(self, place):
        module, batch = stage(DecoderTraining, place, crop_tokens=40), batch_of(place, 2)
        ids, mel, _ = module._pairs(batch)
        assert ids.shape == (2, 40)
        assert torch.allclose(mel[:, :, -5:], torch.tensor(1e-5).log())
        assert (ids[:, -1] == ids[0, -1]).all()

    def test_voice(self, place):
        module = stage(DecoderTraining, place, voice="s1")
        assert not module._speaker("s1").any()
        assert module._speaker("s2").norm() == pytest.approx(1)
        vectors = torch.stack([speaker_vector(name, 192) for name in ("a", "b", "c")])
        assert (vectors @ vectors.T - torch.eye(3)).abs().max() < 0.3
        assert torch.equal(speaker_vector("a", 192), vectors[0])
        assert not speaker_vector("", 192).any()

    @pytest.mark.parametrize("voice", ["s2", "a new one"])
    def test_another_voice_for_zero_leaves_all_as_they_were(self, place, tmp_path, voice):
        first = stage(DecoderTraining, place, voice="s1")
        first._name_voices({"s2", "s3", "s4"})
        torch.nn.init.normal_(first.decoder.flow.speaker.weight)
        torch.nn.init.normal_(first.decoder.flow.speaker.bias)
        zoo.save(first.tokenizer, tmp_path / "first", name="stabletoken.tiny")
        second = DecoderTraining(str(tmp_path / "first"), voice=voice)
        before, after = first.decoder, second.decoder
        assert {after.config.voice, *after.config.voices} == {"s1", "s2", "s3", "s4", voice}
        assert after.config.voice == voice
        for name in ("s1", "s2", "s3", "s4"):
            wanted = before.flow.voice(voice_vector(name, before.config)[None])
            torch.testing.assert_close(after.flow.voice(voice_vector(name, after.config)[None]), wanted)

    def test_what_decode_uses_is_told(self, place):
        module = stage(DecoderTraining, place, guidance=1.5, temperature=0.0)
        for config in (module.decoder_config, module.decoder.config, module.tokenizer.config.decoder):
            assert (config.guidance, config.temperature) == (1.5, 0.0)
        assert stage(DecoderTraining, place).decoder_config.temperature == 1
        with pytest.raises(ConfigError, match="temperature must not be negative"):
            stage(DecoderTraining, place, temperature=-1.0)

    def test_tokens_that_differ_in_one_bit_start_alike(self, place):
        def distances(**options):
            weight = stage(DecoderTraining, place, **options).decoder.flow.tokens.weight.detach()
            differ = [bin(a ^ b).count("1") for a in range(64) for b in range(64)]
            between = torch.cdist(weight, weight).flatten()
            assert weight.std() == pytest.approx(1, abs=0.3)
            return [between[torch.tensor(differ) == count].mean().item() for count in (1, 3, 6)]

        one, three, six = distances(start_from_codes=True)
        assert one < 0.7 * three < 0.7 * six
        one, three, six = distances()
        assert one == pytest.approx(six, rel=0.1)

    def test_a_trained_flow_keeps_its_embedding(self, place, tmp_path):
        fresh = stage(DecoderTraining, place)
        kept = {}
        for name in ("untrained", "trained"):
            if name == "trained":  # by one step
                optimizer = torch.optim.Adam(fresh.decoder.flow.parameters(), 1e-3)
                sum(fresh.losses(batch_of(place, 2)).values()).backward()
                optimizer.step()
            folder = zoo.save(fresh.tokenizer, tmp_path / name, name="stabletoken.tiny", dtype=torch.float16)
            before = zoo.load(folder).decoder.flow.tokens.weight
            again = DecoderTraining(str(folder), start_from_codes=True)
            kept[name] = torch.equal(again.decoder.flow.tokens.weight, before)
        assert kept == {"untrained": False, "trained": True}

    def test_another_models_decoder_is_gone_on_from(self, place, tmp_path):
        other = make(3, decoder=TINY_DECODER)
        zoo.save(other, tmp_path / "other", name="stabletoken.tiny")
        module = stage(DecoderTraining, place, decoder=None, decoder_weights=str(tmp_path / "other"))
        state, tokens = module.tokenizer.state_dict(), zoo.load(place / "tokens").state_dict()
        for name, tensor in other.state_dict().items():
            assert torch.equal(state[name], tensor if name.startswith("decoder.") else tokens[name]), name
        with pytest.raises(ConfigError, match=r"decoder_weights: .* has no decoder of a stabletoken"):
            stage(DecoderTraining, place, decoder=None, decoder_weights=str(place / "tokens"))

    def test_prompts(self, place):
        mel = torch.ones(400, 2, 100)
        torch.manual_seed(0)
        module = stage(DecoderTraining, place, prompted=0.5, most_prompt=0.8)
        shares = module._prompts(mel)[:, 0].mean(1)
        assert shares.max() <= 0.8
        assert 0.4 < (shares > 0).float().mean() < 0.6
        assert not stage(DecoderTraining, place, prompted=0.0)._prompts(mel).any()

    def test_units_of_the_spectrum(self, place):
        """A flow in other units makes the same spectrum in the end."""
        plain, other = (
            stage(DecoderTraining, place, decoder={**DECODER, "mel_mean": mean, "mel_std": std})
            for mean, std in ((0.0, 1.0), (-6.0, 3.0))
        )
        batch = batch_of(place)
        torch.manual_seed(0)
        wanted = plain._pairs(batch)[1]
        torch.manual_seed(0)
        assert torch.allclose(other._pairs(batch)[1] * 3 - 6, wanted, atol=1e-5)
        ids = torch.arange(5)
        made = [
            module.decoder.flow(ids, steps=2, guidance=0.0, generator=torch.Generator().manual_seed(0))
            for module in (plain, other)
        ]
        assert torch.allclose(made[1], made[0] * 3 - 6, atol=1e-4)

    def test_bad_starts(self, place):
        with pytest.raises(ConfigError, match="no decoder"):
            VocoderTraining(str(place / "tokens"))
        with pytest.raises(ConfigError, match="drop must be from 0 to 1"):
            stage(DecoderTraining, place, drop=1.5)
        with pytest.raises(ConfigError, match="is a beast"):
            VocoderTraining("beast")


class TestAdversarial:
    """With discriminators, the vocoder has losses more, and both learn in every step."""

    SMALL: ClassVar = {"channels": 4, "periods": [2, 3], "resolutions": [512]}

    @pytest.mark.parametrize("count", [4096, 4097, 5003])
    def test_shapes(self, count):
        judges = Discriminators(configs.from_dict(DiscriminatorConfig, self.SMALL, "x"))
        said, features = judges(torch.randn(2, count))
        assert len(said) == len(features) == 3
        assert all(len(each) == 5 for each in features)
        assert said[0].shape[0] == 2
        assert said[1].shape[3] == 3  # one column for each place in the period

    def test_losses_of_each(self, place):
        module, batch = stage(VocoderTraining, place, discriminator=self.SMALL), batch_of(place)
        (vocoder,) = module.trained_modules()
        pair = module.reconstruct(batch)
        assert pair.losses.keys() == module.losses(batch).keys() == {"stft", "mel", "pitch"}
        assert pair.made.shape == pair.real.shape
        losses = module.discriminator_losses(Reconstruction({}, pair.real, pair.made.detach()))
        assert losses.keys() == {"discriminator"}
        losses["discriminator"].backward()
        assert all(p.grad is not None for p in module.discriminator.parameters())
        assert all(p.grad is None for p in vocoder.parameters())
        losses = module.adversarial_losses(pair)
        assert losses.keys() == {"adversarial", "features"}
        sum(losses.values()).backward()
        assert any(p.grad is not None and p.grad.any() for p in vocoder.parameters())

    def test_discriminators_learn(self, place):
        module, batch = stage(VocoderTraining, place, discriminator=self.SMALL), batch_of(place, 1)
        optimizer = torch.optim.AdamW(module.discriminator.parameters(), lr=1e-2)
        totals = []
        torch.manual_seed(1)
        with torch.no_grad():
            pair = module.reconstruct(batch)
        for _ in range(14):
            loss = module.discriminator_losses(pair)["discriminator"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            totals.append(loss.item())
        assert totals[-1] < 0.5 * totals[0]

    def test_bad_settings(self):
        for changes in ({"periods": (), "resolutions": ()}, {"periods": (1,)}, {"resolutions": (18,)}):
            with pytest.raises(ConfigError, match="discriminator"):
                DiscriminatorConfig(**changes)


def test_pitch_predictor_learns_recorded_pitch(place):
    module = stage(VocoderTraining, place)
    wave = tone(200.0, seconds=1.0)
    mel, pitch = module.spectrum(wave), fundamental_frequency(wave, RATE, HOP)
    optimizer = torch.optim.AdamW(module.decoder.vocoder.pitch.parameters(), lr=1e-2)
    for _ in range(80):
        loss = (module.decoder.vocoder.pitch(mel) - pitch).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 10


def fit(place, tmp_path, recipe, tokens, *more):
    overrides = {
        "trainer.strategy": "auto",
        "trainer.precision": "32-true",
        "trainer.accelerator": "cpu",
        "trainer.max_steps": "2",
        "trainer.val_check_interval": "2",
        "trainer.log_every_n_steps": "1",
        "trainer.default_root_dir": str(tmp_path),
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "data.folder": str(place / "corpus"),
        "data.batch_size": "2",
        "data.eval_items": "2",
        "data.num_workers": "0",
        "data.pin_memory": "false",
        "data.sources": "null",
        "data.repeat": "null",
        "model.tokens": str(tokens),
        "model.crop_tokens": "8",
        "model.optimizer.warmup_steps": "1",
    }
    arguments = [part for name, value in overrides.items() for part in (f"--{name}", value)]
    with process_random.preserved():
        return main(["fit", "--config", str(RECIPES / f"{recipe}.yaml"), *arguments, *more])


@pytest.mark.parametrize("size", ["nano", "paper"])
def test_recipes_train(size, place, tmp_path, capsys, monkeypatch, quiet_lightning):
    """Both stages, one behind the other, end in a model that decodes; their decoders as they are can be built."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    stated = yaml.safe_load((RECIPES / f"{size}_vocoder.yaml").read_text())["model"]["init_args"]["decoder"]
    with torch.device("meta"):
        config = {**configs.to_dict(TINY), "quantizer": {"kind": "voting_lfq", "dim": 32, "num_bits": 13}}
        built = zoo.registry.family("stabletoken").from_config({**config, "decoder": stated})
    assert built.config.decoder.num_frames(128) == 441
    tiny = json.dumps(DECODER)
    vocoder, decoder = tmp_path / "vocoder", tmp_path / "decoder"
    smaller = ("--model.discriminator.channels", "2") if size == "paper" else ()
    status = fit(place, vocoder, f"{size}_vocoder", place / "tokens", "--model.decoder", tiny, *smaller)
    assert status == 0, capsys.readouterr().err
    before = str(vocoder / "checkpoints/last.ckpt")
    if size == "nano":  # behind a later tokenizer than the vocoder
        status = fit(place, decoder, "nano_decoder", place / "tokens", "--model.decoder_weights", before)
    else:
        status = fit(place, decoder, "paper_decoder", before)
    assert status == 0, capsys.readouterr().err
    last, folder = str(decoder / "checkpoints/last.ckpt"), tmp_path / "model"
    assert main(["export", last, "-o", str(folder), "--name", "stabletoken.mine", "--dtype", "float16"]) == 0
    tokenizer, tokens = zoo.load(folder), make()
    own = tokenizer.config.decoder
    assert (own.voice, own.voices) == ("kokoro-af_heart" if size == "nano" else "", ("s0", "s1", "s2"))
    wave = speech(6400)
    assert torch.equal(tokenizer.encode(wave).ids, tokens.encode(wave).ids)
    assert tokenizer.decode(tokenizer.encode(wave)).shape == (1, 6400)
    # The second stage has left what the first one trained as it was, but for float16.
    trained = torch.load(vocoder / "checkpoints/last.ckpt", weights_only=True)
    assert trained["global_step"] == 2  # of the vocoder, with discriminators or without
    assert len(trained["optimizer_states"]) == (2 if size == "paper" else 1)
    average = trained["callbacks"]["zoo_ema"]["average"] if size == "nano" else None
    state = trained["state_dict"] if average is None else {f"tokenizer.{k}": v for k, v in average.items()}
    key = "decoder.vocoder.pre.direction"
    assert torch.equal(tokenizer.state_dict()[key], state[f"tokenizer.{key}"].half().float())
