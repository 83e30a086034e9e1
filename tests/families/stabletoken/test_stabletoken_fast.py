"""Fast mode: whole batches in one kernel, any dtype; ids differ from the exact ones by rounding and by nothing else."""

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from tiny_stabletoken import TINY_DECODER, make, speech
from torch.nn.attention import SDPBackend, sdpa_kernel

import zoo
from zoo import tokenfile
from zoo.checkpoint.fingerprint import fingerprint
from zoo.components.exact.one_by_one import any_attention, same_kernels
from zoo.data.media import read_audio
from zoo.errors import ConfigError, TokenError
from zoo.families.stabletoken.fast import batches

SAMPLE = Path(__file__).parents[3] / "zoo/data/samples/austen.flac"
LENGTHS = [70_000, 1, 640, 641, 33_000, 32_000, 31_999, 12_345, 6400, 9000, 100, 1280, 25_000]  # 32,000 are a segment


def fast(tokenizer, dtype=None):
    """Return a copy in fast mode."""
    other = copy.deepcopy(tokenizer)
    other.is_exact = False
    return other if dtype is None else other.to_dtype(dtype)


def changed(a, b):
    """Return the share of ids that differ."""
    assert torch.equal(a.lengths, b.lengths)
    assert torch.equal(a.signal_lengths, b.signal_lengths)
    return (a.ids != b.ids)[a.mask].float().mean().item()


def padded(waves, extra, fill):
    """Return a batch of so many samples more than it needs, and its lengths; padding is noise if `fill` is None."""
    shape = (len(waves), max(map(len, waves)) + extra)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    batch = noise if fill is None else torch.full(shape, fill)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave
    return batch, [len(wave) for wave in waves]


@pytest.fixture(scope="module")
def exact():
    return zoo.load("stabletoken", decoder=False)


