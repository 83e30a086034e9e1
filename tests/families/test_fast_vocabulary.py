"""FAST's tokenizer.json: only what the family writes is read."""

import copy
import json

import pytest
import torch
from motion import smooth

import zoo
from zoo.errors import CheckpointError
from zoo.families.fast import FastConfig, FastTokenizer
from zoo.families.fast.bpe import CoefficientBpe

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.fixture(scope="module")
def text():
    return zoo.load("fast").quantizer.to_json()


CHANGES = {
    "dropout": lambda f: f["model"].update(dropout=0.5),
    "no dropout": lambda f: f["model"].update(dropout=0.0),
    "unknown token": lambda f: f["model"].update(unk_token="!"),
    "prefix": lambda f: f["model"].update(continuing_subword_prefix="##"),
    "suffix": lambda f: f["model"].update(end_of_word_suffix="</w>"),
    "byte fallback": lambda f: f["model"].update(byte_fallback=True),
    "ignored merges": lambda f: f["model"].update(ignore_merges=True),
    "another model": lambda f: f["model"].update(type="WordPiece"),
    "more of the model": lambda f: f["model"].update(max_input_chars_per_word=100),
    "normalizer": lambda f: f.update(normalizer={"type": "Lowercase"}),
    "post-processor": lambda f: f.update(
        post_processor={"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
    ),
    "pre-tokenizer": lambda f: f.update(pre_tokenizer={"type": "Whitespace"}),
    "sequence": lambda f: f.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [LEVEL]}),
    "a space in front": lambda f: f["pre_tokenizer"].update(add_prefix_space=True),
    "decoder": lambda f: f.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "truncation": lambda f: f.update(
        truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    ),
    "padding": lambda f: f.update(padding={"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0}),
    "an added token": lambda f: f.update(added_tokens=[{"id": 5, "content": "!", "special": True}]),
    "an unknown key": lambda f: f.update(extra=1),
    "no vocabulary": lambda f: f["model"].pop("vocab"),
    "vocabulary of a list": lambda f: f["model"].update(vocab=["a"]),
    "an id beyond": lambda f: f["model"]["vocab"].update({"!": 1024}),
    "an id below": lambda f: f["model"]["vocab"].update({"!": -1}),
    "a huge id": lambda f: f["model"]["vocab"].update({"!": 2**70}),
    "an id that is none": lambda f: f["model"]["vocab"].update({"!": 1.5}),
    "a truth for an id": lambda f: f["model"]["vocab"].update({"!": True}),
    "an id twice": lambda f: f["model"]["vocab"].update({"!": 1}),
    "an empty entry": lambda f: f["model"]["vocab"].update({"": f["model"]["vocab"].pop("!")}),
    "merge of the unknown": lambda f: f["model"]["merges"].append(["!", "nothing"]),
    "merge into the unknown": lambda f: f["model"]["merges"].append(["!", "!!!!!!!!!!!!!"]),
    "merge of three": lambda f: f["model"]["merges"].append(["!", "!", "!"]),
    "merge of numbers": lambda f: f["model"]["merges"].append([1, 2]),
    "merge twice": lambda f: f["model"]["merges"].append(f["model"]["merges"][0]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_x6_only_what_the_family_writes_is_read(text, name):
    values = json.loads(text)
    CHANGES[name](values)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        CoefficientBpe(10.0, 1024).load(json.dumps(values))


@pytest.mark.parametrize("bad", ["{", "[]", "null", '{"model": 1, "model": 2}', "[" * 100000])
def test_x6_json_that_is_none(bad):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        CoefficientBpe(10.0, 1024).load(bad)


def test_x6_what_versions_of_the_library_write_is_read(text):
    values = json.loads(text)
    older = copy.deepcopy(values)
    older["model"]["merges"] = [" ".join(pair) for pair in older["model"]["merges"]]
    older["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    del older["model"]["ignore_merges"], older["model"]["byte_fallback"]
    older["post_processor"] = None
    integers = torch.randint(-20, 20, (50, 4, 3), generator=torch.Generator().manual_seed(0))
    ids = []
    for each in (values, older):
        bpe = CoefficientBpe(10.0, 1024)
        bpe.load(json.dumps(each))
        ids.append(bpe.ids(integers))
    assert ids[0] == ids[1]


def test_x6_a_refused_vocabulary_leaves_the_old_one(text):
    tokenizer = FastTokenizer(FastConfig(num_dofs=2, horizon=10, bpe_vocab_size=300)).fit(smooth(5, 50, 2))
    before = tokenizer.quantizer.to_json()
    with pytest.raises(CheckpointError):
        tokenizer.load_assets({"tokenizer.json": text.replace('"dropout":null', '"dropout":0.5').encode()})
    assert tokenizer.quantizer.to_json() == before
