"""StableToken's decoder: lengths, what sees what, randomness, and its parts against plain computations."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from tiny_stabletoken import make_decoder, seeded, some_ids
from torch import nn

from zoo.components.vocoder.convolution import Conv, Upsampling
from zoo.components.vocoder.source import HarmonicSource
from zoo.errors import ConfigError
from zoo.families.stabletoken.decoder import DecoderConfig, UNetConfig, VocoderConfig
from zoo.families.stabletoken.decoder.speech import SEED


@torch.no_grad()
def decode(decoder, ids, **options):
    return decoder(ids, **options)


class TestLengths:
    def test_every_length(self):
        config = DecoderConfig()
        for count in range(1, 401):
            assert config.num_frames(count) == math.floor(441 * count / 128)
            assert config.num_samples(count) == 256 * (441 * count // 128)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 29, 128])
    def test_networks_agree(self, count):
        decoder = make_decoder()
        frames = 441 * count // 128
        with torch.no_grad():
            mel = decoder.flow(some_ids(count), steps=1, guidance=0.7, generator=seeded(0))
            wave = decoder.vocoder(mel[None], seeded(0))
        assert mel.shape == (8, frames)
        assert wave.shape == (1, 256 * frames)
        assert decode(decoder, some_ids(count)).shape == (256 * frames,)

    @pytest.mark.parametrize("frames", [1, 2, 3, 50])
    def test_256_samples_a_frame(self, frames):
        with torch.no_grad():
            assert make_decoder().vocoder(torch.randn(1, 8, frames), seeded(0)).shape == (1, 256 * frames)

    def test_other_sizes(self):
        vocoder = VocoderConfig(
            channels=16,
            pitch_channels=4,
            upsample_rates=(4, 2),
            upsample_kernels=(8, 2),
            n_fft=8,
            hop_length=2,
            kernels=(3,),
            dilations=((1, 2),),
            source_kernels=(3, 5),
            source_dilations=((1,), (2, 3)),
        )
        unet = UNetConfig(channels=(8, 16, 8), num_layers=2, num_middle=1, num_heads=1, head_size=3)
        decoder = make_decoder(vocoder=vocoder, unet=unet, token_rate=100, sample_rate=8000)
        assert decoder.config.num_frames(7) == 35
        wave = decode(decoder, some_ids(7))
        assert wave.shape == (35 * 16,)
        assert wave.isfinite().all()
        assert wave.std() > 0
        one_level = make_decoder(unet=UNetConfig(channels=(8,), num_layers=1, num_middle=1, num_heads=1, head_size=3))
        assert decode(one_level, some_ids(2)).isfinite().all()


class TestRandomness:
    def test_a_wave_is_a_function_of_its_tokens(self):
        decoder = make_decoder()
        state = torch.get_rng_state()
        first, second = decode(decoder, some_ids(9)), decode(decoder, some_ids(9))
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(decode(decoder, some_ids(9), generator=seeded(SEED)), first)
        assert first.isfinite().all()
        assert not torch.equal(decode(decoder, some_ids(9, seed=1)), first)

    def test_training_mode_changes_nothing(self):
        decoder = make_decoder()
        expected = decode(decoder, some_ids(9))
        assert torch.equal(decode(decoder.train(), some_ids(9)), expected)
        assert decoder.training

    def test_generators(self):
        decoder = make_decoder()
        waves = [decode(decoder, some_ids(9), generator=seeded(seed)) for seed in (1, 1, 2)]
        assert torch.equal(waves[0], waves[1])
        assert not torch.allclose(waves[0], waves[2], atol=1e-3)

    def test_neither_noise_is_left_out(self):
        decoder = make_decoder()
        mel = torch.randn(1, 8, 20)
        with torch.no_grad():
            spectra = [decoder.flow(some_ids(6), steps=2, guidance=0.7, generator=seeded(seed)) for seed in (1, 2)]
            waves = [decoder.vocoder(mel, seeded(seed)) for seed in (1, 2)]
        assert not torch.allclose(*spectra, atol=1e-2)
        assert not torch.equal(*waves)

    def test_pickles_and_copies(self):
        decoder = make_decoder()
        expected = decode(decoder, some_ids(9))
        for other in (pickle.loads(pickle.dumps(decoder)), copy.deepcopy(decoder)):
            assert torch.equal(decode(other, some_ids(9)), expected)


class TestFlow:
    def test_steps_and_guidance_count(self):
        decoder = make_decoder()
        waves = [
            decode(decoder, some_ids(9), **options)
            for options in ({}, {"steps": 10, "guidance": 0.7}, {"steps": 9}, {"guidance": 0.6}, {"guidance": 0.0})
        ]
        assert torch.equal(waves[0], waves[1])
        for other in waves[2:]:
            assert not torch.allclose(waves[0], other, atol=1e-4)
        with pytest.raises(ConfigError, match="num_steps"):
            decode(decoder, some_ids(9), steps=0)

    def test_temperature_is_what_the_noise_is_scaled_by(self):
        decoder, cool = make_decoder(), make_decoder(temperature=0.5)
        waves = [decode(decoder, some_ids(9), temperature=temperature) for temperature in (None, 1.0, 0.5)]
        assert torch.equal(waves[0], waves[1])
        assert not torch.allclose(waves[0], waves[2], atol=1e-4)
        assert torch.equal(decode(cool, some_ids(9)), waves[2])
        with torch.no_grad():
            settings = decoder.flow_settings(2, 0.7, 0.0)
            spectra = [decoder.flow(some_ids(6), **settings, generator=seeded(seed)) for seed in (1, 2)]
        assert torch.equal(*spectra)
        for value in (-0.1, math.nan, math.inf):
            with pytest.raises(ConfigError, match="temperature must be a finite number, 0 or more"):
                decode(decoder, some_ids(9), temperature=value)
        with pytest.raises(ConfigError, match="decoder: temperature must not be negative, got -1"):
            make_decoder(temperature=-1.0)

    @pytest.mark.parametrize(("steps", "guidance", "temperature"), [(10, 0.7, 1.0), (3, 0.0, 0.3), (1, 2.0, 1.0)])
    def test_the_solver_is_euler_on_a_cosine(self, steps, guidance, temperature):
        flow = make_decoder().flow
        ids = some_ids(5)
        with torch.no_grad():
            got = flow(ids, steps=steps, guidance=guidance, temperature=temperature, generator=seeded(3))
            content, none = flow.content(ids[None]), torch.zeros(1, 8, 17)
            # A zero vector has no direction, so the map's bias is all there is of a speaker.
            speaker = flow.speaker.bias[None]
            x = temperature * torch.randn(1, 8, 17, generator=seeded(3))
            times = [1 - math.cos(math.pi / 2 * step / steps) for step in range(steps + 1)]
            for now, later in itertools.pairwise(times):
                t = torch.tensor([now])
                guided = flow.velocity(x, t, content, speaker, none)
                unguided = flow.velocity(x, t, none, torch.zeros(1, 8), none)
                x = x + (later - now) * ((1 + guidance) * guided - guidance * unguided)
        assert torch.allclose(got, x[0], atol=1e-5)

    def test_speakers_differ(self):
        flow = make_decoder().flow
        vectors = torch.randn(2, 6)
        with torch.no_grad():
            voices = flow.voice(vectors)
            assert torch.allclose(flow.voice(3 * vectors), voices, atol=1e-6)
            assert not torch.allclose(voices[0], voices[1], atol=1e-3)
            assert torch.equal(flow.voice(torch.zeros(1, 6)), flow.voice())

    def test_every_parameter_is_used(self):
        decoder = make_decoder()
        decoder(some_ids(6), steps=2).square().sum().backward()
        # Of no speaker, the bias is left.
        idle = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == ["flow.speaker.weight"]
        assert all(p.grad.isfinite().all() for p in decoder.parameters())


class TestConformer:
    def test_later_blocks_are_hidden(self):
        flow = make_decoder().flow  # blocks of 4
        ids = some_ids(14)

        def hidden(changed):
            other = ids.clone()
            other[changed] = (other[changed] + 1) % 64
            with torch.no_grad():
                return flow.encoder(flow.tokens(other[None]))[0]

        with torch.no_grad():
            before = flow.encoder(flow.tokens(ids[None]))[0]
        for changed in range(14):
            start = changed // 4 * 4
            same = (hidden(changed) == before).all(1)
            assert same[:start].all()
            assert not same[start:].any()  # all of its own block, and all after it


class TestVocoder:
    @pytest.mark.parametrize("pitch", [[0.0, 5.0, 9.99], [120.0, 9.0, 333.3, 10.0, 10.01]])
    def test_source_is_that_of_the_formula(self, pitch):
        torch.manual_seed(2)
        source = HarmonicSource(VocoderConfig(num_harmonics=2), 22050)
        with torch.no_grad():
            source.merge.weight.mul_(10)
            got = source(torch.tensor([pitch]), seeded(7))[0].double().numpy()
        generator = seeded(7)
        phases = np.pi * (2 * torch.rand(1, 3, 1, generator=generator).double().numpy()[0, :, 0] - 1)
        noise = torch.randn(1, 3, 256 * len(pitch), generator=generator).double().numpy()[0]
        phases[0] = 0
        weight, bias = (p.detach().double().numpy() for p in (source.merge.weight[0], source.merge.bias))
        turns = np.zeros(3)
        for sample in range(256 * len(pitch)):
            f0 = pitch[sample // 256]
            turns += f0 * np.array([1, 2, 3]) / 22050
            if f0 > 10:
                sines = 0.1 * np.sin(2 * np.pi * turns + phases) + 0.003 * noise[:, sample]
            else:
                sines = 0.1 / 3 * noise[:, sample]
            assert got[sample] == pytest.approx(np.tanh(weight @ sines + bias)[0], abs=1e-4)

    def test_the_wave_has_the_pitch(self):
        source = HarmonicSource(VocoderConfig(num_harmonics=1), 22050)
        with torch.no_grad():
            source.merge.weight.copy_(torch.tensor([[1.0, 0.0]]))
            source.merge.bias.zero_()
            wave = source(torch.full((1, 86), 200.0), seeded(0))[0]
        spectrum = torch.fft.rfft(wave).abs()
        assert int(spectrum.argmax()) * 22050 / len(wave) == pytest.approx(200, abs=1)

    def test_the_wave_is_limited(self):
        vocoder = make_decoder().vocoder
        with torch.no_grad():
            vocoder.post.bias[:9].fill_(60.0)  # e⁶⁰ is finite, and the cap is what keeps it from mattering
            wave = vocoder(torch.randn(1, 8, 10), seeded(0))
        assert wave.abs().max() == pytest.approx(0.99)
        assert wave.isfinite().all()

    @pytest.mark.parametrize("kind", ["conv", "dilated", "upsampling"])
    def test_convolutions_are_weight_normed(self, kind):
        torch.manual_seed(3)
        ours, peer = {
            "conv": lambda: (Conv(6, 4, 5), nn.Conv1d(6, 4, 5, padding=2)),
            "dilated": lambda: (Conv(6, 4, 3, 5), nn.Conv1d(6, 4, 3, padding=5, dilation=5)),
            "upsampling": lambda: (Upsampling(6, 4, 16, 8), nn.ConvTranspose1d(6, 4, 16, stride=8, padding=4)),
        }[kind]()
        peer = nn.utils.parametrizations.weight_norm(peer)
        with torch.no_grad():
            ours.gain.mul_(torch.rand_like(ours.gain) + 0.5)
            peer.parametrizations.weight.original0.copy_(ours.gain)
            peer.parametrizations.weight.original1.copy_(ours.direction)
            peer.bias.copy_(ours.bias)
            x = torch.randn(2, 6, 20)
            assert torch.allclose(ours(x), peer(x), atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VocoderConfig(upsample_rates=(8, 8, 2)), "equally many"),
        (lambda: VocoderConfig(kernels=(3, 7)), "equally many"),
        (lambda: VocoderConfig(kernels=(3, 7, 10)), "odd"),
        (lambda: VocoderConfig(upsample_kernels=(16, 15)), "must be even"),
        (lambda: VocoderConfig(upsample_rates=(1, 8)), "must be even"),
        (lambda: VocoderConfig(channels=510), "multiple of 4"),
        (lambda: VocoderConfig(hop_length=9), "hop_length"),
        (lambda: VocoderConfig(noise_std=-0.1), "noise_std"),
        (lambda: VocoderConfig(slope="0.1"), "slope"),
        (lambda: DecoderConfig(token_rate=100), "one mel frame"),
        (lambda: DecoderConfig(num_mel=0), "num_mel"),
        (lambda: DecoderConfig(unet={"channels": [8], "dropout": 0.1}), "dropout"),
    ],
)
def test_bad_configs(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
