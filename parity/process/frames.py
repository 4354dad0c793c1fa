"""Where in which code an exception arose: in this project's, or in that of a user."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from traceback import FrameSummary

_ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "converter",
    "efficientdet_parity",
    "efficientdet_spec",
    "parity",
    "reference_tf",
    "reports",
    "torch_model",
)
"""This project's packages; where they are installed, others lie beside them."""

SCRIPTS = ("compare.py", "convert.py")
"""This project's modules beside the packages."""

_INSTALLED = frozenset(("site-packages", "dist-packages"))
_STANDARD_LIBRARY = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
)


def in_project(filename: str) -> str | None:
    """A file of this project relative to its root; None for any other file."""
    try:
        path = Path(filename).resolve().relative_to(_ROOT)
    except (OSError, RuntimeError, ValueError):
        return None
    ours = path.parts[0] in (PACKAGES if len(path.parts) > 1 else SCRIPTS)
    return path.as_posix() if ours else None


def of_user(filename: str) -> bool:
    """Whether a file belongs neither to this project, nor to Python, nor to an installed package.

    Code that comes from no file, as from ``exec``, belongs to nobody.
    """
    if filename.startswith("<") or in_project(filename) is not None:
        return False
    installed = not _INSTALLED.isdisjoint(Path(filename).parts)
    return not installed and not of_standard_library(filename)


def of_standard_library(filename: str) -> bool:
    """Whether a file is of Python itself, or lies in a folder of its."""
    real = os.path.realpath(filename)
    return real.startswith(_STANDARD_LIBRARY) and _INSTALLED.isdisjoint(Path(real).parts)


def innermost(error: BaseException, wanted: Callable[[str], object]) -> FrameSummary | None:
    """The last frame on the way to an exception whose file is wanted.

    Args:
        error: The exception, which has been raised.
        wanted: Tells by a file's name whether its frames count.
    """
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if wanted(frame.filename)
    ]
    return frames[-1] if frames else None


def first_line(error: BaseException) -> str:
    """The kind of an exception and the first line of what it says, shortened."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        # The error is of a user's own making, and so is what it says.
        lines = []
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
