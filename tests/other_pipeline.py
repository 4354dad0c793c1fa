"""Another program that detects, written apart from the pipelines of the project.

It shares with them the network, which is made up here, and nothing else: anchors are counted out in
loops, codes are decoded corner by corner, boxes suppress each other one by one. ``wrong`` holds the
names of mistakes that it makes.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
import simplejpeg
import torch

from torch_model.postprocess import Outputs

CATEGORIES = [number for number in range(1, 21) if number not in (4, 9, 13)]
"""Ids that annotations have: as COCO's, with gaps."""

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@lru_cache
def _matrices(seed, classes, anchors):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(27, anchors * classes)), generator.normal(size=(27, anchors * 4))


def network(config, seed=0, *, blank=0.0):
    """A made-up network: what it predicts at a place depends on what lies there.

    Args:
        config: The model.
        seed: Another one is another network.
        blank: Added to the logits where nothing is to be seen. A padding that is not 0 else has
            the same high scores everywhere, of which it is chance which are taken.
    """

    def run(pixels):
        kinds = ([], [])
        for rows, columns in config.feature_sizes(*pixels.shape[:2]).values():
            blocks = cv2.resize(pixels, (columns * 3, rows * 3), interpolation=cv2.INTER_AREA)
            cells = blocks.reshape(rows, 3, columns, 3, 3).transpose(0, 2, 1, 3, 4)
            cells = cells.reshape(rows, columns, 27).astype(np.float64)
            logits, codes = (
                np.tanh(cells @ part / 4)
                for part in _matrices(seed, config.num_classes, config.num_anchors)
            )
            empty = cells.reshape(rows, columns, 9, 3).std(2).max(2, keepdims=True) < 1e-3
            logits = 6 * logits - 5.5 + blank * empty
            kinds[0].append(logits.astype(np.float32).reshape(-1, config.num_classes))
            kinds[1].append((0.6 * codes).astype(np.float32).reshape(-1, 4))
        return Outputs(*kinds)

    return run


def _read(path, wrong):
    if "opencv-decode" in wrong:
        return cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]
    return simplejpeg.decode_jpeg(path.read_bytes(), fastdct=True, fastupsample=False)


