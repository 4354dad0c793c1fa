"""TensorFlow 2 object checkpoints: of ``save_weights``, of training, and inside of a SavedModel.

A key says by which attributes the variable is reached from what was saved. Where in there the
network is, the description of the objects says, which is a tensor of the checkpoint. The path from
there decides which variable it is; what the variable was called in the process that saved it is
compared with that once the model is known, since a second model in a process gets other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from converter.formats.bundles import BundleSource
from converter.formats.registry import Format
from converter.formats.source import Naming
from converter.formats.target import Values, Written, WrittenRow, no_room
from converter.formats.tf1 import write_into
from converter.mappings.keras_paths import (
    HEAD,
    ROOTS,
    is_part,
    iterate_object_pairs,
    object_paths,
)
from converter.mappings.layouts import Array
from converter.tensorflow_files.bundle import (
    MAX_INDEX_BYTES,
    BundleEntry,
    checkpoint_files,
    index_file,
    read_index,
)
from converter.tensorflow_files.object_graph import (
    KEY,
    VALUE_SUFFIX,
    Node,
    Stored,
    below,
    read_object_graph,
    walk,
    write_object_graph,
)
from converter.tensorflow_files.places import checkpoint_at, require_readable
from converter.tensorflow_files.wire import WireError
from efficientdet_spec import (
    Cause,
    EfficientDetConfig,
    InputError,
    listed,
    open_regular,
    printable,
    shortened,
)

OBJECT_PATHS = Naming("tf2", "Google's Keras objects", iterate_object_pairs)
"""The paths of object checkpoints, from the network on and without what stands behind them."""

GRAPH_REASON = "description of the objects that hold the variables"
AVERAGE = "average"
"""The slot in which the official trainer's optimizer keeps a moving average."""

_OPTIMIZER_REASON = "state of the optimizer"
_COUNTERS = {
    "save_counter": "counter of the checkpoints saved",
    "step": "training step counter",
    "global_step": "training step counter",
    "epoch": "training epoch counter",
}

_AGAIN = "so copy or download the checkpoint again"
_NUMBERED = re.compile(r"_[0-9]+")


class ObjectSource(BundleSource):
    """The variables of an object checkpoint by their paths from the network on.

    What is no part of the network keeps its key.

    Attributes:
        located: For each path, where its value is and what it was called.
        root: The path to the network from what was saved.
        slots: The slot's name for every variable that an optimizer keeps for another, by its key.

    Args:
        path: What names it.
        prefix: What the names of the bundle's files begin with.

    Raises:
        InputError: The files are missing or damaged, or hold several networks.
    """

    naming = OBJECT_PATHS

    def __init__(self, path: Path, prefix: Path) -> None:
        super().__init__(path, prefix)
        nodes = self._objects()
        start, self.root = _network(nodes, self.index.path)
        self.located = {} if start is None else dict(_located(nodes, start, self.index.entries))
        of_path = {stored.key: name for name, stored in self.located.items()}
        stored_as = self.index.entries
        names = {key: of_path.get(key, key) for key in stored_as}
        if len(set(names.values())) != len(names):
            twice = next(name for name in self.located if name in stored_as)
            raise InputError(
                f"{self.index.path} has a tensor {twice!r} beside the variable of this path; "
                f"expected keys that end in {VALUE_SUFFIX}, {_AGAIN}",
                Cause.FORMAT,
            )
        self.entries = {names[key]: entry for key, entry in stored_as.items()}
        others = set(stored_as) - set(of_path)
        reasons = {**_reasons(nodes, start), **_at_root(self.root)}
        self.left_out = {key: reasons[key] for key in stored_as if key in others & reasons.keys()}
        self.slots = dict(_slots(nodes))

    def check(self, config: EfficientDetConfig, part: str = "") -> tuple[str, ...]:
        """Hold what the file calls the variables against the paths; see :class:`TensorSource`.

        Args:
            config: As for :meth:`TensorSource.check`.
            part: As for :meth:`TensorSource.check`.

        Returns:
            What a user should know.

        Raises:
            InputError: A variable has the name of another one.
        """
        names = object_paths(config, part)
        official = set(names.values())
        contradicting, odd = [], []
        for path, stored in self.located.items():
            wanted = names.get(path)
            if wanted is None or stored.full_name in ("", wanted):
                continue
            if stored.full_name in official:
                contradicting.append(path)
            elif not _alike(stored.full_name, wanted):
                odd.append(path)
        if contradicting:
            first = contradicting[0]
            others = len(contradicting) - 1
            raise InputError(
                f"{self.index.path}: what is stored at {first!r}, which is {names[first]!r}, calls "
                f"itself {self.located[first].full_name!r}, the name of another variable"
                f"{f' (and {others:,} more are so)' if others else ''}; nobody can tell which of "
                f"the two it is, so save the checkpoint again with Google's code",
                Cause.MODEL,
            )
        if not odd:
            return ()
        told = [shortened(printable(self.located[path].full_name), 60) for path in odd]
        return (
            f"{len(odd):,} of {len(names):,} variables had other names than Google's in the "
            f"process that saved them ({listed(map(repr, told), most=2)}); their paths decided.",
        )

    def _objects(self) -> tuple[Node, ...]:
        entry = self.index.entries[KEY]
        strings = self.bundle.read_strings(KEY)
        try:
            if entry.shape:
                raise WireError(f"it has shape {list(entry.shape)}")
            return read_object_graph(strings[0])
        except WireError as error:
            raise InputError(
                f"{self.index.path} has a description of its objects that cannot be used: "
                f"{error}; expected it as TensorFlow wrote it, {_AGAIN}",
                Cause.FORMAT,
            ) from error


