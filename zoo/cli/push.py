"""`zoo push`: publish a model on the Hub."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._models import MODEL_HELP, load_any
from zoo.cli._output import note, print_facts, print_json
from zoo.cli._parser import Parser
from zoo.strict import expanded

if TYPE_CHECKING:
    from zoo.hub import PushResult
    from zoo.stored import Stored

__all__ = ["main", "push"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "push",
        "MODEL OWNER/REPO",
        "Publish a model on the Hugging Face Hub in one commit, as config.json and\n"
        "safetensors, after loading it to see that it is whole. The repository is created\n"
        "if there is none. A model without a card, README.md, gets one. Of a card that the\n"
        "repository has already, facts between markers are renewed, and your words stay; no\n"
        "file there is deleted.\n\n"
        "A generator, from which `zoo generate` draws, is published in the same way. It names\n"
        "the tokenizer of its tokens, which needs a repository of its own.\n\n"
        "Log in with `hf auth login` first, or set HF_TOKEN.",
        """
        zoo push ./my-robot alice/my-robot --private
        zoo push ./my-robot alice/my-robot --tag v1.0 -m "Fitted on twice the data"
        zoo push ./my-generator alice/my-generator
        """,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("repo", metavar="OWNER/REPO", help="repository to publish in")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to (default: that of the repository)")
    parser.add_argument("--tag", metavar="NAME", help="tag for the commit; it must not exist yet")
    parser.add_argument("--private", action="store_true", help="create it private; a public one is then refused")
    parser.add_argument(
        "--change-licence", action="store_true", help="let the licence that the card there states become another"
    )
    parser.add_argument("-m", "--message", metavar="TEXT", help="commit message (default: Upload and what it is)")
    parser.add_json()
    push(**parser.values(arguments))


def push(model: str, repo: str, json: bool, message: str | None, **options: Any) -> None:
    """Publish a model, and print where it is."""
    import zoo
    from zoo import checkpoint, hub
    from zoo.hub.card import kind_of

    hub.HubLocation(repo)  # refuses a malformed name before anything is done
    tokenizer = load_any(model)  # what does not load is not published
    options["message"] = message or f"Upload {kind_of(tokenizer)}"
    where = expanded(model)
    if tokenizer.source == str(where) and checkpoint.is_checkpoint(where):
        result = _push_folder(tokenizer, where, repo, options)
    else:
        result = zoo.push(tokenizer, repo, **options)
    if json:
        print_json({"model": tokenizer.name, **dataclasses.asdict(result)})
        return
    if result.card_kept:
        note("the repository's own model card was kept, but for the facts between its markers.")
    address = f"hf://{result.repo_id}@{options['tag'] or result.commit}"
    print_facts(f"published {tokenizer.name}", {"page": result.url, "commit": result.commit, "load it": address})


def _push_folder(tokenizer: Stored, folder: Path, repo: str, options: dict[str, Any]) -> PushResult:
    """Publish a folder of the user's as it is, with a card that stays there if it lacks one."""
    from zoo import hub
    from zoo.hub.card import card_for, write_card

    has_card = (folder / hub.CARD).exists()
    card = write_card(tokenizer, folder, repo)
    try:
        result = hub.push(folder, repo, facts=card_for(tokenizer, repo), **options)
    except BaseException:
        if not has_card:
            card.unlink(missing_ok=True)
        raise
    if not has_card:
        note(f"a model card was written, {card}: complete it on the Hub, where only facts between markers are renewed.")
    return result
