"""Command lines: what a user can do something about ends in one sentence, not a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from efficientdet_spec import InputError


def guarded(program: str, work: Callable[[], int]) -> int:
    """Run a command line's work; what a user can do something about ends in one sentence.

    Args:
        program: Name to begin messages with.
        work: Returns the exit code.

    Returns:
        The exit code: that of ``work``, 2 for wrong input or too little memory, 130 when
        interrupted, 141 when whoever reads the output has gone.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except InputError as error:
        text = str(error)
        print(f"{program}: error: {text}{'' if text.endswith('.') else '.'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes the output once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if not out_of_memory(error):
            raise
        print(
            f"{program}: error: memory ran out; give a smaller --size, or run on a machine with "
            f"more memory.",
            file=sys.stderr,
        )
        return 2


def out_of_memory(error: BaseException) -> bool:
    """Whether this is NumPy's, PyTorch's or TensorFlow's way of saying so."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "ResourceExhaustedError"
        or (isinstance(error, RuntimeError) and "memory" in str(error).lower())
    )
