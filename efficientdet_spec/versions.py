"""Versions of installed packages."""

from __future__ import annotations

from importlib import metadata


def installed_version(package: str) -> str | None:
    """The version of an installed package, by its name on a package index; None without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