@pytest.fixture(scope="module")
def clips():
    """Excerpts of real speech, of mixed lengths, each twice as loud or half as loud as the one before."""
    wave = read_audio(SAMPLE)[0][0]
    lengths = torch.randint(200, len(wave), (6,), generator=torch.Generator().manual_seed(1)).tolist()
    return [wave] + [wave[len(wave) - length :] * (0.5 + number % 2 * 0.5) for number, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def tiny():
    return make()


@pytest.fixture(scope="module")
def waves():
    return [speech(length, seed) for seed, length in enumerate(LENGTHS)]


class TestIds:
    def test_of_the_model_that_ships(self, exact, clips):
        expected = exact.encode(clips)
        assert int(expected.lengths.sum()) > 400
        assert changed(expected, fast(exact).encode(clips)) < 0.01
        assert 0 < changed(expected, fast(exact, torch.bfloat16).encode(clips)) < 0.1

    def test_of_synthetic_waves(self, tiny, waves):
        expected = tiny.encode(waves)
        assert changed(expected, fast(tiny).encode(waves)) < 0.01
        for dtype in (torch.bfloat16, torch.float16):
            assert changed(expected, fast(tiny, dtype).encode(waves)) < 0.1
        assert changed(expected, fast(tiny, torch.float64).encode(waves)) < 0.01

    @pytest.mark.parametrize(
        "changes",
        [
            {"causal_convolution": True},
            {"pooling_type": "max"},
            {"pooling_position": 1},
            {"pooling_kernel": 4},
            {"quantizer": {"kind": "residual", "num_stages": 2, "stage": {"kind": "vq", "codebook_size": 9, "dim": 4}}},
        ],
    )
    def test_of_every_kind_of_encoder(self, changes, waves):
        tokenizer = make()
        config = {**dataclasses.asdict(tokenizer.config), **changes}
        torch.manual_seed(0)
        tokenizer = type(tokenizer).from_config(config).eval()
        assert changed(tokenizer.encode(waves), fast(tokenizer).encode(waves)) < 0.01

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_padding_cannot_matter(self, tiny, waves, dtype):
        tokenizer = fast(tiny, dtype)
        expected = tokenizer.encode(waves)
        # The same shapes give the same kernels, so nothing may differ at all.
        for extra, fill in ((0, None), (5000, None), (640, 1.0), (1, -0.5)):
            assert tokenizer.encode(*padded(waves, extra, fill)).ids.equal(expected.ids)

    def test_neighbours_change_nothing_but_the_rounding(self, tiny, waves):
        # In float64 rounding is far too small to be seen in latents that leak nothing.
        tokenizer = fast(tiny, torch.float64)
        together = tokenizer.encode_latents(waves)
        for row, wave in enumerate(waves):
            alone = tokenizer.encode_latents(wave)
            torch.testing.assert_close(
                together.values[row, : together.lengths[row]], alone.values[0], rtol=1e-5, atol=1e-5
            )
            assert not together.values[row, together.lengths[row] :].any()

    def test_latents(self, tiny, waves):
        expected, found = tiny.encode_latents(waves), fast(tiny).encode_latents(waves)
        torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-5)
        half = fast(tiny, torch.bfloat16).encode_latents(waves)
        assert half.values.dtype == torch.float32
        assert torch.equal(half.lengths, expected.lengths)
        error = (half.values - expected.values).square().mean().sqrt() / expected.values.square().mean().sqrt()
        assert 1e-4 < error < 0.03

    def test_long_speech_with_and_without_overlap(self, tiny):
        wave = speech(150_000)
        for overlap in (0.0, 0.4):
            expected = tiny.encode(wave, overlap=overlap)
            assert changed(expected, fast(tiny).encode(wave, overlap=overlap)) < 0.01
        with pytest.raises(ConfigError, match="overlap"):
            fast(tiny).encode(wave, overlap=2.0)

    def test_chunks(self, tiny):
        options = {"chunk": 0.8, "left": 0.4, "right": 0.4}
        expected = torch.cat([tokens.ids for tokens in tiny.encode_chunks(speech(40_000), **options)], 1)
        found = torch.cat([tokens.ids for tokens in fast(tiny).encode_chunks(speech(40_000), **options)], 1)
        assert (found != expected).float().mean() < 0.01

    def test_under_autocast(self, tiny, waves):
        tokenizer, expected = fast(tiny), tiny.encode(waves)
        plain = tokenizer.encode_latents(waves).values
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens, latents = tokenizer.encode(waves), tokenizer.encode_latents(waves)
        assert latents.values.dtype == torch.float32
        assert not torch.equal(latents.values, plain)
        assert changed(expected, tokens) < 0.1

    def test_threads_are_left_alone(self, tiny, waves):
        tokenizer, threads = fast(tiny), torch.get_num_threads()
        tokens = tokenizer.encode(waves)
        assert torch.get_num_threads() == threads
        assert not tokens.ids.is_inference()

    def test_the_network_compiles_as_a_whole(self, tiny, waves):
        tokenizer = fast(tiny)
        expected = tokenizer.encode(waves[:3]).ids
        tokenizer.encoder.compile(backend="eager", fullgraph=True, dynamic=True)
        assert tokenizer.encode(waves[:3]).ids.equal(expected)


class TestSpectra:
    def test_they_are_those_of_each_item_alone(self, tiny):
        # Loudest where they end, so that what is mirrored there would be louder than all that counts.
        lengths = torch.tensor([6400, 640, 1280, 3200, 640])
        batch = torch.zeros(5, 6400)
        for row, length in zip(batch, lengths.tolist(), strict=True):
            row[:length] = torch.linspace(0, 1, length) ** 8 * torch.linspace(0, length / 3, length).cos()
        found = tiny.features.together(batch, lengths)
        assert found.isfinite().all()
        for row, wave, length in zip(found, batch, lengths.tolist(), strict=True):
            alone = tiny.features.alone(wave[:length])[0]
            torch.testing.assert_close(row[:, : alone.shape[1]], alone, rtol=1e-4, atol=1e-4)


