"""Three pairs looked at together are the three looked at one by one, whatever is in them."""

import itertools

import numpy as np
import pytest

from parity.judge.tally import tally
from parity.judge.threefold import threefold

UNIT = 2.0**-24
SIZES = (4, 508, 512, 516, 3000)
BAD = (np.nan, np.inf, -np.inf, 0.0, 3e38)


def rows(size, wide):
    rng = np.random.default_rng(size)
    truth = rng.standard_normal(size).astype(wide)
    gauge, other = (np.abs(rng.standard_normal(size)).astype(np.float32) for _ in "ab")
    sides = [(truth + 1e-6 * rng.standard_normal(size)).astype(np.float32) for _ in "ab"]
    # Some values are right to the last bit.
    sides[0][::5], sides[1][::7] = truth[::5], truth[::7]
    return [truth, gauge, other, *sides]


def check(truth, gauge, other, ours, theirs):
    for array in (truth, gauge, other, ours, theirs):
        array.flags.writeable = False
    found = threefold(truth, (gauge, other), (ours, theirs), 4, UNIT)
    pairs = [(theirs, ours, gauge), (truth, ours, gauge), (truth, theirs, other)]
    for one, (reference, candidate, weights) in zip(found[1:], pairs, strict=True):
        expected = tally(reference, candidate, weights, UNIT)
        np.testing.assert_allclose(one[:2], expected[:2], rtol=1e-12, err_msg="sums of squares")
        np.testing.assert_array_equal(one[2:], expected[2:])
    return found.whole


@pytest.mark.parametrize("wide", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_figures_are_those_of_each_pair(size, wide):
    arrays = rows(size, wide)
    whole = check(*arrays)
    truth, gauge, _, *_ = arrays
    assert whole.squares == pytest.approx(np.sum(truth.astype(float) ** 2))
    assert whole.largest_gauge == gauge.max()
    assert whole.bounded and not whole.saturated
    assert whole.varying.tolist() == [size > 4] * 4
    assert whole.first_place.tolist() == truth[:4].tolist()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("array", "place"), list(itertools.product(range(5), (0, 600, 2999))))
def test_one_value_changes_what_it_changes_in_each_pair(array, place, bad):
    arrays = rows(3000, np.float64)
    arrays[array][place] = bad
    with np.errstate(over="ignore", invalid="ignore"):
        whole = check(*arrays)
    assert whole.bounded == (array not in (1, 2) or np.isfinite(bad))


@pytest.mark.parametrize("constant", list(itertools.product([False, True], repeat=3)))
def test_constant_arrays_are_told(constant):
    arrays = rows(3000, np.float64)
    for position, is_constant in zip((0, 3, 4), constant, strict=True):
        if is_constant:
            arrays[position][...] = 1.5
    check(*arrays)
