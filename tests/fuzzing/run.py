"""The command line: tries targets, kills commands, prints and writes the table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fuzzing import table, targets
from fuzzing.watch import Plan, Tally, explored, quiet, scratch

_OUT = Path("out/fuzz")
_WEIGHTS = {"odd-files": 2.0, "pth": 2.0, "pth-flips": 0.5, "http": 1.5, "report": 1.5}
"""Shares of the time, where they are not 1."""


def main() -> int:
    """Run what is asked for; the exit code is 1 where anything has failed."""
    asked = _asked()
    if asked.repeat is not None:
        return _repeat(asked.repeat)
    material = _material()
    names = [] if asked.none else asked.only or list(targets.ALL)
    kept = _OUT / "failures"
    began, tallies = time.monotonic(), {}
    for place, name in enumerate(names):
        seconds = _share(asked.seconds, names[place:], began)
        examples = asked.examples or (10**9 if asked.seconds else targets.kind_of(name).EXAMPLES)
        plan = Plan(name, asked.seed, examples, seconds, material, kept)
        tallies[name] = explored(plan, _Progress(place, names, asked.seconds, began))
        _say(name, tallies[name])
    kills = None
    if asked.kills:
        from fuzzing.kills import killed

        kills = killed(asked.kills, asked.seed, material, kept, asked.commands)
        _say("kills", kills)
    return _told(asked, tallies, kills)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzzing.run", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, help="share so much time among the targets")
    add("--examples", type=int, help="inputs of each target; default: its own number")
    add("--only", action="append", choices=list(targets.MODULES), help="this target alone")
    add("--seed", type=int, default=1)
    add("--kills", type=int, default=0, help="also kill commands so often")
    add("--commands", nargs="*", help="of the commands that are killed only these")
    add("--json", type=Path, help="write everything here")
    add("--markdown", type=Path, help="put the table between the marks of this document")
    add("--repeat", type=Path, help="read the kept input of this folder again, and nothing else")
    add("--none", action="store_true", help="kill commands alone")
    return parser.parse_args()


def _material() -> Path:
    """The sound inputs, made by a process of its own."""
    folder = _OUT / "material"
    command = [sys.executable, "-W", "ignore", "-m", "fuzzing.material", str(folder)]
    subprocess.run(command, check=True, env=quiet(), stdout=subprocess.DEVNULL)
    return folder


def _share(seconds: float | None, left: list[str], began: float) -> float:
    """The first target's part of the time that is left."""
    if seconds is None:
        return 1e9
    weights = [_WEIGHTS.get(name, 1.0) for name in left]
    return max(1.0, seconds - (time.monotonic() - began)) * weights[0] / sum(weights)


class _Progress:
    """Says now and then how far a target is and how much time is left."""

    def __init__(self, place: int, names: list[str], seconds: float | None, began: float) -> None:
        self._head = f"[{place + 1}/{len(names)}] {names[place]}"
        self._seconds, self._began, self._next = seconds, began, 0.0

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 5
        spent = now - self._began
        left = f", {max(0, self._seconds - spent):.0f} s left" if self._seconds else ""
        found = f", {tally.failed} FAILED" if tally.failed else ""
        line = f"{self._head}: {tally.tried:,} tried{found}; {spent:.0f} s{left}"
        print(line, file=sys.stderr, flush=True)


def _say(name: str, tally: Tally) -> None:
    """What has failed of a target, one line a defect."""
    for failure in table.alike(tally.failures):
        detail = failure["detail"].strip().splitlines()[-1][:200]
        print(f"FAILED {name}: {failure['count']} x {failure['signature']}: {detail!a}")
        if name == "kills":
            print(f"  {failure['folder']}: what it had left, and in case.json when it was killed")
        elif "folder" in failure:
            print(f"  PYTHONPATH=.:tests python -m fuzzing.run --repeat {failure['folder']}")
    if tally.broken:
        print(f"FAILED {name}: {tally.broken}")
    sys.stdout.flush()


def _told(asked: Any, tallies: dict[str, Tally], kills: Tally | None) -> int:
    """Print and write the table; the exit code."""
    found = table.rows(tallies, kills)
    print(table.text(found))
    if asked.json is not None:
        table.write_json(asked.json, table.as_values(tallies, kills, asked.seed))
    if asked.markdown is not None:
        table.put_into(asked.markdown, table.markdown(found, asked.seed))
    every = [*tallies.values(), *([kills] if kills else [])]
    return 1 if any(tally.failed or tally.broken for tally in every) else 0


def _repeat(place: Path) -> int:
    """Read a kept input again, in a process that is watched."""
    told = json.loads((place / "case.json").read_text("utf-8"))
    folder = scratch("repeat")
    command = [sys.executable, "-W", "ignore", "-m", "fuzzing.worker", told["target"]]
    command += ["--folder", str(folder), "--material", str(_material())]
    with tempfile.TemporaryDirectory() as kept:
        command += ["--kept", kept, "--repeat", str(place.resolve())]
        try:
            return subprocess.run(command, env=quiet(), timeout=120).returncode
        except subprocess.TimeoutExpired:
            print("hang: no end within 120 s", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
