"""`zoo fit-actions`: fit a tokenizer to one's own robot's actions."""

from __future__ import annotations

import importlib
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.cli._inputs import add_action_arguments
from zoo.cli._output import count, note, number, print_facts, print_json, size
from zoo.cli._parser import Parser, indices, positive, positive_int, share
from zoo.errors import CheckpointError, ConfigError, InputError

if TYPE_CHECKING:
    from zoo.data.actions import ActionEpisodes
    from zoo.modalities.action import ActionTokenizer

__all__ = ["fit_actions", "main"]

# Settings that a family has if its config has such a field; what is not stated has the family's default.
SETTINGS = (
    "action_quantiles",
    "boundary",
    "bpe_vocab_size",
    "codebook_size",
    "degree",
    "grid",
    "gripper",
    "gripper_mode",
    "limit",
    "num_basis",
    "scale",
)


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    families = _families()
    parser = Parser(
        "fit-actions",
        "DATA... -o FOLDER --horizon STEPS",
        "Fit a tokenizer to your robot's actions, and write a folder that `zoo encode`\n"
        "and zoo.load take. No network is trained: it takes seconds.\n\n"
        "DATA is any of: a npy file, one episode (steps, degrees of freedom) or several of\n"
        "equal length; a npz, Parquet, CSV or HDF5 file; a folder of such files; a\n"
        "LeRobotDataset folder. Actions are taken as they are, in physical units.\n\n"
        "To say what the tokens lose, it is first fitted without some of the episodes and\n"
        "measured on those; what is written is then fitted to all of them.",
        """
        zoo fit-actions episodes.npz -o my-robot --horizon 50
        zoo fit-actions dataset/ -o my-robot --horizon 32 --num-basis 12 --gripper -1
        zoo fit-actions episodes.npz -o my-fast --family fast --horizon 50
        """,
    )
    parser.add_argument("data", metavar="DATA", nargs="+", help="files or folders")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="folder to write (required)")
    parser.add_argument(
        "--horizon", metavar="STEPS", type=positive_int, required=True, help="commands in a chunk (required)"
    )
    parser.add_argument(
        "--family",
        choices=families,
        default=families[0],
        help="kind of tokenizer: splines, frequencies, or one bin a value (default: %(default)s)",
    )
    parser.add_argument(
        "--control-rate", metavar="HZ", type=positive, help="commands a second (default: what the data says)"
    )
    parser.add_argument(
        "--held-out",
        metavar="SHARE",
        type=share,
        default=0.1,
        help="share of the episodes to measure errors on; 0 measures on those that were fitted (default: %(default)s)",
    )
    parser.add_argument("--name", metavar="NAME", help="family.variant (default: the variant is the folder's name)")
    parser.add_argument("--licence", metavar="SPDX", help="licence of the result (default: Apache-2.0)")
    parser.add_argument("--trained-on", metavar="TEXT", help="what the data is (default: file names and counts)")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is in FOLDER")
    parser.add_json()
    _add_settings(parser)
    add_action_arguments(parser)
    values = parser.values(arguments)
    settings = {name: value for name in SETTINGS if (value := values.pop(name)) is not None}
    for name in settings:
        if name not in settings_of(values["family"]):
            parser.error(f"--{name.replace('_', '-')} is not a setting of {values['family']}")
    fit_actions(settings=settings, **values)


def _families() -> tuple[str, ...]:
    """Return the families that can be fitted, those that ship models first in the order of their names."""
    from zoo import registry

    return tuple(dict.fromkeys(name.partition(".")[0] for name in registry.list_models(modality="action")))


