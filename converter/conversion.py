"""From a checkpoint's arrays to PyTorch's, and back, by the one mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from converter.backbones import backbone_ledger
from converter.bundle import (
    Bundle,
    BundleIndex,
    count_not_finite,
    index_file,
    open_bundle,
    read_index,
)
from converter.choice import choose_config
from converter.fetch.cached import CheckpointFiles
from converter.hparams.given import Hyperparameters
from converter.ledger import FLOAT64, PRECISIONS, Ledger, make_ledger
from converter.mappings.layouts import Array
from converter.mappings.official import iterate_pairs
from converter.origin import (
    BY_CONTENT,
    BY_FOLDER,
    BY_NAME,
    Recognised,
    fitting,
    model_of_name,
    recognise_release,
)
from converter.recognition import facts_of
from converter.variables import base_shapes, without_prefix
from efficientdet_spec import (
    BATCH_NORM_EPSILON,
    FIRST_RELEASES,
    MODELS,
    Cause,
    EfficientDetConfig,
    InputError,
    base_model,
    file_sha256,
    get_config,
    installed_version,
    same_variables,
)
from efficientdet_spec.releases import LICENCE, ROOT_URL, release_of_content

_VARIANCE = ".running_var"
"""What the names of the parameters end with that hold the moving variances of batch norms."""


@dataclass(frozen=True)
class Conversion:
    """A checkpoint's values in PyTorch's layout, and how they came about.

    Attributes:
        ledger: What became of every variable.
        arrays: One writable, contiguous float32 array for each parameter.
        provenance: Source, hashes, choices and versions, as plain values.
    """

    ledger: Ledger
    arrays: Mapping[str, Array]
    provenance: Mapping[str, Any]

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
    hyperparameters: Hyperparameters | None = None,
    backbone: str | None = None,
) -> Ledger:
    """The ledger of a checkpoint, from its index alone.

    Args:
        files: The checkpoint.
        model: Name of the model; None recognises it, and an official name given as the source
            decides between models with the same variables.
        num_classes: Number of classes that the file must have; None takes what it has.
        weights: ``ema`` or ``raw``.
        hyperparameters: What is known besides the tensors; None for what lies beside them.
        backbone: The backbone alone, by its name or
            :data:`~converter.backbones.ANY_BACKBONE`; None for the whole detector.

    Raises:
        InputError: The index cannot be read, or is of another or no known model.
    """
    index = read_index(index_file(files.prefix))
    if backbone is not None:
        return _of_backbone(index, files, backbone, weights)
    return _ledger(index, files, model, num_classes, weights, hyperparameters)[0]


def _of_backbone(index: BundleIndex, files: CheckpointFiles, name: str, weights: str) -> Ledger:
    entries = without_prefix(index.entries, files.strip, str(files.prefix))
    return backbone_ledger(entries, str(files.prefix), name, weights, files.strip)


def _ledger(
    index: BundleIndex,
    files: CheckpointFiles,
    model: str | None,
    num_classes: int | None,
    weights: str,
    hyperparameters: Hyperparameters | None,
) -> tuple[Ledger, Recognised | None]:
    """The account of a checkpoint, and which release it is."""
    known = hyperparameters or Hyperparameters.of(files.prefix)
    release = recognise_release(files, index.fingerprint())
    variant = known.from_file(release.config.name if release else None)
    name = model or files.official_model or variant
    try:
        entries = without_prefix(index.entries, files.strip, str(files.prefix))
        known = replace(known, levels=facts_of(base_shapes(entries)).levels)
        wanted = known.named(name)
        if wanted is not None and release is not None and release.certain:
            _check_content(files, release, wanted, name or wanted.name)
        suggested = release.config if release else _suggested_by_name(files)
        config = choose_config(
            entries,
            str(files.prefix),
            wanted,
            num_classes,
            given=known.sources,
            models=known.models(wanted),
            suggested=None if suggested is None else known.applied(suggested),
            advice=_advice(known) if name is None else None,
        )
    except InputError as error:
        # What the user has said may be what does not fit, and not the archive.
        said = model is not None or num_classes is not None or known.given
        if said or files.download is None:
            raise
        raise InputError(
            f"{files.origin} is an archive of another model ({error}) give another address, or "
            f"delete {files.download} to download it again.",
            error.cause,
        ) from error
    known.require(config, str(files.prefix))
    release = fitting(release, (base_model(config.name),))
    ledger = make_ledger(entries, config, weights, files.strip)
    notes = _origin_notes(config, release, asked=wanted is not None and variant is None)
    if release is not None and release.config.name != config.name and not release.certain:
        # Somebody has called it so, and somebody else has said that it is not.
        release = None
    told = known.record(config)
    return replace(ledger, notes=(*ledger.notes, *notes), hyperparameters=told), release


def _advice(known: Hyperparameters) -> str | None:
    """What to do where a checkpoint is not of the model that hyperparameters name."""
    return f"correct the name in {known.sources['name']}" if "name" in known.given else None


def _suggested_by_name(files: CheckpointFiles) -> EfficientDetConfig | None:
    name = model_of_name(files)
    return get_config(name) if name else None


def _check_content(
    files: CheckpointFiles, release: Recognised, wanted: EfficientDetConfig, name: str
) -> None:
    """Raise where a checkpoint's content is known to be of another model than asked for."""
    found = release.config
    full = f"efficientdet-{name.removeprefix('efficientdet-')}"
    # The first releases are of today's models, but other weights.
    first = full in FIRST_RELEASES
    asked, known = (full, release.release.name) if first else (wanted.name, found.name)
    if asked != known and base_model(wanted.name) == base_model(found.name):
        raise InputError(
            f"{files.prefix} is Google's {release.release.name} by its content, not {asked}; "
            f"leave --model out or give the right checkpoint.",
            Cause.MODEL,
        )


