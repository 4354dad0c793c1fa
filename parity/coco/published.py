"""The AP that Google publishes for each model on COCO's val2017, and what ours says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from parity.results.records.coco import Agreement, PublishedFigure, PublishedResult
from parity.results.records.shared import Weights

VAL_IMAGES = 5000
"""Images of COCO val2017; an AP over fewer is another quantity."""

HALF_A_DIGIT = 0.0005
"""An AP published as 34.3 lies between 34.25 and 34.35; ours must lie there too, or that near a
figure published with more digits."""


_README = {
    "efficientdet-d0": 0.343,
    "efficientdet-d1": 0.402,
    "efficientdet-d2": 0.435,
    "efficientdet-d3": 0.468,
    "efficientdet-d4": 0.493,
    "efficientdet-d5": 0.512,
    "efficientdet-d6": 0.521,
    "efficientdet-d7": 0.534,
    "efficientdet-d7x": 0.544,
}
"""The table in the README of google/automl's efficientdet."""

_FILES = {
    "efficientdet-d0": ("coco2/val/d0_coco_val.txt", 0.34292528),
    "efficientdet-d1": ("coco2/val/d1_coco_val.txt", 0.40172336),
    "efficientdet-d2": ("coco2/val/d2_coco_val.txt", 0.43513247),
    "efficientdet-d3": ("coco2/val/d3_coco_val_softnms.txt", 0.47151694),
    "efficientdet-d4": ("d4_coco_val.txt of the first release", 0.48985106),
}
"""The evaluation's output beside the checkpoints; those of other models are not known here."""

PUBLISHED: Mapping[str, tuple[PublishedFigure, ...]] = MappingProxyType(
    {
        model: (
            PublishedFigure("README", ap),
            *([PublishedFigure(*_FILES[model])] if model in _FILES else []),
        )
        for model, ap in _README.items()
    }
)
"""Every figure for each model. Where Google's own disagree (D3, D4), both are given."""


def against_published(
    model: str, ap: float | None, *, images: int, weights: Weights, native_size: bool
) -> PublishedResult | None:
    """Judge an AP by the published ones; it says nothing about parity, which is judged by itself.

    Args:
        model: The model's name.
        ap: Of one framework, from 0 to 1.
        images: How many went into it.
        weights: Which of the checkpoint's values were taken.
        native_size: Whether the network's input had the model's own size.

    Returns:
        None for a model of which nothing is published.
    """
    rows = PUBLISHED.get(model)
    if rows is None:
        return None
    figures = ", ".join(f"{row.ap:.5g} ({row.source})" for row in rows)
    reasons = []
    if images != VAL_IMAGES:
        reasons.append(f"{images} images instead of the {VAL_IMAGES} of val2017")
    if weights is not Weights.EMA:
        reasons.append("weights that are not the moving averages")
    if not native_size:
        reasons.append("another input size")
    if ap is None:
        reasons.append("no AP")
    if ap is None or reasons:
        text = f"not comparable with the published {figures}: {', '.join(reasons)}"
        return _result(Agreement.NOT_COMPARABLE, text, rows, ap)
    nearest = min(rows, key=lambda row: abs(row.ap - ap))
    distance = ap - nearest.ap
    agrees = abs(distance) <= HALF_A_DIGIT
    verdict = Agreement.AGREES if agrees else Agreement.DIFFERS
    text = (
        f"AP {ap:.5f} {verdict.value}: {distance:+.5f} from {nearest.ap:.5g} ({nearest.source}), "
        f"of at most {HALF_A_DIGIT}; published: {figures}"
    )
    return _result(verdict, text, rows, ap)


def _result(
    verdict: Agreement, text: str, rows: Sequence[PublishedFigure], ap: float | None
) -> PublishedResult:
    return PublishedResult(ap=ap, rows=rows, limit=HALF_A_DIGIT, verdict=verdict, text=text)
