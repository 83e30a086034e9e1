"""A file from a spool is the file that is written of all tokens at once, and what cannot be in one file is refused."""

from dataclasses import replace

import pytest
import torch
import toy

from zoo import tokenfile
from zoo.errors import ConfigError, TokenError
from zoo.tokenfile import tables
from zoo.tokenfile.spool import spooling
from zoo.tokens import Conditions, Tokens


def batches(modality, conditions=None):
    tok = toy.make(modality)
    parts = [tok.encode(toy.signals(modality, count, seed=count)) for count in (2, 1, 3)]
    if conditions is not None:
        parts = [replace(part, conditions=conditions(len(part))) for part in parts]
    return tok, parts


def names_of(parts):
    return [[f"{number}.{item}" for item in range(len(part))] for number, part in enumerate(parts)]


def fill(spool, parts, rate=None):
    spool.go_on([lambda number=number: f"part {number}" for number in range(len(parts))])
    for number, (part, names) in enumerate(zip(parts, names_of(parts), strict=True), 1):
        spool.append(part, names, [rate] * len(part), inputs=number)


def captions(count):
    return Conditions(tuple(f"picture {number}" for number in range(count)))


def states(count):
    mask = torch.arange(4) < torch.arange(1, count + 1)[:, None]
    return Conditions(captions(count).captions, torch.rand(count, 4, 5, generator=torch.Generator()), mask)


@pytest.mark.parametrize("suffix", [tokenfile.SUFFIX, *tables.SUFFIXES])
@pytest.mark.parametrize(
    ("modality", "conditions", "rate"),
    [("speech", None, 16000.0), ("image", captions, None), ("image", states, None), ("video", None, 12.5)],
)
def test_it_is_the_same_file(suffix, modality, conditions, rate, tmp_path):
    tok, parts = batches(modality, conditions)
    with spooling(tmp_path / "x", tok, {}) as spool:
        fill(spool, parts, rate)
        write = tokenfile.write if suffix == tokenfile.SUFFIX else tables.save
        write(tmp_path / f"a{suffix}", spool.contents())
    tokens = Tokens.cat(parts)
    names = [name for part in names_of(parts) for name in part]
    whole = tokenfile.collect(tokens, tok, names, rates=[rate] * len(tokens))
    write(tmp_path / f"b{suffix}", whole.contents())
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]
    if suffix == tokenfile.SUFFIX:
        assert tokenfile.load(tmp_path / "a.zoo").tokens.equal(tokens)


def test_what_cannot_be_in_one_file_is_refused_when_it_comes(tmp_path):
    tok, (first, second, _) = batches("image")
    other = replace(toy.make("image").encode(toy.signals("image", 1)), model="toy_image.s9")
    bad = [
        (replace(second, grid=(4, 1)), TokenError, r"\(2, 2\) \(0.0\) and \(4, 1\) \(b\)"),
        (replace(second, conditions=captions(1)), TokenError, "conditions of one kind"),
        (other, TokenError, "made by 'toy_image.s9'"),
    ]
    with spooling(tmp_path / "x", tok, {}) as spool:
        fill(spool, [first])
        for tokens, error, message in bad:
            with pytest.raises(error, match=message):
                spool.append(tokens, ["b"], [None], inputs=1)
        assert spool.contents().ids.tolist() == first.ids.flatten().tolist()


def test_a_continuous_tokenizer_has_nothing_to_spool(tmp_path):
    tok = toy.make("image")
    tok.spec = replace(tok.spec, codebook_size=None, latent_dim=3)
    with pytest.raises(ConfigError, match="encode_latents"), spooling(tmp_path / "x", tok, {}):
        pass
    assert list(tmp_path.iterdir()) == []
