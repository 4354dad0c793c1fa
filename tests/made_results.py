"""Results of a report made by hand, as the commands write them."""

import json

from handmade import distance, node, report, suspect

from efficientdet_spec import NodeKind
from parity.judge.limits import Limit
from parity.judge.verdict import Verdict
from parity.results.records import record
from parity.results.records.coco import CocoResult
from parity.results.records.conversion import ConversionResult
from parity.results.records.nodes import Contribution, NodesResult
from parity.results.records.record import plain
from parity.results.records.run import RunResult

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
CHECKPOINT = {"source": "model", "fingerprint": "0" * 64, "weights": "ema"}
SURROUNDINGS = {
    "checkpoint": CHECKPOINT,
    "profile": {"name": "official", "nms": "soft"},
    "size": [512, 512],
    "environment": {"threads": 2},
}
PICTURE = b"\x89PNG not looked at"


def nodes(*extra, failing=False, **other):
    """``nodes.json`` of a few nodes; a failing one with its suspect if asked for."""
    found = [
        node("backbone.stem_conv", Verdict.EXACT, "equal bit for bit, 5.9 of at most 16"),
        node("backbone.stem_bn", reason="PyTorch 2.1 of at most 16, TensorFlow 3.1e+02 of 16"),
        node("fpn.cells.0.nodes.0.fuse", kind=NodeKind.FUSE),
        *extra,
        node("class_head.predict.pointwise@P3", free=distance(3e-4)),
    ]
    if failing:
        wrong = node(
            "fpn.resample_p6.pool",
            Verdict.FUNCTION_DIFFERS,
            "PyTorch is 1.68e+07 roundings off",
            kind=NodeKind.POOL,
            from_exact=distance(1.7, 1.68e7),
            limit=Limit(0, 0, "must be exact"),
        )
        found.insert(2, wrong)
        guilty = suspect(
            wrong.name, slug="zero-pad", diagnosis="padded with zeros", tried=True, evidence=("so",)
        )
        other = {"suspects": [guilty], **other}
    options = {"model": "efficientdet-d0", "contributions": [Contribution(("a",), 0.9, 1.0)]}
    return plain(report(found, **{**options, **other}))


def two_inputs():
    """``nodes.json`` of two images, of which the second was the worst for the second node."""
    values = nodes()
    values["inputs"].append({**values["inputs"][0], "source": "photo.jpg", "batch": 2})
    values["nodes"][1]["input"] = 1
    return values


def as_record(values):
    """The record of a result's values."""
    return record.made(_KINDS[values["schema"]], values)


_KINDS = {
    record.identity(kind)[0]: kind
    for kind in (CocoResult, ConversionResult, NodesResult, RunResult)
}


def closeup(name):
    """A closer look at one node."""
    return {
        "node": name,
        "map": {"height": 4, "width": 4, "rows": 2, "columns": 2, "values": [[0.0, 1.0]] * 2},
        "channels": [1e-6, 2e-6, 3e-6],
        "scatter": {"reference": [1.0, 2.0], "candidate": [1.0, 2.5]},
        "histogram": {
            "edges": [0.01, 0.1, 1.0],
            "candidate": [3, 1],
            "reference": [2, 2],
            "zero": {"candidate": 4, "reference": 4},
        },
    }


def conversion():
    """``conversion.json`` of three variables."""
    variables = [
        row("stem/gamma/ExponentialMovingAverage", "ema", "backbone.stem_bn.weight"),
        row("cell_0/WSM", "raw", "fpn.cells.0.nodes.0.weights"),
        row("global_step", "excluded", "", "training step counter"),
    ]
    return {
        "schema": "efficientdet-parity/conversion",
        "version": 1,
        "model": "efficientdet-d0",
        "seconds": 0.9,
        "provenance": {"source": "model", "notes": ["a note"], "warnings": []},
        "ledger": {
            "model": "efficientdet-d0",
            "num_classes": 90,
            "weights": "ema",
            "counts": {"ema": 1, "raw": 1, "training step counter": 1},
            "findings": [],
            "notes": [],
            "variables": variables,
        },
    }


def row(variable, use, parameter, reason="as asked"):
    """A line of the ledger."""
    return {
        "variable": variable,
        "shape": [3, 4],
        "use": use,
        "parameter": parameter,
        "layout": "vector" if parameter else "",
        "reason": reason,
    }


