"""BEAST's encode is a function of each chunk alone: no id changes with the batch, padding, threads, layout or dtype."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from motion import smooth, switching

import zoo
from zoo.data.actions import chunk_episodes, read_actions
from zoo.families.beast import BeastConfig, BeastTokenizer

SAMPLE = Path(zoo.__file__).parent / "data" / "samples" / "metaworld_expert.npz"
HORIZON, DOFS = 20, 4


def chunks():
    """1200 chunks (n, T, D), the last degree of freedom a gripper: smooth, rough, still, real."""
    generator = torch.Generator().manual_seed(0)
    moving = smooth(500, HORIZON, DOFS, 1, 1 / HORIZON)
    noise = torch.randn(300, HORIZON, DOFS, generator=generator)
    still = torch.randn(100, 1, DOFS, generator=generator).expand(-1, HORIZON, -1) * torch.tensor([1, 1, 0, 0])
    x = torch.cat([moving, noise, still, torch.zeros(8, HORIZON, DOFS)])
    x[:, :, 3] = switching(len(x), HORIZON, 2)[:, :, 0]
    real = chunk_episodes(read_actions(SAMPLE), HORIZON, stride=1)[0]
    return torch.cat([x, torch.from_numpy(real)[:300]])


OPTIONS = {
    "intervals": {"gripper": (3,)},
    "spline": {"grid": "anchored", "gripper": (3,), "gripper_mode": "spline"},
    "value": {"grid": "anchored", "boundary": "value"},
    "velocity": {"grid": "anchored", "boundary": "value+velocity", "gripper": (3,)},
}


@pytest.fixture(scope="module", params=OPTIONS)
def setting(request):
    """A tokenizer, chunks, the commands before them as keyword arguments, and the ids."""
    x = chunks()
    tokenizer = BeastTokenizer(BeastConfig(DOFS, HORIZON, 10, **OPTIONS[request.param])).fit(x)
    fixed = tokenizer.config.num_fixed
    start = {} if not fixed else {"start": x[:, :1].repeat(1, fixed, 1).squeeze(1) + 0.01}
    ids = tokenizer.encode(x, **start).ids
    assert len(ids) > 1000
    assert len(ids.unique()) > 150
    return tokenizer, x, start, ids


def rows(start, index):
    return {name: value[index] for name, value in start.items()}


@pytest.mark.parametrize("size", [1, 2, 7, 32, 1000])
def test_batch_size(setting, size):
    tokenizer, x, start, ids = setting
    parts = [slice(i, i + size) for i in range(0, len(x), size)]
    encoded = [tokenizer.encode(x[part], **rows(start, part)).ids for part in parts]
    assert torch.equal(torch.cat(encoded), ids)


def test_neighbours(setting):
    tokenizer, x, start, ids = setting
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    assert torch.equal(tokenizer.encode(x[order], **rows(start, order)).ids, ids[order])
    twice = torch.cat([x * 0, x])
    both = {name: torch.cat([value * 0, value]) for name, value in start.items()}
    assert torch.equal(tokenizer.encode(twice, **both).ids[len(x) :], ids)


def test_padding(setting):
    tokenizer, x, start, ids = setting
    for extra, filler in ((1, 0.0), (13, torch.nan), (2 * HORIZON, 1e30)):
        padded = torch.cat([x, torch.full((len(x), extra, DOFS), filler)], 1)
        tokens = tokenizer.encode(padded, torch.full((len(x),), HORIZON), **start)
        assert torch.equal(tokens.ids[:, : ids.shape[1]], ids)
        assert tokens.lengths.eq(ids.shape[1]).all()
        assert not tokens.ids[:, ids.shape[1] :].any()


def test_position_in_a_sequence(setting):
    tokenizer, x, start, ids = setting
    if start:
        x = x[:600].view(-1, 6 * HORIZON, DOFS)
        whole = tokenizer.encode(x, **rows(start, slice(0, len(x)))).ids.view(len(x), 6, -1)
        fixed = tokenizer.config.num_fixed
        for number in range(1, 6):
            at = number * HORIZON
            before = {"start": x[:, at - fixed : at].squeeze(1)}
            assert torch.equal(tokenizer.encode(x[:, at : at + HORIZON], **before).ids, whole[:, number])
    else:
        assert torch.equal(tokenizer.encode(x.reshape(1, -1, DOFS)).ids.view_as(ids), ids)
        tail = tokenizer.encode(x.reshape(1, -1, DOFS)[:, : 7 * HORIZON + 5]).ids[:, : 7 * ids.shape[1]]
        assert torch.equal(tail.view(7, -1), ids[:7])


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads(setting, threads):
    tokenizer, x, start, ids = setting
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(tokenizer.encode(x, **start).ids, ids)
        assert torch.equal(tokenizer.encode(x[:7], **rows(start, slice(7))).ids, ids[:7])
        # And so do the maps themselves, computed on that many threads.
        fresh = BeastTokenizer(tokenizer.config)
        fresh.load_state_dict(tokenizer.state_dict())
        assert torch.equal(fresh.encode(x, **start).ids, ids)
    finally:
        torch.set_num_threads(before)


def test_layout_and_type_of_the_input(setting):
    tokenizer, x, start, ids = setting
    apart = torch.zeros(len(x), HORIZON, DOFS, 2)
    apart[..., 1] = x
    variants = [
        x.double(),
        apart[..., 1],
        x.transpose(0, 2).contiguous().transpose(0, 2),
        x.transpose(1, 2).contiguous().transpose(1, 2),
        x.flip(1).contiguous().flip(1),
        x.numpy(),
        list(x),
        x.clone().requires_grad_(),
        torch.nn.Parameter(x),
    ]
    for variant in variants:
        assert torch.equal(tokenizer.encode(variant, **start).ids, ids)
    assert torch.equal(tokenizer.encode(x[5], **rows(start, slice(5, 6))).ids, ids[5:6])
    with torch.inference_mode():
        assert torch.equal(tokenizer.encode(x, **start).ids, ids)
    half = tokenizer.encode(x.half(), **start).ids
    assert torch.equal(half, tokenizer.encode(x.half().float(), **start).ids)


def test_copies(setting, tmp_path):
    tokenizer, x, start, ids = setting
    zoo.save(tokenizer, tmp_path / "saved")
    copies = [
        copy.deepcopy(tokenizer),
        pickle.loads(pickle.dumps(tokenizer)),
        zoo.load(tmp_path / "saved"),
        copy.deepcopy(tokenizer).half(),
        copy.deepcopy(tokenizer).to(torch.float64),
        copy.deepcopy(tokenizer).bfloat16().float().train(),
        torch.nn.Sequential(copy.deepcopy(tokenizer)).half()[0],
    ]
    decoded = tokenizer.decode(ids, **start)
    tail = x[:, :7]
    expected = tokenizer.encode(tail, **start).ids
    for other in copies:
        assert torch.equal(other.encode(x, **start).ids, ids)
        assert torch.equal(other.encode(tail, **start).ids, expected)
        assert torch.equal(other.decode(ids, **start), decoded)
        for name, tensor in tokenizer.named_buffers():
            assert torch.equal(other.get_buffer(name), tensor)
            assert other.get_buffer(name).dtype == tensor.dtype


def test_ties():
    """Levels within 1e-12 of halfway between two ids, thousands of them, exact and a hair beside."""
    tokenizer = BeastTokenizer(BeastConfig(2, 16, 8, degree=0))
    step = 2 * float(tokenizer.encoder.smooth.exact_weight[0, 0]) * 2.0**-10
    tokenizer.set_bounds(-127.5 * step, 127.5 * step)
    numbers = torch.randint(-120, 121, (1500, 8, 2), generator=torch.Generator().manual_seed(0))
    x = numbers.repeat_interleave(2, 1) * 2.0**-10  # each interval's mean is a whole number of steps from the middle
    levels = tokenizer.quantizer.levels(tokenizer.encoder(x))
    assert (levels - levels.floor() - 0.5).abs().max() < 1e-12
    ids = tokenizer.encode(x).ids
    assert ((ids.view_as(numbers) - numbers - 127.5).abs() == 0.5).all()
    for size in (1, 2, 7, 32):
        assert torch.equal(torch.cat([tokenizer.encode(part).ids for part in torch.split(x, size)]), ids)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(1))
    assert torch.equal(tokenizer.encode(x[order]).ids, ids[order])
    assert torch.equal(tokenizer.encode(x.transpose(0, 1).contiguous().transpose(0, 1)).ids, ids)
    assert torch.equal(tokenizer.encode(x.reshape(1, -1, 2)).ids.view_as(ids), ids)


def test_gripper_ties():
    """The mean of -1 and 1 lies exactly between symmetric bounds."""
    x = torch.cat([switching(250, HORIZON, count, count) for count in (1, 2)])
    tokenizer = BeastTokenizer(BeastConfig(1, HORIZON, 10, gripper=(0,))).fit(x)
    levels = tokenizer.quantizer.levels(tokenizer.encoder(x))
    ties = levels == 127.5
    assert ties.any(1).float().mean() > 0.4
    ids = tokenizer.encode(x).ids
    assert (ids[ties[:, :, 0]] == 128).all()
    assert torch.equal(torch.cat([tokenizer.encode(one[None]).ids for one in x]), ids)


def everything(module):
    """All attributes and tensors of a module and those below it, comparable with ==."""
    state = {}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if not isinstance(value, torch.Tensor) and name not in ("_modules", "_buffers"):
                state[path, name] = repr(value) if "hook" not in name else bool(value)
    state |= {name: tensor.numpy().tobytes() for name, tensor in module.named_buffers()}
    state["training"] = module.training
    return state


def test_changes_nothing(setting):
    tokenizer, whole, start, ids = setting
    every = slice(None, None, 6)  # some of each kind
    x, start, ids = whole[every], rows(start, every), ids[every]
    before, given = everything(tokenizer), x.clone()
    random = torch.random.get_rng_state()
    tokenizer.encode(x, **start)
    tokenizer.encode(x[:, :7], **start)
    tokenizer.encode(torch.cat([x, x], 1), torch.arange(len(x)) % 40 + 1, **start)
    tokenizer.encode(x * 10, **start)  # clipped
    tokenizer.decode(ids, **start)
    tokenizer.decode(ids, **start, times=[0.5], derivative=1)
    tokenizer.clipped_slots(x, **start)
    tokenizer.decode_latents(tokenizer.encode_latents(x, **start).values, **start)
    assert everything(tokenizer) == before
    assert torch.equal(x, given)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.is_grad_enabled()
    tokenizer.fit(x * 2)
    assert everything(tokenizer) != before
    tokenizer.fit(whole)
    assert torch.equal(tokenizer.encode(x, **start).ids, ids)
