"""Two faults in one node, where no single one reproduces its output.

They are put together in two ways. Two that change different parts of a convolution or of a batch
norm (its padding and its bias, its epsilon and its gamma) make one with both changes. And a fault
in what becomes of an output (channels in another order, values elsewhere) may come on top of any.

Only faults without a number that has to be fitted take part, and of all pairs a bounded number is
tried, the likeliest first. A pair is a name only if it reproduces the whole output and if either
fault alone is far from it: what is one fault, or none that is known here, is not called two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from parity.faults.basics.case import ALL, Case, Evaluation, Hypothesis, computed
from parity.faults.basics.operations import BatchNorm, Convolution, faithful
from parity.faults.catalogue import CATALOGUE, FAMILIES
from parity.faults.families import general, predictions

SEPARATOR = "+"
"""Between the names of two faults."""

CONSTANTS = 2
"""What a pair counts as beside numbers that are fitted: two choices."""

_LAST = (*predictions.FAULTS, *general.WHOLE, *general.MOVED)
"""Faults in what becomes of an output, whatever makes it."""

_FIRST = frozenset(
    fault.slug
    for family in ("images", "convolution", "other padding", "batch norm", "activation and gate",
                   "fusion", "mean", "scale and sum", "max-pool and up-sampling")
    for fault in FAMILIES[family]
)  # fmt: skip
"""Faults in what an operation computes."""

_ALIKE = 12
"""Faults under one name that take part: other nodes' parameters come in the order of likeliness."""

_WORK = 1e9
"""Products that may be computed for all pairs together; a bound, so that a search ends."""

_PAIRS = 4000
"""Pairs that are tried at most, however small the node is."""

_TELLING = 8
"""Values that either fault alone has to miss, so that both are needed to explain them."""

_FAR = 10
"""How many bounds away from such a value a single fault has to be."""


@dataclass(frozen=True)
class _Single:
    """A fault with no fitted number, and the parts of the operation that it changes.

    Attributes:
        hypothesis: It.
        changes: By name of a part its new value; None where it is not known in parts.
    """

    hypothesis: Hypothesis
    changes: dict[str, Any] | None


