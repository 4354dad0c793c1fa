"""Comparisons of faithful models, none of which may raise an alarm, and how near each came."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.progress import Progress

NATIVE = "efficientdet-d4"
"""A deep model that is also compared at the size that it is made for."""

OTHER_SALTS = ("golden", "a")
"""Seeded weights besides the usual ones."""


@dataclass(frozen=True)
class Run:
    """One command that compares a faithful model.

    Attributes:
        what: In words, for the table.
        checkpoint: The checkpoint.
        options: Of ``compare.py nodes``.
        environment: Settings of the process.
    """

    what: str
    checkpoint: Path
    options: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Alarm:
    """What came of it.

    Attributes:
        what: As of the run.
        inputs: Number of inputs.
        nodes: Number of nodes judged, over all inputs.
        exit_code: 0 where there was no alarm.
        candidate: The largest part of its limit that the candidate took up at any node.
        reference: The same of the reference.
    """

    what: str
    inputs: int
    nodes: int
    exit_code: int
    candidate: float
    reference: float


def seeded_runs(models: Iterable[str], size: str, seeded, images: Sequence[Path]) -> list[Run]:
    """Models with seeded weights: every one on three images, the first under more settings.

    Args:
        models: Names of models, the first two with more settings.
        size: Of the inputs.
        seeded: Gives the folder of a model's seeded checkpoint for a salt.
        images: Photographs; without any the generated set is taken.
    """
    runs = []
    for number, model in enumerate(models):
        options = ["--model", model, "--size", size]
        three = ["--image", *map(str, images[:3])] if images else []
        kind = "photographs" if images else "generated"
        runs.append(Run(f"{model} seeded, {size}, {kind}", seeded(model, "seed"), options + three))
        if model == NATIVE:
            what = f"{model} seeded, native size, generated set"
            runs.append(Run(what, seeded(model, "seed"), ["--model", model]))
        if number > 1:
            continue
        for salt in OTHER_SALTS:
            runs.append(Run(f"{model} salt {salt}, {size}", seeded(model, salt), options))
        runs.append(
            Run(
                f"{model} seeded, {size}, 1 thread",
                seeded(model, "seed"),
                [*options, "--threads", "1"],
            )
        )
        runs.append(
            Run(
                f"{model} seeded, {size}, oneDNN off in TensorFlow",
                seeded(model, "seed"),
                options,
                {"TF_ENABLE_ONEDNN_OPTS": "0"},
            )
        )
    return runs


def trained_runs(checkpoint: Path, images: Sequence[Path]) -> list[Run]:
    """A trained model on photographs, in sizes, batches and settings.

    Args:
        checkpoint: Of the model.
        images: Photographs, a dozen or more.
    """
    dozen = ["--image", *map(str, images[:12])]
    few = ["--image", *map(str, images[12:18])]
    name = "trained model"
    settings = [
        ("generated set, native size", [], {}),
        ("photographs, 256x256", [*dozen, "--size", "256x256"], {}),
        ("photographs, 193x257", [*dozen, "--size", "193x257"], {}),
        ("photographs, 256x256, batches of 2", [*dozen, "--size", "256x256", "--batch", "2"], {}),
        ("photographs, 256x256, batches of 3", [*dozen, "--size", "256x256", "--batch", "3"], {}),
        ("photographs, 192x192, 1 thread", [*few, "--size", "192x192", "--threads", "1"], {}),
        ("photographs, 256x256, 2 threads", [*few, "--size", "256x256", "--threads", "2"], {}),
        (
            "photographs, 256x256, oneDNN off in TensorFlow",
            [*few, "--size", "256x256"],
            {"TF_ENABLE_ONEDNN_OPTS": "0"},
        ),
    ]
    return [Run(f"{name}, {what}", checkpoint, opts, env) for what, opts, env in settings]


def carried_out(runs: Sequence[Run], folder: Path) -> list[Alarm]:
    """Run the commands, each in a process of its own.

    Args:
        runs: The commands.
        folder: For their results.
    """
    found = []
    with Progress("false alarms", unit="runs") as progress:
        for number, run in enumerate(runs):
            result = folder / f"alarm-{number}.json"
            done = subprocess.run(
                [sys.executable, "compare.py", "nodes", str(run.checkpoint), *run.options]
                + ["--contributions", "0", "--json", str(result)],
                env=os.environ | run.environment,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                tail = (done.stdout + done.stderr)[-2000:]
                print(f"FALSE ALARM: {run.what}\n{tail}", flush=True)
            found.append(_alarm(run, done.returncode, result))
            progress(number + 1, len(runs))
    return found


def _alarm(run: Run, exit_code: int, path: Path) -> Alarm:
    if not path.exists():
        return Alarm(run.what, 0, 0, exit_code, float("nan"), float("nan"))
    result = json.loads(path.read_text("utf-8"))
    shares = {
        side: max(
            (
                node[distance]["roundings"] / node["limit"][side]
                for node in result["nodes"]
                if node["limit"] and node["limit"][side] and node[distance]
            ),
            default=0.0,
        )
        for side, distance in (("candidate", "from_exact"), ("reference", "reference_from_exact"))
    }
    return Alarm(
        what=run.what,
        inputs=len(result["inputs"]),
        nodes=sum(sum(item["counts"].values()) for item in result["inputs"]),
        exit_code=exit_code,
        candidate=shares["candidate"],
        reference=shares["reference"],
    )


def table(alarms: Sequence[Alarm]) -> str:
    """The published table, in Markdown."""
    wrong = sum(alarm.exit_code != 0 for alarm in alarms)
    inputs = sum(alarm.inputs for alarm in alarms)
    nodes = sum(alarm.nodes for alarm in alarms)
    lines = [
        f"{len(alarms)} comparisons of faithful models on {inputs} inputs, {nodes:,} nodes judged: "
        f"{wrong} false alarms.",
        "",
        "| what was compared | inputs | exit code | candidate | reference |",
        "|---|---|---|---|---|",
    ]
    for alarm in alarms:
        lines.append(
            f"| {alarm.what} | {alarm.inputs} | {alarm.exit_code} | {alarm.candidate:.0%} | "
            f"{alarm.reference:.0%} |"
        )
    lines += [
        "",
        "The last columns: the largest part of its limit that a side took up at any node.",
    ]
    return "\n".join(lines)
