"""Parts are worked through on all cores, in their order, in any process."""

import os
import signal

import numpy as np
import pytest

from parity.process.compiled import (
    _products,
    compiled,
    compiled_as_written,
    in_order,
    products_on_one_core,
)

PARTS = [slice(start, start + 3) for start in range(0, 60, 3)]


def starts():
    return list(in_order(lambda part: part.start, PARTS))


@pytest.mark.parametrize("count", [0, 1, 20])
def test_what_is_found_is_in_the_order_of_the_parts(count):
    found = in_order(lambda part: part.start, PARTS[:count])
    assert list(found) == [part.start for part in PARTS[:count]]


def test_a_failure_is_that_of_the_part():
    def fail(part):
        if part.start == 30:
            raise ValueError("the eleventh")
        return part.start

    with pytest.raises(ValueError, match="the eleventh"):
        list(in_order(fail, PARTS))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_forked_off_has_threads_of_its_own():
    expected = starts()
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(0 if starts() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_parts_may_be_worked_through_within_a_part():
    def nested(part):
        return sum(in_order(lambda inner: inner.start, PARTS)) + part.start

    assert list(in_order(nested, PARTS)) == [570 + part.start for part in PARTS]


def test_products_keep_to_one_core_for_a_while():
    def threads():
        return [item["num_threads"] for item in _products().info()]

    before = threads()
    with products_on_one_core():
        within = threads()
    assert (within, threads()) == ([1] * len(before), before)


@compiled
def add_up(values):
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i]
    return total


@compiled_as_written
def add_up_as_written(values):
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i]
    return total


def test_sums_are_in_the_order_written_where_that_is_asked_for():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    plain = np.add.accumulate(values)[-1]
    assert add_up_as_written(values) == plain
    # What may be added in any order is added in a quicker one.
    assert add_up(values) != plain
