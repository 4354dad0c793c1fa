"""What a port's whole pipeline does otherwise than the faithful one, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.detections.annotations import CocoImage
from parity.detections.rows import Rows
from parity.pipelines import search
from parity.pipelines.equality import CODE_BOUND, SCORE_BOUND
from parity.pipelines.search import Progress
from parity.pipelines.stages import of_model, read_off, resizing
from parity.pipelines.stages.pipeline import Mistake, Pipeline
from parity.results.records.pipelines import (
    ExplanationResult,
    MistakeResult,
    StepResult,
    UnexplainedImage,
)

_MUCH = 0.02
"""Share of the boxes that may be left before the names are called uncertain; decides no verdict."""

CHANCE = 1 / 1000
"""Share of a faithful program's boxes that chance may leave without an equal one; measured: eight
times fewer (docs/pipelines.md)."""

ACCOUNTED = 200
"""Each step is counted on at most so many images; what remains is counted on all."""

_NAMED = 10
"""Images with most unexplained boxes that a result names."""


@dataclass(frozen=True)
class Step:
    """One mistake, and what it explains.

    Attributes:
        mistake: The mistake.
        alternatives: Others that do the same on these images.
        equal: Boxes of the port with an equal one, with this and all mistakes before.
        extra: Boxes of the pipeline that the port then has not.
        only_with: Boxes of either side that are unequal without this, the others being made.
    """

    mistake: Mistake
    alternatives: Sequence[Mistake]
    equal: int
    extra: int
    only_with: int


@dataclass(frozen=True)
class Explanation:
    """What makes a port's boxes equal to the faithful pipeline's.

    Attributes:
        steps: The mistakes, in the order in which they bring the boxes nearest.
        searched: Images that were searched on.
        counted: Images that the steps are counted on.
        boxes: Boxes of the port on these.
        start: Of these, those that are equal without any mistake.
        start_extra: Boxes of the pipeline without a mistake that the port has not.
        images: All images.
        all_boxes: Boxes of the port on all images.
        unexplained: Of all boxes of the port, those without an equal one with all mistakes.
        extra: Boxes of the pipeline with all mistakes that the port has not.
        ties: Boxes taken for equal that a tie of scores or the cut decides.
        remaining: Images with such boxes by id, the most first: the port's and the pipeline's.
    """

    steps: Sequence[Step]
    searched: Sequence[int]
    counted: int
    boxes: int
    start: int
    start_extra: int
    images: int
    all_boxes: int
    unexplained: int
    extra: int
    ties: int
    remaining: Mapping[int, tuple[int, int]]

    @property
    def uncertain(self) -> bool:
        """Whether so much is left that what is named may stand for what is not known."""
        return self.unexplained + self.extra > _MUCH * self.all_boxes

    @property
    def differs(self) -> bool:
        """Whether the program is another one than the faithful pipeline.

        It is where a mistake is named, and where more is left than chance leaves between two
        faithful programs: measured, one box of 8000, at a tie or at the cut.
        """
        return bool(self.steps) or self.unexplained + self.extra > CHANCE * self.all_boxes

    @property
    def complete(self) -> bool:
        """Whether every box is explained."""
        return not self.unexplained and not self.extra

    def result(self, names: Mapping[int, str]) -> ExplanationResult:
        """What is written of it.

        Args:
            names: File name of each image by its id.
        """
        return ExplanationResult(
            complete=self.complete,
            steps=[
                StepResult(
                    mistake=_written(step.mistake),
                    alternatives=[_written(item) for item in step.alternatives],
                    equal=step.equal,
                    extra=step.extra,
                    only_with=step.only_with,
                )
                for step in self.steps
            ],
            code_bound=CODE_BOUND,
            score_bound=SCORE_BOUND,
            searched_images=list(self.searched),
            counted_images=self.counted,
            counted_boxes=self.boxes,
            equal_without=self.start,
            extra_without=self.start_extra,
            images=self.images,
            boxes=self.all_boxes,
            unexplained=self.unexplained,
            extra=self.extra,
            ties=self.ties,
            worst_images=[
                UnexplainedImage(image_id=number, file=names[number], unexplained=own, extra=more)
                for number, (own, more) in list(self.remaining.items())[:_NAMED]
            ],
        )


def _written(mistake: Mistake) -> MistakeResult:
    return MistakeResult(mistake.slug, mistake.title, mistake.stage)


def explain(
    runner: search.Detects,
    faithful: Pipeline,
    port: Mapping[int, Rows],
    images: Sequence[CocoImage],
    size: tuple[int, int],
    networks: frozenset[str] | set[str],
    progress: Progress,
) -> Explanation:
    """Find the smallest set of known mistakes that makes the faithful boxes the port's.

    Args:
        runner: Runs pipelines.
        faithful: The pipeline without mistakes.
        port: The port's detections, of each image.
        images: All images.
        size: (height, width) of the network's input.
        networks: Names of the networks that there are.
        progress: Shows how far it has come.
    """
    trials = search.Trials(runner, faithful, port)
    known = search.applicable((*of_model(faithful), *read_off(port)), faithful, port, networks)
    tried = search.without_larger_limits(known)

    def fitted(image: CocoImage, way: str) -> tuple[int, int]:
        return resizing.FITS[way](image.height, image.width, *size).scaled

    ways = sorted(resizing.FITS, key=lambda way: way != faithful.fit)
    chosen = search.telling_images(images, port, fitted, ways)
    mistakes = _found(trials, tried, chosen, (), progress)
    explanation = _account(trials, known, mistakes, chosen, images, progress)
    if explanation.complete or not explanation.remaining:
        return explanation
    # Images that were not searched on may show what those did not.
    others = [image for image in images if image.id in explanation.remaining]
    others.sort(key=lambda image: -sum(explanation.remaining[image.id]))
    again = _found(trials, tried, others[: search.SEARCHED], mistakes, progress)
    if set(again) == set(mistakes):
        return explanation
    chosen = [*chosen, *(item for item in others[: search.SEARCHED] if item not in chosen)]
    second = _account(trials, known, again, chosen, images, progress)
    fewer = second.unexplained + second.extra < explanation.unexplained + explanation.extra
    return second if fewer else explanation


def _found(
    trials: search.Trials,
    known: Sequence[Mistake],
    images: Sequence[CocoImage],
    start: search.Set,
    progress: Progress,
) -> search.Set:
    mistakes = search.select_forward(trials, known, images, start, progress)
    mistakes = search.pruned(trials, mistakes, images)
    return search.merged(trials, known, mistakes, images)


def _account(
    trials: search.Trials,
    known: Sequence[Mistake],
    mistakes: search.Set,
    chosen: Sequence[CocoImage],
    images: Sequence[CocoImage],
    progress: Progress,
) -> Explanation:
    """Count on all images what a set of mistakes explains."""
    stride = -(-len(images) // ACCOUNTED)
    counted = list(images[::stride])
    rivals = {one: search.alternatives(trials, known, mistakes, one, chosen) for one in mistakes}
    prefixes = [mistakes[:count] for count in range(len(mistakes) + 1)]
    lacking = [search.without(mistakes, one) for one in mistakes]
    replaced = [
        (one, other, search.added(search.without(mistakes, one), other))
        for one, others in rivals.items()
        for other in others
    ]
    with progress("counting equal boxes", "images") as told:
        for done, image in enumerate(images):
            told(done, len(images))
            extra = image in counted
            sets = [*prefixes, *lacking, *(item[2] for item in replaced)] if extra else []
            for each in (mistakes, *sets):
                trials.agreement(each, image)
        told(len(images), len(images))
    same = {
        one: [
            other
            for first, other, each in replaced
            if first is one
            and trials.total(each, counted).unequal == trials.total(mistakes, counted).unequal
        ]
        for one in mistakes
    }
    totals = [trials.total(prefix, counted) for prefix in prefixes]
    boxes = sum(len(trials.port[image.id]) for image in counted)

    def missing(total: search.Total) -> int:
        return total.unequal - (boxes - total.equal)

    final = {image.id: trials.agreement(mistakes, image) for image in images}
    remaining = {
        number: (int((~item.equal).sum()), item.lone)
        for number, item in sorted(final.items(), key=lambda pair: (-pair[1].unequal, pair[0]))
        if item.unequal
    }
    return Explanation(
        steps=[
            Step(
                mistake=one,
                alternatives=same[one],
                equal=total.equal,
                extra=missing(total),
                only_with=trials.total(rest, counted).unequal - totals[-1].unequal,
            )
            for one, rest, total in zip(mistakes, lacking, totals[1:], strict=True)
        ],
        searched=[image.id for image in chosen],
        counted=len(counted),
        boxes=boxes,
        start=totals[0].equal,
        start_extra=missing(totals[0]),
        images=len(images),
        all_boxes=sum(len(trials.port[image.id]) for image in images),
        unexplained=sum(own for own, _ in remaining.values()),
        extra=sum(more for _, more in remaining.values()),
        ties=sum(item.ties for item in final.values()),
        remaining=remaining,
    )