class Tf2Checkpoint(ObjectSource):
    """An object checkpoint that lies by itself; see :class:`ObjectSource`.

    Args:
        prefix: What the names of its files begin with.

    Raises:
        InputError: As of :class:`ObjectSource`.
    """

    FORMAT = "tf2"
    SAYS = "a TensorFlow 2 object checkpoint"
    ONLY_VALUE = "as the Keras network that was saved had it"

    def __init__(self, prefix: Path) -> None:
        super().__init__(prefix, prefix)
        if self.slots or _OPTIMIZER_REASON in self.left_out.values():
            self.SAYS = "a TensorFlow 2 training checkpoint"
            self._say_which_value()

    def _say_which_value(self) -> None:
        """Say which of the values it holds, by what an optimizer keeps beside them."""
        kept = [key for key, name in self.slots.items() if name == AVERAGE and key in self.entries]
        if not kept:
            self.ONLY_VALUE = "as training left it, without moving averages (EMA) of Google's kind"
            return
        self.ONLY_VALUE = (
            "the moving average (EMA), which the official trainer puts in its place before it "
            "saves; the raw values are lost"
        )
        different = sum(map(self._differs, kept))
        if different:
            self.notes = (
                *self.notes,
                f"{different:,} of {len(kept):,} values are not the moving averages (EMA) that "
                f"the optimizer keeps of them, as the official trainer makes them: if other code "
                f"saved this checkpoint, they may be raw values.",
            )

    def _differs(self, slot: str) -> bool:
        """Whether a slot, by its key, holds other bytes than the variable."""
        stored = self.index.entries
        variable = stored.get(slot.split("/.OPTIMIZER_SLOT/", 1)[0] + VALUE_SUFFIX)
        return variable is not None and variable.crc32c != stored[slot].crc32c


def is_object_checkpoint(prefix: Path) -> bool:
    """Whether a bundle's index lists a description of objects.

    Args:
        prefix: What the names of its files begin with; the index exists.

    Raises:
        InputError: The index seems to, and is damaged.
        OSError: It cannot be read.
    """
    with open_regular(index_file(prefix)) as stream:
        content = stream.read(MAX_INDEX_BYTES + 1)
    # A key is stored without what it shares with the one before it, of which there are few.
    if KEY[2:].encode() not in content or len(content) > MAX_INDEX_BYTES:
        return False
    return KEY in read_index(index_file(prefix)).entries


def find(path: Path) -> Path | None:
    """The prefix of the object checkpoint that a path names; see :class:`Format`."""
    prefix = checkpoint_at(path)
    if prefix is None:
        return None
    require_readable(prefix)
    return prefix if is_object_checkpoint(prefix) else None


