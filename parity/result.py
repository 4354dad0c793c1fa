"""Verdicts on nodes and the result of a comparison, as plain values for JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from efficientdet_spec import InputError, NodeKind
from parity.limits import SIDE_LIMIT, Limit, limit_of
from parity.measure import Difference

SCHEMA = "efficientdet-parity/nodes"
SCHEMA_VERSION = 1


class Verdict(str, Enum):
    """What is known of one node."""

    EXACT = "exact"
    ROUNDING = "rounding"
    DIFFERS = "differs"
    NOT_COVERED = "not covered"

    @property
    def passes(self) -> bool:
        """Whether the node's parity is shown."""
        return self in (Verdict.EXACT, Verdict.ROUNDING)


@dataclass(frozen=True)
class Measurement:
    """One node's measurement in one pass.

    Attributes:
        shape: Shape of the candidate's output, NHWC.
        distance: Its difference from the reference; None where none could be measured.
        terms: Number of values that one output element sums up one after another.
        problem: What forbids a comparison; None otherwise.
        from_exact: Difference of the candidate from the exact value, where that was computed.
        reference_from_exact: The same of the reference.
    """

    shape: tuple[int, ...]
    distance: Difference | None
    terms: int = 1
    problem: str | None = None
    from_exact: Difference | None = None
    reference_from_exact: Difference | None = None


@dataclass(frozen=True)
class PassTiming:
    """Wall time of one pass.

    Attributes:
        name: ``free`` or ``isolated``.
        seconds: Its duration, both frameworks and the measuring included.
    """

    name: str
    seconds: float


@dataclass(frozen=True)
class NodeResult:
    """What a comparison found about one node.

    Attributes:
        name: The node.
        kind: What it computes; None where only the candidate has it.
        shape: NHWC; None where only the reference has it.
        free: Difference accumulated up to this node when both sides run on their own.
        own: Difference that the node itself makes on identical inputs.
        from_exact: Difference of the candidate from the exact value on these inputs; of means.
        reference_from_exact: The same of the reference.
        limit: What its own difference may be.
        verdict: The verdict on it.
        reason: Why.
    """

    name: str
    kind: NodeKind | None
    shape: tuple[int, ...] | None
    free: Difference | None
    own: Difference | None
    from_exact: Difference | None
    reference_from_exact: Difference | None
    limit: Limit | None
    verdict: Verdict
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "kind": self.kind.value if self.kind else None,
            "shape": list(self.shape) if self.shape else None,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "free": _difference_dict(self.free),
            "own": _difference_dict(self.own),
            "from_exact": _difference_dict(self.from_exact),
            "reference_from_exact": _difference_dict(self.reference_from_exact),
            "limit": (
                {"roundings": self.limit.roundings, "reason": self.limit.reason}
                if self.limit
                else None
            ),
        }


def _number(value: float | None) -> float | str | None:
    # JSON knows neither NaN nor infinity.
    return value if value is None or math.isfinite(value) else str(value)


def _difference_dict(distance: Difference | None) -> dict[str, Any] | None:
    if distance is None:
        return None
    return {
        "rms": _number(distance.rms),
        "rms_difference": _number(distance.rms_difference),
        "max_difference": _number(distance.max_difference),
        "relative_rms": _number(distance.relative_rms),
        "relative_max": _number(distance.relative_max),
        "max_index": list(distance.max_index),
        "finite": distance.finite,
        "constant": distance.constant,
        "roundings": _number(distance.roundings),
        "roundings_index": (
            list(distance.roundings_index) if distance.roundings_index is not None else None
        ),
    }


def judge(
    name: str, kind: NodeKind | None, free: Measurement | None, isolated: Measurement | None
) -> NodeResult:
    """The verdict on one node, with its reason.

    Args:
        name: The node.
        kind: What the reference computes there; None where it has no such node.
        free: Measurement of the free pass; None where the candidate has no such node.
        isolated: Measurement of the isolated pass, likewise.
    """
    shape = free.shape if free else None
    accumulated = free.distance if free else None
    own = isolated.distance if isolated else None
    limit = limit_of(kind, isolated.terms) if kind and isolated else None
    verdict, reason = _verdict(free, isolated, limit)
    return NodeResult(
        name=name,
        kind=kind,
        shape=shape,
        free=accumulated,
        own=own,
        from_exact=isolated.from_exact if isolated else None,
        reference_from_exact=isolated.reference_from_exact if isolated else None,
        limit=limit,
        verdict=verdict,
        reason=reason,
    )


def _verdict(
    free: Measurement | None, isolated: Measurement | None, limit: Limit | None
) -> tuple[Verdict, str]:
    if free is None or isolated is None:
        return Verdict.NOT_COVERED, "the candidate has no such node"
    problem = free.problem or isolated.problem
    own = isolated.distance
    if problem or own is None or own.roundings is None or limit is None:
        return Verdict.NOT_COVERED, problem or "nothing was measured"
    if not own.finite or (free.distance is not None and not free.distance.finite):
        return Verdict.NOT_COVERED, "a value is NaN or infinite"
    if own.constant and math.prod(isolated.shape) > 1:
        return Verdict.NOT_COVERED, "all values are equal, so that agreement says nothing"
    exact = isolated.from_exact
    if exact and exact.roundings is not None and exact.roundings > SIDE_LIMIT:
        return Verdict.DIFFERS, (
            f"the candidate is {exact.roundings:.3g} roundings from the exact value, above "
            f"{SIDE_LIMIT}"
        )
    if own.max_difference == 0:
        return Verdict.EXACT, "equal bit for bit on identical inputs"
    if own.roundings <= limit.roundings:
        return Verdict.ROUNDING, (
            f"{own.roundings:.1f} of at most {limit.roundings:g} roundings: {limit.reason}"
        )
    return Verdict.DIFFERS, (
        f"{own.roundings:.3g} roundings on identical inputs, above {limit.roundings:g}: "
        f"{limit.reason}"
    )


