"""From a checkpoint's arrays to PyTorch's, and back, by the one mapping."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from converter.bundle import BundleIndex, index_file, open_bundle, read_index
from converter.layouts import SCALARS, Array
from converter.ledger import Ledger, choose_config, make_ledger
from converter.mapping import iterate_pairs
from converter.sources import CheckpointFiles
from efficientdet_spec import EfficientDetConfig, get_config


@dataclass(frozen=True)
class Conversion:
    """A checkpoint's values in PyTorch's layout, and how they came about.

    Attributes:
        ledger: What became of every variable.
        arrays: One writable, contiguous float32 array for each parameter.
        provenance: Source, hashes, choices and versions, as plain values.
        warnings: What a user should look at, such as NaN values by name.
    """

    ledger: Ledger
    arrays: Mapping[str, Array]
    provenance: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def config(self) -> EfficientDetConfig:
        """The model."""
        return self.ledger.config


def account(
    files: CheckpointFiles,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    weights: str = "ema",
) -> Ledger:
    """The ledger of a checkpoint, from its index alone.

    Args:
        files: The checkpoint.
        model: Name of the model; None recognises it, and an official name given as the source
            decides between models with the same variables.
        num_classes: Number of classes that the file must have; None takes what it has.
        weights: ``ema`` or ``raw``.

    Raises:
        InputError: The index cannot be read, or is of another or no known model.
    """
    return _ledger(read_index(index_file(files.prefix)), files, model, num_classes, weights)


def _ledger(
    index: BundleIndex,
    files: CheckpointFiles,
    model: str | None,
    num_classes: int | None,
    weights: str,
) -> Ledger:
    name = model or files.official_model
    wanted = get_config(name) if name else None
    config = choose_config(index.entries, str(files.prefix), wanted, num_classes)
    return make_ledger(index.entries, config, weights)


def convert(
    files: CheckpointFiles,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    weights: str = "ema",
) -> Conversion:
    """Read, check and convert a checkpoint.

    Args:
        files: The checkpoint.
        model: As for :func:`account`.
        num_classes: As for :func:`account`.
        weights: As for :func:`account`.

    Raises:
        InputError: The checkpoint cannot be read, is damaged, or leaves findings in the ledger.
    """
    index = read_index(index_file(files.prefix))
    ledger = _ledger(index, files, model, num_classes, weights)
    ledger.require_complete(str(files.prefix))
    bundle = open_bundle(files.prefix, index)
    arrays: dict[str, Array] = {}
    warnings = []
    for name, array in to_torch(ledger, bundle.read):
        arrays[name] = array
        if warning := not_finite(name, array):
            warnings.append(warning)
    used = [name for source in ledger.sources for name in source.variables]
    provenance = {
        "source": files.origin,
        "archive_sha256": files.archive_sha256,
        "index_sha256": hashlib.sha256(bundle.index.path.read_bytes()).hexdigest(),
        "checkpoint_fingerprint": bundle.index.fingerprint(),
        "values_fingerprint": bundle.index.fingerprint(used),
        "weights": weights,
        "variables": ledger.counts(),
        "notes": list(ledger.notes),
        "warnings": warnings,
        "versions": {name: _version(name) for name in ("efficientdet-parity", "numpy", "torch")},
    }
    return Conversion(ledger, arrays, provenance, tuple(warnings))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def to_torch(ledger: Ledger, read: Callable[[str], Array]) -> Iterator[tuple[str, Array]]:
    """Each parameter's name with its own contiguous array in PyTorch's layout.

    Args:
        ledger: A ledger without findings.
        read: Gives a variable's array by its full name in the checkpoint.
    """
    for source in ledger.sources:
        arrays = [read(name) for name in source.variables]
        if source.pair.layout is SCALARS:
            yield source.pair.parameter, np.array(arrays)
        else:
            yield source.pair.parameter, source.pair.layout.to_torch(arrays[0]).copy(order="C")


def to_tensorflow(
    config: EfficientDetConfig, state: Mapping[str, Array]
) -> Iterator[tuple[str, Array]]:
    """Each variable's name with its array, from the parameters of a model.

    Args:
        config: The model.
        state: Arrays by parameter name, in PyTorch's layout; batch counters are ignored.

    Raises:
        KeyError: A parameter is missing.
    """
    for pair in iterate_pairs(config):
        array = np.asarray(state[pair.parameter])
        if pair.layout is SCALARS:
            yield from zip(pair.variables, array, strict=True)
        else:
            yield pair.variables[0], np.ascontiguousarray(pair.layout.to_tensorflow(array))


def not_finite(name: str, array: Array) -> str | None:
    """A warning that names ``name`` where it holds NaN or infinite values, else None."""
    # One infinite or NaN element makes the sum so; finite sums may overflow, so look again.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):
            return None
    count = int(array.size - np.count_nonzero(np.isfinite(array)))
    if not count:
        return None
    return f"{name}: {count} of {array.size} values are NaN or infinite"
