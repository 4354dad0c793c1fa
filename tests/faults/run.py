"""Injects every fault of the catalogue into full models and tables what the harness finds.

Run from the repository's root by ``make faults``. For each fault: whether it moves an output, which
is found without the harness; whether it was detected; whether the nodes that fail are the very ones
that are wrong; and whether the diagnosis has the right name, a wrong one, or describes it. Then
faithful models, none of which may raise an alarm, and the largest error that passes.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from faults import alarms, sharpness

import compare
from converter.progress import Progress
from efficientdet_spec import OFFICIAL_MODELS, get_config, parse_size
from parity.detections.images import image_files
from parity.process import environment
from parity.process.files import write_text
from parity.results.records.faults import FaithfulRun, FaultsResult, InjectedFault, SharpnessRow
from parity.results.records.record import made, write

if TYPE_CHECKING:
    from faults.bench import Outcome

_COUNTED = ("detected", "located", "named")


def seeded(model, salt, folder):
    """A seeded checkpoint's folder."""
    target = folder / f"{model}-{salt}"
    if not (target / "model.index").exists() and compare.main(
        ["seed", model, str(target), "--salt", salt]
    ):
        raise SystemExit(2)
    return target


def faults_table(outcomes: Sequence["Outcome"]) -> str:
    """What was found of the faults, in Markdown."""
    lines = ["| model | faults | detected | located | named | named wrongly |"]
    lines += ["|---|---|---|---|---|---|"]
    for model in dict.fromkeys(item.model for item in outcomes):
        mine = [item for item in outcomes if item.model == model]
        for label, part in (
            ("that move an output", [o for o in mine if o.visible and o.moves]),
            ("that move none on this image", [o for o in mine if o.visible and not o.moves]),
            ("found in the structure", [o for o in mine if not o.visible]),
        ):
            if not part:
                continue
            counts = [sum(getattr(o, what) for o in part) for what in _COUNTED]
            shares = [f"{count} ({count / len(part):.1%})" for count in counts]
            wrong = sum(o.misnamed for o in part)
            lines.append(f"| {model} | {len(part)} {label} | {' | '.join(shares)} | {wrong} |")
    return "\n".join(lines)


def kinds_table(outcomes: Sequence["Outcome"]) -> str:
    """How many kinds there are, and in how many places each was put, in Markdown."""
    lines = ["| model | kinds | in three places or more | named at every place |"]
    lines += ["|---|---|---|---|"]
    for model in dict.fromkeys(item.model for item in outcomes):
        kinds: dict[str, list[Outcome]] = {}
        for item in outcomes:
            if item.model == model:
                kinds.setdefault(item.fault.partition("/")[0], []).append(item)
        often = sum(len(places) >= 3 for places in kinds.values())
        named = sum(all(place.named for place in places) for places in kinds.values())
        lines.append(f"| {model} | {len(kinds)} | {often} | {named} ({named / len(kinds):.1%}) |")
    return "\n".join(lines)


