"""What other packages bring: quantizers and names of models, through entry points of a really installed package."""

import json
import textwrap
from pathlib import Path

import children

PACKAGE = """
from dataclasses import dataclass
from typing import Literal
import torch
import zoo
from zoo.components.quantizers import Quantizer, QuantizerConfig, StageConfig
from zoo.errors import ConfigError

@dataclass(frozen=True)
class SignConfig(StageConfig):
    dim: int
    kind: Literal["sign"] = "sign"

    def __post_init__(self):
        if not 1 <= self.dim <= 30:
            raise ConfigError(f"sign: dim must be from 1 to 30, got {self.dim}.")

class Sign(Quantizer):
    config_class = SignConfig

    def __init__(self, config):
        super().__init__(config.dim, 2**config.dim)
        self.config = config
        self.register_buffer("powers", 2 ** torch.arange(config.dim), persistent=False)

    def codes(self, ids):
        return ((ids[..., None] // self.powers) % 2 * 2 - 1).float()

    def _ids(self, rows):
        return ((rows > 0).long() * self.powers).sum(-1)

    def _quantize(self, rows, valid, generator):
        ids = self._ids(rows)
        return rows + (self.codes(ids) - rows).detach(), ids, {}

class NoConfig(Quantizer):
    pass

def entry(name, source, **more):
    return zoo.ModelEntry(name, "beast", "action", source, "MIT", "Mine.", "nothing", 0, **more)

MODELS = [entry("beast.plugged", "FOLDER"), entry("beast.hub", "hf://me/mine")]
BAD = [entry("beast.default", "FOLDER")]
RELATIVE = entry("beast.relative", "some_folder")
DEFAULT = entry("beast.own", "FOLDER", is_default=True)
"""
POINTS = """
[zoo.quantizers]
sign = plugged:Sign
fsq = plugged:NoConfig
bare = plugged:NoConfig
other = plugged:Sign
broken = plugged:Nothing
[zoo.models]
mine = plugged:MODELS
bad = plugged:BAD
relative = plugged:RELATIVE
second = plugged:DEFAULT
broken = plugged:Nothing
"""
USE = """
import json, sys, warnings
sys.path[:0] = [HERE, HELPERS]
import torch, zoo
from zoo.components.quantizers import FSQ, build, kinds, parse, quantizer_class
from zoo.config import to_dict
from tiny_stabletoken import make, speech
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    models = zoo.list_models("beast")
told = sorted(str(warning.message) for warning in caught)
results = {"models": models, "warnings": told, "kinds": kinds(), "own": quantizer_class("fsq") is FSQ}
def message(call):
    try:
        call()
    except zoo.ZooError as error:
        return f"{type(error).__name__}: {error}"
for name in ("bare", "other", "broken"):
    results[name] = message(lambda: build({"kind": name}))
results["values"] = message(lambda: parse({"kind": "sign", "dim": 99}))
results["key"] = message(lambda: parse({"kind": "sign", "width": 9}))
results["stage"] = message(lambda: parse({"kind": "residual", "num_stages": 2, "stage": {"kind": "none", "dim": 3}}))
residual = build({"kind": "residual", "num_stages": 2, "scale": 0.5, "stage": {"kind": "sign", "dim": 4}})
results["residual"] = [residual.codebook_size, residual.ids(torch.ones(4)).tolist()]
tok = make(quantizer=parse({"kind": "residual", "num_stages": 2, "stage": {"kind": "sign", "dim": 4}}))
again = zoo.load(zoo.save(tok, HERE + "/saved", name="stabletoken.plugged"))
results["config"] = to_dict(again.config)["quantizer"]
results["same"] = again.encode(speech(3000)).tolist() == tok.encode(speech(3000)).tolist()
zoo.save(zoo.load("beast"), HERE + "/model", name="beast.plugged")
results["loaded"] = zoo.load("beast.plugged").name
results["default"] = zoo.load("beast").name
print(json.dumps(results))
"""


def test_p2_another_package_brings_quantizers_and_models(tmp_path):
    package = textwrap.dedent(PACKAGE).replace("FOLDER", str(tmp_path / "model"))
    (tmp_path / "plugged.py").write_text(package)
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    helpers = Path(__file__).parent / "helpers"
    code = f"HERE, HELPERS = {str(tmp_path)!r}, {str(helpers)!r}\n{USE}"
    # What is named must be there when names are first asked for.
    (tmp_path / "model").mkdir()
    done = children.run(code)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert {"sign", "bare", "fsq"} <= set(results["kinds"])
    assert results["own"] is True
    assert "must name a Quantizer whose config_class is a QuantizerConfig with the kind 'bare'" in results["bare"]
    assert "with the kind 'other'" in results["other"]
    assert "cannot be imported from 'plugged:Nothing' (AttributeError" in results["broken"]
    assert results["values"] == "ConfigError: sign: dim must be from 1 to 30, got 99."
    assert "has the unknown key 'width'" in results["key"]
    assert "stage must be of kind fsq, lfq, " in results["stage"]
    assert results["residual"] == [16, [15, 0]]
    assert results["config"]["stage"] == {"dim": 4, "kind": "sign"}
    assert results["same"] is True
    assert {"beast.default", "beast.plugged", "beast.hub"} <= set(results["models"])
    assert not {"beast.relative", "beast.own"} & set(results["models"])
    assert results["loaded"] == "beast.plugged"
    assert results["default"] == "beast.default"
    assert [text.split("(")[0] for text in results["warnings"]] == [
        f"ignoring the zoo.models entry point {name!r} " for name in ("bad", "broken", "relative", "second")
    ]
