"""From a checkpoint's arrays to PyTorch's, and back, by the one mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from converter.backbones import backbone_ledger
from converter.choice import choose_config
from converter.fetch.cached import CheckpointFiles
from converter.fingerprints import FLOAT, of_arrays
from converter.formats.registry import find, formats
from converter.formats.renamed import without_prefix
from converter.formats.source import OFFICIAL, TensorSource, holds_numbers
from converter.formats.tf1 import Tf1Source
from converter.hparams.given import Hyperparameters
from converter.ledger import (
    BOTH_VALUES,
    EMA_VALUES,
    FLOAT64,
    ONLY_VALUE,
    PRECISIONS,
    RAW_VALUES,
    Ledger,
    Source,
    make_ledger,
)
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
    recognise_values,
)
from converter.recognition import facts_of
from converter.tensorflow_files.bundle import count_not_finite, fingerprint
from converter.translation import as_official
from converter.untrained import untrained_notes
from efficientdet_spec import (
    BATCH_NORM_EPSILON,
    EMA_SUFFIX,
    FIRST_RELEASES,
    MODELS,
    Cause,
    EfficientDetConfig,
    InputError,
    base_model,
    get_config,
    installed_version,
    printable,
    same_variables,
)
from efficientdet_spec.releases import LICENCE, ROOT_URL

_VARIANCE = ".running_var"
"""What the names of the parameters end with that hold the moving variances of batch norms."""


@dataclass(frozen=True)
class Readable:
    """How TensorFlow's own reader finds the values that were converted.

    Attributes:
        prefix: Of a checkpoint whose keys are the variables' official names.
        averages: Whether the moving averages are the values, where there are some.
        scope: What stands before every name.
    """

    prefix: Path
    averages: bool
    scope: str


@dataclass(frozen=True)
class Conversion:
    """A checkpoint's values in PyTorch's layout, and how they came about.

    Attributes:
        ledger: What became of every variable.
        arrays: One writable, contiguous float32 array for each parameter.
        provenance: Source, hashes, choices and versions, as plain values.
        raw: The raw values beside the averages, likewise; None where one kind was asked for.
        readable: How TensorFlow reads the same values; None where it cannot.
    """

    ledger: Ledger
    arrays: Mapping[str, Array]
    provenance: Mapping[str, Any]
    raw: Mapping[str, Array] | None = None
    readable: Readable | None = None

    @property
    def config(self) -> EfficientDetConfig:
        """The model."""
        return self.ledger.config


def open_source(files: CheckpointFiles) -> TensorSource:
    """A checkpoint's tensors, by their names without what is to be left out before them.

    Args:
        files: The checkpoint.

    Raises:
        InputError: It is of no known kind, or damaged.
    """
    found = find(files.prefix)
    if found is None and files.prefix.is_file():
        raise InputError(
            f"{files.origin} holds {printable(files.prefix.name)}, which is no file of a model "
            f"that is known here; unpack it, or give the file that it was made from.",
            Cause.FORMAT,
        )
    if found is None:
        # Such as a prefix without an index: the reader says what is missing.
        container, place = formats()[Tf1Source.FORMAT], files.prefix
    else:
        container, place = found
    assert container.open is not None
    source = container.open(place)
    return without_prefix(source, files.strip)


def files_at(place: Path) -> list[Path]:
    """The files that a source is made of, which nothing may overwrite.

    Args:
        place: What names it, as of :class:`CheckpointFiles`.
    """
    found = find(place)
    return [] if found is None else found[0].files(found[1])


def account(
    files: CheckpointFiles,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    weights: str = "ema",
    hyperparameters: Hyperparameters | None = None,
    backbone: str | None = None,
    source: TensorSource | None = None,
) -> Ledger:
    """The ledger of a checkpoint, from what it says of its tensors alone.

    Args:
        files: The checkpoint.
        model: Name of the model; None recognises it, and an official name given as the source
            decides between models with the same variables.
        num_classes: Number of classes that the file must have; None takes what it has.
        weights: One of :data:`~converter.ledger.WEIGHTS`.
        hyperparameters: What is known besides the tensors; None for what lies beside them.
        backbone: The backbone alone, by its name or
            :data:`~converter.backbones.ANY_BACKBONE`; None for the whole detector.
        source: The checkpoint's tensors, where they have been opened.

    Raises:
        InputError: The checkpoint cannot be read, or is of another or no known model.
    """
    source = source or open_source(files)
    if backbone is not None:
        return _of_backbone(source, backbone, weights)[1]
    return _ledger(source, files, model, num_classes, weights, hyperparameters)[0]


def _of_backbone(source: TensorSource, name: str, weights: str) -> tuple[TensorSource, Ledger]:
    require_values(source, weights)
    return backbone_ledger(source, name, weights)


def _ledger(
    source: TensorSource,
    files: CheckpointFiles,
    model: str | None,
    num_classes: int | None,
    weights: str,
    hyperparameters: Hyperparameters | None,
) -> tuple[Ledger, Recognised | None]:
    """The account of a checkpoint, and which release it is."""
    known = hyperparameters or Hyperparameters.of(files.prefix)
    if source.said is not None:
        known = known.of_file(source.said.config, source.said.provenance)
    release = recognise_release(files, _fingerprint(source))
    variant = known.from_file(release.config.name if release else None)
    name = model or files.official_model or variant
    try:
        shapes = as_official(source, known.models(known.named(name)))
        known = replace(known, levels=facts_of(shapes).levels)
        wanted = known.named(name)
        if wanted is not None and release is not None and release.certain:
            _check_content(files, release, wanted, name or wanted.name)
        suggested = release.config if release else _suggested_by_name(files)
        config = choose_config(
            source.entries,
            str(source.path),
            wanted,
            num_classes,
            given=known.sources,
            models=known.models(wanted),
            suggested=None if suggested is None else known.applied(suggested),
            advice=_advice(known) if name is None else None,
            shapes=shapes,
        )
        if source.said is not None and model is not None:
            _check_said(source, model)
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
    known.require(config, str(source.path))
    require_values(source, weights, config)
    release = fitting(release, (base_model(config.name),))
    ledger = make_ledger(source, config, weights, shapes=shapes)
    if _twins_are_alike(source, ledger):
        ledger = replace(ledger, notes=(*ledger.notes, _ALIKE))
    asked = source.said is not None or (wanted is not None and variant is None)
    notes = _origin_notes(config, release, asked=asked)
    if release is not None and release.config.name != config.name and not release.certain:
        # Somebody has called it so, and somebody else has said that it is not.
        release = None
    told = known.record(config)
    return replace(ledger, notes=(*ledger.notes, *notes), hyperparameters=told), release


def require_values(
    source: TensorSource, weights: str, config: EfficientDetConfig | None = None
) -> None:
    """Refuse to take values that a file does not have.

    Args:
        source: The file.
        weights: One of :data:`~converter.ledger.WEIGHTS`.
        config: The model; None where a part of it is wanted.

    Raises:
        InputError: Raw values are asked for, and it has averages alone or cannot say; or both are,
            and it has one of the two.
    """
    has_averages = any(name.endswith(EMA_SUFFIX) for name in source.entries)
    lacking = _without_averages(source, config) if weights == BOTH_VALUES and config else 0
    found = ""
    if weights != EMA_VALUES and source.ONLY_VALUE:
        found = f"is {source.SAYS}, which holds one value of each variable, {source.ONLY_VALUE}"
    elif weights == BOTH_VALUES and not has_averages:
        found = "holds no moving averages (EMA) beside its values"
    elif lacking:
        found = f"lacks the moving average (EMA) of {lacking} variables"
    elif weights != EMA_VALUES and config is not None and not _has_raw(source, config):
        found = "holds the moving averages (EMA) alone"
    if found:
        raise InputError(
            f"{source.path} {found}, but --weights {weights} asks for "
            f"{'raw values' if weights == RAW_VALUES else 'raw values and averages'}; leave "
            f"--weights out, or give a file that holds them, such as the training checkpoint.",
            Cause.MODEL,
        )


def _without_averages(source: TensorSource, config: EfficientDetConfig) -> int:
    """How many variables have a raw value alone."""
    names = [name for pair in source.naming.pairs(config) for name in pair.variables]
    return sum(name in source.entries and name + EMA_SUFFIX not in source.entries for name in names)


def _has_raw(source: TensorSource, config: EfficientDetConfig) -> bool:
    names = (name for pair in source.naming.pairs(config) for name in pair.variables)
    return any(name in source.entries for name in names)


def _check_said(source: TensorSource, model: str) -> None:
    """Raise where a file says of itself that it is of another model than asked for."""
    assert source.said is not None
    found, asked = source.said.config.name, get_config(model).name
    if found != asked:
        raise InputError(
            f"{source.path} says that it holds {found}, not {asked}; leave --model out or give "
            f"the right file.",
            Cause.MODEL,
        )


def _fingerprint(source: TensorSource) -> str | None:
    """The fingerprint of all tensors where the container records their checksums; else None."""
    checksums = {entry.name: source.crc32c(name, None) for name, entry in source.entries.items()}
    known = {name: crc for name, crc in checksums.items() if crc is not None}
    return fingerprint(known) if known and len(known) == len(checksums) else None


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
    source = open_source(files)
    release = None
    if backbone is not None:
        source, ledger = _of_backbone(source, backbone, weights)
    else:
        ledger, release = _ledger(source, files, model, num_classes, weights, hyperparameters)
    ledger.require_complete(str(source.path))
    reader = _Reader(source, progress, _variances(ledger))
    arrays = dict(to_torch(ledger.sources, reader.read_float32))
    raw = dict(to_torch(ledger.raw_sources, reader.read_float32))
    ledger = reader.finish(ledger)
    untrained = untrained_notes(arrays)
    if untrained and weights != RAW_VALUES and backbone is None:
        _require_trained_alike(source, ledger, untrained[0])
    ledger = replace(ledger, notes=(*ledger.notes, *untrained))
    used = [name for item in (*ledger.sources, *ledger.raw_sources) for name in item.variables]
    of_model = None
    if backbone is None:
        of_model = of_arrays(ledger.config, arrays, _summed(source, ledger, reader.checksums))
    release = release or fitting(recognise_values(of_model), (base_model(ledger.config.name),))
    provenance = {
        "source": files.origin,
        "container": source.FORMAT,
        "archive_sha256": files.archive_sha256,
        **source.digests(),
        "checkpoint_fingerprint": fingerprint(reader.checksums),
        "values_fingerprint": fingerprint(
            {name: reader.checksums[name] for name in (source.entries[key].name for key in used)}
        ),
        "model_fingerprint": of_model,
        "checked": source.CHECKED,
        "release": _release_record(release, ledger.config),
        "licence": _licence(files, source, release),
        "weights": ONLY_VALUE if _one_value(source, ledger) else weights,
        "stripped_prefix": files.strip or None,
        "variables": ledger.counts(),
        "dtypes": dict(Counter(PRECISIONS[source.entries[name].dtype_name] for name in used)),
        "notes": list(ledger.notes),
        **({"hyperparameters": dict(ledger.hyperparameters)} if ledger.hyperparameters else {}),
        **_earlier(source),
        "versions": {
            name: installed_version(name) for name in ("efficientdet-parity", "numpy", "torch")
        },
    }
    return Conversion(ledger, arrays, provenance, raw or None, _tensorflow_reads(source, weights))


def _summed(
    source: TensorSource, ledger: Ledger, checksums: Mapping[str, int]
) -> Mapping[str, int]:
    """The checksums of the model's official variables that those of a file's tensors are.

    They are where the file has the same values in the same type and layout.

    Args:
        source: The file.
        ledger: Its account, of a whole model.
        checksums: Of its tensors, by their names in the file.
    """
    chosen = {item.pair.parameter: item for item in ledger.sources}
    found: dict[str, int] = {}
    for pair in iterate_pairs(ledger.config):
        item = chosen[pair.parameter]
        if item.pair.layout != pair.layout:
            continue
        entries = [source.entries[name] for name in item.variables]
        if all(entry.dtype_name == FLOAT for entry in entries):
            named = zip(pair.variables, entries, strict=True)
            found |= {variable: checksums[entry.name] for variable, entry in named}
    return found


def _require_trained_alike(source: TensorSource, ledger: Ledger, untrained: str) -> None:
    """Refuse moving averages that look untrained where the raw values beside them do not.

    So are the variables of a SavedModel of TensorFlow 1, which have the names of a checkpoint; what
    tells them from one is ``saved_model.pb``, and that may have been left behind.

    Args:
        source: The file.
        ledger: Its account, in which averages are used.
        untrained: In what they look untrained, a sentence.

    Raises:
        InputError: The raw values look trained.
    """
    names = {name for item in ledger.sources for name in item.variables}
    raw = {
        item: tuple(name.removesuffix(EMA_SUFFIX) for name in item.variables)
        for item in ledger.sources
    }
    twins = [name for own in raw.values() for name in own]
    if not any(name not in names for name in twins) or not set(twins) <= source.entries.keys():
        return
    others = (Source(item.pair, own) for item, own in raw.items())
    if len(untrained_notes(dict(to_torch(others, source.read)))) == 0:
        raise InputError(
            f"{source.path}: its moving averages (EMA) look untrained and its raw values do not "
            f"({untrained.partition(': ')[2].rstrip('.')}): so are the variables of a TensorFlow 1 "
            f"SavedModel without its saved_model.pb; give the folder that was exported, or "
            f"--weights raw.",
            Cause.MODEL,
        )


def _one_value(source: TensorSource, ledger: Ledger) -> bool:
    """Whether nothing says if the values are raw ones or averages."""
    return bool(source.ONLY_VALUE) or _twins_are_alike(source, ledger)


def _twins_are_alike(source: TensorSource, ledger: Ledger) -> bool:
    """Whether every raw value is its average, where the container records their checksums."""
    names = [name.removesuffix(EMA_SUFFIX) for item in ledger.sources for name in item.variables]
    if not all(name in source.entries and name + EMA_SUFFIX in source.entries for name in names):
        return False
    pairs = ((source.crc32c(name, None), source.crc32c(name + EMA_SUFFIX, None)) for name in names)
    return all(raw is not None and raw == average for raw, average in pairs)


def _earlier(source: TensorSource) -> dict[str, Any]:
    """Where a file's values came from, where it was converted before and says so."""
    if source.said is None or not source.said.provenance:
        return {}
    kept = {name: source.said.provenance[name] for name in _KEPT if name in source.said.provenance}
    return {"converted_from": kept}


