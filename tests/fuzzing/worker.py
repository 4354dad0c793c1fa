"""The process that reads damaged inputs; another watches it and ends it where it hangs."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given

from fuzzing import memory, targets
from fuzzing.board import Board
from fuzzing.inputs import (
    BOMB,
    Files,
    Recipe,
    Step,
    damaged,
    fewer_steps,
    is_forged,
    nearer,
    recipes,
    written,
)
from fuzzing.target import Target
from fuzzing.verdict import Kind, Verdict, judged

_ROUND = 200
"""Hypothesis's examples before it begins anew from the next seed."""

_SMALLER_SECONDS = 3.0
"""Are spent on making an input smaller that has failed."""

_KEPT = 2
"""Inputs that are kept of failures that are alike."""


class Worker:
    """Tries inputs one after the other in one folder."""

    def __init__(self, target: Target, name: str, folder: Path, board: Board, kept: Path) -> None:
        self.target, self.name, self.board = target, name, board
        self.folder, self.kept = folder, kept
        self.alike: Counter[str] = Counter()
        self._changed: frozenset[str] = frozenset()
        self._before = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lay_out(target.files)

    def warm(self) -> None:
        """Read the sound inputs, which must give what they hold, and then limit the memory.

        Raises:
            AssertionError: They do not.
        """
        for name in (None, *self.target.files):
            changed = frozenset() if name is None else frozenset({name})
            value = self.target.read(self.folder, changed)
            assert self.target.same(value, changed), f"{self.name}: sound files are read wrongly"
            self.target.clean(self.folder)
        memory.limit(self.target.MEMORY)
        self.measure()

    def measure(self) -> None:
        """Begin to measure memory from what is taken now."""
        if self._before:
            self.board.peak = max(self.board.peak, memory.most() - self._before)
        memory.forget()
        self._before = memory.taken()

    def explore(self, seed: int, examples: int, until: float, done: int = 0) -> None:
        """Try damaged inputs until there have been enough of them or time is over.

        Args:
            seed: Of all that is drawn.
            examples: How many are enough.
            until: When time is over.
            done: How many an earlier worker has tried.
        """
        turn = 0
        if self.target.EVERY:
            self._each(seed, until, done)
            return
        while self.board.tried < examples and time.monotonic() < until:
            self._round(seed * 1_000_003 + turn, examples, until)
            turn += 1
        self.measure()

    def _each(self, seed: int, until: float, done: int) -> None:
        """Try every kind of damage once."""
        pairs = [(file, kind) for file, kinds in self.target.damages.items() for kind in kinds]
        for file, kind in pairs[done:]:
            if time.monotonic() > until:
                return
            self.measure()
            self.try_steps([Step(file, kind, str(seed))])

    def _round(self, seed: int, examples: int, until: float) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=_ROUND,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(recipe=recipes(self.target))
        def batch(recipe: Recipe) -> None:
            self.measure()
            for number in range(self.target.BATCH):
                if self.board.tried >= examples or time.monotonic() > until:
                    return
                self.try_steps(recipe.variant(seed, number))

        batch()

    def try_steps(self, steps: list[Step]) -> Verdict:
        """Make an input, read it, count how that ends, and keep what fails."""
        try:
            files = damaged(self.target, steps)
        except MemoryError:
            # Damage upon damage can grow beyond what the reader may take; this is none of its own.
            return Verdict(Kind.HARMLESS)
        if any(step.kind == BOMB for step in steps):
            # Making it has taken memory, which is not the reader's.
            self.measure()
        forged = is_forged(self.target, steps)
        verdict = self.attempt(files, forged, written(steps))
        self._count(verdict)
        if not verdict.held:
            self._fail(verdict, steps, files)
        return verdict

    def attempt(self, files: Files, forged: bool, text: str) -> Verdict:
        """Read an input."""
        self._lay_out(files, but=self._changed)
        self._changed = frozenset(files)
        self.board.begin(text)
        try:
            verdict = judged(self.target, self.folder, self._changed, forged)
        finally:
            self.board.end()
        self.target.clean(self.folder)
        return self._within(verdict)

    def _within(self, verdict: Verdict) -> Verdict:
        """The verdict, unless more memory was taken for it than may be."""
        limit = self._before + self.target.MEMORY
        if memory.at_most() <= limit or (most := memory.most()) <= limit:
            return verdict
        more = most - self._before
        self.measure()
        if not verdict.held:
            return verdict
        detail = f"{more >> 20} MiB were taken; {verdict.kind.value} {verdict.detail}"
        return Verdict(Kind.MEMORY, detail, f"memory of {verdict.kind.value}")

    def _lay_out(self, files: Files, but: frozenset[str] = frozenset()) -> None:
        """Write files, and the sound ones in place of those that were damaged before."""
        for name in (*files, *(but - files.keys())):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is mapped into memory must not change.
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            path.write_bytes(files[name] if name in files else self.target.files[name])

    def _count(self, verdict: Verdict) -> None:
        board = self.board
        board.tried += 1
        board.refused += verdict.kind is Kind.REFUSED
        board.harmless += verdict.kind is Kind.HARMLESS
        board.other += verdict.kind is Kind.OTHER
        board.failed += not verdict.held
        board.show()

    def _fail(self, verdict: Verdict, steps: list[Step], files: Files) -> None:
        self.alike[verdict.signature] += 1
        number = self.alike[verdict.signature]
        if number <= _KEPT:
            steps, files = self._smaller(verdict, steps, files)
        told = keep(self.kept, self.name, verdict, files, written(steps), number)
        print(json.dumps(told), flush=True)

    def _smaller(
        self, verdict: Verdict, steps: list[Step], files: Files
    ) -> tuple[list[Step], Files]:
        """The same failure by fewer and smaller damages, as far as some seconds go."""
        until = time.monotonic() + _SMALLER_SECONDS

        def fails(files: Files, forged: bool) -> bool:
            if time.monotonic() > until:
                return False
            return self.attempt(files, forged, "smaller").signature == verdict.signature

        def still(fewer: list[Step]) -> bool:
            return fails(damaged(self.target, fewer), is_forged(self.target, fewer))

        if len(steps) > 1:
            steps = fewer_steps(steps, still)
            files = damaged(self.target, steps)
        forged = is_forged(self.target, steps)
        for name, data in files.items():
            sound = self.target.files[name]
            files[name] = nearer(sound, data, lambda now: fails({**files, name: now}, forged))  # noqa: B023
        return steps, files


