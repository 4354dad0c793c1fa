"""Where what fails begins, and what is wrong there.

A node that fails on the reference's own tensors is a suspect; one that was given something else
because a node before it has no partner is not. Suspects are ranked by what depends on them. Then
each is looked at in isolation: which tensors it reads, how its parameters relate to the
checkpoint's, and which of many named faults reproduces its output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from efficientdet_spec import NodeKind
from parity import torch_side
from parity.limits import COMPOSED_LIMIT, SIDE_LIMIT
from parity.naming import base
from parity.nodes import LATE, RETURNS, Pairing, Progress
from parity.result import Finding, Suspect
from parity.stream import Array
from parity.torch_side import hypotheses, patterns, structure
from parity.verdict import NodeResult, Verdict


@dataclass(frozen=True)
class Known:
    """What is known of a model beside its nodes.

    Attributes:
        faithful: The faithful model.
        alternatives: Other values of the checkpoint's parameters, by what they are and by name.
        num_anchors: Anchors at each location.
        num_classes: Classes predicted for each.
    """

    faithful: Any
    alternatives: Mapping[str, Mapping[str, Array]]
    num_anchors: int
    num_classes: int


def findings(pairing: Pairing, known: Known) -> list[Finding]:
    """What is wrong with a candidate whatever its tensors are."""
    return structure.Structure(
        pairing.model, pairing.naming, pairing.referee, known.faithful, known.alternatives
    ).findings()


def suspects(pairing: Pairing, nodes: Sequence[NodeResult]) -> list[Suspect]:
    """Failing nodes that no failing node explains, those first on which most depends.

    Args:
        pairing: What was compared.
        nodes: What was found.
    """
    referee, kinds = pairing.referee, pairing.kinds
    results = {node.name: node for node in nodes}
    order = {name: position for position, name in enumerate(results)}
    groups: dict[tuple[str, Verdict], list[str]] = {}
    for node in nodes:
        if not node.verdict.passes and not _is_explained(pairing, node, results):
            groups.setdefault((base(node.name), node.verdict), []).append(node.name)
    found = []
    for (_, verdict), names in groups.items():
        affected = referee.downstream(set(names) & set(kinds)) | (set(names) & set(kinds))
        reached = len(affected & set(pairing.outputs))
        found.append(Suspect(tuple(names), verdict, len(affected), reached))
    return sorted(found, key=lambda item: (-item.outputs, -item.affected, order[item.nodes[0]]))


def _is_explained(pairing: Pairing, node: NodeResult, results: Mapping[str, NodeResult]) -> bool:
    """Whether a failing node was given something else by a node that has no partner."""
    if node.kind is None or node.certain or node.shape is None:
        return False
    return any(
        source in results and not results[source].verdict.passes
        for source in pairing.referee.sources(node.name)
    )


def diagnosed(
    pairing: Pairing,
    found: Sequence[Suspect],
    nodes: Sequence[NodeResult],
    known: Known,
    what: Sequence[Finding],
    limit: int,
    progress: Progress | None = None,
) -> list[Suspect]:
    """The suspects with what is wrong with them, as far as that can be told.

    Args:
        pairing: What was compared.
        found: The suspects.
        nodes: The results.
        known: What is known of the model.
        what: Findings about the candidate's structure.
        limit: Number of suspects to try hypotheses on.
        progress: Told how many suspects are done.
    """
    results = {node.name: node for node in nodes}
    chosen: dict[str, int] = {}
    for index, suspect in enumerate(found[:limit]):
        sized = [
            name
            for name in suspect.nodes
            if results[name].shape and not results[name].reason.startswith((RETURNS, LATE))
        ]
        if sized:
            chosen[min(sized, key=lambda name: math.prod(results[name].shape or ()))] = index
    answers: dict[int, Suspect] = {}

    def examine(name: str, look: _Look) -> None:
        index = chosen.get(name)
        if index is not None:
            answers[index] = _examined(found[index], results[name], look, known, what)
            if progress:
                progress(len(answers), len(chosen))

    if chosen:
        _look_again(pairing, examine)
    return [
        answers.get(index) or _without_output(suspect, results, pairing)
        for index, suspect in enumerate(found)
    ]


@dataclass(frozen=True)
class _Look:
    """What can be seen of one node in a second run.

    Attributes:
        case: The node for the hypotheses; None where it was given something else.
        module: The candidate's.
        truth: The exact output.
        gauge: The magnitude of its roundings.
    """

    kind: NodeKind
    faithful: Any
    arguments: tuple[Any, ...]
    sources: tuple[str, ...]
    module: Any
    output: Any
    truth: Any
    gauge: Any
    certain: bool
    siblings: Mapping[str, Any]


def _look_again(pairing: Pairing, examine: Any) -> None:
    """Run the isolated pass once more and show each node to ``examine``."""
    names = list(pairing.kinds)
    order = {name: position for position, name in enumerate(names)}
    sitting = pairing.referee.sitting(pairing.images, SIDE_LIMIT)
    calls = pairing.referee.calls
    modules = {base(name): call.module for name, call in calls.items()}
    position = 0

    with pairing.stream() as tensors:

        def step(ours: tuple[Any, Any] | None) -> Any:
            nonlocal position
            name = names[position]
            position += 1
            theirs = tensors.take(name) if pairing.has(name) else None
            ruling = sitting.rule(name)
            goes_on = ruling.rounded() if theirs is None else theirs
            instead = None
            if ours is not None:
                module, output = ours
                look = _Look(
                    kind=pairing.kinds[name],
                    faithful=calls[name].module,
                    arguments=sitting.arguments(name),
                    sources=calls[name].sources,
                    module=module,
                    output=output.detach().cpu(),
                    truth=ruling.truth,
                    gauge=ruling.gauge,
                    certain=ruling.certain,
                    siblings=modules,
                )
                examine(name, look)
                if output.dim() == 4 and torch_side.nhwc(output).shape == goes_on.shape:
                    instead = torch_side.replacement(output, goes_on)
            sitting.follow(
                name,
                goes_on,
                ruling,
                substituted=instead is not None,
                recorded=theirs is not None,
            )
            if theirs is not None:
                tensors.release()
            return instead

        def visit(name: str, module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
            if order.get(name, -1) < position:
                return None
            while position < order[name]:
                step(None)
            return step((module, output))

        pairing.run(visit)
        while position < len(names):
            step(None)


def _examined(
    suspect: Suspect,
    node: NodeResult,
    look: _Look,
    known: Known,
    what: Sequence[Finding],
) -> Suspect:
    here = [item for item in what if item.place.startswith(f"{base(node.name)}.")]
    evidence = [f"{item.place}: {item.text}" for item in here]
    tried = look.certain and look.output.dim() == 4
    diagnosis = hypotheses.diagnose(_case(node, look, known)) if tried else None
    if diagnosis is None or diagnosis.slug in _FITTED:
        # What is known of the parameters says more than numbers fitted to the output.
        by_values = _by_parameters(look, here)
        if by_values is not None:
            slug, title, proof = by_values
            evidence = [proof, *evidence]
            return replace(
                suspect, slug=slug, diagnosis=title, evidence=tuple(evidence), tried=tried
            )
    read = _wrong_wiring(node, look)
    if read and (diagnosis is None or diagnosis.slug not in _SURE):
        return replace(
            suspect,
            slug=read[0],
            diagnosis=read[1],
            evidence=(*evidence, *_own_function(node)),
            tried=tried,
        )
    if diagnosis is not None:
        unit = "roundings" if diagnosis.unit == look_unit(look) else "units of that precision"
        without = (
            "the faithful operation has another shape"
            if math.isinf(diagnosis.without)
            else f"{diagnosis.without:.3g} from the faithful operation"
        )
        proof = f"reproduced to {diagnosis.roundings:.3g} {unit}; {without}"
        return replace(
            suspect,
            slug=diagnosis.slug,
            diagnosis=diagnosis.title,
            evidence=(proof, *evidence),
            tried=tried,
        )
    seen: list[str] = []
    if look.output.dim() == 4:
        seen = patterns.describe(look.truth, look.output, look.gauge)
    return replace(
        suspect,
        evidence=(*evidence, *_own_function(node)),
        patterns=tuple(seen),
        tried=tried,
    )


_SURE = frozenset({"left-out"})
"""Diagnoses that say more than what the node reads."""

_FITTED = frozenset(
    {
        "channels-affine",
        "channels-offset",
        "channels-permuted",
        "channels-scaled",
        "clamped",
        "kernel-values",
        "offset",
        "reduced-precision",
        "scaled",
        "weights-other",
        "zeroed",
    }
)
"""Diagnoses that come from numbers fitted to the output, which several causes can share."""


def look_unit(look: _Look) -> float:
    """Unit roundoff of the type in which the candidate computes."""
    return torch_side.unit(look.output)


def _case(node: NodeResult, look: _Look, known: Known) -> hypotheses.Case:
    name = base(node.name)
    head, _, rest = name.partition(".")
    predicts = head in ("class_head", "box_head") and rest == "predict.pointwise"
    alternatives = {
        what: torch_side.parameters_of(name, look.faithful, arrays)
        for what, arrays in known.alternatives.items()
    }
    return hypotheses.Case(
        name=node.name,
        kind=look.kind,
        module=torch_side.copy_in_double(look.faithful),
        arguments=torch_side.as_double(look.arguments),
        candidate=look.output,
        siblings={
            path: module
            for path, module in look.siblings.items()
            if path != name and torch_side.alike(module, look.faithful)
        },
        alternatives={what: values for what, values in alternatives.items() if values},
        is_input=torch_side.IMAGES in look.sources,
        outputs_per_anchor=(known.num_classes if head == "class_head" else 4) if predicts else None,
        num_anchors=known.num_anchors if predicts else None,
    )


def _wrong_wiring(node: NodeResult, look: _Look) -> tuple[str, str] | None:
    """What the candidate reads instead of what it should, where its own function is sound."""
    if not node.wrong_inputs:
        return None
    due = [source for source in look.sources if source != torch_side.IMAGES]
    read = list(node.wrong_inputs)
    if sorted(read) == sorted(due):
        return "inputs-permuted", f"reads its inputs in another order: {', '.join(read)}"
    return "input-from-other-node", f"reads {', '.join(read)} instead of {', '.join(due)}"


def _own_function(node: NodeResult) -> tuple[str, ...]:
    own = node.from_own_exact
    if own is None or own.roundings is None:
        return ()
    if own.roundings <= COMPOSED_LIMIT:
        return (
            f"its arithmetic is sound: {own.roundings:.3g} roundings from the exact value of its "
            f"own function of what it reads",
        )
    return (
        f"its arithmetic is inaccurate: {own.roundings:.3g} roundings from the exact value of its "
        f"own function",
    )


def _by_parameters(look: _Look, here: Sequence[Finding]) -> tuple[str, str, str] | None:
    """Whether the faithful operation with the candidate's parameters reproduces its output."""
    changed = [item for item in here if item.slug.startswith("parameter-")]
    if not changed or not look.certain or look.output.dim() != 4:
        return None
    roundings = torch_side.with_other_parameters(
        look.kind, look.faithful, look.module, look.arguments, look.output
    )
    if roundings is None or roundings > 2 * SIDE_LIMIT:
        return None
    first = changed[0]
    proof = (
        f"reproduced to {roundings:.3g} roundings by the faithful operation with the candidate's "
        f"parameters"
    )
    if first.slug == "parameter-extra" and first.place.endswith(".bias"):
        return "bias-extra", f"a bias that the model does not have, {first.text}", proof
    slug = first.slug.replace("parameter-", "parameters-")
    return slug, f"other parameters: {first.place}, {first.text}", proof


def _without_output(
    suspect: Suspect, results: Mapping[str, NodeResult], pairing: Pairing
) -> Suspect:
    """What can be said of a suspect whose output cannot be looked at."""
    first = results[suspect.nodes[0]]
    if first.kind is None:
        return replace(
            suspect,
            slug="layer-extra",
            diagnosis=f"{first.name} is a layer, or a call of one, that the model does not have",
        )
    if first.shape is None:
        calls = pairing.naming.path_of().get(first.name)
        where = "no submodule is named for it" if calls is None else f"{calls} is not called for it"
        readers = [
            result
            for result in results.values()
            if result.kind is not None
            and first.name in pairing.referee.sources(result.name)
            and result.wrong_inputs
        ]
        told = [f"{r.name} reads {', '.join(r.wrong_inputs)} instead" for r in readers]
        return replace(
            suspect, slug="left-out", diagnosis=f"left out: {where}", evidence=tuple(told)
        )
    late = [name for name in suspect.nodes if results[name].reason == LATE]
    if late:
        return replace(
            suspect,
            slug="order-other",
            diagnosis="computed in another order: after nodes that should come later",
        )
    if first.reason.startswith(RETURNS):
        return replace(suspect, slug="output-order", diagnosis=first.reason)
    return suspect
