"""The inputs of one command, compared one after another; graphs are opened once for a shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.progress import Progress
from efficientdet_spec import (
    Cause,
    InputError,
    Part,
    iterate_nodes,
)
from parity.commands.asking.inputs import Images, PlannedInput
from parity.commands.comparing.opened import Opened
from parity.commands.comparing.unseen import closed_inputs, one_tap_notes, saturation_notes
from parity.judge.verdict import NodeResult, Verdict
from parity.process.outcome import Outcome
from parity.results.coverage import coverage_of, merged_nodes, wiring_notes
from parity.results.ranking import most_accumulated
from parity.results.records.nodes import NOT_REPEATABLE, Coverage, Finding, InputResult
from parity.sides.naming import check_paths, own_paths, read_names
from parity.sides.replay import KEPT_BYTES, kept
from parity.sides.side import CandidateError, OneAtATimeError, Reference

if TYPE_CHECKING:
    from parity.lockstep.comparison import Comparison
    from parity.lockstep.pairing import Pairing
    from parity.sides.pytorch import FaithfulReferee


@dataclass(frozen=True)
class Trial:
    """A comparison on one input.

    Attributes:
        pairing: What was compared.
        reference: The network compared with.
        described: The input in words.
        comparison: What was found.
    """

    pairing: Pairing
    reference: Reference
    described: Mapping[str, Any]
    comparison: Comparison


class Trials:
    """All comparisons of one command.

    Args:
        opened: The checkpoint, with the references.
        planned: The inputs.
        candidate: Gives what is compared, for images of a height and width.
        names: A file that names the candidate's submodules; None where it has the model's own.
        keep: Of how many nodes the own differences are kept.

    Attributes:
        telling: The trial that shows most: the first with the worst outcome.
        elsewhere: Of another trial, if there is one, what was compared and the results.
        nodes: The worst result of each node.
        runs: What is wrong with the candidate's runs as such.
        not_shown: Sentences on what could not be compared besides nodes.
    """

    def __init__(
        self,
        opened: Opened,
        planned: Sequence[PlannedInput],
        candidate: Callable[[tuple[int, int]], Any],
        *,
        names: Path | None = None,
        keep: int = 0,
    ) -> None:
        self._opened = opened
        self._planned = planned
        self._candidate = candidate
        self._names = names
        self._keep = keep
        self._comparisons: list[Comparison] = []
        self._described: list[Mapping[str, Any]] = []
        self._shapes: dict[tuple[int, ...], None] = {}
        self.telling: Trial
        self.elsewhere: list[tuple[Pairing, Sequence[NodeResult]]] = []
        self.nodes: list[NodeResult] = []
        self.runs: list[Finding] = []
        self._notes: list[str] = []
        self.not_shown: list[str] = []

    def run(self, seconds: dict[str, float]) -> None:
        """Compare on every input.

        Args:
            seconds: Wall time by phase; what is spent here is added.
        """
        elements = sum(2 * self._opened.referee(item.shape).elements for item in self._planned)
        worst: Outcome | None = None
        unit = "nodes" if len(self._planned) == 1 else "images"
        with Progress("comparing", unit=unit) as progress:
            for number, item in enumerate(self._planned):
                told = _in_images(progress, self._planned, number)
                for trial in self._tried(item, elements, told):
                    comparison = trial.comparison
                    # Of all inputs but the one that tells most no tensors are needed any more.
                    self._comparisons.append(comparison.without_tensors())
                    self._described.append(trial.described)
                    self._shapes[trial.pairing.images.shape] = None
                    for name, value in comparison.seconds.items():
                        seconds[name] = seconds.get(name, 0.0) + value
                    other: Trial | None = trial
                    if worst is None or Outcome.worst((worst, comparison.outcome)) is not worst:
                        other = None if worst is None else self.telling
                        worst = comparison.outcome
                        self.telling = trial
                    if other is not None:
                        self.elsewhere = [(other.pairing, other.comparison.nodes)]
        self.nodes = merged_nodes([found.nodes for found in self._comparisons])
        # The same is wrong with the runs on every input.
        self.runs = next((list(found.runs) for found in self._comparisons if found.runs), [])
        gaps = [text for found in self._comparisons for text in found.not_shown]
        self.not_shown += list(dict.fromkeys(gaps))[:1]

    def paired(
        self, item: PlannedInput, elements: int | None = None
    ) -> tuple[Pairing, dict[str, Any]]:
        """Both sides on one input, and what to say about that.

        Args:
            item: The input.
            elements: Number of output elements that the whole command judges.
        """
        images, described = item.load()
        pairing = pair(
            self._names,
            self._opened.reference(item.shape),
            self._made(item.size),
            self._opened.faithful,
            images,
            self._opened.referee(item.shape),
            elements=elements,
        )
        return pairing, described

    def _tried(
        self, item: PlannedInput, elements: int, progress: Callable[[float, int | None], None]
    ) -> Iterator[Trial]:
        """The comparison on one input, or those on what takes its place.

        Args:
            item: The input.
            elements: Number of output elements that the whole command judges.
            progress: Told how many nodes are done.

        Raises:
            CandidateError: The candidate cannot be run on an input that was asked for.
        """
        from parity.lockstep.comparison import compare

        try:
            pairing, described = self.paired(item, elements)
            found = compare(pairing, progress, keep=self._keep)
        except OneAtATimeError as error:
            if not self._opened.any_size:
                # There is no reference for single images.
                raise
            self._notes.append(_one_by_one(item, error.otherwise))
            wrong = Finding(NOT_REPEATABLE, "the candidate", error.otherwise)
            for single in item.singly():
                for trial in self._tried(single, elements, progress):
                    runs = [*trial.comparison.runs, *([wrong] if error.otherwise else [])]
                    yield replace(trial, comparison=replace(trial.comparison, runs=runs))
            return
        except CandidateError as error:
            if item.asked_for:
                raise
            if item.instead is not None:
                self._notes.append(
                    f"The candidate cannot be run on {_in_words(item)}, for "
                    f"which nothing is shown ({error.failure}); {_in_words(item.instead)} took "
                    f"the place."
                )
                yield from self._tried(item.instead, elements, progress)
                return
            self.not_shown.append(
                f"one of the generated inputs could not be compared ({error}) Give images of "
                f"your own with --image to do without it."
            )
            return
        index = len(self._comparisons)
        nodes = [replace(node, input=index) for node in found.nodes]
        yield Trial(pairing, pairing.reference, described, replace(found, nodes=nodes))

    def _made(self, size: tuple[int, int]) -> Any:
        """The candidate for images of this size; where its own code fails, a candidate's error."""
        try:
            return self._candidate(size)
        except InputError as error:
            if error.cause is not Cause.CANDIDATE:
                raise
            raise CandidateError(str(error)) from error

    def results(self) -> list[InputResult]:
        """What each input alone says."""
        uncovered = {node.name for node in self.nodes if node.verdict is Verdict.NOT_COVERED}
        return [
            _input_result(described, found, uncovered)
            for described, found in zip(self._described, self._comparisons, strict=True)
        ]

    def coverage(self, notes: Sequence[str] = ()) -> Coverage:
        """What all of it covers.

        Args:
            notes: Further sentences on what is to be known of it.
        """
        config = self._opened.config
        classes = {node.name for node in iterate_nodes(config) if node.part is Part.CLASS_HEAD}
        peaks = [
            max(found.peaks[name] for name in classes & found.peaks.keys())
            for found in self._comparisons
            if not classes.isdisjoint(found.peaks)
        ]
        told = [
            *self._opened.conversion.ledger.notes,
            *notes,
            *self._notes,
            *(note for found in self._comparisons for note in found.notes),
        ]
        notes = list(dict.fromkeys(told))
        referee = self._opened.referee(self.telling.pairing.images.shape)
        notes += wiring_notes(self.nodes, closed_inputs(referee, config))
        notes += one_tap_notes([self._opened.referee(shape) for shape in self._shapes])
        notes += saturation_notes([found.saturated for found in self._comparisons])
        return coverage_of(
            [found.nodes for found in self._comparisons],
            self.nodes,
            [found.reach for found in self._comparisons],
            peaks,
            inputs=self.results(),
            assumed=self._opened.assumed,
            notes=notes,
        )


