"""The progress line on a terminal and in a log."""

import io
import sys
from threading import Thread

import pytest

from converter.progress import Progress, ProgressEvent, reported_to


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_terminal_shows_one_line_in_place(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    stream = Terminal()
    with Progress("downloading", stream=stream, clock=clock) as progress:
        progress(0, 20_000_000)
        clock.now += 2
        progress(5_000_000, 20_000_000)
        clock.now += 0.05
        progress(5_000_001, 20_000_000)  # Too soon to be shown.
        clock.now += 7.95
        progress(20_000_000, 20_000_000)
    lines = stream.getvalue().split("\r")
    assert [line.rstrip() for line in lines] == [
        "",
        "downloading: 0%, 0 bytes of 20.0 MB",
        "downloading: 25%, 5.0 MB of 20.0 MB, 2.5 MB/s, 6 s left",
        "downloading: 100%, 20.0 MB of 20.0 MB, 2.0 MB/s, took 10 s",
    ]
    assert {len(line.rstrip("\n")) for line in lines[1:]} == {69}
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().endswith("\n")


def test_a_narrow_terminal_is_not_overrun(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    Progress("a very long description of what is done", stream=stream, clock=clock)(1, 2)
    assert len(stream.getvalue()) == 1 + 29


def test_a_log_gets_a_line_every_few_seconds(clock):
    stream = io.StringIO()
    with Progress("comparing", unit="nodes", stream=stream, clock=clock) as progress:
        for done in range(1, 201):
            progress(done, 200)
            clock.now += 0.0625
    assert stream.getvalue().splitlines() == [
        "comparing: 40%, 81 of 200 nodes, 16 nodes/s, 7 s left",
        "comparing: 80%, 161 of 200 nodes, 16 nodes/s, 2 s left",
        "comparing: 100%, 200 of 200 nodes, 16 nodes/s, took 12 s",
    ]


def test_interval_is_configurable(clock):
    stream = io.StringIO()
    progress = Progress("x", unit="steps", stream=stream, interval=1.0, clock=clock)
    for done in range(5):
        progress(done)
        clock.now += 1
    assert len(stream.getvalue().splitlines()) == 4


def test_unknown_total_and_last_amount(clock):
    stream = io.StringIO()
    with Progress("x", stream=stream, clock=clock) as progress:
        progress(0)
        clock.now += 2
        progress(3_000)
    assert stream.getvalue() == "x: 3.0 kB, 1.5 kB/s\n"


def test_rate_leaves_out_what_was_there_before(clock):
    stream = io.StringIO()
    progress = Progress("x", stream=stream, clock=clock)
    progress(900_000, 1_000_000)
    clock.now += 10
    progress(910_000, 1_000_000)
    assert stream.getvalue() == "x: 91%, 910.0 kB of 1.0 MB, 1.0 kB/s, 1 min 30 s left\n"


def test_starting_over_starts_a_new_rate(clock):
    stream = io.StringIO()
    progress = Progress("x", stream=stream, clock=clock)
    progress(900_000, 1_000_000)
    clock.now += 10
    progress(0, 1_000_000)
    clock.now += 10
    progress(10_000, 1_000_000)
    assert stream.getvalue().splitlines()[-1].endswith("1.0 kB/s, 16 min 30 s left")


def test_long_and_large(clock):
    stream = io.StringIO()
    progress = Progress("x", stream=stream, clock=clock)
    progress(0, 9_000_000_000_000)
    clock.now += 100
    progress(9_000_000_000, 9_000_000_000_000)
    assert stream.getvalue() == "x: 0%, 9.0 GB of 9000.0 GB, 90.0 MB/s, 27 h 45 min left\n"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_nothing_is_shown_without_work(clock, kind):
    stream = kind()
    with Progress("x", stream=stream, clock=clock) as progress:
        pass
    progress.close()
    assert stream.getvalue() == ""


def test_closing_twice_ends_one_line(clock):
    stream = Terminal()
    progress = Progress("x", stream=stream, clock=clock)
    progress(1, 1)
    progress.close()
    progress.close()
    assert stream.getvalue().count("\n") == 1


def test_a_closed_stream_does_not_stop_the_work(clock):
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Progress("x", stream=Broken(), clock=clock)(1, 1)


def test_standard_error_is_the_default(capsys):
    Progress("x", unit="nodes")(2, 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "x: 100%, 2 of 2 nodes\n")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("seconds", [1.9, 2.1])
def test_work_that_is_short_needs_no_line(stream, seconds, clock):
    shown = stream()
    with Progress("reading", stream=shown, clock=clock, patience=2) as progress:
        progress(0, 10)
        clock.now += seconds
        progress(10, 10)
    assert ("reading: 100%" in shown.getvalue()) == bool(shown.getvalue()) == (seconds > 2)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (2.6, "x: 50%, 2 of 4 images, 1.3 s/image, 3 s left"),
        (0.2, "x: 50%, 2 of 4 images, 10 images/s, 1 s left"),
        (0.5, "x: 50%, 2 of 4 images, 4.0 images/s, 1 s left"),
        (40.0, "x: 50%, 2 of 4 images, 20 s/image, 40 s left"),
    ],
)
def test_slow_work_is_told_in_seconds_for_one(seconds, told, clock):
    stream = io.StringIO()
    progress = Progress("x", unit="images", stream=stream, interval=0.1, clock=clock)
    progress(0, 4)
    clock.now += seconds
    progress(2, 4)
    assert stream.getvalue() == f"{told}\n"


