"""A comparison of nodes as text for a terminal: the verdict and what to do first, then the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results import ranking
from parity.results.records.nodes import Node, NodesResult, Suspect
from parity.results.text.background import compared_lines, coverage_lines, noise_lines
from parity.results.text.groups import (
    Group,
    finding_groups,
    reason_groups,
    suspect_groups,
    was_not_looked_at,
)
from parity.results.text.layout import LEAST, plural, same_at, shortened, wrapped
from parity.results.text.lead import Lead, lead
from parity.results.text.legend import legend_lines
from parity.results.text.tables import nearest_table, node_table, source_table
from parity.results.text.verdict import last_line, verdict_lines

_SHOWN = 5
"""Rows of a ranking, and entries of a list, without ``verbose``."""

_FAILURES_SHOWN = 6

_OWN = "own: the largest difference that the node itself makes on identical inputs, of its rms."

_CONTRIBUTED = (
    f"{_OWN[:-1]}; share: how much of the outputs' difference that makes when it is put alone "
    f"into an undisturbed run."
)

_NO_PATHS: Mapping[str, str] = MappingProxyType({})


def nodes_text(
    report: NodesResult,
    *,
    verbose: bool = False,
    width: int,
    paths: Mapping[str, str] = _NO_PATHS,
    further: str = "",
) -> str:
    """A comparison as text.

    First comes the verdict, with what it means, where to look first and what to do; the last line
    repeats it. What is the same at many nodes is told once.

    Args:
        report: The result.
        verbose: Whether every node, every reason and the whole legend are printed.
        width: Columns that a line may have; fewer than 60 are taken for 60.
        paths: The candidate's module by node, where its modules have other paths than the nodes
            say.
        further: A text on more that was compared, such as gradients; it stands before the last
            line.
    """
    return _Text(report, verbose, max(width, LEAST), paths).text(further)


class _Text:
    """The sections of one text."""

    def __init__(
        self, report: NodesResult, verbose: bool, width: int, paths: Mapping[str, str]
    ) -> None:
        self._report = report
        self._verbose = verbose
        self._width = width
        self._paths = paths
        self._lead: Lead | None = lead(report)

    def text(self, further: str) -> str:
        report, width, verbose = self._report, self._width, self._verbose
        top = verdict_lines(report, self._lead, self._paths, width, verbose=verbose)
        sections = [
            ("", top),
            ("What the candidate's structure has otherwise", self._structures()),
            ("Further suspects, the most harmful first", self._suspects()),
            ("The first suspect on its own (--reproduce)", self._reproduction()),
            ("Structure: what is wrong whatever the tensors are", self._findings()),
            (self._title_of_nodes(), self._nodes()),
            ("Could not be compared", self._gaps()),
            ("Outputs", self._outputs()),
            ("Nearest to their limit", self._nearest()),
            ("Where the outputs' difference comes from", self._sources()),
            ("Noise: how far each side is from itself", noise_lines(report.noise, width)),
            ("Compared", compared_lines(report, width, verbose=verbose)),
            ("This verdict covers", coverage_lines(report, width, verbose=verbose)),
            ("Reasons", self._reasons()),
            ("How to read it", legend_lines(report, width, verbose=verbose)),
        ]
        told = [
            "\n".join([*([shortened(title, width)] if title else []), *lines])
            for title, lines in sections
            if lines
        ]
        told += [further] if further else []
        return "\n\n".join([*told, last_line(report, self._lead, width)])

    def _suspects(self) -> list[str]:
        """Those that are not the culprit."""
        named = self._lead.suspect if self._lead else None
        groups = [
            group for group in suspect_groups(self._report.suspects) if group.first is not named
        ]
        waiting = [group for group in groups if was_not_looked_at(group.first)]
        # What could not be compared, and nothing is known of, is listed with its reasons.
        known = [
            group
            for group in groups
            if group not in waiting and (group.first.verdict.fails or group.first.evidence)
        ]
        lines = self._first([self._suspect(group) for group in known])
        if waiting and self._report.outcome is Outcome.DIFFERENCE:
            told = f"{plural(len(waiting), 'suspect')} not looked at, first "
            lines += self._item(f"{told}{waiting[0].places[0]}; --diagnose N looks at more")
        return lines

    def _suspect(self, group: Group[Suspect]) -> list[str]:
        suspect = group.first
        what = suspect.diagnosis
        details = [*suspect.patterns[:2], *suspect.evidence, *suspect.patterns[2:]]
        if what is None:
            what = details.pop(0) if details else "nothing more is known of it"
        lines = self._item(f"{suspect.nodes[0]}: {suspect.verdict.value}; {what}")
        lines += self._same(group.places[1:])
        if self._verbose:
            for detail in details:
                lines += self._under(f"- {detail}")
            reach = f"{plural(suspect.affected, 'node')} and {plural(suspect.outputs, 'output')}"
            lines += self._under(f"- {reach} depend on it")
        return lines

    def _findings(self) -> list[str]:
        named = self._lead.finding if self._lead else None
        return self._first(
            [
                [
                    *self._item(f"{group.first.place}: {group.first.text}"),
                    *self._same(group.places[1:]),
                ]
                for group in finding_groups(self._report.findings)
                if group.first is not named
            ]
        )

    def _reproduction(self) -> list[str]:
        """What was written to show the first suspect on its own, or why nothing was."""
        made = self._report.reproduction
        if made is None:
            return []
        lines: list[str] = []
        for told in made.passed_over:
            lines += self._item(f"not reproduced: {told}")
        if made.reason is not None:
            return [*lines, *self._item(f"nothing was written: {made.reason}")]
        assert made.node is not None and made.element is not None
        lines += self._item(
            f"wrote {' and '.join(made.files)}, {made.bytes:,} bytes: {made.node}, element "
            f"{list(made.element)} (NHWC)"
        )
        how = "computed by the script" if made.computed else "as recorded of the candidate"
        return lines + self._under(
            f"right {made.right:.9g}, wrong {made.wrong:.9g} ({how}): {made.roundings:.3g} "
            f"roundings apart, where {made.limit:.4g} are allowed; checked by running the script"
        )

    def _structures(self) -> list[str]:
        """Each of them: there are few, and each says something of many layers."""
        return [line for item in self._report.structures for line in self._item(item.text)]

    def _item(self, text: str) -> list[str]:
        return wrapped(text, self._width, indent="    ", first="  ")

    def _under(self, text: str) -> list[str]:
        return wrapped(text, self._width, indent="    ")

    def _same(self, places: Sequence[str]) -> list[str]:
        return self._under(same_at(places, verbose=self._verbose)) if places else []

    def _first(self, items: Sequence[Sequence[str]]) -> list[str]:
        """The lines of the first items, and how many more there are."""
        shown = items if self._verbose or len(items) <= _SHOWN + 1 else items[:_SHOWN]
        lines = [line for item in shown for line in item]
        if len(shown) < len(items):
            lines.append(f"  and {len(items) - len(shown):,} more; --verbose lists all")
        return lines

    def _failing(self) -> list[Node]:
        return [node for node in self._report.nodes if node.verdict.fails]

    def _title_of_nodes(self) -> str:
        count = len(self._failing())
        if self._verbose:
            return "Nodes, in the order of computation"
        if count > _FAILURES_SHOWN:
            return f"Nodes that differ, the first {_FAILURES_SHOWN} of {count} (--verbose: all)"
        return "Nodes that differ"

    def _nodes(self) -> list[str]:
        nodes: Sequence[Node] = self._report.nodes if self._verbose else self._failing()
        shown = nodes if self._verbose else nodes[:_FAILURES_SHOWN]
        return node_table(shown, self._width) if shown else []

    def _gaps(self) -> list[str]:
        """Nodes that are not covered, those with one reason together."""
        gaps = [node for node in self._report.nodes if node.verdict is Verdict.NOT_COVERED]
        return self._first(
            [
                [
                    *self._item(f"{group.first.name}: {group.first.reason}"),
                    *self._same(group.places[1:]),
                ]
                for group in reason_groups(gaps)
            ]
        )

    def _outputs(self) -> list[str]:
        nodes = self._report.output_nodes()
        return node_table(nodes, self._width) if nodes and not self._verbose else []

    def _nearest(self) -> list[str]:
        if self._report.failures() or not self._verbose:
            return []
        nodes = [node for node in ranking.nearest(self._report.nodes, _SHOWN) if node.limit]
        return nearest_table(nodes, self._width) if nodes else []

    def _sources(self) -> list[str]:
        """The nodes that make the differences: those measured in the outputs, or the largest."""
        by_name = {node.name: node for node in self._report.nodes}
        measured = [item.nodes[0] for item in self._report.contributions if len(item.nodes) == 1]
        nodes = [by_name[name] for name in measured if name in by_name]
        nodes = nodes or ranking.sources(self._report.nodes, _SHOWN)
        if not nodes:
            return []
        what = _CONTRIBUTED if self._report.contributions else _OWN
        return [
            *wrapped(what, self._width, indent="  "),
            *source_table(nodes, self._report.contributions, self._width),
        ]

    def _reasons(self) -> list[str]:
        if not self._verbose:
            return []
        lines: list[str] = []
        for node in self._report.nodes:
            lines += self._item(f"{node.name}: {node.reason}")
        return lines