def _normalise(levels, wrong, config):
    x = levels.astype(np.float64)
    for name, mean, deviation in (
        ("normalise-imagenet", MEAN, DEVIATION),
        ("normalise-half", (127.5,) * 3, (127.5,) * 3),
        ("normalise-unit", (0,) * 3, (255,) * 3),
        ("normalise-levels", (0,) * 3, (1,) * 3),
        ("normalise-mean-only", MEAN, (255,) * 3),
        ("normalise-mean-only-levels", MEAN, (1,) * 3),
        ("normalise-reversed", MEAN[::-1], DEVIATION[::-1]),
        ("normalise-caffe", (103.939, 116.779, 123.68), (1,) * 3),
        ("normalise-lite", (127,) * 3, (128,) * 3),
        ("normalise-imagenet-levels", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ):
        if name in wrong:
            return (x - np.array(mean)) / np.array(deviation)
    if "normalise-advprop" in wrong:
        return x / 127.5 - 1
    x = (x - np.array(config.mean_rgb)) / np.array(config.stddev_rgb)
    return x / 127.5 - 1 if config.scale_range else x


def _torch(image, height, width, **how):
    x = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    x = torch.nn.functional.interpolate(x, (height, width), align_corners=False, **how)
    return x[0].permute(1, 2, 0).numpy()


def _legacy(image, height, width):
    """Each pixel by itself."""
    out = np.empty((height, width, 3))
    for y in range(height):
        sy = y * image.shape[0] / height
        y0, y1 = int(sy), min(int(sy) + 1, image.shape[0] - 1)
        for x in range(width):
            sx = x * image.shape[1] / width
            x0, x1 = int(sx), min(int(sx) + 1, image.shape[1] - 1)
            dy, dx = sy - y0, sx - x0
            out[y, x] = (image[y0, x0] * (1 - dx) + image[y0, x1] * dx) * (1 - dy)
            out[y, x] += (image[y1, x0] * (1 - dx) + image[y1, x1] * dx) * dy
    return out


def _resize(levels, height, width, wrong, config):
    """[h, w, 3] grey levels to normalised pixels."""
    size = (width, height)
    for name, way in (
        ("resize-first", cv2.INTER_LINEAR),
        ("opencv-cubic-levels", cv2.INTER_CUBIC),
        ("opencv-area", cv2.INTER_AREA),
        ("nearest", cv2.INTER_NEAREST),
    ):
        if name in wrong:
            return _normalise(
                cv2.resize(np.ascontiguousarray(levels), size, interpolation=way), wrong, config
            )
    if "nearest-centred" in wrong:
        rows = [int((y + 0.5) * levels.shape[0] / height) for y in range(height)]
        columns = [int((x + 0.5) * levels.shape[1] / width) for x in range(width)]
        return _normalise(levels[rows][:, columns], wrong, config)
    if "resize-first-rounded" in wrong:
        return _normalise(np.round(_torch(levels, height, width, mode="bilinear")), wrong, config)
    if "antialias-levels" in wrong:
        resized = _torch(levels, height, width, mode="bilinear", antialias=True)
        return _normalise(np.round(resized), wrong, config)
    x = _normalise(levels, wrong, config)
    if "legacy-resize" in wrong:
        return _legacy(x, height, width)
    if "opencv-cubic" in wrong:
        return cv2.resize(x, size, interpolation=cv2.INTER_CUBIC)
    if "torch-cubic" in wrong:
        return _torch(x, height, width, mode="bicubic")
    return _torch(x, height, width, mode="bilinear", antialias="antialias" in wrong)


def _size(h, w, side, wrong):
    if "stretched" in wrong:
        return (side / h, side / w), (side, side)
    scale = side / max(h, w)
    whole = int
    if "size-rounded" in wrong:
        whole = round
    if "size-ceil" in wrong:
        whole = math.ceil
    return (scale, scale), (min(whole(h * scale), side), min(whole(w * scale), side))


def _around(wrong, config):
    for name, level in (
        ("pad-black", (0, 0, 0)),
        ("pad-mean", (124, 116, 104)),
        ("pad-114", (114, 114, 114)),
        ("pad-127", (127, 127, 127)),
        ("pad-128", (128, 128, 128)),
        ("pad-white", (255, 255, 255)),
    ):
        if name in wrong:
            return _normalise(np.array(level), wrong, config)
    if "pad-one" in wrong or "pad-zero-last" in wrong:
        return 1.0 if "pad-one" in wrong else 0.0
    shifted = config.scale_range and not any(name.startswith("normalise-") for name in wrong)
    outside = "pad-minus-one" in wrong or "normalise-advprop" in wrong or shifted
    return -1.0 if outside else 0.0


def _anchors(config, side, wrong):
    ratios = [
        aspect if isinstance(aspect, tuple) else (math.sqrt(aspect), math.sqrt(1 / aspect))
        for aspect in ((1.0, 2.0, 0.5) if "sqrt-anchors" in wrong else config.aspect_ratios)
    ]
    if "pair-anchors" in wrong or "swapped-pair-anchors" in wrong:
        ratios = [(1, 1), (1.4, 0.7), (0.7, 1.4)]
    if any(name.startswith("swapped-") for name in wrong):
        ratios = [(tall, wide) for wide, tall in ratios]
    count = int(_number(wrong, "anchor-sizes-", config.num_scales))
    octave = _number(wrong, "anchor-octave-", count)
    boxes = []
    for level, (rows, columns) in config.feature_sizes(side, side).items():
        scale = config.anchor_scale
        if isinstance(scale, tuple):
            scale = scale[level - config.min_level]
        scale = _number(wrong, "anchor-scale-", scale)
        stride = side / rows
        places = [(row, column) for row in range(rows) for column in range(columns)]
        if "transposed-anchors" in wrong:
            places = [(column, row) for row, column in places]
        for row, column in places:
            shift = 0.0 if "corner-anchors" in wrong else 0.5
            move = 0.5 if "pixel-anchors" in wrong else 0.0
            cy, cx = (row + shift) * stride - move, (column + shift) * stride - move
            for step in range(count):
                for wide, tall in ratios:
                    size = scale * stride * 2 ** (step / octave)
                    boxes.append((cy, cx, size * tall, size * wide))
    return np.array(boxes)


def _decode(codes, anchors, wrong):
    ty, tx, th, tw = codes.astype(np.float64).T
    if "codes-xy" in wrong:
        ty, tx, th, tw = tx, ty, tw, th
    if "codes-sizes-first" in wrong:
        ty, tx, th, tw = th, tw, ty, tx
    if "variances" in wrong:
        ty, tx, th, tw = ty * 0.1, tx * 0.1, th * 0.2, tw * 0.2
    cy, cx, height, width = anchors.T
    h, w = np.exp(th) * height, np.exp(tw) * width
    y, x = ty * height + cy, tx * width + cx
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)


