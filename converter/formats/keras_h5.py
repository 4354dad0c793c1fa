"""Weights in Keras' HDF5 files, as ``save_weights("x.h5")`` of the official network writes them.

A group for each top-level layer holds a dataset for each variable, under the variable's own name.
Keras itself reads no names: ``load_weights`` fills the network's variables in their order with the
tensors in the order of the attributes ``layer_names`` and ``weight_names``. So names and order are
held against each other, and where they contradict, neither is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from converter.formats.keras_h5_writing import write
from converter.formats.registry import Format
from converter.formats.source import StoredEntry, TensorSource, dtype_name
from converter.hdf5.file import SIGNATURE, Hdf5File, is_hdf5
from converter.hdf5.listing import CHECKSUM, Dataset, Listing
from converter.mappings.keras_order import creation_order, is_statistic
from converter.mappings.layouts import Array
from converter.tensorflow_files.bundle import count_not_finite
from efficientdet_spec import (
    HEAD_BYTES,
    Cause,
    EfficientDetConfig,
    InputError,
    file_sha256,
    listed,
    lookalike,
    open_regular,
    printable,
    shortened,
)

SAYS = "a Keras HDF5 file"

_WHOLE = "model_weights"
_OPTIMIZER = "optimizer_weights"
_OUTPUT = ":0"
"""What TensorFlow puts behind a variable's name."""


class KerasH5(TensorSource):
    """The variables of an official network in a Keras HDF5 file.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, is damaged, or is another kind of HDF5 file.
    """

    FORMAT = "h5"
    SAYS = SAYS
    ONLY_VALUE = "as the network that was saved had it"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = Hdf5File(path)
        content = _content(path, self._file.listing)
        self._layers = content.layers
        self._datasets = content.datasets
        self.left_out = content.left_out
        self.entries = MappingProxyType(
            {name: _entry(dataset) for name, dataset in content.datasets.items()}
        )
        if all(CHECKSUM in item.filters for item in content.datasets.values()):
            self.CHECKED = "every tensor has the checksum (Fletcher-32) that HDF5 wrote with it"

    def read(self, name: str) -> Array:
        """See :class:`TensorSource`."""
        dataset = self._datasets[name]
        if dataset.dtype is None:
            raise InputError(
                f"{_shown(self.path)}: {_shown(dataset.path)} holds no numbers of a type that "
                f"NumPy has; save the weights as float32.",
                Cause.FORMAT,
            )
        return self._file.read(dataset)

    def verify(self, name: str) -> int:
        """See :class:`TensorSource`; of what are no numbers, nothing can be said."""
        dataset = self._datasets[name]
        if dataset.dtype is None:
            return 0
        is_float = dataset.dtype.kind == "f"
        return sum(count_not_finite(part) for part in self._file.blocks(dataset) if is_float)

    def digests(self) -> Mapping[str, str]:
        """See :class:`TensorSource`."""
        return {"file_sha256": file_sha256(self.path)}

    def check(self, config: EfficientDetConfig, part: str = "") -> tuple[str, ...]:
        """Hold the order of the tensors, by which Keras loads them, against their names.

        Names that the model does not have, and those that are missing, are not looked at.

        Args:
            config: The model that the names are of.
            part: As for :meth:`TensorSource.check`; the order is that of the whole file.

        Returns:
            What a user should know of it, a sentence each.

        Raises:
            InputError: By their order, variables would get other values than by their names.
        """
        place = {name: number for number, name in enumerate(creation_order(config))}
        found = [
            (layer, known)
            for layer, names in self._layers.items()
            if (known := [name for name in names if name in place])
        ]
        frozen = []
        for layer, names in found:
            made = sorted(names, key=place.__getitem__)
            official = sorted(made, key=is_statistic)
            if names == official:
                continue
            if not _may_be_frozen(names, place):
                raise self._contradiction(layer, names, official)
            frozen.append(layer)
        flat = [name for _, names in found for name in sorted(names, key=place.__getitem__)]
        if flat != (official := sorted(flat, key=place.__getitem__)):
            raise self._contradiction("the list of layers", flat, official)
        if not frozen:
            return ()
        return (
            f"{_shown(self.path)} lists the variables of {listed(frozen, 3)} as a network does of "
            f"which parts are frozen; values were taken by their names, but load_weights of Keras "
            f"goes by order and would mix them up in a network without frozen parts.",
        )

    def _contradiction(
        self, layer: str, names: Sequence[str], official: Sequence[str]
    ) -> InputError:
        number = next(i for i, name in enumerate(names) if name != official[i])
        return InputError(
            f"{_shown(self.path)} contradicts itself: in {_shown(layer)}, tensor {number + 1:,} is "
            f"called {_shown(names[number])}, but stands where the official network has "
            f"{official[number]}. Keras loads by order and not by name, so that one would get the "
            f"values of the other, and which is right cannot be told; save the weights again from "
            f"the network that they are of, or as a TensorFlow checkpoint, which has names alone.",
            Cause.FORMAT,
        )


