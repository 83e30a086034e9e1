"""The `zoo` command.

Every command is a function of a module of this package, `main(arguments)` if not said otherwise in `COMMANDS`; a module
is imported only when its command is called, and imports torch only when it runs, so that help appears at once. A
command returns when it is done and raises when it cannot be; what the user sees of an error, and the exit code, are
decided here:

0 done, 1 an error of the library or the system, 2 wrong usage, 130 interrupted, 141 the reader of a pipe went away,
143 terminated.
"""

from __future__ import annotations

import sys

try:
    import importlib
    import os
    import signal
    import threading
    import warnings
    from collections.abc import Iterator, Sequence
    from contextlib import contextmanager, suppress
    from pathlib import Path
    from types import FrameType
    from typing import NamedTuple, TextIO

    from zoo import __version__
    from zoo.cli._output import note
    from zoo.errors import InputError, LicenceWarning, ZooError, harmless, near_matches
except KeyboardInterrupt:  # a Ctrl-C that came before `main` is there to tell of it
    sys.stderr.write("zoo: interrupted.\n")
    sys.exit(130)

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    """One command: the module whose `main(arguments)` runs it, a line for people, another name for `main`."""

    module: str
    summary: str
    function: str = "main"


COMMANDS = {
    "list": Command("zoo.cli.list_models", "show the models that can be loaded by name"),
    "info": Command("zoo.cli.info", "show what is known about one model or token file"),
    "encode": Command("zoo.cli.encode", "turn files into tokens"),
    "decode": Command("zoo.cli.decode", "turn tokens back into files"),
    "fit-actions": Command("zoo.cli.fit_actions", "fit a tokenizer to your own robot's actions"),
    "eval": Command("zoo.cli.evaluate", "measure tokenizers with a suite"),
    "fit": Command("zoo.cli.training", "train a tokenizer, or go on with it", "fit"),
    "validate": Command("zoo.cli.training", "measure a training checkpoint on validation data", "validate"),
    "test": Command("zoo.cli.training", "measure a training checkpoint on test data", "test"),
    "data": Command("zoo.cli.data", "make the data that recipes and suites use"),
    "export": Command("zoo.cli.export", "turn a training checkpoint into a model"),
    "push": Command("zoo.cli.push", "publish a model on the Hugging Face Hub"),
}

_EXAMPLES = """\
  zoo list
  zoo encode beast episodes.npz -o episodes.zoo
  zoo decode episodes.zoo -o decoded/"""

_INTERRUPTED, _NO_READER, _TERMINATED = 130, 141, 143  # 128 + the signal's number, as a shell counts
_USAGE = 2
_MAX_TEXT = 1500


class _TerminatedError(BaseException):
    """Raised by SIGTERM, so that what is unfinished is cleared away."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, the process's own if None, and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stderr is None:  # closed by `2>&-`; print would take None for stdout
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, until the process ends
    if sys.stdout is None:
        _complain("error: standard output is closed, and results are printed to it: leave 1>&- out.")
        return 1
    debug = "--debug" in arguments
    with _environment():
        try:
            code = _run(arguments)
            sys.stdout.flush()
            return code
        except SystemExit as stop:  # of a parser: help, or wrong usage
            return stop.code if isinstance(stop.code, int) else _USAGE
        except KeyboardInterrupt:
            _complain("interrupted.")
            return _INTERRUPTED
        except _TerminatedError:
            return _TERMINATED
        except BrokenPipeError:
            # The interpreter flushes stdout once more when it exits, and would complain.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _NO_READER
        except (ZooError, OSError, MemoryError) as error:
            if debug:
                raise
            _complain(f"error: {_text(error)}")
            return 1
        except RuntimeError as error:
            shortage = _shortage(error)
            if debug or shortage is None:
                raise
            _complain(f"error: {shortage}")
            return 1


def _run(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(_help())
        return _USAGE
    name, *rest = arguments
    if any("\0" in argument for argument in arguments):  # of callers inside Python; no shell can pass one
        raise InputError("an argument holds the character 0, which the system takes for its end: leave it out.")
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if name == "--version":
        print(f"zoo {__version__}")
        return 0
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        hint = near_matches(name, COMMANDS) if what == "command" else "the options of a command come after it."
        _complain(f"error: there is no {what} {name!r}; {hint} See `zoo --help`.")
        return _USAGE
    command = COMMANDS[name]
    getattr(importlib.import_module(command.module), command.function)(rest)
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    return f"""\
usage: zoo COMMAND ...

Discrete tokenizers for speech, images, video and robot actions.

commands:
{commands}

options:
  -h, --help   show this text; `zoo COMMAND --help` explains a command
  --version    show the version

examples:
{_EXAMPLES}
"""


def _text(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory: try a smaller --batch-size."
    text = str(error) or type(error).__name__
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"  # the system repeats names of any length


def _shortage(error: RuntimeError) -> str | None:
    """Return what a foreign error says about the machine and not about the program, None if it does not."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return "the device has not enough memory: try a smaller --batch-size, or --device cpu."
    if "DefaultCPUAllocator" in text or "can't allocate memory" in text:  # torch has no class for it
        return _text(MemoryError())
    return None


def _complain(text: str) -> None:
    lines = [harmless(line) for line in text.split("\n")]
    with suppress(OSError):
        print("zoo: " + "\n".join(lines), file=sys.stderr)


@contextmanager
def _environment() -> Iterator[None]:
    """Arrange for the process what a command line expects, and undo it for callers inside Python."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, LicenceWarning):
            note(str(message))
        else:
            _complain(f"warning: {message}")

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    silence = not sys.stderr.isatty() and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
    if silence:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    for stream in (sys.stdout, sys.stderr):
        _tolerate(stream)
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, terminate) if in_main_thread else None
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        if silence:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]
        if in_main_thread:
            signal.signal(signal.SIGTERM, previous)


def _tolerate(stream: TextIO) -> None:
    """Let a stream of a narrow encoding show what it lacks as escapes instead of failing."""
    with suppress(AttributeError, ValueError):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
