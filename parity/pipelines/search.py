"""Which known mistakes make a faithful pipeline's boxes equal to a port's: the smallest set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np

from efficientdet_spec import InputError
from parity.detections.annotations import CocoImage
from parity.detections.rows import Rows
from parity.pipelines.equality import SCORE_BOUND, Agreement, agreement, equal_pairs
from parity.pipelines.running import Found
from parity.pipelines.stages.pipeline import Mistake, Pipeline, with_mistakes
from parity.pipelines.stages.suppressing import acting

SEARCHED = 8
"""Images that mistakes are searched on."""

_SCREENED = 3
"""Of these so many are looked at for the better half of the mistakes, one for all."""

_PASSED = 20
_FINALISTS = 5
_NETWORKS_AGAIN = 14
"""Of the mistakes that need the network so many are tried in every round; the others, which were
further off before, only where these do not help."""

_LOOKED_AHEAD = 6
_FEW = 50
_MOST_MISTAKES = 16

_FAR = 0.02
"""Inputs further apart, a whole grey level on every pixel, are not tried as doing the same."""

_CHANCE = 2
"""A single box, which is unequal on both sides, may be equal by chance: rounded to whole pixels it
goes up or down with the last digit of a resize."""

_LEAST_GAIN = 1e-3
"""Part of the closeness still missing by which a step must bring the boxes nearer."""

Set = tuple[Mistake, ...]

Progress = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows how far work of a title, counted in a unit, has come."""


