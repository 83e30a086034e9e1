"""Lightning's command line as the `zoo` command runs it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from zoo.cli._output import note
from zoo.data.datamodule import DataModule
from zoo.errors import ConfigError, ZooError, near_matches
from zoo.hub.card import RESULTS_FORMAT
from zoo.training import LAST, Checkpoints, ExactResume, TokenizerModule, read_checkpoint

__all__ = ["run"]

# What jsonargparse says of an option that is not there.
_NO_OPTION = re.compile(r"(Option|Group '(?P<group>.+)' does not accept option) '(?P<key>[^']+)'( is not accepted)?")


def run(command: str, arguments: Sequence[str]) -> None:
    """Run `fit`, `validate` or `test` of a trainer.

    Raises:
        ZooError: A value is unusable, or a checkpoint.
    """
    _Parser.command = f"zoo {command}"
    # Lightning calls something of torch that is to change; no user can do anything about it.
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec.. is deprecated", FutureWarning)
    full = [("--help" if argument == "--full-help" else argument) for argument in arguments]
    try:
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
            trainer_defaults={"callbacks": [ExactResume()]},
            parser_class=_Parser,
            parser_kwargs={"prog": _Parser.command, "usage": f"{_Parser.command} --config FILE [options]"},
        )
        path = cli.checkpoint()
        found = getattr(cli.trainer, command)(cli.model, datamodule=cli.datamodule, ckpt_path=path)
        if command != "fit" and cli.config["results"] is not None:
            _write_results(Path(cli.config["results"]), command, found, path)
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        # What a constructor said about its arguments, out of jsonargparse's account of how it tried.
        cause = _own(error)
        if cause is None or isinstance(error, ZooError):
            raise
        raise cause from error


def _write_results(path: Path, command: str, found: list[dict[str, float]], checkpoint: str | None) -> None:
    """Write what was measured as JSON, for a model card: metrics by name, optimiser steps, versions and machine."""
    from zoo.evaluation.suite import environment

    step = 0 if checkpoint is None else read_checkpoint(checkpoint)["global_step"]
    metrics = {name.partition("/")[2]: value for part in found for name, value in part.items()}
    content = {"format": RESULTS_FORMAT, "command": command, "steps": step, "environment": environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "metrics": metrics}, indent=1) + "\n", encoding="utf-8")


def _own(error: BaseException) -> ZooError | None:
    """Return the error of this library that an error was made of, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ZooError):
        cause = cause.__cause__ or cause.__context__
    return cause


class _Parser(LightningArgumentParser):
    """Wrong usage is one message and the exit code 2, as of every other command.

    Attributes:
        command: What the user called; the parsers of single classes do not know it.
    """

    command: ClassVar[str] = "zoo"

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
        text = message.strip() if ex is None else str(_own(ex) or message.strip())
        self.exit(2, f"{self.command}: error: {text}\nSee `{self.command} --help`.\n")


class _Cli(LightningCLI):
    """One command a parser, so that options need no prefix."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the command line has beside Lightning's own."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="training checkpoint, or `last`")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_argument(
            "--results", type=str | None, default=None, help="file to write what validate or test measured to, as JSON"
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments given, which are not those of the process where Python calls the command."""
        self.config = parser.parse_args(args)

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
            read_checkpoint(path)
        return path
