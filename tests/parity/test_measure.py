"""Measuring is exact, in bounded memory, and never lets a NaN pass for agreement."""

import math

import numpy as np
import pytest

from parity import measure
from parity.measure import difference, unit_roundoff


def test_figures_of_a_known_difference():
    reference = np.array([[3.0, -4.0], [0.0, 0.0]], np.float32)
    candidate = np.array([[3.0, -4.5], [0.0, 1.0]], np.float32)
    result = difference(reference, candidate)
    assert result.rms == pytest.approx(2.5)
    assert result.rms_difference == pytest.approx(math.sqrt(1.25) / 2)
    assert result.max_difference == 1.0
    assert result.max_index == (1, 1)
    assert result.relative_max == pytest.approx(0.4)
    assert result.relative_rms == pytest.approx(math.sqrt(1.25) / 5)
    assert result.roundings is None
    assert result.finite and not result.constant


def test_roundings_are_counted_on_the_gauge():
    reference = np.array([1.0, 1.0], np.float32)
    candidate = reference + np.array([2**-20, 2**-22], np.float32)
    gauge = np.array([8.0, 0.5], np.float32)
    result = difference(reference, candidate, gauge)
    # 2**-20 is 16 units in the last place of one but 2 roundings of 8; 2**-22 is 8 of a half.
    assert result.roundings == pytest.approx(8)
    assert result.roundings_index == (1,)
    assert unit_roundoff(np.dtype(np.float32)) == 2**-24
    assert unit_roundoff(np.dtype(np.float64)) == 2**-53


def test_a_difference_on_a_zero_gauge_is_infinite():
    zero = np.zeros(3, np.float32)
    assert difference(zero, zero, zero).roundings == 0
    assert difference(zero, zero + np.float32(1e-20), zero).roundings == math.inf
    assert difference(zero, zero + 1).relative_max == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [0, 700, 999])
def test_nan_and_infinity_are_never_finite(bad, side, place, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", 300)
    arrays = [np.linspace(1, 2, 1000, dtype=np.float32) for _ in range(2)]
    arrays[side][place] = bad
    assert not difference(*arrays).finite
    assert not difference(*arrays, np.ones(1000, np.float32)).finite


def test_nan_on_both_sides_is_not_agreement():
    both = np.full(4, np.nan, np.float32)
    assert not difference(both, both).finite


def test_the_same_in_any_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    reference, candidate, gauge = (
        rng.standard_normal((2, 31, 17, 5)).astype(np.float32) for _ in range(3)
    )
    whole = difference(reference, candidate, np.abs(gauge))
    monkeypatch.setattr(measure, "_CHUNK", 97)
    parts = difference(reference, candidate, np.abs(gauge))
    assert parts.max_index == whole.max_index
    assert parts.roundings_index == whole.roundings_index
    assert parts.max_difference == whole.max_difference
    assert parts.rms == pytest.approx(whole.rms, rel=1e-6)
    where = whole.max_index
    assert whole.max_difference == abs(float(candidate[where]) - float(reference[where]))


def test_constant_tensors_are_marked():
    constant = np.full((2, 3), 7.0, np.float32)
    assert difference(constant, constant).constant
    constant[1, 2] = 7.5
    assert not difference(constant, constant).constant


def test_other_shapes_are_no_comparison():
    array = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError):
        difference(array, array.T)


def test_against_a_more_precise_value_units_are_the_candidates():
    exact = np.array([1.0 + 2**-30])
    rounded = exact.astype(np.float32)
    assert difference(exact, rounded, np.ones(1, np.float32)).roundings == pytest.approx(2**-6)


@pytest.mark.parametrize("gauge", [np.inf, np.nan, -np.inf])
def test_a_gauge_that_overflows_allows_nothing(gauge):
    reference = np.array([1.0, 2.0], np.float32)
    scale = np.array([gauge, 1.0], np.float32)
    candidate = reference + np.array([1e-3, 0], np.float32)
    assert difference(reference, candidate, scale).roundings == math.inf
    assert difference(reference, reference, scale).roundings == 0


def test_large_values_do_not_overflow_the_rms():
    large = np.array([3e25, -4e25], np.float32)
    assert difference(large, large * np.float32(1.5)).relative_rms == pytest.approx(0.5)
