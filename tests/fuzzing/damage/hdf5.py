"""Damage to HDF5 files: parts that are missing, elsewhere, of other types or packed oddly."""

from __future__ import annotations

import functools
import io
import json
import zlib
from random import Random
from typing import Any

import h5py
import numpy as np

from fuzzing.damage import texts
from fuzzing.damage.raw import RAW, within
from fuzzing.target import Damage


def _edited(change: Any) -> Damage:
    """A damage that is done to the open file; what cannot be opened gets a byte of damage."""

    @functools.wraps(change)
    def damage(rng: Random, data: bytes) -> bytes:
        stream = io.BytesIO(data)
        try:
            with h5py.File(stream, "r+", locking=False) as file:
                change(rng, file)
        except Exception:  # whatever HDF5 says of a file that was damaged before
            return RAW["byte"](rng, data)
        return stream.getvalue()

    return damage


def _some(rng: Random, file: Any) -> str:
    names: list[str] = []
    file.visit(names.append)
    return rng.choice(names)


def _datasets(file: Any) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return [name for name in names if isinstance(file[name], h5py.Dataset)]


@_edited
def links(rng: Random, file: Any) -> None:
    """A part goes, or is a link or a group."""
    name = _some(rng, file)
    form = rng.randrange(6)
    other = _some(rng, file)
    if form == 5:
        file[name].attrs["x" * 10] = "y" * 1000
        return
    del file[name]
    if form == 1:
        file[name] = h5py.SoftLink(f"/{other}")
    elif form == 2:
        file[name] = h5py.ExternalLink("/dev/zero", "/x")
    elif form == 3:
        file.create_group(name)
    elif form == 4:
        file[name] = file[other] if other in file else h5py.SoftLink("/")


@_edited
def datasets(rng: Random, file: Any) -> None:
    """A dataset is of another type or shape, packed, external, virtual or huge."""
    names = [name for name in ("header", "complete", "images") if name in file]
    names += [f"nodes/{name}" for name in file.get("nodes", ())]
    name = rng.choice(names or _datasets(file))
    shape, kind, value = file[name].shape, file[name].dtype, file[name][()]
    del file[name]
    form = rng.randrange(9)
    if form == 0:
        file.create_dataset(name, (2**40, 2**20), kind, chunks=(1, 2**10))
    elif form == 1:
        file.create_dataset(name, shape, rng.choice(("i8", "f2", ">f4", "S9", "?")))
    elif form == 2:
        file.create_dataset(
            name, shape or (5,), kind, external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
        )
    elif form == 3:
        layout = h5py.VirtualLayout(shape or (5,), kind)
        layout[...] = h5py.VirtualSource("/dev/zero", "x", shape or (5,))
        file.create_virtual_dataset(name, layout)
    elif form == 4:
        file.create_dataset(name, data=json.dumps("text"), dtype=h5py.string_dtype())
    elif form == 5:
        file.create_dataset(name, (2, *shape[1:]), kind)
    elif form == 6 and shape:
        packing = rng.choice(({"compression": "lzf"}, {"fletcher32": True}, {"scaleoffset": 3}))
        file.create_dataset(name, data=value, chunks=shape, **packing)
    elif form == 7 and shape:
        file.create_dataset(name, data=value, chunks=shape, compression="gzip", shuffle=True)
    else:
        file.create_dataset(name, data=np.zeros((1, 2**16), np.uint8))


@_edited
def header(rng: Random, file: Any) -> None:
    """The header says something else, and its checksum is made again, or not."""
    text = texts.values(rng, bytes(file["header"][()]))
    complete = json.loads(bytes(file["complete"][()]))
    del file["header"]
    file.create_dataset("header", data=np.bytes_(text or b" "))
    if rng.random() < 0.8:
        complete["header"] = zlib.crc32(text)
        del file["complete"]
        file.create_dataset("complete", data=np.bytes_(json.dumps(complete).encode()))


@_edited
def checksums(rng: Random, file: Any) -> None:
    """The list of checksums says something else."""
    text = texts.values(rng, bytes(file["complete"][()]))
    del file["complete"]
    file.create_dataset("complete", data=np.bytes_(text or b" "))


@_edited
def lists(rng: Random, file: Any) -> None:
    """A list of names has others, in another order, of another type, or is split."""
    groups: list[Any] = [file]
    file.visititems(lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None)
    group = rng.choice([item for item in groups if len(item.attrs)])
    attribute = rng.choice(list(group.attrs))
    names = [str(name) for name in np.atleast_1d(group.attrs[attribute])]
    form = rng.randrange(9)
    del group.attrs[attribute]
    if form == 0:
        rng.shuffle(names)
    elif form == 1:
        names.append(rng.choice(names) if names else "x")
    elif form == 2:
        names = names[: rng.randrange(len(names) + 1)]
    elif form == 3:
        names.append(rng.choice(("..", "/", ".", "", "a/../b", "\x1b[2J", "x" * 5000)))
    elif form == 4:
        group.attrs[attribute] = np.arange(rng.choice((0, 3, 10**4)), dtype="f8")
        return
    elif form == 5:
        for number, name in enumerate(names):
            group.attrs[f"{attribute}{number}"] = np.array([name], "S")
        return
    elif form == 6:
        group.attrs[attribute] = np.array(names or ["x"], "S")
        return
    elif form == 7:
        group.attrs.create(attribute, np.zeros(rng.choice((1, 1000)), "S60"))
        return
    group.attrs[attribute] = [name.encode() for name in names]


_HEADS: dict[str, Damage] = {
    f"head {kind}": within(RAW[kind], 0, 2048) for kind in ("byte", "bit", "extreme", "nudge")
}

HDF5: dict[str, Damage] = {
    "links": links,
    "datasets": datasets,
    "datasets-2": datasets,
    "header": header,
    "header-2": header,
    "checksums": checksums,
    **_HEADS,
}


def keras_damages(sound: bytes) -> dict[str, Damage]:
    """What can be done to a Keras HDF5 file.

    HDF5 itself edits, in this very process, which a damaged file may hold for ever: so only what is
    sound, or was edited alone, is edited.

    Args:
        sound: The file.
    """
    known = {hash(sound)}

    def guarded(edit: Damage) -> Damage:
        def damage(rng: Random, data: bytes) -> bytes:
            if hash(data) not in known:
                return RAW["byte"](rng, data)
            edited = edit(rng, data)
            # What could not be edited had a byte damaged instead.
            if len(edited) != len(data) or sum(map(int.__ne__, edited, data)) > 1:
                known.add(hash(edited))
            return edited

        return damage

    edits = {"links": links, "datasets": datasets, "datasets-2": datasets}
    edits |= {"lists": lists, "lists-2": lists}
    return {**{name: guarded(edit) for name, edit in edits.items()}, **_HEADS}
