"""From the network's outputs to detections: selection, box decoding, suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError
from torch_model import nms
from torch_model.profiles import MAX_CANDIDATES, Profile
from torch_model.surroundings import SuppressionValues, Surroundings

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_SAMPLE_STEP = 499
"""One logit in so many is looked at to guess a threshold; prime, so that classes take turns."""

FEW = 8192
"""So many candidates are looked at first where each anchor is one: the best 100 boxes of 80
photographs come from at most 6110."""

_AT_A_TIME = 2**18
"""Logits that are compared with a threshold at once: the answers stay in the processor's cache."""


@dataclass(frozen=True)
class Outputs:
    """The raw predictions for one image, level by level, as views where possible.

    Attributes:
        classes: For each level [A_l, num_classes] logits.
        boxes: For each level [A_l, 4] codes.
    """

    classes: Sequence[Floats]
    boxes: Sequence[Floats]

    @property
    def box_codes(self) -> Floats:
        """[A, 4] codes of all levels."""
        return np.concatenate(self.boxes)


@dataclass(frozen=True)
class Chosen:
    """Predictions that become candidates, highest logit first or in the anchors' order.

    Attributes:
        anchors: [K] index of the anchor.
        classes: [K] class index.
        logits: [K].
    """

    anchors: Integers
    classes: Integers
    logits: Floats

    def not_below(self, least: np.float32) -> Chosen:
        """Those whose logits are not below ``least``."""
        (places,) = (self.logits >= least).nonzero()
        return Chosen(self.anchors[places], self.classes[places], self.logits[places])


@dataclass(frozen=True)
class Detections:
    """The detections of one image, best first.

    Attributes:
        boxes: [M, 4] as [y1, x1, y2, x2] in pixels of the original image.
        scores: [M].
        classes: [M] class index; the category id is one more.
        profile: How they were made.
    """

    boxes: Floats
    scores: Floats
    classes: Integers
    profile: Profile

    @property
    def categories(self) -> Integers:
        """[M] category ids."""
        return self.classes + 1

    @property
    def coco_boxes(self) -> Floats:
        """[M, 4] as [x, y, width, height] in pixels of the original image, as COCO wants them."""
        y1, x1, y2, x2 = self.boxes.T
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Entries of a COCO results file."""
        return [
            {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
            for category, box, score in zip(
                self.categories.tolist(),
                self.coco_boxes.tolist(),
                self.scores.tolist(),
                strict=True,
            )
        ]


def split_outputs(
    class_outputs: Sequence[Tensor], box_outputs: Sequence[Tensor], num_classes: int
) -> list[Outputs]:
    """The network's outputs as arrays for each image.

    Args:
        class_outputs: For each level [N, num_anchors * num_classes, H_l, W_l].
        box_outputs: For each level [N, num_anchors * 4, H_l, W_l].
        num_classes: Number of classes.
    """

    def rows(levels: Sequence[Tensor], columns: int) -> list[Floats]:
        # Where features lie channels last in memory this copies nothing.
        return [
            level.permute(0, 2, 3, 1).reshape(len(level), -1, columns).float().cpu().numpy()
            for level in levels
        ]

    classes, boxes = rows(class_outputs, num_classes), rows(box_outputs, 4)
    return [
        Outputs([level[image] for level in classes], [level[image] for level in boxes])
        for image in range(len(class_outputs[0]))
    ]


def _refuse_nan(kind: str, values: Floats) -> None:
    # The highest of some numbers of which one is none is none.
    if values.size and np.isnan(values.max()):
        raise InputError(
            f"The network's {kind} outputs hold NaN: its weights or the image are damaged; "
            f"convert the checkpoint again or leave the image out.",
            Cause.MODEL,
        )


def _not_below(level: Floats, threshold: np.float32) -> Integers:
    """Where [n] logits are not below a threshold, so that no NaN is lost."""
    below = np.empty(min(len(level), _AT_A_TIME), bool)
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(level), _AT_A_TIME):
        part = level[start : start + _AT_A_TIME]
        answer = below[: len(part)]
        np.less(part, threshold, out=answer)
        np.logical_not(answer, out=answer)
        found.append(answer.nonzero()[0] + start)
    return np.concatenate(found)


def _all_not_below(levels: Sequence[Floats], threshold: np.float32) -> tuple[Integers, Floats]:
    """Places in all of the levels' logits, and these logits, that are not below a threshold."""
    places = [_not_below(level, threshold) for level in levels]
    logits = np.concatenate([level[at] for level, at in zip(levels, places, strict=True)])
    starts = np.cumsum([0, *(level.size for level in levels[:-1])])
    return np.concatenate([at + start for at, start in zip(places, starts, strict=True)]), logits


