"""Where what fails begins, and what is wrong there.

A node that fails on the reference's own tensors is a suspect; one that was given something else
because a node before it has no partner is not. Suspects are ranked by what depends on them. Then
each is looked at in isolation: which tensors it reads, how its parameters relate to the
checkpoint's, and which of many named faults reproduces its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from efficientdet_spec import NodeKind
from parity import torch_side
from parity.limits import SIDE_LIMIT
from parity.naming import base, own_paths
from parity.nodes import RETURNS, IsolatedWalk, Ours, Pairing, Progress
from parity.result import Finding, Suspect
from parity.stream import Array
from parity.torch_side import Ruling, hypotheses, patterns, structure
from parity.verdict import Measurement, NodeResult, Verdict


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
    model, naming = pairing.model, pairing.naming
    if naming.prefix:
        # Inside its wrapper a model has the faithful one's paths.
        model = model.get_submodule(naming.prefix.rstrip("."))
        naming = own_paths(naming.nodes)
    return structure.Structure(
        model, naming, pairing.referee, known.faithful, known.alternatives
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

    def rank(item: Suspect) -> tuple[bool, int, int, int]:
        # What is known to be wrong comes before what is not known.
        missing = not pairing.naming.strict and item.verdict is Verdict.NOT_COVERED
        return missing, -item.outputs, -item.affected, order[item.nodes[0]]

    return sorted(found, key=rank)


def _is_explained(pairing: Pairing, node: NodeResult, results: Mapping[str, NodeResult]) -> bool:
    """Whether a failing node was given something else by a node that has no partner."""
    if node.kind is None or node.certain or node.shape is None:
        return False
    if not pairing.naming.strict and node.verdict is not Verdict.NOT_COVERED:
        # A node without a submodule need not be wrong, and this one is, or what lies before it.
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
    for index, suspect in enumerate(found):
        sized = [
            name
            for name in suspect.nodes
            if results[name].shape and not results[name].reason.startswith(RETURNS)
        ]
        if sized and len(chosen) < limit:
            chosen[min(sized, key=lambda name: math.prod(results[name].shape or ()))] = index
    answers: dict[int, Suspect] = {}

    def examine(name: str, look: _Look) -> None:
        index = chosen[name]
        answers[index] = _examined(found[index], results[name], look, known, what)
        if progress:
            progress(len(answers), len(chosen))

    if chosen:
        visited = [name for name, node in results.items() if node.shape]
        _Inspection(pairing, visited, chosen, examine).run()
    return [
        answers.get(index) or _without_output(suspect, results, pairing)
        for index, suspect in enumerate(found)
    ]


@dataclass(frozen=True)
class _Look:
    """What can be seen of one node in a second run.

    Attributes:
        kind: What it computes.
        faithful: The faithful layer.
        arguments: What that layer is given.
        sources: The nodes that these are from.
        module: The candidate's layer.
        output: What it made.
        ruling: What it should have made.
        siblings: Other faithful layers by path.
    """

    kind: NodeKind
    faithful: Any
    arguments: tuple[Any, ...]
    sources: tuple[str, ...]
    module: Any
    output: Any
    ruling: Ruling
    siblings: Mapping[str, Any]

    @property
    def comparable(self) -> bool:
        """Whether the output is one of images and of the very inputs of the faithful layer."""
        return self.ruling.certain and self.output.dim() == 4


class _Inspection(IsolatedWalk):
    """The isolated pass once more, with a closer look at some nodes in place of measuring."""

    def __init__(
        self,
        pairing: Pairing,
        visited: Collection[str],
        nodes: Collection[str],
        examine: Callable[[str, _Look], None],
    ) -> None:
        super().__init__(pairing, None, visited)
        self._nodes = nodes
        self._examine = examine
        calls = pairing.referee.calls
        self._siblings = {base(name): call.module for name, call in calls.items()}

    def measure(
        self,
        name: str,
        ruling: Ruling,
        arguments: tuple[Any, ...],
        theirs: Array | None,
        ours: Ours | None,
        problem: Any,
    ) -> Measurement:
        if ours is not None and name in self._nodes:
            call = self.pairing.referee.calls[name]
            look = _Look(
                kind=self.pairing.kinds[name],
                faithful=call.module,
                arguments=arguments,
                sources=call.sources,
                module=ours[0],
                output=ours[2].detach().cpu(),
                ruling=ruling,
                siblings=self._siblings,
            )
            self._examine(name, look)
        return Measurement(None)


def _examined(
    suspect: Suspect,
    node: NodeResult,
    look: _Look,
    known: Known,
    what: Sequence[Finding],
) -> Suspect:
    here = [item for item in what if item.place.startswith(f"{base(node.name)}.")]
    evidence = [f"{item.place}: {item.text}" for item in here]
    tried = look.comparable
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
        unit = (
            "roundings"
            if diagnosis.unit == torch_side.unit(look.output)
            else "units of that precision"
        )
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
        seen = patterns.describe(look.ruling.truth, look.output, look.ruling.gauge)
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
    if node.functions_apart is None:
        return ()
    if node.verdict is Verdict.FUNCTION_DIFFERS:
        return (
            f"in exact arithmetic the functions are {node.functions_apart:.3g} roundings apart",
        )
    return ("its function is the right one, its arithmetic is inaccurate",)


def _by_parameters(look: _Look, here: Sequence[Finding]) -> tuple[str, str, str] | None:
    """Whether the faithful operation with the candidate's parameters reproduces its output."""
    changed = [item for item in here if item.slug.startswith("parameter-")]
    if not changed or not look.comparable:
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
    if first.reason.startswith(RETURNS):
        return replace(suspect, slug="output-order", diagnosis=first.reason)
    return suspect
