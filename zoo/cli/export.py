"""`zoo export`: a training checkpoint as a checkpoint folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.cli._output import note, print_facts, print_json
from zoo.cli._parser import Parser
from zoo.strict import expanded

__all__ = ["export", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "export",
        "CKPT -o FOLDER",
        "Turn a training checkpoint into a folder that `zoo.load` reads and `zoo push` publishes: config.json and "
        "safetensors. The averaged weights are taken, where the run averaged them. What training has beside the "
        "tokenizer goes to a file of its own, so that another run can go on from the model. Nothing in the checkpoint "
        "is run as code. The scalars of the run go to curves.json.",
        """
        zoo export checkpoints/last.ckpt -o my-model --name beast.mine
        zoo export checkpoints/last.ckpt -o my-model --weights trained
        zoo export checkpoints/last.ckpt -o my-model --without-training
        """,
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="what `zoo fit` wrote")
    parser.add_argument("-o", "--out", metavar="FOLDER", required=True, help="folder to write")
    parser.add_argument("--name", metavar="NAME", help="family.variant (default: the family)")
    parser.add_argument(
        "--licence",
        metavar="SPDX",
        help="licence of the weights (default: that of those the run started from, or of the family)",
    )
    parser.add_argument("--trained-on", metavar="TEXT", default="", help="what the weights were made from")
    parser.add_argument(
        "--weights",
        choices=["auto", "averaged", "trained"],
        default="auto",
        metavar="WHICH",
        help="averaged, trained, or auto: averaged if there are any (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        metavar="DTYPE",
        help="of the weights in the file, float16 or bfloat16 for half the size; they are used in float32 all the same "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--without-training",
        action="store_true",
        help="leave out what training has beside the tokenizer, for a smaller model: what goes on from it starts that "
        "part afresh",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is there")
    parser.add_json()
    export(**parser.values(arguments))


def export(
    checkpoint: str, out: str, weights: str, dtype: str, without_training: bool, json: bool, **facts: Any
) -> None:
    """Write the folder, and print where it is."""
    import torch

    import zoo
    from zoo.hub.curves import CURVES, encode_curves
    from zoo.training.checkpoint_file import curves_of, read_checkpoint, training_parts
    from zoo.training.export import UNKNOWN_LICENCE, tokenizer_of

    tokenizer = tokenizer_of(checkpoint, average={"auto": None, "averaged": True, "trained": False}[weights])
    rounded = None if dtype == "float32" else getattr(torch, dtype)
    content = read_checkpoint(checkpoint)
    training = {} if without_training else training_parts(content)
    folder = zoo.save(tokenizer, expanded(out), dtype=rounded, training=training, **facts)
    curves = encode_curves(curves_of(content), content.get("global_step", 0))
    (folder / CURVES).write_text(curves, encoding="utf-8")
    if facts["licence"] is None and tokenizer.spec.licence == UNKNOWN_LICENCE:
        note("the licence of the weights that the run started from is not known: state it with --licence.")
    name = facts["name"] or tokenizer.name
    if json:
        print_json({"name": name, "folder": str(folder), "num_parameters": tokenizer.num_parameters})
        return
    place = folder if folder.is_absolute() else f"./{folder}"
    load = "load_generator" if tokenizer.family == "generator" else "load"
    facts = {"parameters": f"{tokenizer.num_parameters:,}", "load it": f'zoo.{load}("{place}")'}
    print_facts(f"{folder}: {name}", facts)
