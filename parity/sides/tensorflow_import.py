"""TensorFlow, imported where a command needs it, with its notices kept from the terminal."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys

from efficientdet_spec import Cause, InputError, install_command, require_extra


def import_tensorflow() -> None:
    """Import TensorFlow without the notices about processors that it prints while starting.

    Raises:
        InputError: TensorFlow is not installed; says which extra to install.
    """
    require_extra("tensorflow", "The reference")
    import_triton_first()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # They come from native code before any log level applies, so only the descriptor helps.
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise InputError(
            f"TensorFlow is installed but cannot be imported ({error}); install it again: "
            f"{install_command('tensorflow')}.",
            Cause.MISSING_PACKAGE,
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def import_triton_first() -> None:
    """Import Triton, where PyTorch has it, unless TensorFlow has been imported.

    PyTorch imports it when a module is compiled or traced. Both hold a copy of LLVM, and a process
    that has TensorFlow's already ends there with a segmentation fault; the other order is sound.
    """
    if "tensorflow" in sys.modules or importlib.util.find_spec("triton") is None:
        return
    # Without it PyTorch has no compiler for GPUs, and says so when one is needed.
    with contextlib.suppress(Exception):
        importlib.import_module("triton._C.libtriton")