@dataclass(frozen=True)
class Contribution:
    """What one node's own difference does to the outputs.

    Attributes:
        nodes: The node; several where their differences were put in together.
        share: Part of the outputs' difference that it reproduces; 1 is all of it. Negative where
            it works against the rest.
        size: Size of its effect relative to the outputs' difference, whatever the direction.
    """

    nodes: tuple[str, ...]
    share: float
    size: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"nodes": list(self.nodes), "share": self.share, "size": self.size}


@dataclass(frozen=True)
class NodesReport:
    """The result of comparing two networks node by node.

    Attributes:
        model: Name of the model.
        checkpoint: What both sides were filled from: path, fingerprint, weights.
        candidate: Where the PyTorch side came from.
        parameters_changed: Names of the candidate's parameters that are not the checkpoint's.
        images: The input: source, size, hash.
        dtype: Type in which both sides computed.
        environment: Versions and settings.
        nodes: One result for each node of either side, in order.
        tensors: Name of each node's TensorFlow tensor.
        outputs: Names of the nodes that are the network's outputs.
        contributions: What the nodes that make the largest differences do to the outputs, then
            all of these together; empty where that was not tried.
        seconds: Wall time by phase.
        peak_memory: Largest resident memory of the process, in bytes.
    """

    model: str
    checkpoint: dict[str, Any]
    candidate: str
    parameters_changed: Sequence[str]
    images: dict[str, Any]
    dtype: str
    environment: dict[str, Any]
    nodes: Sequence[NodeResult]
    tensors: Mapping[str, str]
    outputs: Sequence[str]
    contributions: Sequence[Contribution]
    seconds: dict[str, float]
    peak_memory: int

    @property
    def passes(self) -> bool:
        """Whether every node of both sides is covered and within its limit."""
        return bool(self.nodes) and all(node.verdict.passes for node in self.nodes)

    def counts(self) -> dict[str, int]:
        """Number of nodes by verdict."""
        counts = Counter(node.verdict.value for node in self.nodes)
        return {verdict.value: counts[verdict.value] for verdict in Verdict}

    def output_nodes(self) -> list[NodeResult]:
        """The results of the network's outputs, in their order."""
        by_name = {node.name: node for node in self.nodes}
        return [by_name[name] for name in self.outputs if name in by_name]

    def largest_free(self) -> NodeResult | None:
        """The node whose accumulated difference is largest relative to its rms."""
        measured = [node for node in self.nodes if node.free]
        return max(measured, key=lambda node: _free_max(node), default=None)

    def sources(self, count: int) -> list[NodeResult]:
        """The nodes that make the largest difference of their own, largest first."""
        return largest_sources(self.nodes, count)

    def failures(self) -> list[NodeResult]:
        """The nodes whose parity is not shown."""
        return [node for node in self.nodes if not node.verdict.passes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the schema is documented in ``docs/results.md``."""
        largest = self.largest_free()
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "passes": self.passes,
            "model": self.model,
            "checkpoint": self.checkpoint,
            "candidate": self.candidate,
            "parameters_changed": list(self.parameters_changed),
            "images": self.images,
            "dtype": self.dtype,
            "environment": self.environment,
            "counts": self.counts(),
            "largest_relative_max": _number(_free_max(largest)) if largest else None,
            "largest_node": largest.name if largest else None,
            "outputs": list(self.outputs),
            "contributions": [item.to_dict() for item in self.contributions],
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory,
            "nodes": [
                {**node.to_dict(), "tensor": self.tensors.get(node.name)} for node in self.nodes
            ],
        }


def largest_sources(nodes: Iterable[NodeResult], count: int) -> list[NodeResult]:
    """The ``count`` nodes that make the largest difference of their own, largest first."""
    measured = [node for node in nodes if node.own and node.own.max_difference]
    return sorted(measured, key=lambda node: -_own_max(node))[:count]


def check_writable(path: Path, keep: Iterable[Path] = ()) -> None:
    """Raise at once where writing a file would fail after all the work, or destroy an input.

    Args:
        path: The file to write.
        keep: Files that must stay as they are.

    Raises:
        InputError: The folder does not exist or cannot be written to, or ``path`` is a folder or
            one of the files to keep.
    """
    for other in keep:
        if other.resolve() == path.resolve():
            raise InputError(f"{path} is in use by this very run; name another file to write.")
    if not path.name or path.is_dir():
        raise InputError(f"{path} is a folder; name a file for the result.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(
            f"{path} cannot be written; choose a file in a folder that exists and is writable."
        )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a result; the file appears complete or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    check_writable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a file in a folder that exists, "
            f"is writable and has room."
        ) from error
    finally:
        # Where it could not be made there is also no looking for it, and this must not hide why.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _free_max(node: NodeResult) -> float:
    value = node.free.relative_max if node.free else 0.0
    return math.inf if math.isnan(value) else value


def _own_max(node: NodeResult) -> float:
    value = node.own.relative_max if node.own else 0.0
    return math.inf if math.isnan(value) else value
