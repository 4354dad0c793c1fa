"""The first screen: is the port right; if not, where; and what is to be done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.process.outcome import Outcome
from parity.results.records.nodes import CONVERTED, Finding, NodesResult, ReferenceKind, Suspect
from parity.results.text.advice import step_for
from parity.sides.naming import CandidateName, base, split_candidate
from reports.pages.elements import Code, Link, node_link
from reports.reading.results import ModelResults
from reports.tables.summary import Row
from reports.words.faults import About, about_finding, is_about_values
from reports.words.texts import agreeing, plural

Part = str | Link | Code
"""A piece of a line: words, a link, or a name as code has it."""

Line = Sequence[Part]


@dataclass(frozen=True)
class Answer:
    """An answer to one question of the reader's.

    Attributes:
        question: The question.
        lines: The answer, each line a paragraph; of things to do, each a step.
    """

    question: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class _Candidate:
    """What was judged.

    Attributes:
        named: What was named; None where no step says so.
        own: Whether it is the model that the report itself has converted.
    """

    named: CandidateName | None
    own: bool

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return "the converted model" if self.own else "the port"

    @property
    def parts(self) -> Line:
        """The file and its function, or the package and its model."""
        if self.own or self.named is None:
            return [self.title]
        source = Code(self.named.package or str(self.named.file))
        if self.named.maker is None:
            return [source]
        kind = "the model " if self.named.package else "the function "
        return [kind, Code(self.named.maker), " of ", source]


def plain_verdict(results: ModelResults, outcome: Outcome) -> str:
    """The outcome in plain words, such as ``the port is not right``.

    Args:
        results: The model's.
        outcome: The verdict on it.
    """
    title = _candidate(results).title
    return {
        Outcome.PARITY: f"{title} is right",
        Outcome.DIFFERENCE: f"{title} is not right",
        Outcome.NOT_SHOWN: f"whether {title} is right is not known",
    }[outcome]


def answers(results: ModelResults, row: Row) -> list[Answer]:
    """What a reader asks first, in the order of asking.

    Args:
        results: The model's.
        row: Its figures in the table of all models.
    """
    candidate, outcome = _candidate(results), row.judgement.outcome
    found = [Answer(f"Is {candidate.title} right?", [[_is_it_right(results, row)]])]
    if outcome is Outcome.DIFFERENCE:
        where, steps = _difference(results, row, candidate)
        found.append(Answer("Where is it wrong?", where))
    elif outcome is Outcome.NOT_SHOWN:
        where, steps = _gap(results, row)
        if where:
            found.append(Answer("What is missing?", where))
    else:
        steps = _nothing_to_do(results, candidate)
    return [*found, Answer("What do I do?", steps), Answer("What was compared?", _sides(results))]


def _is_it_right(results: ModelResults, row: Row) -> str:
    outcome, sentence = row.judgement.outcome, row.judgement.sentence
    if outcome is not Outcome.NOT_SHOWN:
        return f"{'Yes' if outcome is Outcome.PARITY else 'No'}: {sentence}."
    if not results.account.lacks:
        return f"Not known: {sentence}."
    # What is missing is told below.
    so_far = f"So far {agreeing(results.nodes)}" if results.nodes else "No node was compared"
    return f"Not known: not everything that was asked for was done. {so_far}."


def _candidate(results: ModelResults) -> _Candidate:
    told = _told(results)
    # The report's own conversion lies in the model's folder, wherever that was when it ran.
    if told in ("", CONVERTED) or Path(told).parts[-2:] == (results.slug, "model.pth"):
        return _Candidate(None, own=True)
    return _Candidate(split_candidate(told), own=False)


def _told(results: ModelResults) -> str:
    """The candidate as the comparison says, or else the command; empty where it names none."""
    if results.nodes:
        return results.nodes.candidate
    try:
        words = shlex.split(results.run.command)
    except ValueError:
        return ""
    return words[words.index("--candidate") + 1] if "--candidate" in words[:-1] else ""


def _sides(results: ModelResults) -> list[Line]:
    candidate = _candidate(results)
    names: list[Part] = [*candidate.parts]
    if isinstance(names[0], str):
        names[0] = f"{names[0][0].upper()}{names[0][1:]}"
    if candidate.own:
        names = ["The PyTorch model that was converted from ", Code(str(results.run.source))]
    return [[*names, ", with ", *_reference(results.nodes)]]


def _reference(nodes: NodesResult | None) -> Line:
    if nodes is None or nodes.reference.kind is ReferenceKind.GRAPH:
        return ["TensorFlow's graph, both with the same weights and on the same images."]
    source = Code(nodes.reference.source)
    titles = {
        ReferenceKind.METAGRAPH: "the checkpoint's own graph, ",
        ReferenceKind.MODULE: "the PyTorch model ",
        ReferenceKind.TRACE: "the recorded tensors in ",
        ReferenceKind.EXACT: "the faithful model's exact values, ",
    }
    return [titles[nodes.reference.kind], source, "."]


def _nothing_to_do(results: ModelResults, candidate: _Candidate) -> list[Line]:
    steps: list[Line] = [["Nothing has to be mended."]]
    if candidate.own and (results.folder / "model.pth").is_file():
        path = Code(str(results.folder / "model.pth"))
        steps = [["Nothing has to be mended. The model to use is ", path, "."]]
    if candidate.own and results.coco is None and results.run.trained:
        steps.append(
            [
                "Its detections were not compared: ",
                Code("--images"),
                " and ",
                Code("--annotations"),
                " compare them, and the AP, on COCO images.",
            ]
        )
    return steps


def _difference(
    results: ModelResults, row: Row, candidate: _Candidate
) -> tuple[list[Line], list[Line]]:
    """Where it is wrong, and what to do about it."""
    nodes = _wrong_nodes(results)
    if nodes is not None:
        return _where(nodes, row, candidate), [*_mend(nodes, row, candidate), _again()]
    if results.coco and results.coco.candidate:
        return _only_detected(), [_on_photographs(), _again()]
    where = "Not in the network, whose nodes agree, but in the stages around it: see "
    stage = Link("what each stage changes", "#coco") if results.coco else None
    lines: list[Line] = [[where, stage or Link("how the verdict comes about", "#checks"), "."]]
    mend: Line = [
        "Decoding, resizing, box decoding and non-maximum suppression each have a variant of their "
        "own; make the one that changes the figures like TensorFlow's."
    ]
    return lines, [mend, _again()]


def _only_detected() -> list[Line]:
    """What it means that a candidate's detections differ where its nodes do not."""
    return [
        [
            "In the candidate's network, but not at a node on the inputs that nodes were compared "
            "on: the stages around it are the official ones. See ",
            Link("what differs", "#coco"),
            ".",
        ]
    ]