def of_candidate(values, candidate="/ports/port.py:build"):
    """An evaluation, or detections, of a candidate in the place of the converted model."""
    text = json.dumps(values).replace('"torch":', '"candidate":')
    notes = ["The candidate returns its class outputs behind a sigmoid."]
    found = {**json.loads(text), "candidate": candidate, "notes": notes}
    return {**found, "stage_swap": None} if "stage_swap" in found else found


def coco(delta=0.0, complete=True, **other):
    """``coco.json``; every metric of PyTorch is off by ``delta``."""
    matching = {
        "matched": 8,
        "reference_only": 1,
        "candidate_only": 0,
        "largest_score_difference": 5e-5,
        "largest_box_difference_pixels": 0.011,
        "rank_flips": 1,
        "apart": 0,
        "reference_unexplained": 0,
        "candidate_unexplained": 0,
        "ties": 0,
    }
    failures = [] if complete else [{"image_id": 7, "file_name": "7.jpg", "reason": "cut short"}]
    counts = {"all": 80, "failed": len(failures), "failures": failures}
    curve = [0.5] * 101
    values = {
        "schema": "efficientdet-parity/coco",
        "version": 2,
        **outcome("difference" if delta else "parity" if complete else "not shown"),
        "compared": {
            "images": 80,
            "detections": {"tensorflow": 9, "torch": 8},
            "matched": 8,
            "true_boxes": 12,
            "metrics": list(METRICS),
        },
        "complete": complete,
        "metric_limit": 1e-4,
        "model": "efficientdet-d0",
        "annotations": "instances.json",
        **SURROUNDINGS,
        "images": {"tensorflow": counts, "torch": counts},
        "metrics": {
            "tensorflow": dict.fromkeys(METRICS, 0.25),
            "torch": dict.fromkeys(METRICS, 0.25 + delta),
        },
        "metric_deltas": dict.fromkeys(METRICS, delta),
        "categories": [
            {"id": 1, "name": "cat", "AP": {"tensorflow": 0.2, "torch": 0.3}, "delta": 0.1},
            {"id": 2, "name": "dog", "AP": {"tensorflow": 0.2, "torch": None}, "delta": None},
        ],
        "precision_by_recall": {
            side: {"AP": curve, "AP50": curve, "AP75": curve} for side in ("tensorflow", "torch")
        },
        "matching": {
            "min_iou": 0.5,
            "code_limit": 6.25e-4,
            "score_limit": 5e-4,
            **matching,
            "worst_images": [{"image_id": 139, **matching}],
        },
        "bootstrap": {
            "metric": "AP",
            "level": 0.95,
            "low": -1e-4,
            "high": 1e-4,
            "resamples": 300,
            "seed": 0,
        },
        "seconds_per_image": {
            "tensorflow": {"decode": 0.002, "network": 0.06},
            "torch": {"decode": 0.002, "network": 0.1},
        },
        "stage_swap": {
            "baseline": dict.fromkeys(METRICS, 0.25),
            "images": 80,
            "failures": [],
            "rows": [
                {
                    "slug": "nms",
                    "title": "TensorFlow's NMS",
                    "stage": "nms",
                    "origin": "tensorflow",
                    "metrics": dict.fromkeys(METRICS, 0.2),
                    "AP_delta": -0.05,
                    "metric_deltas": dict.fromkeys(METRICS, -0.05),
                    "images": 80,
                    "changed_images": 3,
                    "matched": 7,
                    "baseline_only": 1,
                    "swap_only": 0,
                    "failures": [],
                }
            ],
        },
        "published": {
            "AP": 0.25,
            "rows": [{"source": "README", "AP": 0.343}],
            "limit": 0.0005,
            "verdict": "not comparable",
            "text": "not comparable with the published 0.343 (README): 80 images",
            "assumed": [],
            "test_dev_AP": 0.346,
        },
    }
    return {**values, **other}


def outcome(word):
    """What every comparison says first."""
    return {"outcome": word, "passes": word == "parity", "sentence": f"as made for {word}"}


