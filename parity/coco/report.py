"""The result of comparing two sides' detections on a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientdet_spec import get_config
from parity.coco.metrics import METRICS, Evaluation
from parity.coco.published import PUBLISHED, Measured, against_published
from parity.coco.swaps import StageSwap, SwapRow, image_failures
from parity.coco.titles import titles
from parity.detections.matching import Matching
from parity.detections.shard_files import Shard
from parity.process.outcome import Outcome
from parity.results.records.coco import (
    Bootstrap,
    Category,
    CocoResult,
    Compared,
    ImageCounts,
    PublishedResult,
)
from parity.results.records.shared import Checkpoint
from parity.results.records.stages import StageValues

if TYPE_CHECKING:
    from parity.pipelines.explanation import Explanation

METRIC_LIMIT = 1e-4
"""Largest difference of a metric that counts as parity: a tenth of the last digit that is ever
published, as in AP 34.3."""

TELLING_SPREAD = 0.05
"""Scores that spread less say little where they are equal: what they may differ by (0.0005, see
:mod:`parity.detections.matching`) is more than a hundredth of it. Those of a network that has
learned nothing are so alike."""


@dataclass(frozen=True)
class SideResults:
    """One side's results.

    Attributes:
        shards: Of all images.
        evaluation: Its metrics; None where nothing is known to be found.
    """

    shards: Sequence[Shard]
    evaluation: Evaluation | None

    @property
    def failures(self) -> dict[int, str]:
        """Why each image that failed did, by its id."""
        return {
            item.image_id: item.failure
            for shard in self.shards
            for item in shard.images
            if item.failure is not None
        }

    @property
    def images(self) -> int:
        """Number of images, the failed ones included."""
        return sum(len(shard.images) for shard in self.shards)

    def seconds_per_image(self) -> dict[str, float]:
        """Of each stage, over the images that did not fail."""
        count = max(self.images - len(self.failures), 1)
        totals: dict[str, float] = {}
        for shard in self.shards:
            for stage, seconds in shard.seconds.items():
                totals[stage] = totals.get(stage, 0.0) + seconds
        return {stage: round(seconds / count, 6) for stage, seconds in totals.items()}


@dataclass(frozen=True)
class CocoReport:
    """Everything that ``coco.json`` and the console tell.

    Attributes:
        model: Name of the model.
        checkpoint: Where it comes from.
        annotations: The annotation file.
        profile: Name and stages.
        size: (height, width) of the network's input in pixels.
        environment: What the result depends on besides its inputs.
        outcomes: By side, in the order of display.
        categories: Name by the model's class id.
        file_names: Of each image by its id.
        matching: The judged side's detections against the reference's; None where one is missing.
        interval: Of the difference of AP.
        stage_swap: PyTorch's pipeline with one stage at a time exchanged; None where not asked for.
        candidate: What takes the converted model's place, as results name it; None for nothing.
        notes: Sentences on how annotations and images were read, and how the candidate's
            detections came about.
        file_ids: Category id in the annotation file by class id, where it is another.
        explanation: The known mistakes that make the faithful pipeline's boxes the candidate's;
            None where they were not looked for.
        stages: What the stages of the profile did, in numbers.
        own: A hyperparameter of the model that is not the official one of its name; None where
            there is none.
    """

    model: str
    checkpoint: Checkpoint
    annotations: str
    profile: Mapping[str, str]
    size: tuple[int, int]
    environment: Mapping[str, Any]
    outcomes: Mapping[str, SideResults]
    categories: Mapping[int, str]
    file_names: Mapping[int, str]
    matching: Matching | None
    interval: Bootstrap | None
    stage_swap: StageSwap | None = None
    candidate: str | None = None
    notes: Sequence[str] = ()
    file_ids: Mapping[int, int] = field(default_factory=dict)
    explanation: Explanation | None = None
    stages: StageValues | None = None
    own: str | None = None

    @property
    def titles(self) -> Mapping[str, str]:
        """What people call each side, the reference first."""
        return titles(self.candidate)

    @property
    def complete(self) -> bool:
        """Whether every image went through every side."""
        return not any(outcome.failures for outcome in self.outcomes.values()) and (
            self.stage_swap is None or self.stage_swap.complete
        )

    @property
    def passes(self) -> bool:
        """Whether both sides' detections were compared and have parity."""
        return self.outcome is Outcome.PARITY

    @property
    def outcome(self) -> Outcome:
        """What the comparison says; :attr:`sentence` says why."""
        return self._judgement()[0]

    @property
    def sentence(self) -> str:
        """Why the outcome is what it is."""
        return self._judgement()[1]

    def _judgement(self) -> tuple[Outcome, str]:
        differences = self._differences()
        if differences:
            return Outcome.DIFFERENCE, "; ".join(differences)
        lack = self._lack()
        if lack:
            return Outcome.NOT_SHOWN, lack
        compared = self.compared()
        alone = (
            f"; AP is 0 on both sides, so that only the detections show it, with scores that "
            f"spread over {self._spread():.4f}"
            if self._finds_nothing()
            else ""
        )
        return Outcome.PARITY, (
            f"all {len(compared.metrics)} metrics agree over {compared.images} images, and "
            f"so do the detections{alone}"
        )

    def _differences(self) -> list[str]:
        """What differs by more than roundings explain."""
        found = []
        beyond = {
            name: delta
            for name, delta in self.deltas().items()
            if delta is not None and abs(delta) > METRIC_LIMIT
        }
        if beyond:
            name = max(beyond, key=lambda metric: abs(beyond[metric]))
            found.append(
                f"the metrics differ, {name} by {beyond[name]:+.6f} of at most {METRIC_LIMIT:g}"
            )
        if self.differing_stages():
            stages = ", ".join(
                f"{row.swap.stage} ({row.largest[0]} {row.largest[1]:+.6f})"
                for row in self.differing_stages()
                if row.largest
            )
            found.append(f"the metrics differ with TensorFlow's {stages}")
        if self.matching and self.matching.unexplained:
            values = self.matching.result()
            reference, judged = self.titles.values()
            found.append(
                f"detections differ: {values.apart} of {values.matched} pairs by more than "
                f"rounding explains, {values.reference_unexplained} of {reference}'s and "
                f"{values.candidate_unexplained} of {judged}'s are missing on the other side "
                f"without a reason"
            )
        made = self.explanation
        if made is not None and made.differs:
            unlike = made.boxes - made.start + made.start_extra
            named = len(made.steps)
            found.append(
                f"the program's boxes are not the faithful pipeline's: on {made.counted} images "
                f"{unlike} of both sides' have no equal one, "
                + (
                    f"and {named} known mistake{'s are' if named > 1 else ' is'} named"
                    if named
                    else "and no known mistake is named"
                )
            )
        return found

    def _lack(self) -> str:
        """Why what was compared cannot show parity; empty where it can."""
        compared = self.compared()
        if self.matching and not compared.images:
            return "incomplete: no image went through both sides, so nothing was compared"
        if not self.complete:
            return "incomplete: the metrics are of the images that no side failed on"
        if self.matching is None:
            return "one side alone was run, so nothing was compared"
        if not any(compared.detections.values()):
            return "neither side detected anything, so nothing was compared"
        pair = self._evaluations()
        if not compared.metrics or pair is None:
            return (
                f"no metric is defined, for the annotations have {compared.true_boxes} true "
                f"boxes in these images; of the detections {compared.matched} match"
            )
        if self._finds_nothing() and self._spread() < TELLING_SPREAD:
            return (
                f"AP is 0 on both sides: none of the true boxes was found, which a model that is "
                f"wrong achieves as well, and the scores spread over {self._spread():.4f} alone, "
                f"less than the {TELLING_SPREAD:g} from which on equal ones tell something"
            )
        return ""

    def _finds_nothing(self) -> bool:
        """Whether no side has found a true box."""
        return not any(side.metrics["AP"] for side in self._evaluations() or ())

    def _spread(self) -> float:
        """From the lowest to the highest score of the reference's detections."""
        first = self._in_order()[0]
        scores = [item.rows[:, 4] for shard in first.shards for item in shard.images]
        joined = np.concatenate(scores) if scores else np.zeros(0)
        return float(np.ptp(joined)) if len(joined) else 0.0

    def compared(self) -> Compared:
        """What the verdict rests on: counts of what both sides have."""
        pair = self._evaluations()
        images = self.matching.images if self.matching else ()
        usable = {item.image_id for item in images}
        return Compared(
            images=len(usable),
            detections={
                name: sum(
                    len(item.rows)
                    for shard in side.shards
                    for item in shard.images
                    if item.image_id in usable
                )
                for name, side in self.outcomes.items()
            },
            matched=sum(len(item.pairs) for item in images),
            true_boxes=_true_boxes(pair[0]) if pair else 0,
            metrics=[name for name, delta in self.deltas().items() if delta is not None],
        )

    def differing_stages(self) -> list[SwapRow]:
        """The stages of TensorFlow's that move a metric by more than :data:`METRIC_LIMIT`."""
        return self.stage_swap.differing(METRIC_LIMIT) if self.stage_swap else []

    def published(self) -> PublishedResult | None:
        """What the judged side's AP, or the reference's alone, says of the one Google publishes."""
        evaluations = [outcome.evaluation for outcome in reversed(self._in_order())]
        found = next((item for item in evaluations if item is not None), None)
        if found is None or self.model not in PUBLISHED:
            return None
        measured = Measured(
            ap=found.metrics["AP"],
            images=found.images,
            true_boxes=_true_boxes(found),
            profile=self.profile["name"],
            native_size=tuple(self.size) == get_config(self.model).image_size,
            checkpoint=self.checkpoint,
            own=self.own,
        )
        return against_published(self.model, measured)

    def deltas(self) -> dict[str, float | None]:
        """Judged side minus reference of each metric; empty where one of them is missing."""
        pair = self._evaluations()
        if pair is None:
            return {}
        reference, judged = pair
        return {name: _minus(judged.metrics[name], reference.metrics[name]) for name in METRICS}

    def category_deltas(self) -> dict[int, float | None]:
        """Judged side minus reference of each category's AP; empty where one of them is missing."""
        pair = self._evaluations()
        if pair is None:
            return {}
        reference, judged = pair
        return {
            number: _minus(judged.categories[number], reference.categories[number])
            for number in reference.categories
        }

    def _in_order(self) -> list[SideResults]:
        """The results of each side, the reference's first."""
        return [self.outcomes[name] for name in self.titles if name in self.outcomes]

    def _evaluations(self) -> tuple[Evaluation, Evaluation] | None:
        found = [outcome.evaluation for outcome in self._in_order()]
        if len(found) == 2 and found[0] is not None and found[1] is not None:
            return found[0], found[1]
        return None

    def result(self) -> CocoResult:
        """What is written of it, as ``coco.json``."""
        outcome, sentence = self._judgement()
        evaluations = {
            name: item.evaluation
            for name, item in self.outcomes.items()
            if item.evaluation is not None
        }
        return CocoResult(
            outcome=outcome,
            passes=outcome is Outcome.PARITY,
            sentence=sentence,
            compared=self.compared(),
            complete=self.complete,
            metric_limit=METRIC_LIMIT,
            model=self.model,
            checkpoint=self.checkpoint,
            candidate=self.candidate,
            notes=self.notes,
            annotations=self.annotations,
            profile=self.profile,
            stages=self.stages,
            size=self.size,
            environment=self.environment,
            images={name: _counts(item, self.file_names) for name, item in self.outcomes.items()},
            metrics={name: item.metrics for name, item in evaluations.items()},
            metric_deltas=self.deltas(),
            categories=self._categories(evaluations),
            precision_by_recall={name: item.curves for name, item in evaluations.items()},
            matching=self.matching.result() if self.matching else None,
            bootstrap=self.interval,
            stage_swap=self.stage_swap.result(self.file_names) if self.stage_swap else None,
            explanation=self.explanation.result(self.file_names) if self.explanation else None,
            published=self.published(),
            seconds_per_image={
                name: item.seconds_per_image() for name, item in self.outcomes.items()
            },
        )

    def _categories(self, evaluations: Mapping[str, Evaluation]) -> list[Category]:
        deltas = self.category_deltas()
        return [
            Category(
                id=self.file_ids.get(number, number),
                name=name,
                AP={side: item.categories.get(number) for side, item in evaluations.items()},
                delta=deltas.get(number),
            )
            for number, name in sorted(self.categories.items())
        ]


def _true_boxes(evaluation: Evaluation) -> int:
    """How many objects were to be found, crowds left out."""
    return int(sum(item.positives.sum() for item in evaluation.rankings))


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _counts(outcome: SideResults, names: Mapping[int, str]) -> ImageCounts:
    failures = outcome.failures
    return ImageCounts(outcome.images, len(failures), image_failures(failures, names))