def _add_settings(parser: Parser) -> None:
    beast = parser.add_argument_group("settings of beast")
    beast.add_argument(
        "--num-basis",
        metavar="N",
        type=_num_basis,
        help="control points of a chunk and degree of freedom, or auto (default: auto)",
    )
    beast.add_argument(
        "--threshold",
        metavar="MSE",
        type=positive,
        default=0.01,
        help="auto takes the fewest whose mean squared error is below this, in normalised units (default: %(default)s)",
    )
    beast.add_argument("--degree", metavar="P", type=int, help="degree of the splines (default: 4)")
    beast.add_argument(
        "--gripper",
        metavar="I,J",
        type=indices,
        help="degrees of freedom that switch rather than move, from 0; -1 is the last (default: none)",
    )
    beast.add_argument(
        "--gripper-mode",
        choices=("zero_order", "spline"),
        help="intervals of constant value, or as smooth as the others (default: zero_order)",
    )
    beast.add_argument(
        "--grid",
        choices=("closed", "anchored"),
        help="chunks begin at their first command, or at the one before it (default: closed)",
    )
    beast.add_argument(
        "--boundary",
        choices=("free", "value", "value+velocity"),
        help="what a chunk continues of the commands before it; `zoo encode` takes the first for these (default: free)",
    )
    every = parser.add_argument_group("settings of all")
    every.add_argument(
        "--action-quantiles",
        metavar="LOW,HIGH",
        type=_quantiles,
        help="quantiles of the data that normalised units put at -1 and +1 (default: 0.01, 0.99)",
    )
    every.add_argument(
        "--limit",
        metavar="X",
        type=positive,
        help="half ranges from the middle of the data beyond which a value's unit must be wrong (default: 12.0)",
    )
    more = parser.add_argument_group("settings of beast and binning")
    more.add_argument("--codebook-size", metavar="V", type=positive_int, help="codes of a token (default: 256)")
    fast = parser.add_argument_group("settings of fast")
    fast.add_argument("--scale", metavar="X", type=positive, help="steps in a unit of a coefficient (default: 10)")
    fast.add_argument("--bpe-vocab-size", metavar="V", type=positive_int, help="codes of a token (default: 1024)")