class TestBatches:
    def test_every_item_once_and_little_padding(self):
        counts = torch.randint(1, 750, (500,), generator=torch.Generator().manual_seed(0)).tolist()
        found = list(batches(counts, 8000))
        assert sorted(number for batch in found for number in batch) == list(range(500))
        for batch in found:
            longest = max(counts[number] for number in batch)
            assert longest * len(batch) <= 8000
            assert all(longest - counts[number] <= max(longest / 5, 25) for number in batch)
        # Real batches, not one item each.
        assert len(found) < 60
        size = sum(max(counts[number] for number in batch) * len(batch) for batch in found)
        assert size < 1.2 * sum(counts)

    def test_equal_items_and_items_over_the_budget(self):
        assert list(batches([10] * 7, 30)) == [[0, 1, 2], [3, 4, 5], [6]]
        assert list(batches([50, 60], 30)) == [[1], [0]]
        assert list(batches([], 30)) == []


class TestMode:
    def test_exact_mode_refuses_and_says_how(self):
        with pytest.raises(ConfigError, match=r"leave dtype out, or load it with exact=False"):
            zoo.load("stabletoken", dtype=torch.bfloat16)
        tokenizer = fast(make(), torch.bfloat16)
        tokenizer.is_exact = True
        with pytest.raises(ConfigError, match="only in float32"):
            tokenizer.encode(speech(900))

    def test_loaded(self):
        tokenizer = zoo.load("stabletoken", exact=False, dtype=torch.bfloat16)
        assert not tokenizer.is_exact
        assert tokenizer.fast_dtype == torch.bfloat16
        assert {p.dtype for p in tokenizer.encoder.parameters()} == {torch.bfloat16}
        # What decodes is as it was, and so is what decides.
        for part in (tokenizer.quantizer, tokenizer.decoder, tokenizer.features):
            assert {x.dtype for x in part.state_dict().values() if x.is_floating_point()} <= {torch.float32}
        whole = zoo.load("stabletoken", exact=False)
        assert (whole.is_exact, whole.fast_dtype) == (False, torch.float32)
        exact = zoo.load("stabletoken", dtype=torch.float32)
        assert (exact.is_exact, exact.fast_dtype) == (True, None)
        with pytest.raises(ConfigError, match=r"fast mode computes in torch\.float32, .* got .*int8"):
            zoo.load("stabletoken", exact=False, dtype=torch.int8)

    def test_copied_and_pickled(self, tiny, waves):
        tokenizer = fast(tiny, torch.bfloat16)
        expected = tokenizer.encode(waves[:4])
        for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
            assert other.fast_dtype == torch.bfloat16
            assert other.encode(waves[:4]).equal(expected)

    @pytest.mark.parametrize("name", ["beast", "binning", "fast"])
    def test_families_that_are_exact_anyway_take_no_notice(self, name, tmp_path):
        plain, other = zoo.load(name), zoo.load(name, exact=False)
        assert other.is_exact
        assert other.fast_dtype is None
        assert fingerprint(other) == fingerprint(plain)
        x = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)).cumsum(1).mul(0.05).clamp(-1, 1)
        files = [
            tokenfile.save(tmp_path / f"{t.is_exact}{i}.zoo", t.encode(x), t) for i, t in enumerate((plain, other))
        ]
        assert files[0].read_bytes() == files[1].read_bytes()
        with pytest.raises(ConfigError, match=r"leave dtype out\.$"):
            zoo.load(name, exact=False, dtype=torch.bfloat16)

    def test_rounded_weights_are_not_saved(self, tmp_path, waves):
        tiny = make()
        with pytest.raises(ConfigError, match=r"bfloat16 for fast mode.*load it again without dtype"):
            zoo.save(fast(tiny, torch.bfloat16), tmp_path / "x")
        assert not (tmp_path / "x").exists()
        # With all their digits they are what they were, and the mode is nothing that a checkpoint says.
        again = zoo.load(zoo.save(fast(tiny), tmp_path / "y"))
        assert again.is_exact
        assert fingerprint(again) == fingerprint(tiny)


