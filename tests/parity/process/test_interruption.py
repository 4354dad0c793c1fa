"""Interrupts and requests to stop, at any moment: the right exit code, one line, nothing left."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
from handmade import written
from sampling import one_in

from parity.process.console import guarded
from parity.process.interruption import Interruptions, Terminated

ROOT = Path(__file__).parents[3]
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
both = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture
def ended(capsys):
    """Runs work in this process and checks that it ends like one that has been asked to stop."""

    def run(number, work, code=None):
        before = {number: signal.getsignal(number) for number in CODES}, sys.unraisablehook
        assert guarded("prog", work) == (CODES[number] if code is None else code)
        assert before == (
            {number: signal.getsignal(number) for number in CODES},
            sys.unraisablehook,
        )
        words = f"prog: {WORDS[number]}; nothing half-written is left\n"
        assert capsys.readouterr().err == words

    return run


@both
def test_the_work_tidies_up(number, ended, tmp_path):
    path = tmp_path / "half-written"

    def work():
        path.write_text("half")
        try:
            send(number)
            time.sleep(10)
        finally:
            path.unlink()

    ended(number, work)
    assert not path.exists()


@both
def test_tidying_up_is_not_disturbed(number, ended):
    done = []

    def work():
        try:
            send(number)
            time.sleep(10)
        finally:
            for _ in range(20):
                try:
                    time.sleep(0.02)
                    raise OSError("a temporary file that is gone already")
                except OSError:
                    done.append(1)

    ended(number, work)
    assert len(done) == 20


def swallow(number):
    try:
        send(number)
        time.sleep(10)
    except BaseException:
        pass


def lose_in_a_destructor(number):
    class Noisy:
        def __del__(self):
            send(number)
            time.sleep(0)

    Noisy()


def lose_in_a_callback(number):
    class Referred:
        pass

    def callback(_):
        send(number)
        time.sleep(0)

    kept = Referred()
    reference = weakref.ref(kept, callback)
    del kept
    assert reference() is None


@both
@pytest.mark.parametrize("lose", [swallow, lose_in_a_destructor, lose_in_a_callback])
def test_what_gets_lost_on_its_way_comes_again(lose, number, ended):
    def work():
        lose(number)
        for _ in range(1000):
            time.sleep(0.01)

    started = time.monotonic()
    ended(number, work)
    assert time.monotonic() - started < 5


@both
@pytest.mark.parametrize("error", [ImportError, SystemError, SystemExit])
def test_what_it_is_turned_into_does_not_matter(error, number, ended):
    def work():
        try:
            send(number)
            time.sleep(10)
        except KeyboardInterrupt as interrupt:
            raise error("initialisation failed") from interrupt

    ended(number, work)


@both
def test_work_that_ends_before_it_comes_again(number, ended):
    ended(number, lambda: swallow(number) or 0)


def test_a_request_to_stop_is_handled_like_an_interrupt():
    with Interruptions() as asked:
        with pytest.raises(Terminated):
            send(signal.SIGTERM)
        assert asked.signal is signal.SIGTERM and issubclass(Terminated, KeyboardInterrupt)
        asked.over = True
        send(signal.SIGTERM)


def test_an_interrupt_without_a_signal(ended):
    def work():
        raise KeyboardInterrupt

    ended(signal.SIGINT, work)


def test_what_a_shell_told_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert guarded("prog", lambda: send(signal.SIGINT) or 3) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_signals():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(guarded("prog", lambda: 3)))
    thread.start()
    thread.join()
    assert codes == [3]


def test_other_lost_errors_are_reported_as_ever(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)

    class Broken:
        def __del__(self):
            raise ValueError("in a destructor")

    def work():
        Broken()
        return 0

    assert guarded("prog", work) == 0
    assert [item.exc_type for item in seen] == [ValueError]


SCRIPT = """
import os, runpy, signal, sys
# As in a terminal, whatever shell this was started from.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
number, module, later = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.argv = sys.argv[4:]
sys.path.insert(0, os.getcwd())
left = None

def watch(event, arguments):
    global left
    if event == "import":
        if left is None and (arguments[0] + ".").startswith(module + "."):
            left = later
        if left is not None:
            left -= 1
            if left == -1:
                os.kill(os.getpid(), number)

if module:
    sys.addaudithook(watch)
print("ready", flush=True)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(number, module, later, *command):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, (int(number), module, later, *command))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(process, number, program):
    _, err = process.communicate(timeout=120)
    # TensorFlow's notices are not ours.
    lines = [line for line in err.splitlines() if line.startswith(program) or "Traceback" in line]
    assert lines == [f"{program}: {WORDS[number]}; nothing half-written is left"], err
    assert "Exception ignored" not in err and "KeyboardInterrupt" not in err
    assert process.returncode == CODES[number]


# Each moment with one of the signals in turn; with the other it is a heavy test.
MOMENTS = [
    pytest.param(module, later, number, marks=pytest.mark.heavy if (place + turn) % 2 else ())
    for place, (module, later) in enumerate(
        [
            ("converter.tensorflow_files.bundle", 0),
            ("numpy", 0),
            ("numpy", 40),
            ("efficientdet_spec", 2),
            ("converter.listing", 0),
            ("converter.conversion", 3),
            ("msgspec", 2),
            ("torch_model.saving", 0),
        ]
    )
    for turn, number in enumerate(CODES)
]


@pytest.mark.parametrize("module, later, number", MOMENTS)
def test_converting_is_ended_while_it_imports(module, later, number, tiny_checkpoint, tmp_path):
    target = tmp_path / "tiny.pth"
    check(start(number, module, later, "convert.py", tiny_checkpoint, target), number, "convert.py")
    assert list(tmp_path.iterdir()) == []


CAUSES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def assert_nothing_but_the_cause(folder, number):
    """The result says that there is none and why; before its place is known there is no file."""
    for path in folder.iterdir():
        assert (path.name, written(path)) == ("nodes.json", CAUSES[number])


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="TensorFlow is not installed")
@pytest.mark.parametrize(
    "module, later, number",
    [
        ("parity.process.console", 0, signal.SIGINT),
        ("parity.commands.comparing", 0, signal.SIGTERM),
        ("tensorflow", 0, signal.SIGINT),
        ("tensorflow", 250, signal.SIGTERM),
        # Deep in TensorFlow, as the one before is.
        pytest.param("tensorflow", 1000, signal.SIGINT, marks=pytest.mark.heavy),
    ],
)
def test_comparing_is_ended_while_it_imports(module, later, number, tiny_checkpoint, tmp_path):
    command = ["compare.py", "nodes", tiny_checkpoint, "--json", tmp_path / "nodes.json"]
    check(start(number, module, later, *command), number, "compare.py")
    assert_nothing_but_the_cause(tmp_path, number)


@pytest.mark.parametrize("seconds", one_in(2, [0.05, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0]))
def test_it_is_ended_at_any_moment(seconds, tiny_checkpoint, tmp_path):
    number = signal.SIGINT if int(seconds * 20) % 2 else signal.SIGTERM
    # Long enough that no machine is through within these seconds.
    command = ["compare.py", "nodes", tiny_checkpoint, "--size", "512x512", "--noise"]
    process = start(number, "", 0, *command, "--json", tmp_path / "nodes.json")
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(number)
    check(process, number, "compare.py")
    assert_nothing_but_the_cause(tmp_path, number)
