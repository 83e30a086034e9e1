"""Loading the model, or the generator over tokens, that a command line names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._output import note
from zoo.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    import torch

    from zoo.generator import TokenGenerator
    from zoo.stored import Stored
    from zoo.tokenizer import Tokenizer

__all__ = ["DEVICE_HELP", "MODEL_HELP", "family_of", "load_any", "load_generator", "load_model"]

MODEL_HELP = "name of a model (see `zoo list`), folder, or hf://owner/repo[@revision]"
DEVICE_HELP = "where the model runs: cpu, cuda, cuda:1, mps (default: %(default)s)"


def load_model(name: str, device: str = "cpu", *, decoder: bool = True) -> Tokenizer:
    """Load a model onto a device, perhaps without what only decoding needs.

    Raises:
        ConfigError: There is no such device here.
        ZooError: See `zoo.load`.
    """
    import zoo

    return zoo.load(_located(name), device=_device(device), decoder=decoder)


def load_generator(name: str, device: str = "cpu") -> TokenGenerator:
    """Load a generator over tokens onto a device; arguments and errors as of `load_model`."""
    import zoo

    return zoo.load_generator(_located(name), device=_device(device))


def load_any(name: str) -> Stored:
    """Load a tokenizer or a generator, whichever it is, for what is done to both alike.

    Raises:
        ZooError: See `zoo.load` and `zoo.load_generator`.
    """
    import zoo
    from zoo import loading

    place = _located(name)
    return zoo.load_generator(place) if loading.is_generator(place) else zoo.load(place)


def family_of(name: str) -> type[Tokenizer]:
    """Return the family of a model; one that only its repository on the Hub tells is downloaded, as using it needs.

    Raises:
        ZooError: See `zoo.load`.
    """
    from zoo import loading

    return loading.family_of(_located(name)) or type(load_model(name, decoder=False))


def _device(name: str) -> torch.device:
    import torch

    try:
        target = torch.device(name)
        torch.zeros(1, device=target).item()  # which a device without values has not, such as meta
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"the device {name!r} cannot be used here ({reason}). Try --device cpu.") from error
    return target


def _located(name: str) -> str | Path:
    """Return a name, or the folder of that name if there is no such model or generator."""
    from zoo import registry

    if not name or name.startswith("hf://") or not Path(name).is_dir():
        return name
    try:
        registry.info(name)
    except UnknownNameError:
        return Path(name)
    note(f"{name!r} is taken for the model of that name; the folder is ./{name}.")
    return name