def every_fault(outcomes: Sequence["Outcome"]) -> str:
    """One row for each fault, in Markdown."""
    lines = ["| model | fault | what is wrong | failing | moves | detected | located | name |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for item in outcomes:
        marks = ["yes" if getattr(item, what) else "**no**" for what in _COUNTED[:2]]
        name = ", ".join(item.names[:3])
        if item.misnamed:
            name = f"**wrong**: {name}"
        elif not item.named:
            name = "described"
        moves = "yes" if item.moves else "no"
        lines.append(
            f"| {item.model.removeprefix('efficientdet-')} | {item.fault} | {item.title} | "
            f"{item.failing} | {moves} | {marks[0]} | {marks[1]} | {name} |"
        )
    return "\n".join(lines)


def main(argv=None):
    """Run it; exit code 1 where a fault is missed or misnamed, or a faithful model fails."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--models", nargs="*", default=["d0", "d6"])
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--only", default="*", help="pattern of the keys, such as 'kernel-*'")
    parser.add_argument("--one-place", action="store_true", help="each kind at one of its places")
    parser.add_argument("--sample", type=int, help="so many of them, drawn at random")
    parser.add_argument("--checkpoint", type=Path, help="put faults into this one, not a seeded")
    parser.add_argument("--trained", type=Path, help="checkpoint of a trained model")
    parser.add_argument("--images", type=Path, help="folder of photographs, for faithful models")
    parser.add_argument("--no-alarms", action="store_true", help="leave faithful models out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Before anything imports PyTorch.
    environment.prepare()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        outcomes = [
            outcome for model in arguments.models for outcome in _injected(model, arguments, folder)
        ]
        sharp = [] if not arguments.trained else _sharpness(arguments)
        found = [] if arguments.no_alarms else _alarms(arguments, folder)
    _write(arguments, outcomes, sharp, found)
    missed = [item for item in outcomes if item.misnamed or (item.moves and not item.detected)]
    return 1 if missed or any(alarm.exit_code for alarm in found) else 0


def _injected(model, arguments, folder) -> "list[Outcome]":
    import torch
    from faults.bench import Bench
    from faults.catalogue import FAMILIES, applicable, one_of_each_kind

    from parity.sides.side import CandidateError

    torch.set_num_threads(arguments.threads)
    name = get_config(model).name
    config = get_config(name)
    families = {fault.key: family for family, faults in FAMILIES.items() for fault in faults}
    faults = [f for f in applicable(config) if fnmatchcase(f.key, arguments.only)]
    if arguments.one_place:
        faults = one_of_each_kind(faults)
    if arguments.sample and arguments.sample < len(faults):
        faults = random.Random(0).sample(faults, arguments.sample)
    # Those that need as many images share a reference.
    faults.sort(key=lambda fault: fault.images)
    outcomes, done = [], 0
    with Progress(f"faults in {name}", unit="faults") as progress:
        for images, group in groupby(faults, lambda fault: fault.images):
            checkpoint = arguments.checkpoint or seeded(model, "seed", folder)
            bench = Bench(checkpoint, name, parse_size(arguments.size), images=images)
            for fault in group:
                try:
                    outcomes.append(bench.outcome(families[fault.key], fault))
                except CandidateError as error:
                    # Such as a border that is mirrored where a level has a single pixel.
                    print(f"left out, as it cannot be at this size: {fault.key} ({error})")
                done += 1
                _keep(arguments, outcomes)
                progress(done, len(faults))
            bench.session.close()
    return outcomes


def _keep(arguments, outcomes) -> None:
    """Write what is known so far, which an hour's work should not be lost for."""
    text = "\n".join(json.dumps(asdict(item)) for item in outcomes)
    write_text(arguments.out / "so-far.jsonl", text + "\n")


def _sharpness(arguments):
    """The largest errors that pass, on two photographs or the generated one."""
    from faults.bench import Bench

    from torch_model.decode import read_image
    from torch_model.preprocess import preprocess

    bench = Bench(arguments.trained, None, None)
    rows = []
    files = image_files(arguments.images)[:2] if arguments.images else [None]
    for path in files:
        if path is not None:
            size = bench.images.shape[1:3]
            bench.images = preprocess(read_image(path), *size)[None]
        label = f"{bench.config.name}, {path.name if path else 'generated image'}"
        rows += [(label, row) for row in sharpness.measure(bench)]
    bench.session.close()
    return rows


def _alarms(arguments, folder) -> list[alarms.Alarm]:
    images = image_files(arguments.images) if arguments.images else []
    runs = alarms.seeded_runs(
        OFFICIAL_MODELS, arguments.size, lambda model, salt: seeded(model, salt, folder), images
    )
    if arguments.trained:
        runs += alarms.trained_runs(arguments.trained, images)
    return alarms.carried_out(runs, folder)


def _write(arguments, outcomes, sharp, found) -> None:
    parts = []
    if outcomes:
        parts += ["## Faults", faults_table(outcomes), kinds_table(outcomes)]
    if found:
        parts += ["## False alarms", alarms.table(found)]
    if sharp:
        parts += ["## The largest error that passes", sharpness.table(sharp)]
    if outcomes:
        parts += ["## Every fault", every_fault(outcomes)]
    text = "\n\n".join(parts) + "\n"
    write_text(arguments.out / "faults.md", text)
    result = FaultsResult(
        size=arguments.size,
        environment=environment.describe(arguments.threads),
        outcomes=[made(InjectedFault, item) for item in outcomes],
        alarms=[made(FaithfulRun, alarm) for alarm in found],
        sharpness=[made(SharpnessRow, {"input": label, **asdict(row)}) for label, row in sharp],
    )
    write(arguments.out / "faults.json", result)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