def pairs(case: Case, singles: Sequence[Hypothesis]) -> Iterator[Hypothesis]:
    """Pairs of faults, the likeliest first; each is still to be held against the output.

    Args:
        case: The failing node.
        singles: All single hypotheses about it, in the order of the catalogue.
    """
    if case.candidate.numel() < _TELLING:
        return
    own = faithful(case)
    known = list(_taking_part(singles, own))
    count = int(min(_PAIRS, max(_PAIRS // 20, _WORK // _cost(own))))
    yield from islice(_both(case, known, own), count)
    yield from islice(_on_top(case, known), count)


def needs_both(case: Case, pair: Hypothesis, singles: Sequence[Hypothesis]) -> bool:
    """Whether neither fault of a pair explains the output without the other.

    Args:
        case: The node.
        pair: The pair, which reproduces it.
        singles: The single hypotheses.
    """
    parts = set(pair.slug.split(SEPARATOR))
    titles = set(pair.title.split(_AND))
    for single in singles:
        if single.slug in parts and single.title in titles and not _misses(case, single):
            return False
    return True


_AND = "; and "


def _misses(case: Case, single: Hypothesis) -> bool:
    try:
        output, gauge = single.evaluate(ALL)
    # What cannot be computed explains nothing.
    except Exception:
        return True
    if output.shape != case.candidate.shape:
        return True
    apart = (case.candidate.double() - output).abs()
    far = apart > _FAR * case.bound * case.unit * (gauge + case.underflow)
    return int((far | ~torch.isfinite(apart)).sum()) >= _TELLING


def _taking_part(singles: Sequence[Hypothesis], own: Evaluation) -> Iterator[_Single]:
    counts: dict[str, int] = {}
    for hypothesis in singles:
        slug = hypothesis.slug
        counts[slug] = counts.get(slug, 0) + 1
        fitted = hypothesis.constants or hypothesis.stored or hypothesis.again
        if slug in _FIRST and not fitted and counts[slug] <= _ALIKE:
            yield _Single(hypothesis, _changes(own, hypothesis.evaluate))


def _changes(own: Evaluation, other: Evaluation) -> dict[str, Any] | None:
    """The parts in which two convolutions, or two batch norms, differ."""
    if type(own) is not type(other) or not isinstance(own, Convolution | BatchNorm):
        return None
    values = (
        (item.name, getattr(own, item.name), getattr(other, item.name)) for item in fields(own)
    )
    return {name: new for name, old, new in values if not _same(old, new)}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and bool(torch.equal(one, other)))
    return one is other or (not isinstance(one, Tensor | None) and bool(one == other))


def _both(case: Case, known: Sequence[_Single], own: Evaluation) -> Iterator[Hypothesis]:
    """Pairs that change different parts of one operation."""
    if not isinstance(own, Convolution | BatchNorm):
        return
    parted = [single for single in known if single.changes]
    # Those first of which both come early.
    places = itertools.combinations(range(len(parted)), 2)
    for first, second in sorted(places, key=lambda pair: (sum(pair), pair)):
        one, other = parted[first], parted[second]
        assert one.changes is not None and other.changes is not None
        if one.hypothesis.slug != other.hypothesis.slug and one.changes.keys().isdisjoint(
            other.changes
        ):
            both: Any = replace(own, **one.changes, **other.changes)
            yield _pair(one.hypothesis, other.hypothesis, both)


def _on_top(case: Case, known: Sequence[_Single]) -> Iterator[Hypothesis]:
    """Pairs of a fault in an operation and one in what becomes of its output."""
    for single in known:
        try:
            made = computed(single.hypothesis.evaluate)
        # What cannot be computed explains nothing.
        except Exception:
            continue
        for hypothesis in _last(case, made):
            yield _pair(single.hypothesis, hypothesis, hypothesis.evaluate)


def _last(case: Case, made: Evaluation) -> Iterator[Hypothesis]:
    for fault in _LAST:
        if case.kind not in fault.kinds:
            continue
        try:
            for hypothesis in islice(fault.recognise(case, made), _ALIKE):
                if not hypothesis.constants and not hypothesis.again:
                    yield hypothesis
        # A fault may not be possible for such an output.
        except Exception:
            continue


def _pair(one: Hypothesis, other: Hypothesis, evaluate: Evaluation) -> Hypothesis:
    slug = f"{one.slug}{SEPARATOR}{other.slug}"
    title = f"{one.title}{_AND}{other.title}"
    return Hypothesis(
        slug, title, evaluate, CONSTANTS, lambda case, base: _again(case, base, slug, title)
    )


def _again(case: Case, base: Evaluation, slug: str, title: str) -> Evaluation:
    """The same pair at another node."""
    names = set(zip(slug.split(SEPARATOR), title.split(_AND), strict=True))
    slugs = {name for name, _ in names}
    # To list the others takes long, and they are none of it.
    faults = [fault for fault in CATALOGUE if fault.slug in slugs and case.kind in fault.kinds]
    listed = (item for fault in faults for item in fault.recognise(case, base))
    singles = [item for item in listed if (item.slug, item.title) in names]
    for hypothesis in pairs(case, singles):
        if (hypothesis.slug, hypothesis.title) == (slug, title):
            return hypothesis.evaluate
    raise LookupError("the node cannot have both faults")


def _cost(own: Evaluation) -> float:
    """Products for two channels of one evaluation."""
    if isinstance(own, Convolution):
        batch, channels, height, width = own.x.shape
        inputs = 2 if own.depthwise else channels
        steps = own.stride[0] * own.stride[1]
        return 4.0 * batch * inputs * height * width * own.kernel[0] * own.kernel[1] / steps
    return 1e5
