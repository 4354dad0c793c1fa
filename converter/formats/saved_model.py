"""SavedModels of TensorFlow 1 and 2: a folder with ``saved_model.pb`` and its ``variables``.

Nothing of the graph is run or looked at; the values stand in a bundle of their own, as in a
checkpoint. Of TensorFlow 1 its keys are those of a training checkpoint too, averages included, and
mean something else there: Google's export restores the averages into the variables, and makes the
ones named as averages anew without restoring them. Of TensorFlow 2 a key says at which position of
the network's ``variables`` the value stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from converter.formats.bundles import BundleSource
from converter.formats.registry import Format
from converter.formats.tf2 import ObjectSource, is_object_checkpoint
from converter.mappings.keras_order import keras_order
from converter.mappings.keras_paths import object_paths
from converter.tensorflow_files.bundle import checkpoint_files, index_file
from converter.tensorflow_files.naming import SAVED_MODEL, VARIABLES
from converter.tensorflow_files.places import require_readable
from efficientdet_spec import (
    EMA_SUFFIX,
    Cause,
    EfficientDetConfig,
    InputError,
    file_sha256,
    open_regular,
)

_TWIN_REASON = (
    "untrained start value: in a SavedModel the plain name holds the trained value, and its "
    "average was never restored"
)
_BEGINNING = b"\x08\x01\x12"
"""The message's first fields: ``saved_model_schema_version`` 1, and the first of its graphs."""

_POSITION = re.compile(r"(?:.*/)?variables/([0-9]{1,9})/\.ATTRIBUTES/VARIABLE_VALUE")


class Tf1SavedModel(BundleSource):
    """The variables of a TensorFlow 1 SavedModel; the plain name is the model's value.

    Args:
        path: Its ``saved_model.pb``.

    Raises:
        InputError: The index cannot be read, or is damaged.
    """

    FORMAT = "saved_model_tf1"
    SAYS = "a TensorFlow 1 SavedModel"
    ONLY_VALUE = "under its plain name; those named as averages (EMA) are untrained start values"

    def __init__(self, path: Path) -> None:
        super().__init__(path, _prefix(path))
        self.left_out = {name: _TWIN_REASON for name in self.entries if name.endswith(EMA_SUFFIX)}

    def digests(self) -> Mapping[str, str]:
        """See :meth:`TensorSource.digests`."""
        return {"graph_sha256": file_sha256(self.path), **super().digests()}


class Tf2SavedModel(ObjectSource):
    """The variables of a TensorFlow 2 SavedModel by their paths through its objects.

    Args:
        path: Its ``saved_model.pb``.

    Raises:
        InputError: The files are missing or damaged, or hold several networks.
    """

    FORMAT = "saved_model_tf2"
    SAYS = "a TensorFlow 2 SavedModel"
    ONLY_VALUE = "as the network that was exported had it"

    def __init__(self, path: Path) -> None:
        super().__init__(path, _prefix(path))

    def check(self, config: EfficientDetConfig, part: str = "") -> tuple[str, ...]:
        """As of every object checkpoint; the positions in the keys are compared too.

        Args:
            config: As for :meth:`ObjectSource.check`.
            part: As for :meth:`ObjectSource.check`.

        Returns:
            As of :meth:`ObjectSource.check`.

        Raises:
            InputError: As of :meth:`ObjectSource.check`, or a key's position is another variable's
                and nothing else tells which it is.
        """
        notes = super().check(config, part)
        names, order = object_paths(config, part), keras_order(config)
        displaced = []
        for path, stored in self.located.items():
            found = _POSITION.fullmatch(stored.key)
            wanted = names.get(path)
            if found is None or wanted is None:
                continue
            position = int(found[1])
            if position >= len(order) or order[position] != wanted:
                displaced.append(path)
        unsure = [path for path in displaced if self.located[path].full_name != names[path]]
        if unsure:
            first = unsure[0]
            raise InputError(
                f"{self.path}: its objects have {names[first]!r} under the key "
                f"{self.located[first].key!r}, whose position is another variable's, and "
                f"{len(unsure):,} variables are so without a name that says which they are; export "
                f"the model again with Google's code",
                Cause.MODEL,
            )
        if not displaced:
            return notes
        return (
            *notes,
            f"{len(displaced):,} of {len(names):,} variables stand at other positions than in "
            f"Google's network; their paths decided, and their names agree with these.",
        )

    def digests(self) -> Mapping[str, str]:
        """See :meth:`TensorSource.digests`."""
        return {"graph_sha256": file_sha256(self.path), **super().digests()}


def find(path: Path) -> Path | None:
    """The ``saved_model.pb`` of what a path names: its folder or any of its files.

    Args:
        path: The folder of a SavedModel, its ``saved_model.pb``, its folder ``variables`` or one
            of the files in there, with or without what stands behind their common name.

    Returns:
        The file; None where the path names no SavedModel.

    Raises:
        InputError: It is one whose variables are not there.
        OSError: It cannot be looked at.
    """
    for folder in _folders(path):
        graph = folder / SAVED_MODEL
        prefix = _prefix(graph)
        if not graph.is_file() or not (_is_graph(graph) or index_file(prefix).exists()):
            continue
        if not _is_graph(graph):
            # Its variables are not to be taken for a checkpoint, whose names they may have.
            raise InputError(
                f"{graph} has {VARIABLES}/{VARIABLES}.index beside it like a SavedModel, but does "
                f"not begin like one; copy the folder as it was exported again",
                Cause.FORMAT,
            )
        if not index_file(prefix).exists():
            raise InputError(
                f"{graph} belongs to a SavedModel whose {VARIABLES}/{VARIABLES}.index is not "
                f"there; expected the folder as it was exported, so copy {VARIABLES!r} there too",
                Cause.FILE,
            )
        require_readable(prefix)
        return graph
    return None


def _folders(path: Path) -> list[Path]:
    """Folders of a SavedModel that a path may name."""
    if path.is_dir():
        return [path, path.parent] if path.name == VARIABLES else [path]
    if path.name == SAVED_MODEL:
        return [path.parent]
    is_part = path.name == VARIABLES or path.name.startswith(f"{VARIABLES}.")
    return [path.parent.parent] if is_part and path.parent.name == VARIABLES else []


def _is_graph(path: Path) -> bool:
    with open_regular(path) as stream:
        return stream.read(len(_BEGINNING)) == _BEGINNING


def _prefix(graph: Path) -> Path:
    return graph.parent / VARIABLES / VARIABLES


def _find_tf1(path: Path) -> Path | None:
    graph = find(path)
    return None if graph is None or is_object_checkpoint(_prefix(graph)) else graph


def _find_tf2(path: Path) -> Path | None:
    graph = find(path)
    return graph if graph is not None and is_object_checkpoint(_prefix(graph)) else None


def files_of(graph: Path) -> list[Path]:
    """The graph, and the files of its variables; see :class:`Format`."""
    return [graph, *checkpoint_files(graph.parent / VARIABLES / VARIABLES)]


FORMATS = (
    Format(
        name=Tf1SavedModel.FORMAT,
        says=Tf1SavedModel.SAYS,
        find=_find_tf1,
        open=Tf1SavedModel,
        files=files_of,
        order=40,
    ),
    Format(
        name=Tf2SavedModel.FORMAT,
        says=Tf2SavedModel.SAYS,
        find=_find_tf2,
        open=Tf2SavedModel,
        files=files_of,
        order=40,
    ),
)
