"""`zoo info`: what is known about one model, or what a token file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._declared import declared
from zoo.cli._models import MODEL_HELP, load_any
from zoo.cli._output import number, print_facts, print_json, size
from zoo.cli._parser import Parser

if TYPE_CHECKING:
    from zoo.stored import Stored
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
_NO_OPTIONS: dict[str, list[str]] = {"encode_options": [], "decode_options": []}  # of what only draws tokens
_FILE_SUFFIXES = (".zoo", ".jsonl", ".parquet", ".npz")


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "info",
        "MODEL|FILE",
        "Show what is known about one model: its tokens, size, source, licence, and what\n"
        "it was made from. A model that would have to be downloaded is not, unless it is\n"
        "named by its hf:// address or with --download; its tokens are then not shown. Of a\n"
        "generator, from which `zoo generate` draws, also whose tokens these are.\n\n"
        "Of a file that `zoo encode` wrote, .zoo, .jsonl, .parquet or .npz, show what is in\n"
        "it, and which model it is of.",
        """
        zoo info beast
        zoo info ./my-robot --json
        zoo info hf://owner/repo@v1.0
        zoo info tokens.zoo
        """,
    )
    parser.add_argument("model", metavar="MODEL", help=f"{MODEL_HELP}; or a token file")
    parser.add_argument("--download", action="store_true", help="download the model if it is not there yet")
    parser.add_json()
    info(**parser.values(arguments))


def info(model: str, download: bool, json: bool) -> None:
    """Print what is known about a model, or about what a file of tokens holds."""
    if (path := Path(model)).suffix in _FILE_SUFFIXES and not path.is_dir():
        facts = _file_facts(path)
        if json:
            print_json(facts)
        else:
            print_facts(model, _shown_file(facts))
        return
    facts = _facts(model, download)
    if json:
        print_json(facts)
    else:
        print_facts(facts["name"], _shown(facts))


def _file_facts(path: Path) -> dict[str, Any]:
    """Return what a token file, which is read and checked as a whole, or a table of ids says of itself."""
    from zoo import tokenfile
    from zoo.tokenfile import tables

    if path.suffix != tokenfile.SUFFIX:
        return {**tables.read_metadata(path).to_dict(), "bytes": path.stat().st_size}
    file = tokenfile.load(path)
    facts = tables.metadata(file).to_dict()
    del facts["library_version"]  # the one that runs, not the one that wrote
    return {
        **facts,
        "format": tokenfile.FORMAT,
        "format_version": tokenfile.FORMAT_VERSION,
        "bytes": path.stat().st_size,
    }


def _shown_file(facts: dict[str, Any]) -> dict[str, str]:
    spec = facts["spec"]
    shown = {
        "holds": f"{facts['format']}, {size(facts['bytes'], 'B')}",
        "items": number(facts["items"]),
        "ids": number(facts["tokens"]),
        "grid": " × ".join(map(str, facts["grid"] or ())),
        "made by": f"{facts['model']}{f', in fast mode, {fast}' if (fast := facts['fast_dtype']) else ''}",
        "source": facts["source"],
        "fingerprint": facts["fingerprint"],
        "modality": spec["modality"],
        "licence": spec["licence"],
        **_shown_spec(spec),
    }
    return {name: value for name, value in shown.items() if value}


def _facts(model: str, download: bool) -> dict[str, Any]:
    """Return the facts as plain values; what is unknown is None."""
    from zoo import registry
    from zoo.errors import UnknownNameError

    try:
        entry = registry.info(model)
    except UnknownNameError:
        entry = None  # an address, or nothing, which loading finds out
    if entry is not None and not entry["is_shipped"] and not download:
        known = {key: entry[key] for key in (*_KNOWN, *(["tokenizer"] if entry["tokenizer"] else []))}
        options = _NO_OPTIONS if entry["tokenizer"] else _options(registry.family(entry["family"]))
        return {**known, "spec": None, "config": None, "fingerprint": None, **options}
    return _loaded_facts(load_any(model), entry)


def _loaded_facts(tokenizer: Stored, entry: dict[str, Any] | None) -> dict[str, Any]:
    from zoo import config, registry
    from zoo.checkpoint.fingerprint import fingerprint
    from zoo.tokenizer import Tokenizer

    restrictions = (known.restriction for known in registry.published_at(tokenizer.source))
    whose = {} if isinstance(tokenizer, Tokenizer) else {"tokenizer": tokenizer.config.tokenizer}
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
        **whose,
        **(_options(type(tokenizer)) if isinstance(tokenizer, Tokenizer) else _NO_OPTIONS),
    }


def _options(cls: type[Tokenizer]) -> dict[str, list[str]]:
    """Return the options of a family that a command line can have."""
    kinds = {"encode_options": cls.encode_options, "decode_options": cls.decode_options}
    return {name: [f"{each.flag} {each.values}" for each in declared(kind)] for name, kind in kinds.items()}


def _shown(facts: dict[str, Any]) -> dict[str, str]:
    """Return the facts as people read them, without those that are unknown."""
    shown = {
        "description": facts["description"],
        "modality": facts["modality"],
        "family": facts["family"],
        "over the tokens of": facts.get("tokenizer", ""),
        "parameters": number(facts["num_parameters"]),
        "source": facts["source"],
        "licence": facts["licence"],
        "restriction": facts["restriction"],
        "trained on": facts["trained_on"],
        **_shown_spec(facts["spec"]),
        "to encode": "; ".join(facts["encode_options"]),
        "to decode": "; ".join(facts["decode_options"]),
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
    shape, count, bits = spec["input_size"], spec["num_tokens"], spec["bits_per_token"]
    is_continuous = spec["codebook_size"] is None
    amount = f"{number(count)} for every {signal.unit}" if count else f"vary with the {signal.unit}"
    if count and not is_continuous:
        amount += f", {number(count * bits)} bits together"
    trained = f"; trained were {', '.join(map(str, lengths))}" if (lengths := spec["trained_lengths"]) else ""
    return {
        "codebook": "" if is_continuous else f"{spec['codebook_size']:,} codes{books}, {bits:.4g} bits a token",
        "tokens": "none: it is continuous" if is_continuous else amount,
        "latents": f"{amount}, of {spec['latent_dim']} numbers each" if is_continuous else "",
        "input": f"{' × '.join(map(str, shape))} ({signal.size_axes})" if shape else "any size",
        "rate": f"{number(spec['sample_rate'])} {signal.steps} a second" if spec["sample_rate"] else "",
        "token rate": f"{number(spec['token_rate'])} a second, {size(spec['bit_rate'], 'bit')} a second"
        if spec["token_rate"] and not is_continuous
        else "",
        "ordered": f"yes: a prefix of an item's tokens is a coarser code of it{trained}" if spec["is_ordered"] else "",
    }


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_plain(item)}' for key, item in value.items())})"
    return "none" if value is None else str(value)
