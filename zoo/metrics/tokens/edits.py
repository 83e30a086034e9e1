"""How much of a sequence has changed: edit distance of token ids, words and characters.

The distance is Levenshtein's: the fewest insertions, deletions and substitutions that make one sequence of another. All
rates are percentages of the reference's length, can exceed 100, and are float64: the edits of all items over the length
of all items (micro-average), so that long items weigh more. Given the items' languages they are the plain mean of
the languages' rates instead, as in StableToken's paper, so that none outweighs another. Without anything in the
reference they are NaN.
"""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import InputError, near_matches
from zoo.tokens import Tokens

__all__ = [
    "CharacterErrorRate",
    "WordErrorRate",
    "character_edits",
    "character_error_rate",
    "edit_distance",
    "normalize_text",
    "unit_edit_distance",
    "unit_edits",
    "word_edits",
    "word_error_rate",
]

Units = Tokens | Sequence[Tensor] | Sequence[Sequence[int]]


def edit_distance(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Return Levenshtein's distance of two sequences.

    A whole row of the table of distances, as differences of one bit, is one Python integer, so that the cost is that of
    a few operations on integers an element: about 0.5 ms for twice 500 ids. Source: Myers 1999, as Hyyrö 2003 has it.

    Example:
        >>> edit_distance("sitting", "kitten")
        3
    """
    if not reference:
        return len(hypothesis)
    places: dict[Hashable, int] = {}
    for number, element in enumerate(reference):
        places[element] = places.get(element, 0) | 1 << number
    last = 1 << len(reference) - 1
    full = (last << 1) - 1
    distance = len(reference)
    # Bit j of `rises` and `falls`: whether the distance to the first j + 1 elements is one more or less than to j.
    rises, falls = full, 0
    for element in hypothesis:
        same = places.get(element, 0)
        diagonal = (((same & rises) + rises) ^ rises) | same | falls  # no more than the cell before, in both sequences
        up, down = falls | full & ~(diagonal | rises), rises & diagonal  # against the last element's distances
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        rises, falls = full & (down | ~(diagonal | up)), up & diagonal
    return distance


def normalize_text(text: str) -> str:
    """Return text as it is compared: only letters, digits and single spaces, in lower case.

    Unicode's compatible forms are one (NFKC), apostrophes are dropped, so that "don't" stays a word, and all other
    punctuation and symbols separate words. Numbers are not spelled out.

    Example:
        >>> normalize_text("“Well-known”, she said:  I don’t…")
        'well known she said i dont'
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if character not in "'’‘ʼ" and category != "Cf":  # these are soft hyphens, joiners and the like
            kept.append(" " if category[0] in "PSCZ" else character)
    # Composed again, since an accent may now stand beside its letter.
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def unit_edits(noisy: Units, clean: Units) -> Tensor:
    """Return edits and clean length of every utterance, int64 [N, 2].

    Args:
        noisy: Tokens of N disturbed utterances: `Tokens`, or N sequences of ids [T], or [T, K] for K codebooks.
        clean: Tokens of the same utterances undisturbed.

    Returns:
        The distance of the ids as they are, repeated ones included, and their number. Those of several codebooks are
        the sums over codebooks.

    Raises:
        InputError: The numbers of utterances or codebooks differ.
    """
    pairs = _paired(_sequences(noisy), _sequences(clean))
    counts = []
    for number, (hypothesis, reference) in enumerate(pairs):
        if hypothesis and reference and len(hypothesis) != len(reference):
            raise InputError(f"utterance {number} has {len(hypothesis)} and {len(reference)} codebooks.")
        books = max(len(hypothesis), len(reference))
        padded = (side or [[]] * books for side in (hypothesis, reference))
        edits = sum(edit_distance(*columns) for columns in zip(*padded, strict=True))
        counts.append((edits, sum(map(len, reference))))
    return torch.tensor(counts, dtype=torch.int64).reshape(-1, 2)


def unit_edit_distance(noisy: Units, clean: Units, languages: Sequence[str] | None = None) -> Tensor:
    """Return StableToken's measure of how unstable tokens are (UED) in percent.

    Repeated ids stay repeated, other than in NAST, where the measure comes from.

    Args:
        noisy: Tokens of N disturbed utterances, as in `unit_edits`.
        clean: Tokens of the same utterances undisturbed.
        languages: N names.

    Raises:
        InputError: The numbers of utterances, codebooks or languages differ.
    """
    return _rate(unit_edits(noisy, clean), languages)


def word_edits(hypotheses: Sequence[str], references: Sequence[str]) -> Tensor:
    """Return edits and words of each reference, int64 [N, 2], after `normalize_text`: what `word_error_rate` sums.

    Raises:
        InputError: The numbers of texts differ.
    """
    return _text_edits(hypotheses, references, _words)


def character_edits(hypotheses: Sequence[str], references: Sequence[str]) -> Tensor:
    """Return edits and characters of each reference, int64 [N, 2], as `character_error_rate` sums them.

    Raises:
        InputError: The numbers of texts differ.
    """
    return _text_edits(hypotheses, references, _characters)


def word_error_rate(
    hypotheses: Sequence[str], references: Sequence[str], languages: Sequence[str] | None = None
) -> Tensor:
    """Return the errors in words (WER) in percent, after `normalize_text`.

    Args:
        hypotheses: N texts.
        references: N texts.
        languages: N names.

    Raises:
        InputError: The numbers of texts or languages differ.
    """
    return _rate(word_edits(hypotheses, references), languages)


def character_error_rate(
    hypotheses: Sequence[str], references: Sequence[str], languages: Sequence[str] | None = None
) -> Tensor:
    """Return the errors in characters (CER) in percent, after `normalize_text` and without spaces.

    Spaces do not count, since the languages that are measured in characters do not write them.

    Args:
        hypotheses: N texts.
        references: N texts.
        languages: N names.

    Raises:
        InputError: The numbers of texts or languages differ.
    """
    return _rate(character_edits(hypotheses, references), languages)


class _EditRate(Metric):
    """A rate over a data set; subclasses count a batch's edits.

    Args:
        languages: All that will be seen, for the mean of their rates; those never seen are left out of it. Without
            any, languages make no difference.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    counts: Tensor

    def __init__(self, languages: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.languages = tuple(languages)
        rows = max(1, len(self.languages))
        self.add_state("counts", torch.zeros(rows, 2, dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def _count(self, hypotheses: Any, references: Any) -> Tensor:
        """Return edits and reference length of each item, [N, 2]."""

    def update(self, hypotheses: Any, references: Any, languages: Sequence[str] | None = None) -> None:
        """Add items; arguments as in the function of the same name.

        Raises:
            InputError: As there, or a language was not declared.
        """
        counts = self._count(hypotheses, references).to(self.counts.device)
        if not self.languages:
            self.counts = self.counts + counts.sum(0)
            return
        if languages is None:
            raise InputError(f"this metric is a mean over {', '.join(self.languages)}: give the items' languages.")
        for row, language in zip(counts, _checked(languages, len(counts)), strict=True):
            if language not in self.languages:
                raise InputError(f"the language {language!r} is not declared: {near_matches(language, self.languages)}")
            self.counts[self.languages.index(language)] += row

    def compute(self) -> Tensor:
        """Return the rate of all items so far, in percent."""
        return _mean(self.counts)


class WordErrorRate(_EditRate):
    """`word_error_rate` over a data set."""

    def _count(self, hypotheses: Sequence[str], references: Sequence[str]) -> Tensor:
        return word_edits(hypotheses, references)


class CharacterErrorRate(_EditRate):
    """`character_error_rate` over a data set."""

    def _count(self, hypotheses: Sequence[str], references: Sequence[str]) -> Tensor:
        return character_edits(hypotheses, references)


def _words(text: str) -> list[str]:
    return normalize_text(text).split()


def _characters(text: str) -> str:
    return normalize_text(text).replace(" ", "")


def _text_edits(
    hypotheses: Sequence[str], references: Sequence[str], split: Callable[[str], Sequence[Hashable]]
) -> Tensor:
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise InputError("texts are compared by the list: write [text], not text.")
    counts = []
    for hypothesis, reference in _paired(hypotheses, references):
        elements = split(reference)
        counts.append((edit_distance(split(hypothesis), elements), len(elements)))
    return torch.tensor(counts, dtype=torch.int64).reshape(-1, 2)


def _sequences(units: Units) -> list[list[list[int]]]:
    """Return the ids of each utterance and codebook."""
    if isinstance(units, Tokens):
        rows = [ids[:length] for ids, length in zip(units.ids, units.lengths.tolist(), strict=True)]
    else:
        rows = [ids if isinstance(ids, Tensor) else torch.tensor(ids, dtype=torch.int64) for ids in units]
    columns = []
    for row in rows:
        if row.ndim not in (1, 2) or row.is_floating_point():
            raise InputError(f"ids of an utterance are integers [T] or [T, K], got {row.dtype} {list(row.shape)}.")
        columns.append(row.reshape(len(row), -1 if len(row) else 1).T.tolist())
    return columns


def _paired(hypotheses: Sequence[Any], references: Sequence[Any]) -> zip[tuple[Any, Any]]:
    if len(hypotheses) != len(references):
        raise InputError(f"there are {len(hypotheses)} items to compare with {len(references)} references.")
    return zip(hypotheses, references, strict=True)


def _checked(languages: Sequence[str], count: int) -> Sequence[str]:
    if len(languages) != count:
        raise InputError(f"there are {len(languages)} languages for {count} items.")
    return languages


def _rate(counts: Tensor, languages: Sequence[str] | None) -> Tensor:
    if languages is None:
        return _mean(counts.sum(0, keepdim=True))
    names = sorted(set(_checked(languages, len(counts))))
    rows = torch.tensor([names.index(language) for language in languages], dtype=torch.int64)
    return _mean(counts.new_zeros(max(1, len(names)), 2).index_add(0, rows, counts))


def _mean(counts: Tensor) -> Tensor:
    """Return the mean rate of the rows with anything in the reference."""
    seen = counts[counts[:, 1] > 0].double()
    return 100 * (seen[:, 0] / seen[:, 1]).mean()
