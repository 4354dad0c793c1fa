"""Command lines: what a user can do something about ends in one sentence, not a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from efficientdet_spec import Cause, InputError, in_one_line, printable_lines
from parity.process.frames import first_line, in_project, innermost
from parity.process.interruption import Interruptions, exit_code, message
from parity.process.outcome import BROKEN_PIPE, DEFECT, MISTAKE, Ending

EXIT_CODES = (
    "exit codes: 0 done, and parity where something was compared; 1 a difference that rounding "
    "does not explain; 2 input that cannot be used, or too little memory or disk space; 3 nothing "
    "differs, but something could not be compared, so parity is not shown; 70 a defect of this "
    "program; 130 interrupted (Ctrl-C); 141 the reader of the output has gone; 143 terminated "
    "(SIGTERM)"
)
"""For the end of a ``--help``."""

PLAIN_WIDTH = 100
"""Columns of a line of text that does not go to a terminal."""


def output_width() -> int:
    """Columns that a line on standard output may have: the terminal's, or 100 where it is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return PLAIN_WIDTH
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns


def say(text: str, *, to_errors: bool = False) -> None:
    """Print a text of one or several lines, of which no character but the breaks moves a cursor.

    Args:
        text: The text.
        to_errors: Print it to standard error, at once.
    """
    print(printable_lines(text), file=sys.stderr if to_errors else None, flush=to_errors)


_MEMORY_TYPES = frozenset(
    (
        ("torch", "OutOfMemoryError"),
        ("tensorflow", "ResourceExhaustedError"),
    )
)
"""Package and name of the exceptions by which the frameworks say that memory ran out."""

_MEMORY_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What PyTorch's allocators say in a plain ``RuntimeError``."""


@dataclass(frozen=True)
class Ended:
    """How a command has ended without a result.

    Attributes:
        exit_code: Its exit code.
        cause: Of which kind the reason is.
        message: The line that was printed.
    """

    exit_code: int
    cause: Cause | Ending
    message: str


def guarded(
    program: str,
    work: Callable[[], int],
    *,
    debug: bool = False,
    failed: Callable[[Ended], None] | None = None,
) -> int:
    """Run a command line's work; however it ends, at most one line says why.

    Args:
        program: Name to begin messages with.
        work: Returns the exit code.
        debug: Print the traceback of what went wrong before that line.
        failed: Told of an end with a mistake, a defect or a signal.

    Returns:
        The exit code: that of ``work``; 2 for wrong input, too little memory or a full disk; 70
        for any other exception, which is a defect of this program; 130 when interrupted, 143
        when terminated, 141 when whoever reads the output has gone.
    """
    with Interruptions() as asked:
        error: BaseException | None = None
        code = 0
        try:
            code = work()
            _flush()
            asked.over = True
        except BaseException as caught:
            asked.over = True
            error = caught
        if error is not None and debug:
            traceback.print_exception(error)
        # Imports and libraries turn an interrupt into other errors, so the signal itself counts.
        if asked.signal is not None:
            ended: Ended | None = _stopped(program, asked.signal)
        elif isinstance(error, BrokenPipeError):
            ended, code = None, BROKEN_PIPE
        else:
            ended = None if error is None else _ended(program, error, debug)
        if ended is not None:
            code = ended.exit_code
            print(_fitted(ended.message), file=sys.stderr)
            if failed is not None:
                # What is wrong has been said, and nothing may hide it.
                with contextlib.suppress(Exception):
                    failed(ended)
        _let_go_of_output()
        return code


def _stopped(program: str, number: signal.Signals) -> Ended:
    """What to say after a signal."""
    cause = Ending.INTERRUPTED if number == signal.SIGINT else Ending.TERMINATED
    return Ended(exit_code(number), cause, in_one_line(message(program, number)))


def _ended(program: str, error: BaseException, debug: bool) -> Ended:
    """What to say after an exception."""
    if isinstance(error, KeyboardInterrupt):
        # Raised without a signal, as by what runs this in a process of its own.
        return _stopped(program, signal.SIGINT)
    if not isinstance(error, InputError):
        error = _circumstance(error) or error
    if isinstance(error, InputError):
        told = str(error)
        line = f"{program}: error: {told}{'' if told.endswith('.') else '.'}"
        return Ended(MISTAKE, error.cause, in_one_line(line))
    frame = innermost(error, in_project)
    place = f" at {in_project(frame.filename)}:{frame.lineno}" if frame is not None else ""
    advice = (
        "report it with the traceback above"
        if debug
        else "run again with --debug for the traceback and report it"
    )
    line = f"{program}: this is a defect of the program: {first_line(error)}{place}; {advice}"
    return Ended(DEFECT, Ending.DEFECT, in_one_line(line))


def _circumstance(error: BaseException) -> InputError | None:
    """What a user can do about a computer that has too little of something; None for the rest."""
    if out_of_memory(error):
        return InputError(
            "memory ran out; give a smaller --size, or run on a machine with more memory.",
            Cause.SPACE,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"{error.filename}" if error.filename else "the output"
        return InputError(
            f"{where} cannot be written ({error.strerror}); make room or write elsewhere.",
            Cause.SPACE,
        )
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's, NumPy's, PyTorch's or TensorFlow's way of saying so.

    An error that merely mentions memory, such as an illegal access or a memory format, is not.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if not _MEMORY_TYPES.isdisjoint(kinds):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(known in text for known in _MEMORY_TEXTS)


def _fitted(line: str) -> str:
    """A message in lines of the terminal's width; one line where none reads it."""
    if sys.stderr is None or not sys.stderr.isatty():
        return line
    columns = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
    return textwrap.fill(
        line,
        max(columns, 40),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _flush() -> None:
    # A shell can close it, and then there is none.
    if sys.stdout is not None:
        sys.stdout.flush()


def _let_go_of_output() -> None:
    """Let what standard output still holds go nowhere where it cannot be written.

    Python flushes it once more at exit, and where that fails it says so in lines of its own.
    """
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
