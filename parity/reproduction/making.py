"""Makes a reproduction of what a comparison accuses first, and checks it before it is written."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parity.judge.verdict import NodeResult
from parity.lockstep.pairing import Pairing, Progress
from parity.process.outcome import Outcome
from parity.reproduction.computation import Computation, Function
from parity.reproduction.files import digest_of, files_in, packed, write_files
from parity.reproduction.kinds import Plan, plan_of
from parity.reproduction.reduction import counted, reduced, with_fewer_inputs
from parity.reproduction.sample import Sample, take
from parity.reproduction.script import RECORDED, Facts, script_of
from parity.reproduction.wrong import Wrong, proposals
from parity.results.conclusion import Evidence, tell
from parity.results.records.nodes import NOT_REPEATABLE, ReproductionResult, Suspect

_TRIED = 3
"""Nodes to try at most, each in a run of its own."""

_MAGNITUDES = 1e-3
"""Relative difference of two magnitudes up to which a limit in roundings means the same."""


@dataclass(frozen=True)
class Written:
    """A reproduction as its files hold it.

    Attributes:
        script: The script.
        tensors: The file of tensors.
        found: What the script computes.
        computed: Whether it computes what is wrong.
        notes: What it says about itself.
    """

    script: str
    tensors: bytes
    found: Mapping[str, float]
    computed: bool
    notes: Sequence[str]


class RefusedError(Exception):
    """Why a reproduction would not show what it is to show."""


def reproduced(
    pairing: Pairing,
    evidence: Evidence,
    nodes: Sequence[NodeResult],
    folder: Path,
    *,
    model: str,
    candidate: str,
    progress: Progress | None = None,
) -> ReproductionResult:
    """Write a reproduction of what is accused first.

    Args:
        pairing: What was compared, on the input that shows most.
        evidence: What was found.
        nodes: The results on that input.
        folder: Where it goes.
        model: The model's name.
        candidate: What the candidate is called.
        progress: Told how far the runs are.

    Raises:
        InputError: The files cannot be written.
    """
    accused, reason = accusations(evidence)
    if not accused:
        return ReproductionResult(reason=reason)
    results = {node.name: node for node in nodes}
    passed_over: list[str] = []
    for name in accused[:_TRIED]:
        try:
            if name not in results or results[name].verdict.passes:
                raise RefusedError("it is right on the input that shows most")
            node = results[name]
            suspect = next((item for item in evidence.suspects if name in item.nodes), None)
            sample = take(pairing, node, progress)
            if isinstance(sample, str):
                raise RefusedError(sample)
            written = written_of(sample, suspect, model, candidate)
        except RefusedError as refused:
            passed_over.append(f"{name}: {refused}")
            continue
        size = write_files(folder, written.script, written.tensors)
        return _result(sample, written, folder, size, passed_over)
    more = len(accused) - _TRIED
    text = "no script shows any of these nodes" + (
        f", and {more} more nodes were not tried" if more > 0 else ""
    )
    return ReproductionResult(reason=text, passed_over=passed_over)


def accusations(evidence: Evidence) -> tuple[list[str], str]:
    """The nodes that a comparison accuses, first the one that its text does, or why there is none.

    Args:
        evidence: What was found.
    """
    if evidence.outcome is Outcome.PARITY:
        return [], "nothing differs, so that there is nothing to reproduce"
    if evidence.outcome is Outcome.NOT_SHOWN:
        return [], "nothing was found to differ, so that there is nothing to reproduce"
    if any(item.slug == NOT_REPEATABLE for item in evidence.findings):
        return [], "what is accused is that runs do not agree, which no node on its own shows"
    failing = [node for node in evidence.nodes if node.verdict.fails]
    if not failing:
        return [], "no node differs on these inputs; what is accused is not what a node computes"
    first = tell(evidence).summary.node
    if first is None:
        # Values that are no numbers are accused where they are made.
        first = next(
            (n.name for n in failing if n.from_exact is not None and not n.from_exact.finite),
            failing[0].name,
        )
    suspects = [item.nodes[0] for item in evidence.suspects if item.verdict.fails]
    return list(dict.fromkeys([first, *suspects])), ""


def written_of(sample: Sample, suspect: Suspect | None, model: str, candidate: str) -> Written:
    """A reproduction of a node, checked.

    Args:
        sample: The node.
        suspect: What is known of it.
        model: The model's name.
        candidate: What the candidate is called.

    Raises:
        RefusedError: It would not show the difference.
    """
    plan, at = plan_of(sample), sample.most_telling()
    functions = {"right": plan.right, "magnitude": plan.magnitude}
    whole = Computation(plan.tensors, functions, at, plan.along)
    if whole.output("right").shape != sample.truth.shape:
        raise RefusedError("its right value could not be computed once more")
    what = _sentence(sample, suspect)
    where = _where(sample, model, candidate)
    wrong = _reproducing(sample, plan, suspect, whole, what)
    ways = [whole] if wrong is None else [_with(whole, wrong), whole]
    refused = RefusedError("nothing was tried")
    for way in ways:
        try:
            return _smallest(sample, way, what, where)
        except RefusedError as error:
            refused = error
    raise refused


def _with(whole: Computation, wrong: Wrong) -> Computation:
    tensors = {**whole.tensors, **wrong.tensors}
    functions = {**whole.functions, "wrong": wrong.function}
    return replace(whole, tensors=tensors, functions=functions, _defined={})


def _reproducing(
    sample: Sample, plan: Plan, suspect: Suspect | None, whole: Computation, what: str
) -> Wrong | None:
    """The first function that makes the candidate's whole output; None where none is known."""
    for wrong in proposals(sample, plan, suspect):
        # A proposal may ask for what these tensors do not allow; then it is none.
        try:
            made = _with(whole, wrong).output("wrong")
        except Exception:
            continue
        if made.shape == sample.output.shape and _fits(sample, made):
            spoken = Function(wrong.function.takes, wrong.function.lines, _spoken(what))
            return replace(wrong, function=spoken)
    return None


