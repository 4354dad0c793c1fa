"""The stages around the network as plainly as they can be written, one number or row at a time."""

import heapq

import numpy as np

F = np.float32


def taps(size, target, half_pixel):
    """Lower and upper source index and the upper one's share of each target index."""
    scale = F(size) / F(target)
    for place in range(target):
        centre = (F(place) + F(0.5)) * scale - F(0.5) if half_pixel else F(place) * scale
        floor = np.floor(centre)
        low, high = int(floor), int(np.ceil(centre))
        yield min(max(low, 0), size - 1), min(max(high, 0), size - 1), centre - floor


def preprocess(image, height, width, half_pixel, mean, deviation):
    """[height, width, 3] for the network."""
    h, w = image.shape[:2]
    scale = min(F(height) / F(h), F(width) / F(w))
    rows, columns = int(F(h) * scale), int(F(w) * scale)
    levels = (image.astype(F) - np.array(mean, F)) / np.array(deviation, F)
    across = np.zeros((h, columns, 3), F)
    for x, (low, high, share) in enumerate(taps(w, columns, half_pixel)):
        across[:, x] = levels[:, low] + (levels[:, high] - levels[:, low]) * share
    result = np.zeros((height, width, 3), F)
    for y, (low, high, share) in enumerate(taps(h, rows, half_pixel)):
        result[y, :columns] = across[low] + (across[high] - across[low]) * share
    return result


def decode_box(code, anchor):
    """One box [y1, x1, y2, x2]."""
    sides = anchor[2:] - anchor[:2]
    middle = code[:2] * sides + (anchor[:2] + anchor[2:]) / F(2)
    half = np.exp(code[2:].astype(np.float64)).astype(F) * sides / F(2)
    return np.concatenate([middle - half, middle + half])


def plain_overlap(one, other):
    """As TensorFlow's op computes it."""
    low = [np.minimum(box[:2], box[2:]) for box in (one, other)]
    high = [np.maximum(box[:2], box[2:]) for box in (one, other)]
    areas = [
        (top[0] - bottom[0]) * (top[1] - bottom[1]) for top, bottom in zip(high, low, strict=True)
    ]
    if areas[0] <= 0 or areas[1] <= 0:
        return F(0)
    sides = np.maximum(np.minimum(*high) - np.maximum(*low), F(0))
    shared = sides[0] * sides[1]
    return shared / (areas[0] + areas[1] - shared)


def operation(boxes, scores, sigma, iou_threshold, least, limit):
    """TensorFlow's op with its priority queue; places and scores of the boxes taken."""
    queue = [(-score, place, 0) for place, score in enumerate(scores) if score > F(least)]
    heapq.heapify(queue)
    taken, kept = [], []
    scale = F(-0.5) / F(sigma) if sigma else F(0)
    while queue and len(taken) < limit:
        negative, place, seen = heapq.heappop(queue)
        score, out = -negative, False
        for other in reversed(taken[seen:]):
            overlap = plain_overlap(boxes[other], boxes[place])
            if sigma:
                score = F(score * F(np.exp(np.float64(F(F(scale * overlap) * overlap)))))
            elif not overlap <= F(iou_threshold):
                out = True
        if out:
            continue
        if score == -negative:
            taken.append(place)
            kept.append(score)
        elif score > F(least):
            heapq.heappush(queue, (-score, place, len(taken)))
    return taken, kept


def each_class(boxes, scores, classes, limit, **options):
    """The op for each class, and the best of all."""
    found = []
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        places, kept = operation(boxes[members], scores[members], limit=limit, **options)
        found += [(-score, members[place]) for place, score in zip(places, kept, strict=True)]
    found.sort(key=lambda item: item[0])
    indices = np.array([place for _, place in found[:limit]], np.int64)
    return indices, np.array([-negative for negative, _ in found[:limit]], F)
