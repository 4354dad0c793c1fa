"""A frozen graph."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from made_graphs import Made, chunk, graph, nodes, number, shape_of, written

from converter.formats.frozen_graph import FORMATS
from converter.ledger import PRECISIONS, make_ledger
from efficientdet_spec import TINY, InputError
from fuzzing.damage.raw import RAW, within
from fuzzing.target import Damage, Target

_ODD_TENSORS = (
    number(1, 1) + chunk(2, shape_of((2**14, 2**14))),
    number(1, 1) + chunk(2, shape_of((2**40, 2**40))),
    number(1, 1) + chunk(2, shape_of((0, 2**62))),
    number(1, 1) + chunk(2, shape_of((2**64 - 1,))),
    number(1, 1) + chunk(2, number(3, 1)),
    number(1, 3) + chunk(2, shape_of((2**27,))) + number(7, 2**64 - 1),
    number(1, 7) + chunk(2, shape_of((2,))) + chunk(8, "text"),
    number(1, 14) + chunk(2, shape_of((3,))) + chunk(13, b"\x80\x7f" * 3),
    number(1, 19) + chunk(2, shape_of((9,))) + chunk(13, b"\xff" * 9),
    number(1, 99) + chunk(2, shape_of((1,))),
    b"",
)
_ODD_NAMES = ("", "x\x1b[2J", "a\nb", "x" * 3000, "../x", "class_net/beta", "images", "/", "a//b")


@functools.cache
def _made(tf2: bool) -> tuple[Made, ...]:
    return tuple(nodes(TINY, tf2=tf2))


# What hands its own value on, around and around, and a layer that takes it.
_RING = (
    *(Made(f"r{place}", "Identity", (f"r{(place + 1) % 9}",)) for place in range(9)),
    Made("layer/BiasAdd", "BiasAdd", ("r0", "r1")),
)


def _changed(rng: Random, data: bytes) -> bytes:
    """A sound graph of which a node has other inputs, another name, operation or value."""
    made = list(_made(rng.random() < 0.5))
    place = rng.randrange(len(made))
    one, other = made[place], rng.choice(made)
    form = rng.randrange(7)
    if form == 0:
        made[place] = one._replace(value=rng.choice(_ODD_TENSORS))
    elif form == 1:
        made[place] = one._replace(name=rng.choice((*_ODD_NAMES, other.name)))
    elif form == 2:
        made[place] = one._replace(inputs=tuple(reversed((*one.inputs, other.name))))
    elif form == 3:
        operations = ("Conv2D", "Identity", "", other.operation)
        made[place] = one._replace(operation=rng.choice(operations))
    elif form == 4:
        made += _RING
    elif form == 5:
        del made[place]
    else:
        rng.shuffle(made)
    return written(made)


class Reader(Target):
    """The variables of a frozen graph, as a conversion reads them."""

    WHAT = "frozen graph (`FrozenGraph`, the ledger, every constant)"
    CHECKSUMS = False
    EXAMPLES = 10_000
    BATCH = 10

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        data = graph(TINY, tf2=True)
        self.files = {"graph.pb": data}
        head = {f"head {kind}": within(RAW[kind], 0, 4096) for kind in ("byte", "extreme", "nudge")}
        changes: dict[str, Damage] = {f"changed {number}": _changed for number in range(4)}
        self.damages = {"graph.pb": {**RAW, **head, **changes}}
        path = material / "graph.pb"
        path.write_bytes(data)
        self._sound = self._content(path)

    def _content(self, path: Path) -> dict[str, Any]:
        if FORMATS[0].find(path) is None:
            raise InputError(f"{path} is no frozen graph; give one")
        source = FORMATS[0].open(path)
        left = source.left_out
        ledger = make_ledger(source, TINY)
        ledger.require_complete(str(path))
        for name in left:
            source.verify(name)
        return {name: source.read(name) for pair in ledger.sources for name in pair.pair.variables}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._content(folder / "graph.pb")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return value.keys() == self._sound.keys() and all(
            array.tobytes() == self._sound[name].tobytes() for name, array in value.items()
        )

    def promise(self, value: Any) -> str | None:
        for name, array in value.items():
            if array.shape != self._sound[name].shape:
                return f"{name} of another shape"
            if np.dtype(array.dtype).name not in PRECISIONS.values():
                return f"{name} of no floating-point type"
        return None