def _origin_notes(
    config: EfficientDetConfig, release: Recognised | None, *, asked: bool
) -> tuple[str, ...]:
    """What a checkpoint's origin decided, or would have if no other model had been asked for."""
    if release is not None and release.config.name != config.name:
        return (
            f"The checkpoint is {release.release.name} {release.how}, but {config.name} was asked "
            f"for.",
        )
    if asked or (release is not None and release.how in (BY_CONTENT, BY_NAME)):
        return ()
    alike = [name for name in same_variables(config.name) if name in MODELS]
    if not alike:
        return ()
    how = release.how if release is not None else BY_FOLDER
    return (
        f"Taken for {config.name} {how}; its variables are those of {' and '.join(alike)} too.",
    )


def convert(
    files: CheckpointFiles,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    weights: str = "ema",
    hyperparameters: Hyperparameters | None = None,
    backbone: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Read, check and convert a checkpoint.

    Args:
        files: The checkpoint.
        model: As for :func:`account`.
        num_classes: As for :func:`account`.
        weights: As for :func:`account`.
        hyperparameters: As for :func:`account`.
        backbone: As for :func:`account`.
        progress: Called with the bytes read and their total.

    Raises:
        InputError: The checkpoint cannot be read, is damaged, leaves findings in the ledger, or
            holds NaN or infinite values, or variances that make such, where they would be used.
    """
    index = read_index(index_file(files.prefix))
    release = None
    if backbone is not None:
        ledger = _of_backbone(index, files, backbone, weights)
    else:
        ledger, release = _ledger(index, files, model, num_classes, weights, hyperparameters)
    ledger.require_complete(str(files.prefix))
    reader = _Reader(open_bundle(files.prefix, index), progress, _variances(ledger))
    arrays = dict(to_torch(ledger, reader.read_float32))
    ledger = reader.finish(ledger)
    used = [name for source in ledger.sources for name in source.variables]
    provenance = {
        "source": files.origin,
        "archive_sha256": files.archive_sha256,
        "index_sha256": file_sha256(index.path),
        "checkpoint_fingerprint": index.fingerprint(),
        "values_fingerprint": index.fingerprint(used),
        "release": _release_record(release, ledger.config),
        "licence": _licence(files, index),
        "weights": weights,
        "stripped_prefix": files.strip or None,
        "variables": ledger.counts(),
        "dtypes": dict(Counter(PRECISIONS[index.entries[name].dtype_name] for name in used)),
        "notes": list(ledger.notes),
        **({"hyperparameters": dict(ledger.hyperparameters)} if ledger.hyperparameters else {}),
        "versions": {
            name: installed_version(name) for name in ("efficientdet-parity", "numpy", "torch")
        },
    }
    return Conversion(ledger, arrays, provenance)


def _release_record(
    release: Recognised | None, config: EfficientDetConfig
) -> dict[str, str] | None:
    """The release that a checkpoint is, or is said to be; with other classes it is none."""
    if release is None or config.num_classes != release.config.num_classes:
        return None
    return {"name": release.release.name, "how": release.how}


def _licence(files: CheckpointFiles, index: BundleIndex) -> str | None:
    """The licence of a release of Google's, known by its content or address; else None."""
    released = release_of_content(index.fingerprint()) is not None
    return LICENCE if released or files.origin.startswith(f"{ROOT_URL}/") else None


def examine(
    files: CheckpointFiles, ledger: Ledger, progress: Callable[[int, int], None] | None = None
) -> Ledger:
    """Read every value of a checkpoint as a conversion does, and keep none.

    Args:
        files: The checkpoint.
        ledger: Its account.
        progress: Called with the bytes read and their total.

    Returns:
        The ledger, with a note where values that are not used are NaN or infinite, and where a
        variance is negative.

    Raises:
        InputError: As for :func:`convert`.
    """
    return _Reader(open_bundle(files.prefix), progress, _variances(ledger)).finish(ledger)


def _variances(ledger: Ledger) -> frozenset[str]:
    """The variables from which the moving variances of batch norms are taken."""
    return frozenset(
        name
        for source in ledger.sources
        if source.pair.parameter.endswith(_VARIANCE)
        for name in source.variables
    )


@dataclass
class _Reader:
    """Reads every variable of a checkpoint once, verified, and counts what no training writes.

    That is NaN and infinity anywhere, and what is negative among the variances that are used.

    Attributes:
        bundle: The checkpoint.
        progress: Called with the bytes read and their total.
        variances: Variables whose values are used as variances.
        not_finite: For each variable read, how many of its values are NaN or infinite.
        rootless: Of variances so low that a batch norm has no square root of them, how many.
        negative: Of all negative variances, how many.
        done: Bytes read so far.
        total: Bytes of all variables.
    """

    bundle: Bundle
    progress: Callable[[int, int], None] | None
    variances: frozenset[str]
    not_finite: dict[str, int] = field(default_factory=dict)
    rootless: dict[str, int] = field(default_factory=dict)
    negative: dict[str, int] = field(default_factory=dict)
    done: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(entry.size for entry in self.bundle.index.entries.values())

    def read(self, name: str) -> Array:
        array = self.bundle.read(name)
        self._count(name, count_not_finite(array))
        if name in self.variances:
            # A batch norm divides by the root of variance + epsilon, which at 0 is infinite.
            self.rootless[name] = int(np.count_nonzero(array <= -BATCH_NORM_EPSILON))
            self.negative[name] = int(np.count_nonzero(array < 0))
        return array

    def read_float32(self, name: str) -> Array:
        """A variable's values as float32, whatever floating-point type they are stored in.

        Raises:
            InputError: It is damaged, or holds a value that float32 cannot hold.
        """
        array = self.read(name)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            narrowed = array.astype(np.float32, copy=False)
        # What is not finite is told apart, for all variables together.
        changed = (narrowed != array) & np.isfinite(array)
        if changed.any():
            value, nearest = float(array[changed][0]), float(narrowed[changed][0])
            raise InputError(
                f"{self.bundle.prefix}: {name!r} is stored as float64 and holds {value!r}, which "
                f"float32 cannot hold (the nearest is {nearest!r}); {int(changed.sum())} of its "
                f"{array.size} values are so. Expected values that float32 holds exactly, so cast "
                f"the variables to float32 in TensorFlow and save the checkpoint again.",
                Cause.MODEL,
            )
        return narrowed

    def finish(self, ledger: Ledger) -> Ledger:
        """Verify what has not been read, and judge the values.

        Returns:
            The ledger, with a note where values that are not used are NaN or infinite, and where
            a variance is negative.

        Raises:
            InputError: A variable is damaged, or values that are used are NaN or infinite, or
                are variances that make a batch norm so.
        """
        used = {name for source in ledger.sources for name in source.variables}
        for name, entry in self.bundle.index.entries.items():
            if name in self.not_finite:
                continue
            if name in used and PRECISIONS.get(entry.dtype_name) == FLOAT64:
                self.read_float32(name)
            elif name in self.variances:
                self.read(name)
            else:
                self._count(name, self.bundle.verify(name))
        bad = [name for name in self.bundle.index.entries if self.not_finite[name]]
        spoilt = [name for name in bad if name in used]
        if spoilt:
            raise InputError(
                f"{self.bundle.prefix}: {self._described(spoilt)}; the training that wrote it has "
                f"diverged, so give an earlier checkpoint.",
                Cause.MODEL,
            )
        notes = [f"Of the values that are not used, {self._described(bad)}."] if bad else []
        notes += self._judged_variances()
        return replace(ledger, notes=(*ledger.notes, *notes)) if notes else ledger

    def _judged_variances(self) -> list[str]:
        """What to note of variances that are negative, yet so near 0 that they can be used.

        Raises:
            InputError: A batch norm with one of them gives NaN or infinity.
        """
        rootless = self._first_and_others(self.rootless)
        if rootless:
            raise InputError(
                f"{self.bundle.prefix}: {rootless} at or below -{BATCH_NORM_EPSILON}, of which a "
                f"batch norm's square root gives NaN or infinity; no training writes a negative "
                f"variance, so give the checkpoint as it was trained.",
                Cause.MODEL,
            )
        negative = self._first_and_others(self.negative)
        if not negative:
            return []
        return [
            f"{negative} below 0, which no training writes; batch norms can use them, since none "
            f"is below -{BATCH_NORM_EPSILON}."
        ]

    def _first_and_others(self, counts: Mapping[str, int]) -> str:
        """Which variances are meant, to stand in a sentence; empty where none is."""
        names = [name for name in self.bundle.index.entries if counts.get(name)]
        if not names:
            return ""
        size = int(np.prod(self.bundle.index.entries[names[0]].shape, dtype=int))
        return f"{names[0]!r} holds {counts[names[0]]} of {size} values{_and_others(names)}"

    def _count(self, name: str, not_finite: int) -> None:
        self.not_finite[name] = not_finite
        self.done += self.bundle.index.entries[name].size
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _described(self, names: list[str]) -> str:
        """Which variables are not finite, to stand in a sentence."""
        first = names[0]
        array = self.bundle.read(first)
        nan = int(np.count_nonzero(np.isnan(array)))
        kind = {0: "infinite values", self.not_finite[first]: "NaN"}.get(nan, "NaN and infinity")
        return (
            f"{first!r} holds {kind} in {self.not_finite[first]} of {array.size} values"
            f"{_and_others(names)}"
        )


def _and_others(names: list[str]) -> str:
    """How many variables are affected besides the first, to stand behind what is said of it."""
    others = len(names) - 1
    return {0: "", 1: " (and one more variable is affected)"}.get(
        others, f" (and {others} more variables are affected)"
    )


def to_torch(ledger: Ledger, read: Callable[[str], Array]) -> Iterator[tuple[str, Array]]:
    """Each parameter's name with its own contiguous array in PyTorch's layout.

    Args:
        ledger: A ledger without findings.
        read: Gives a variable's array by its full name in the checkpoint.
    """
    for source in ledger.sources:
        arrays = [read(name) for name in source.variables]
        yield source.pair.parameter, source.pair.layout.to_torch(arrays)


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
        yield from zip(pair.variables, pair.layout.to_tensorflow(array), strict=True)
