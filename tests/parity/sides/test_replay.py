"""A reference computes once where its tensors are kept, and shows the same again."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from parity.sides.replay import kept
from parity.sides.side import Reference
from parity.sides.stream import StreamError

NAMES = ["a", "b", "c"]


class Source:
    """Counts how often it computes; its memory is used again for the next tensor."""

    def __init__(self):
        self.runs = 0

    @contextmanager
    def __call__(self, images):
        self.runs += 1
        yield self

    def take(self, name):
        self.memory = np.full(3, NAMES.index(name), np.float32)
        return self.memory

    def skip(self):
        pass

    def release(self):
        self.memory[:] = np.nan


IMAGES = np.zeros((1, 2, 2, 3), np.float32)


def stream_of(source):
    """A reference of three nodes that is kept, on one input."""
    reference = Reference(dict.fromkeys(NAMES), ["c"], source, {}, "a test")
    return partial(kept(reference).compute, IMAGES)


def read(stream, names=NAMES):
    found = []
    with stream() as tensors:
        for name in names:
            found.append(float(tensors.take(name)[0]))
            tensors.release()
    return found


def test_it_computes_once():
    source = Source()
    stream = stream_of(source)
    assert read(stream) == read(stream) == read(stream) == [0, 1, 2]
    assert source.runs == 1


def test_a_run_that_ended_early_is_not_shown_again():
    source = Source()
    stream = stream_of(source)
    read(stream, NAMES[:2])
    with pytest.raises(RuntimeError), stream() as tensors:
        tensors.take("a")
        raise RuntimeError
    assert read(stream) == [0, 1, 2]
    assert source.runs == 3


def test_a_run_with_a_tensor_left_out_is_not_shown_again():
    source = Source()
    stream = stream_of(source)
    with stream() as tensors:
        tensors.skip()
        tensors.take("b"), tensors.take("c")
    assert read(stream) == [0, 1, 2]
    assert source.runs == 2


def test_the_order_stays():
    stream = stream_of(Source())
    read(stream)
    with stream() as tensors, pytest.raises(StreamError, match="offers a where b was due"):
        tensors.take("b")
    with stream() as tensors:
        tensors.skip()
        assert tensors.take("b")[0] == 1
    with pytest.raises(StreamError, match="ended before d"):
        read(stream, [*NAMES, "d"])


def test_other_images_are_computed_anew():
    source = Source()
    reference = kept(Reference(dict.fromkeys(NAMES), ["c"], source, {}, "a test"))
    for images in (IMAGES, IMAGES, IMAGES.copy()):
        assert read(partial(reference.compute, images)) == [0, 1, 2]
    assert source.runs == 2