def _spoken(what: str) -> str:
    """What stands in the function that is wrong."""
    clean = "".join(c if c.isascii() and c.isprintable() else "?" for c in what)
    clean = clean.replace("\\", "/").replace('"', "'")
    return clean if len(clean) < 80 else "As the candidate computes it."


def _fits(sample: Sample, made: np.ndarray) -> bool:
    theirs = sample.output.astype(np.float64)
    with np.errstate(all="ignore"):
        scale = np.maximum(sample.gauge.astype(np.float64), np.abs(made))
        near = np.abs(theirs - made) <= sample.bound * sample.unit * scale
    same = (theirs == made) | (np.isnan(theirs) & np.isnan(made))
    return bool((near | same).all())


def _smallest(sample: Sample, whole: Computation, what: str, where: str) -> Written:
    """The files of the smallest part, once the script has shown what it claims."""
    small = reduced(whole)
    image, channel, row, column = sample.most_telling()
    gauge = float(sample.gauge[image, channel, row, column])
    own = small.value("magnitude")
    constant = None if abs(own - gauge) <= _MAGNITUDES * gauge else gauge
    written = _packed(sample, small, what, where, constant, [])
    _check(sample, written)
    fewer = small
    if constant is None:
        fewer = with_fewer_inputs(small, sample.unit, sample.limit)
    if fewer is small:
        return written
    note = (
        f"Of the input channels only those are kept that are needed to show the difference, which "
        f"changes both values: with all of them the right one is {written.found['right']:.9g}, the "
        f"wrong one {written.found['wrong']:.9g}, as recorded of the candidate."
    )
    less = _packed(sample, fewer, what, where, constant, [note], written.found["right"])
    try:
        _check_difference(sample, less)
    except RefusedError:
        return written
    return less


def _packed(
    sample: Sample,
    small: Computation,
    what: str,
    where: str,
    magnitude: float | None,
    notes: Sequence[str],
    all_inputs: float | None = None,
) -> Written:
    """The files, with what the script computes of them."""
    tensors = {name: tensor.values for name, tensor in small.used().items()}
    content = packed({**tensors, RECORDED: sample.output[sample.most_telling()]})
    computed = "wrong" in small.functions
    notes = [_kept(tensors), *notes]
    if not computed:
        notes.append(
            "What is wrong is not computed here: this script has no text for it. The value is the "
            "one that the candidate has made."
        )
    if not sample.certain:
        notes.append(
            "The candidate makes this node together with the one before it and was not given these "
            "very tensors; what that may change is part of the magnitude."
        )
    facts = Facts(
        what=what,
        where=where,
        notes=notes,
        limit=sample.limit,
        dtype=sample.dtype,
        magnitude=magnitude,
        digest=digest_of(content),
        whole=all_inputs,
    )
    script = script_of(small, facts)
    return Written(script, content, carried_out(script, content), computed, notes)


