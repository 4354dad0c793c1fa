"""Inputs of the golden arrays of pre- and postprocessing, and clustered boxes for NMS."""

from pathlib import Path

import numpy as np

from efficientdet_spec import get_config

SAMPLED = Path(__file__).parent / "golden" / "stages.npz"
MODELS = ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x")
IMAGES = range(5)
IMAGE_SCALE = np.float32(1.3)

# Name in the golden arrays, and the stages that differ from the official evaluation.
SELECTIONS = {"topk5000": {}, "maxreduce": {"selection": "max-per-anchor"}}
SUPPRESSIONS = {
    "numpy": {},
    "perclass": {"nms": "tf-soft"},
    "global": {"nms": "tf-soft", "scope": "global", "clipping": "input"},
}


def image(golden, number):
    """The golden image and the side of the network's input."""
    height, width, size = golden[f"pre{number}_hws"]
    y, x = np.mgrid[0:height, 0:width]
    base = 127 + 80 * np.sin(x / 17 + number) + 40 * np.cos(y / 9)
    noise = np.random.default_rng(number).normal(0, 25, (height, width, 3))
    return np.clip(base[..., None] + noise, 0, 255).astype(np.uint8), int(size)


def outputs(number):
    """The model, and for each level [A_l, 90] logits and [A_l, 4] codes."""
    name, seed, deviation, bias = (("d0", 101, 1.2, -4.8), ("d2", 102, 1.8, -6.0))[number]
    config = get_config(name)
    sizes = [h * w * 9 for h, w in config.feature_sizes(*config.image_size).values()]
    rng = np.random.default_rng(seed)
    shape = (1, sum(sizes))
    logits = (bias + deviation * rng.standard_normal((*shape, 90))).astype(np.float32)[0]
    codes = (0.3 * rng.standard_normal((*shape, 4))).astype(np.float32)[0]
    cuts = np.cumsum(sizes)[:-1]
    return config, np.split(logits, cuts), np.split(codes, cuts)


def golden_rows(golden, number, selection, suppression):
    """Boxes [y1, x1, y2, x2], scores and category ids that the official code gave."""
    rows = golden[f"post{number}_{selection}_{suppression}"]
    boxes = rows[:, [2, 1, 4, 3]] if suppression == "numpy" else rows[:, :4]
    return boxes, rows[:, -2], rows[:, -1]


def crowd(seed, count, classes, clusters, ties=False):
    """Boxes in clusters, as a detector makes them, with scores and classes.

    With ties many scores and boxes are equal.
    """
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(0, 500, (clusters, 2)), rng.uniform(20, 200, (clusters, 2))
    member = rng.integers(0, clusters, count)
    centre = centres[member] + rng.normal(0, 8, (count, 2))
    side = sides[member] * np.exp(rng.normal(0, 0.15, (count, 2)))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    scores = np.sort(1 / (1 + np.exp(-rng.normal(-5, 1.6, count))))[::-1]
    if ties:
        boxes, scores = np.round(boxes / 40) * 40, np.round(scores, 2)
    of_cluster = rng.integers(0, classes, clusters)[member]
    strays = rng.integers(0, classes, count)
    labels = np.where(rng.random(count) < 0.7, of_cluster, strays)
    return boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64)