def _clip(boxes, wrong, when, side, scaled):
    limits = {
        f"clip-{when}": (side, side),
        f"clip-image-{when}": (scaled[1], scaled[0]),
    }
    for name, (right, bottom) in limits.items():
        if name in wrong:
            return np.clip(boxes, 0, [right, bottom, right, bottom])
    if f"clip-{when}-less" in wrong:
        boxes = boxes.copy()
        boxes[:, :2] = np.maximum(boxes[:, :2], 0)
        boxes[:, 2:] = np.minimum(boxes[:, 2:], side - 1)
    return boxes


def _iou(box, others, last):
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low + last, 0, None).prod(1)
    area = (box[2:] - box[:2] + last).prod()
    union = area + (others[:, 2:] - others[:, :2] + last).prod(1) - shared
    return np.divide(shared, union, out=np.zeros(len(others)), where=union > 0)


def _number(wrong, prefix, otherwise):
    return next(
        (float(name.removeprefix(prefix)) for name in wrong if name.startswith(prefix)), otherwise
    )


def _suppress(boxes, scores, labels, wrong):
    """Rows that are kept, and their scores."""
    limit = int(_number(wrong, "best-", 100))
    if "no-nms" in wrong:
        best = np.argsort(-scores, kind="stable")[:limit]
        return best, scores[best]
    hard = "hard-nms" in wrong or "plain-hard-nms" in wrong
    plain = wrong & {"plain-hard-nms", "tensorflow-nms", "no-last-pixel"}
    threshold, sigma = _number(wrong, "iou-", 0.5), _number(wrong, "sigma-", 0.5)
    left, kept, values = scores.astype(np.float64), [], []
    while len(kept) < limit and (left > 0.001).any():
        best = int(left.argmax())
        kept.append(best)
        values.append(left[best])
        overlap = _iou(boxes[best], boxes, 0.0 if plain else 1.0)
        if "class-agnostic" not in wrong:
            overlap = np.where(labels == labels[best], overlap, 0.0)
        left = (
            np.where(overlap > threshold, 0, left) if hard else left * np.exp(-(overlap**2) / sigma)
        )
        left[best] = 0
    return np.array(kept, int), np.array(values)


def _labels(labels, wrong):
    if "zero-based" in wrong:
        return labels.astype(float)
    if "background-class" in wrong:
        return labels + 2.0
    if "contiguous-zero" in wrong or "contiguous-one" in wrong:
        first = 1 if "contiguous-one" in wrong else 0
        numbers = {category: place + first for place, category in enumerate(CATEGORIES)}
        return np.array([numbers.get(label + 1, np.nan) for label in labels])
    if "taken-as-contiguous" in wrong:
        ids = dict(enumerate(CATEGORIES))
        return np.array([ids.get(label, np.nan) for label in labels])
    return labels + 1.0


