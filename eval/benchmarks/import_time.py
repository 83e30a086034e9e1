#!/usr/bin/env python3
"""How much longer `import zoo` takes than `import torch`, in fresh processes that take turns.

    python eval/benchmarks/import_time.py

`import zoo` itself imports almost nothing; what a user waits for is the first use, so that is measured too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "import torch": "import torch",
    "import zoo": "import zoo",
    "import zoo, and its whole surface": (
        "import zoo; zoo.load, zoo.list_models, zoo.info, zoo.register, zoo.Tokenizer, zoo.Tokens, zoo.TokenSpec"
    ),
    "import zoo; zoo.load('beast')": "import zoo; zoo.load('beast')",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for turn in range(repeats + 1):
        for name, statement in STATEMENTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            if turn:  # the first turn fills the disk cache
                times[name].append(time.perf_counter() - start)
    base = min(times["import torch"])
    print(f"{'':36} {'best':>8} {'median':>8}   best / best of torch   ({repeats} runs each)")
    for name, taken in times.items():
        print(f"{name:36} {min(taken):7.2f}s {statistics.median(taken):7.2f}s   {min(taken) / base:6.2f}")


if __name__ == "__main__":
    main()
