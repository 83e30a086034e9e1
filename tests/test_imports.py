"""Which package may import which: read from the source, so that imports inside functions count as well."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each may import what stands in a line above it, and itself. `import zoo`, the public face, which resolves its names
# when they are first used, may be imported by all.
ORDER = """
errors
config process strict
resources
spec
tokens
data components
stored
tokenizer
modalities pictures
metrics
registry
checkpoint training
families hub
loading tokenfile
generator
evaluation testing
cli
"""
RANKS = {name: rank for rank, line in enumerate(ORDER.split("\n")) for name in line.split()}


@cache
def modules():
    paths = sorted((ROOT / "zoo").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def nodes(path):
    """All of a file's syntax tree: each file is read by several tests."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported(path):
    """Return the modules that a file imports, and of each whether it does so for type checkers alone."""
    unread = [node for node in nodes(path) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    for_types = {id(node) for block in unread for node in ast.walk(block)}
    known, found = modules(), []
    for node in nodes(path):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{name.name}" for name in node.names]
            names = [name if name in known else node.module for name in names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        found += [(name, id(node) in for_types) for name in names if name in known]
    return found


def part(module):
    return module.split(".")[1] if "." in module else "zoo"


def test_no_import_goes_against_the_order():
    known = modules()
    assert set(map(part, known)) - {"zoo"} == set(RANKS), "a package at the top needs its place in the order"
    wrong = [
        f"{module} imports {name}"
        for module, path in known.items()
        for name, is_for_types in imported(path)
        if "zoo" not in (part(module), part(name)) and not is_for_types
        if part(name) != part(module) and RANKS[part(name)] >= RANKS[part(module)]
    ]
    assert not wrong


@pytest.mark.parametrize("unit", ["module", "package"])
def test_no_imports_go_in_a_circle(unit):
    known = modules()
    name_of = part if unit == "package" else str
    graph = {}
    for module, path in known.items():
        found = {name for name, is_for_types in imported(path) if name != "zoo" and not is_for_types}
        # A package's own names are imported through its __init__, which is no circle of the parts in it.
        found = {name for name in found if not module.startswith(f"{name}.")}
        graph.setdefault(name_of(module), set()).update(map(name_of, found))
    for name, found in graph.items():
        found.discard(name)
    graph.pop("zoo", None)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def test_components_know_no_family():
    families = {path.name for path in (ROOT / "zoo" / "families").iterdir() if (path / "__init__.py").exists()}
    assert {"beast", "stabletoken"} <= families
    for module, path in modules().items():
        if part(module) == "components":
            assert not [name for name, _ in imported(path) if part(name) == "families"], module


def test_commands_and_suites_ask_tokenizers_and_know_no_family():
    families = {path.name for path in (ROOT / "zoo" / "families").iterdir() if (path / "__init__.py").exists()}
    for folder in ("cli", "evaluation"):
        for path in (ROOT / "zoo" / folder).rglob("*.py"):
            for node in nodes(path):
                where = f"{path}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    assert called.rpartition(".")[2] != "signature" or "load" in ast.unparse(node), where
                    assert called not in ("getattr", "hasattr") or "tokenizer" not in ast.unparse(node.args[0]), where
                if isinstance(node, (ast.Compare, ast.Dict, ast.Subscript, ast.Match)):
                    parts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                    assert not families & {part for part in parts if isinstance(part, str)}, where
                if isinstance(node, ast.ImportFrom):
                    assert not (node.module or "").startswith("zoo.families"), where


def test_what_suites_share_knows_no_suite():
    """Suites are registered in `zoo.evaluation.kinds` by name, and imported when one is asked for."""
    known = modules()
    inside = "zoo.evaluation.suites."
    found = {m: [name for name, _ in imported(path) if name.startswith(inside)] for m, path in known.items()}
    assert found["zoo.evaluation.suites.stab.runner"], "suites import their own parts"
    for module, names in found.items():
        if module.startswith(inside):
            own = inside + module.removeprefix(inside).split(".")[0]
            assert all(name == own or name.startswith(f"{own}.") for name in names), module
        else:
            assert not names, module