def select_top(classes: Sequence[Floats], count: int = MAX_CANDIDATES) -> Chosen:
    """The highest logits of all anchors and classes, highest first, of equal ones the first.

    A sample gives a threshold that a few more logits than wanted pass; only these are sorted.

    Args:
        classes: For each level [A_l, num_classes] logits.
        count: How many; all where there are fewer.

    Raises:
        InputError: The logits hold NaN.
    """
    levels = [level.reshape(-1) for level in classes]
    count = min(count, sum(level.size for level in levels))
    sample = np.concatenate([level[::_SAMPLE_STEP] for level in levels])
    rank = count // _SAMPLE_STEP + 1
    flat, logits = np.zeros(0, np.int64), np.zeros(0, np.float32)
    while len(flat) < count:
        rank = 3 * rank // 2 + 1
        threshold = (
            np.partition(sample, -rank)[-rank] if rank <= len(sample) else np.float32(-np.inf)
        )
        flat, logits = _all_not_below(levels, threshold)
    _refuse_nan("class", logits)
    best = nms.highest_first(logits)[:count]
    anchors, labels = np.divmod(flat[best], classes[0].shape[1])
    return Chosen(anchors, labels, logits[best])


def select_best_class(classes: Sequence[Floats]) -> Chosen:
    """The best class of each anchor (of equal ones the first), in the anchors' order.

    Args:
        classes: For each level [A_l, num_classes] logits.

    Raises:
        InputError: The logits hold NaN.
    """
    best = [level.argmax(1) for level in classes]
    logits = np.concatenate(
        [level[np.arange(len(at)), at] for level, at in zip(classes, best, strict=True)]
    )
    _refuse_nan("class", logits)
    return Chosen(np.arange(len(logits)), np.concatenate(best), logits)


def decode_boxes(codes: Floats, anchors: Floats) -> Floats:
    """Box codes to boxes: ``centre = t * size + centre``, ``size = exp(t) * size``.

    Args:
        codes: [K, 4] as [ty, tx, th, tw], relative to the anchors.
        anchors: [K, 4] as [y1, x1, y2, x2] in pixels.

    Returns:
        [K, 4] as [y1, x1, y2, x2] in pixels.
    """
    shift, growth = np.array(codes.T, np.float32, order="C").reshape(2, 2, -1)
    low, high = np.ascontiguousarray(anchors.T).reshape(2, 2, -1)
    sides, two = high - low, np.float32(2)
    with np.errstate(over="ignore"):
        # Rounded once: frameworks' float32 exponentials differ in the last bit.
        grown = np.exp(growth.astype(np.float64)).astype(np.float32)
    grown *= sides
    shift *= sides
    shift += (low + high) / two
    grown /= two
    boxes = np.concatenate([shift - grown, shift + grown])
    return np.ascontiguousarray(boxes.T)