class TestTokenFile:
    def test_mode_and_dtype_are_recorded(self, tiny, waves, tmp_path):
        for dtype in (torch.float32, torch.bfloat16):
            tokenizer = fast(tiny, dtype)
            tokens = tokenizer.encode(waves)
            file = tokenfile.load(tokenfile.save(tmp_path / f"{dtype}.zoo", tokens, tokenizer))
            assert file.fast_dtype == dtype
            assert file.tokens.equal(tokens.to("cpu"))
        path = tokenfile.save(tmp_path / "exact.zoo", tiny.encode(waves), tiny)
        assert tokenfile.load(path).fast_dtype is None
        assert b"fast_dtype" not in path.read_bytes()

    def test_fingerprints_are_told_apart(self, tiny):
        tokenizers = [tiny, *(fast(tiny, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16))]
        assert len({fingerprint(tokenizer) for tokenizer in tokenizers}) == 4

    def test_who_may_decode(self, waves, tmp_path):
        tiny = make(decoder=TINY_DECODER)
        other = make(seed=1, decoder=TINY_DECODER)
        modes = [tiny, fast(tiny), fast(tiny, torch.bfloat16), fast(tiny, torch.float16)]
        for number, maker in enumerate(modes):
            file = tokenfile.load(tokenfile.save(tmp_path / f"{number}.zoo", maker.encode(waves[2:4]), maker))
            for tokenizer in (tiny, fast(tiny), maker):
                file.require_made_by(tokenizer)
            for wrong in (other, fast(other), fast(other, maker.fast_dtype or torch.float32)):
                with pytest.raises(TokenError, match="its weights or settings differ"):
                    file.require_made_by(wrong)
            # Ids are ids, whoever made them; and what decodes keeps its digits in fast mode.
            decoded = tiny.decode(file.tokens, steps=2)
            assert torch.equal(decoded, maker.decode(file.tokens, steps=2))
            assert decoded.any()
        with pytest.raises(TokenError, match=r"rounded to torch\.float16 for fast mode.*load it without dtype"):
            tokenfile.load(tmp_path / "2.zoo").require_made_by(modes[3])

    def test_no_dtype(self, tiny, waves, tmp_path, monkeypatch):
        tokenizer = fast(tiny)
        monkeypatch.setattr(type(tokenizer), "fast_dtype", "int7")
        monkeypatch.setattr(tokenfile.content, "fingerprint", lambda _: "0" * 64)
        path = tokenfile.save(tmp_path / "x.zoo", tiny.encode(waves[:2]), tokenizer)
        with pytest.raises(
            TokenError, match="fast_dtype must be one of float32, bfloat16, float16, float64, got 'int7'"
        ):
            tokenfile.load(path)


@pytest.mark.parametrize("backend", ["EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION"])
def test_attention_backends_that_are_switched_off(tiny, waves, backend):
    """Not every backend can do everything: those are used nevertheless that the caller has switched off."""
    other = fast(tiny)
    expected = other.encode(waves[2:6])
    switches = [getattr(torch.backends.cuda, f"{name}_sdp_enabled") for name in ("flash", "math", "mem_efficient")]
    with sdpa_kernel([getattr(SDPBackend, backend)]):
        inside = [switch() for switch in switches]
        assert changed(other.encode(waves[2:6]), expected) == 0
        assert [switch() for switch in switches] == inside


def test_exact_and_fast_calls_at_once_leave_the_switches_alone():
    """Each restores what it found; what one of them set meanwhile is not what was found."""
    cuda = torch.backends.cuda
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        with any_attention:
            with same_kernels:
                assert cuda.math_sdp_enabled()
            assert cuda.math_sdp_enabled()
        same_kernels.__enter__()
        any_attention.__enter__()
        same_kernels.__exit__()  # the first to enter is the first to leave
        assert cuda.math_sdp_enabled()
        any_attention.__exit__()
        assert not cuda.math_sdp_enabled()
        assert cuda.flash_sdp_enabled()
