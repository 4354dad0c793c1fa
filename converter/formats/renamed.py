"""A file's tensors by other names, such as theirs without what stands before them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from converter.formats.source import TensorSource
from converter.mappings.layouts import Array
from efficientdet_spec import Cause, EfficientDetConfig, InputError, listed, shortened


class RenamedSource(TensorSource):
    """Another source, whose tensors have other names; the ledger names them as the file does.

    Args:
        inner: The other source.
        names: Its names by the new ones, all of them.
        stripped: What was left out before the names; empty where they were changed otherwise.
        notes: What a user should know of it.
    """

    def __init__(
        self,
        inner: TensorSource,
        names: Mapping[str, str],
        stripped: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        self._inner = inner
        self._names = names
        self.FORMAT, self.SAYS, self.CHECKED = inner.FORMAT, inner.SAYS, inner.CHECKED
        self.ONLY_VALUE = inner.ONLY_VALUE
        self.path, self.naming, self.said = inner.path, inner.naming, inner.said
        self.stripped = stripped or inner.stripped
        self.unwrapped = inner.unwrapped
        self.notes = (*inner.notes, *notes)
        self.entries = {ours: inner.entries[name] for ours, name in names.items()}
        self.left_out = {
            ours: inner.left_out[name] for ours, name in names.items() if name in inner.left_out
        }

    @property
    def has_values(self) -> bool:
        """See :attr:`TensorSource.has_values`."""
        return self._inner.has_values

    @property
    def prefix(self) -> Path | None:
        """See :attr:`TensorSource.prefix`."""
        return self._inner.prefix

    def read(self, name: str) -> Array:
        """See :meth:`TensorSource.read`."""
        return self._inner.read(self._names[name])

    def verify(self, name: str) -> int:
        """See :meth:`TensorSource.verify`."""
        return self._inner.verify(self._names[name])

    def check(self, config: EfficientDetConfig, part: str = "") -> tuple[str, ...]:
        """See :meth:`TensorSource.check`."""
        return self._inner.check(config, part)

    def digests(self) -> Mapping[str, str]:
        """See :meth:`TensorSource.digests`."""
        return self._inner.digests()

    def crc32c(self, name: str) -> int | None:
        """See :meth:`TensorSource.crc32c`."""
        return self._inner.crc32c(self._names[name])


def without_prefix(inner: TensorSource, prefix: str) -> TensorSource:
    """A file's tensors by their names without what stands before them.

    Args:
        inner: The file.
        prefix: What to leave out, such as ``model/``; names without it stay as they are. Nothing
            changes where it is what the container has left out by itself.

    Raises:
        InputError: No name begins so, or two would become one.
    """
    if not prefix or inner.unwrapped == (prefix,):
        return inner
    names = {name.removeprefix(prefix): name for name in inner.entries}
    _check(inner, prefix, len(names))
    count = sum(ours != name for ours, name in names.items())
    told = f"{count} of {len(names)} names were read without {prefix!r} before them."
    return RenamedSource(inner, names, prefix, (told,))


def _check(inner: TensorSource, prefix: str, left: int) -> None:
    """Refuse a prefix that no name has, or that tells two names apart."""
    names = inner.entries
    if inner.unwrapped:
        raise InputError(
            f"{inner.path} is read without what stands before its names "
            f"({listed(map(repr, inner.unwrapped), 2)}), which is found from the names themselves, "
            f"so {shortened(repr(prefix), 200)} cannot be left out besides; leave --strip-prefix "
            f"out, and choose between raw values and averages with --weights.",
            Cause.OPTION,
        )
    if not any(name.startswith(prefix) for name in names):
        first = next(iter(names), "none")
        raise InputError(
            f"{inner.path} has no name that begins with {prefix!r} (the first is {first:.200}); "
            f"leave --strip-prefix out or give what stands before its names.",
            Cause.OPTION,
        )
    if left != len(names):
        twice = next(
            name for name in names if name.startswith(prefix) and name[len(prefix) :] in names
        )
        raise InputError(
            f"{inner.path} has {twice:.200} with and without {prefix!r} before it, which "
            f"--strip-prefix would make one; leave it out or give another.",
            Cause.OPTION,
        )
