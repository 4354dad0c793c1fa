"""What Google has released: the checkpoints' addresses, how to recognise them, their published AP.

Sources: the README of ``google/automl``'s ``efficientdet`` at commit 6a54c87 (addresses, and both
columns of AP with one decimal), the evaluation's output files beside the checkpoints
(``coco2/val``), and the checkpoints' own index files, from which the fingerprints are computed.
All figures stand in ``releases.json`` beside this module, which is checked when it is read.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, cast

from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.family import OFFICIAL_MODELS

STORAGE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet/coco2"
"""The folder that the README links for the checkpoints trained on COCO."""

LICENCE = "Apache-2.0"
"""Of the released checkpoints (the repository's LICENSE), as SPDX calls it."""

DOWNLOADS = "EFFICIENTDET_DOWNLOADS"
"""The environment variable that names another folder with the same archives, such as a mirror."""


@dataclass(frozen=True)
class _Release:
    """What is known of one model's release; None where it is not.

    Attributes:
        ap_val: See :data:`AP_VAL`.
        ap_test_dev: See :data:`AP_TEST_DEV`.
        ap_val_file: See :data:`AP_VAL_FILES`.
        archive_sha256: See :data:`ARCHIVE_SHA256`.
        archive_bytes: See :data:`ARCHIVE_BYTES`.
        fingerprint: See :data:`FINGERPRINTS`.
    """

    ap_val: float
    ap_test_dev: float
    ap_val_file: tuple[str, float] | None
    archive_sha256: str | None
    archive_bytes: int | None
    fingerprint: str | None


def read_releases(content: bytes) -> dict[str, _Release]:
    """The releases by model, in the order of the models, from a file such as ``releases.json``.

    Args:
        content: The file's bytes.

    Raises:
        ValueError: Something in it is missing, unknown or impossible; says what and where.
    """
    models = json.loads(content)
    if not isinstance(models, dict) or tuple(models) != tuple(OFFICIAL_MODELS):
        raise ValueError(f"expected an object with {', '.join(OFFICIAL_MODELS)}, in this order")
    return {model: _release(model, known) for model, known in models.items()}


def _release(model: str, known: Any) -> _Release:
    names = {field.name for field in fields(_Release)}
    if not isinstance(known, dict) or not set(known) <= names:
        raise ValueError(f"{model}: expected an object with some of {', '.join(sorted(names))}")

    def value(name: str, sound: Callable[[Any], bool], wanted: str) -> Any:
        found = known.get(name)
        if found is not None and not sound(found):
            raise ValueError(f"{model}: {name} is {found!r:.100}, expected {wanted}")
        return found

    for name in ("ap_val", "ap_test_dev"):
        if known.get(name) is None:
            raise ValueError(f"{model}: {name} is missing")
    file = value("ap_val_file", _is_figure, "an object with a name and an ap between 0 and 1")
    return _Release(
        ap_val=value("ap_val", _is_ap, "a number between 0 and 1"),
        ap_test_dev=value("ap_test_dev", _is_ap, "a number between 0 and 1"),
        ap_val_file=None if file is None else (file["name"], file["ap"]),
        archive_sha256=value("archive_sha256", _is_sha256, "64 lower-case hexadecimal digits"),
        archive_bytes=value("archive_bytes", _is_count, "a positive whole number"),
        fingerprint=value("fingerprint", _is_sha256, "64 lower-case hexadecimal digits"),
    )


def _is_ap(value: Any) -> bool:
    return type(value) is float and 0 < value < 1


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_figure(value: Any) -> bool:
    whole = isinstance(value, dict) and set(value) == {"name", "ap"}
    return whole and isinstance(value["name"], str) and _is_ap(value["ap"])


_RELEASES = read_releases(cast(bytes, pkgutil.get_data("efficientdet_spec", "releases.json")))


def _known(field: str) -> Mapping[str, Any]:
    """One thing that is known of some or all releases, by model."""
    found = {model: getattr(release, field) for model, release in _RELEASES.items()}
    return MappingProxyType({model: item for model, item in found.items() if item is not None})


ARCHIVE_SHA256: Mapping[str, str] = _known("archive_sha256")
"""Of the archives, where it is known."""

ARCHIVE_BYTES: Mapping[str, int] = _known("archive_bytes")
"""Size of the archives, where it is known."""

FINGERPRINTS: Mapping[str, str] = _known("fingerprint")
"""SHA-256 of the sorted (name, CRC32C) pairs of a released checkpoint, where it is known."""

AP_VAL: Mapping[str, float] = _known("ap_val")
"""The README's AP on COCO val2017. Until March 2021 it had 0.425 for D2 and 0.472 for D3."""

AP_TEST_DEV: Mapping[str, float] = _known("ap_test_dev")
"""The README's AP on COCO test-dev2017, whose true boxes only COCO's evaluation server has."""

AP_VAL_FILES: Mapping[str, tuple[str, float]] = _known("ap_val_file")
"""The same AP with more digits: the file beside the checkpoint, and what it says. The files of the
other models are not known here."""


def downloads_address() -> str:
    """The address of the folder that official names are downloaded from, without a last slash.

    It is :data:`STORAGE_URL`, or what the environment variable :data:`DOWNLOADS` names.

    Raises:
        InputError: The variable names no http or https address.
    """
    chosen = os.environ.get(DOWNLOADS) or STORAGE_URL
    if not re.match(r"https?://[^/]", chosen, re.IGNORECASE):
        raise InputError(
            f"{DOWNLOADS} is {chosen!r:.100}, expected the http or https address of a folder with "
            f"the official archives; correct it or leave it out",
            Cause.OPTION,
        )
    return chosen.rstrip("/")


def archive_address(model: str) -> str:
    """The address that an official name stands for.

    Args:
        model: The official name.

    Raises:
        InputError: As :func:`downloads_address`.
    """
    return f"{downloads_address()}/{model}.tar.gz"
