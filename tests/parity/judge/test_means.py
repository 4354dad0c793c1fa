"""In which order a mean was added up, and whether it is a mean of all values at all."""

import numpy as np
import pytest

from parity.judge.means import LANES, another_mean, reproducing_order

UNIT = 2.0**-24
SHAPE = (2, 48, 40, 24)
COUNT = SHAPE[1] * SHAPE[2]
LIMIT = 2.8 * COUNT**0.5


@pytest.fixture(scope="module")
def values():
    """Alike, so that sums of them err on one side."""
    noise = np.random.default_rng(0).uniform(0.1, 0.11, SHAPE)
    return noise.astype(np.float32)


def gauge(values):
    return np.abs(values).mean((1, 2), dtype=np.float64, keepdims=True)


def roundings(values, mean):
    exact = values.mean((1, 2), dtype=np.float64, keepdims=True)
    return float((np.abs(mean - exact) / (UNIT * gauge(values))).max())


def in_lanes(values, lanes, columns=False):
    rows = values.transpose(0, 2, 1, 3) if columns else values
    rows = np.ascontiguousarray(rows).reshape(SHAPE[0], -1, SHAPE[3])
    mean = np.empty((SHAPE[0], SHAPE[3]), np.float32)
    for image in range(SHAPE[0]):
        sums = [np.zeros(SHAPE[3], np.float32) for _ in range(lanes)]
        for position in range(rows.shape[1]):
            sums[position % lanes] += rows[image, position]
        total = sums[0]
        for other in sums[1:]:
            total = total + other
        mean[image] = total / np.float32(rows.shape[1])
    return mean[:, None, None]


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("columns", [False, True])
def test_a_plain_order_is_recognised_bit_for_bit(values, lanes, columns):
    assert lanes in LANES
    mean = in_lanes(values, lanes, columns)
    order = reproducing_order(values, mean, gauge(values), UNIT, LIMIT)
    assert order.roundings == 0
    assert ("column by column" if columns else "row by row") in order.title
    assert (f"in {lanes} interleaved sums" in order.title) == (lanes > 1)


def test_one_after_another_equal_values_err_further_than_a_sum_may():
    constant = np.full(SHAPE, 0.1, np.float32)
    mean = in_lanes(constant, 1)
    assert roundings(constant, mean) > LIMIT
    assert reproducing_order(constant, mean, gauge(constant), UNIT, LIMIT).roundings == 0


def test_what_no_order_reproduces_has_none(values):
    signs = np.tile([1.0, -1.0], SHAPE[3] // 2)
    mean = values.mean((1, 2), dtype=np.float64, keepdims=True) * (1 + 5000 * UNIT * signs)
    assert reproducing_order(values, mean.astype(np.float32), gauge(values), UNIT, LIMIT) is None


def exact_parts(values):
    def mean(part, count=None):
        total = part.sum((1, 2), dtype=np.float64, keepdims=True)
        return (total / (count or part.shape[1] * part.shape[2])).astype(np.float32)

    return {
        f"divides by {COUNT + 1}": mean(values, COUNT + 1),
        f"divides by {COUNT - 1}": mean(values, COUNT - 1),
        "leaves out the last row": mean(values[:, :-1]),
        "leaves out the first column": mean(values[:, :, 1:]),
        "leaves out the whole border": mean(values[:, 1:-1, 1:-1]),
        f"leaves out the last row but divides by all {COUNT} positions": mean(
            values[:, :-1], COUNT
        ),
    }


@pytest.mark.parametrize("what", list(exact_parts(np.ones(SHAPE, np.float32))))
def test_another_divisor_or_extent_is_named(values, what):
    mean = exact_parts(values)[what]
    assert another_mean(values, mean, gauge(values), UNIT).startswith(what)


def test_at_large_counts_a_wrong_divisor_within_the_limit_is_still_named():
    values = np.random.default_rng(1).uniform(0, 1, (1, 256, 256, 16)).astype(np.float32)
    count = 256 * 256
    mean = (values.sum((1, 2), dtype=np.float64, keepdims=True) / (count + 1)).astype(np.float32)
    assert roundings(values, mean) < 2.8 * count**0.5
    assert another_mean(values, mean, gauge(values), UNIT).startswith(f"divides by {count + 1}")


def test_a_right_mean_with_independent_errors_is_none_of_these():
    rng = np.random.default_rng(2)
    values = rng.uniform(0, 1, (1, 256, 256, 32)).astype(np.float32)
    exact = values.mean((1, 2), dtype=np.float64, keepdims=True)
    for deviation in (20, 85):
        # The largest deviation that the sum of so many terms may have is a third of their root.
        wrong = exact * (1 + deviation * UNIT * rng.standard_normal(exact.shape))
        assert another_mean(values, wrong.astype(np.float32), gauge(values), UNIT) is None


def test_what_is_not_finite_has_neither(values):
    mean = in_lanes(values, 1)
    mean[0, 0, 0, 3] = np.nan
    assert reproducing_order(values, mean, gauge(values), UNIT, LIMIT) is None
    assert another_mean(values, mean, gauge(values), UNIT) is None
