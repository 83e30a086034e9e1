"""Text encoders: one caption's states depend on nothing else, are computed once, and are the same from wherever."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_textok import DIM, WordStates

from zoo import resources
from zoo.components.text import KnownCaptions, Precomputed, build, digest, minilm, padded
from zoo.components.text.t5 import T5
from zoo.errors import CheckpointError, ConfigError, InputError, MissingExtraError

CAPTIONS = ["a red ball", "", "a cat", "two small green boats"]


def test_states_are_padded_and_masked_and_of_each_caption_alone():
    encoder = WordStates()
    states, mask = encoder.encode(CAPTIONS)
    assert states.shape == (4, 6, DIM)
    assert mask.sum(1).tolist() == [5, 2, 4, 6]
    assert not states[~mask].any()
    for row, kept, caption in zip(states, mask, CAPTIONS, strict=True):
        assert torch.equal(row[kept], WordStates().encode([caption]).states[0])
    assert torch.equal(states, states.half().float()), "states are rounded to half precision"


def test_nothing_is_computed_twice_not_even_by_another_process(tmp_path):
    encoder = WordStates(cache=tmp_path)
    first = encoder.encode([*CAPTIONS, *CAPTIONS])
    assert encoder.asked == CAPTIONS
    encoder.encode(CAPTIONS)
    assert encoder.asked == CAPTIONS
    later = WordStates(cache=tmp_path)
    assert torch.equal(later.encode([*CAPTIONS, *CAPTIONS]).states, first.states)
    assert later.asked == []
    other = WordStates(cache=tmp_path)
    other.name, other.cache = "others", Path(tmp_path) / "others"
    other.encode(CAPTIONS[:1])
    assert other.asked == CAPTIONS[:1], "states are those of one encoder"


def test_a_damaged_file_of_the_cache_is_written_anew(tmp_path):
    WordStates(cache=tmp_path).encode(["a cat"])
    (file,) = tmp_path.rglob("*.npy")
    whole = file.read_bytes()
    wrong = np.zeros((2, DIM + 1), dtype=np.float16)
    for damage in (whole[:40], b"", whole[:-3]):
        file.write_bytes(damage)
        encoder = WordStates(cache=tmp_path)
        assert torch.equal(encoder.encode(["a cat"]).states, WordStates().encode(["a cat"]).states)
        assert encoder.asked == ["a cat"]
        assert file.read_bytes() == whole
    np.save(file, wrong)
    assert WordStates(cache=tmp_path).encode(["a cat"]).states.shape[2] == DIM


def test_memory_is_bounded():
    encoder = WordStates()
    encoder._room = 3 * 3 * DIM * 2  # of three captions of three states
    encoder.encode([str(number) for number in range(10)])
    assert len(encoder._remembered) == 3


def test_what_is_too_long_is_refused_or_cut_between_words():
    encoder = WordStates(max_length=5)
    with pytest.raises(InputError, match=r"has 6 tokens, and at most 5 are taken: shorten it, or ask for it to be cut"):
        encoder.encode(["one two three four"])
    assert encoder.fitted("one  two three four five") == "one two three"
    assert encoder.fitted("one  two") == "one  two"
    assert torch.equal(
        encoder.encode(["one two three four"], cut=True).states, encoder.encode(["one two three"]).states
    )
    with pytest.raises(InputError, match="first word"):
        WordStates(max_length=2).fitted("one two")
    with pytest.raises(InputError, match="a caption is a text"):
        encoder.encode([7])


def test_states_that_are_no_numbers_are_refused():
    class Overflows(WordStates):
        def _states(self, caption):
            return super()._states(caption) * 1e6

    with pytest.raises(InputError, match="finite ones"):
        Overflows().encode(["a cat"])


def test_padding_has_room_for_one():
    states, mask = padded([torch.zeros(0, 3)], 3)
    assert states.shape == (1, 1, 3)
    assert not mask.any()


class TestPrecomputed:
    def known(self):
        return KnownCaptions.of(WordStates(), CAPTIONS)

    def test_a_file_says_what_the_encoder_said(self, tmp_path):
        known = self.known()
        (tmp_path / "states.safetensors").write_bytes(known.to_bytes())
        encoder = build({"kind": "precomputed", "dim": DIM, "file": str(tmp_path / "states.safetensors")}, 8)
        assert torch.equal(encoder.encode(CAPTIONS).states, WordStates().encode(CAPTIONS).states)
        assert encoder.name == "words"
        assert encoder.known.captions == tuple(CAPTIONS)
        assert encoder.known.to_bytes() == known.to_bytes()

    def test_other_captions_are_refused_with_near_ones(self):
        encoder = Precomputed(self.known(), DIM, 8)
        with pytest.raises(InputError, match=r"no states of the caption 'a red bal' here.*did you mean 'a red ball'"):
            encoder.encode(["a red bal"])
        with pytest.raises(InputError, match="has 6 tokens"):
            Precomputed(self.known(), DIM, 5).encode(["two small green boats"])
        with pytest.raises(CheckpointError, match="must be 7 wide"):
            Precomputed(self.known(), 7)

    def test_damage_is_refused(self, tmp_path):
        content = self.known().to_bytes()
        for damaged in (b"", content[:30], content[:-5], b"\x00" * 40):
            with pytest.raises(CheckpointError):
                KnownCaptions.from_bytes(damaged)

        def file(told=None, **rows):
            about = torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)
            save_file({**({} if told is None else {"about": about}), **rows}, tmp_path / "x.safetensors")
            return KnownCaptions.from_file(tmp_path / "x.safetensors")

        told = {"encoder": "words", "captions": ["a"]}
        row = torch.zeros(2, 3, dtype=torch.float16)
        assert len(file(told, x=row)) == 1
        for bad in (None, [], {"encoder": 3, "captions": []}, {"encoder": "", "captions": [3]}):
            with pytest.raises(CheckpointError):
                file(bad, x=row)
        for rows in ({"x": row.float()}, {"x": row, "y": row[:, :2].clone()}, {"x": row[0].clone()}, {"x": row / 0}):
            with pytest.raises(CheckpointError):
                file(told, **rows)
        with pytest.raises(CheckpointError, match="is not a file"):
            KnownCaptions.from_file(tmp_path / "y")


class TestMiniLM:
    """The released weights are not in the repository; an equally shaped network stands in where numbers matter not."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        tokenizers = pytest.importorskip("tokenizers")
        folder = tmp_path_factory.mktemp("minilm")
        words = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "cat": 3, "a": 4}, unk_token="[UNK]")
        )
        words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        words.post_processor = tokenizers.processors.TemplateProcessing(
            "[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)]
        )
        words.save(str(folder / "tokenizer.json"))
        torch.manual_seed(0)
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            vocab_size=5,
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            initializer_range=0.1,
        )
        network = transformers.BertModel(config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        save_file(network.state_dict(), folder / "model.safetensors")
        return folder, network

    def test_it_is_the_bert_that_others_run(self, folder):
        place, network = folder
        encoder = minilm.MiniLM(place)
        states, mask = encoder.encode(["a cat a cat", "cat"])
        assert mask.sum(1).tolist() == [6, 3]
        with torch.no_grad():
            expected = network(torch.tensor([[1, 4, 3, 4, 3, 2]])).last_hidden_state[0]
        torch.testing.assert_close(states[0], expected, rtol=1e-3, atol=1e-3)  # rounded to half precision
        torch.testing.assert_close(encoder._states("a cat a cat"), expected, rtol=1e-5, atol=1e-5)
        assert not any(parameter.requires_grad for parameter in encoder._network.parameters())

    def test_without_it_an_error_says_what_to_do(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(minilm, "_PACKAGE", "there_is_no_such_package")
        with pytest.raises(CheckpointError, match="`zoo data minilm` fetches it"):
            build({"kind": "minilm"})
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[text\]"):
            build({"kind": "minilm"})

    def test_it_is_looked_for_in_the_cache(self, folder, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        resources.cache().mkdir(parents=True)
        (resources.cache() / "minilm").symlink_to(folder[0])
        assert minilm.find() == resources.cache() / "minilm"


class TestT5:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        transformers = pytest.importorskip("transformers")
        tokenizers = pytest.importorskip("tokenizers")
        folder = tmp_path_factory.mktemp("t5")
        words = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"<unk>": 0, "</s>": 1, "cat": 2, "a": 3}, unk_token="<unk>")
        )
        words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        words.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>")
        fast.save_pretrained(folder)
        torch.manual_seed(0)
        config = transformers.T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        transformers.T5EncoderModel(config).save_pretrained(folder)
        return folder

    def test_states_are_those_of_the_encoder(self, folder):
        encoder = build({"kind": "t5", "model": str(folder), "dim": 16, "dtype": "float32"}, 4)
        assert isinstance(encoder, T5)
        states, mask = encoder.encode(["a cat", "cat"])
        assert states.shape == (2, 3, 16)
        assert mask.sum(1).tolist() == [3, 2]
        assert torch.equal(states[1, :2], encoder.encode(["cat"]).states[0])
        with pytest.raises(InputError, match="has 5 tokens"):
            encoder.encode(["a cat a cat"])
        in_bf16 = build({"kind": "t5", "model": str(folder), "dim": 16}, 4).encode(["a cat"]).states
        assert 0 < (in_bf16 - states[:1]).abs().max() < 0.1

    def test_half_precision_and_other_widths_are_refused(self, folder):
        with pytest.raises(ConfigError, match="16 wide, and 2048 is expected"):
            T5(str(folder))
        with pytest.raises(ConfigError, match="overflows in float16"):
            T5(str(folder), 16, dtype="float16")
        with pytest.raises(ConfigError, match="dtype"):
            build({"kind": "t5", "dtype": "float16"})

    def test_a_missing_one_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(CheckpointError, match="pass states instead of captions"):
            T5(str(tmp_path / "nothing"), 16)


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="one of t5, minilm, precomputed"):
        build({"kind": "clip"})
    with pytest.raises(ConfigError, match="dim must be"):
        build({"kind": "precomputed", "dim": 0})


def test_a_digest_is_that_of_the_text():
    assert digest("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert len({digest(text) for text in ("a", "a ", "A", "")}) == 4
