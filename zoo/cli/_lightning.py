"""Lightning's command line as the `zoo` command runs it."""

from __future__ import annotations

import json
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateFinder, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from zoo.cli._output import note
from zoo.cli._placing import require_writable
from zoo.cli._precision import advice
from zoo.cli._settings import completed
from zoo.data.datamodule import DataModule
from zoo.errors import ConfigError, MissingExtraError, ZooError, near_matches
from zoo.hub.card import RESULTS_FORMAT
from zoo.training import (
    EMA,
    LAST,
    Checkpoints,
    EMAConfig,
    ExactResume,
    History,
    ProgressLines,
    TokenizerModule,
    read_checkpoint,
)
from zoo.training.checkpoint_file import averages

__all__ = ["run"]

# What jsonargparse says of an option that is not there.
_NO_OPTION = re.compile(r"(Option|Group '(?P<group>.+)' does not accept option) '(?P<key>[^']+)'( is not accepted)?")
_LIGHTNING = Path(lightning.__file__).parent
_PROBLEM = re.compile(r"Problem with given class_path '([\w.]+)':\s*(.*)")


def run(command: str, arguments: Sequence[str]) -> None:
    """Run `fit`, `validate` or `test` of a trainer.

    Raises:
        ZooError: A value is unusable, or a checkpoint.
    """
    _Parser.command = f"zoo {command}"
    # Lightning calls something of torch that is to change; no user can do anything about it.
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec.. is deprecated", FutureWarning)
    full = completed([("--help" if argument == "--full-help" else argument) for argument in arguments])
    try:
        _Cli.command = command
        cli = _Cli(
            TokenizerModule,
            DataModule,
            args=full,
            run=False,
            seed_everything_default=0,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            # The module itself saves plain values, and the file, not the checkpoint, says what is trained.
            load_from_checkpoint_support=False,
            save_config_callback=SaveConfigCallback if command == "fit" else None,
            save_config_kwargs={"overwrite": True},  # a run that goes on without a logger has one folder for both
            trainer_defaults={"callbacks": [ExactResume(), History()]},
            parser_class=_Parser,
            parser_kwargs={"prog": _Parser.command, "usage": f"{_Parser.command} --config FILE [options]"},
        )
        path = cli.checkpoint()
        if command != "fit":
            require_writable(cli.config["results"])
        slow = advice(str(cli.trainer.precision), cli.trainer.strategy.root_device)
        if slow is not None:
            note(slow)
        found = getattr(cli.trainer, command)(cli.model, datamodule=cli.datamodule, ckpt_path=path)
        if command != "fit" and cli.config["results"] is not None:
            _write_results(Path(cli.config["results"]), command, found, path)
    except ZooError:
        raise
    except Exception as error:
        explained = _explained(error)
        if explained is None:
            raise
        raise explained from error


def _write_results(path: Path, command: str, found: list[dict[str, float]], checkpoint: str | None) -> None:
    """Write what was measured as JSON, for a model card: metrics by name, optimiser steps, versions and machine."""
    from zoo.evaluation.suite import environment

    step = 0 if checkpoint is None else read_checkpoint(checkpoint)["global_step"]
    metrics = {name.partition("/")[2]: value for part in found for name, value in part.items()}
    content = {"format": RESULTS_FORMAT, "command": command, "steps": step, "environment": environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "metrics": metrics}, indent=1) + "\n", encoding="utf-8")


def _explained(error: Exception) -> ZooError | None:
    """Return what an error says of the user's settings, in a line; None if they are not to blame."""
    if isinstance(error, MisconfigurationException):
        return ConfigError(str(error))
    chain = list(_chain(error))
    if isinstance(error, ValueError):
        # What a constructor said about its arguments, out of jsonargparse's account of how it tried.
        own = next((cause for cause in chain if isinstance(cause, ZooError)), None)
        if own is not None:
            return own
    problems = _PROBLEM.findall(str(error))
    who = f"{problems[-1][0].rpartition('.')[2]}: " if problems else ""
    for cause in chain:
        if isinstance(cause, ImportError):
            return MissingExtraError(f"{who}a package is not installed: {cause}")
    if problems:
        return ConfigError(f"{who}{problems[-1][1]}")
    # Lightning raises errors of any class about what its callbacks and loggers were told.
    frames = traceback.extract_tb(error.__traceback__)
    if frames and Path(frames[-1].filename).is_relative_to(_LIGHTNING):
        return ConfigError(f"{str(error) or type(error).__name__}")
    return None


