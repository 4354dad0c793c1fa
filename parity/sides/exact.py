"""The exact values as a reference: every node in float64 on tensors of the type compared in.

Each node's exact value is rounded once, and is what the nodes behind it read. No framework
computes it, so that it rounds as little as anything of this type can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from parity.judge.referee import Referee, Sitting
from parity.process.arrays import Array
from parity.sides.side import Reference
from parity.sides.stream import StreamError, Tensors


def exact_reference(
    referee: Referee, outputs: Sequence[str], described: dict[str, Any]
) -> Reference:
    """A reference that is the faithful model's own exact values.

    Args:
        referee: The faithful model.
        outputs: Nodes that are the network's outputs: class logits, then box codes, finest first.
        described: Where it comes from.
    """
    return Reference(
        kinds=referee.kinds,
        outputs=outputs,
        compute=partial(_computing, referee),
        described=described,
        framework="NumPy",
    )


@contextmanager
def _computing(referee: Referee, images: Array) -> Iterator[Tensors]:
    yield _Exact(referee, images)


class _Exact:
    """Computes the nodes one after another, each when it or one behind it is asked for.

    Args:
        referee: The faithful model.
        images: [N, H, W, 3].
    """

    def __init__(self, referee: Referee, images: Array) -> None:
        self._sitting: Sitting = referee.sitting(images)
        self._names = list(referee.kinds)
        self._offered = 0
        self._computed = 0

    def take(self, name: str) -> Array:
        """The next tensor, which must be this node's."""
        if self._offered == len(self._names):
            raise StreamError(f"the reference ended before {name}")
        if self._names[self._offered] != name:
            raise StreamError(
                f"the reference offers {self._names[self._offered]} where {name} was due"
            )
        while self._computed < self._offered:
            self._next()
        return self._next()

    def _next(self) -> Array:
        name = self._names[self._computed]
        self._computed += 1
        ruling = self._sitting.rule(name)
        array = ruling.rounded()
        self._sitting.follow(name, array, ruling, substituted=True, recorded=True)
        return array

    def skip(self) -> None:
        """Let the next tensor pass; it is computed only if one behind it is asked for."""
        self._offered += 1

    def release(self) -> None:
        """The tensor taken is no longer looked at."""
        self._offered += 1