def detect(picture="one.png", **other):
    """``detect.json`` of one image."""
    matching = {
        "image_id": 1,
        "matched": 3,
        "reference_only": 0,
        "candidate_only": 0,
        "largest_score_difference": 1e-6,
        "largest_box_difference_pixels": 1e-3,
        "rank_flips": 0,
        "apart": 0,
        "reference_unexplained": 0,
        "candidate_unexplained": 0,
        "ties": 0,
    }
    values = {
        "schema": "efficientdet-parity/detect",
        "version": 2,
        **outcome("parity"),
        "compared": {
            "images": 1,
            "failed": 0,
            "detections": {"tensorflow": 3, "torch": 3},
            "matched": 3,
        },
        "min_score": 0.3,
        "model": "efficientdet-d0",
        **SURROUNDINGS,
        "columns": ["x", "y", "width", "height", "score", "category_id"],
        "images": [
            {
                "file": "photos/one.jpg",
                "failures": {},
                "detections": {"tensorflow": [], "torch": []},
                "picture": picture,
                "visibly_different": 0,
                "matching": matching,
            }
        ],
    }
    return {**values, **other}


def self_check(missed=False):
    """``self-check.json``: the faithful model and one fault."""
    fault = {"title": "bias of zeros", "place": "a.b", "nodes": ["a.b"], "names": ["bias"]}
    states = {"detected": not missed, "located": not missed, "named": not missed}
    control = {"title": "the faithful model", "place": None, "nodes": [], "names": []}
    states["passes"] = not missed
    fine = {"detected": False, "located": True, "named": True, "passes": True}
    return {
        "schema": "efficientdet-parity/self-check",
        "version": 1,
        "passes": not missed,
        "model": "efficientdet-d0",
        "checkpoint": CHECKPOINT,
        "images": {"source": "made", "height": 64, "width": 64, "batch": 1, "sha256": "0" * 64},
        "environment": {"threads": 2},
        "faults": [{**control, **fine}, {**fault, **states}],
    }


def step(name, status="done", exit_code=0, message="", **other):
    """One step of ``run.json``."""
    return {
        "name": name,
        "title": f"Do {name}",
        "command": ["compare.py", name],
        "status": status,
        "exit_code": exit_code,
        "message": message,
        "seconds": 1.5,
        "peak_memory_bytes": 2_000_000_000,
        "result": f"{name}.json",
        **other,
    }


def run(slug, **other):
    """``run.json``."""
    values = {
        "schema": "efficientdet-parity/run",
        "version": 2,
        "model": slug,
        "slug": slug,
        "source": f"checkpoints/{slug}",
        "trained": True,
        "started": "2026-11-24T00:00:00+00:00",
        "command": "python compare.py report all --out site",
        "environment": {"packages": {"torch": "2.13.0"}, "threads": None},
        "code": "0" * 64,
        "complete": True,
        "planned": [],
        "steps": [step("convert"), step("nodes"), step("structure")],
    }
    return {**values, **other}


STEPS = {"conversion": "convert", "self_check": "self-check"}
"""The steps that are called otherwise than their results."""

FILES = {
    "conversion": "conversion.json",
    "nodes": "nodes.json",
    "structure": "structure.json",
    "coco": "coco/coco.json",
    "detect": "detect/detect.json",
    "self_check": "self-check.json",
}


def write(folder, slug="efficientdet-d0", run_values=None, **results):
    """Write a model's results; those given as values, each by its name, with a step for each."""
    place = folder / slug
    place.mkdir(parents=True, exist_ok=True)
    values = dict(run(slug) if run_values is None else run_values)
    there = {item["name"] for item in values["steps"]}
    steps = [STEPS.get(name, name) for name in results]
    values["steps"] = [*values["steps"], *(step(name) for name in steps if name not in there)]
    (place / "run.json").write_text(json.dumps(values), "utf-8")
    for name, result in results.items():
        path = place / FILES[name]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result), "utf-8")
    if "detect" in results:
        (place / "detect" / "one.png").write_bytes(PICTURE)
    return place


def write_all(folder, slug="efficientdet-d0", **other):
    """Write a model's results with everything that there can be."""
    comparison = nodes()
    comparison["closeups"] = [closeup("backbone.stem_bn")]
    results = {
        "conversion": conversion(),
        "nodes": comparison,
        "structure": nodes(dtype="float64"),
        "coco": coco(),
        "detect": detect(),
        "self_check": self_check(),
    }
    return write(folder, slug, **{**results, **other})