def _in_images(
    progress: Progress, planned: Sequence[PlannedInput], number: int
) -> Callable[[float, int | None], None]:
    """Progress of one input: of its nodes where there is no other, else of all images."""
    if len(planned) == 1:
        return progress
    before = sum(item.batch for item in planned[:number])
    images = sum(item.batch for item in planned)

    def report(done: float, total: int | None) -> None:
        progress(before + planned[number].batch * done / total if total else before, images)

    return report


def _in_words(item: PlannedInput) -> str:
    images = "a single image" if item.batch == 1 else f"{item.batch} images together"
    return f"{images} of {item.size[0]}x{item.size[1]}"


def _one_by_one(item: PlannedInput, otherwise: str) -> str:
    told = (
        f"The candidate takes the images of a batch one after another, so that {_in_words(item)} "
        f"were compared one by one"
    )
    same = "" if otherwise else "; what it returns for them together is the same bit for bit"
    return f"{told}{same}."


def _input_result(
    described: Mapping[str, Any], found: Comparison, uncovered: set[str]
) -> InputResult:
    outcome = found.outcome
    if outcome is Outcome.PARITY and any(
        node.silent and node.name in uncovered for node in found.nodes
    ):
        # No other input shows what this one does not.
        outcome = Outcome.NOT_SHOWN
    largest = most_accumulated(found.nodes)
    return InputResult(
        source=described["source"],
        height=described["height"],
        width=described["width"],
        batch=described.get("batch", 1),
        sha256=described["sha256"],
        outcome=outcome,
        counts={
            verdict: sum(node.verdict is verdict for node in found.nodes) for verdict in Verdict
        },
        largest_relative_max=largest.free.relative_max if largest and largest.free else None,
        largest_node=largest.name if largest else None,
        seconds={name: round(value, 3) for name, value in found.seconds.items()},
    )


