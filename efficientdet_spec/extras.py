"""Optional packages: which there are, whether they are here, and how to get them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.versions import requirements_of

PROJECT = "efficientdet-parity"

EXTRAS: Mapping[str, Mapping[str, str]] = {
    "tensorflow": {"tensorflow": "tensorflow"},
    "images": {"opencv-python": "cv2", "simplejpeg": "simplejpeg"},
    "coco": {"pycocotools": "pycocotools"},
    "traces": {"h5py": "h5py"},
    "cluster": {"dask": "dask", "distributed": "distributed"},
    "reports": {"jinja2": "jinja2"},
}
"""By the name of an extra, its packages, each with the module that it brings."""

_CHECKOUT = Path(__file__).resolve().parents[1]


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed.

    Args:
        extra: Its name.
    """
    return [name for name in EXTRAS[extra].values() if importlib.util.find_spec(name) is None]


def packages_of(extra: str) -> list[str]:
    """The packages of an extra.

    Args:
        extra: Its name.
    """
    return list(EXTRAS[extra])


def install_command(extra: str) -> str:
    """A command that installs an extra, wherever it is typed.

    In a checkout that is the project itself with the extra; an installed package has no source to
    install from, and no package index has it, so there it is what the extra consists of.

    Args:
        extra: Its name.
    """
    if (_CHECKOUT / "pyproject.toml").is_file():
        return f"pip install '{_CHECKOUT}[{extra}]'"
    packages = " ".join(f"'{name}'" for name in _requirements(extra))
    return f"pip install {packages or ' '.join(EXTRAS[extra])}"


def _requirements(extra: str) -> list[str]:
    """What the installed project says that an extra consists of, such as ``tensorflow>=2.16``."""
    found = []
    for line in requirements_of(PROJECT):
        package, _, marker = line.partition(";")
        if re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker):
            found.append(package.strip())
    return found


def require_extra(extra: str, what: str) -> None:
    """Raise where an extra is missing.

    Args:
        extra: Its name.
        what: What needs it, to begin a sentence with.

    Raises:
        InputError: Says what is missing and how to install it.
    """
    missing = missing_modules(extra)
    if missing:
        raise InputError(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            f"not installed; run {install_command(extra)}.",
            Cause.MISSING_PACKAGE,
        )
