"""Loading, encoding and decoding neither depend on what the process has set, nor change it, in no thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from process_defaults import DTYPES, defaults
from test_contract import FAMILIES
from tiny_stabletoken import TINY_DECODER, speech
from tiny_stabletoken import make as make_stabletoken

import zoo
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.binning import BinningConfig, BinningTokenizer
from zoo.families.fast import FastConfig, FastTokenizer
from zoo.spec import option_names


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def case(request, tmp_path_factory):
    make, signal, lengths = FAMILIES[request.param]
    folder = zoo.save(make(), tmp_path_factory.mktemp(request.param) / "saved")
    items = [signal(length) for length in lengths[:2]]
    return folder, items, use(folder, items)


def use(folder, items):
    """Load a tokenizer, do with it what can be done, and return every tensor there is then, by name."""
    tokenizer = zoo.load(folder)
    tokens = tokenizer.encode(items)
    # Three steps: their times are thirds, which every dtype rounds in its own way.
    options = {"steps": 3} if "steps" in option_names(tokenizer.decode_options) else {}
    found = {
        "ids": tokens.ids,
        "lengths": tokens.lengths,
        "decoded": tokenizer.decode(tokens, **options),
        "decoded from lists": tokenizer.decode(tokens.tolist(), **options),
        "output_lengths": tokenizer.output_lengths(tokens),
        "read back": zoo.Tokens.unpack(tokens.pack(), tokens.lengths, codebook_size=tokens.codebook_size).ids,
        "picked": tokens[[1, 0]].ids,
    }
    if tokenizer.spec.latent_dim is not None:
        found["latents"] = tokenizer.encode_latents(items[0][None]).values
    if tokenizer.spec.modality == "speech":
        chunks = tokenizer.encode_chunks(items[0], chunk=0.08, left=0.04, right=0.04)
        found["chunks"] = torch.cat([part.ids[0] for part in chunks])
        generator = torch.Generator().manual_seed(3)
        found["drawn"] = tokenizer.decode(tokens, generator=generator, sample_rate=24000, **options)
        found["vocoded"] = tokenizer.vocode(items[0])
    return found | dict(tokenizer.named_buffers()) | dict(tokenizer.named_parameters())


def differing(found, expected):
    assert found.keys() == expected.keys()
    return [
        name
        for name, tensor in expected.items()
        if tensor is not None and not (found[name].dtype == tensor.dtype and torch.equal(found[name], tensor))
    ]


class TestDefaults:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_b5_dtype(self, case, dtype):
        folder, items, expected = case
        with defaults(dtype):
            assert differing(use(folder, items), expected) == []

    def test_b5_device(self, case):
        folder, items, expected = case
        with defaults(device="meta"):
            assert differing(use(folder, items), expected) == []

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_b5_what_has_no_trained_weights_is_built_alike(self, dtype):
        made = (
            lambda: BeastTokenizer(BeastConfig(num_dofs=7, horizon=20, num_basis=8)),
            lambda: BinningTokenizer(BinningConfig(num_dofs=7, horizon=20)),
            lambda: FastTokenizer(FastConfig(num_dofs=7, horizon=20, bpe_vocab_size=300)),
        )
        for make in made:
            expected = dict(make().named_buffers())
            with defaults(dtype):
                found = dict(make().named_buffers())
            assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
            assert all(torch.equal(found[name].nan_to_num(), tensor.nan_to_num()) for name, tensor in expected.items())


class TestGenerator:
    def test_b3_it_is_left_alone(self, case):
        folder, items, _ = case
        state = torch.get_rng_state()
        use(folder, items)
        assert torch.equal(torch.get_rng_state(), state)

    def test_b3_draws_of_another_thread_are_not_repeated(self, case):
        folder, items, _ = case
        drawn, is_over = [], threading.Event()

        def draw():
            while not is_over.wait(1e-4):
                drawn.append(int(torch.randint(2**62, ())))

        with torch.random.fork_rng(devices=[]):
            thread = threading.Thread(target=draw)
            thread.start()
            for _ in range(2):
                tokenizer = zoo.load(folder)
                tokenizer.decode(tokenizer.encode(items))
            is_over.set()
            thread.join()
        assert len(drawn) > 5
        assert len(set(drawn)) == len(drawn)


class TestDefaultDtype:
    def test_b3_several_loads_at_once(self, tmp_path):
        folder = zoo.save(make_stabletoken(), tmp_path / "saved")
        with defaults(torch.bfloat16):
            for _ in range(5):
                with ThreadPoolExecutor(4) as pool:
                    models = list(pool.map(zoo.load, [folder] * 4))
                assert torch.get_default_dtype() == torch.bfloat16
                assert {p.dtype for model in models for p in model.parameters()} == {torch.float32}

    def test_x3_another_thread_makes_tensors_as_ever(self, case):
        folder, _, _ = case
        kinds, is_over = set(), threading.Event()

        def make():
            while not is_over.wait(1e-4):
                made = torch.zeros(1)
                kinds.add((made.dtype, made.device.type))

        with defaults(torch.float64):
            thread = threading.Thread(target=make)
            thread.start()
            for _ in range(3):
                zoo.load(folder)
            is_over.set()
            thread.join()
        assert kinds == {(torch.float64, "cpu")}


class TestThreads:
    def test_b11_later_threads_have_as_many(self, case):
        folder, items, expected = case
        tokenizer, before = zoo.load(folder), torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(tokenizer.encode, [items] * 8))
            assert [in_a_new_thread(torch.get_num_threads), torch.get_num_threads()] == [3, 3]
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(tokens.ids, expected["ids"]) for tokens in found)

    def test_b11_threads_that_begin_meanwhile_have_as_many(self):
        tokenizer, before = make_stabletoken(decoder=TINY_DECODER), torch.get_num_threads()
        tokenizer.encode(speech(3000))
        try:
            torch.set_num_threads(2)
            is_over, found = threading.Event(), set()

            def watch():
                while not is_over.wait(1e-4):
                    found.add(in_a_new_thread(torch.get_num_threads))

            watching = threading.Thread(target=watch)
            watching.start()
            for _ in range(10):
                tokenizer.encode(speech(3000))
            is_over.set()
            watching.join()
        finally:
            torch.set_num_threads(before)
        assert found == {2}

    def test_b11_what_another_thread_sets_stays(self):
        """The caller has a number of its own then, which is not the one that later threads begin with."""
        tokenizer, before = make_stabletoken(), torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            in_a_new_thread(lambda: torch.set_num_threads(2))
            tokenizer.encode([speech(3000), speech(20000)])
            assert [torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)] == [3, 2]
        finally:
            torch.set_num_threads(before)


def in_a_new_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]
