"""Where what fails begins, and what is wrong there.

A node that fails on the reference's own tensors is a suspect; one that was given something else
because a node before it has no partner is not. Suspects are ranked by what depends on them. Then
each is looked at in isolation: see :mod:`parity.diagnosis.examination`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from efficientdet_spec import IMAGES, NodeKind
from parity.diagnosis import structure
from parity.diagnosis.examination import Examination, Inner, Known, Look
from parity.diagnosis.settings import due, settings_apart
from parity.judge.referee import Referee
from parity.judge.verdict import NodeResult, Verdict
from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.pairing import Pairing, Progress
from parity.results.records.nodes import READS_OTHER, REWIRINGS, Finding, Statement, Suspect
from parity.sides.naming import base, own_paths
from parity.sides.pytorch import FaithfulReferee, TorchCandidate, TorchValue
from parity.sides.pytorch.observation.candidate import ObservedCandidate

__all__ = ["Known", "diagnosed", "findings", "suspects"]


def findings(pairing: Pairing, known: Known) -> list[Finding]:
    """What is wrong with a candidate whatever its tensors are."""
    candidate, referee = torch_sides(pairing)
    naming = candidate.naming
    with candidate.as_read() as model:
        if naming.prefix:
            # Inside its wrapper a model has the faithful one's paths.
            model = model.get_submodule(naming.prefix.rstrip("."))
            naming = own_paths(naming.nodes)
        return structure.Structure(
            model, naming, referee, known.faithful, known.alternatives
        ).findings()


def torch_sides(
    pairing: Pairing,
) -> tuple[TorchCandidate | ObservedCandidate, FaithfulReferee]:
    """The candidate and the faithful model as PyTorch has them, which is what is looked at here."""
    candidate, referee = pairing.candidate, pairing.referee
    assert isinstance(candidate, TorchCandidate | ObservedCandidate)
    assert isinstance(referee, FaithfulReferee)
    return candidate, referee


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
        # Where a span is wrong, only its last node can be examined.
        if (
            not node.verdict.passes
            and node.verdict is not Verdict.OWN_INPUTS
            and not node.within
            and not _is_explained(pairing, node, results)
        ):
            groups.setdefault((base(node.name), node.verdict), []).append(node.name)
    found = []
    for (_, verdict), names in groups.items():
        affected = referee.downstream(set(names) & set(kinds)) | (set(names) & set(kinds))
        reached = len(affected & set(pairing.outputs))
        found.append(Suspect(tuple(names), verdict, len(affected), reached))

    def rank(item: Suspect) -> tuple[bool, int, int, int]:
        # What is known to be wrong comes before what is not known.
        missing = not pairing.candidate.naming.strict and item.verdict is Verdict.NOT_COVERED
        return missing, -item.outputs, -item.affected, order[item.nodes[0]]

    return sorted(found, key=rank)


def _is_explained(pairing: Pairing, node: NodeResult, results: Mapping[str, NodeResult]) -> bool:
    """Whether a failing node was given something else by a node that has no partner, or NaN."""
    if _inherits(pairing, node, results):
        return True
    if node.kind is None or node.certain or node.shape is None:
        return False
    seen = pairing.candidate.naming.strict or pairing.candidate.seen_through
    if not seen and node.verdict is not Verdict.NOT_COVERED:
        # A node without a submodule need not be wrong, and this one is, or what lies before it.
        return False
    before = [results[s] for s in pairing.referee.sources(node.name) if s in results]
    # A node inside of a wrong span explains nothing: the span's last node is examined for it.
    return any(not item.verdict.passes and (item.shape or not item.within) for item in before)


def _inherits(pairing: Pairing, node: NodeResult, results: Mapping[str, NodeResult]) -> bool:
    """Whether a node is sound on the reference's tensors, and was given no numbers without them."""
    exact, limit = node.from_exact, node.limit
    if node.kind is None or node.free is None or node.free.finite or exact is None or limit is None:
        return False
    sound = exact.finite and (exact.roundings or 0.0) <= limit.candidate
    before = (results.get(source) for source in pairing.referee.sources(node.name))
    return sound and any(
        source is not None and source.free is not None and not source.free.finite
        for source in before
    )


