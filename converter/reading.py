"""Every tensor of a file, read once, verified, and looked at for what no training writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from converter.fingerprints import checksum
from converter.formats.source import TensorSource, holds_numbers
from converter.ledger import FLOAT64, PRECISIONS, Ledger
from converter.mappings.layouts import Array
from converter.tensorflow_files.bundle import count_not_finite
from efficientdet_spec import BATCH_NORM_EPSILON, Cause, InputError
from efficientdet_spec.prefetch import ahead

_GROUP = 2**20
"""Bytes of the tensors that are handed from one thread to another together: most are small."""

_AHEAD = 2
"""Groups that may be read before they are needed. Memory that is taken afresh costs more time than
waiting now and then."""

_VERIFYING = 2
"""Threads that verify what is not needed. A third would wait for the memory."""


@dataclass
class Reader:
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
    _coming: Iterator[tuple[str, Array]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.total = sum(entry.size for entry in self.source.entries.values())

    @contextmanager
    def ahead(self, names: Iterable[str]) -> Iterator[None]:
        """Within it tensors are read and verified in a thread, while others are laid out.

        Args:
            names: All that will be read within, in this order; nothing else may be.
        """
        read = ahead(self._read_group, self._grouped(names), _AHEAD)
        with closing(read):
            self._coming = (pair for group in read for pair in group)
            try:
                yield
            finally:
                self._coming = None

    def _grouped(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Names in groups of tensors of which each has some size."""
        group: list[str] = []
        size = 0
        for name in names:
            group.append(name)
            size += self.source.entries[name].size
            if size >= _GROUP:
                yield group
                group, size = [], 0
        if group:
            yield group

    def _read_group(self, names: list[str]) -> list[tuple[str, Array]]:
        return [(name, self.source.read(name)) for name in names]

    def _next(self, name: str) -> Array:
        """What has been read ahead."""
        assert self._coming is not None
        found, array = next(self._coming)
        if found != name:
            raise ValueError(f"{found} was read ahead where {name} is needed")
        return array

    def read(self, name: str) -> Array:
        """A tensor's values, counted.

        Args:
            name: As the source has it.

        Raises:
            InputError: It is damaged.
        """
        array = self.source.read(name) if self._coming is None else self._next(name)
        is_float = array.dtype.kind == "f"
        self._count(name, count_not_finite(array) if is_float else 0, array)
        if name in self.variances:
            # A batch norm divides by the root of variance + epsilon, which at 0 is infinite.
            self.rootless[name] = int(np.count_nonzero(array <= -BATCH_NORM_EPSILON))
            self.negative[name] = int(np.count_nonzero(array < 0))
        return array

    def read_float32(self, name: str) -> Array:
        """A tensor's values as float32, whatever floating-point type they are stored in.

        Args:
            name: As the source has it.

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

        Args:
            ledger: The account of the file.

        Returns:
            The ledger, with a note where values that are not used are NaN or infinite, and where
            a variance is negative.

        Raises:
            InputError: A variable is damaged, or values that are used are NaN or infinite, or
                are variances that make a batch norm so.
        """
        used = {name for item in (*ledger.sources, *ledger.raw_sources) for name in item.variables}
        to_verify: list[str] = []
        for name, entry in self.source.entries.items():
            if name in self.not_finite:
                continue
            if name in used and PRECISIONS.get(entry.dtype_name) == FLOAT64:
                self.read_float32(name)
            elif name in self.variances:
                self.read(name)
            elif self.source.crc32c(name) is not None:
                to_verify.append(name)
            elif holds_numbers(entry):
                self.read(name)
        self._verify(to_verify)
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

    def _verify(self, names: list[str]) -> None:
        """Verify tensors whose checksums the container records, several at a time."""
        with closing(ahead(self._verify_group, self._grouped(names), _AHEAD, _VERIFYING)) as groups:
            for group in groups:
                for name, not_finite in group:
                    self._count(name, not_finite, None)

    def _verify_group(self, names: list[str]) -> list[tuple[str, int]]:
        return [(name, self.source.verify(name)) for name in names]

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
        crc = self.source.crc32c(name)
        if crc is None:
            assert array is not None
            crc = checksum(array)
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


def _and_others(names: list[str]) -> str:
    """How many variables are affected besides the first, to stand behind what is said of it."""
    others = len(names) - 1
    return {0: "", 1: " (and one more variable is affected)"}.get(
        others, f" (and {others} more variables are affected)"
    )