def _own(error: BaseException) -> ZooError | None:
    """Return the error of this library that an error was made of, if there is one."""
    return next((cause for cause in _chain(error) if isinstance(cause, ZooError)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was made of."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


class _Parser(LightningArgumentParser):
    """Wrong usage is one message and the exit code 2, as of every other command.

    Attributes:
        command: What the user called; the parsers of single classes do not know it.
        owner: Of the parser of a single class, its name.
    """

    command: ClassVar[str] = "zoo"
    owner = ""

    def add_class_arguments(self, theclass: Any, nested_key: str | None = None, *args: Any, **options: Any) -> Any:
        """Add what a class takes, and remember whose arguments these are."""
        if nested_key is None:
            self.owner = getattr(theclass, "__name__", "")
        return super().add_class_arguments(theclass, nested_key, *args, **options)

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Check what was parsed, and say which options there are where one is not.

        Raises:
            KeyError: There is no such option.
            TypeError: A value is of another type.
        """
        try:
            super().validate(*args, **kwargs)
        except KeyError as error:
            found = _NO_OPTION.fullmatch(str(error))
            if found is None:
                raise
            prefix = "" if found["group"] is None else f"{found['group']}."
            known = [action.dest.removeprefix(prefix) for action in self._actions if action.dest.startswith(prefix)]
            hint = near_matches(found["key"], (name for name in known if name not in ("help", "config")))
            raise type(error)(f"{error}; {hint}") from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the command with what is wrong, and in whose arguments."""
        text = message.strip() if ex is None else str(_own(ex) or message.strip())
        whose = f"{self.owner}: " if self.owner else ""
        self.exit(2, f"{self.command}: error: {whose}{text}\nSee `{self.command} --help`.\n")


class _Cli(LightningCLI):
    """One command a parser, so that options need no prefix.

    Attributes:
        command: What is run.
    """

    command: ClassVar[str] = "fit"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the command line has beside Lightning's own."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="training checkpoint, or `last`")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_argument("--ema", type=EMAConfig | None, default=None, help="averaged weights; none if null")
        parser.add_argument(
            "--results", type=str | None, default=None, help="file to write what validate or test measured to, as JSON"
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments given, which are not those of the process where Python calls the command."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Make the trainer, with averaged weights and lines of progress where there are to be some.

        Raises:
            ConfigError: Weights would be averaged twice, or a callback cannot work here.
        """
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        given = config["callbacks"] or []
        config["callbacks"] = given = list(given) if isinstance(given, list) else [given]
        if any(isinstance(callback, LearningRateFinder) for callback in given):
            raise ConfigError(
                "LearningRateFinder sets one rate for a whole run, and here a schedule does (model.optimizer): make "
                "short runs with several --model.optimizer.lr instead."
            )
        extra: list[Any] = []
        averaging: EMAConfig | None = self.config_init["ema"]
        if any(isinstance(callback, EMA) for callback in given):
            if averaging is not None:
                raise ConfigError("weights are averaged twice, by `ema` and by `trainer.callbacks`: leave one out.")
            note(
                "EMA in trainer.callbacks is lost as soon as these are given anew: write it as a section of its own "
                "beside `checkpoints`, `ema: {decay: 0.999}`."
            )
        elif averaging is not None:
            extra.append(EMA(averaging.decay, averaging.warmup, averaging.start))
        is_quiet = config.get("enable_progress_bar") is False or sys.stderr.isatty()
        if not is_quiet and not any(isinstance(callback, ProgressBar) for callback in given):
            extra.append(ProgressLines())
        extra += [self._get(self.config_init, key) for key in self._parser(self.subcommand).callback_keys]
        return self._instantiate_trainer(config, extra)

    def checkpoint(self) -> str | None:
        """Return the checkpoint to start from, None for none.

        Raises:
            CheckpointError: It is unusable.
        """
        path: str | None = self.config["ckpt_path"]
        if path == "last":
            (callback,) = (c for c in cast("Any", self.trainer).callbacks if isinstance(c, Checkpoints))
            last: Path = callback.folder(self.trainer) / LAST
            if not last.exists():
                note(f"there is no {last} yet: starting from the beginning.")
                return None
            path = str(last)
        if path is not None:
            self._require_average(path)
        return path

    def _require_average(self, path: str) -> None:
        """Have the averaged weights of a checkpoint be used: measured in any case, and not lost where a run goes on.

        Raises:
            CheckpointError: The checkpoint is unusable.
            ConfigError: The run that goes on does not average.
        """
        callbacks = cast("Any", self.trainer).callbacks
        if averages(read_checkpoint(path)) is None or any(isinstance(callback, EMA) for callback in callbacks):
            return
        if self.command == "fit":
            raise ConfigError(
                f"{path} has averaged weights, and the run that goes on from it has not: add `ema: {{decay: 0.999}}` "
                "to its file (--ema.decay 0.999), or start a new run from its weights (--model.weights)."
            )
        callbacks.insert(0, EMA())
