"""What each stage of a pipeline is worth: metrics of detections with one stage exchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.coco.metrics import METRICS, Evaluation, evaluate
from parity.detections.annotations import Annotations
from parity.detections.matching import match
from parity.detections.rows import Rows
from parity.detections.shard_files import ImageResult
from parity.results.records.coco import ImageFailure, StageSwapResult, SwapOrigin, SwapResult

STAGES = ("decode", "preprocess", "network", "postprocess")
"""The stages that can be exchanged, in order."""

TENSORFLOW, MISTAKE = SwapOrigin.TENSORFLOW, SwapOrigin.MISTAKE


@dataclass(frozen=True)
class Swap:
    """A stage that takes the place of the pipeline's own.

    Attributes:
        slug: Short name, fit for a folder.
        title: One line for people.
        stage: The stage that it replaces, one of :data:`STAGES`.
        origin: Whose it is.
    """

    slug: str
    title: str
    stage: str
    origin: SwapOrigin


@dataclass(frozen=True)
class SwapRow:
    """What a swap does to the detections.

    Attributes:
        swap: The exchange.
        metrics: By :data:`parity.coco.metrics.METRICS`, over the images that neither framework's
            stages failed on; where a mistake did, nothing counts as found.
        deltas: The same minus those of the pipeline without an exchange.
        changed_images: Images whose detections differ in any number.
        matched: Detections that are also there without the exchange.
        baseline_only: Detections that the exchange loses.
        swap_only: Detections that it adds.
        failures: Why each image that failed did, by its id.
    """

    swap: Swap
    metrics: Mapping[str, float | None]
    deltas: Mapping[str, float | None]
    changed_images: int
    matched: int
    baseline_only: int
    swap_only: int
    failures: Mapping[int, str]

    @property
    def largest(self) -> tuple[str, float] | None:
        """The metric that moves most, and by how much; None where no metric has a meaning."""
        known = {name: delta for name, delta in self.deltas.items() if delta is not None}
        if not known:
            return None
        name = max(known, key=lambda metric: abs(known[metric]))
        return name, known[name]


@dataclass(frozen=True)
class StageSwap:
    """All swaps of a pipeline.

    Attributes:
        baseline: Metrics of the pipeline without an exchange.
        images: Number of images that neither framework's stages failed on; all metrics are of
            these.
        failures: Why each image that failed without an exchange did, by its id.
        rows: Of each swap.
    """

    baseline: Mapping[str, float | None]
    images: int
    failures: Mapping[int, str]
    rows: Sequence[SwapRow]

    @property
    def complete(self) -> bool:
        """Whether no image failed, mistaken stages aside."""
        frameworks = (row for row in self.rows if row.swap.origin == TENSORFLOW)
        return not self.failures and not any(row.failures for row in frameworks)

    def differing(self, limit: float) -> list[SwapRow]:
        """The swaps with the other framework's stage that move a metric by more than ``limit``."""
        return [
            row
            for row in self.rows
            if row.swap.origin == TENSORFLOW and row.largest and abs(row.largest[1]) > limit
        ]

    def result(self, file_names: Mapping[int, str]) -> StageSwapResult:
        """What is written of it.

        Args:
            file_names: Of each image by its id.
        """
        return StageSwapResult(
            baseline=self.baseline,
            images=self.images,
            failures=image_failures(self.failures, file_names),
            rows=[
                SwapResult(
                    slug=row.swap.slug,
                    title=row.swap.title,
                    stage=row.swap.stage,
                    origin=row.swap.origin,
                    metrics=row.metrics,
                    AP_delta=row.deltas["AP"],
                    metric_deltas=row.deltas,
                    images=self.images,
                    changed_images=row.changed_images,
                    matched=row.matched,
                    baseline_only=row.baseline_only,
                    swap_only=row.swap_only,
                    failures=image_failures(row.failures, file_names),
                )
                for row in self.rows
            ],
        )


def image_failures(failures: Mapping[int, str], names: Mapping[int, str]) -> list[ImageFailure]:
    """What is written of images that failed.

    Args:
        failures: Why each did, by its id.
        names: File name of each image by its id.
    """
    return [ImageFailure(number, names[number], reason) for number, reason in failures.items()]


def judge(
    annotations: Annotations,
    baseline: Sequence[ImageResult],
    swapped: Mapping[Swap, Sequence[ImageResult]],
    progress: Callable[[int, int], None],
) -> StageSwap:
    """What each swap does to the metrics.

    Args:
        annotations: With boxes.
        baseline: Detections of the pipeline without an exchange.
        swapped: Detections with each exchange, of the same images.
        progress: Told the number of swaps done and of all.

    Raises:
        InputError: pycocotools is not installed.
    """
    failures = {swap: _failed(results) for swap, results in swapped.items()}
    without = _failed(baseline)
    failed = set(without)
    for swap, items in failures.items():
        # A mistake that finds nothing fit for use on an image has found nothing.
        if swap.origin == TENSORFLOW:
            failed |= items.keys()
    usable = [item.image_id for item in baseline if item.image_id not in failed]
    table = _table(baseline, usable)
    plain = evaluate(annotations, usable, table)
    rows: list[SwapRow] = []
    for swap, results in swapped.items():
        progress(len(rows), len(swapped))
        rows.append(_row(annotations, swap, table, plain, _table(results, usable), failures[swap]))
    progress(len(rows), len(swapped))
    return StageSwap(plain.metrics, len(usable), without, rows)


def _failed(results: Sequence[ImageResult]) -> dict[int, str]:
    return {item.image_id: item.failure for item in results if item.failure is not None}


def _table(results: Sequence[ImageResult], usable: Sequence[int]) -> dict[int, Rows]:
    rows = {item.image_id: item.rows for item in results}
    return {number: rows[number] for number in usable}


def _row(
    annotations: Annotations,
    swap: Swap,
    baseline: Mapping[int, Rows],
    plain: Evaluation,
    found: Mapping[int, Rows],
    failures: Mapping[int, str],
) -> SwapRow:
    changed = [
        number for number, rows in found.items() if not np.array_equal(rows, baseline[number])
    ]
    # COCO's evaluation takes long, and equal detections have equal metrics.
    metrics = (evaluate(annotations, list(found), found) if changed else plain).metrics
    matching = match(baseline, found).result()
    return SwapRow(
        swap=swap,
        metrics=metrics,
        deltas={name: _minus(metrics[name], plain.metrics[name]) for name in METRICS},
        changed_images=len(changed),
        matched=matching.matched,
        baseline_only=matching.reference_only,
        swap_only=matching.candidate_only,
        failures=failures,
    )


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
