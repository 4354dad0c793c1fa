"""Which boxes of two lists are equal, and how close the others are.

Two faithful float32 networks do not give the same bits, so *equal* needs a bound. A box is decoded
from a code ``t`` and an anchor of side ``a``: where the codes of two networks differ by at most
``d``, an edge moves by at most ``d (a + side / 2)``, first order in ``d`` (as in
:mod:`parity.detections.matching`, but with the box's own anchor, which a pipeline run here knows).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.detections.rows import Rows
from parity.pipelines.running import Found

CODE_BOUND = 5e-5
"""How far box codes of two faithful float32 networks may differ."""

SCORE_BOUND = 1e-4
"""How far scores of two faithful float32 networks may differ."""

TIE_BOUND = 1e-5
"""Scores that differ by less may change places, so that NMS or the cut takes the other box."""

_DECADES = 4.0
"""A number so many powers of ten beyond its bound says nothing any more."""

_COMPARED = 400
"""Boxes of an image that closeness looks at: the best of either list."""


@dataclass(frozen=True)
class Agreement:
    """How far a pipeline's detections of one image are those of a port.

    Attributes:
        equal: [L] whether each detection of the port has an equal one.
        lone: Detections of the pipeline that the port has no equal of.
        closeness: Of the two lists, as a sum over pairs; only to be compared with others' for the
            same image.
        ties: Of ``equal``, those that a tie or the cut keeps from being the same.
    """

    equal: NDArray[np.bool_]
    lone: int
    closeness: float
    ties: int = 0

    @property
    def unequal(self) -> int:
        """Detections of either side without an equal one."""
        return int((~self.equal).sum()) + self.lone


def agreement(found: Found, port: Rows, limit: int, *, close: bool = True) -> Agreement:
    """Compare one image's detections.

    Args:
        found: The pipeline's.
        port: [L, 6] the port's.
        limit: Most boxes that the pipeline keeps.
        close: Also compute the closeness; otherwise it is 0.
    """
    pairs = equal_pairs(found, port)
    equal = np.zeros(len(port), bool)
    equal[pairs[:, 1]] = True
    rivals = np.setdiff1d(np.arange(len(found.rows)), pairs[:, 0])
    tied = _settle_ties(found, port, equal, rivals, limit)
    return Agreement(
        equal=equal,
        lone=len(rivals) - tied,
        closeness=closeness(found, port) if close else 0.0,
        ties=tied,
    )


def _settle_ties(
    found: Found, port: Rows, equal: NDArray[np.bool_], rivals: NDArray[np.int64], limit: int
) -> int:
    """Take for equal what only the order of equal scores, or the cut, decides; how many.

    Of two candidates whose scores differ by less than rounding either may come first; the other is
    then lowered, dropped or cut off. Such a detection of the port must be a candidate of the
    pipeline itself, and have the score of one that the pipeline took and the port did not.

    Args:
        found: The pipeline's detections.
        port: [L, 6] the port's.
        equal: [L] which of these have an equal one; changed.
        rivals: Rows of the pipeline that have none.
        limit: Most boxes that the pipeline keeps.
    """
    last = found.rows[-1, 4] if len(found.rows) >= limit else np.inf
    at_cut = np.abs(found.rows[:, 4] - last) <= TIE_BOUND
    free, tied, candidates = rivals.tolist(), 0, None
    for place in np.flatnonzero(~equal).tolist():
        box = port[place]
        near = np.abs(found.rows[free, 4] - box[4]) <= TIE_BOUND
        near &= at_cut[free] | (found.rows[free, 5] == box[5])
        if not near.any():
            continue
        if candidates is None:
            assert found.candidates is not None
            candidates = found.candidates()
            allowed = _allowed(candidates)
        alike = candidates.rows[:, 5] == box[5]
        if (alike & (np.abs(candidates.rows[:, :4] - box[:4]) <= allowed).all(axis=1)).any():
            del free[int(near.argmax())]
            equal[place] = True
            tied += 1
    return tied


def equal_pairs(found: Found, port: Rows) -> NDArray[np.int64]:
    """[M, 2] row of the pipeline and of the port that are equal within the bounds, one to one.

    Args:
        found: The pipeline's detections.
        port: [L, 6] the port's.
    """
    rows = found.rows
    alike = rows[:, None, 5] == port[None, :, 5]
    alike &= np.abs(rows[:, None, 4] - port[None, :, 4]) <= SCORE_BOUND
    first, second = np.nonzero(alike)
    off = np.abs(rows[first, :4] - port[second, :4])
    near = (off <= _allowed(found)[first]).all(axis=1)
    first, second, off = first[near], second[near], off[near].max(axis=1, initial=0.0)
    off = off + np.abs(rows[first, 4] - port[second, 4])
    pairs, taken, others = [], set(), set()
    for place in np.argsort(off, kind="stable").tolist():
        one, other = int(first[place]), int(second[place])
        if one not in taken and other not in others:
            taken.add(one)
            others.add(other)
            pairs.append((one, other))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _allowed(found: Found) -> NDArray[np.float64]:
    """[K, 4] how far each number of a box may be off; float32's own rounding is in it."""
    spacing = np.spacing(np.abs(found.rows[:, :4]).max(axis=1, initial=0.0).astype(np.float32))
    allowed: NDArray[np.float64] = CODE_BOUND * found.reach
    allowed = allowed + 4 * spacing[:, None].astype(np.float64)
    return allowed


def closeness(found: Found, port: Rows) -> float:
    """How much of the port's detections a pipeline's come near to.

    Of a pair, its box, its score and its category count up to 1 each: a number within its bound
    fully, one that is ten times further off by a quarter less, so that halving a difference counts
    alike whether it is large or small. Pairs are formed greedily, the closest first, whatever
    their category, so that boxes with wrong categories and scores with wrong boxes still count.

    Args:
        found: The pipeline's detections.
        port: [L, 6] the port's.
    """
    rows, port = found.rows[:_COMPARED], port[:_COMPARED]
    if not len(rows) or not len(port):
        return 0.0
    allowed = np.maximum(_allowed(found)[:_COMPARED], 1e-12)
    box = np.ones((len(rows), len(port)))
    for column in range(4):
        off = np.abs(rows[:, None, column] - port[None, :, column]) / allowed[:, None, column]
        box = np.minimum(box, _digits(off))
    score = _digits(np.abs(rows[:, None, 4] - port[None, :, 4]) / SCORE_BOUND)
    alike = (rows[:, None, 5] == port[None, :, 5]).astype(np.float64)
    together = box + score + alike
    return _paired(together) / max(len(rows), len(port), 1) * len(port)


def _digits(off: NDArray[np.float64]) -> NDArray[np.float64]:
    decades = np.log10(np.maximum(off, 1.0))
    result: NDArray[np.float64] = np.clip(1.0 - decades / _DECADES, 0.0, 1.0)
    return result


def _paired(values: NDArray[np.float64]) -> float:
    """The sum over pairs, each row and column once, the largest first.

    Pairs that are each other's best are those which come first whatever the others are.
    """
    left, total = values, 0.0
    while left.size:
        best, other = left.argmax(axis=1), left.argmax(axis=0)
        rows = np.flatnonzero(other[best] == np.arange(len(left)))
        total += float(left[rows, best[rows]].sum())
        left = np.delete(np.delete(left, rows, axis=0), best[rows], axis=1)
    return total
