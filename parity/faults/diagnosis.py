"""Tries hypotheses on the nodes that one module makes until one reproduces them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Diagnosis,
    Evaluation,
    Hypothesis,
    computed,
)
from parity.faults.basics.distance import beside, from_stored, roundings
from parity.faults.basics.operations import faithful
from parity.faults.catalogue import hypotheses
from parity.faults.compound import CONSTANTS, needs_both, pairs

CLOSER = 10
"""How many times closer than the faithful operation a hypothesis has to come. One that says the
same at this node (symmetric padding at stride 1) comes equally close and explains nothing."""

_STEP = 2
"""Units of roundoff between neighbouring numbers."""

_SCREENED = 2
"""Channels on which a hypothesis is tried before it is tried on all."""


_PROPOSALS = 3
"""Nodes that may propose, one after another."""

_KEPT = 2**25
"""Values of nodes that are kept to be asked once more: a quarter of a gigabyte."""


@dataclass(frozen=True)
class _Fit:
    """A hypothesis that has reproduced all that was seen so far.

    Attributes:
        hypothesis: It.
        order: Its place among all.
        roundings: The largest distance from it, in ``unit``.
        without: The largest distance from the faithful operation, in ``unit``.
        unit: The unit roundoff in which both are counted.
        words: What it has to say of the nodes that it holds at, one after another.
    """

    hypothesis: Hypothesis
    order: int
    roundings: float
    without: float
    unit: float
    words: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The fault as part of a sentence, with what was fitted at each node."""
        title = self.hypothesis.title
        return f"{title}: {', '.join(self.words)}" if self.words else title


@dataclass(frozen=True)
class _Seen:
    """One node with its faithful operation, computed once.

    Attributes:
        case: The node.
        base: The faithful operation.
        without: The largest distance of the candidate from it, in roundings.
        screen: The most telling channels.
    """

    case: Case
    base: Evaluation
    without: float
    screen: Tensor


