"""StableToken: the ids of an item depend on nothing but the item."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from tiny_stabletoken import TINY_DECODER, make, speech
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.components.exact.one_by_one import canonical

COUNT = 1000
FEW = 200


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    return make()


@pytest.fixture(scope="module")
def waves():
    lengths = torch.randint(1, 12_000, (COUNT,), generator=torch.Generator().manual_seed(5)).tolist()
    lengths[:4] = [70_000, 1, 640, 33_000]  # two are longer than a segment
    whole = speech(70_000)
    return [whole[:length] * (0.3 + 0.7 * (number % 7) / 7) for number, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def expected(tokenizer, waves):
    with threads(1):
        return [tokenizer.encode(wave).tolist()[0] for wave in waves]


@pytest.fixture(scope="module")
def expected_latents(tokenizer, waves):
    with threads(1):
        return [tokenizer.encode_latents(wave).values[0] for wave in waves[:FEW]]


def batches(waves, batch_size, padding, shuffled):
    """Yield batches of waves: which they are, samples and lengths."""
    generator = torch.Generator().manual_seed(batch_size)
    order = torch.randperm(len(waves), generator=generator).tolist() if shuffled else list(range(len(waves)))
    for start in range(0, len(waves), batch_size):
        rows = order[start : start + batch_size]
        lengths = [len(waves[row]) for row in rows]
        # What lies past the length may be anything.
        batch = torch.rand(len(rows), max(lengths) + padding, generator=generator) * 2 - 1
        for target, row in zip(batch, rows, strict=True):
            target[: len(waves[row])] = waves[row]
        yield rows, batch, lengths


def test_ids_of_batches(tokenizer, waves, expected):
    changed = 0
    with threads(2):
        for rows, batch, lengths in batches(waves, batch_size=32, padding=7, shuffled=True):
            ids = tokenizer.encode(batch, lengths).tolist()
            changed += sum(got != expected[row] for got, row in zip(ids, rows, strict=True))
    assert changed == 0


@pytest.mark.parametrize(
    ("batch_size", "num_threads", "padding", "shuffled"),
    [(1, 2, 999, False), (2, 1, 0, True), (7, 2, 333, True), (32, 1, 1, False), (32, 2, 0, True)],
)
def test_batches_padding_neighbours_threads(
    tokenizer, waves, expected_latents, batch_size, num_threads, padding, shuffled
):
    # Latents rounded otherwise change hardly an id in ten thousand, but each of them is seen at once.
    with threads(num_threads):
        for rows, batch, lengths in batches(waves[:FEW], batch_size, padding, shuffled):
            found = tokenizer.encode_latents(batch, lengths)
            for row, values, length in zip(rows, found.values, found.lengths, strict=True):
                assert torch.equal(values[:length], expected_latents[row]), row


def test_lists(tokenizer, waves, expected):
    assert tokenizer.encode(waves[:100]).tolist() == expected[:100]


def test_save_and_load(tokenizer, waves, expected, tmp_path):
    import zoo

    zoo.save(tokenizer, tmp_path / "x")
    assert zoo.load(tmp_path / "x").encode(waves[:200]).tolist() == expected[:200]


def hidden(tokenizer, wave):
    def work(run):
        mels = run(tokenizer.features.alone, [wave])
        return tokenizer.encoder.apart(mels, [-(-len(wave) // 160)], run)[0]

    return canonical(torch.device("cpu"), 4, work)


@pytest.mark.parametrize("count", [1, 700, 32_000])
def test_hidden_vectors_are_bit_equal(tokenizer, count):
    # Stronger than equal ids: nothing at all is rounded differently.
    wave = speech(count)
    with threads(1):
        first = hidden(tokenizer, wave)
    shifted = torch.empty(count + 3)[3:]  # memory that begins elsewhere
    shifted.copy_(wave)
    with threads(3):
        assert torch.equal(hidden(tokenizer, shifted), first)
        assert torch.get_num_threads() == 3


def test_precision_switches_and_autocast_change_nothing(tokenizer, waves, expected):
    places = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "bf16"
        for count in (1, 2):
            with threads(count), torch.autocast("cpu", dtype=torch.bfloat16):
                assert tokenizer.encode(waves[:60]).tolist() == expected[:60]
        assert [place.fp32_precision for place in places] == ["bf16", "bf16"]
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def test_inference_mode_and_gradients(tokenizer, waves, expected):
    with torch.inference_mode():
        assert tokenizer.encode(waves[:20]).tolist() == expected[:20]
    with torch.enable_grad():
        assert tokenizer.encode(waves[:20]).tolist() == expected[:20]


def test_callers_in_several_threads(tokenizer, waves, expected):
    with threads(2), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: tokenizer.encode(waves[i : i + 10]).tolist(), range(0, 200, 10)))
    assert [ids for part in found for ids in part] == expected[:200]


def test_errors_leave_the_settings_alone(tokenizer):
    def fail(_):
        raise KeyError

    precision = torch.backends.mkldnn.matmul.fp32_precision
    with threads(2):
        with pytest.raises(KeyError):
            canonical(torch.device("cpu"), 4, lambda run: run(fail, [1, 2]))
        assert torch.get_num_threads() == 2
    assert torch.backends.mkldnn.matmul.fp32_precision == precision


@pytest.mark.parametrize("backend", ["MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION"])
def test_one_attention_backend_alone(backend):
    """Each backend rounds in its own way, and not each can do everything: which are allowed makes no difference."""
    tokenizer = make(decoder=TINY_DECODER)
    wave = speech(9000)
    ids, hidden = tokenizer.encode(wave).ids, tokenizer.encode_latents(wave).values
    heard = tokenizer.decode(ids[:, :5], steps=1)
    switches = [getattr(torch.backends.cuda, f"{name}_sdp_enabled") for name in ("flash", "math", "mem_efficient")]
    before = [switch() for switch in switches]
    with sdpa_kernel([getattr(SDPBackend, backend)]):
        inside = [switch() for switch in switches]
        assert torch.equal(tokenizer.encode(wave).ids, ids)
        assert torch.equal(tokenizer.encode_latents(wave).values, hidden)
        assert torch.equal(tokenizer.decode(ids[:, :5], steps=1), heard)
        assert [switch() for switch in switches] == inside
    assert [switch() for switch in switches] == before
