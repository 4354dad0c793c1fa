"""From a checkpoint's arrays to PyTorch's, and back, by the one mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.backbones import backbone_ledger
from converter.choice import choose_config
from converter.fetch.cached import CheckpointFiles
from converter.fingerprints import FLOAT, of_arrays, of_parameter
from converter.formats.registry import find, formats
from converter.formats.renamed import without_prefix
from converter.formats.source import OFFICIAL, TensorSource
from converter.formats.tf1 import Tf1Source
from converter.hparams.given import Hyperparameters
from converter.ledger import (
    ONLY_VALUE,
    PRECISIONS,
    RAW_VALUES,
    Ledger,
    Source,
    make_ledger,
    to_torch,
)
from converter.mappings.layouts import Array
from converter.mappings.official import Pair, iterate_pairs
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
from converter.reading import Reader
from converter.recognition import facts_of
from converter.tensorflow_files.bundle import fingerprint
from converter.translation import as_official
from converter.untrained import untrained_notes
from converter.values import ALIKE, require_trained_alike, require_values, twins_are_alike
from efficientdet_spec import (
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


@dataclass(frozen=True, kw_only=True)
class Account:
    """How a checkpoint's values came to be a model's.

    Attributes:
        ledger: What became of every variable.
        provenance: Source, hashes, choices and versions, as plain values.
        readable: How TensorFlow reads the same values; None where it cannot.
    """

    ledger: Ledger
    provenance: Mapping[str, Any]
    readable: Readable | None = None

    @property
    def config(self) -> EfficientDetConfig:
        """The model."""
        return self.ledger.config


@dataclass(frozen=True, kw_only=True)
class Conversion(Account):
    """A checkpoint's values in PyTorch's layout, and how they came about.

    Attributes:
        arrays: One writable, contiguous float32 array for each parameter.
        raw: The raw values beside the averages, likewise; None where one kind was asked for.
    """

    arrays: Mapping[str, Array]
    raw: Mapping[str, Array] | None = None


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
    if twins_are_alike(source, ledger):
        ledger = replace(ledger, notes=(*ledger.notes, ALIKE))
    asked = source.said is not None or (wanted is not None and variant is None)
    notes = _origin_notes(config, release, asked=asked)
    if release is not None and release.config.name != config.name and not release.certain:
        # Somebody has called it so, and somebody else has said that it is not.
        release = None
    told = known.record(config)
    return replace(ledger, notes=(*ledger.notes, *notes), hyperparameters=told), release


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
    checksums = {entry.name: source.crc32c(name) for name, entry in source.entries.items()}
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


class Converting:
    """A checkpoint that is being converted: its values one after another, then their account.

    So whoever writes them needs no memory for all. Call :meth:`values`, then :meth:`raw_values`,
    each to its end, and then :meth:`finish`: what is wrong with the values themselves is only known
    by then.

    Args:
        files: The checkpoint.
        model: As for :func:`account`.
        num_classes: As for :func:`account`.
        weights: As for :func:`account`.
        hyperparameters: As for :func:`account`.
        backbone: As for :func:`account`.
        progress: Called with the bytes read and their total.

    Attributes:
        ledger: What becomes of every variable, from what the checkpoint says of its tensors alone.

    Raises:
        InputError: The checkpoint cannot be read, is of another or no known model, or leaves
            findings in the ledger.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        *,
        model: str | None = None,
        num_classes: int | None = None,
        weights: str = "ema",
        hyperparameters: Hyperparameters | None = None,
        backbone: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._files, self._weights, self._is_whole = files, weights, backbone is None
        source, self._release = open_source(files), None
        if backbone is not None:
            source, ledger = _of_backbone(source, backbone, weights)
        else:
            ledger, self._release = _ledger(
                source, files, model, num_classes, weights, hyperparameters
            )
        ledger.require_complete(str(source.path))
        self.ledger, self._source = ledger, source
        self._reader = Reader(source, progress, _variances(ledger))
        self._vectors: dict[str, Array] = {}
        self._checksums: dict[str, int] = {}

    def values(self) -> Iterator[tuple[str, Array]]:
        """Every parameter's name with a writable, contiguous float32 array that nobody else has.

        Raises:
            InputError: A tensor is damaged, or holds a value that float32 cannot hold.
        """
        official = {pair.parameter: pair for pair in iterate_pairs(self.ledger.config)}
        for item, (name, array) in zip(
            self.ledger.sources, self._read(self.ledger.sources), strict=True
        ):
            if array.ndim < 2:
                self._vectors[name] = array
            if self._is_whole and not _has_official_sums(self._source, item, official[name]):
                self._checksums |= of_parameter(official[name], array)
            yield name, array

    def raw_values(self) -> Iterator[tuple[str, Array]]:
        """The raw values beside the averages, likewise; none where one kind was asked for."""
        return self._read(self.ledger.raw_sources)

    def _read(self, sources: Sequence[Source]) -> Iterator[tuple[str, Array]]:
        with self._readable(), self._reader.ahead(_names(sources)):
            yield from to_torch(sources, self._reader.read_float32)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._source.path} cannot be read ({error.strerror or error}); copy it to "
                f"another disk, or download it again.",
                Cause.of(error),
            ) from error

    def finish(self) -> Account:
        """Verify what has not been read, and say what became of all.

        Raises:
            InputError: A tensor is damaged, or values that would be used are NaN or infinite, or
                variances that make such.
        """
        with self._readable():
            ledger = self._judged()
            return Account(
                ledger=ledger,
                provenance=self._provenance(ledger),
                readable=_tensorflow_reads(self._source, self._weights),
            )

    def _judged(self) -> Ledger:
        """The ledger with what is to be noted of the values."""
        ledger = self._reader.finish(self.ledger)
        untrained = untrained_notes(self._vectors)
        if untrained and self._weights != RAW_VALUES and self._is_whole:
            require_trained_alike(self._source, ledger, untrained[0])
        return replace(ledger, notes=(*ledger.notes, *untrained))

    def _provenance(self, ledger: Ledger) -> dict[str, Any]:
        source, checksums, weights = self._source, self._reader.checksums, self._weights
        used = _names((*ledger.sources, *ledger.raw_sources))
        of_model = None
        if self._is_whole:
            known = {**_summed(source, ledger, checksums), **self._checksums}
            of_model = of_arrays(ledger.config, {}, known)
        release = self._release or fitting(
            recognise_values(of_model), (base_model(ledger.config.name),)
        )
        return {
            "source": self._files.origin,
            "container": source.FORMAT,
            "archive_sha256": self._files.archive_sha256,
            **source.digests(),
            "checkpoint_fingerprint": fingerprint(checksums),
            "values_fingerprint": fingerprint(
                {name: checksums[name] for name in (source.entries[key].name for key in used)}
            ),
            "model_fingerprint": of_model,
            "checked": source.CHECKED,
            "release": _release_record(release, ledger.config),
            "licence": _licence(self._files, source, release),
            "weights": ONLY_VALUE
            if source.ONLY_VALUE or twins_are_alike(source, ledger)
            else weights,
            "stripped_prefix": self._files.strip or None,
            "variables": ledger.counts(),
            "dtypes": dict(Counter(PRECISIONS[source.entries[name].dtype_name] for name in used)),
            "notes": list(ledger.notes),
            **({"hyperparameters": dict(ledger.hyperparameters)} if ledger.hyperparameters else {}),
            **_earlier(source),
            "versions": {
                name: installed_version(name) for name in ("efficientdet-parity", "numpy", "torch")
            },
        }

    def collect(self) -> Conversion:
        """All values together, with their account.

        Raises:
            InputError: As of :meth:`values` and :meth:`finish`.
        """
        arrays, raw = dict(self.values()), dict(self.raw_values())
        done = self.finish()
        return Conversion(
            ledger=done.ledger,
            provenance=done.provenance,
            readable=done.readable,
            arrays=arrays,
            raw=raw or None,
        )


