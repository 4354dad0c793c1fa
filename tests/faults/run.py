"""Injects every fault of the catalogue into full models and tables what the harness finds.

Run from the repository's root by ``make faults``. For each fault: whether it was detected,
whether the nodes that fail are the very ones that are wrong, and whether the diagnosis has the
right name. Then faithful models under several seeds, images, thread counts and with oneDNN off,
none of which may raise an alarm.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import compare
from converter.progress import Progress
from efficientdet_spec import get_config, parse_size
from parity import environment
from parity.files import write_json, write_text

if TYPE_CHECKING:
    from faults.bench import Outcome

SALTS = ("seed", "golden", "a")


def seeded(model, salt, folder):
    """A seeded checkpoint's folder."""
    target = folder / f"{model}-{salt}"
    if not (target / "model.index").exists() and compare.main(
        ["seed", model, str(target), "--salt", salt]
    ):
        raise SystemExit(2)
    return target


def false_alarms(models, size, folder):
    """Comparisons of faithful models that must pass, each a process of its own.

    Returns:
        (description, exit code) of each.
    """
    runs = []
    for model in models:
        for salt in SALTS:
            runs.append((model, salt, size, "2", {}))
        height, width = parse_size(size)
        for other in (f"{height + 128}x{width}", f"{height}x{width + 64}"):
            runs.append((model, "seed", other, "2", {}))
        runs.append((model, "seed", size, "1", {}))
        runs.append((model, "seed", size, "2", {"TF_ENABLE_ONEDNN_OPTS": "0"}))
        runs.append((model, "seed", size, "2", {"TF_ENABLE_ONEDNN_OPTS": "1"}))
    results = []
    with Progress("false alarms", unit="runs") as progress:
        for number, (model, salt, pixels, threads, settings) in enumerate(runs):
            done = subprocess.run(
                [sys.executable, "compare.py", "nodes", str(seeded(model, salt, folder))]
                + ["--model", model, "--size", pixels, "--threads", threads]
                + ["--contributions", "0"],
                env=os.environ | settings,
                capture_output=True,
                text=True,
            )
            text = " ".join([f"{k}={v}" for k, v in settings.items()])
            label = f"{model} salt {salt} {pixels} threads {threads} {text}".strip()
            results.append((label, done.returncode))
            if done.returncode:
                print(f"FALSE ALARM: {label}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            progress(number + 1, len(runs))
    return results


def table(outcomes: Sequence["Outcome"], alarms) -> str:
    """The published table, in Markdown."""
    lines = ["| model | faults | detected | located | named |", "|---|---|---|---|---|"]
    for model in dict.fromkeys(item.model for item in outcomes):
        for visible, label in ((True, "visible to inference"), (False, "found in the structure")):
            part = [o for o in outcomes if o.model == model and o.visible is visible]
            if not part:
                continue
            counts = [sum(getattr(o, what) for o in part) for what in _COUNTED]
            shares = [f"{count} ({count / len(part):.1%})" for count in counts]
            lines.append(f"| {model} | {len(part)} {label} | {' | '.join(shares)} |")
    wrong = sum(code != 0 for _, code in alarms)
    lines += ["", f"{len(alarms)} comparisons of faithful models, {wrong} false alarms.", ""]
    lines += ["| model | fault | what is wrong | failing | detected | located | named |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for item in outcomes:
        marks = ["yes" if getattr(item, what) else "**no**" for what in _COUNTED]
        names = ", ".join(item.names[:3])
        lines.append(
            f"| {item.model.removeprefix('efficientdet-')} | {item.fault} | {item.title} | "
            f"{item.failing} | {marks[0]} | {marks[1]} | {marks[2]}: {names} |"
        )
    return "\n".join(lines) + "\n"


_COUNTED = ("detected", "located", "named")


def main(argv=None):
    """Run it; exit code 1 where a fault goes undetected or a faithful model fails."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["d0", "d6"])
    parser.add_argument("--size", default="256")
    parser.add_argument("--only", default="", help="keys that begin like this")
    parser.add_argument("--no-alarms", action="store_true", help="leave faithful models out")
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Before anything imports PyTorch.
    environment.prepare()
    import torch
    from faults.bench import Bench
    from faults.catalogue import FAMILIES, applicable

    torch.set_num_threads(2)
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for model in arguments.models:
            name = get_config(model).name
            bench = Bench(seeded(model, "seed", folder), name, parse_size(arguments.size))
            families = {
                fault.key: family for family, faults in FAMILIES.items() for fault in faults
            }
            faults = [f for f in applicable(bench.config) if f.key.startswith(arguments.only)]
            with Progress(f"faults in {name}", unit="faults") as progress:
                for number, fault in enumerate(faults):
                    outcomes.append(bench.outcome(families[fault.key], fault))
                    progress(number + 1, len(faults))
            bench.session.close()
        alarms = []
        if not arguments.no_alarms:
            alarms = false_alarms(arguments.models, arguments.size, folder)
    text = table(outcomes, alarms)
    write_text(arguments.out / "faults.md", text)
    write_json(
        arguments.out / "faults.json",
        {
            "schema": "efficientdet-parity/faults",
            "version": 1,
            "size": arguments.size,
            "environment": environment.describe(2),
            "outcomes": [asdict(item) for item in outcomes],
            "alarms": [{"run": label, "exit_code": code} for label, code in alarms],
        },
    )
    print(text)
    missed = [item for item in outcomes if not item.detected]
    return 1 if missed or any(code for _, code in alarms) else 0


if __name__ == "__main__":
    sys.exit(main())