def sigmoid(logits: Floats) -> Floats:
    """Scores, computed in double precision and rounded once."""
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def suppress(
    boxes: Floats, scores: Floats, groups: Integers, values: SuppressionValues
) -> nms.Kept:
    """Non-maximum suppression.

    Args:
        boxes: [K, 4] as [y1, x1, y2, x2] in pixels of the input.
        scores: [K].
        groups: [K]; boxes of one group suppress each other.
        values: The kind and its numbers.
    """
    limit = values.max_output_size
    iou, sigma, least = values.iou_thresh, values.sigma, values.score_thresh
    if values.implementation == "tensorflow":
        return nms.tensorflow_nms(
            boxes,
            scores,
            groups,
            # The op's sigma is half the paper's for the same weight.
            soft_sigma=(sigma or 0.0) / 2,
            iou_threshold=nms.HARD_IOU if iou is None else iou,
            score_threshold=-np.inf if least is None else least,
            limit=limit,
        )
    if values.method in ("hard", "diou"):
        assert iou is not None
        return nms.hard_nms(
            boxes, scores, groups, iou_threshold=iou, limit=limit, distance=values.method == "diou"
        )
    assert least is not None
    return nms.soft_nms(
        boxes,
        scores,
        groups,
        sigma=nms.SOFT_SIGMA if sigma is None else sigma,
        threshold=least,
        limit=limit,
        linear_iou=iou,
    )


def postprocess(
    outputs: Outputs,
    anchors: Floats,
    size: tuple[int, int],
    scale: np.float32,
    around: Surroundings,
) -> Detections:
    """One image's raw predictions to detections.

    Args:
        outputs: The network's predictions.
        anchors: [A, 4] as [y1, x1, y2, x2] in pixels of the input.
        size: (height, width) of the network's input.
        scale: Factor from pixels of the input to pixels of the original image.
        around: What follows the network.

    Raises:
        InputError: The predictions hold NaN.
    """
    if around.max_nms_inputs:
        chosen = select_top(outputs.classes, around.max_nms_inputs)
    else:
        chosen = select_best_class(outputs.classes)
    codes = outputs.box_codes
    _refuse_nan("box", codes)
    if len(chosen.logits) > 2 * FEW and _few_may_decide(around.suppression):
        least = np.partition(chosen.logits, -FEW)[-FEW]
        found = _detections(chosen.not_below(least), codes, anchors, size, scale, around)
        if _is_decided(found.scores, least, around.suppression):
            return found
    return _detections(chosen, codes, anchors, size, scale, around)


def _few_may_decide(values: SuppressionValues) -> bool:
    """Whether candidates of lower scores have no influence on those of higher ones.

    In NumPy's soft NMS they have: which of two equal scores comes first depends on their places.
    """
    return values.implementation == "tensorflow" or values.method in ("hard", "diou")


def _is_decided(scores: Floats, least: np.float32, values: SuppressionValues) -> bool:
    """Whether candidates with logits below ``least`` cannot be among the best.

    Args:
        scores: Kept of those that are not.
        least: A logit.
        values: Of the suppression, which never raises a score.
    """
    wanted = values.max_output_size
    return 0 < wanted == len(scores) and bool(scores[-1] > sigmoid(np.array([least]))[0])


def _detections(
    chosen: Chosen,
    codes: Floats,
    anchors: Floats,
    size: tuple[int, int],
    scale: np.float32,
    around: Surroundings,
) -> Detections:
    profile = around.profile
    scores = sigmoid(chosen.logits)
    # Whole rows are copied faster in this way than by an index.
    boxes = decode_boxes(codes.take(chosen.anchors, 0), anchors.take(chosen.anchors, 0))
    labels = chosen.classes
    groups = labels if profile.scope == "per-class" else np.zeros_like(labels)
    kept = suppress(boxes, scores, groups, around.suppression)
    boxes = boxes[kept.indices]
    if profile.clipping == "input":
        boxes = np.clip(boxes, np.float32(0), np.array([*size, *size], np.float32))
    return Detections(boxes * scale, kept.scores, labels[kept.indices], profile)