def pair(
    names: Path | None,
    reference: Reference,
    candidate: Any,
    faithful: Any,
    images: Images,
    referee: FaithfulReferee | None = None,
    *,
    elements: int | None = None,
) -> Pairing:
    """A reference and a candidate on one input, with the faithful model as the referee.

    Args:
        names: A file that names the candidate's submodules; None where it has the model's own.
        reference: The network to compare with.
        candidate: What is compared.
        faithful: The model with the checkpoint's parameters.
        images: [N, H, W, 3].
        referee: The faithful model ready to judge inputs of this shape; made here if None.
        elements: Number of output elements that the whole command judges.

    Raises:
        InputError: The names given do not fit the nodes or the candidate, or the candidate is of
            a form that cannot be observed.
    """
    from parity.lockstep.pairing import Pairing
    from parity.sides.pytorch import (
        FaithfulReferee,
        TorchCandidate,
        check_observable,
        common_prefix,
        hides_parts,
    )
    from parity.sides.pytorch.observation.candidate import ObservedCandidate, runs_in_threads

    nodes = list(reference.kinds)
    paths = [name for name, _ in candidate.named_modules()]
    referee = referee or FaithfulReferee(faithful, reference.kinds, images.shape)
    driven: TorchCandidate | ObservedCandidate
    if names:
        naming = read_names(names, nodes)
        check_paths(naming, paths, str(names))
        driven = ObservedCandidate(candidate, nodes, naming)
        if runs_in_threads(driven, images):
            # Operations are seen in one thread, modules in all.
            check_observable(candidate, naming, referee)
            driven = TorchCandidate(candidate, naming)
    else:
        naming = own_paths(nodes, common_prefix(paths, nodes))
        driven = TorchCandidate(candidate, naming)
        known = sum(path in naming.calls for path in paths)
        try:
            check_observable(candidate, naming, referee)
            # A compiled part has paths of its own, and is seen by what it does.
            inside = [
                path.removeprefix(naming.prefix) for path in paths if f"{path}." != naming.prefix
            ]
            hidden = any(map(hides_parts, inside))
            by_modules = 2 * known >= len(naming.calls) and not hidden
            by_modules = by_modules and driven.passes_on(images)
        except InputError:
            by_modules = False
        if not by_modules:
            # What its parts are called says nothing, or they cannot be seen: its operations can.
            driven = ObservedCandidate(candidate, nodes)
    if referee.elements * images.itemsize <= KEPT_BYTES:
        reference = kept(reference)
    return Pairing(
        reference=reference,
        candidate=driven,
        referee=referee,
        images=images,
        elements=elements,
    )