def write(folder: Path, values: Values) -> Written:
    """Write a checkpoint as ``save_weights`` of Google's Keras network does; see :class:`Format`.

    It describes the objects on the variables' paths and no others, which is what TensorFlow needs.
    ``config.yaml`` beside it says the hyperparameters; of one that is there see
    :meth:`~converter.formats.hyperparameters.ConfigFile.beside`.

    Args:
        folder: Where the files go, under the name ``model``; made if need be.
        values: The model; raw values beside averages have no place in such a checkpoint.
    """
    if values.raw is not None:
        raise no_room(Tf2Checkpoint.SAYS)
    names = object_paths(values.config)
    tensors: dict[str, Array] = {KEY: np.array(write_object_graph(names), object)}
    rows = {KEY: WrittenRow(KEY, (), "", "", GRAPH_REASON)}
    for pair in iterate_object_pairs(values.config):
        parts = pair.layout.to_tensorflow(np.asarray(values.arrays[pair.parameter]))
        for variable, part in zip(pair.variables, parts, strict=True):
            key = variable + VALUE_SUFFIX
            tensors[key] = part
            rows[key] = WrittenRow(key, part.shape, pair.parameter, pair.layout.name, "model")
    files, notes = write_into(folder, tensors, values)
    return Written(files, tuple(rows[name] for name in sorted(rows)), notes)


def _network(nodes: tuple[Node, ...], index: Path) -> tuple[int | None, str]:
    """Number of the one object that is a network, and the path to it; none where there is none."""
    found = [
        (path, number)
        for path, number in walk(nodes, 0, lambda _: True)
        if nodes[number].children.keys() >= ROOTS
    ]
    if not found:
        return None, ""
    if len(found) > 1:
        paths = [repr(shortened(printable(path), 60)) for path, _ in found]
        raise InputError(
            f"{index} holds {len(found)} networks, at {listed(paths, most=4)}; expected one, so "
            f"save the one that is wanted alone",
            Cause.MODEL,
        )
    ((path, number),) = found
    return number, path


def _located(
    nodes: tuple[Node, ...], start: int, entries: Mapping[str, BundleEntry]
) -> Iterator[tuple[str, Stored]]:
    """Every variable of the network that is in the file, by its path from there."""
    seen = set()
    for path, number in walk(nodes, start, is_part):
        stored = nodes[number].value
        if path and stored is not None and stored.key in entries and stored.key not in seen:
            seen.add(stored.key)
            yield path, stored


def _slots(nodes: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    """The key of each variable that an optimizer keeps for another, and the name of the slot."""
    for node in nodes:
        for name, number in node.slots:
            stored = nodes[number].value
            if stored is not None:
                yield stored.key, name


def _reasons(nodes: tuple[Node, ...], network: int | None) -> dict[str, str]:
    """Why a tensor is no part of the network, by its key, where the objects tell.

    Args:
        nodes: The objects.
        network: Number of the network's.
    """
    optimizers = {number for number, node in enumerate(nodes) if node.slots}
    optimizers |= {node.children["optimizer"] for node in nodes if "optimizer" in node.children}
    metrics = {node.children["metrics"] for node in nodes if "metrics" in node.children}
    found: dict[str, str] = {}
    # What is told last is told most exactly.
    for starts, reason in (
        (metrics, "metric of training"),
        (optimizers, _OPTIMIZER_REASON),
        (
            _at(nodes, network, HEAD),
            "the backbone's layers for ImageNet, which the detector does not run",
        ),
    ):
        values = (nodes[number].value for number in below(nodes, starts))
        found |= {stored.key: reason for stored in values if stored is not None}
    for key, name in _slots(nodes):
        found[key] = f"optimizer slot ({shortened(printable(name), 40)})"
    return found


def _at(nodes: tuple[Node, ...], start: int | None, path: str) -> set[int]:
    """The number of the object to which a path leads; none where it does not."""
    for name in path.split("/"):
        start = None if start is None else nodes[start].children.get(name)
    return set() if start is None else {start}


def _at_root(root: str) -> dict[str, str]:
    """Why tensors are no part of the network that stand by themselves, by their keys.

    Args:
        root: The path to the network.
    """
    above = ["", *([f"{root}/"] if root else [])]
    return {
        KEY: GRAPH_REASON,
        **{f"{at}{name}{VALUE_SUFFIX}": why for at in above for name, why in _COUNTERS.items()},
    }


def _alike(full_name: str, official: str) -> bool:
    """Whether a name is what Keras makes of Google's for a second model, such as ``stem_1``."""
    theirs, ours = full_name.split("/"), official.split("/")
    return len(theirs) == len(ours) and all(
        their == our or (their.startswith(our) and _NUMBERED.fullmatch(their, len(our)))
        for their, our in zip(theirs, ours, strict=True)
    )


FORMATS = (
    Format(
        name="tf2",
        says=Tf2Checkpoint.SAYS,
        find=find,
        open=Tf2Checkpoint,
        files=checkpoint_files,
        write=write,
        is_folder=True,
        order=50,
    ),
)
