"""The stages around the network with TensorFlow's operations, as the official code has them.

Every function takes and returns tensors of one image and works in a TensorFlow 1 graph as well as
eagerly; both give the same bits where the graph's optimiser is off, as in
:func:`reference_tf.open_session` (it turns divisions into products). What the official code does in
NumPy (anchors, its own NMS) is NumPy here too, as plain loops, so that nothing is shared with the
PyTorch side that is compared with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from efficientdet_spec import Cause, EfficientDetConfig, InputError, Suppression
from efficientdet_spec.encoded import check_encoded, read_encoded

v1 = tf.compat.v1

MAX_CANDIDATES = 5000
"""Predictions that enter NMS in an evaluation, whatever ``max_nms_inputs`` says."""

FIXED_NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...], bool]] = {
    "imagenet": (
        (0.485 * 255, 0.456 * 255, 0.406 * 255),
        (0.229 * 255, 0.224 * 255, 0.225 * 255),
        False,
    ),
    "advprop": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), True),
    "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), False),
}
"""Mean and deviation in grey levels, and whether the range is shifted to -1..1 afterwards
(official ``hparams_config.py``)."""

FIXED_SUPPRESSIONS: Mapping[str, Suppression] = {
    "soft": Suppression(pyfunc=True),
    "tf-soft": Suppression(),
    "hard": Suppression(method="hard", pyfunc=True),
    "tf-hard": Suppression(method="hard"),
}
"""The official ``nms_configs`` of variants that ask no model."""

OFFICIAL_STAGES: Mapping[str, str] = {
    "decode": "fast-dct",
    "normalisation": "model",
    "resize": "half-pixel",
    "aspects": "model",
    "selection": "top-5000",
    "nms": "evaluation",
    "scope": "per-class",
    "clipping": "none",
}
"""The variant of each stage in the official evaluation of today."""


@dataclass(frozen=True)
class Boxes:
    """Boxes with scores and classes: candidates, or detections best first.

    Attributes:
        boxes: [K, 4] as [y1, x1, y2, x2].
        scores: [K].
        classes: [K] class index; the category id is one more.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor


def read_image(
    path: str | os.PathLike[str], stages: Mapping[str, str] = OFFICIAL_STAGES
) -> tf.Tensor:
    """An image file as [h, w, 3] RGB; eagerly.

    Raises:
        InputError: The file cannot be read, or TensorFlow decodes it to no single image.
    """
    data = read_encoded(path)
    # TensorFlow takes the memory for whatever a header claims, and ends the process without it.
    check_encoded(data, str(path))
    try:
        image = decode(data, stages)
    except tf.errors.OpError as error:
        raise InputError(
            f"{path} is no image that TensorFlow decodes ({error.message.splitlines()[0]:.120}); "
            f"give a JPEG, PNG or BMP file.",
            Cause.FORMAT,
        ) from error
    if image.shape.rank != 3:
        raise InputError(
            f"{path} is a sequence of frames; give a JPEG, PNG or BMP file.", Cause.FORMAT
        )
    return image


def decode(data: bytes | tf.Tensor, stages: Mapping[str, str] = OFFICIAL_STAGES) -> tf.Tensor:
    """An encoded image as [h, w, 3] RGB.

    Raises:
        tf.errors.InvalidArgumentError: When run, for data that are no image.
    """
    if stages["decode"] == "accurate-dct":
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.io.decode_image(data, channels=3)


def preprocess(
    image: tf.Tensor,
    config: EfficientDetConfig,
    size: tuple[int, int],
    stages: Mapping[str, str] = OFFICIAL_STAGES,
) -> tuple[tf.Tensor, tf.Tensor]:
    """An RGB image to the network's input.

    Args:
        image: [h, w, 3] grey levels.
        config: The model.
        size: (height, width) of the input in pixels.
        stages: The variant of each stage; ``normalisation`` and ``resize`` are used.

    Returns:
        [1, height, width, 3], and the factor from its pixels back to those of the image.
    """
    how = stages["normalisation"]
    if how in FIXED_NORMALISATIONS:
        mean, deviation, scale_range = FIXED_NORMALISATIONS[how]
    else:
        mean, deviation = config.mean_rgb, config.stddev_rgb
        # The official export leaves it out.
        scale_range = config.scale_range and how == "model"
    height, width = size
    image = tf.cast(tf.ensure_shape(image, [None, None, 3]), tf.float32)
    image -= tf.constant(mean, tf.float32)
    image /= tf.constant(deviation, tf.float32)
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.minimum(height / sides[0], width / sides[1])
    scaled = tf.cast(sides * scale, tf.int32)
    if stages["resize"] == "half-pixel":
        image = tf.image.resize(image, scaled, tf.image.ResizeMethod.BILINEAR)
    else:
        image = v1.image.resize_images(image, scaled, v1.image.ResizeMethod.BILINEAR)
    image = tf.image.pad_to_bounding_box(image, 0, 0, height, width)
    if scale_range:
        image = image * 2.0 / 255.0 - 1.0
    return image[None], 1.0 / scale


