"""Commands are killed at random moments: nothing half written, and the same again finishes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import outcomes
from fuzzing.watch import Tally, quiet, scratch

_ROOT = Path(__file__).resolve().parents[2]

_SIGNALS = (signal.SIGKILL,) * 7 + (signal.SIGTERM, signal.SIGINT, signal.SIGINT)

_PATIENCE = 30.0
"""Seconds in which a command has to end after a signal that it may answer."""

_LIMIT = 300.0
"""Seconds in which a command has to finish."""


@dataclass(frozen=True)
class Command:
    """A command that writes files.

    Attributes:
        script: Of the repository.
        words: What it is told; places are relative to the scratch folder.
        earlier: What an earlier, different run was told that wrote to the same names.
        share: How often it is killed, relative to others.
    """

    script: str
    words: tuple[str, ...]
    earlier: tuple[str, ...] | None
    share: int


_IMAGES = ("--images", "images", "--annotations", "annotations.json", "--threads", "1")
_RECORD = ("--size", "128x128", "--threads", "1")

COMMANDS = {
    "convert": Command(
        "convert.py",
        ("tiny", "out/tiny.pth", "--json", "out/tiny.json"),
        ("other", "out/tiny.pth", "--json", "out/tiny.json"),
        8,
    ),
    "seed": Command(
        "compare.py",
        ("seed", "tiny", "out/seeded"),
        ("seed", "tiny", "out/seeded", "--salt", "other"),
        4,
    ),
    "record": Command(
        "compare.py",
        ("record", "tiny", "out/trace.h5", *_RECORD),
        ("record", "tiny", "out/trace.h5", *_RECORD, "--nodes", "class_head.*"),
        4,
    ),
    "coco": Command("compare.py", ("coco", "tiny", "--out", "out/coco", *_IMAGES), None, 2),
    "report": Command(
        "compare.py",
        ("report", "tiny", "--out", "out/report", *_IMAGES)
        + ("--skip", "self-check", "--skip", "structure", "--skip", "nodes"),
        None,
        2,
    ),
}
"""What is killed."""


def killed(
    count: int, seed: int, material: Path, kept: Path, names: Sequence[str] | None = None
) -> Tally:
    """Kill commands and run them again.

    Args:
        count: How often.
        seed: Of the moments and signals.
        material: As :mod:`fuzzing.material` has filled it.
        kept: Where the folder of a failure goes.
        names: Of :data:`COMMANDS`; all by default.
    """
    rng, tally, began = Random(f"kills {seed}"), Tally(), time.monotonic()
    chosen = list(names or COMMANDS)
    work = scratch("kills")
    try:
        for name, wanted in _shares(count, chosen).items():
            trial = _Trial(name, work, material, kept, tally)
            try:
                trial.prepare()
            except RuntimeError as error:
                tally.broken = f"{tally.broken or ''}{error} "
                continue
            for number in range(wanted):
                trial.once(rng, number)
                _tell(tally, count, name, began)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tally.seconds = time.monotonic() - began
    return tally


def _shares(count: int, names: Sequence[str]) -> dict[str, int]:
    """How often each command is killed, those left out that are not."""
    left, shares = count, sum(COMMANDS[name].share for name in names)
    found = {}
    for name in names:
        share = COMMANDS[name].share
        found[name] = round(left * share / shares)
        left, shares = left - found[name], shares - share
    return {name: number for name, number in found.items() if number}


def _tell(tally: Tally, count: int, name: str, began: float) -> None:
    spent = time.monotonic() - began
    left = spent / max(tally.tried, 1) * (count - tally.tried)
    found = f", {tally.failed} FAILED" if tally.failed else ""
    line = (
        f"[kills] {name}: {tally.tried} of {count}{found}; {spent:.0f} s, about {left:.0f} s left"
    )
    print(line, file=sys.stderr, flush=True)


class _Trial:
    """One command, killed again and again."""

    def __init__(self, name: str, work: Path, material: Path, kept: Path, tally: Tally) -> None:
        self.name, self.command, self.work = name, COMMANDS[name], work
        self.out, self.material, self.kept, self.tally = work / "out", material, kept, tally
        self.seconds, self.code = 0.0, 0
        self.sound: dict[str, Any] = {}
        self.sounds: dict[bool, dict[str, Any]] = {}
        self.before: Path | None = None

    def prepare(self) -> None:
        """Run it undisturbed, for what it writes and how long it takes; twice, to see that it can.

        Raises:
            RuntimeError: Two undisturbed runs differ in more than the fields that are left out.
        """
        self._lay_out()
        if self.command.earlier is not None:
            self._fresh()
            self._finish(self.command.earlier)
            self.before = self.work / f"before-{self.name}"
            shutil.copytree(self.out, self.before)
            self.earlier = {n: p.read_bytes() for n, p in outcomes.files(self.before).items()}
        for _ in range(2):
            self._fresh()
            began = time.monotonic()
            self.code = self._finish(self.command.words)
            self.seconds = time.monotonic() - began
            first, self.sound = self.sound, self._normal()
            if first and first != self.sound:
                raise RuntimeError(
                    f"two runs of {self.name} differ: {_differing(first, self.sound)}"
                )
        self.sounds[False] = self.sound
        if self.before is not None:
            # A checkpoint that takes the place of another is called otherwise.
            self._fresh(earlier=True)
            self._finish(self.command.words)
            self.sounds[True] = self._normal()

    def _lay_out(self) -> None:
        """What commands read."""
        for name in ("tiny", "other"):
            if not (self.work / name).exists():
                shutil.copytree(self.material / name, self.work / name)
        for name in ("images", "annotations.json"):
            place = self.material / "coco" / name
            if place.is_dir():
                shutil.copytree(place, self.work / name, dirs_exist_ok=True)
            else:
                shutil.copy(place, self.work / name)

    def _fresh(self, earlier: bool = False) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        if earlier and self.before is not None:
            shutil.copytree(self.before, self.out)
        else:
            self.out.mkdir()

    def _start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        log = (self.work / "log").open("wb")
        command = [sys.executable, str(_ROOT / self.command.script), *words]
        with log:
            return subprocess.Popen(
                command, cwd=self.work, stdout=log, stderr=log, env=quiet(), start_new_session=True
            )

    def _finish(self, words: Sequence[str]) -> int:
        process = self._start(words)
        try:
            return process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            return process.wait()

    def _normal(self) -> dict[str, Any]:
        return {name: outcomes.normal(path) for name, path in outcomes.files(self.out).items()}

    def once(self, rng: Random, number: int) -> None:
        """Kill it once, look at what is there, run it again, and compare."""
        with_earlier = self.before is not None and rng.random() < 0.5
        self.sound, said = self.sounds[with_earlier], ""
        for _ in range(20):
            self._fresh(with_earlier)
            said = self._kill(rng)
            if said:
                break
        found = self._half(with_earlier) or self._again()
        self.tally.tried += 1
        if found is None and said.startswith("killed"):
            self.tally.refused += 1
            return
        self.tally.failed += 1
        self._keep(number, found or said or "it always ended before it was killed", said)

    def _kill(self, rng: Random) -> str:
        """Kill it at some moment; empty if it had ended before."""
        number = rng.choice(_SIGNALS)
        process = self._start(self.command.words)
        if rng.random() < 0.5:
            moment = rng.uniform(0, self.seconds)
            time.sleep(moment)
            when = f"after {moment:.3f} s"
        else:
            delay = rng.choice((0.0, 0.001, 0.005, 0.02, 0.1)) * rng.random()
            skipped = rng.choice((0, 0, 1, 2, 5))
            self._await_writing(process, skipped)
            time.sleep(delay)
            when = f"{delay:.4f} s after it began to write, {skipped} files before not counted"
        if process.poll() is not None:
            return ""
        _signal(process, number)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
            return f"it did not end within {_PATIENCE} s of {number.name}"
        # Whatever it had started is of the same group.
        _signal(process, signal.SIGKILL)
        return f"killed by {number.name} {when}"

    def _await_writing(self, process: subprocess.Popen[bytes], skipped: int) -> None:
        """Wait until a temporary file appears, or another after some."""
        seen: set[str] = set()
        while process.poll() is None:
            seen.update(outcomes.litter(self.out))
            if len(seen) > skipped:
                return
            time.sleep(0.001)

    def _half(self, with_earlier: bool) -> str | None:
        """What stands half written under a final name."""
        for name, path in outcomes.files(self.out).items():
            data = path.read_bytes()
            if with_earlier and data == self.earlier.get(name):
                continue
            with contextlib.suppress(ValueError, SyntaxError, OSError):
                if name in self.sound and outcomes.normal(path) == self.sound[name]:
                    continue
            wrong = outcomes.incomplete(path)
            if wrong is not None:
                return wrong
        return None

    def _again(self) -> str | None:
        """What is wrong after the same command was run again."""
        code = self._finish(self.command.words)
        if code != self.code:
            last = (self.work / "log").read_text("utf-8", "replace").strip().splitlines()[-1:]
            return f"run again it ends with {code}, not {self.code}: {' '.join(last):.300}"
        left = outcomes.litter(self.out)
        if left:
            return f"run again it leaves {left[:5]}"
        now = self._normal()
        return None if now == self.sound else f"run again: {_differing(self.sound, now)}"

    def _keep(self, number: int, detail: str, said: str) -> None:
        place = self.kept / f"kill-{self.name}-{number:03}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.out, place / "out", symlinks=True)
        told = {
            "target": f"kill of {self.name}",
            "kind": "kill",
            "signature": f"{self.name}: {detail:.60}",
            "detail": f"{said}: {detail}",
            "folder": str(place),
        }
        (place / "case.json").write_text(json.dumps(told, indent=1), "utf-8")
        self.tally.failures.append(told)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _differing(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Which files two runs do not share, and where the first of them differs."""
    names = sorted(
        n for n in first.keys() | second.keys() if first.get(n, b"") != second.get(n, b"")
    )
    a, b = first.get(names[0]), second.get(names[0])
    if a is None or b is None:
        return f"{names[0]} is {'new' if a is None else 'missing'} (of {len(names)} files)"
    place = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), -1)
    shown = f"{a[max(0, place - 60) : place + 60]!r} / {b[max(0, place - 60) : place + 60]!r}"
    return f"{names[0]} at {place}: {shown} (of {len(names)} files: {names[:6]})"
