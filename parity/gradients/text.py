"""A comparison of gradients as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from parity.gradients.comparison import GradientsReport
from parity.gradients.sides import SCALAR
from parity.gradients.verdict import GradientResult
from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.ranking import ordered
from parity.results.records.gradients import Mode, is_statistic
from parity.results.signs import in_capitals
from parity.results.text.layout import wrapped

_SHOWN = 5


def gradients_text(report: GradientsReport, width: int) -> str:
    """For each mode the counts, the structure and the worst gradients; then a verdict.

    Args:
        report: The comparison.
        width: Columns that a line may have.
    """
    sections = [[line] for line in _heading(report)]
    sections += [_mode(report, mode) for mode in report.modes()]
    sections.append(_summary(report))
    return "\n\n".join(
        "\n".join(part for line in section for part in _fitted(line, width)) for section in sections
    )


def _fitted(line: str, width: int) -> list[str]:
    """A line, or where it is too long several, those that follow further to the right."""
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return wrapped(line.lstrip(), width, indent=f"{indent}  ", first=indent)


def _heading(report: GradientsReport) -> list[str]:
    return [
        f"Gradients of {report.subject.model}: float64 shows structure, relative to the norm; "
        f"float32 is counted in units, the effect of rounding everything once."
    ]


def _mode(report: GradientsReport, mode: Mode) -> list[str]:
    results = report.of(mode)
    found = report.counts()[mode]
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in found.items() if count)
    lines = [f"Batch norm in {mode.value}: {len(results)} compared: {counts}"]
    largest = report.largest_structure(mode)
    if largest:
        lines.append(f"  float64: at most {largest.structure or 0.0:.1e} apart, at {largest.name}")
    zeros = sum(result.zero for result in results)
    if zeros:
        lines.append(f"  {zeros} gradients are zero by theory; --json has each with its reason")
    failing = [result for result in results if not result.verdict.passes]
    if failing:
        return [*lines, *_failing(results, failing)]
    worst = sorted(results, key=_units, reverse=True)[:_SHOWN]
    lines.append("  worst in float32, units of the candidate / of the reference:")
    return lines + [
        f"    {item.candidate_units or 0.0:8.2f} / {item.reference_units or 0.0:.2f}  {item.name}"
        for item in worst
    ]


def _failing(results: Sequence[GradientResult], failing: Sequence[GradientResult]) -> list[str]:
    worst = sorted(failing, key=_severity, reverse=True)[:_SHOWN]
    lines = [f"  worst of {len(failing)} without parity:"]
    lines += [
        f"    {result.name}: {in_capitals(result.verdict)}: {result.reason}" for result in worst
    ]
    scalar = next((result for result in results if result.name == SCALAR), None)
    if scalar and scalar.verdict.passes:
        lines.append(
            f"  the outputs agree, so that a backward pass is wrong; an error there spreads to all "
            f"that lies before it, and the last gradient without parity is {failing[-1].name}"
        )
    return lines


def _units(result: GradientResult) -> float:
    return ordered(result.candidate_units)


def _severity(result: GradientResult) -> tuple[float, float]:
    structural = result.verdict is Verdict.FUNCTION_DIFFERS
    return ordered(result.structure if structural else 0.0), _units(result)


def _summary(report: GradientsReport) -> list[str]:
    times = ", ".join(f"{phase} {value:.1f} s" for phase, value in report.seconds.items())
    lines = [f"{times}; peak memory {report.peak_memory / 1e9:.2f} GB"]
    failures = report.failures()
    if report.passes:
        lines.append(
            f"{in_capitals(Outcome.PARITY)}: both sides differentiate alike; every gradient is "
            f"covered"
        )
    elif failures:
        # What differs says more than what is not covered.
        first = next((result for result in failures if result.verdict.fails), failures[0])
        word = in_capitals(Outcome.DIFFERENCE if first.verdict.fails else Outcome.NOT_SHOWN)
        statistics = all(is_statistic(result.name) for result in failures)
        what = "batch norms' statistics" if statistics else "gradients"
        lines.append(
            f"{word}: {len(failures)} of {len(report.results)} {what} without parity, first "
            f"{first.name} ({first.mode.value}): {first.verdict.value}"
        )
        if statistics and first.verdict.fails:
            lines.append(
                "  All gradients have parity: only what a step of training leaves in running_mean "
                "and running_var differs. Look at the momentum of the batch norms, which in "
                "PyTorch is one minus TensorFlow's."
            )
    else:
        lines.append(f"{in_capitals(Outcome.NOT_SHOWN)}: no gradient was compared")
    return lines
