"""`zoo fit`, `zoo validate` and `zoo test`: Lightning's command line, with what exact resume needs always on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zoo import resources
from zoo.cli._parser import Parser
from zoo.errors import ConfigError

__all__ = ["fit", "test", "validate"]

_RECIPE = "recipe:"
_OVERRIDES = (
    "\n\nEvery value of the file can be given on the command line as well, by its place in it: "
    "--trainer.max_steps 100. Files and options given later win; mappings merge at any depth. "
    "`zoo {0} --full-help` lists everything, "
    "`zoo {0} --config FILE --print_config` shows what results. The file names Python classes: use your own or one "
    "you trust."
)
_FIT = (
    "Train a tokenizer as a YAML file says: its model, data and trainer. `last.ckpt` is written to `checkpoints` in "
    "the trainer's default_root_dir every `checkpoints.every_n_steps`, and on SIGTERM or Ctrl-C. A run that goes on "
    "from it ends with the same weights as one that was never stopped. `zoo export` makes a model of it."
)


def fit(arguments: Sequence[str]) -> None:
    """Run `zoo fit`."""
    _run(
        "fit",
        _FIT,
        """
        zoo fit --config recipe:stabletoken/nano
        zoo fit --config my.yaml --model.config.quantizer.num_voters 3
        zoo fit --config my.yaml --ckpt_path last
        """,
        arguments,
    )


def validate(arguments: Sequence[str]) -> None:
    """Run `zoo validate`."""
    _run(
        "validate",
        "Measure a training checkpoint on the validation data of a YAML file, with averaged weights if it has any.",
        "zoo validate --config my.yaml --ckpt_path last",
        arguments,
    )


def test(arguments: Sequence[str]) -> None:
    """Run `zoo test`."""
    _run(
        "test",
        "Measure a training checkpoint on the test data of a YAML file, with averaged weights if it has any.",
        """
        zoo test --config my.yaml --ckpt_path last
        zoo test --config my.yaml --ckpt_path last --results measured.json
        """,
        arguments,
    )


def _run(command: str, description: str, examples: str, arguments: Sequence[str]) -> None:
    if not arguments or "-h" in arguments or "--help" in arguments:
        _show_help(command, description, examples, arguments)
    given = _with_files([argument for argument in arguments if argument != "--debug"])
    from zoo.cli import _lightning

    _lightning.run(command, given)


def _with_files(arguments: Sequence[str]) -> list[str]:
    """Return arguments with the path of each recipe that `--config` names.

    Raises:
        UnknownNameError: There is no such recipe.
        ConfigError: The file is one that would be waited for, or read, for good.
    """
    given: list[str] = []
    for argument in arguments:
        prefix = "--config=" if argument.startswith("--config=") else ""
        if not prefix and given[-1:] != ["--config"]:
            given.append(argument)
            continue
        value = argument.removeprefix(prefix)
        if value.startswith(_RECIPE):
            value = str(resources.named_recipe(value.removeprefix(_RECIPE)))
        _check_file(value)
        given.append(prefix + value)
    return given


def _check_file(name: str) -> None:
    """Refuse pipes and devices, but for what a shell's `<(…)` makes, a pipe with a writer."""
    place = Path(name)
    with suppress(OSError):  # a name that no file can have, which the parser refuses
        if place.exists() and not place.is_file() and place.parent != Path("/dev/fd"):
            raise ConfigError(f"{name} is not a regular file: give a YAML file, or the name of one, {_RECIPE}NAME.")


def _show_help(command: str, description: str, examples: str, arguments: Sequence[str]) -> None:
    """Print the short help, or what must be given, and exit. Nothing heavy is imported for it."""
    parser = Parser(command, "--config FILE", description + _OVERRIDES.format(command), examples)
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="YAML file, or recipe:NAME; may be given several times"
    )
    parser.add_argument(
        "--ckpt_path", metavar="CKPT", help="training checkpoint to go on from; `last` for the newest of this run"
    )
    if command != "fit":
        parser.add_argument("--results", metavar="FILE", help="also write what was measured as JSON")
    parser.add_argument("--seed_everything", metavar="N", help="seed of weights and noise (default: 0)")
    parser.add_argument("--print_config", action="store_true", help="print the resulting YAML and stop")
    parser.add_argument("--full-help", action="store_true", help="list every option")
    parser.values(["--help"] if arguments else [])