def test_one_is_no_plural_and_short_work_has_tenths(clock):
    stream = io.StringIO()
    progress = Progress("x", unit="images", stream=stream, clock=clock)
    progress(0, 1)
    clock.now += 0.44
    progress(1, 1)
    assert stream.getvalue() == "x: 100%, 1 of 1 image, 2.3 images/s, took 0.4 s\n"


def test_a_part_of_the_next_one_counts_but_is_not_there_yet(clock):
    stream = io.StringIO()
    progress = Progress("x", unit="images", stream=stream, clock=clock)
    progress(0.0, 3)
    clock.now += 9
    progress(1.5, 3)
    assert stream.getvalue() == "x: 50%, 1 of 3 images, 6.0 s/image, 9 s left\n"


def test_a_function_is_told_in_place_of_standard_error(clock, capsys):
    events = []
    with reported_to(events.append), Progress("comparing", unit="nodes", clock=clock) as progress:
        progress(0, 4)
        clock.now += 0.05
        progress(1, 4)  # Too soon to be told.
        clock.now += 1.95
        progress(2, 4)
        clock.now += 0.01
        progress(3, 4)  # Told when it ends.
    assert events == [
        ProgressEvent("comparing", 0, 4, "nodes", None),
        ProgressEvent("comparing", 2, 4, "nodes", 2.0),
        ProgressEvent("comparing", 3, 4, "nodes", pytest.approx(0.67)),
    ]
    assert capsys.readouterr().err == ""


def test_an_end_and_an_unknown_whole_are_told(clock):
    events = []
    with reported_to(events.append):
        with Progress("reading", clock=clock) as progress:
            progress(10)
        with Progress("comparing", unit="nodes", clock=clock) as progress:
            progress(4, 4)
    assert events == [
        ProgressEvent("reading", 10, None, "bytes", None),
        ProgressEvent("comparing", 4, 4, "nodes", 0.0),
    ]


def test_silence_and_what_holds_after_it(capsys):
    with reported_to(None):
        inside = Progress("x", unit="nodes")
        inside(1, 1)
        events = []
        with reported_to(events.append):
            Progress("x", unit="nodes")(1, 1)
        Progress("x", unit="nodes")(1, 1)
    assert len(events) == 1 and capsys.readouterr().err == ""
    Progress("x", unit="nodes")(1, 1)
    assert capsys.readouterr().err == "x: 100%, 1 of 1 node\n"
    # Work that has begun inside stays silent.
    inside(0, 1)
    inside(1, 1)
    assert capsys.readouterr().err == ""


def test_other_threads_are_not_redirected(capsys):
    with reported_to(None):
        thread = Thread(target=lambda: Progress("x", unit="nodes")(1, 1))
        thread.start()
        thread.join()
    assert capsys.readouterr().err == "x: 100%, 1 of 1 node\n"


def test_what_the_function_raises_ends_the_work_and_the_redirection(capsys):
    def cancel(event):
        raise KeyError(event.title)

    with pytest.raises(KeyError, match="x"), reported_to(cancel):
        Progress("x", unit="nodes")(1, 1)
    Progress("x", unit="nodes")(1, 1)
    assert capsys.readouterr().err != ""


def test_a_program_without_standard_error_works_on(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", None)
    Progress("x", clock=clock)(1, 1)
    closed = io.StringIO()
    closed.close()
    Progress("x", stream=closed, clock=clock)(1, 1)
