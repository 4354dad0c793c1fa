"""Time of the official soft NMS: this project's, and a plain loop with the same result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.turns import interleaved
from torch_model.nms import soft_nms

OURS = "torch_model"
PLAIN = "plain loop"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.soft_nms", description=__doc__)
    result.add_argument("--candidates", type=int, default=5000, help="default: 5000")
    result.add_argument("--repeats", type=int, default=20, help="default: 20, after two warm-ups")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return result


def candidates(count: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Boxes, scores and classes as a photograph gives them.

    Objects draw clusters of overlapping boxes, most of them of their own class; few scores are
    high. Half of the objects belong to one class.
    """
    rng = np.random.default_rng(seed)
    objects = 60
    centres, sides = rng.uniform(0, 512, (objects, 2)), rng.uniform(16, 200, (objects, 2))
    classes = np.where(rng.random(objects) < 0.5, 0, rng.integers(0, 90, objects))
    member = rng.integers(0, objects, count)
    centre = centres[member] + rng.normal(0, 8, (count, 2))
    side = sides[member] * np.exp(rng.normal(0, 0.15, (count, 2)))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    scores = np.sort(1 / (1 + np.exp(-rng.normal(-4.5, 1.5, count))))[::-1]
    labels = np.where(rng.random(count) < 0.7, classes[member], rng.integers(0, 90, count))
    return boxes.astype(np.float32), scores.astype(np.float32), labels


def plain_loop(boxes: Any, scores: Any, classes: Any) -> tuple[Any, Any]:
    """Indices and scores of the best 100: each class by itself, from the best box to the last."""
    indices, kept = [], []
    for label in np.unique(classes):
        left = np.flatnonzero(classes == label)
        lowered = scores[left]
        while len(left):
            best = int(lowered.argmax())
            left[[0, best]], lowered[[0, best]] = left[[best, 0]], lowered[[best, 0]]
            indices.append(left[0])
            kept.append(lowered[0])
            y1, x1, y2, x2 = boxes[left].T
            area = (x2 - x1 + 1) * (y2 - y1 + 1)
            width = np.maximum(np.minimum(x2[0], x2) - np.maximum(x1[0], x1) + 1, 0)
            height = np.maximum(np.minimum(y2[0], y2) - np.maximum(y1[0], y1) + 1, 0)
            shared = width * height
            overlap = shared / (area[0] + area - shared)
            lowered = (lowered * np.exp(-(overlap * overlap) / 0.5))[1:]
            stays = lowered >= 0.001
            left, lowered = left[1:][stays], lowered[stays]
    scores = np.array(kept, np.float32)
    order = np.argsort(-scores, kind="stable")[:100]
    return np.array(indices)[order], scores[order]


def measure(count: int, repeats: int) -> dict[str, Any]:
    """Both times and their ratio; the results are compared first."""
    crowd = candidates(count)
    kept, (indices, scores) = soft_nms(*crowd), plain_loop(*crowd)
    if not ((kept.indices == indices).all() and (kept.scores == scores).all()):
        raise SystemExit("the two results differ")
    calls: dict[str, Callable[[], object]] = {
        OURS: lambda: soft_nms(*crowd),
        PLAIN: lambda: plain_loop(*crowd),
    }
    rows = {name: common.summary(times) for name, times in interleaved(calls, repeats).items()}
    ratios = {
        key: round(rows[PLAIN][f"{key}_seconds"] / rows[OURS][f"{key}_seconds"], 1)
        for key in ("min", "median")
    }
    return {"candidates": count, "kept": len(indices), "rows": rows, "ratios": ratios}


def text(result: dict[str, Any]) -> str:
    """The result as a table."""
    lines = [("", "min ms", "median ms")]
    for name, row in result["rows"].items():
        times = [f"{1000 * row[f'{key}_seconds']:.1f}" for key in ("min", "median")]
        lines.append((name, *times))
    lines.append(("ratio", *(f"{result['ratios'][key]:.1f}" for key in ("min", "median"))))
    return common.table(lines)


def main() -> None:
    arguments = parser().parse_args()
    result = measure(arguments.candidates, arguments.repeats)
    print(text(result))
    common.write(arguments.json, "soft-nms", {**result, "repeats": arguments.repeats}, None)


if __name__ == "__main__":
    main()
