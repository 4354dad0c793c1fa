"""What Google has released: the checkpoints' addresses, how to recognise them, their published AP.

Sources: the README and ``Det-AdvProp.md`` of ``google/automl``'s ``efficientdet`` at commit 6a54c87
(addresses and AP), its README of 1 April 2020 for the first release, the evaluation's output files
beside the checkpoints (``coco2/val``), and the checkpoints' own index files, from which the
fingerprints are computed: of the whole checkpoint, and of one value of each of the model's
variables (:func:`converter.fingerprints.of_index`), which other files of the same weights have too.
All figures stand in ``releases.json`` beside this module, which is checked when it is read.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any, cast

from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.family import (
    FIRST_RELEASES,
    LITE_MODELS,
    MODELS,
    OFFICIAL_MODELS,
    VARIANTS,
    base_model,
)

ROOT_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet"
"""The folder that the paths of all releases are below."""

STORAGE_URL = f"{ROOT_URL}/coco2"
"""The folder that the README links for the checkpoints trained on COCO."""

BACKBONES_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet"
"""The folder of the EfficientNets that classify (README of tensorflow/tpu's
``models/official/efficientnet``)."""

LICENCE = "Apache-2.0"
"""Of the released checkpoints (the repository's LICENSE), as SPDX calls it."""

DOWNLOADS = "EFFICIENTDET_DOWNLOADS"
"""The environment variable that names another folder with the same archives, such as a mirror."""

TF1, TF2 = "tf1", "tf2"
"""Containers: a TensorFlow 1 checkpoint, whose keys are the variables' names, and a TensorFlow 2
object checkpoint, whose keys are paths of Python objects."""

EMA, RAW = "ema", "raw"
"""Which of a variable's two values is meant: its moving average, or what training steps change."""

_VALUES = ("ema_values", "raw_values", "training_ema_values", "training_raw_values")

_UNLIKE = (("path",), ("fingerprint",), ("training_fingerprint",), ("archive_sha256",), _VALUES)
"""What no two releases have alike; of those named together, no two at all."""

_NAMES = (*OFFICIAL_MODELS, *FIRST_RELEASES, *VARIANTS, *LITE_MODELS)


@dataclass(frozen=True)
class Release:
    """A checkpoint that Google has released, and what is known of it; None where it is not.

    Attributes:
        name: Official name: the model's, with ``-2020-03`` behind it for the first release.
        model: What :func:`~efficientdet_spec.family.get_config` calls its configuration.
        path: Of its archive below :data:`ROOT_URL`.
        ap_source: Which page states the AP.
        ap_val: AP on COCO val2017.
        ap_test_dev: AP on COCO test-dev2017, whose true boxes only COCO's server has.
        ap_unspecified: AP in a table that does not say on which images.
        ap_val_file: The same as ``ap_val`` with more digits: the file beside the checkpoint, and
            what it says.
        archive_sha256: Of the archive.
        archive_bytes: Size of the archive.
        fingerprint: SHA-256 of the sorted (name, CRC32C) pairs of the checkpoint.
        training_fingerprint: The same of a checkpoint from Google's training of this model, of
            which only the index is known: neither its address nor its preprocessing.
        ema_values: SHA-256 of the sorted (variable, CRC32C) pairs of the moving averages of the
            model's variables, by their names without the suffix.
        raw_values: The same of the raw values.
        training_ema_values: As ``ema_values``, of that checkpoint from training.
        training_raw_values: As ``raw_values``, likewise.
        profile: Name of the stages around the network that its AP was made with, where these are
            not the ones of every other release.
        container: :data:`TF1` or :data:`TF2`.
    """

    name: str
    model: str
    path: str
    ap_source: str
    ap_val: float | None = None
    ap_test_dev: float | None = None
    ap_unspecified: float | None = None
    ap_val_file: tuple[str, float] | None = None
    archive_sha256: str | None = None
    archive_bytes: int | None = None
    fingerprint: str | None = None
    training_fingerprint: str | None = None
    ema_values: str | None = None
    raw_values: str | None = None
    training_ema_values: str | None = None
    training_raw_values: str | None = None
    profile: str | None = None
    container: str = TF1

    @property
    def file(self) -> str:
        """Name of the archive."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path without what says that it is an archive: where it is unpacked by habit."""
        return re.sub(r"\.(tar\.gz|tgz)$", "", self.path)

    @property
    def is_variant(self) -> bool:
        """Whether the model's name alone does not stand for it: it has variables of another."""
        return base_model(self.name) != self.name


def read_releases(content: bytes) -> dict[str, Release]:
    """The releases by name, D0 to D7x first, from a file such as ``releases.json``.

    Args:
        content: The file's bytes.

    Raises:
        ValueError: Something in it is missing, unknown or impossible; says what and where.
    """
    found = json.loads(content)
    if not isinstance(found, dict) or tuple(found) != _NAMES:
        raise ValueError(f"expected an object with {', '.join(_NAMES)}, in this order")
    releases = {name: _release(name, known) for name, known in found.items()}
    for group in _UNLIKE:
        values = [getattr(release, field) for release in releases.values() for field in group]
        stated = [value for value in values if value is not None]
        if len(set(stated)) != len(stated):
            raise ValueError(f"two releases have the same {group[0]}")
    return releases


def _release(name: str, known: Any) -> Release:
    names = {field.name for field in fields(Release)} - {"name"}
    if not isinstance(known, dict) or not set(known) <= names:
        raise ValueError(f"{name}: expected an object with some of {', '.join(sorted(names))}")
    needed = {field.name for field in fields(Release) if field.default is MISSING} - {"name"}
    if missing := sorted(needed - set(known)):
        raise ValueError(f"{name}: {missing[0]} is missing")
    for key, value in known.items():
        sound, wanted = _SOUND[key]
        if not sound(value):
            raise ValueError(f"{name}: {key} is {value!r:.100}, expected {wanted}")
    if known["model"] != FIRST_RELEASES.get(name, name):
        raise ValueError(f"{name}: model is {known['model']!r:.100}, not what the name stands for")
    both = {"ap_val", "ap_test_dev"} <= set(known)
    if not both and "ap_unspecified" not in known:
        missing_ap = "ap_test_dev" if "ap_val" in known else "ap_val"
        raise ValueError(f"{name}: {missing_ap} is missing, and so is ap_unspecified")
    file = known.get("ap_val_file")
    figure = None if file is None else (file["name"], file["ap"])
    return Release(name, **{**known, "ap_val_file": figure})


def _is_ap(value: Any) -> bool:
    return type(value) is float and 0 < value < 1


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_figure(value: Any) -> bool:
    whole = isinstance(value, dict) and set(value) == {"name", "ap"}
    return whole and isinstance(value["name"], str) and _is_ap(value["ap"])


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) < 100 and value.isprintable()


