"""A run's result as text for a terminal, and as tables for a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import common
from benchmarks.measurements import growth
from benchmarks.previous import Changes
from benchmarks.records import Measurement, Ratio, Row, SuiteResult

_HEAD = ("", "min ms", "median ms", "spread ms", "ratio", "of minima", "to the fastest other", "MB")

SHARES = 6
"""Operations of a profile that are shown."""


def text(result: SuiteResult) -> str:
    """Every measurement as a table."""
    parts = []
    for measurement in result.measurements:
        lines = [f"{measurement.what}: {measurement.subject}; time of {measurement.unit}"]
        lines.append(common.table(_table(measurement)))
        lines += _shares(measurement)
        lines += [f"{item.way} was left out: {item.reason}" for item in measurement.left_out]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def markdown(result: SuiteResult) -> str:
    """Every measurement as a table of a document, those of a curve together."""
    single = [item for item in result.measurements if item.what != "network" or _is_whole(item)]
    parts = []
    for measurement in single:
        head, *rows = _table(measurement)
        lines = [f"**{measurement.what}: {measurement.subject}**, time of {measurement.unit}", ""]
        lines += _lines(head, rows)
        if shares := _shares(measurement):
            lines += ["", *(f"- {share}" for share in shares)]
        parts.append("\n".join(lines))
    for curve in growth.CURVES:
        found = of_curve(result, curve)
        if len(found) > 1:
            parts.append(f"**Growth by {curve}**, milliseconds (median)\n\n{_curve(curve, found)}")
    return "\n\n".join(parts) + "\n"


def changed(changes: Changes) -> str:
    """What is another than in an earlier run."""
    lines = [f"{changes.compared} rows compared with the previous run"]
    lines += [f"not comparable as it is: {item}" for item in changes.elsewhere]
    lines += [change.text for change in changes.rows]
    if not changes.rows and changes.compared:
        lines.append("no ratio has changed by more than its spread")
    lines += [f"no longer there: {item}" for item in changes.only_before]
    return "\n".join(lines)


def of_curve(result: SuiteResult, curve: str) -> list[Measurement]:
    """The measurements of networks that are points of a curve, in order."""
    threads = result.environment.get("threads")
    if not isinstance(threads, int):
        return []
    wanted = [case.subject for case in growth.cases(curve, threads)]
    known = {item.subject: item for item in result.measurements if item.what == "network"}
    return [known[subject] for subject in wanted if subject in known]


def _shares(measurement: Measurement) -> list[str]:
    return list(_sentences(measurement))


def _sentences(measurement: Measurement) -> Iterator[str]:
    """Sentences on stages that follow each other, and on where a network's time goes."""
    for row in measurement.rows:
        network = row.stages.get("network")
        if network:
            named = ", ".join(
                f"{name} {_milliseconds(value)}" for name, value in row.stages.items()
            )
            outside = sum(row.stages.values()) / network - 1
            yield f"{row.way}, ms: {named}; {outside:.0%} of the network's time are outside it"
    for profile in measurement.profiles:
        whole = sum(profile.milliseconds.values())
        named = ", ".join(
            f"{name} {value / whole:.0%}"
            for name, value in list(profile.milliseconds.items())[:SHARES]
        )
        yield f"{profile.way} under a profiler: {named}"


def _is_whole(measurement: Measurement) -> bool:
    """Whether more was measured than a curve needs."""
    return len(measurement.rows) + len(measurement.left_out) > len(growth.WAYS)


def _table(measurement: Measurement) -> list[tuple[str, ...]]:
    rows = [_HEAD, *map(_cells, measurement.rows)]
    used = [place for place in range(len(_HEAD)) if any(row[place] for row in rows[1:])]
    return [tuple(row[place] for place in used) for row in rows]


def _cells(row: Row) -> tuple[str, ...]:
    memory = row.peak_memory_bytes
    return (
        row.way,
        _milliseconds(row.minimum),
        _milliseconds(row.median),
        _milliseconds(row.spread),
        f"{row.ratio.median:.2f}",
        f"{row.ratio.minima:.2f}",
        _against(row.to_fastest),
        "" if memory is None else f"{memory / 1e6:.0f}",
    )


def _against(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} of {ratio.other}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 1 else f"{1000 * seconds:.0f}"


def _curve(curve: str, points: Sequence[Measurement]) -> str:
    ways = list(dict.fromkeys(row.way for point in points for row in point.rows))
    ways = [way for way in ways if all(point.row(way) for point in points)]
    head = (curve, *ways)
    return "\n".join(
        _lines(head, [(point_name(curve, point), *_medians(point, ways)) for point in points])
    )


def _medians(point: Measurement, ways: Sequence[str]) -> Iterator[str]:
    for way in ways:
        row = point.row(way)
        yield "" if row is None else _milliseconds(row.median)


def point_name(curve: str, point: Measurement) -> str:
    """What a point of a curve is called on its axis."""
    value = point.settings[curve]
    if curve == "model":
        return str(value).removeprefix("efficientdet-").upper().replace("X", "x")
    return f"{value[0]}" if curve == "size" else str(value)


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    bar = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, bar, *rows)]
