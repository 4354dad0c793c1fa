"""One file for each reader. A new one is in use once its class is named in :data:`MODULES`."""

from __future__ import annotations

import importlib
from pathlib import Path

from fuzzing.target import Target

MODULES = {
    "table": "fuzzing.targets.table",
    "index": "fuzzing.targets.index",
    "bundle": "fuzzing.targets.bundle",
    "conversion": "fuzzing.targets.conversion",
    "object-graph": "fuzzing.targets.object_graph",
    "saved-model": "fuzzing.targets.saved_model",
    "tar": "fuzzing.targets.tar",
    "zip": "fuzzing.targets.zip",
    "gz": "fuzzing.targets.gz",
    "frozen": "fuzzing.targets.frozen",
    "http": "fuzzing.targets.http",
    "state-file": "fuzzing.targets.state_file",
    "pth": "fuzzing.targets.pth",
    "pth-flips": "fuzzing.targets.pth_flips",
    "pth-keys": "fuzzing.targets.pth_keys",
    "pth-both": "fuzzing.targets.pth_both",
    "pth-legacy": "fuzzing.targets.pth_legacy",
    "safetensors": "fuzzing.targets.safetensors",
    "safetensors-foreign": "fuzzing.targets.safetensors_foreign",
    "trace": "fuzzing.targets.trace",
    "keras-h5": "fuzzing.targets.keras_h5",
    "annotations": "fuzzing.targets.annotations",
    "detections": "fuzzing.targets.detections",
    "images": "fuzzing.targets.images",
    "results": "fuzzing.targets.results",
    "report": "fuzzing.targets.report",
    "shards": "fuzzing.targets.shards",
    "names": "fuzzing.targets.names",
    "hparams": "fuzzing.targets.hparams",
    "odd-files": "fuzzing.targets.odd_files",
    "broken": "fuzzing.targets.broken",
}
"""The module of each target, by its name; each has one class ``Reader``."""

HIDDEN = frozenset({"broken"})
"""Readers that are wrong on purpose, for the tests of the harness itself."""

ALL = tuple(name for name in MODULES if name not in HIDDEN)
"""What a run tries, in this order."""


def kind_of(name: str) -> type[Target]:
    """The class of a target; its module is imported now, with whatever it reads with."""
    found = importlib.import_module(MODULES[name])
    return found.Reader


def opened(name: str, material: Path) -> Target:
    """A target with its sound inputs.

    Args:
        name: One of :data:`MODULES`.
        material: The folder that :mod:`fuzzing.material` has filled.
    """
    return kind_of(name)(material)
