"""What Google has released: the checkpoints' addresses, how to recognise them, their published AP.

Sources: the README of ``google/automl``'s ``efficientdet`` at commit 6a54c87 (addresses, and both
columns of AP with one decimal), the evaluation's output files beside the checkpoints
(``coco2/val``), and the checkpoints' own index files, from which the fingerprints are computed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType

from efficientdet_spec.errors import Cause, InputError

STORAGE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet/coco2"
"""The folder that the README links for the checkpoints trained on COCO."""

LICENCE = "Apache-2.0"
"""Of the released checkpoints (the repository's LICENSE), as SPDX calls it."""

DOWNLOADS = "EFFICIENTDET_DOWNLOADS"
"""The environment variable that names another folder with the same archives, such as a mirror."""

ARCHIVE_SHA256: Mapping[str, str] = MappingProxyType(
    {
        "efficientdet-d0": "74794c937aa1fa2f559c2393d22b251b1f7135a49b108bd0414bc4f4800ca15d",
        "efficientdet-d1": "31d8741da9840ab8bddfaa041d395d84a8c1e4e54db01cf8d277471afad5d6e0",
    }
)
"""Of the archives, where it is known."""

FINGERPRINTS: Mapping[str, str] = MappingProxyType(
    {
        "efficientdet-d0": "c7ae28b60494dd4ba9ddcfe588071d760087ac5f8cb38ec5ed023ecbf6608060",
        "efficientdet-d1": "76f95b0567c86de4e5c05cd6e8ead0d730dc9c8730dfd01cc5734a2328ab61cf",
        "efficientdet-d2": "55276433f8d8725fdf633ab069f19c999398415946405dddd16bc8e4543c1c27",
        "efficientdet-d3": "17e4a9f7fa05f262006b9acd942f708944daa4aba0fadc50f6377f32f06b32db",
    }
)
"""SHA-256 of the sorted (name, CRC32C) pairs of a released checkpoint, where it is known."""

AP_VAL: Mapping[str, float] = MappingProxyType(
    {
        "efficientdet-d0": 0.343,
        "efficientdet-d1": 0.402,
        "efficientdet-d2": 0.435,
        "efficientdet-d3": 0.468,
        "efficientdet-d4": 0.493,
        "efficientdet-d5": 0.512,
        "efficientdet-d6": 0.521,
        "efficientdet-d7": 0.534,
        "efficientdet-d7x": 0.544,
    }
)
"""The README's AP on COCO val2017. Until March 2021 it had 0.425 for D2 and 0.472 for D3."""

AP_TEST_DEV: Mapping[str, float] = MappingProxyType(
    {
        "efficientdet-d0": 0.346,
        "efficientdet-d1": 0.405,
        "efficientdet-d2": 0.439,
        "efficientdet-d3": 0.472,
        "efficientdet-d4": 0.497,
        "efficientdet-d5": 0.515,
        "efficientdet-d6": 0.526,
        "efficientdet-d7": 0.537,
        "efficientdet-d7x": 0.551,
    }
)
"""The README's AP on COCO test-dev2017, whose true boxes only COCO's evaluation server has."""

AP_VAL_FILES: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "efficientdet-d0": ("coco2/val/d0_coco_val.txt", 0.34292528),
        "efficientdet-d1": ("coco2/val/d1_coco_val.txt", 0.40172336),
        "efficientdet-d2": ("coco2/val/d2_coco_val.txt", 0.43513247),
        "efficientdet-d3": ("coco2/val/d3_coco_val_softnms.txt", 0.47151694),
    }
)
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