def _on_photographs() -> Line:
    return [
        "Compare its nodes on images whose detections differ, which the worst images in ",
        Link("COCO", "#coco"),
        " name: ",
        Code("--image"),
        ".",
    ]


def _wrong_nodes(results: ModelResults) -> NodesResult | None:
    found = [results.nodes, results.structure]
    return next((item for item in found if item and item.outcome is Outcome.DIFFERENCE), None)


def _guilty(nodes: NodesResult, row: Row) -> Suspect | None:
    return next((item for item in nodes.suspects if row.judgement.node in item.nodes), None)


def _where(nodes: NodesResult, row: Row, candidate: _Candidate) -> list[Line]:
    name, suspect = row.judgement.node, _guilty(nodes, row)
    if name is None:
        # Its settings, its gradients, or its runs: no node is to blame.
        places: list[Line] = [[f"{item.place}: {item.text}."] for item in nodes.findings[:3]]
        return places or [["See ", Link("how the verdict comes about", "#checks"), "."]]
    kind = next((node.kind for node in nodes.nodes if node.name == name), None)
    at: list[Part] = [node_link(name), f", a {kind.value} layer" if kind else ""]
    lines: list[Line] = [[*at, ", as made by ", *candidate.parts, "."]]
    lines.append([_what(suspect, row.judgement.diagnosis)])
    if suspect is not None:
        lines.append(
            [
                f"{plural(suspect.affected, 'node')} and {plural(suspect.outputs, 'output')} of "
                f"the network depend on it."
            ]
        )
        lines += _others(nodes, suspect)
    return lines