_ALIKE = (
    "Raw values and moving averages (EMA) are the same in all variables, so that the file does not "
    "say which of the two they are."
)

_KEPT = ("source", "container", "archive_sha256", "checkpoint_fingerprint", "weights")
"""What is handed on of the provenance of a file that was itself converted."""


def _tensorflow_reads(source: TensorSource, weights: str) -> Readable | None:
    """How TensorFlow's own reader finds the same values; None where it does not."""
    if source.prefix is None or source.naming is not OFFICIAL:
        return None
    averages = weights != RAW_VALUES and not source.ONLY_VALUE
    return Readable(source.prefix, averages, source.stripped)


def _release_record(
    release: Recognised | None, config: EfficientDetConfig
) -> dict[str, str] | None:
    """The release that a checkpoint is, or is said to be; with other classes it is none."""
    if release is None or config.num_classes != release.config.num_classes:
        return None
    return {"name": release.release.name, "how": release.how}


def _licence(
    files: CheckpointFiles, source: TensorSource, release: Recognised | None
) -> str | None:
    """The licence of a release of Google's, known by its content or address; else None."""
    if (release is not None and release.certain) or files.origin.startswith(f"{ROOT_URL}/"):
        return LICENCE
    # A file of this program's has it under its seal.
    said = source.said.provenance.get("licence") if source.said is not None else None
    return LICENCE if said == LICENCE else None


