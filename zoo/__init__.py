"""The tokenizer zoo: discrete tokenizers for speech, images, video and robot actions behind one contract.

>>> import zoo
>>> tok = zoo.load("beast")
>>> tok.spec.modality
'action'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo import errors
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.checkpoint import save
    from zoo.hub.publish import push
    from zoo.loading import load, load_generator, training_parts
    from zoo.registry import ModelEntry, info, list_generators, list_models, register
    from zoo.spec import TokenSpec
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Conditions, Latents, Tokens

__version__ = "0.1.0"

__all__ = [
    "Conditions",
    "Latents",
    "ModelEntry",
    "TokenSpec",
    "Tokenizer",
    "Tokens",
    "ZooError",
    "__version__",
    "errors",
    "info",
    "list_generators",
    "list_models",
    "load",
    "load_generator",
    "push",
    "register",
    "save",
    "training_parts",
]

# Resolved on first use, so that `import zoo`, and with it `zoo --help`, does not wait for torch.
_HOMES = {
    "ModelEntry": "zoo.registry",
    "TokenSpec": "zoo.spec",
    "Tokenizer": "zoo.tokenizer",
    "Conditions": "zoo.tokens",
    "Latents": "zoo.tokens",
    "Tokens": "zoo.tokens",
    "info": "zoo.registry",
    "list_generators": "zoo.registry",
    "list_models": "zoo.registry",
    "load": "zoo.loading",
    "load_generator": "zoo.loading",
    "push": "zoo.hub.publish",
    "register": "zoo.registry",
    "save": "zoo.checkpoint",
    "training_parts": "zoo.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