def _others(nodes: NodesResult, suspect: Suspect) -> list[Line]:
    """How many more places are wrong; nothing where none are."""
    others = [item for item in nodes.suspects if item.verdict.fails and item is not suspect]
    if not others:
        return []
    alike = sum(item.slug == suspect.slug for item in others) if suspect.slug else 0
    unknown = sum(not item.tried for item in others)
    same = f", {alike} of them with the same fault" if alike else ""
    same += f", {unknown} not looked into" if unknown else ""
    return [
        [Link(plural(len(others), "more place"), "#suspects"), f" where something is wrong{same}."]
    ]


def _what(suspect: Suspect | None, diagnosis: str | None) -> str:
    if diagnosis is None:
        return "No fault that is known by name reproduces it; see what the difference looks like."
    values = suspect is not None and is_about_values(suspect.slug)
    about = "The layer is the right one, its values are not" if values else "What is wrong there"
    return f"{about}: {diagnosis}."


def _mend(nodes: NodesResult, row: Row, candidate: _Candidate) -> list[Line]:
    if candidate.own:
        return [
            [
                "This model was converted by this very program, so that the fault is not yours: "
                "report it, with the files under ",
                Link("Reproduce", "#reproduce"),
                ".",
            ]
        ]
    name, suspect = row.judgement.node, _guilty(nodes, row)
    if name is None:
        return [_mend_findings(nodes.findings, candidate)]
    if suspect is not None and is_about_values(suspect.slug):
        places = [item.place for item in nodes.findings if item.place.startswith(base(name))]
        target = Code(places[0]) if places else Code(base(name))
        return [["Give ", target, " the checkpoint's values in ", *candidate.parts, "."]]
    if row.judgement.diagnosis is None:
        look = ["Compare the code of ", Code(base(name)), " in ", *candidate.parts]
        return [[*look, " with the official one."]]
    step = step_for(suspect.slug) if suspect is not None and suspect.slug else None
    return [["Mend ", Code(base(name)), " in ", *candidate.parts, f": {step}." if step else "."]]


def _mend_findings(findings: Sequence[Finding], candidate: _Candidate) -> Line:
    if not findings:
        return ["Look at ", Link("how the verdict comes about", "#checks"), "."]
    about = about_finding(findings[0].slug)
    if about is About.REPEATABILITY:
        return ["Remove whatever differs between two runs of ", *candidate.parts, "."]
    return ["Set it as the checkpoint has it in ", *candidate.parts, "."]


def _again() -> Line:
    return [
        "Run the ",
        Link("same command", "#reproduce"),
        " again: it ends with exit code 0 once all agrees.",
    ]


def _gap(results: ModelResults, row: Row) -> tuple[list[Line], list[Line]]:
    """What is missing for a verdict, and what to do about it."""
    account, judgement = results.account, row.judgement
    again: Line = [
        "Run the ",
        Link("same command", "#reproduce"),
        " again: it goes on where it stopped, and what is done is not made again.",
    ]
    if account.lacks:
        lines: list[Line] = [[f"{lack.title}: {lack.reason}."] for lack in account.lacks]
        lines.append([f"{plural(len(account.done), 'step')} came to a result."])
        if any(lack.failed for lack in account.lacks):
            return lines, [["Mend the cause of the step that failed, as its reason says."], again]
        if account.complete:
            return lines, [["Ask for it in a way that can be made, or leave it out."], again]
        return lines, [again]
    if judgement.node is not None:
        return [[node_link(judgement.node), f": {judgement.diagnosis or 'not covered'}."]], [
            [
                "A layer that was not found needs its name: ",
                Code("compare.py nodes --names"),
                ". Values on which an error could hide need other images: ",
                Code("--image"),
                ".",
            ],
            again,
        ]
    return [], [again]
