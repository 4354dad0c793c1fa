"""How command lines end: one line, and an exit code for each kind of end."""

import errno
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from efficientdet_spec import Cause, InputError
from parity.process import frames
from parity.process.console import EXIT_CODES, guarded, out_of_memory, output_width
from parity.process.outcome import Ending

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ended(capsys):
    """Exit code and what standard error holds after work that raises an error."""

    def run(error, **options):
        def work():
            raise error

        code = guarded("prog", work, **options)
        output = capsys.readouterr()
        assert output.out == ""
        return code, output.err

    return run


def test_the_work_decides_where_nothing_goes_wrong(capsys):
    for code in (0, 1, 3):
        assert guarded("prog", lambda: code) == code  # noqa: B023
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("debug", [False, True])
def test_a_mistake_is_one_sentence(ended, debug):
    code, err = ended(InputError("x.pth is no file; give one"), debug=debug)
    assert code == 2
    assert err.splitlines()[-1] == "prog: error: x.pth is no file; give one."
    assert (len(err.splitlines()) > 1) == ("Traceback" in err) == debug


@pytest.mark.parametrize(
    "error, told",
    [
        (InputError("no", Cause.MODEL), (2, Cause.MODEL, "prog: error: no.")),
        (MemoryError(), (2, Cause.SPACE, None)),
        (OSError(errno.ENOSPC, "full"), (2, Cause.SPACE, None)),
        (TypeError("wrong"), (70, Ending.DEFECT, None)),
        (KeyboardInterrupt(), (130, Ending.INTERRUPTED, None)),
        (BrokenPipeError(), None),
    ],
)
def test_whoever_asks_is_told_how_it_ended(ended, error, told):
    heard = []
    code, err = ended(error, failed=heard.append)
    assert [(end.exit_code, end.cause) for end in heard] == ([told[:2]] if told else [])
    for end in heard:
        assert err == f"{end.message}\n" and code == end.exit_code
        assert told[2] in (None, end.message)


def test_what_fails_in_being_told_hides_nothing(ended):
    def broken(end):
        raise RuntimeError("another thing")

    assert ended(InputError("no"), failed=broken) == (2, "prog: error: no.\n")


@pytest.mark.parametrize(
    "error",
    [
        TypeError("wrong"),
        AssertionError(),
        KeyError("k"),
        SystemExit(0),
        GeneratorExit(),
        OSError(),
    ],
    ids=repr,
)
def test_what_nobody_expected_is_a_defect(ended, error):
    code, err = ended(error)
    assert code == 70
    assert err.startswith(f"prog: this is a defect of the program: {type(error).__name__}")
    assert err.endswith("; run again with --debug for the traceback and report it\n")
    assert err.count("\n") == 1 and "Traceback" not in err
    code, err = ended(error, debug=True)
    assert code == 70
    assert err.startswith("Traceback (most recent call last)") and "raise error" in err
    assert err.splitlines()[-1].endswith("; report it with the traceback above")


def test_a_defect_says_where_it_is_in_this_project(capsys):
    # Its innermost line is in NumPy or Python's library, the line to look at is ours.
    assert guarded("prog", lambda: frames.in_project(3)) == 70
    place = capsys.readouterr().err.split(" at ")[-1].split(";")[0]
    name, _, line = place.partition(":")
    assert name == "parity/process/frames.py"
    assert "Path(filename)" in (ROOT / name).read_text().splitlines()[int(line) - 1]


def test_lines_are_short_and_printable(ended):
    code, err = ended(InputError("a\nb\x1b[31m " + "x" * 5000 + " do this"))
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("prog: error: a b\\x1b[31m x") and err.endswith("xxx do this.\n")
    assert len(err) < 1010


def test_a_full_disk_is_no_defect(ended):
    for number in (errno.ENOSPC, errno.EDQUOT):
        code, err = ended(OSError(number, "No space", "/data/file"))
        assert code == 2
        assert err.startswith("prog: error: /data/file cannot be written (No space); make room")


def numpys_own():
    try:
        np.empty(1 << 60, np.uint8)
    except MemoryError as error:
        return error
    pytest.fail("NumPy has allocated 2**60 bytes")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        numpys_own(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_ran_out(error, ended):
    assert out_of_memory(error)
    code, err = ended(error)
    assert code == 2 and err.startswith("prog: error: memory ran out; give a smaller --size")


def test_pytorchs_own_allocator_is_recognised():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 55)
    assert out_of_memory(raised.value)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
def test_tensorflows_own_error_is_recognised():
    import tensorflow as tf

    assert out_of_memory(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"))
    assert not out_of_memory(tf.errors.InternalError(None, None, "out of memory"))


class OutOfMemoryError(Exception):
    """Of somebody else, who may mean anything."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("memory format option is only supported by strided tensors"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("unsupported operation: some elements refer to a single memory location"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.EACCES, "memory"),
        OutOfMemoryError("memory"),
    ],
    ids=str,
)
def test_what_merely_mentions_memory_is_a_defect(error, ended):
    assert not out_of_memory(error)
    assert ended(error)[0] == 70


class Unwritable(io.StringIO):
    """Standard output that cannot be written, and whose descriptor may be closed by the test."""

    def __init__(self, error, number):
        super().__init__()
        self.error, self.number = error, number

    def flush(self):
        raise self.error

    def fileno(self):
        return self.number


@pytest.mark.parametrize(
    "error, code", [(BrokenPipeError(), 141), (OSError(errno.ENOSPC, "No space left"), 2)]
)
def test_output_that_cannot_be_written(error, code, monkeypatch, tmp_path, capsys):
    with open(tmp_path / "output", "w") as stream:
        monkeypatch.setattr(sys, "stdout", Unwritable(error, stream.fileno()))
        assert guarded("prog", lambda: 0) == code
        # A difference stays one: its message is not about the output.
        assert guarded("prog", lambda: 1 / 0) == 70
        # What is left to write at exit goes nowhere, where it cannot fail once more.
        assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
    monkeypatch.undo()
    assert ("the output cannot be written (No space left)" in capsys.readouterr().err) == (
        code == 2
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_device_as_output(tiny_checkpoint):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "convert.py", str(tiny_checkpoint), "--list"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the output cannot be written (No space left on device)" in done.stderr


def test_output_that_is_closed(tiny_checkpoint):
    command = f"{sys.executable} convert.py {tiny_checkpoint} --list >&-"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_lists_every_code():
    for code in ("0 ", "1 ", "2 ", "3 ", "70 ", "130 ", "141 ", "143 "):
        assert f" {code}" in EXIT_CODES


@pytest.mark.parametrize(("terminal", "width"), [(True, 72), (False, 100)])
def test_lines_are_as_wide_as_the_terminal_or_a_hundred_columns(terminal, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: terminal))
    assert output_width() == width
    monkeypatch.setattr(sys, "stdout", None)
    assert output_width() == 100


def test_messages_are_as_wide_as_the_terminal(monkeypatch, capsys):
    def fail():
        raise InputError(f"{'word ' * 40}/{'a' * 90}; give another")

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert guarded("prog", fail) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 4 and all(len(line) <= 60 for line in lines if "aaa" not in line)
    # What is copied from a message stays whole.
    assert sum("a" * 90 in line for line in lines) == 1
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    guarded("prog", fail)
    assert len(capsys.readouterr().err.splitlines()) == 1