@contextmanager
def silent(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Progress that is shown to nobody."""
    yield lambda done, total: None


class Detects(Protocol):
    """What runs pipelines, such as :class:`parity.pipelines.running.Runner`."""

    def detect(self, pipeline: Pipeline, image: CocoImage) -> Found:
        """The detections of an image."""

    def apart(self, one: Pipeline, other: Pipeline, image: CocoImage) -> float:
        """How far two pipelines' inputs of the network are apart: root of the mean square."""


@dataclass(frozen=True)
class Total:
    """What a set of mistakes does on some images.

    Attributes:
        equal: Detections of the port that have an equal one.
        unequal: Detections of either side without an equal one.
        closeness: How near all of them come.
    """

    equal: int
    unequal: int
    closeness: float

    @property
    def value(self) -> float:
        """What is to become large."""
        return self.closeness + self.equal - self.unequal


class Trials:
    """Pipelines with mistakes against a port's detections; what was tried is remembered.

    Args:
        runner: Runs pipelines.
        faithful: The pipeline without mistakes.
        port: The port's detections by image.
    """

    def __init__(self, runner: Detects, faithful: Pipeline, port: Mapping[int, Rows]) -> None:
        self.faithful, self.port = faithful, port
        self._runner = runner
        self._known: dict[tuple[Pipeline, int], Agreement] = {}

    def pipeline(self, mistakes: Set) -> Pipeline:
        """The pipeline with these mistakes."""
        return acting(with_mistakes(self.faithful, mistakes))

    def agreement(self, mistakes: Set, image: CocoImage) -> Agreement:
        """How far a pipeline with mistakes agrees with the port on an image."""
        pipeline = self.pipeline(mistakes)
        key = pipeline, image.id
        if key not in self._known:
            rows = self.port[image.id]
            try:
                found = self._runner.detect(pipeline, image)
                self._known[key] = agreement(found, rows, pipeline.limit)
            except InputError:
                # A mistake with which nothing comes out has found nothing.
                self._known[key] = Agreement(np.zeros(len(rows), bool), 0, 0.0)
        return self._known[key]

    def total(self, mistakes: Set, images: Sequence[CocoImage]) -> Total:
        """The same over images."""
        found = [self.agreement(mistakes, image) for image in images]
        return Total(
            equal=sum(int(item.equal.sum()) for item in found),
            unequal=sum(item.unequal for item in found),
            closeness=sum(item.closeness for item in found),
        )

    def apart(self, one: Set, other: Set, image: CocoImage) -> float:
        """How far the network's inputs of two sets are apart; infinite where there is none."""
        try:
            return self._runner.apart(self.pipeline(one), self.pipeline(other), image)
        except InputError:
            return np.inf

    def changed(self, before: Set, mistakes: Set, image: CocoImage) -> tuple[int, int]:
        """Detections that a set makes and another does not, and how many the port has too."""
        try:
            old, new = (
                self._runner.detect(self.pipeline(each), image) for each in (before, mistakes)
            )
        except InputError:
            return 0, 0
        made = np.ones(len(new.rows), bool)
        made[equal_pairs(new, old.rows)[:, 0]] = False
        right = equal_pairs(new, self.port[image.id])[:, 0]
        return int(made.sum()), int(made[right].sum())


def telling_images(
    images: Sequence[CocoImage],
    port: Mapping[int, Rows],
    fitted: Callable[[CocoImage, str], tuple[int, int]],
    fits: Sequence[str],
) -> list[CocoImage]:
    """The images that tell most mistakes apart: of every shape, and with many detections.

    Args:
        images: To choose from.
        port: The port's detections by image.
        fitted: The size of an image scaled in one way.
        fits: The ways of scaling, the faithful one first.
    """

    def features(image: CocoImage) -> set[str]:
        sizes = {name: fitted(image, name) for name in fits}
        found = {name for name in fits[1:] if sizes[name] != sizes[fits[0]]}
        found.add("few" if len(port[image.id]) < _FEW else "many")
        found.add("tall" if image.height > image.width else "wide")
        found.add("grown" if sizes[fits[0]][0] > image.height else "shrunk")
        return found

    told = {image.id: features(image) for image in images}
    left = [image for image in images if len(port[image.id])]
    chosen: list[CocoImage] = []
    seen: dict[str, int] = {}
    while left and len(chosen) < SEARCHED:
        best = max(
            left,
            key=lambda item: (
                sum(1 / (1 + seen.get(name, 0)) ** 2 for name in told[item.id]),
                min(len(port[item.id]), 100),
            ),
        )
        left.remove(best)
        chosen.append(best)
        for name in told[best.id]:
            seen[name] = seen.get(name, 0) + 1
    return chosen


def applicable(
    mistakes: Sequence[Mistake],
    faithful: Pipeline,
    port: Mapping[int, Rows],
    networks: frozenset[str] | set[str],
) -> list[Mistake]:
    """The mistakes that this port can have made: not what is faithful, nor what its lists exclude.

    Args:
        mistakes: All.
        faithful: The pipeline without any.
        port: The port's detections by image.
        networks: Those that there are.
    """
    scores = [float(rows[:, 4].min()) for rows in port.values() if len(rows)]
    lowest, most = min(scores, default=0.0), max(map(len, port.values()), default=0)

    def fits(mistake: Mistake) -> bool:
        changes = mistake.changes
        if all(getattr(faithful, part) == choice for part, choice in changes.items()):
            return False
        return (
            changes.get("threshold", 0.0) <= lowest + SCORE_BOUND
            and changes.get("limit", most) >= most
            and changes.get("network", "faithful") in networks
        )

    return [mistake for mistake in mistakes if fits(mistake)]


def without_larger_limits(known: Sequence[Mistake]) -> list[Mistake]:
    """The mistakes without the numbers of boxes that are larger than need be.

    They take long, and do the same; as alternatives they are tried later.
    """
    limits = sorted(item.changes["limit"] for item in known if "limit" in item.changes)
    return [item for item in known if item.changes.get("limit") in (None, *limits[:1])]


def added(mistakes: Set, one: Mistake) -> Set:
    """The set with another mistake, in the place of those that it excludes."""
    return (*(item for item in mistakes if not one.excludes(item)), one)


def without(mistakes: Set, one: Mistake) -> Set:
    """The set without one mistake."""
    return tuple(item for item in mistakes if item is not one)


def select_forward(
    trials: Trials,
    known: Sequence[Mistake],
    images: Sequence[CocoImage],
    start: Set = (),
    progress: Progress = silent,
) -> Set:
    """Take the mistake that brings the boxes nearest, again and again, until none does.

    In each round a mistake may also take another's place, or one be given up. Where no single one
    helps, pairs of those that come nearest are tried.

    Args:
        trials: The pipelines.
        known: Mistakes to choose from.
        images: To look at.
        start: Mistakes that are there already.
        progress: Shows how far each step has come.
    """
    current, order = start, list(known)
    seen = {trials.pipeline(current)}
    while len(current) <= _MOST_MISTAKES:
        best = trials.total(current, images)
        if not best.unequal:
            break
        again = [item for item in order if item.needs_network][:_NETWORKS_AGAIN]
        likely = [item for item in order if not item.needs_network or item in again]
        chosen = None
        for choice in (
            (likely, order) if len(likely) < len(order) and current != start else (order,)
        ):
            with progress(f"looking for mistake {len(current) + 1}", "candidates") as told:
                chosen, order = _step(trials, current, choice, order, images, seen, told)
            if chosen is not None:
                break
        if chosen is None:
            break
        current = chosen
        seen.add(trials.pipeline(current))
    return current


def _step(
    trials: Trials,
    current: Set,
    choice: Sequence[Mistake],
    order: Sequence[Mistake],
    images: Sequence[CocoImage],
    seen: set[Pipeline],
    told: Callable[[int, int], None],
) -> tuple[Set | None, list[Mistake]]:
    """The next set, where one is better, and all mistakes in the order of what they bring."""
    best = trials.total(current, images)
    shown = _telling(trials, current, images)
    moves = {item: added(current, item) for item in choice if item not in current}
    totals: dict[Mistake, Total] = {}
    for item, move in moves.items():
        told(len(totals), len(moves) + 1)
        totals[item] = trials.total(move, shown[:1] if item.needs_network else shown)
    # Of what was seen on fewer images, as far as it goes on these.
    first, whole = trials.total(current, shown[:1]).value, trials.total(current, shown).value
    values = {
        item: total.value - (first if item.needs_network else whole)
        for item, total in totals.items()
    }
    ranks = sorted(moves, key=lambda item: -values[item])
    order = [*ranks, *(item for item in order if item not in values)]
    fresh = [moves[item] for item in ranks if trials.pipeline(moves[item]) not in seen]
    given_up = [without(current, item) for item in current]
    fresh = [*fresh[:_PASSED], *(item for item in given_up if trials.pipeline(item) not in seen)]
    ranked = _ranked(trials, fresh, shown)
    chosen = _better(trials, ranked[:_FINALISTS], images, best)
    if chosen is None:
        # One that alone brings boxes too many may bring the right ones.
        bold = sorted(moves, key=lambda item: -totals[item].equal)[:_LOOKED_AHEAD]
        likely = [*ranked[:_LOOKED_AHEAD], *(moves[item] for item in bold)]
        pairs = _pairs(current, likely)
        chosen = _better(trials, _ranked(trials, pairs, shown[:2])[:_FINALISTS], images, best)
    told(len(moves) + 1, len(moves) + 1)
    return chosen, order


def _telling(trials: Trials, current: Set, images: Sequence[CocoImage]) -> list[CocoImage]:
    """The images on which most is unequal, and one where most of the pipeline's boxes are lone."""
    found = sorted(images, key=lambda item: -trials.agreement(current, item).unequal)
    lone = max(images, key=lambda item: trials.agreement(current, item).lone)
    return list(dict.fromkeys([found[0], lone, *found]))[:_SCREENED]


def _ranked(trials: Trials, moves: Sequence[Set], images: Sequence[CocoImage]) -> list[Set]:
    return sorted(moves, key=lambda move: -trials.total(move, images).value)


def _better(
    trials: Trials, moves: Sequence[Set], images: Sequence[CocoImage], best: Total
) -> Set | None:
    """The move that improves most, where one does."""
    missing = sum(4 * len(trials.port[image.id]) for image in images) - best.value
    if not moves:
        return None
    values = [trials.total(move, images).value for move in moves]
    place = int(np.argmax(values))
    return moves[place] if values[place] - best.value > _LEAST_GAIN * missing else None


def _pairs(current: Set, moves: Sequence[Set]) -> list[Set]:
    fresh = list(dict.fromkeys(item for move in moves for item in move if item not in current))
    return [
        added(added(current, one), other)
        for one, other in combinations(fresh, 2)
        if not one.excludes(other)
    ]


@dataclass(frozen=True)
class Gain:
    """What one mistake of a set is worth, the others being made.

    Attributes:
        gained: Detections of the port that are equal only with it.
        lost: Detections of the port that are equal only without it.
        fewer: Detections of either side that are unequal without it, minus those with it.
        made: Detections of the pipeline that are there only with it, on images where it makes any
            of the port's equal.
        right: Of these, the ones that are equal to one of the port.
        kept: Detections of the pipeline with it.
        equal: Of these, the ones that are equal to one of the port.
    """

    gained: int
    lost: int
    fewer: int
    made: int = 0
    right: int = 0
    kept: int = 0
    equal: int = 0

    @property
    def shows(self) -> bool:
        """Whether the mistake has been made, as far as the boxes tell.

        A mistake that was made leaves no equal box unequal, and what it changes becomes as the
        port has it, but for chance and for what is wrong there besides. Where scores are tied by
        the hundred, another number of candidates also makes some boxes equal, but not most. One
        that only takes boxes away, as a threshold does, says something where it leaves the right
        ones; from wrong boxes any may be taken.
        """
        few_lost = 10 * self.lost <= max(self.gained, self.fewer)
        leaves_right = self.gained > _CHANCE or 2 * self.equal >= self.kept
        return self.fewer > _CHANCE and few_lost and 2 * self.right >= self.made and leaves_right


def gain(trials: Trials, mistakes: Set, one: Mistake, images: Sequence[CocoImage]) -> Gain:
    """What a mistake of a set is worth."""
    rest = without(mistakes, one)
    gained = lost = fewer = made = right = kept = equal = 0
    for image in images:
        with_it, without_it = (trials.agreement(each, image) for each in (mistakes, rest))
        fresh = int((with_it.equal & ~without_it.equal).sum())
        gained += fresh
        lost += int((without_it.equal & ~with_it.equal).sum())
        fewer += without_it.unequal - with_it.unequal
        equal += int(with_it.equal.sum())
        kept += int(with_it.equal.sum()) + with_it.lone
        if fresh:
            changed = trials.changed(rest, mistakes, image)
            made, right = made + changed[0], right + changed[1]
    return Gain(gained, lost, fewer, made, right, kept, equal)


def pruned(trials: Trials, mistakes: Set, images: Sequence[CocoImage]) -> Set:
    """The set without the mistakes that make no box equal in the presence of the others."""
    while mistakes:
        gains = {item: gain(trials, mistakes, item, images) for item in mistakes}
        idle = [item for item in mistakes if not gains[item].shows]
        if not idle:
            break
        mistakes = without(mistakes, min(idle, key=lambda item: gains[item].fewer))
    return mistakes


def merged(
    trials: Trials, known: Sequence[Mistake], mistakes: Set, images: Sequence[CocoImage]
) -> Set:
    """The set with two mistakes replaced by a single one wherever it does no worse."""
    for pair in combinations(mistakes, 2):
        if pair[0].stage != pair[1].stage:
            continue
        rest = tuple(item for item in mistakes if item not in pair)
        for other in known:
            if not any(other.excludes(item) for item in pair) or other in pair:
                continue
            if _no_worse(trials, added(rest, other), mistakes, images):
                return merged(trials, known, added(rest, other), images)
    return mistakes


def _no_worse(trials: Trials, one: Set, other: Set, images: Sequence[CocoImage]) -> bool:
    return all(
        trials.agreement(one, image).unequal <= trials.agreement(other, image).unequal
        for image in _telling_last(trials, other, images)
    )


def _telling_last(trials: Trials, mistakes: Set, images: Sequence[CocoImage]) -> list[CocoImage]:
    """Those first on which least is unequal: another set shows there soonest that it is worse."""
    return sorted(images, key=lambda item: trials.agreement(mistakes, item).unequal)


def alternatives(
    trials: Trials,
    known: Sequence[Mistake],
    mistakes: Set,
    one: Mistake,
    images: Sequence[CocoImage],
) -> list[Mistake]:
    """The mistakes that could stand in a set for one of it: these images do not tell them apart.

    Args:
        trials: The pipelines.
        known: Mistakes to choose from.
        mistakes: The set.
        one: A mistake of it.
        images: To look at.
    """
    rest = without(mistakes, one)
    order = sorted(
        images,
        key=lambda item: (
            trials.agreement(mistakes, item).unequal - trials.agreement(rest, item).unequal
        ),
    )

    def same(other: Mistake) -> bool:
        if other in mistakes or other.needs_network != one.needs_network:
            return False
        if any(other.excludes(item) for item in rest):
            return False
        changed = (*rest, other)
        if one.needs_network and trials.apart(mistakes, changed, order[0]) > _FAR:
            return False
        return all(
            trials.agreement(changed, image).unequal == trials.agreement(mistakes, image).unequal
            and np.array_equal(
                trials.agreement(changed, image).equal, trials.agreement(mistakes, image).equal
            )
            for image in order
        )

    return [other for other in known if same(other)]