def _kept(tensors: Mapping[str, np.ndarray]) -> str:
    listed = ", ".join(f"{name} {list(array.shape)}" for name, array in tensors.items())
    return f"Kept of the node's tensors: {listed}."


def carried_out(script: str, tensors: bytes) -> dict[str, float]:
    """What the very script computes of the very tensors.

    Args:
        script: Its text.
        tensors: The file beside it.

    Raises:
        RefusedError: It fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), script, tensors)
        path = files_in(Path(folder))[0]
        names: dict[str, Any] = {"__name__": "reproduction", "__file__": str(path)}
        try:
            exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
            found: dict[str, float] = names["values"]()
        except (Exception, SystemExit) as error:
            raise RefusedError(f"its script failed ({type(error).__name__}: {error})") from error
    return found


def _check(sample: Sample, written: Written) -> None:
    """Whether the script gives what the comparison has found, and shows the difference.

    Raises:
        RefusedError: It does not; says why.
    """
    at = sample.most_telling()
    truth, recorded, gauge = (
        float(array[at]) for array in (sample.truth, sample.output, sample.gauge)
    )
    found = written.found
    if counted(found["right"], truth, gauge, sample.unit) > 1:
        raise RefusedError(
            f"its script gives {found['right']:.9g} as the right value, the comparison {truth:.9g}"
        )
    scale = max(gauge, abs(recorded))
    alike = found["wrong"] == recorded or (math.isnan(recorded) and math.isnan(found["wrong"]))
    if not alike and counted(found["wrong"], recorded, scale, sample.unit) > sample.bound:
        raise RefusedError(
            f"its script gives {found['wrong']:.9g} as the wrong value, and {recorded:.9g} is what "
            f"the candidate makes"
        )
    _check_difference(sample, written)


def _check_difference(sample: Sample, written: Written) -> None:
    found = written.found
    if not found["roundings"] > sample.limit:
        raise RefusedError(
            f"its script shows a difference of {found['roundings']:.3g} roundings, within the "
            f"{sample.limit:.4g} that are allowed"
        )
    off = abs(found["rounded"] - found["right"])
    if off > max(sample.limit, 1.0) * found["rounding"]:
        raise RefusedError(
            "its right value in the candidate's own type is further off than rounding goes"
        )


def _sentence(sample: Sample, suspect: Suspect | None) -> str:
    node = sample.node
    if suspect is not None and suspect.diagnosis:
        return suspect.diagnosis
    return f"no known fault reproduces it; {node.reason}"


def _where(sample: Sample, model: str, candidate: str) -> str:
    image, channel, row, column = sample.most_telling()
    count, channels, rows, columns = sample.output.shape
    # Folders of whoever compares are nobody else's business.
    short = candidate.replace("\\", "/").rpartition("/")[2]
    return (
        f"{sample.kind.value} {sample.node.name} of {model}, candidate {short}: image {image}, "
        f"row {row}, column {column}, channel {channel} of its output [{count}, {rows}, {columns}, "
        f"{channels}] (NHWC)"
    )


def _result(
    sample: Sample, written: Written, folder: Path, size: int, passed_over: Sequence[str]
) -> ReproductionResult:
    image, channel, row, column = sample.most_telling()
    found = written.found
    return ReproductionResult(
        files=[str(path) for path in files_in(folder)],
        bytes=size,
        node=sample.node.name,
        element=[image, row, column, channel],
        right=found["right"],
        wrong=found["wrong"],
        recorded=found["recorded"],
        roundings=float(found["roundings"]),
        limit=sample.limit,
        computed=written.computed,
        notes=list(written.notes),
        passed_over=list(passed_over),
    )