def _write(boxes, image, side, wrong):
    x1, y1, x2, y2 = boxes.T
    w, h = x2 - x1, y2 - y1
    height, width = image
    ways = {
        "written-xyxy": (x1, y1, x2, y2),
        "written-yxyx": (y1, x1, y2, x2),
        "written-yxhw": (y1, x1, h, w),
        "written-y-first-sides": (y1, x1, w, h),
        "written-centre": (x1 + w / 2, y1 + h / 2, w, h),
        "written-xywh-plus-one": (x1, y1, w + 1, h + 1),
        "written-xyxy-less": (x1, y1, w - x1, h - y1),
        "written-normalised": (x1 / width, y1 / height, w / width, h / height),
        "written-normalised-xyxy": (x1 / width, y1 / height, x2 / width, y2 / height),
        "written-normalised-yxyx": (y1 / height, x1 / width, y2 / height, x2 / width),
        "written-normalised-input": (x1 / side, y1 / side, w / side, h / side),
    }
    return np.stack(next((ways[name] for name in ways if name in wrong), (x1, y1, w, h)), axis=1)


def _digits(rows, wrong):
    for name, boxes, scores in (
        ("rounded-whole", 0, None),
        ("rounded-tenths", 1, None),
        ("rounded-hundredths", 2, None),
        ("rounded-scores-2", None, 2),
        ("rounded-scores-3", None, 3),
        ("rounded-tenths-scores-3", 1, 3),
        ("rounded-hundredths-scores-3", 2, 3),
        ("rounded-submission", 1, 5),
    ):
        if name in wrong and boxes is not None:
            rows[:, :4] = np.round(rows[:, :4], boxes)
        if name in wrong and scores is not None:
            rows[:, 4] = np.round(rows[:, 4], scores)
    if "rounded-truncated" in wrong:
        rows[:, :4] = np.trunc(rows[:, :4])
    return rows


def detect(path, wrong, networks, config, side):
    """[K, 6] as x, y, width, height, score, category: what stands in its file of results.

    Args:
        path: A JPEG file.
        wrong: Names of the mistakes that it makes.
        networks: By name, ``faithful`` among them.
        config: The model.
        side: Of the square input, in pixels.
    """
    wrong = frozenset(wrong)
    image = _read(path, wrong)
    h, w = image.shape[:2]
    (sy, sx), (height, width) = _size(h, w, side, wrong)
    scaled = _resize(image[..., ::-1] if "bgr" in wrong else image, height, width, wrong, config)
    pixels = np.zeros((side, side, 3)) + _around(wrong, config)
    top, left = ((side - height) // 2, (side - width) // 2) if "centred" in wrong else (0, 0)
    pixels[top : top + height, left : left + width] = scaled
    which = {"raw-weights": "raw", "zero-padded-pool": "zero-padded-pool"}
    name = next((which[name] for name in which if name in wrong), "faithful")
    outputs = networks[name](pixels.astype(np.float32))
    logits, codes = np.concatenate(outputs.classes), np.concatenate(outputs.boxes)
    if "max-per-anchor" in wrong:
        rows, labels = np.arange(len(logits)), logits.argmax(1)
    else:
        count = int(_number(wrong, "top-", 5000))
        best = np.argsort(-logits, axis=None, kind="stable")[:count]
        rows, labels = np.unravel_index(best, logits.shape)
    scores = 1 / (1 + np.exp(-logits[rows, labels].astype(np.float64)))
    boxes = _decode(codes[rows], _anchors(config, side, wrong)[rows], wrong)
    boxes = _clip(boxes, wrong, "first", side, (h * sy, w * sx))
    kept, scores = _suppress(boxes, scores, labels, wrong)
    boxes = _clip(boxes[kept], wrong, "last", side, (h * sy, w * sx))
    if "scale-not-undone" not in wrong:
        if "offset-not-undone" not in wrong:
            boxes = boxes - [left, top, left, top]
        fy, fx = 1 / sy, 1 / sx
        if "scale-per-axis" in wrong:
            fy, fx = h / height, w / width
        if "scale-of-input" in wrong:
            fy, fx = h / side, w / side
        if "scale-inverted" in wrong:
            fy, fx = sy, sx
        boxes = boxes * [fx, fy, fx, fy]
    rows = np.column_stack(
        [_write(boxes, (h, w), side, wrong), scores, _labels(labels[kept], wrong)]
    )
    rows = rows[~np.isnan(rows).any(1) & (scores >= _number(wrong, "threshold-", 0.0))]
    rows = _digits(rows, wrong)
    return rows[np.argsort(-rows[:, 4], kind="stable")]
