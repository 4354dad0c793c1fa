"""What result files must look like before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome

Check = Callable[[Any, str], None]
"""Raises :class:`Unexpected` unless the value, found at the place, is as it should be."""


class Unexpected(ValueError):
    """A value that is not what its place in a result file is for."""


def _kind(name: str, accepts: Callable[[Any], bool]) -> Check:
    def check(value: Any, place: str) -> None:
        if not accepts(value):
            raise Unexpected(f"{place or 'the file'} is {_shown(value)}, expected {name}")

    return check


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return f"{value!r:.40}"


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return isinstance(value, int | float) and not isinstance(value, bool)


text = _kind("a text", lambda value: isinstance(value, str))
flag = _kind("true or false", lambda value: isinstance(value, bool))
whole = _kind("a whole number", lambda value: isinstance(value, int) and value is not True)
figure = _kind("a number", _is_number)
anything: Check = _kind("a value", lambda _: True)
mapping = _kind("an object", lambda value: isinstance(value, dict))


def one_of(*values: str) -> Check:
    """One of some texts."""
    return _kind(f"one of {', '.join(values)}", lambda value: value in values)


def maybe(check: Check) -> Check:
    """The value, or null."""

    def checked(value: Any, place: str) -> None:
        if value is not None:
            check(value, place)

    return checked


def items(check: Check, length: int | None = None) -> Check:
    """A list of such values, of a given length if one is given."""

    def checked(value: Any, place: str) -> None:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            expected = "a list" if length is None else f"a list of {length}"
            raise Unexpected(f"{place or 'the file'} is {_shown(value)}, expected {expected}")
        for index, item in enumerate(value):
            check(item, f"{place}[{index}]")

    return checked


def named(check: Check) -> Check:
    """An object whose values are all such."""

    def checked(value: Any, place: str) -> None:
        mapping(value, place)
        for name, item in value.items():
            check(item, f"{place}.{name:.40}")

    return checked


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with some fields, and perhaps others.

    Args:
        required: Fields that must be there.
        optional: Fields that may be missing.
    """

    def checked(value: Any, place: str) -> None:
        mapping(value, place)
        for name, check in required.items():
            if name not in value:
                raise Unexpected(f"{place or 'the file'} has no {name}")
            check(value[name], f"{place}.{name}".lstrip("."))
        for name, check in (optional or {}).items():
            if name in value:
                check(value[name], f"{place}.{name}".lstrip("."))

    return checked


def _filled(check: Check) -> Check:
    """A list of at least one."""

    def checked(value: Any, place: str) -> None:
        check(value, place)
        if not value:
            raise Unexpected(f"{place} is empty, expected at least one entry")

    return checked


VERDICTS = tuple(verdict.value for verdict in Verdict)
"""What may be said of a node."""

_OUTCOME = one_of(*(outcome.value for outcome in Outcome))
_JUDGED: Mapping[str, Check] = {"outcome": _OUTCOME, "passes": flag, "sentence": text}
"""What every comparison says first."""

