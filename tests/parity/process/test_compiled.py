"""Parts are worked through on all cores, in their order, in any process."""

import os
import signal

import pytest

from parity.process.compiled import in_order

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
