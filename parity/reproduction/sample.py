"""One node as a comparison meets it: what it reads, what it should make of that, what it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from efficientdet_spec import NodeKind
from parity.judge.measure import unit_roundoff
from parity.judge.verdict import NodeResult, Verdict
from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.pairing import Pairing, Progress
from parity.lockstep.walk import visited
from parity.process.arrays import Array

PARAMETERS = ("weight", "bias", "running_mean", "running_var")
"""Attributes of layers that hold parameters and statistics."""

ROUNDINGS = 16.0
"""Roundings that a handful of operations may carry; see ``parity.judge.limits``."""


@dataclass(frozen=True)
class Sample:
    """A node on the reference's tensors; all feature maps are [N, C, H, W].

    Attributes:
        node: What was found about it.
        kind: What it computes.
        layer: The faithful layer.
        parameters: Its parameters and statistics, and the weights of a fusion.
        size: Height and width that a max-pool or an up-sampling is to give.
        inputs: What it reads.
        sources: The nodes that these are from.
        output: What the candidate made of them.
        truth: What should be made of them, in float64 but for selections.
        gauge: On what the roundings of each element act.
        certain: Whether the candidate was given these very inputs.
        settings: With which the candidate makes it, where that is known.
        theirs: Parameters of the candidate's own layer, where it has one, and its ``eps``.
        read: The reference's tensors of the nodes that the candidate reads instead, by node.
    """

    node: NodeResult
    kind: NodeKind
    layer: Any
    parameters: Mapping[str, Array]
    size: tuple[int, int]
    inputs: tuple[Array, ...]
    sources: tuple[str, ...]
    output: Array
    truth: Array
    gauge: Array
    certain: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    read: Mapping[str, Array] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """Roundings that a right implementation may carry."""
        return float(self.node.limit.candidate) if self.node.limit else ROUNDINGS

    @property
    def bound(self) -> float:
        """Roundings within which a function reproduces the output, as for a hypothesis."""
        return 2 * max(self.limit, ROUNDINGS)

    @property
    def dtype(self) -> str:
        """The type in which both sides compute."""
        return str(self.output.dtype)

    @property
    def unit(self) -> float:
        """Its unit roundoff."""
        return unit_roundoff(self.output.dtype)

    def most_telling(self) -> tuple[int, int, int, int]:
        """The element that is furthest off in roundings; of several the one furthest off at all."""
        with np.errstate(all="ignore"):
            apart = np.abs(self.output.astype(np.float64) - self.truth)
            roundings = apart / (self.unit * self.gauge.astype(np.float64))
        apart = np.where(np.isfinite(apart), apart, np.inf)
        roundings = np.where(apart == 0, 0.0, np.nan_to_num(roundings, nan=np.inf, posinf=np.inf))
        # Many are equally far off where a value of zero takes the place of others.
        most = roundings.max()
        telling = roundings >= most * (1 - 1e-6) if np.isfinite(most) else np.isinf(roundings)
        image, channel, row, column = np.unravel_index(
            np.argmax(np.where(telling, apart, -1.0)), apart.shape
        )
        return int(image), int(channel), int(row), int(column)


def take(pairing: Pairing, node: NodeResult, progress: Progress | None = None) -> Sample | str:
    """Meet a node once more; both networks are run.

    Args:
        pairing: What was compared.
        node: What was found about it.
        progress: Told how far the run is.

    Returns:
        The sample, or why there is none.
    """
    found: list[Sample | str] = []
    read: dict[str, Array] = {}

    def look(met: Meeting) -> None:
        if met.name in node.wrong_inputs and met.reference is not None:
            read[met.name] = _nchw(met.reference)
        if met.name == node.name:
            found.append(_sample(pairing, node, met, read))

    IsolatedWalk(pairing, look, visited(pairing), progress).run()
    return found[-1] if found else "the candidate has no such node"


def _sample(
    pairing: Pairing, node: NodeResult, met: Meeting, read: Mapping[str, Array]
) -> Sample | str:
    """The node where it can be looked at, else why not."""
    if node.verdict is Verdict.REFERENCE_DIFFERS:
        return "the candidate is right there, and the reference is not"
    if node.returned:
        return "the node is right, and the candidate returns something else in its place"
    if met.candidate is None:
        return "the candidate has no tensor there"
    if met.problem is not None:
        return f"its output cannot be held against the model's: {met.problem.text}"
    if met.own.astray:
        return "the reference's tensors do not fit in the place of what the candidate reads there"
    output = met.output
    if output is None:
        return "the candidate has no tensor there that can be looked at"
    referee: Any = pairing.referee
    call = referee.calls[met.name]
    parameters = _parameters(call.module)
    size = (0, 0)
    if met.kind is NodeKind.FUSE and call.arguments[1] is not None:
        parameters["weights"] = _array(call.arguments[1])
    if met.kind in (NodeKind.POOL, NodeKind.UPSAMPLE):
        rows, columns = call.arguments[1]
        size = int(rows), int(columns)
    return Sample(
        node=node,
        kind=met.kind,
        layer=call.module,
        parameters=parameters,
        size=size,
        inputs=tuple(_nchw(array) for array in met.ruling.inputs),
        sources=call.sources,
        output=_nchw(output),
        truth=_nchw(met.ruling.truth),
        gauge=_nchw(met.ruling.gauge),
        certain=met.ruling.certain,
        settings=pairing.candidate.settings(met.name).get(met.name, {}),
        theirs=_held(met.candidate.layer),
        read={name: read[name] for name in node.wrong_inputs if name in read},
    )


def _parameters(layer: Any) -> dict[str, Array]:
    values = {name: getattr(layer, name, None) for name in PARAMETERS}
    return {name: _array(value) for name, value in values.items() if hasattr(value, "detach")}


def _held(layer: Any) -> dict[str, Any]:
    """What the candidate's own layer holds; nothing where that cannot be looked at."""
    try:
        values: dict[str, Any] = _parameters(layer)
        eps = getattr(layer, "eps", None)
    # The layer's attributes may be anybody's code.
    except Exception:
        return {}
    return values | ({"eps": eps} if isinstance(eps, float) else {})


def _array(tensor: Any) -> Array:
    array: Array = tensor.detach().cpu().numpy().copy()
    return array


def _nchw(array: Array) -> Array:
    """A copy, [N, H, W, C] to [N, C, H, W]."""
    axes: Sequence[int] = (0, 3, 1, 2)
    return np.array(array.transpose(axes), order="C")