def _is_path(value: Any) -> bool:
    pattern = r"[a-z0-9]+/[a-z0-9-]+\.(tar\.gz|tgz)"
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


_AP = (_is_ap, "a number between 0 and 1")
_DIGEST = (_is_sha256, "64 lower-case hexadecimal digits")
_SOUND: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "model": (lambda value: value in MODELS or value in VARIANTS, "the name of a model"),
        "path": (_is_path, "a folder and an archive, FOLDER/NAME.tar.gz"),
        "ap_source": (_is_text, "the name of a page"),
        "ap_val": _AP,
        "ap_test_dev": _AP,
        "ap_unspecified": _AP,
        "ap_val_file": (_is_figure, "an object with a name and an ap between 0 and 1"),
        "archive_sha256": _DIGEST,
        "archive_bytes": (_is_count, "a positive whole number"),
        "fingerprint": _DIGEST,
        "training_fingerprint": _DIGEST,
        **dict.fromkeys(_VALUES, _DIGEST),
        "profile": (_is_text, "the name of a profile"),
        "container": (lambda value: value in (TF1, TF2), f"{TF1} or {TF2}"),
    }
)
"""What each entry may be, and how people are told."""


RELEASES: Mapping[str, Release] = MappingProxyType(
    read_releases(cast(bytes, pkgutil.get_data("efficientdet_spec", "releases.json")))
)
"""Every release by its official name: D0 to D7x, the first release, AdvProp, 640x640, lite."""


def _known(field: str) -> Mapping[str, Any]:
    """One thing that is known of some or all releases, by name."""
    found = {name: getattr(release, field) for name, release in RELEASES.items()}
    return MappingProxyType({name: item for name, item in found.items() if item is not None})


ARCHIVE_SHA256: Mapping[str, str] = _known("archive_sha256")
"""Of the archives, where it is known."""