_DIFFERENCE = fields(
    {
        "rms": figure,
        "rms_difference": figure,
        "max_difference": figure,
        "relative_rms": figure,
        "relative_max": figure,
        "max_index": items(whole),
        "roundings": maybe(figure),
    }
)
_NODE = fields(
    {
        "name": text,
        "input": whole,
        "silent": flag,
        "tensor": maybe(text),
        "kind": maybe(text),
        "shape": maybe(items(whole)),
        "verdict": one_of(*VERDICTS),
        "reason": text,
        "free": maybe(_DIFFERENCE),
        "own": maybe(_DIFFERENCE),
        "from_exact": maybe(_DIFFERENCE),
        "reference_from_exact": maybe(_DIFFERENCE),
        "functions_apart": maybe(figure),
        "limit": maybe(
            fields({"candidate": maybe(figure), "reference": maybe(figure), "reason": text})
        ),
        "detectable": maybe(figure),
        "constant_channels": whole,
        "identical_inputs": flag,
        "wrong_inputs": items(text),
        "inherited": maybe(figure),
        "amplification": maybe(figure),
    }
)
_VALUES = items(maybe(figure))
_CLOSEUP = fields(
    {
        "node": text,
        "map": fields(
            {
                "height": whole,
                "width": whole,
                "rows": whole,
                "columns": whole,
                "values": items(_VALUES),
            }
        ),
        "channels": _VALUES,
        "scatter": fields({"tensorflow": _VALUES, "torch": _VALUES}),
        "histogram": fields(
            {
                "edges": items(figure),
                "torch": items(whole),
                "tensorflow": items(whole),
                "zero": fields({"torch": whole, "tensorflow": whole}),
            }
        ),
    }
)
_INPUT = fields(
    {
        "source": text,
        "height": whole,
        "width": whole,
        "batch": whole,
        "sha256": text,
        "outcome": _OUTCOME,
        "counts": named(whole),
        "largest_relative_max": maybe(figure),
        "largest_node": maybe(text),
        "seconds": named(figure),
    }
)
_COVERAGE = fields(
    {
        "nodes": whole,
        "covered": whole,
        "detectable": maybe(figure),
        "detectable_node": maybe(text),
        "assumed": items(text),
        "notes": items(text),
        "text": items(text),
    }
)
NODES = fields(
    {
        **_JUDGED,
        "summary": fields({"text": text, "node": maybe(text), "diagnosis": maybe(text)}),
        "nodes_pass": flag,
        "model": text,
        "dtype": text,
        "checkpoint": fields({"source": text, "fingerprint": text, "weights": text}),
        "reference": fields({"kind": text, "source": text}, {"notes": items(text)}),
        "candidate": text,
        "inputs": _filled(items(_INPUT)),
        "coverage": _COVERAGE,
        "environment": mapping,
        "counts": fields({name: whole for name in VERDICTS}),
        "largest_relative_max": maybe(figure),
        "largest_node": maybe(text),
        "outputs": items(text),
        "contributions": items(fields({"nodes": items(text), "share": figure, "size": figure})),
        "suspects": items(
            fields(
                {
                    "nodes": items(text),
                    "verdict": one_of(*VERDICTS),
                    "affected": whole,
                    "outputs": whole,
                    "slug": maybe(text),
                    "diagnosis": maybe(text),
                    "evidence": items(text),
                    "patterns": items(text),
                    "tried": flag,
                }
            )
        ),
        "findings": items(fields({"slug": text, "place": text, "text": text})),
        "seconds": named(figure),
        "peak_memory_bytes": whole,
        "nodes": items(_NODE),
    },
    {"closeups": items(_CLOSEUP), "gradients": maybe(fields({"passes": flag}))},
)
CONVERSION = fields(
    {
        "ledger": fields(
            {
                "counts": named(whole),
                "findings": items(text),
                "notes": items(text),
                "variables": items(
                    fields(
                        {
                            "variable": text,
                            "shape": items(whole),
                            "use": text,
                            "parameter": text,
                            "layout": text,
                            "reason": text,
                        }
                    )
                ),
            }
        )
    },
    {
        "seconds": figure,
        "provenance": fields({}, {"notes": items(text), "warnings": items(text)}),
        "config": fields({}, {"image_size": items(whole, 2), "num_classes": whole}),
    },
)
_MATCH = {
    "matched": whole,
    "reference_only": whole,
    "candidate_only": whole,
    "largest_score_difference": figure,
    "largest_box_difference_pixels": figure,
    "rank_flips": whole,
    "apart": whole,
    "reference_unexplained": whole,
    "candidate_unexplained": whole,
}
_METRICS = named(maybe(figure))
COCO = fields(
    {
        **_JUDGED,
        "compared": fields(
            {
                "images": whole,
                "detections": named(whole),
                "matched": whole,
                "true_boxes": whole,
                "metrics": items(text),
            }
        ),
        "complete": flag,
        "metric_limit": figure,
        "annotations": text,
        "profile": named(anything),
        "images": named(
            fields(
                {
                    "all": whole,
                    "failed": whole,
                    "failures": items(fields({"file_name": text, "reason": text})),
                }
            )
        ),
        "metrics": named(_METRICS),
        "metric_deltas": _METRICS,
        "categories": items(
            fields({"id": whole, "name": text, "AP": _METRICS, "delta": maybe(figure)})
        ),
        "matching": maybe(
            fields(_MATCH | {"worst_images": items(fields({"image_id": whole} | _MATCH))})
        ),
        "bootstrap": maybe(
            fields(
                {"low": maybe(figure), "high": maybe(figure), "level": figure, "resamples": whole}
            )
        ),
        "seconds_per_image": named(named(figure)),
    },
    {
        "precision_by_recall": named(named(items(figure))),
        "stage_swap": maybe(
            fields(
                {
                    "baseline": _METRICS,
                    "rows": items(
                        fields(
                            {
                                "slug": text,
                                "title": text,
                                "stage": text,
                                "origin": text,
                                "metrics": _METRICS,
                                "AP_delta": maybe(figure),
                            }
                        )
                    ),
                }
            )
        ),
        "published": maybe(
            fields(
                {
                    "AP": maybe(figure),
                    "rows": items(fields({"source": text, "AP": maybe(figure)})),
                    "verdict": text,
                    "text": text,
                }
            )
        ),
    },
)
DETECT = fields(
    {
        **_JUDGED,
        "images": items(
            fields(
                {"file": text, "failures": named(text)},
                {
                    "picture": text,
                    "visibly_different": whole,
                    "matching": fields(_MATCH),
                },
            )
        ),
    }
)
STATUSES = ("done", "failed", "skipped")
RUN = fields(
    {
        "model": text,
        "slug": text,
        "source": text,
        "trained": flag,
        "started": text,
        "command": text,
        "environment": mapping,
        "code": text,
        "complete": flag,
        "planned": items(fields({"name": text, "title": text})),
        "steps": items(
            fields(
                {
                    "name": text,
                    "title": text,
                    "command": items(text),
                    "status": one_of(*STATUSES),
                    "exit_code": maybe(whole),
                    "message": text,
                    "seconds": maybe(figure),
                    "peak_memory_bytes": maybe(whole),
                    "result": maybe(text),
                },
                {
                    "reused": flag,
                    "earlier": flag,
                    "again": text,
                    "reads": maybe(named(maybe(text))),
                    "outputs": named(maybe(text)),
                },
            )
        ),
    },
    {"note": text},
)
SELF_CHECK = fields(
    {
        "passes": flag,
        "faults": items(
            fields(
                {
                    "title": text,
                    "detected": flag,
                    "located": flag,
                    "named": flag,
                    "nodes": items(text),
                },
                {"place": maybe(text)},
            )
        ),
    }
)
