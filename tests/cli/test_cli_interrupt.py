"""Ctrl-C before the command has begun: while its modules are being imported."""

import children
import pytest

# A module that interrupts whoever imports it, as Ctrl-C would at that moment.
INTERRUPTING = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.argv = ["zoo", "fit", "--config", "recipes/stabletoken/nano.yaml"]
import runpy
runpy.run_module("zoo.cli", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["zoo.cli._output", "zoo.cli.training", "lightning"])
def test_an_interrupt_while_importing_is_told(name):
    done = children.run(INTERRUPTING.format(name=name))
    assert (done.returncode, done.stderr) == (130, "zoo: interrupted.\n")
