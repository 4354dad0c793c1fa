"""Results come in order, a bounded number ahead; the thread ends with its consumer."""

import contextlib
import threading

import pytest

from efficientdet_spec import InputError
from efficientdet_spec.prefetch import Cores, ahead
from parity.commands.detecting.detection import Stopwatch
from parity.detections.annotations import CocoImage
from parity.detections.shards import BATCHES_AHEAD, Prepared, Work, in_process, run


class Watched:
    """Doubles numbers, refuses 13, and remembers what it was called with and by whom."""

    def __init__(self):
        self.begun, self.threads = [], set()

    def __call__(self, item):
        self.threads.add(threading.current_thread())
        self.begun.append(item)
        if item == 13:
            raise InputError("13 is refused.")
        return 2 * item

    @property
    def running(self):
        return [thread for thread in self.threads if thread.is_alive()]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("total", [0, 1, 3, 12])
def test_results_are_those_of_map(count, total):
    function = Watched()
    assert list(ahead(function, iter(range(total)), count)) == [2 * n for n in range(total)]
    assert function.begun == list(range(total)) and not function.running
    assert threading.current_thread() not in function.threads


def test_it_is_ahead_and_no_further_than_it_may():
    function = Watched()
    reached = [threading.Event() for _ in range(12)]

    def call(item):
        result = function(item)
        reached[item].set()
        return result

    for taken, _ in enumerate(ahead(call, range(12), 3), start=1):
        # The thread does get there while the consumer does nothing.
        assert reached[min(taken + 2, 11)].wait(30)
        assert len(function.begun) <= taken + 3


def test_an_exception_comes_in_its_place_and_ends_all():
    function = Watched()
    found = ahead(function, range(11, 99), 2)
    assert [next(found), next(found)] == [22, 24]
    with pytest.raises(InputError, match="13 is refused"):
        next(found)
    assert not function.running and len(function.begun) <= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_thread_ends_when_the_consumer_fails(error):
    function = Watched()
    with pytest.raises(error), contextlib.closing(ahead(function, range(9), 2)) as found:
        next(found)
        raise error
    assert function.threads and not function.running and len(function.begun) <= 3


def test_what_has_not_begun_is_dropped():
    function, go = Watched(), threading.Event()

    def call(item):
        result = function(item)
        if item == 1:
            go.wait(30)
        return result

    found = ahead(call, range(50), 40)
    next(found)
    while 1 not in function.begun:
        pass
    threading.Timer(0.05, go.set).start()
    found.close()
    assert function.begun == [0, 1] and not function.running


def waits(cores):
    """Whether work ahead has to wait now."""
    went_on = threading.Event()

    def work():
        cores.wait()
        went_on.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    waited = not went_on.wait(0.2)
    cores.give()
    thread.join(30)
    assert went_on.is_set()
    return waited


def test_work_ahead_waits_for_an_operation_that_needs_all_cores(monkeypatch):
    monkeypatch.setattr("efficientdet_spec.prefetch.os.cpu_count", lambda: 4)
    for threads, expected in ((4, True), (8, True), (3, False), (0, False)):
        cores = Cores(threads)
        assert not waits(cores)
        cores.take()
        assert waits(cores) == expected
        with cores.taken():
            assert waits(cores) == expected
        assert not waits(cores)
        with contextlib.suppress(InputError), cores.taken():
            raise InputError("It fails.")
        assert not waits(cores)


class Side:
    """Tells in which order images are prepared and detected."""

    def __init__(self):
        self.seconds = {}
        self.prepared, self.detected, self.lead = [], [], []
        self.threads = set()
        self.fault = None

    def prepare(self, path):
        self.threads.add(threading.current_thread())
        number = int(path.stem)
        self.prepared.append(number)
        if number == 5:
            raise InputError(f"{path} cannot be read.")
        return Prepared(4, 6, number, {"decode": 0.5})

    def detect(self, images):
        if self.fault:
            raise self.fault
        self.detected += [item.value for item in images]
        self.lead.append(len(self.prepared) - len(self.detected))
        self.seconds["network"] = self.seconds.get("network", 0.0) + len(images)
        return [([[0, 0, 1, item.value]], [0.5], [0]) for item in images]


def detect_all(tmp_path, side, batch):
    images = [CocoImage(number, f"{number}.png", 6, 4) for number in range(40)]
    work = Work(tmp_path, images, batch)
    compute = in_process(lambda: contextlib.nullcontext(side))
    return run(tmp_path / "shards", {}, work, compute, lambda *_: None)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_shards_are_prepared_ahead(tmp_path, batch):
    side = Side()
    shards = detect_all(tmp_path, side, batch)
    results = [item for shard in shards for item in shard.images]
    assert [item.image_id for item in results] == side.prepared == list(range(40))
    assert [item.image_id for item in results if item.failure] == [5]
    assert all(item.failure or item.rows[0, 2] == item.image_id for item in results)
    # One more, since the image that fails is never detected.
    assert max(side.lead) <= BATCHES_AHEAD * batch + 1
    assert len(side.threads) == 1 and not any(thread.is_alive() for thread in side.threads)
    # Each shard has the seconds of its own images, however far ahead they were prepared.
    usable = [sum(item.failure is None for item in shard.images) for shard in shards]
    assert [shard.seconds["decode"] for shard in shards] == [count / 2 for count in usable]
    assert [shard.seconds["network"] for shard in shards] == usable
    assert all(shard.seconds["wall"] > 0 for shard in shards)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), RuntimeError("broken")])
def test_no_thread_survives_a_run(tmp_path, fault):
    side = Side()
    side.fault = fault
    with pytest.raises(type(fault)):
        detect_all(tmp_path, side, 2)
    assert side.threads and not any(thread.is_alive() for thread in side.threads)


def test_a_fault_in_preparing_is_not_taken_for_an_image_s_failure(tmp_path):
    side = Side()
    side.prepare = lambda path: 1 / 0
    with pytest.raises(ZeroDivisionError):
        detect_all(tmp_path, side, 2)


def test_a_stopwatch_adds_up_each_stage(monkeypatch):
    times = iter([1.0, 3.0, 3.5, 10.0, 11.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = Stopwatch()
    watch.lap("decode")
    watch.lap("network")
    watch.start()
    watch.lap("decode")
    assert watch.seconds == {"decode": 3.0, "network": 0.5}