def examine(
    source: TensorSource, ledger: Ledger, progress: Callable[[int, int], None] | None = None
) -> Ledger:
    """Read every value of a checkpoint as a conversion does, and keep none.

    Args:
        source: The checkpoint.
        ledger: Its account.
        progress: Called with the bytes read and their total.

    Returns:
        The ledger, with a note where values that are not used are NaN or infinite, and where a
        variance is negative.

    Raises:
        InputError: As for :func:`convert`.
    """
    return _Reader(source, progress, _variances(ledger)).finish(ledger)


def _variances(ledger: Ledger) -> frozenset[str]:
    """The variables from which the moving variances of batch norms are taken."""
    return frozenset(
        name
        for item in (*ledger.sources, *ledger.raw_sources)
        if item.pair.parameter.endswith(_VARIANCE)
        for name in item.variables
    )


@dataclass
class _Reader:
    """Reads every tensor of a file once, verified, and counts what no training writes.

    That is NaN and infinity anywhere, and what is negative among the variances that are used.

    Attributes:
        source: The file.
        progress: Called with the bytes read and their total.
        variances: Names of what is used as variances.
        checksums: CRC32C of the bytes of each tensor read, by its name in the file.
        not_finite: For each tensor read, how many of its values are NaN or infinite.
        rootless: Of variances so low that a batch norm has no square root of them, how many.
        negative: Of all negative variances, how many.
        done: Bytes read so far.
        total: Bytes of all tensors.
    """

    source: TensorSource
    progress: Callable[[int, int], None] | None
    variances: frozenset[str]
    checksums: dict[str, int] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    rootless: dict[str, int] = field(default_factory=dict)
    negative: dict[str, int] = field(default_factory=dict)
    done: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(entry.size for entry in self.source.entries.values())

    def read(self, name: str) -> Array:
        array = self.source.read(name)
        is_float = array.dtype.kind == "f"
        self._count(name, count_not_finite(array) if is_float else 0, array)
        if name in self.variances:
            # A batch norm divides by the root of variance + epsilon, which at 0 is infinite.
            self.rootless[name] = int(np.count_nonzero(array <= -BATCH_NORM_EPSILON))
            self.negative[name] = int(np.count_nonzero(array < 0))
        return array

    def read_float32(self, name: str) -> Array:
        """A tensor's values as float32, whatever floating-point type they are stored in.

        Raises:
            InputError: It is damaged, or holds a value that float32 cannot hold.
        """
        array = self.read(name)
        if array.dtype == np.float32:
            return array
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            narrowed = array.astype(np.float32, copy=False)
        # What is not finite is told apart, for all variables together.
        changed = (narrowed != array) & np.isfinite(array)
        if changed.any():
            value, nearest = float(array[changed][0]), float(narrowed[changed][0])
            raise InputError(
                f"{self.source.path}: {self._shown(name)!r} is stored as float64 and holds "
                f"{value!r}, which float32 cannot hold (the nearest is {nearest!r}); "
                f"{int(changed.sum())} of its {array.size} values are so. Expected values that "
                f"float32 holds exactly, so cast the variables to float32 in TensorFlow and save "
                f"the checkpoint again.",
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
        used = {name for item in (*ledger.sources, *ledger.raw_sources) for name in item.variables}
        for name, entry in self.source.entries.items():
            if name in self.not_finite:
                continue
            if name in used and PRECISIONS.get(entry.dtype_name) == FLOAT64:
                self.read_float32(name)
            elif name in self.variances:
                self.read(name)
            elif self.source.crc32c(name, None) is not None:
                self._count(name, self.source.verify(name), None)
            elif holds_numbers(entry):
                self.read(name)
        bad = [name for name in self.source.entries if self.not_finite.get(name)]
        spoilt = [name for name in bad if name in used]
        if spoilt:
            raise InputError(
                f"{self.source.path}: {self._described(spoilt)}; the training that wrote it has "
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
                f"{self.source.path}: {rootless} at or below -{BATCH_NORM_EPSILON}, of which a "
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
        names = [name for name in self.source.entries if counts.get(name)]
        if not names:
            return ""
        size = int(np.prod(self.source.entries[names[0]].shape, dtype=int))
        first = self._shown(names[0])
        return f"{first!r} holds {counts[names[0]]} of {size} values{_and_others(names)}"

    def _shown(self, name: str) -> str:
        """What a tensor is called in the file."""
        return self.source.entries[name].name

    def _count(self, name: str, not_finite: int, array: Array | None) -> None:
        self.not_finite[name] = not_finite
        crc = self.source.crc32c(name, array)
        if crc is None:
            assert array is not None
            crc = google_crc32c.value(_bytes(array))
        self.checksums[self._shown(name)] = crc
        self.done += self.source.entries[name].size
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _described(self, names: list[str]) -> str:
        """Which variables are not finite, to stand in a sentence."""
        first = names[0]
        array = self.source.read(first)
        nan = int(np.count_nonzero(np.isnan(array)))
        kind = {0: "infinite values", self.not_finite[first]: "NaN"}.get(nan, "NaN and infinity")
        return (
            f"{self._shown(first)!r} holds {kind} in {self.not_finite[first]} of {array.size} "
            f"values{_and_others(names)}"
        )


def _bytes(array: Array) -> Array:
    """An array's values as the bytes that a little-endian file has."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    content = little.view(np.uint8)
    content.flags.writeable = False
    return content


def _and_others(names: list[str]) -> str:
    """How many variables are affected besides the first, to stand behind what is said of it."""
    others = len(names) - 1
    return {0: "", 1: " (and one more variable is affected)"}.get(
        others, f" (and {others} more variables are affected)"
    )


def to_torch(
    sources: Iterable[Source], read: Callable[[str], Array]
) -> Iterator[tuple[str, Array]]:
    """Each parameter's name with its own contiguous array in PyTorch's layout.

    Args:
        sources: Of a ledger without findings.
        read: Gives a variable's array by its name in the source.
    """
    for source in sources:
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
