"""Results as text for a terminal."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence

from efficientdet_spec import InputError
from parity.measure import Difference
from parity.result import NodeResult, NodesReport

_SOURCES_SHOWN = 5


def guarded(program: str, work: Callable[[], int]) -> int:
    """Run a command line's work; what a user can do something about ends in one sentence.

    Args:
        program: Name to begin messages with.
        work: Returns the exit code.

    Returns:
        The exit code: that of ``work``, 2 for wrong input or too little memory, 130 when
        interrupted, 141 when whoever reads the output has gone.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except InputError as error:
        text = str(error)
        print(f"{program}: error: {text}{'' if text.endswith('.') else '.'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes the output once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if not _out_of_memory(error):
            raise
        print(
            f"{program}: error: memory ran out; give a smaller --size, or run on a machine with "
            f"more memory.",
            file=sys.stderr,
        )
        return 2


def _out_of_memory(error: Exception) -> bool:
    """Whether this is NumPy's, PyTorch's or TensorFlow's way of saying so."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "ResourceExhaustedError"
        or (isinstance(error, RuntimeError) and "memory" in str(error).lower())
    )


def nodes_text(report: NodesReport, *, every_node: bool) -> str:
    """A comparison: the table of nodes, the outputs, where differences come from, a summary.

    Args:
        report: The result.
        every_node: Whether nodes that pass are listed too, not only those that do not.
    """
    sections = [_heading(report)]
    listed = report.nodes if every_node else report.failures()
    outputs = set(report.outputs)
    inner = [node for node in listed if node.name not in outputs]
    if inner:
        sections.append(["Nodes", *_table(inner)])
    sections.append(["Outputs", *_table(report.output_nodes())])
    sources = report.sources(_SOURCES_SHOWN)
    if sources:
        title = "Where it comes from: largest differences that nodes make on identical inputs"
        sections.append([title, *_source_lines(sources)])
    if report.contributions:
        title = "What that does to the outputs, by putting each alone into an undisturbed run"
        sections.append([title, *_contribution_lines(report)])
    sections.append(_summary(report))
    return "\n\n".join("\n".join(section) for section in sections)


def _heading(report: NodesReport) -> list[str]:
    image = report.images
    return [
        f"{report.model}, {report.dtype}, {image['height']}x{image['width']}, "
        f"image {image['source']}",
        f"checkpoint {report.checkpoint['source']} ({report.checkpoint['weights']}, "
        f"fingerprint {report.checkpoint['fingerprint'][:16]}), candidate {report.candidate}",
        *_changed(report),
        "free: both sides run on their own; own: each node is given TensorFlow's tensors. "
        "max and rms are of the difference, relative to the rms of TensorFlow's tensor; "
        "own/limit in roundings.",
    ]


def _changed(report: NodesReport) -> list[str]:
    changed = report.parameters_changed
    if not changed:
        return []
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return [
        f"the candidate's parameters are not all the checkpoint's: {', '.join(changed[:3])}{more}"
    ]


def _table(nodes: Sequence[NodeResult]) -> list[str]:
    rows = [("node", "shape", "free max", "free rms", "at", "own/limit", "verdict")]
    for node in nodes:
        rows.append(
            (
                node.name,
                "x".join(map(str, node.shape)) if node.shape else "-",
                _scientific(node.free.relative_max) if node.free else "-",
                _scientific(node.free.relative_rms) if node.free else "-",
                _place(node.free),
                _roundings(node),
                node.verdict.value
                if node.verdict.passes
                else f"{node.verdict.value.upper()}: {node.reason}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
        for row in rows
    ]


def _scientific(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _place(distance: Difference | None) -> str:
    if distance is None or distance.max_difference == 0:
        return "-"
    return "[" + ",".join(map(str, distance.max_index)) + "]"


def _roundings(node: NodeResult) -> str:
    if node.own is None or node.own.roundings is None or node.limit is None:
        return "-"
    return f"{_short(node.own.roundings)}/{node.limit.roundings:g}"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.1f}" if value < 1000 else f"{value:.1e}"


def _sides(node: NodeResult) -> str:
    """Whose difference it is, where the exact value is known."""
    if not node.from_exact or not node.reference_from_exact:
        return ""
    theirs, ours = node.reference_from_exact.roundings, node.from_exact.roundings
    return f"; from the exact value TensorFlow {_short(theirs or 0)}, PyTorch {_short(ours or 0)}"


def _source_lines(nodes: Sequence[NodeResult]) -> list[str]:
    return [
        f"  {_scientific(node.own.relative_max)} of rms  {node.name} ({node.kind.value}, "
        f"{_roundings(node)} roundings{_sides(node)})"
        for node in nodes
        if node.own and node.kind
    ]


def _contribution_lines(report: NodesReport) -> list[str]:
    return [
        f"  {item.share:7.1%} of their difference  "
        + (item.nodes[0] if len(item.nodes) == 1 else "all of these together")
        for item in report.contributions
    ]


def _summary(report: NodesReport) -> list[str]:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts().items())
    largest = report.largest_free()
    lines = [f"{len(report.nodes)} nodes: {counts}"]
    if largest and largest.free:
        lines.append(
            f"largest accumulated difference {_scientific(largest.free.relative_max)} of rms, "
            f"at {largest.name} {_place(largest.free)}"
        )
    times = ", ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items())
    lines.append(f"{times}; peak memory {report.peak_memory / 1e9:.2f} GB")
    if report.passes:
        lines.append("PARITY: every node is covered and differs by no more than its rounding")
    else:
        failures = report.failures()
        lines.append(
            f"MISMATCH: {len(failures)} of {len(report.nodes)} nodes without parity, "
            f"first {failures[0].name}: {failures[0].reason}"
            if failures
            else "MISMATCH: no node was compared"
        )
    return lines
