"""Measuring is exact, in bounded memory, and never lets a NaN pass for agreement."""

import itertools
import math

import numpy as np
import pytest

from parity.judge import measure
from parity.judge.measure import difference, three_way, unit_roundoff


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


def arrays(*shape, seed=0):
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(shape)
    gauge = np.abs(rng.standard_normal(shape)).astype(np.float32) + 1
    ours, theirs = ((exact + 1e-6 * rng.standard_normal(shape)).astype(np.float32) for _ in "ab")
    return exact, gauge, ours, theirs


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 17])
def test_three_ways_are_three_differences(chunk, monkeypatch):
    exact, gauge, ours, theirs = arrays(2, 5, 3, 8)
    expected = [difference(theirs, ours, gauge), difference(exact, ours, gauge)]
    expected.append(difference(exact, theirs, 2 * gauge))
    monkeypatch.setattr(measure, "_CHUNK", chunk)
    found = three_way(exact, gauge, ours, theirs, 2 * gauge)
    for one, other in zip((found.own, found.candidate, found.reference), expected, strict=True):
        assert (one.max_index, one.roundings_index) == (other.max_index, other.roundings_index)
        assert one.max_difference == other.max_difference
        assert one.roundings == pytest.approx(other.roundings)
        assert one.rms == pytest.approx(other.rms)
    assert found.largest_gauge == pytest.approx(gauge.max() / np.sqrt(np.mean(exact**2)))
    assert (found.constant_channels, found.saturated) == (0, False)
    # Units are those of the sides, whatever the exact value's type is.
    assert found.candidate.roundings > 1


def test_a_side_may_be_missing():
    exact, gauge, ours, theirs = arrays(1, 3, 3, 4)
    found = three_way(exact, gauge, None, theirs)
    assert found.own is None and found.candidate is None
    assert found.reference == three_way(exact, gauge, ours, theirs).reference
    found = three_way(exact, gauge, ours, None)
    assert found.own is None and found.reference is None
    neither = three_way(exact, gauge, None, None)
    assert (neither.own, neither.candidate, neither.reference) == (None, None, None)
    assert neither.largest_gauge == found.largest_gauge


@pytest.mark.parametrize("chunk", [4, 1 << 17])
def test_constant_channels_are_counted(chunk, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", chunk)
    exact, gauge, ours, theirs = arrays(2, 4, 4, 4)
    exact[..., 1], exact[..., 3] = 5, 0
    assert three_way(exact, gauge, ours, theirs).constant_channels == 2
    exact[1, 3, 3, 1] = 5.5
    assert three_way(exact, gauge, ours, theirs).constant_channels == 1


@pytest.mark.parametrize("chunk", [4, 1 << 17])
def test_saturated_values_are_seen(chunk, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", chunk)
    exact, gauge, ours, theirs = arrays(2, 4, 4, 4)
    exact[...] = np.where(exact > 0, 1 - 2.0**-25, 2.0**-30)
    assert three_way(exact, gauge, ours, theirs).saturated
    exact[1, 3, 3, 3] = 0.5
    assert not three_way(exact, gauge, ours, theirs).saturated
    exact[...], exact[0, 0, 0, 0] = 1, 1 - 2.0**-20
    assert not three_way(exact, gauge, ours, theirs).saturated


@pytest.mark.parametrize("place", range(3))
def test_three_ways_of_other_shapes_are_no_comparison(place):
    shapes = [(2, 3), (2, 3), (2, 3)]
    shapes[place] = (3, 2)
    exact, ours, theirs = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError):
        three_way(exact, np.ones_like(exact), ours, theirs)


@pytest.mark.parametrize("side", [0, 1])
def test_three_ways_never_let_a_nan_pass(side):
    exact, gauge, *both = arrays(1, 3, 3, 4)
    both[side][0, 1, 2, 3] = np.nan
    found = three_way(exact, gauge, *both)
    assert not found.own.finite
    assert [found.candidate.finite, found.reference.finite] == [side != 0, side != 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 700, 999])
@pytest.mark.parametrize("side", [0, 1])
def test_a_gauge_that_is_not_finite_is_no_bound(bad, place, side, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", 300)
    exact, gauge, *both = arrays(1, 10, 25, 4)
    gauges = [gauge, gauge.copy()]
    assert three_way(exact, gauges[0], *both, gauges[1]).bounded
    gauges[side].reshape(-1)[place] = bad
    assert not three_way(exact, gauges[0], *both, gauges[1]).bounded


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_whose_squares_overflow_are_finite(dtype):
    large = np.full(3000, np.finfo(dtype).max / 4, dtype)
    large[1] = 1
    assert difference(large, large).finite
    large[2] = np.inf
    assert not difference(large, large).finite


def by_numpy(reference, candidate, gauge, unit):
    """The same figures from NumPy's own functions."""
    theirs, ours = reference.astype(np.float64), candidate.astype(np.float64)
    delta = np.abs(ours - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = np.where(delta == 0, 0.0, delta / (unit * gauge.astype(np.float64)))
    counts[(delta != 0) & ~((gauge > 0) & np.isfinite(gauge))] = np.inf
    return delta, counts


@pytest.mark.parametrize("types", list(itertools.product([np.float32, np.float64], repeat=3)))
@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 5000])
def test_figures_are_those_of_numpy(types, size):
    rng = np.random.default_rng(size)
    reference, candidate = (rng.standard_normal(size).astype(kind) for kind in types[:2])
    gauge = np.abs(rng.standard_normal(size)).astype(types[2])
    gauge[::97] = 0
    candidate[::5] = reference[::5]
    found = difference(reference, candidate, gauge)
    delta, counts = by_numpy(reference, candidate, gauge, unit_roundoff(candidate.dtype))
    assert found.max_difference == delta.max()
    assert found.max_index == (delta.argmax(),)
    assert found.roundings == pytest.approx(counts.max(), rel=1e-12)
    assert found.roundings_index == (counts.argmax(),)
    assert found.rms_difference == pytest.approx(np.sqrt(np.mean(delta**2)), rel=1e-12)
    assert found.rms == pytest.approx(np.sqrt(np.mean(reference.astype(float) ** 2)), rel=1e-12)