def keep(
    folder: Path,
    name: str,
    verdict: Verdict,
    files: Files,
    steps: str,
    number: int,
) -> dict[str, Any]:
    """What is told of an input that has failed; it is kept if it is among the first of its kind."""
    told: dict[str, Any] = {
        "target": name,
        "kind": verdict.kind.value,
        "signature": verdict.signature,
        "detail": verdict.detail,
        "steps": steps,
        "files": sorted(files),
    }
    if number <= _KEPT:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"{name}-{sum(1 for _ in folder.iterdir()) + 1:03}"
        for file, data in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(data)
        told["folder"] = str(place)
        place.mkdir(exist_ok=True)
        (place / "case.json").write_text(json.dumps(told, indent=1), "utf-8")
    return told


def main() -> int:
    """Open a target and try inputs, or repeat one that was kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--done", type=int, default=0)
    parser.add_argument("--repeat", type=Path)
    asked = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    board = Board(asked.folder / "board")
    target = targets.opened(asked.target, asked.material)
    worker = Worker(target, asked.target, asked.folder / "read", board, asked.kept)
    worker.warm()
    board.limit = int(1000 * target.SECONDS)
    board.show()
    if asked.repeat is not None:
        return _repeat(worker, asked.repeat)
    until = time.monotonic() + asked.seconds
    worker.explore(asked.seed, asked.examples, until, asked.done)
    return 0


def _repeat(worker: Worker, place: Path) -> int:
    told = json.loads((place / "case.json").read_text("utf-8"))
    files = {name: (place / name).read_bytes() for name in told["files"]}
    kinds = {kind for _, kind, _ in json.loads(told["steps"] or "[]")}
    verdict = worker.attempt(files, bool(kinds & worker.target.FORGED), "repeated")
    print(f"{verdict.kind.value}: {verdict.detail}", file=sys.stderr)
    return 0 if verdict.held else 1


if __name__ == "__main__":
    code = main()
    shutil.rmtree(sys.argv[sys.argv.index("--folder") + 1], ignore_errors=True)
    sys.exit(code)