def diagnosed(
    pairing: Pairing,
    found: Sequence[Suspect],
    nodes: Sequence[NodeResult],
    known: Known,
    what: Sequence[Finding],
    limit: int,
    progress: Progress | None = None,
    elsewhere: Sequence[tuple[Pairing, Sequence[NodeResult]]] = (),
) -> list[Suspect]:
    """The suspects with what is wrong with them, as far as that can be told.

    All failing nodes that one module makes are looked at, and a name is given only where it holds
    at each of them. Suspects of which nothing is known come last.

    Args:
        pairing: What was compared.
        found: The suspects.
        nodes: The results.
        known: What is known of the model.
        what: Findings about the candidate's structure.
        limit: Number of suspects to try hypotheses on.
        progress: Told how many suspects are done.
        elsewhere: The same comparison on other inputs, with its results: what fits one input is a
            name only where it holds on these too.
    """
    results = {node.name: node for node in nodes}
    examinations: dict[int, Examination] = {}
    looked_at: dict[str, list[int]] = {}
    for index, suspect in enumerate(found):
        members = _members(pairing, suspect, results)
        if members and len(examinations) < limit:
            examinations[index] = Examination(suspect, members, known, what)
            for name in members:
                looked_at.setdefault(name, []).append(index)

    def examine(name: str, look: Look) -> None:
        for index in looked_at[name]:
            examinations[index].see(results[name], look)
        if progress:
            progress(sum(item.done for item in examinations.values()), len(examinations))

    if examinations:
        visited = [name for name, node in results.items() if node.shape]
        _inspect(pairing, visited, looked_at, examine, _inner(pairing, results))
    for other, there in elsewhere:
        _hold_elsewhere(other, there, examinations, looked_at)
    answers = [
        examinations[index].answer()
        if index in examinations and examinations[index].seen
        else _without_output(suspect, results, pairing)
        for index, suspect in enumerate(found)
    ]
    answers = [_with_steps(suspect, pairing) for suspect in answers]
    return sorted(answers, key=lambda suspect: _is_merely_not_covered(suspect, pairing))


def _hold_elsewhere(
    pairing: Pairing,
    nodes: Sequence[NodeResult],
    examinations: Mapping[int, Examination],
    looked_at: Mapping[str, Sequence[int]],
) -> None:
    """Hold names against another input; no run where there is none."""
    results = {node.name: node for node in nodes}
    due = {
        name: [index for index in indices if examinations[index].named]
        for name, indices in looked_at.items()
        if name in results and results[name].shape
    }
    due = {name: indices for name, indices in due.items() if indices}

    def examine(name: str, look: Look) -> None:
        for index in due[name]:
            examinations[index].see_elsewhere(results[name], look)

    if due:
        visited = [name for name, node in results.items() if node.shape]
        _inspect(pairing, visited, due, examine, _inner(pairing, results))


def _with_steps(suspect: Suspect, pairing: Pairing) -> Suspect:
    """A suspect with the operations that make it, and their settings where these are others."""
    node = suspect.nodes[0]
    named = suspect.diagnosis or "nothing"
    told = [text for text in settings_apart(pairing, node) if not text.endswith(named)]
    steps = pairing.candidate.steps(node)
    made = [f"made by {steps}"] if steps else []
    evidence = suspect.evidence
    # Where there is no name, what it is called with says most.
    ordered = (*evidence, *made, *told) if suspect.diagnosis else (*told, *evidence, *made)
    return replace(suspect, evidence=ordered)


def _members(
    pairing: Pairing, suspect: Suspect, results: Mapping[str, NodeResult]
) -> dict[str, NodeResult]:
    """The nodes that a suspect's module makes and that fail, whatever the verdict on each."""
    paths = pairing.candidate.naming.path_of()
    own = {paths.get(name) for name in suspect.nodes}
    return {
        name: node
        for name, node in results.items()
        if base(name) == base(suspect.nodes[0])
        and not node.verdict.passes
        and (name in suspect.nodes or paths.get(name) in own)
        and node.shape
        and not node.returned
    }


def _inner(pairing: Pairing, results: Mapping[str, NodeResult]) -> dict[str, Inner]:
    """By batch norm the convolution that is made together with it, and with nothing else."""
    referee = pairing.referee
    within: dict[str, list[str]] = {}
    for node in results.values():
        if node.within and not node.shape:
            within.setdefault(node.within, []).append(node.name)
    found = {}
    for norm, (name, *others) in within.items():
        if others or referee.kinds.get(norm) is not NodeKind.BATCH_NORM:
            continue
        kind = referee.kinds.get(name)
        if kind not in (NodeKind.CONV, NodeKind.DEPTHWISE) or not isinstance(
            referee, FaithfulReferee
        ):
            continue
        batch, height, width, channels = referee.inputs_of[name]
        found[norm] = Inner(
            name,
            kind,
            referee.calls[name].module,
            (batch, channels, height, width),
            IMAGES in referee.sources(name),
        )
    return found


