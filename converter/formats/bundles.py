"""What sources have in common that are TensorFlow V2 checkpoints underneath ("bundles")."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from converter.formats.source import TensorSource
from converter.mappings.layouts import Array
from converter.tensorflow_files.bundle import (
    Bundle,
    BundleEntry,
    BundleIndex,
    checkpoint_files,
    index_file,
    open_bundle,
    read_index,
)
from efficientdet_spec import file_sha256


class BundleSource(TensorSource):
    """The tensors of a bundle by their keys; its data files are opened with the first that is read.

    So an index alone can be listed.

    Args:
        path: What names it.
        prefix: What the names of the bundle's files begin with.

    Raises:
        InputError: The index cannot be read, or is damaged.
    """

    CHECKED = "every CRC32C verified"

    def __init__(self, path: Path, prefix: Path) -> None:
        self.path = path
        self._prefix = prefix
        self.index: BundleIndex = read_index(index_file(prefix))
        self.entries: Mapping[str, BundleEntry] = self.index.entries

    @property
    def prefix(self) -> Path:
        """See :attr:`TensorSource.prefix`."""
        return self._prefix

    @cached_property
    def bundle(self) -> Bundle:
        """The checkpoint with its data files open."""
        return open_bundle(self.prefix, self.index)

    @property
    def has_values(self) -> bool:
        """See :attr:`TensorSource.has_values`: an index may be alone."""
        return any(".data-" in path.name for path in checkpoint_files(self.prefix))

    def read(self, name: str) -> Array:
        """See :meth:`TensorSource.read`."""
        return self.bundle.read(self.entries[name].name)

    def verify(self, name: str) -> int:
        """See :meth:`TensorSource.verify`."""
        return self.bundle.verify(self.entries[name].name)

    def digests(self) -> Mapping[str, str]:
        """See :meth:`TensorSource.digests`; every tensor's checksum stands in the index."""
        return {"index_sha256": file_sha256(self.index.path)}

    def crc32c(self, name: str) -> int | None:
        """See :meth:`TensorSource.crc32c`."""
        return self.entries[name].crc32c