def _quantiles(value: str) -> list[float]:
    try:
        low, high = map(float, value.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{value!r} is not two numbers, such as 0.01,0.99") from None
    return [low, high]


def _num_basis(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    try:
        return positive_int(value)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error}, nor auto") from None


def fit_actions(
    data: Sequence[str],
    output: str,
    horizon: int,
    family: str,
    control_rate: float | None,
    held_out: float,
    threshold: float,
    name: str | None,
    licence: str | None,
    trained_on: str | None,
    overwrite: bool,
    json: bool,
    settings: dict[str, Any],
    **actions: str | None,
) -> None:
    """Fit a tokenizer, write it as a checkpoint folder, and print what its tokens cost and lose."""
    folder = Path(output)
    name = f"{family}.{_variant(folder)}" if name is None else name
    _check_target(name, family, folder, overwrite)
    from zoo.data.signals.action import read_episodes

    episodes = read_episodes(data, **actions)
    if episodes.unread:
        note(f"not read: {', '.join(episodes.unread)}.")
    if control_rate is not None and episodes.control_rate not in (None, control_rate):
        stated = f"{episodes.control_rate:g} commands a second"
        note(f"WARNING: the data says {stated}, and --control-rate {control_rate:g} is taken instead.")
    rate = control_rate or episodes.control_rate
    config = {"num_dofs": episodes.num_dofs, "horizon": horizon, "control_rate": rate, **settings}
    if "gripper" in config:
        config["gripper"] = _from_start(config["gripper"], episodes.num_dofs)

    import zoo
    from zoo.cli._advice import advice
    from zoo.cli._report import measure

    chosen, rest = _split(episodes, held_out)
    config, candidates = _settled(family, config, rest, threshold)
    tokenizer = _build(family, config).fit(rest)
    report = measure(tokenizer, chosen, rest)
    if rest is not episodes:
        tokenizer = _build(family, config).fit(episodes)
    if trained_on is None:
        files = ", ".join(Path(path).resolve().name for path in data)
        trained_on = f"{count(len(episodes.episodes), 'episode')} ({count(episodes.num_steps, 'step')}) of {files}"
    is_held_out = rest is not episodes
    limits = {
        "lowest": [float(min(values)) for values in zip(*(each.min(0) for each in episodes.episodes), strict=True)],
        "highest": [float(max(values)) for values in zip(*(each.max(0) for each in episodes.episodes), strict=True)],
    }
    tokenizer.facts = {"measured": {"is_held_out": is_held_out, **report}, **limits}
    if episodes.dof_names is not None:
        tokenizer.facts["dof_names"] = list(episodes.dof_names)
    zoo.save(tokenizer, folder, name=name, licence=licence, trained_on=trained_on, overwrite=overwrite)
    for line in advice(tokenizer, episodes, report, candidates):
        note(line)
    if json:
        from zoo import config as configs

        facts: dict[str, Any] = {"folder": str(folder), "name": name, "config": configs.to_dict(tokenizer.config)}
        facts |= {"trained_on": trained_on, "candidates": candidates, "is_held_out": is_held_out}
        print_json({**facts, "report": report})
        return
    _print_report(name, folder, tokenizer, episodes, report, is_held_out)


def _variant(folder: Path) -> str:
    """Return a folder's name as a variant's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("._-") or "fitted"


def _check_target(name: str, family: str, folder: Path, overwrite: bool) -> None:
    """Find out before the work what would make writing its result impossible after it."""
    from zoo import registry
    from zoo.checkpoint.manifest import CONFIG

    if not re.fullmatch(rf"{family}\.{registry.VARIANT}", name):
        raise ConfigError(f"--name is {family}.variant, such as {family}.kitchen, got {name!r}.")
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: give a folder.")
    if (folder / CONFIG).exists() and not overwrite:
        raise CheckpointError(f"{folder} holds a checkpoint already: choose another folder, or pass --overwrite.")


def _from_start(gripper: tuple[int, ...], num_dofs: int) -> tuple[int, ...]:
    """Return indices counted from 0, of which negative ones were counted from the end."""
    for index in gripper:
        if not -num_dofs <= index < num_dofs:
            raise InputError(f"--gripper counts degrees of freedom from 0 to {num_dofs - 1}, got {index}.")
    return tuple(index % num_dofs for index in gripper)


def _split(episodes: ActionEpisodes, held_out: float) -> tuple[ActionEpisodes, ActionEpisodes]:
    """Return the episodes to measure on, evenly spread, and those to fit before; all for both if there is one only."""
    total = len(episodes.episodes)
    wanted = min(max(round(held_out * total), 1), total - 1) if held_out else 0
    if not wanted:
        return episodes, episodes
    chosen = {(2 * i + 1) * total // (2 * wanted) for i in range(wanted)}
    numbers = sorted(chosen), [number for number in range(total) if number not in chosen]
    measured, fitted = (
        replace(episodes, episodes=[episodes.episodes[i] for i in part], names=[episodes.names[i] for i in part])
        for part in numbers
    )
    return measured, fitted


def settings_of(family: str) -> frozenset[str]:
    """Return which of `SETTINGS` a family has."""
    from zoo import registry

    return frozenset(SETTINGS) & {field.name for field in fields(registry.family(family).config_class)}


def _settled(
    family: str, config: dict[str, Any], episodes: ActionEpisodes, threshold: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the settings with what the data needs in the place of "auto", and what was tried."""
    from zoo import registry

    module = cast("type[ActionTokenizer]", registry.family(family)).fitting
    if not module:
        return config, []
    settled: tuple[dict[str, Any], list[dict[str, Any]]] = importlib.import_module(module).settle(
        config, episodes, threshold
    )
    return settled


def _build(family: str, config: dict[str, Any]) -> ActionTokenizer:
    from zoo import registry

    built: Any = registry.family(family).from_config(config)
    return cast("ActionTokenizer", built)


def _print_report(
    name: str,
    folder: Path,
    tokenizer: ActionTokenizer,
    episodes: ActionEpisodes,
    report: dict[str, Any],
    is_held_out: bool,
) -> None:
    rate = tokenizer.spec.sample_rate
    seconds = "" if rate is None else f" ({number(tokenizer.horizon / rate)} s)"
    at = "" if rate is None else f" at {rate:g} Hz"
    worst = report["max_error_dof"]
    label = f"{worst}, {episodes.dof_names[worst]}" if episodes.dof_names else f"{worst}"
    chunk_bits = report["bits"] / report["chunks"]
    bit_rate = "" if report["bit_rate"] is None else f", {size(report['bit_rate'], 'bit')} a second"
    were = "was" if report["episodes"] == 1 else "were"
    how = f"that {were} {'held out' if is_held_out else 'fitted'}"
    per_chunk = report["tokens_per_chunk"]
    print_facts(
        f"{folder}: {name}",
        {
            "fitted to": f"{count(len(episodes.episodes), 'episode')}, {count(episodes.num_steps, 'step')} of "
            f"{count(episodes.num_dofs, 'degree')} of freedom{at}",
            "chunks": f"{count(tokenizer.horizon, 'step')}{seconds}{_control_points(tokenizer)}",
            "measured on": f"{count(report['episodes'], 'episode')} {how}",
            "normalised MSE": f"{report['normalised_mse']:.3g} (1 % and 99 % quantiles of the data at -1 and +1)",
            "largest error": f"{report['max_error']:.3g} (degree of freedom {label})",
            "tokens": f"{number(round(per_chunk, 1))} a chunk",
            "bits": f"{number(round(chunk_bits))} a chunk{bit_rate}",
            "clipped": f"{report['clipped']:.2%}",
            "compression": f"{report['compression']:.3g} : 1, against 32 bits a value",
            "load it": f'zoo.load("{folder if folder.is_absolute() else f"./{folder}"}")',
        },
    )


def _control_points(tokenizer: ActionTokenizer) -> str:
    from zoo import config as configs

    points = configs.to_dict(tokenizer.config).get("num_basis")
    return "" if points is None else f", {points} control points"