def _names(sources: Iterable[Source]) -> list[str]:
    """The variables that fill parameters."""
    return [name for item in sources for name in item.variables]


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
    return Converting(
        files,
        model=model,
        num_classes=num_classes,
        weights=weights,
        hyperparameters=hyperparameters,
        backbone=backbone,
        progress=progress,
    ).collect()


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
        if _has_official_sums(source, item, pair):
            named = zip(pair.variables, item.variables, strict=True)
            found |= {variable: checksums[source.entries[name].name] for variable, name in named}
    return found


def _has_official_sums(source: TensorSource, item: Source, pair: Pair) -> bool:
    """Whether a parameter's tensors have the very bytes that its official variables have."""
    entries = (source.entries[name] for name in item.variables)
    return item.pair.layout == pair.layout and all(entry.dtype_name == FLOAT for entry in entries)


def _earlier(source: TensorSource) -> dict[str, Any]:
    """Where a file's values came from, where it was converted before and says so."""
    if source.said is None or not source.said.provenance:
        return {}
    kept = {name: source.said.provenance[name] for name in _KEPT if name in source.said.provenance}
    return {"converted_from": kept}


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
    return Reader(source, progress, _variances(ledger)).finish(ledger)


def _variances(ledger: Ledger) -> frozenset[str]:
    """The variables from which the moving variances of batch norms are taken."""
    return frozenset(
        name
        for item in (*ledger.sources, *ledger.raw_sources)
        if item.pair.parameter.endswith(_VARIANCE)
        for name in item.variables
    )


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
