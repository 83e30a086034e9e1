"""`zoo info`: what is known about one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.cli._models import MODEL_HELP, load_model
from zoo.cli._output import number, print_facts, print_json, size
from zoo.cli._parser import Parser

if TYPE_CHECKING:
    from zoo.tokenizer import Tokenizer

__all__ = ["info", "main"]

# What the index of names has of a model that is not there yet.
_KNOWN = (
    "name",
    "family",
    "modality",
    "description",
    "source",
    "licence",
    "restriction",
    "trained_on",
    "num_parameters",
)


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "info",
        "MODEL",
        "Show what is known about one model: its tokens, size, source, licence, and what\n"
        "it was made from. A model that would have to be downloaded is not, unless it is\n"
        "named by its hf:// address or with --download; its tokens are then not shown.",
        """
        zoo info beast
        zoo info ./my-robot --json
        zoo info hf://owner/repo@v1.0
        """,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--download", action="store_true", help="download the model if it is not there yet")
    parser.add_json()
    info(**parser.values(arguments))


def info(model: str, download: bool, json: bool) -> None:
    """Print what is known about a model."""
    facts = _facts(model, download)
    if json:
        print_json(facts)
    else:
        print_facts(facts["name"], _shown(facts))


def _facts(model: str, download: bool) -> dict[str, Any]:
    """Return the facts as plain values; what is unknown is None."""
    from zoo import registry
    from zoo.errors import UnknownNameError

    try:
        entry = registry.info(model)
    except UnknownNameError:
        entry = None  # an address, or nothing, which loading finds out
    if entry is not None and not entry["is_shipped"] and not download:
        return {**{key: entry[key] for key in _KNOWN}, "spec": None, "config": None, "fingerprint": None}
    return _loaded_facts(load_model(model), entry)


def _loaded_facts(tokenizer: Tokenizer, entry: dict[str, Any] | None) -> dict[str, Any]:
    from zoo import config, registry
    from zoo.tokenfile import fingerprint

    restrictions = (known.restriction for known in registry.published_at(tokenizer.source))
    return {
        "name": tokenizer.name,
        "family": tokenizer.family,
        "modality": tokenizer.spec.modality,
        "description": None if entry is None else entry["description"],
        "source": tokenizer.source,
        "licence": tokenizer.spec.licence,
        "restriction": next(restrictions, "") if entry is None else entry["restriction"],
        "trained_on": tokenizer.trained_on,
        "num_parameters": tokenizer.num_parameters,
        "spec": tokenizer.spec.to_dict(),
        "config": config.to_dict(tokenizer.config),
        "fingerprint": fingerprint(tokenizer),
    }


def _shown(facts: dict[str, Any]) -> dict[str, str]:
    """Return the facts as people read them, without those that are unknown."""
    shown = {
        "description": facts["description"],
        "modality": facts["modality"],
        "family": facts["family"],
        "parameters": number(facts["num_parameters"]),
        "source": facts["source"],
        "licence": facts["licence"],
        "restriction": facts["restriction"],
        "trained on": facts["trained_on"],
        **_shown_spec(facts["spec"]),
        "settings": ", ".join(f"{key} {_plain(value)}" for key, value in (facts["config"] or {}).items()),
        "fingerprint": facts["fingerprint"],
    }
    return {name: value for name, value in shown.items() if value}


def _shown_spec(spec: dict[str, Any] | None) -> dict[str, str]:
    if spec is None:
        return {"tokens": "not known before it is downloaded (--download)"}
    from zoo.data import signals

    signal = signals.of(spec["modality"])
    books = f" in each of {spec['num_codebooks']} codebooks" if spec["num_codebooks"] > 1 else ""
    shape = spec["input_size"]
    return {
        "codebook": f"{spec['codebook_size']:,} codes{books}, {spec['bits_per_token']:.4g} bits a token",
        "tokens": f"{number(spec['num_tokens'])} for every {signal.unit}"
        if spec["num_tokens"]
        else f"vary with the {signal.unit}",
        "input": f"{' × '.join(map(str, shape))} ({signal.size_axes})" if shape else "any size",
        "rate": f"{number(spec['sample_rate'])} {signal.steps} a second" if spec["sample_rate"] else "",
        "token rate": f"{number(spec['token_rate'])} a second, {size(spec['bit_rate'], 'bit')} a second"
        if spec["token_rate"]
        else "",
        "ordered": "yes: a prefix of an item's tokens is a coarser code of it" if spec["is_ordered"] else "",
    }


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return "none" if value is None else str(value)
