"""The progress line on a terminal and in a log."""

import io

import pytest

from converter.progress import Progress


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
        "comparing: 40%, 81 nodes of 200 nodes, 16.0 nodes/s, 7 s left",
        "comparing: 80%, 161 nodes of 200 nodes, 16.0 nodes/s, 2 s left",
        "comparing: 100%, 200 nodes of 200 nodes, 16.0 nodes/s, took 12 s",
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
    assert (captured.out, captured.err) == ("", "x: 100%, 2 nodes of 2 nodes\n")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("seconds", [1.9, 2.1])
def test_work_that_is_short_needs_no_line(stream, seconds, clock):
    shown = stream()
    with Progress("reading", stream=shown, clock=clock, patience=2) as progress:
        progress(0, 10)
        clock.now += seconds
        progress(10, 10)
    assert ("reading: 100%" in shown.getvalue()) == bool(shown.getvalue()) == (seconds > 2)