def _may_be_frozen(names: Sequence[str], place: Mapping[str, int]) -> bool:
    """Whether variables are in an order that freezing layers of a network makes.

    What is trained comes first and all else behind it, each in the order of creation; statistics
    are never trained, and all other variables of a layer are, or none.
    """
    places = [place[name] for name in names]
    falls = [i for i in range(1, len(places)) if places[i] < places[i - 1]]
    if len(falls) > 1:
        return False
    split = falls[0] if falls else 0
    trained = {_layer(name) for name in names[:split]}
    return not any(is_statistic(name) for name in names[:split]) and not any(
        _layer(name) in trained for name in names[split:] if not is_statistic(name)
    )


def _layer(name: str) -> str:
    return name.rsplit("/", 1)[0]


@dataclass(frozen=True)
class _Content:
    """What a file has.

    Attributes:
        layers: Of each top-level layer, the names of its variables in order.
        datasets: Every dataset by the variable's name, or by its path where it is none.
        left_out: Of those that are no part of the model, the reason.
    """

    layers: Mapping[str, Sequence[str]]
    datasets: Mapping[str, Dataset]
    left_out: Mapping[str, str]


def _content(path: Path, listing: Listing) -> _Content:
    root = _root(path, listing)
    layers: dict[str, list[str]] = {}
    datasets: dict[str, Dataset] = {}
    paths = set()
    for layer, wanted in _weights(path, listing, root):
        names = layers.setdefault(layer, [])
        for weight, place in wanted:
            name = weight.removesuffix(_OUTPUT)
            dataset = listing.datasets.get(place)
            if dataset is None:
                raise _odd(path, f"{layer} lists {weight}, which it does not have")
            if name in datasets:
                raise _odd(path, f"{weight} is listed twice")
            datasets[name] = dataset
            names.append(name)
            paths.add(place)
    left_out = {}
    for place, dataset in listing.datasets.items():
        if place not in paths:
            if place in datasets:
                raise _odd(path, f"{place} is the name of two tensors")
            datasets[place] = dataset
            left_out[place] = _reason(place, root)
    return _Content(layers, datasets, left_out)


def _weights(
    path: Path, listing: Listing, root: str
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The groups of weights in order, each with its tensors' names and paths."""
    layers = listing.groups[root]["layer_names"] or ()
    beside = [_TOP_LEVEL] if f"{root}{_TOP_LEVEL}" in listing.groups else []
    seen: set[str] = set()
    for layer in [*layers, *beside]:
        group = listing.groups.get(f"{root}/{layer}".removeprefix("/"))
        if group is None:
            raise _odd(path, f"it lists the layer {layer}, which it does not have")
        if layer in seen:
            raise _odd(path, f"it lists the layer {layer} twice")
        seen.add(layer)
        prefix = f"{root}/{layer}/".removeprefix("/")
        yield layer, [(name, prefix + name) for name in group["weight_names"] or ()]


_TOP_LEVEL = "top_level_model_weights"
"""A group of variables that are in no layer; the official network has none."""


def _root(path: Path, listing: Listing) -> str:
    """The group that has the layers: the file itself, or that of a whole model's weights."""
    for root in ("", _WHOLE):
        if root in listing.groups and listing.groups[root]["layer_names"] is not None:
            return root
    raise InputError(
        f"{_shown(path)} is an HDF5 file, but none of weights that legacy Keras writes: it lacks "
        f"the attribute layer_names and has {_other(listing)}; give a file that save_weights(...) "
        f"of the official network wrote with the suffix .h5, or a TensorFlow checkpoint.",
        Cause.FORMAT,
    )


def _other(listing: Listing) -> str:
    """What another HDF5 file looks like, in words."""
    names = [name for name in (*listing.groups, *listing.datasets) if name and "/" not in name]
    if {"header", "nodes"} <= set(names):
        return "the parts of a trace that compare.py record writes"
    if any(name.endswith("/vars/0") for name in listing.datasets):
        return "the parts of a .weights.h5 file of Keras 3, which has no variables' names"
    return listed(names, 3) if names else "nothing in it"


def _reason(path: str, root: str) -> str:
    if path.split("/", 1)[0] == _OPTIMIZER:
        return "state of the optimizer"
    if root and not path.startswith(f"{root}/"):
        return f"outside {root}, so none of the network's weights"
    return "listed by no weight_names, so that Keras does not load it"


def _entry(dataset: Dataset) -> StoredEntry:
    kind = dataset.dtype
    name = "no numbers" if kind is None else dtype_name(kind)
    return StoredEntry(dataset.path, name, dataset.shape, dataset.size)


def _shown(name: object) -> str:
    return shortened(printable(name), 200)


def _odd(path: Path, found: str) -> InputError:
    return InputError(
        f"{_shown(path)} is no sound file of Keras' weights: {shortened(printable(found), 300)}; "
        f"copy or download it again, or save the weights again.",
        Cause.FORMAT,
    )


def find(path: Path) -> Path | None:
    """The path itself where it is an HDF5 file, of whatever kind.

    Args:
        path: Any path.
    """
    if not path.is_file():
        return None
    try:
        with open_regular(path) as stream:
            head = stream.read(HEAD_BYTES)
            # HDF5 may begin behind something else; what an archive holds is unpacked first.
            if lookalike(head) is not None and not head.startswith(SIGNATURE):
                return None
            size = stream.seek(0, 2)
            return path if is_hdf5(stream, size) else None
    except OSError:
        return None


FORMATS = (
    Format(
        "h5",
        SAYS,
        find=find,
        open=KerasH5,
        write=write,
        suffixes=(".h5", ".hdf5"),
    ),
)
