"""Producer and consumer meet one tensor at a time, and neither waits for a dead partner."""

import threading

import numpy as np
import pytest

from parity.sides.stream import Rendezvous, StreamError


class Producer(threading.Thread):
    def __init__(self, stream, names, failure=None):
        super().__init__(daemon=True)
        self.stream, self.names, self.failure = stream, names, failure
        self.offered = []
        self.error = None

    def run(self):
        try:
            for name in self.names:
                self.offered.append(name)
                self.stream.offer(name, np.zeros(1))
            self.stream.close(self.failure)
        except StreamError as error:
            self.error = error


def produce(names, failure=None):
    stream = Rendezvous(timeout=10)
    producer = Producer(stream, names, failure)
    producer.start()
    return stream, producer


def test_tensors_come_in_order_and_no_sooner_than_released():
    stream, producer = produce(["a", "b", "c"])
    for position, name in enumerate(["a", "b", "c"]):
        assert stream.take(name).shape == (1,)
        assert producer.offered == ["a", "b", "c"][: position + 1]
        stream.release()
    producer.join(10)
    assert producer.error is None


def test_skipping():
    stream, producer = produce(["a", "b"])
    stream.skip()
    stream.take("b")
    stream.release()
    producer.join(10)
    assert not producer.is_alive()


def test_another_tensor_than_the_one_due():
    stream, producer = produce(["a"])
    with pytest.raises(StreamError, match="offers a where b was due"):
        stream.take("b")
    stream.close()
    producer.join(10)
    assert producer.error is not None


def test_an_early_end():
    stream, _ = produce(["a"])
    stream.take("a")
    stream.release()
    with pytest.raises(StreamError, match="ended before b"):
        stream.take("b")


def test_a_failure_reaches_the_consumer_itself():
    stream, _ = produce([], failure=MemoryError("no room"))
    with pytest.raises(MemoryError, match="no room"):
        stream.take("a")


def test_nothing_in_time():
    with pytest.raises(StreamError, match="no tensor came"):
        Rendezvous(timeout=0.01).take("a")
