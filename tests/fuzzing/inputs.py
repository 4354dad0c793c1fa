"""Damaged inputs: drawn by hypothesis, made in batches, and made small again where one fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from fuzzing.target import Target

Files = dict[str, bytes]

BOMB = "bomb"
"""The kind of damage that stands for much more than its bytes."""


@dataclass(frozen=True)
class Step:
    """One damage: to which file, of which kind, drawn from which seed."""

    file: str
    kind: str
    seed: str


@dataclass(frozen=True)
class Recipe:
    """What hypothesis draws: which damages, one after the other, and the seed of their places."""

    damages: tuple[tuple[str, str], ...]
    seed: int

    def variant(self, turn: int, number: int) -> list[Step]:
        """The steps of one of the inputs that are made of this.

        Args:
            turn: The seed from which this was drawn: hypothesis begins with the same each time.
            number: Of the input.
        """
        return [
            Step(file, kind, f"{turn} {self.seed} {number} {place}")
            for place, (file, kind) in enumerate(self.damages)
        ]


def recipes(target: Target) -> st.SearchStrategy[Recipe]:
    """The strategy of a target's damaged inputs: mostly one kind of damage, sometimes several."""
    pairs = [(file, kind) for file, kinds in target.damages.items() for kind in kinds]
    one = st.sampled_from(pairs)
    several = st.lists(one, min_size=1, max_size=target.STEPS)
    damages = st.one_of(one.map(lambda pair: [pair]), several).map(tuple)
    return st.builds(Recipe, damages, st.integers(0, 2**64 - 1))


def damaged(target: Target, steps: list[Step]) -> Files:
    """The files that differ from the sound ones after some steps."""
    files: Files = {}
    # What makes much of little is done by itself: other damage would have to read it first.
    for step in [step for step in steps if step.kind == BOMB][:1] or steps:
        before = files.get(step.file, target.files[step.file])
        files[step.file] = target.damages[step.file][step.kind](Random(step.seed), before)
    return {name: data for name, data in files.items() if data != target.files[name]}


def is_forged(target: Target, steps: list[Step]) -> bool:
    """Whether one of the steps has made sound checksums for what it changed."""
    return any(step.kind in target.FORGED for step in steps)


def fewer_steps(steps: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """The steps without those that the failure does not need."""
    kept = list(steps)
    for step in steps:
        fewer = [other for other in kept if other != step]
        if fewer and fails(fewer):
            kept = fewer
    return kept


def nearer(sound: bytes, broken: bytes, fails: Callable[[bytes], bool], tries: int = 60) -> bytes:
    """Damaged bytes with as much of the sound ones put back as the failure allows.

    Args:
        sound: The sound file.
        broken: The damaged one, of the same length; any other is returned as it is.
        fails: Whether the same failure comes of some bytes.
        tries: At most so many are tried.
    """
    if len(sound) != len(broken):
        return broken
    places = [place for place in range(len(sound)) if sound[place] != broken[place]]
    size = max(1, len(places) // 2)
    while size and tries and len(places) > 1:
        start = 0
        while start < len(places) and tries and len(places) > 1:
            kept = places[:start] + places[start + size :]
            tries -= 1
            if kept and fails(_with(sound, broken, kept)):
                places = kept
            else:
                start += size
        size //= 2
    return _with(sound, broken, places)


def _with(sound: bytes, broken: bytes, places: list[int]) -> bytes:
    changed = bytearray(sound)
    for place in places:
        changed[place] = broken[place]
    return bytes(changed)


def written(steps: list[Step]) -> str:
    """The steps as JSON."""
    return json.dumps([[step.file, step.kind, step.seed] for step in steps])