ARCHIVE_BYTES: Mapping[str, int] = _known("archive_bytes")
"""Size of the archives, where it is known."""

FINGERPRINTS: Mapping[str, str] = _known("fingerprint")
"""SHA-256 of the sorted (name, CRC32C) pairs of a released checkpoint, where it is known."""

AP_VAL: Mapping[str, float] = _known("ap_val")
"""The stated AP on COCO val2017. Until March 2021 the README had 0.425 for D2 and 0.472 for D3."""

AP_TEST_DEV: Mapping[str, float] = _known("ap_test_dev")
"""The stated AP on COCO test-dev2017, whose true boxes only COCO's evaluation server has."""

AP_VAL_FILES: Mapping[str, tuple[str, float]] = _known("ap_val_file")
"""The same AP with more digits: the file beside the checkpoint, and what it says. The files of the
other releases are not known here."""


def release_of_content(fingerprint: str) -> Release | None:
    """The release whose checkpoint has these tensors; None where none is known to.

    Args:
        fingerprint: SHA-256 of the sorted (name, CRC32C) pairs of all tensors.
    """
    return next((item for item in RELEASES.values() if item.fingerprint == fingerprint), None)


def release_of_values(fingerprint: str) -> tuple[Release, str] | None:
    """The release that has these values, in whatever file they are; None where none is known to.

    Args:
        fingerprint: SHA-256 of the sorted (name, CRC32C) pairs of one value of each of a model's
            variables, by their official names without any suffix.

    Returns:
        The release, and :data:`EMA` or :data:`RAW`.
    """
    for release in RELEASES.values():
        for kind, known in ((EMA, release.ema_values), (RAW, release.raw_values)):
            if known == fingerprint:
                return release, kind
    return None


def release_of_archive(sha256: str | None) -> Release | None:
    """The release whose archive has these bytes; None where none is known to.

    Args:
        sha256: Of the archive; None where there is none.
    """
    if sha256 is None:
        return None
    return next((item for item in RELEASES.values() if item.archive_sha256 == sha256), None)


def release_at(address: str) -> Release | None:
    """The release whose archive lies at an address, also on another server than Google's.

    Args:
        address: A web address or the path of a file, without a query.
    """
    place = address.replace("\\", "/")
    on_the_web = "://" in place
    for release in RELEASES.values():
        path = release.path
        # A folder called coco is where many people keep their own files.
        if path.startswith("coco/") and not on_the_web and release.name in FIRST_RELEASES:
            path = f"efficientdet/{path}"
        if f"/{place}".endswith(f"/{path}"):
            return release
    return None


def release_in(folder: str) -> Release | None:
    """The release that a folder, or an archive of another place, is called after.

    A folder ``efficientdet-d0`` may hold any release of D0, and tells nothing.

    Args:
        folder: Its path.
    """
    place = re.sub(r"\.(tar\.gz|tgz|tar)$", "", folder.replace("\\", "/"))
    name = place.rpartition("/")[2]
    for release in RELEASES.values():
        if not release.is_variant:
            continue
        nested = release.name not in FIRST_RELEASES and f"/{place}".endswith(f"/{release.folder}")
        if name == release.name or nested:
            return release
    return None


def backbone_address(name: str) -> str | None:
    """Where the EfficientNet lies that google/automl names for training; None where it names none.

    Those of other training (``ckpts``, ``advprop``, ``randaug``, ``noisystudent``) lie beside it.

    Args:
        name: The backbone's name.
    """
    number = re.fullmatch(r"efficientnet-(lite[0-4]|b[0-7])", name)
    if number is None:
        return None
    folder = "lite" if number[1].startswith("lite") else "ckptsaug"
    return f"{BACKBONES_URL}/{folder}/{name}.tar.gz"


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


def archive_address(name: str) -> str:
    """The address that an official name stands for.

    In a folder of :data:`DOWNLOADS` lie the archives of D0 to D7x, and the other releases in
    folders called as Google's are: beside it where it is called ``coco2`` itself, else inside.

    Args:
        name: The official name.

    Raises:
        InputError: As :func:`downloads_address`.
    """
    base = downloads_address()
    folder, _, file = RELEASES[name].path.rpartition("/")
    if folder == "coco2":
        return f"{base}/{file}"
    return f"{base.removesuffix('/coco2')}/{folder}/{file}"
