"""What was compared, on what, and what the verdict covers."""

from __future__ import annotations

from collections.abc import Sequence

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results import ranking
from parity.results.records.nodes import InputResult, NodesResult, Noise
from parity.results.text.layout import figure, labelled, plural, roundings, wrapped

_INPUTS_SHOWN = 4


def compared_lines(report: NodesResult, width: int, *, verbose: bool) -> list[str]:
    """Both sides, the checkpoint and the inputs.

    Args:
        report: The comparison.
        width: Columns of a line.
        verbose: Whether all inputs and the time of each phase are listed.
    """
    device = report.environment.get("device", "cpu")
    reference, checkpoint = report.reference, report.checkpoint
    computed = f" ({reference.framework})" if reference.framework else ""
    lines = [
        *labelled("model", f"{report.model}, {report.dtype}", width),
        *labelled("candidate", f"{report.candidate} on {device}", width),
        *labelled("reference", f"{reference.kind.value} {reference.source}{computed}", width),
    ]
    for note in reference.notes or ():
        lines += labelled("", f"note: {note}", width)
    lines += labelled(
        "weights",
        f"{checkpoint.source} ({checkpoint.weights.value}, fingerprint "
        f"{checkpoint.fingerprint[:16]})",
        width,
    )
    lines += _input_lines(report.inputs, width, verbose=verbose)
    counts = ", ".join(
        f"{count} {verdict.value}"
        for verdict, count in report.counts.items()
        if count or verdict in (Verdict.EXACT, Verdict.ROUNDING, Verdict.NOT_COVERED)
    )
    lines += labelled("nodes", f"{len(report.nodes):,}: {counts}", width)
    return [*lines, *labelled("time", _time(report, verbose=verbose), width)]


def _input_lines(inputs: Sequence[InputResult], width: int, *, verbose: bool) -> list[str]:
    several = len(inputs) > 1
    # Those that say something first.
    telling = [item for item in inputs if item.outcome is not Outcome.PARITY]
    shown = (telling or inputs)[: None if verbose else _INPUTS_SHOWN]
    if verbose or len(inputs) <= _INPUTS_SHOWN:
        shown = inputs
    lines: list[str] = []
    for item in shown:
        outcome = f": {item.outcome.value}" if several else ""
        label = "" if lines else ("inputs" if several else "input")
        lines += labelled(label, f"{item.size}, {item.source}{outcome}", width)
    if len(inputs) > len(shown):
        lines += labelled("", f"and {plural(len(inputs) - len(shown), 'more input')}", width)
    return lines


def _time(report: NodesResult, *, verbose: bool) -> str:
    memory = f"peak memory {report.peak_memory_bytes / 1e9:.2f} GB"
    if not verbose:
        return f"{sum(report.seconds.values()):.1f} s; {memory}"
    times = ", ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items())
    return f"{times}; {memory}"


def coverage_lines(report: NodesResult, width: int, *, verbose: bool) -> list[str]:
    """What the verdict covers, sentence by sentence.

    Where something differs the first sentence is enough at first: what could go unseen matters
    once nothing is seen any more.

    Args:
        report: The comparison.
        width: Columns of a line.
        verbose: Whether all is told whatever the outcome.
    """
    told = [*report.coverage.text]
    if report.outcome is Outcome.DIFFERENCE and not verbose:
        told = [f"{told[0]} --verbose tells more."] if told else []
    lines: list[str] = []
    for sentence in (*told, *(f"Not shown: {gap}" for gap in report.not_shown)):
        lines += wrapped(sentence, width, indent="    ", first="  - ")
    largest = ranking.most_accumulated(report.nodes)
    if largest and largest.free:
        sentence = (
            f"The largest accumulated difference is {figure(largest.free.relative_max)} of rms, at "
            f"{largest.name}."
        )
        lines += wrapped(sentence, width, indent="    ", first="  - ")
    return lines


def noise_lines(noise: Sequence[Noise], width: int) -> list[str]:
    """How far each side is from itself.

    Args:
        noise: What was measured.
        width: Columns of a line.
    """
    lines: list[str] = []
    for item in noise:
        if item.changed:
            counted = "" if item.roundings is None else f", {roundings(item.roundings)} roundings"
            found = (
                f"{item.changed:,} of {plural(item.nodes, 'node')} differ, at most "
                f"{figure(item.largest)} of rms{counted}, at {item.node}"
            )
        else:
            found = f"all {plural(item.nodes, 'node')} equal bit for bit"
        lines += wrapped(
            f"{item.side}, {item.variation}: {found}", width, indent="    ", first="  "
        )
    return lines
