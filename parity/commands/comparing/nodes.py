"""A comparison of every node: what is run, in which order, and the result that comes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.progress import Progress
from efficientdet_spec import NodeKind, iterate_nodes
from efficientdet_spec.forms import EAGER
from parity.commands.asking.inputs import PlannedInput, plan_inputs
from parity.commands.comparing.candidates import Candidate, name_of, open_candidate, placed
from parity.commands.comparing.gradients import compared_gradients
from parity.commands.comparing.noise import measured_noise
from parity.commands.comparing.opened import Opened, computing
from parity.commands.comparing.trials import Trial, Trials
from parity.gradients.comparison import GradientsReport
from parity.judge.verdict import NodeResult, Verdict
from parity.process import environment
from parity.reproduction.files import check_folder
from parity.results.conclusion import Evidence, nodes_result
from parity.results.ranking import sources
from parity.results.records.names import NamedNode, NamesResult
from parity.results.records.nodes import (
    CONVERTED,
    Contribution,
    Finding,
    NodesResult,
    Noise,
    ReferenceDescription,
    ReproductionResult,
)
from parity.results.records.record import made
from parity.settings.nodes import NodesSettings
from parity.sides.naming import read_names

if TYPE_CHECKING:
    from parity.lockstep.closeups import Closeup


@dataclass(frozen=True)
class Compared:
    """What came of a comparison.

    Attributes:
        result: As it is written.
        paths: The candidate's module by node.
        names: What of the candidate makes which node.
        gradients: With gradients, what is printed of them.
    """

    result: NodesResult
    paths: Mapping[str, str]
    names: NamesResult
    gradients: GradientsReport | None = None


def compare(
    opened: Opened,
    settings: NodesSettings,
    *,
    candidate: Any = None,
    planned: list[PlannedInput] | None = None,
) -> Compared:
    """Compare a candidate with the reference.

    Args:
        opened: The checkpoint, which is left open.
        settings: Of the comparison.
        candidate: A live module; None for what the settings name.
        planned: The inputs; None for those of the settings.

    Raises:
        InputError: Something about the input cannot be used.
    """
    started = time.perf_counter()
    if settings.reproduce:
        check_folder(settings.reproduce)
    if settings.names:
        # What is wrong with it should not be said after TensorFlow has been started.
        nodes = [node.name for node in iterate_nodes(opened.config)]
        read_names(settings.names, nodes, opened.config.name)
    if planned is None:
        planned = plan_inputs(settings, opened.conversion, opened.trace)
    with ExitStack() as stack:
        # PyTorch is imported here, after what may be wrong with the files has been said.
        threads = stack.enter_context(computing(settings.threads))
        made, device = _open(opened, settings, candidate)
        stack.enter_context(made)
        # What is wrong with it should not be said after TensorFlow has been started either.
        made.at(planned[0].size)
        seconds = {"load": opened.take_seconds() + time.perf_counter() - started}
        trials = Trials(opened, planned, made.at, names=settings.names, keep=settings.contributions)
        evidence, others = _examined(opened, settings, trials, threads, seconds)
        named = _described(settings, candidate)
        others |= {
            "candidate": named,
            "environment": environment.describe(threads) | device,
        }
        gradients = None
        if settings.backward:
            differentiated = compared_gradients(opened, *trials.paired(planned[0]), others, threads)
            gradients = differentiated.report
            evidence = replace(
                evidence,
                gradients=gradients.result() if gradients else None,
                not_shown=[*evidence.not_shown, *differentiated.not_shown],
            )
        if settings.reproduce:
            started = time.perf_counter()
            others["reproduction"] = _reproduced(
                settings.reproduce, trials, evidence, others, named
            )
            others["seconds"]["reproduction"] = round(time.perf_counter() - started, 3)
        paths = trials.telling.pairing.candidate.naming.path_of()
        names = _names(trials.telling, opened.config.name, others["candidate"])
    return Compared(nodes_result(evidence, **others), paths, names, gradients)


def _reproduced(
    folder: Path, trials: Trials, evidence: Evidence, others: Mapping[str, Any], candidate: str
) -> ReproductionResult:
    """What is accused first, written as a script of its own."""
    from parity.reproduction.making import reproduced

    telling = trials.telling
    with Progress("reproducing", unit="nodes") as progress:
        return reproduced(
            telling.pairing,
            evidence,
            telling.comparison.nodes,
            folder,
            model=others["model"],
            candidate=candidate,
            progress=progress,
        )


def _names(telling: Trial, model: str, candidate: str) -> NamesResult:
    """What makes which node on the input that shows most."""
    kinds, origins = telling.pairing.kinds, telling.pairing.candidate.origins()
    nodes = {
        node.name: made(NamedNode, origins[node.name])
        if node.shape is not None and node.name in origins
        else NamedNode(reason=node.reason)
        for node in telling.comparison.nodes
        if node.name in kinds
    }
    return NamesResult(model=model, candidate=candidate, nodes=nodes)


def _open(
    opened: Opened, settings: NodesSettings, candidate: Any
) -> tuple[Candidate, dict[str, Any]]:
    """What is compared, and what results say about where it computes."""
    import torch

    from parity.sides.pytorch.code import checked
    from parity.sides.pytorch.device import describe_device, open_device

    device = open_device(settings.device, tf32=settings.tf32)
    dtype = getattr(torch, settings.dtype)
    if candidate is None:
        place = partial(placed, device=device, dtype=dtype, alive=False)
        made = open_candidate(
            settings.candidate, opened.config, opened.faithful, place, settings.form
        )
    else:
        module = placed(checked(candidate, "The candidate"), device, dtype, alive=True)
        made = Candidate(lambda size: module)
    return made, describe_device(device)


def _described(settings: NodesSettings, candidate: Any) -> str:
    """The candidate as results name it."""
    if candidate is not None:
        return name_of(candidate)
    if settings.form != EAGER:
        return f"{CONVERTED}, {settings.form}"
    return settings.candidate or CONVERTED


def _examined(
    opened: Opened,
    settings: NodesSettings,
    trials: Trials,
    threads: int,
    seconds: dict[str, float],
) -> tuple[Evidence, dict[str, Any]]:
    """What was found, and further fields of the result."""
    from parity.diagnosis.structures import structures
    from parity.diagnosis.suspects import Known, cautious, diagnosed, findings, suspects
    from parity.lockstep.closeups import chosen, closeups
    from parity.lockstep.contributions import Observed, contributions

    trials.run(seconds)
    telling = trials.telling
    started = time.perf_counter()
    known = Known(
        faithful=opened.faithful,
        alternatives=opened.alternatives,
        repeats=not trials.runs,
    )
    # Suspects are looked at on the input that shows most; another may show others.
    shown = telling.comparison.nodes
    found = list(trials.runs)
    if any(node.kind is not None and node.shape is not None for node in shown):
        # A candidate none of whose layers has a partner is named otherwise, not built otherwise.
        found += findings(telling.pairing, known)
    in_training: list[str] = []
    if telling.pairing.candidate.seen_through:
        found, in_training = _without_training(found)
        found, held = _held_otherwise(found, trials.runs, trials.nodes)
        in_training += held
    otherwise = structures(telling.pairing, shown, opened.config)
    guilty = suspects(telling.pairing, shown)
    if guilty and settings.diagnose:
        with Progress("diagnosing", unit="suspects") as progress:
            guilty = diagnosed(
                telling.pairing,
                guilty,
                shown,
                known,
                found,
                settings.diagnose,
                progress,
                trials.elsewhere,
            )
    guilty = cautious(guilty, otherwise)
    seconds["diagnosis"] = time.perf_counter() - started
    started = time.perf_counter()
    largest = [node.name for node in sources(shown, settings.contributions)]
    shares: list[Contribution] = []
    if largest and all(map(_can_be_put_in, shown)):
        with Progress("attributing", unit="runs") as progress:
            observed = Observed(
                visited=[node.name for node in shown if node.shape is not None],
                outputs=telling.comparison.outputs,
                own=telling.comparison.own,
            )
            shares = contributions(telling.pairing, largest, progress, observed)
        seconds["contributions"] = time.perf_counter() - started
    looks: list[Closeup] = []
    if settings.closeups:
        started = time.perf_counter()
        with Progress("looking closer", unit="nodes") as progress:
            looks = closeups(telling.pairing, chosen(shown, guilty, settings.closeups), progress)
        seconds["closeups"] = time.perf_counter() - started
    noise: list[Noise] = []
    reference = telling.reference
    # The reference stays open for other comparisons, to which these notes do not belong.
    described = dict(reference.described)
    if settings.noise:
        started = time.perf_counter()
        noise, notes = measured_noise(opened, settings, telling, threads)
        described["notes"] = [*described.get("notes", ()), *notes]
        seconds["noise"] = time.perf_counter() - started
    evidence = Evidence(
        nodes=trials.nodes,
        inputs=trials.results(),
        coverage=trials.coverage(in_training),
        findings=found,
        suspects=guilty,
        not_shown=trials.not_shown,
    )
    return evidence, {
        "tensors": reference.tensors,
        "model": opened.config.name,
        "checkpoint": opened.described,
        "reference": made(ReferenceDescription, described | {"framework": reference.framework}),
        "dtype": settings.dtype,
        "outputs": reference.outputs,
        "contributions": shares,
        "structures": otherwise,
        "noise": noise,
        "closeups": [look.result() for look in looks],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": environment.peak_memory_bytes(),
    }


def _without_training(found: list[Finding]) -> tuple[list[Finding], list[str]]:
    """Findings without what acts in training alone, and a sentence on that.

    Somebody else's model is compared for what it computes, and may be trained as they like.
    """
    momenta = [item for item in found if item.slug == "momentum"]
    if not momenta:
        return found, []
    first = momenta[0]
    where = first.place if len(momenta) == 1 else f"{len(momenta)} batch norms, first {first.place}"
    told = f"In training alone: {first.text} ({where})."
    return [item for item in found if item.slug != "momentum"], [told]


_ARRANGED = ("parameter-extra", "parameter-missing", "parameter-shape")
"""Slugs of findings on how parameters are held, and not on their values."""


def _held_otherwise(
    found: list[Finding], runs: Sequence[Finding], nodes: Sequence[NodeResult]
) -> tuple[list[Finding], list[str]]:
    """Findings without those on nodes that are right, and a sentence on these.

    Somebody else's model may hold the same function otherwise: an epsilon that has been added to
    the variances, a norm that was folded, a kernel of another shape. A batch norm whose every
    channel is right is right for any input. Of other layers values may be wrong that this input
    does not reach; those remain.
    """
    names = {node.name.partition("@")[0] for node in nodes}
    wrong = {node.name.partition("@")[0] for node in nodes if not node.verdict.passes}
    norms = {node.name.partition("@")[0] for node in nodes if node.kind is NodeKind.BATCH_NORM}

    def is_right(item: Finding) -> bool:
        node = item.place if item.place in names else item.place.rpartition(".")[0]
        if item in runs or item.slug == "training" or node not in names - wrong:
            return False
        return node in norms or item.slug in _ARRANGED

    held = [item for item in found if is_right(item)]
    if not held:
        return found, []
    first = held[0]
    where = first.place if len(held) == 1 else f"{len(held)} places, first {first.place}"
    told = f"Held otherwise, with the same result on these inputs: {first.text} ({where})."
    return [item for item in found if item not in held], [told]


def _can_be_put_in(node: NodeResult) -> bool:
    """Whether a node has a difference of its own that can be put into a run.

    A node without a partner leaves nothing to put in its place, on inputs of its own it has none,
    and NaN spreads everywhere.
    """
    return node.verdict not in (Verdict.NOT_COVERED, Verdict.OWN_INPUTS) and (
        node.own is None or node.own.finite
    )
