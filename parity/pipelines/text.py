"""The explanation of a port's boxes, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parity.pipelines.explanation import Explanation, Step

_SHOWN = 5


def explanation_text(explanation: Explanation, names: Mapping[int, str]) -> str:
    """The explanation in words.

    Args:
        explanation: The explanation.
        names: File name of each image by its id.
    """
    lines = [_head(explanation)]
    equal, extra = explanation.start, explanation.start_extra
    for number, step in enumerate(explanation.steps, 1):
        lines.append(_step(number, step, equal, extra, explanation.boxes))
        equal, extra = step.equal, step.extra
    lines.append(_rest(explanation))
    if explanation.steps and explanation.uncertain:
        lines.append(
            "  as long as that many are unexplained, one of these mistakes may stand for another "
            "that is not known, such as a number of which no list has the like"
        )
    lines += [
        f"  {names[number]}: {own} of the candidate's, {more} more of the pipeline's"
        for number, (own, more) in list(explanation.remaining.items())[:_SHOWN]
    ]
    return "\n".join(lines)


def _head(explanation: Explanation) -> str:
    if not explanation.steps:
        if explanation.complete:
            return (
                f"the candidate's whole pipeline: all {explanation.all_boxes:,} boxes equal the "
                f"faithful pipeline's; no mistake is named"
            )
        if not explanation.unexplained:
            return (
                f"the candidate's whole pipeline: all of its boxes equal the faithful pipeline's, "
                f"which has {explanation.extra:,} more; no mistake is named"
            )
        return "the candidate's whole pipeline: no known mistake makes boxes equal; none is named"
    count = len(explanation.steps)
    where = (
        f"{explanation.counted} images"
        if explanation.counted == explanation.images
        else f"{explanation.counted} of the {explanation.images} images"
    )
    return (
        f"the candidate's whole pipeline, explained by {count} known "
        f"mistake{'s' if count > 1 else ''} (of {where}, {explanation.boxes:,} boxes; equal "
        f"without any: {explanation.start:,})"
    )


def _step(number: int, step: Step, equal: int, extra: int, boxes: int) -> str:
    names = ", or ".join([step.mistake.title, *(item.title for item in step.alternatives)])
    if step.alternatives:
        names += " (these images do not tell them apart)"
    more = ""
    if extra or step.extra:
        more = f", boxes that it has not {extra:,} -> {step.extra:,}"
    return (
        f"  {number}. {names} [{step.mistake.stage}]: {equal:,} -> {step.equal:,} of {boxes:,} "
        f"boxes equal{more}; without it alone {step.only_with:,} are unequal"
    )


def _rest(explanation: Explanation) -> str:
    ties = (
        f" ({explanation.ties} of them but for the order of equal scores)"
        if explanation.ties
        else ""
    )
    if explanation.complete:
        return f"  all {explanation.all_boxes:,} boxes are equal{ties}; nothing is left unexplained"
    done = explanation.all_boxes - explanation.unexplained
    return (
        f"  {done:,} of {explanation.all_boxes:,} boxes are equal{ties}; UNEXPLAINED: "
        f"{explanation.unexplained:,} box{'' if explanation.unexplained == 1 else 'es'} of the "
        f"candidate, and {explanation.extra:,} of the pipeline that the candidate has not"
    )