class Attempt:
    """The hypotheses about one module, while the nodes that it makes pass one after another.

    The first node that fails proposes: all hypotheses that reproduce it. Each further one
    refutes those that do not reproduce it too, with the very same numbers where some were fitted.
    A node may show too little of a fault to be told apart from others: where none is left, the
    node that refuted the last proposes, and the nodes before it are asked once more. They are kept
    for that as long as they are small.

    Args:
        alone: Whether only one node will come, so that the search may end with the first
            hypothesis to which none can be preferred.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone
        self._fits: list[_Fit] | None = None
        self._tried = 0
        self._before: list[Case] = []
        self._room = _KEPT
        self._proposals = 0

    @torch.no_grad()
    def see(self, case: Case) -> None:
        """Try the hypotheses on a node; on one that needs no explanation none is tried."""
        candidate = case.candidate
        if candidate.dim() != 4 or not candidate.numel() or not candidate.is_floating_point():
            self._fits, self._room = [], -1
            return
        if self._fits == [] and not self._may_propose:
            return
        seen = _seen(case)
        if seen is None:
            self._fits, self._room = [], -1
        elif seen.without > case.limit:
            if self._fits is not None:
                self._fits = self._remaining(self._fits, seen)
            if not self._fits and self._may_propose:
                self._fits = self._proposed_again(seen)
            self._keep(case)

    @property
    def fitted(self) -> bool:
        """Whether the answer has numbers of values, which need not hold on another input."""
        best = self._best()
        return best is not None and _of_values(best)

    @torch.no_grad()
    def hold(self, case: Case) -> None:
        """Hold what has been proposed against the same node on another input.

        Where nothing is left, all that the nodes seen before allow is held against it: the search
        may have ended with the first name of several that do the same there.
        """
        seen = _seen(case) if self._fits else None
        if seen is None:
            return
        self._fits = self._holding(self._fits or [], seen)
        first = _seen(self._before[0]) if self._before and not self._fits else None
        if first is not None:
            self._alone = False
            fits = self._proposed(first)
            for other in self._before[1:]:
                before = _seen(other) if fits else None
                fits = self._remaining(fits, before) if before is not None else fits
            self._fits = self._holding(fits, seen)

    def _holding(self, fits: Sequence[_Fit], seen: _Seen) -> list[_Fit]:
        """The hypotheses that hold, or may hold, on another input.

        Numbers of values have to reproduce it. What has no numbers may be told in other words of
        maps of another size, so there its name has to, if anything is wrong there; if nothing is,
        it must not say that something would be.
        """
        numbers = [fit for fit in fits if _of_values(fit)]
        plain = [fit for fit in fits if fit.hypothesis.again is None]
        places = [fit for fit in fits if fit.hypothesis.again and fit.hypothesis.of_sizes]
        due = {_slug(fit) for fit in plain}
        here: dict[str, list[Hypothesis]] = {slug: [] for slug in due}
        if due:
            for slug, group in groupby(
                hypotheses(seen.case, seen.base), lambda hypothesis: hypothesis.slug
            ):
                if slug in due:
                    here[slug] += group
        fails = seen.without > seen.case.limit
        kept = [fit for fit in plain if _may_hold(fit, here[_slug(fit)], seen, fails=fails)]
        return [*places, *kept, *self._remaining(numbers, seen)]

    @property
    def _may_propose(self) -> bool:
        return self._room >= 0 and self._proposals < _PROPOSALS

    def _proposed_again(self, seen: _Seen) -> list[_Fit]:
        """What a node proposes and those before it do not refute."""
        self._proposals += 1
        fits = self._proposed(seen)
        for case in self._before:
            before = _seen(case) if fits else None
            if before is not None:
                fits = self._remaining(fits, before)
        return fits

    def _keep(self, case: Case) -> None:
        self._room -= sum(value.numel() for value in _tensors((*case.arguments, case.candidate)))
        if not self._may_propose:
            self._before = []
        else:
            # What a candidate made may be written over before it is asked for again.
            kept = replace(case, arguments=_copied(case.arguments))
            self._before.append(replace(kept, candidate=case.candidate.clone()))

    def result(self) -> Diagnosis | None:
        """The simplest hypothesis that reproduced every node seen; None where there is none.

        Of those under its name (other epsilons, other siblings) a later one is preferred where it
        fits at least twice as closely.
        """
        best = self._best()
        if best is None:
            return None
        return Diagnosis(
            best.hypothesis.slug,
            best.title,
            best.roundings,
            best.without,
            self._tried,
            best.unit,
            best.hypothesis.constants,
            best.hypothesis.stored is not None,
        )

    def _best(self) -> _Fit | None:
        fits = self._fits or []
        if not fits:
            return None
        best = min(fits, key=lambda fit: (fit.hypothesis.constants, fit.order))
        for fit in fits:
            alike = fit.hypothesis.slug == best.hypothesis.slug and fit.unit == best.unit
            closer = fit.roundings <= best.roundings / 2 and fit.roundings < best.roundings
            if alike and fit.order > best.order and closer:
                best = fit
        return best

    def _proposed(self, seen: _Seen) -> list[_Fit]:
        found: list[_Fit] = []
        singles: list[Hypothesis] = []
        listed = hypotheses(seen.case, seen.base)
        for _, group in groupby(listed, lambda item: item.slug):
            for hypothesis in group:
                self._tried += 1
                singles.append(hypothesis)
                fit = _fit(seen, hypothesis, self._tried, telling=True)
                if fit is not None:
                    found.append(fit)
            if self._alone and any(not fit.hypothesis.constants for fit in found):
                break
        simple = any(fit.hypothesis.constants <= CONSTANTS for fit in found)
        # Numbers for each channel fit much that has a simpler name.
        return found if simple else [*found, *self._two(seen, singles)]

    def _two(self, seen: _Seen, singles: Sequence[Hypothesis]) -> list[_Fit]:
        """The first pair of faults that reproduces a node that no single one does."""
        if not bool(torch.isfinite(seen.case.candidate).all()):
            # Two faults do not make what is not finite out of what is.
            return []
        for hypothesis in pairs(seen.case, singles):
            self._tried += 1
            fit = _fit(seen, hypothesis, self._tried, telling=True)
            if fit is not None and needs_both(seen.case, hypothesis, singles):
                return [fit]
        return []

    def _remaining(self, fits: list[_Fit], seen: _Seen) -> list[_Fit]:
        """The hypotheses that hold here too."""
        due = {_name(fit.hypothesis) for fit in fits if fit.hypothesis.again is None}
        here: dict[tuple[str, str], list[Hypothesis]] = {}
        if due:
            listed = hypotheses(seen.case, seen.base)
            for _, group in groupby(listed, lambda item: item.slug):
                for hypothesis in group:
                    if _name(hypothesis) in due:
                        here.setdefault(_name(hypothesis), []).append(hypothesis)
                if len(here) == len(due):
                    break
        kept = []
        for fit in fits:
            again = fit.hypothesis.again
            if again is None:
                variants = here.get(_name(fit.hypothesis), [])
            else:
                variants = [_once_more(fit.hypothesis, seen)]
            held = [
                found
                for variant in variants
                if (found := _fit(seen, variant, fit.order, telling=False)) is not None
            ]
            if held:
                closest = min(held, key=lambda found: found.roundings)
                kept.append(
                    replace(
                        fit,
                        roundings=max(fit.roundings, closest.roundings),
                        without=max(fit.without, closest.without),
                        words=(*fit.words, *closest.words),
                    )
                )
        return kept


def diagnose(case: Case) -> Diagnosis | None:
    """The simplest fault that reproduces what a candidate made of a node's inputs.

    Args:
        case: The failing node.

    Returns:
        The diagnosis; None where nothing fits, or where there is nothing to explain because
        the candidate is within the roundings of a correct implementation.
    """
    attempt = Attempt(alone=True)
    attempt.see(case)
    return attempt.result()


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list):
            yield from _tensors(value)


def _copied(values: Any) -> Any:
    if isinstance(values, Tensor):
        return values.clone()
    if isinstance(values, list | tuple):
        return type(values)(_copied(value) for value in values)
    return values


def _of_values(fit: _Fit) -> bool:
    """Whether numbers were fitted that are not places in maps or batches of one size."""
    return fit.hypothesis.again is not None and not fit.hypothesis.of_sizes


def _slug(fit: _Fit) -> str:
    return fit.hypothesis.slug


def _may_hold(fit: _Fit, here: Sequence[Hypothesis], seen: _Seen, *, fails: bool) -> bool:
    """Whether a hypothesis without numbers may be what is wrong on another input.

    Args:
        fit: The hypothesis.
        here: What its name can mean there.
        seen: The node there.
        fails: Whether something is wrong with it there.
    """
    same = [item for item in here if item.title == fit.hypothesis.title]
    if not same and not fails:
        return True
    # In other words where it is not told in these.
    same = same or list(here)
    return any(_fit(seen, item, fit.order, telling=False) is not None for item in same)


def _name(hypothesis: Hypothesis) -> tuple[str, str]:
    return hypothesis.slug, hypothesis.title


def _once_more(hypothesis: Hypothesis, seen: _Seen) -> Hypothesis:
    again = hypothesis.again
    assert again is not None
    # What it does is made when it is evaluated, where it may fail.
    return replace(hypothesis, evaluate=lambda channels: again(seen.case, seen.base)(channels))


def _seen(case: Case) -> _Seen | None:
    """A node with its faithful operation; None where that cannot be computed."""
    try:
        base = computed(faithful(case))
    # Whatever stands in the way of computing it, there is no name for it.
    except Exception:
        return None

    by_channel = roundings(case, base, ALL)
    count = case.candidate.shape[1]
    return _Seen(case, base, float(by_channel.max()), _telling(by_channel, count))


def _telling(by_channel: Tensor, count: int) -> Tensor:
    """The channels that the faithful operation misses most, and the one it misses least."""
    if by_channel.numel() != count:
        return torch.linspace(0, count - 1, min(count, _SCREENED)).long()
    order = by_channel.argsort(descending=True)
    return torch.cat([order[: _SCREENED - 1], order[_SCREENED - 1 :][-1:]])


def _fit(seen: _Seen, hypothesis: Hypothesis, order: int, *, telling: bool) -> _Fit | None:
    """The hypothesis, if it reproduces a node's output.

    Args:
        seen: The node.
        hypothesis: The hypothesis.
        order: Its place among all.
        telling: Whether it has to come closer than the faithful operation, as it need not at
            nodes where the two say nearly the same.
    """
    case = seen.case
    if hypothesis.stored is not None:
        return _stored(seen, hypothesis, order)
    screened = float(roundings(case, hypothesis.evaluate, seen.screen).max())
    if screened > case.bound:
        return None
    distance, without = beside(case, hypothesis.evaluate, seen.base, ALL)
    if distance > case.bound or (telling and distance * CLOSER > without):
        return None
    words = () if hypothesis.words is None else (hypothesis.words(case, seen.base),)
    return _Fit(_bare(hypothesis), order, distance, seen.without, case.unit, words)


def _stored(seen: _Seen, hypothesis: Hypothesis, order: int) -> _Fit | None:
    stored = hypothesis.stored
    assert stored is not None
    distance = from_stored(seen.case, hypothesis.evaluate, stored)
    if distance > _STEP:
        return None
    without = seen.without * seen.case.unit / stored.unit
    return _Fit(_bare(hypothesis), order, distance, without, stored.unit)


def _bare(hypothesis: Hypothesis) -> Hypothesis:
    """A hypothesis without the tensors of the node that it was tried on."""
    return replace(hypothesis, evaluate=_gone)


def _gone(channels: Channels) -> tuple[Tensor, Tensor]:
    raise RuntimeError("the node's tensors are no longer kept")
