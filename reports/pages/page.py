"""The page of one model: everything it shows as ready texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msgspec import UNSET

from efficientdet_spec import printable
from parity.coco.titles import titles
from parity.process.outcome import Outcome
from parity.results.records.detect import DetectImage
from parity.results.records.nodes import Node, NodesResult
from parity.results.signs import OUTCOMES, VERDICTS, Sign
from reports.charts import closeup_charts, node_charts, timing_charts
from reports.charts.chart import Chart
from reports.pages.answers import Answer, answers, plain_verdict
from reports.pages.checks import checks, not_asked_for, self_check_table
from reports.pages.coverage import inputs_table
from reports.pages.detections import CocoSection, coco_section
from reports.pages.elements import Check, Fact, Link, Table, node_link
from reports.pages.key_figures import facts
from reports.pages.provenance import (
    ConversionSection,
    conversion_section,
    environment_table,
    phases_table,
    steps_table,
)
from reports.pages.structure import drawing
from reports.pages.suspects import (
    Suspicion,
    findings_table,
    nearest_table,
    origins_table,
    structures_table,
    suspicions,
)
from reports.reading.results import ModelResults
from reports.tables.node_table import node_table
from reports.tables.summary import Row, further_remarks
from reports.words.glossary import TERMS
from reports.words.texts import count, plural, scientific, short


@dataclass(frozen=True)
class Headline:
    """The verdict, and what a reader asks about it first.

    Attributes:
        css: Name of the outcome's class.
        symbol: The same as a sign.
        word: The same as a word.
        plain: The same in plain words.
        answers: Is it right; if not, where; and what is to be done.
        remarks: What was reused, not made, or failed.
    """

    css: str
    symbol: str
    word: str
    plain: str
    answers: Sequence[Answer]
    remarks: Sequence[str]


@dataclass(frozen=True)
class VerdictCount:
    """How many nodes have a verdict.

    Attributes:
        verdict: The verdict.
        sign: How it is shown.
        count: Number of nodes.
    """

    verdict: str
    sign: Sign
    count: str


@dataclass(frozen=True)
class Closeup:
    """A closer look at one node.

    Attributes:
        id: Of its place on the page.
        node: A link to its panel.
        sign: Of its verdict.
        verdict: Its verdict.
        text: Its figures in a line.
        charts: Maps, channels, values.
        open: Whether it is unfolded at first.
    """

    id: str
    node: Link
    sign: Sign
    verdict: str
    text: str
    charts: Sequence[Chart]
    open: bool


@dataclass(frozen=True)
class NodesSection:
    """Everything on the comparison of nodes.

    Attributes:
        counts: Nodes by verdict.
        suspects: What is wrong.
        findings: What is wrong whatever the tensors are; None where nothing is.
        structures: What the candidate's structure has otherwise; None where nothing is known to be.
        nearest: Nodes nearest to their limit.
        origins: Nodes that make the largest differences.
        drawing: The model as SVG, coloured by verdict.
        charts: Along depth, histogram, contributions.
        closeups: A closer look at some nodes.
        kinds: What nodes compute, for the filter.
        stages: Where nodes are, for the filter.
        table: All nodes, for the script.
    """

    counts: Sequence[VerdictCount]
    suspects: Sequence[Suspicion]
    findings: Table | None
    structures: Table | None
    nearest: Table
    origins: Table
    drawing: str
    charts: Sequence[Chart]
    closeups: Sequence[Closeup]
    kinds: Sequence[str]
    stages: Sequence[str]
    table: Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """Both sides' detections in one image.

    Attributes:
        file: The picture, relative to the page.
        source: The image.
        text: What differs.
    """

    file: str
    source: str
    text: str


@dataclass(frozen=True)
class Page:
    """The page of one model.

    Attributes:
        slug: Name of the page.
        title: What the model is called.
        subtitle: Checkpoint and date.
        headline: The verdict.
        seeded: Whether the weights are not trained ones.
        hyperparameters: What was given besides the tensors and what is assumed; may be empty.
        note: Something about the run that a reader should know; may be empty.
        coverage: What the verdict on the nodes covers, in sentences.
        inputs: What the nodes were compared on; None where they were not.
        facts: Key figures.
        checks: How the verdict comes about.
        not_asked_for: What it says nothing of, in a sentence; may be empty.
        self_check: What became of faults put in; None where none were.
        nodes: The comparison of nodes; None where there is none.
        coco: The evaluation; None where there is none.
        pictures: Detections side by side.
        pictures_told: What they show, and from which score on.
        conversion: What became of the variables; None where that is not known.
        steps: Time and memory of each step.
        phases: Time of the phases of the comparison; None where there was none.
        timing: Charts of time and memory.
        environment: Versions and settings.
        command: Makes it all again.
        signs: Verdicts and their meaning.
        terms: Words and their meaning.
        downloads: Files with all figures.
        sections: Links to the parts of the page.
        options: Of all charts, by their id; ``nodes`` holds the names on the axes of those that
            have nodes there.
        sign_values: The verdicts' signs for the script.
    """

    slug: str
    title: str
    subtitle: str
    headline: Headline
    seeded: bool
    hyperparameters: str
    note: str
    coverage: Sequence[str]
    inputs: Table | None
    facts: Sequence[Fact]
    checks: Sequence[Check]
    not_asked_for: str
    self_check: Table | None
    nodes: NodesSection | None
    coco: CocoSection | None
    pictures: Sequence[Picture]
    pictures_told: str
    conversion: ConversionSection | None
    steps: Table
    phases: Table | None
    timing: Sequence[Chart]
    environment: Table
    command: str
    signs: Mapping[str, Sign]
    terms: Sequence[tuple[str, str]]
    downloads: Sequence[Link]
    sections: Sequence[Link]
    options: Mapping[str, Any]
    sign_values: Mapping[str, Mapping[str, str]]


def model_page(results: ModelResults, row: Row, *, data: bool) -> Page:
    """Everything that the page of a model shows.

    Args:
        results: The model's.
        row: Its figures in the table of all models.
        data: Whether result files and pictures are beside the page.
    """
    nodes = _nodes_section(results) if results.nodes else None
    coco = coco_section(results.coco) if results.coco else None
    timing = timing_charts(results.run, results.coco)
    pictures = _pictures(results) if data else []
    charts = [
        *(nodes.charts if nodes else ()),
        *(chart for item in (nodes.closeups if nodes else ()) for chart in item.charts),
        *(coco.charts if coco else ()),
        *timing,
    ]
    conversion = conversion_section(results.conversion) if results.conversion else None
    return Page(
        slug=results.slug,
        title=results.slug,
        subtitle=_subtitle(results),
        headline=_headline(results, row),
        seeded=not row.figures.trained,
        hyperparameters=_hyperparameters(results),
        note=results.run.note or "",
        coverage=results.nodes.coverage.text if results.nodes else [],
        inputs=inputs_table(results.nodes) if results.nodes else None,
        facts=facts(results, row),
        checks=checks(results),
        not_asked_for=_not_asked_for(results),
        self_check=self_check_table(results.self_check) if results.self_check else None,
        nodes=nodes,
        coco=coco,
        pictures=pictures,
        pictures_told=_pictures_told(results),
        conversion=conversion,
        steps=steps_table(results),
        phases=phases_table(results.nodes) if results.nodes else None,
        timing=timing,
        environment=environment_table(results),
        command=results.run.command,
        signs={verdict.value: sign for verdict, sign in VERDICTS.items()},
        terms=TERMS,
        downloads=_downloads(results) if data else [],
        sections=_sections(results, pictures),
        options=_options(charts),
        sign_values={verdict.value: asdict(sign) for verdict, sign in VERDICTS.items()},
    )


def _options(charts: Sequence[Chart]) -> dict[str, Any]:
    """The options by id; the names of thousands of nodes are there once."""
    names: Sequence[str] = []
    result: dict[str, Any] = {}
    for chart in charts:
        option = chart.option
        if option.get("nodes_on_axis"):
            names = option["xAxis"]["data"]
            axis = {key: value for key, value in option["xAxis"].items() if key != "data"}
            option = {**option, "xAxis": axis}
        result[chart.id] = option
    return {**result, "nodes": names}


def _headline(results: ModelResults, row: Row) -> Headline:
    outcome = row.judgement.outcome
    # What is missing is answered above; that something was reused is not.
    remarks = [] if outcome is Outcome.NOT_SHOWN else further_remarks(row)
    return Headline(
        css=OUTCOMES[outcome].css,
        symbol=OUTCOMES[outcome].symbol,
        word=outcome.value.capitalize(),
        plain=plain_verdict(results, outcome),
        answers=answers(results, row),
        remarks=remarks,
    )


def _hyperparameters(results: ModelResults) -> str:
    """What was given besides the tensors and what is assumed; empty in older results."""
    found = results.conversion.ledger.hyperparameters if results.conversion else UNSET
    if found is UNSET:
        return results.nodes.checkpoint.told if results.nodes else ""
    return printable(found.sentence)


def _not_asked_for(results: ModelResults) -> str:
    left = not_asked_for(results)
    return f"Not asked for, and so not part of the verdict: {', '.join(left)}." if left else ""


def _subtitle(results: ModelResults) -> str:
    source = str(results.run.source)
    named = f"{results.model}, " if results.model != results.slug else ""
    origin = f"from {source}, " if source not in (results.model, results.slug) else ""
    started = str(results.run.started).replace("T", " ").replace("+00:00", " UTC")
    return f"{named}{origin}{started}"


def _nodes_section(results: ModelResults) -> NodesSection:
    nodes = results.nodes
    assert nodes is not None
    closeups = _closeups(nodes)
    table = node_table(
        nodes, results.conversion, {item.node.text: item.id for item in reversed(closeups)}
    )
    return NodesSection(
        counts=[
            VerdictCount(verdict.value, VERDICTS[verdict], count(number))
            for verdict, number in nodes.counts.items()
        ],
        suspects=suspicions(nodes),
        findings=findings_table(nodes),
        structures=structures_table(nodes),
        nearest=nearest_table(nodes),
        origins=origins_table(nodes),
        drawing=drawing(nodes),
        charts=node_charts(nodes),
        closeups=closeups,
        kinds=sorted(table["kind"]["texts"]),
        stages=table["stage"]["texts"],
        table=table,
    )


def _closeups(nodes: NodesResult) -> list[Closeup]:
    by_name = {node.name: node for node in nodes.nodes}
    result = []
    for number, closeup in enumerate(nodes.closeups):
        node = by_name.get(closeup.node)
        if node is None:
            continue
        result.append(
            Closeup(
                id=f"closeup-{number}",
                node=node_link(node.name),
                sign=VERDICTS[node.verdict],
                verdict=node.verdict.value,
                text=_figures(node),
                charts=closeup_charts(closeup, nodes),
                open=number == 0,
            )
        )
    return result


def _figures(node: Node) -> str:
    parts = [node.kind.value if node.kind else ""]
    if node.own:
        parts.append(f"own difference {scientific(node.own.relative_max)} of rms")
    if node.from_exact:
        parts.append(f"PyTorch {short(node.from_exact.roundings)} roundings")
    if node.reference_from_exact:
        parts.append(f"TensorFlow {short(node.reference_from_exact.roundings)} roundings")
    return ", ".join(part for part in parts if part)


def _pictures(results: ModelResults) -> list[Picture]:
    there = set(results.pictures())
    entries = results.detect.images if results.detect else []
    return [
        Picture(
            file=f"{results.slug}/{entry.picture}",
            source=entry.file,
            text=_differences(entry),
        )
        for entry in entries
        if entry.picture in there
    ]


def _pictures_told(results: ModelResults) -> str:
    if results.detect is None:
        return ""
    reference, judged = titles(results.detect.candidate).values()
    return (
        f"From left to right: {reference}'s detections, {judged}'s, and those that differ visibly. "
        f"Detections with a score below {results.detect.min_score:g} are not drawn."
    )


def _differences(entry: DetectImage) -> str:
    match = entry.matching
    visible = plural(entry.visibly_different or 0, "visible difference")
    if not match:
        return visible
    return (
        f"{visible}; {plural(match.matched, 'detection')} matched, largest differences: score "
        f"{scientific(match.largest_score_difference)}, box "
        f"{scientific(match.largest_box_difference_pixels)} pixels"
    )


def _downloads(results: ModelResults) -> list[Link]:
    files = [name.rpartition("/")[2] for name in results.files()]
    found = [Link(name, f"{results.slug}/{name}") for name in files]
    return [Link("nodes.csv", f"{results.slug}/nodes.csv"), *found] if results.nodes else found


def _sections(results: ModelResults, pictures: Sequence[Picture]) -> list[Link]:
    """Links to those parts that the page has."""
    nodes = results.nodes
    there = [
        ("Verdict", "verdict", True),
        (
            "Suspects",
            "suspects",
            bool(nodes and (nodes.suspects or nodes.findings or nodes.structures)),
        ),
        ("The model", "model", bool(nodes)),
        ("Depth", "depth", bool(nodes)),
        ("Closer look", "closeups", bool(nodes and nodes.closeups)),
        ("COCO", "coco", bool(results.coco)),
        ("Pictures", "pictures", bool(pictures)),
        ("All nodes", "nodes", bool(nodes)),
        ("Conversion", "conversion", bool(results.conversion)),
        ("Self-check", "self-check", bool(results.self_check)),
        ("Time and memory", "timing", True),
        ("Reproduce", "reproduce", True),
        ("Glossary", "glossary", True),
    ]
    return [Link(text, f"#{name}") for text, name, present in there if present]
