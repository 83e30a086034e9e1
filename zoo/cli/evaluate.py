"""`zoo eval`: measure tokenizers with a suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._output import note, print_json
from zoo.cli._parser import Parser, indices
from zoo.cli._placing import require_writable

if TYPE_CHECKING:
    from zoo.evaluation.kinds import Progress

__all__ = ["evaluate", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "eval",
        "SUITE",
        "Measure tokenizers on data they were not fitted on, with confidence intervals. A suite\n"
        "is a YAML file that says what is measured on what, yours or one that ships: action\n"
        "is for robot actions (error, tokens, smoothness, joins, latency), noise for speech\n"
        "(how many tokens change in noise, codebook usage), stab, too (STAB-style: invariance\n"
        "to speaker, context and language, robustness, compressibility, vocabulary use), and\n"
        "resynthesis for what decoded speech sounds like (word errors, STOI, PESQ, MOS). image\n"
        "is for pictures (closeness to the original, beside JPEG and WebP of as many bits;\n"
        "first tokens of ordered ones), captions for those that read them, decoders for what\n"
        "other decoders, in other numbers of steps, make of the same latents or tokens, and\n"
        "video for clips (beside H.264). invariance is for all: ids that change with batch,\n"
        "padding, threads, and in fast mode; predictability, too: bits that a small model of\n"
        "each tokenizer's ids needs, and how well it goes on with actions.",
        """
        zoo eval action                            # what the cards show
        zoo eval action --models beast ./my-beast  # yours beside another
        zoo eval noise --models ./my-speech-tokenizer --out results.json
        zoo eval stab --models stabletoken,mine:tokenize --html page.html
        zoo eval image --models ./my-image-tokenizer --data photos/ --html page.html
        zoo eval video --models ./my-video-tokenizer --data clips/ --html page.html
        """,
    )
    parser.add_argument(
        "suite", metavar="SUITE", help="suite file; one that ships may be named alone: action, image, noise, …"
    )
    parser.add_argument("--models", metavar="MODEL", nargs="+", help="measure these instead of the suite's own")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="other data: of actions whatever fit-actions reads, of which a tenth is held out and the rest fitted; of "
        "speech a folder of sound files, one, or a NeMo manifest; of pictures what training reads; or the suite's "
        "data, if it is not in the cache",
    )
    parser.add_argument(
        "--gripper", metavar="I,J", type=indices, help="degrees of freedom of --data that switch (default: none)"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table as Markdown")
    parser.add_argument("--html", metavar="FILE", help="also write a page to look at, if the suite has one")
    parser.add_json()
    evaluate(**parser.values(arguments))


def evaluate(
    suite: str,
    models: list[str] | None,
    data: str | None,
    gripper: tuple[int, ...] | None,
    out: str | None,
    markdown: str | None,
    html: str | None,
    json: bool,
) -> None:
    """Run a suite, and print the figures."""
    from zoo import resources
    from zoo.errors import ConfigError
    from zoo.evaluation import as_json, card_section, read_suite, run, suite_kind, table, write_report
    from zoo.strict import is_there

    path = Path(suite)
    if not path.suffix and (not is_there(path) or path.is_dir()):
        path = resources.named_suite(suite)
    wanted = read_suite(path)
    page = suite_kind(wanted.kind).page
    if models is not None:
        models = [name for given in models for name in ([given] if is_there(given) else given.split(",")) if name]
    if html is not None and page is None:
        raise ConfigError(f"--html is for suites that have a page, and {path} has none: --markdown writes its table.")
    require_writable(out, markdown, html)

    with _bar() as progress:
        report = run(
            wanted, models=models, data=None if data is None else Path(data), gripper=gripper, progress=progress
        )
    is_own = report.title != wanted.title or not getattr(wanted.data, "sha256", "given")
    if not report.data["is_reference"] and not is_own:
        note(f"the data is not what the published figures are of (its SHA-256 is {report.data['sha256'][:16]}…).")
    if out is not None:
        write_report(report, Path(out))
    if markdown is not None:
        Path(markdown).parent.mkdir(parents=True, exist_ok=True)
        Path(markdown).write_text(card_section(report) + "\n", encoding="utf-8")
    if html is not None and page is not None:
        page(report, Path(html))
    if json:
        print_json(as_json(report))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 40 + 26 * len(report.models)).print(table(report))


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """Give what shows a bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda text, done, total: bar.update(task, description=text, completed=done, total=total)
