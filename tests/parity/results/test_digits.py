"""A number never reads as another one that it is not."""

import math

import pytest

from parity.results.digits import told, told_apart


@pytest.mark.parametrize(
    "value, faithful, text",
    [
        (1.25, 1.0, "1.25"),
        (1.0000001, 1.0, "1.0000001"),
        (0.99999, 1.0, "0.99999"),
        (1 + 1e-9, 1.0, None),
        (1.0, 1.0, None),
        (0.00100001, 0.001, "0.00100001"),
        (1e-12, 0.0, "1e-12"),
        (math.nan, 1.0, None),
        (math.inf, 1.0, None),
    ],
)
def test_a_number_is_told_with_the_digits_that_it_needs(value, faithful, text):
    assert told(value, faithful) == text


def test_two_numbers_are_told_apart():
    assert told_apart(0.32, 0.5) == ("0.32", "0.5")
    assert told_apart(0.33333334, 0.33333331) == ("0.33333334", "0.33333331")
    assert told_apart(0.5, 0.5) == ("0.5", "0.5")