def make_anchors(
    config: EfficientDetConfig,
    height: int,
    width: int,
    stages: Mapping[str, str] = OFFICIAL_STAGES,
) -> NDArray[np.float32]:
    """[A, 4] as [y1, x1, y2, x2] in pixels of the input, in the order of the network's outputs.

    Raises:
        InputError: The stages have other anchors than the model, or it cannot process this size.
    """
    aspects = _sides(config, stages["aspects"])
    levels = []
    for place, (rows, columns) in enumerate(config.feature_sizes(height, width).values()):
        scale = config.anchor_scales[place]
        stride_y, stride_x = height / rows, width / columns
        x, y = np.meshgrid(
            np.arange(stride_x / 2, width, stride_x), np.arange(stride_y / 2, height, stride_y)
        )
        kinds = []
        for octave in range(config.num_scales):
            for wide, tall in aspects:
                grown = 2 ** (octave / config.num_scales)
                half_x = scale * stride_x * grown * wide / 2
                half_y = scale * stride_y * grown * tall / 2
                box = (y - half_y, x - half_x, y + half_y, x + half_x)
                kinds.append(np.stack([side.ravel() for side in box], axis=1))
        levels.append(np.stack(kinds, axis=1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def _sides(config: EfficientDetConfig, variant: str) -> list[tuple[float, float]]:
    """What an anchor's side is multiplied with to be its width and height, for each aspect."""
    ratios = config.aspect_ratios
    pairs = [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)]
    if variant == "pairs":
        if ratios not in ((1.0, 2.0, 0.5), tuple(pairs)):
            raise InputError(
                f"{config.name} has aspect_ratios of its own, which the sides 1.4 and 0.7 are not; "
                f"give aspects=model.",
                Cause.OPTION,
            )
        return pairs
    found = []
    for ratio in ratios:
        if isinstance(ratio, tuple):
            if variant == "sqrt":
                raise InputError(
                    f"{config.name} has pairs of anchor sides, of which there is no root; give "
                    f"aspects=model.",
                    Cause.OPTION,
                )
            found.append(ratio)
        else:
            found.append((np.sqrt(ratio), 1 / np.sqrt(ratio)))
    return found


def select(
    class_outputs: Sequence[tf.Tensor],
    box_outputs: Sequence[tf.Tensor],
    anchors: NDArray[np.float32],
    config: EfficientDetConfig,
    stages: Mapping[str, str] = OFFICIAL_STAGES,
) -> Boxes:
    """The network's outputs to candidates.

    Args:
        class_outputs: For each level [1, H_l, W_l, num_anchors * num_classes] logits.
        box_outputs: For each level [1, H_l, W_l, num_anchors * 4] codes ``[ty, tx, th, tw]``.
        anchors: [A, 4] as [y1, x1, y2, x2] in pixels.
        config: The model.
        stages: The variant of each stage; ``selection`` is used.
    """
    num_classes = config.num_classes
    logits = tf.concat([tf.reshape(level, [-1, num_classes]) for level in class_outputs], 0)
    codes = tf.concat([tf.reshape(level, [-1, 4]) for level in box_outputs], 0)
    wanted = {
        "top-5000": MAX_CANDIDATES,
        "max-per-anchor": 0,
        "model": config.suppression.max_nms_inputs,
    }[stages["selection"]]
    if wanted:
        flat = tf.reshape(logits, [-1])
        count = tf.minimum(wanted, tf.size(flat))
        # Unsorted as in the official code: candidates come in the order of the op's heap.
        logits, places = tf.math.top_k(flat, count, sorted=False)
        places, classes = places // num_classes, places % num_classes
        codes, chosen = tf.gather(codes, places), tf.gather(tf.constant(anchors), places)
    else:
        classes = tf.argmax(logits, -1, output_type=tf.int32)
        logits, chosen = tf.reduce_max(logits, -1), tf.constant(anchors)
    return Boxes(decode_boxes(codes, chosen), tf.sigmoid(logits), classes)


def decode_boxes(codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """[K, 4] codes relative to [K, 4] anchors to boxes [y1, x1, y2, x2]."""
    y1, x1, y2, x2 = tf.unstack(anchors, axis=-1)
    ty, tx, th, tw = tf.unstack(codes, axis=-1)
    height, width = y2 - y1, x2 - x1
    h, w = tf.exp(th) * height, tf.exp(tw) * width
    y, x = ty * height + (y1 + y2) / 2.0, tx * width + (x1 + x2) / 2.0
    return tf.stack([y - h / 2.0, x - w / 2.0, y + h / 2.0, x + w / 2.0], -1)


def suppress(
    candidates: Boxes, config: EfficientDetConfig, stages: Mapping[str, str] = OFFICIAL_STAGES
) -> Boxes:
    """Non-maximum suppression.

    Args:
        candidates: Boxes in pixels of the input.
        config: The model.
        stages: The variant of each stage; ``nms`` and ``scope`` are used.

    Returns:
        At most ``max_output_size`` boxes, best first.
    """
    configured = _configured(config, stages["nms"])
    classes = candidates.classes
    groups = classes if stages["scope"] == "per-class" else tf.zeros_like(classes)
    if configured.pyfunc:
        kept, scores = tf.numpy_function(
            partial(_each_group, _loop(configured), most=configured.max_output_size),
            [candidates.boxes, candidates.scores, groups],
            [tf.int64, tf.float32],
        )
    else:
        count = config.num_classes if stages["scope"] == "per-class" else 1
        kept, scores = _operation(candidates, groups, count, configured)
    return Boxes(tf.gather(candidates.boxes, kept), scores, tf.gather(classes, kept))


def _configured(config: EfficientDetConfig, variant: str) -> Suppression:
    """The ``nms_configs`` that a variant of the stage means."""
    if variant in FIXED_SUPPRESSIONS:
        return FIXED_SUPPRESSIONS[variant]
    own = config.suppression
    if variant == "exported":
        return replace(own, pyfunc=False)
    if variant == "evaluation" and own == Suppression():
        return FIXED_SUPPRESSIONS["soft"]
    return own


def _operation(
    candidates: Boxes, groups: tf.Tensor, count: int, configured: Suppression
) -> tuple[tf.Tensor, tf.Tensor]:
    """The op for each group; indices and scores of the best of all."""
    if configured.method == "hard":
        sigma, iou = 0.0, configured.iou_thresh or 0.5
        least = configured.score_thresh or float("-inf")
    else:
        sigma, iou = configured.sigma or 0.5, 0.5
        least = configured.score_thresh or 0.001
    most = configured.max_output_size
    indices, scores = [], []
    for group in range(count):
        members = tf.where(tf.equal(groups, group))[:, 0]
        kept, kept_scores, _ = tf.raw_ops.NonMaxSuppressionV5(
            boxes=tf.gather(candidates.boxes, members),
            scores=tf.gather(candidates.scores, members),
            max_output_size=most,
            iou_threshold=iou,
            score_threshold=least,
            # The op's sigma is half the paper's for the same weight.
            soft_nms_sigma=sigma / 2,
        )
        indices.append(tf.gather(members, kept))
        scores.append(kept_scores)
    all_scores = tf.concat(scores, 0)
    best = tf.minimum(most, tf.size(all_scores))
    ordered, places = tf.math.top_k(all_scores, best, sorted=True)
    return tf.gather(tf.concat(indices, 0), places), ordered


def _loop(configured: Suppression) -> Any:
    """The NumPy code that suppresses the boxes of one class."""
    if configured.method == "hard":
        return partial(hard_nms, iou_threshold=configured.iou_thresh or 0.5)
    if configured.method == "diou":
        iou = configured.iou_thresh or 0.5
        return partial(hard_nms, iou_threshold=iou, measure=_overlap_less_distance)
    if configured.method == "linear":
        iou, least = configured.iou_thresh or 0.3, configured.score_thresh or 0.001
        return partial(soft_nms, threshold=least, linear_above=iou)
    sigma, least = configured.sigma or 0.5, configured.score_thresh or 0.001
    return partial(soft_nms, sigma=sigma, threshold=least)


def _each_group(
    loop: Any,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    groups: NDArray[Any],
    most: int = 100,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A loop for each group; indices and scores of the best of all."""
    found: list[tuple[int, Any]] = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        found += [(members[place], score) for place, score in loop(boxes[members], scores[members])]
    found.sort(key=lambda item: -item[1])
    found = found[:most]
    return (
        np.array([index for index, _ in found], np.int64),
        np.array([score for _, score in found], np.float32),
    )


def _overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of [4] with [K, 4], every length counting the last pixel (+1)."""

    def area(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return (rows[..., 3] - rows[..., 1] + 1) * (rows[..., 2] - rows[..., 0] + 1)

    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    sides = np.maximum(high - low + 1, 0)
    shared = sides[:, 1] * sides[:, 0]
    return shared / (area(box) + area(others) - shared)


def soft_nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    sigma: float = 0.5,
    threshold: float = 0.001,
    linear_above: float | None = None,
) -> list[tuple[int, Any]]:
    """The official NumPy soft NMS of one class: index and score of each box kept.

    The box taken changes places with the first, which decides between equal scores later.
    """
    left, scores = np.arange(len(boxes)), scores.copy()
    found = []
    while len(left):
        best = int(scores.argmax())
        left[[0, best]], scores[[0, best]] = left[[best, 0]], scores[[best, 0]]
        found.append((int(left[0]), scores[0]))
        overlap = _overlap(boxes[left[0]], boxes[left[1:]])
        if linear_above is None:
            weight = np.exp(-(overlap * overlap) / sigma)
        else:
            weight = np.ones_like(overlap)
            weight[overlap > linear_above] -= overlap[overlap > linear_above]
        lowered = scores[1:] * weight
        stays = lowered >= threshold
        left, scores = left[1:][stays], lowered[stays]
    return found


def _overlap_less_distance(
    box: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float32]:
    """IoU less the squared distance of the centres over that of the diagonal around both boxes."""
    low, high = np.minimum(box[:2], others[:, :2]), np.maximum(box[2:], others[:, 2:])
    diagonal = ((low - high) ** 2).sum(1)
    apart = (box[:2] + box[2:]) / 2 - (others[:, :2] + others[:, 2:]) / 2
    return _overlap(box, others) - (apart**2).sum(1) / (diagonal + 1e-10)


def hard_nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    iou_threshold: float = 0.5,
    measure: Any = None,
) -> list[tuple[int, Any]]:
    """The official NumPy hard NMS of one class: index and score of each box kept."""
    measure = measure or _overlap
    left = scores.argsort(kind="stable")[::-1]
    found = []
    while len(left):
        found.append((int(left[0]), scores[left[0]]))
        left = left[1:][measure(boxes[left[0]], boxes[left[1:]]) <= iou_threshold]
    return found


def postprocess(
    class_outputs: Sequence[tf.Tensor],
    box_outputs: Sequence[tf.Tensor],
    config: EfficientDetConfig,
    size: tuple[int, int],
    scale: tf.Tensor,
    stages: Mapping[str, str] = OFFICIAL_STAGES,
) -> Boxes:
    """The network's outputs for one image to detections.

    Args:
        class_outputs: As for :func:`select`.
        box_outputs: As for :func:`select`.
        config: The model.
        size: (height, width) of the network's input.
        scale: Factor from pixels of the input to pixels of the original image.
        stages: The variant of each stage.

    Returns:
        At most ``max_output_size``, best first, in pixels of the original image.

    Raises:
        InputError: The stages have other anchors than the model, or it cannot process this size.
    """
    anchors = make_anchors(config, *size, stages)
    candidates = select(class_outputs, box_outputs, anchors, config, stages)
    kept = suppress(candidates, config, stages)
    boxes = kept.boxes
    if stages["clipping"] == "input":
        boxes = tf.clip_by_value(boxes, 0.0, tf.constant([*size, *size], tf.float32))
    return Boxes(boxes * scale, kept.scores, kept.classes)
