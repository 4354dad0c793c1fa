"""What is installed, and what it asks for: looked up when it is asked for, which takes a while."""

from __future__ import annotations

import importlib
from typing import Any


def installed_version(package: str) -> str | None:
    """The version of an installed package, by its name on a package index; None without it."""
    metadata = _metadata()
    try:
        found: str = metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
    return found


def requirements_of(package: str) -> list[str]:
    """What an installed package asks for, as its metadata have it; nothing without it.

    Args:
        package: Its name on a package index.
    """
    metadata = _metadata()
    try:
        return list(metadata.requires(package) or [])
    except metadata.PackageNotFoundError:
        return []


def _metadata() -> Any:
    # It brings along what reads e-mail, archives and addresses.
    return importlib.import_module("importlib.metadata")
