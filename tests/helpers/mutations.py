"""Inputs as a stranger, a broken disk or a slip of the hand would make them, drawn from a seed."""

import copy
import random
import signal
from contextlib import contextmanager

# What readers of numbers, names and shapes are known to break on.
# fmt: off
VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 7, 10**9, 2**31, 2**63, 2**64, 10**400, -(2**63),
    0.5, -0.0, 1e-320, 1e9, 1e308, float("inf"), float("-inf"), float("nan"),
    "", "x", "no", "0", "1e400", "a\0b", "../..", "/", "x" * 5000, "\u2028", "\x1b[2J",
    [], {}, [[]], [1], [1, 2], [None], [1e9] * 3, {"": 0}, {"kind": "x"},
)
TEXTS = (
    "!!timestamp x", "2020-13-45", "0x", "1e", "!!bool maybe", "&a [*a]", "*a", "<<: 1", "{", "}", "[" * 50, "- ", ": ",
    "\t", "\0", "\ufeff", "'", '"', "\n", "\u2028", "\x85", "NaN", "-Infinity", "1e999", "9" * 5000, "!!int ", "? ",
    "---\n", "%YAML 3.0\n", "\\ud800", "\x1b[31m", "null", "~", "\u0663",
)
# fmt: on


def mutate_bytes(content: bytes, random: random.Random) -> bytes:
    """Change a few bytes, cut, repeat, or put in what readers are known to break on."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1 and data:
            data[min(at, len(data) - 1)] = random.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + random.randrange(1, 20)]
        elif kind == 4:
            data[at:at] = random.choice(TEXTS).encode("utf-8", "surrogatepass")
        elif kind == 5:
            data[at:at] = data[at : at + random.randrange(1, 200)]
        else:
            data[at : at + 8] = random.randbytes(8)
    return bytes(data)


def mutate_values(values, random: random.Random):
    """Change, remove or add an entry somewhere in nested plain values."""
    values = copy.deepcopy(values)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(values))
        holder, key = random.choice(places)
        kind = random.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * random.choice((-1, 0, 2, 10, 1000, 10**6, 10**9, 0.1))
        elif kind == 2 and isinstance(holder, dict):
            holder[random.choice(("", "x", "kind", "name", "class_path", "__class__"))] = random.choice(VALUES)
        elif kind == 3:
            holder[key] = copy.deepcopy(random.choice(places)[0])
        else:
            holder[key] = copy.deepcopy(random.choice(VALUES))
        if not values:
            break
    return values


def _places(values):
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _places(values[key])


@contextmanager
def time_limit(seconds: float):
    """Raise `TimeoutError`, which is no `ZooError`, if the block computes longer, or waits twenty times as long.

    It is the work that is limited: a busy machine does not make it more. Works in the main thread.
    """

    def late(*_):
        raise TimeoutError(f"took more than {seconds} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, 20 * seconds)}
    before = {number: signal.signal(number, late) for number, _ in timers.values()}
    for timer, (_, limit) in timers.items():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
