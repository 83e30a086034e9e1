"""Rows of items by name, and statistics of them."""

import math

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.metrics.bootstrap import bootstrap_interval
from zoo.metrics.rows import bootstrap_rows, columns, mean_of, ratio

ROWS = [{"edits": 1, "tokens": 10}, {"edits": 4, "tokens": 8}, {"edits": 0, "tokens": 2}]


def test_columns():
    found = columns(ROWS)
    assert {name: column.tolist() for name, column in found.items()} == {"edits": [1, 4, 0], "tokens": [10, 8, 2]}
    assert columns([]) == {}


def test_rows_of_other_names_are_refused():
    with pytest.raises(InputError, match="tokens"):
        columns([ROWS[0], {"edits": 1}])
    with pytest.raises(InputError, match="words"):
        columns([ROWS[0], ROWS[1] | {"words": 2}])


def test_the_order_of_names_makes_no_difference():
    assert columns([ROWS[0], dict(reversed(ROWS[1].items()))])["edits"].tolist() == [1, 4]


def test_statistics():
    found = columns(ROWS)
    assert ratio("edits", "tokens", 100)(found) == 25
    assert mean_of("edits")(found) == pytest.approx(5 / 3)
    assert math.isnan(ratio("edits", "tokens")(columns([{"edits": 1, "tokens": 0}])))
    assert math.isnan(mean_of("edits")({"edits": np.zeros(0)}))


def test_the_bootstrap_is_that_of_the_table():
    table = [[row["edits"], row["tokens"]] for row in ROWS]
    expected = bootstrap_interval(table, lambda r: r[:, 0].sum() / r[:, 1].sum(), num_resamples=200)
    assert bootstrap_rows(ROWS, ratio("edits", "tokens"), num_resamples=200) == expected