def _is_merely_not_covered(suspect: Suspect, pairing: Pairing) -> bool:
    """Whether nothing is known to be wrong: the node is not covered, and nothing says why."""
    if suspect.verdict is not Verdict.NOT_COVERED:
        return False
    unnamed = suspect.slug == "left-out" and not pairing.candidate.naming.strict
    return suspect.slug is None or unnamed


def _inspect(
    pairing: Pairing,
    visited: Collection[str],
    nodes: Collection[str],
    examine: Callable[[str, Look], None],
    inner: Mapping[str, Inner],
) -> None:
    """The isolated pass once more, with a closer look at some nodes in place of measuring."""
    candidate, referee = torch_sides(pairing)
    calls = referee.calls
    buffers = structure.kept_buffers(candidate.model)
    siblings = {base(name): call.module for name, call in calls.items()}

    def look(met: Meeting) -> None:
        if met.candidate is None or met.name not in nodes:
            return
        if met.own.astray:
            # A diagnosis is tried on the reference's tensors, which it was not given.
            return
        output = met.candidate.value
        assert isinstance(output, TorchValue)
        seen = Look(
            kind=met.kind,
            faithful=calls[met.name].module,
            arguments=referee.arguments(met.name, met.ruling.inputs),
            inputs=met.candidate.given,
            sources=calls[met.name].sources,
            module=met.candidate.layer,
            output=output.tensor.detach().cpu(),
            overwritten=met.overwritten,
            ruling=met.ruling,
            settings=(candidate.settings(met.name).get(met.name, {}), due(referee, met.name)),
            siblings=siblings,
            buffers=buffers,
            inner=inner.get(met.name),
        )
        examine(met.name, seen)

    IsolatedWalk(pairing, look, visited).run()


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
    seen = pairing.candidate.left_out().get(first.name)
    if first.shape is None and seen is not None:
        return replace(suspect, slug="left-out", diagnosis=f"left out: {seen}")
    if first.shape is None and pairing.candidate.seen_through:
        # That it was not found does not mean that it is not there.
        return replace(suspect, evidence=(first.reason,))
    if first.shape is None:
        calls = pairing.candidate.naming.path_of().get(first.name)
        where = "no submodule is named for it" if calls is None else f"{calls} is not called for it"
        readers = [
            result
            for result in results.values()
            if result.kind is not None
            and first.name in pairing.referee.sources(result.name)
            and result.wrong_inputs
        ]
        told = [f"{r.name} reads {', '.join(r.wrong_inputs)} instead" for r in readers]
        if pairing.candidate.naming.strict and agrees_behind(first.name, results, pairing.referee):
            # Such as a function in the place of a module: nothing is left out.
            seen = f"{where}; what reads it agrees, as behind a function that does the same"
            return replace(suspect, evidence=(seen,))
        return replace(
            suspect, slug="left-out", diagnosis=f"left out: {where}", evidence=tuple(told)
        )
    if first.returned:
        return replace(suspect, slug="output-order", diagnosis=first.reason)
    return suspect


def agrees_behind(name: str, results: Mapping[str, NodeResult], referee: Referee) -> bool:
    """Whether the next nodes that can be seen behind one that cannot are right.

    Args:
        name: The node that cannot be seen.
        results: By node, in the order of computation.
        referee: Knows the nodes that each node reads.
    """
    # In the order of computation, so that each is reached before those that read it.
    hidden, passed = {name}, False
    for reader in results.values():
        if reader.kind is None or hidden.isdisjoint(referee.sources(reader.name)):
            continue
        if reader.shape is None:
            hidden.add(reader.name)
        elif reader.verdict.fails:
            return False
        else:
            passed |= reader.verdict.passes
    return passed


def cautious(suspects: Sequence[Suspect], statements: Sequence[Statement]) -> list[Suspect]:
    """Suspects of which no more is said than is known where a structure is wired otherwise.

    Which layer is which node is told by what it reads. Where that is other by construction, a layer
    that reads what it should may have been taken for another node.

    Args:
        suspects: As they were diagnosed.
        statements: On the candidate's structure.
    """
    if not any(item.slug in REWIRINGS for item in statements):
        return list(suspects)
    return [
        replace(
            item,
            diagnosis=f"{item.diagnosis}, unless the layer is taken for the wrong node, as may "
            f"be where the structure is another",
        )
        if item.slug == READS_OTHER and item.diagnosis
        else item
        for item in suspects
    ]
