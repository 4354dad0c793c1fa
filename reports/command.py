"""``compare.py report``: runs everything and makes the pages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from efficientdet_spec import OFFICIAL_MODELS, Cause, InputError, parse_size
from parity.process.files import make_folder
from reports.run.steps import ALL, Choice, subjects

_MAX_COUNT = 1000


def add_parser(commands: Any) -> None:
    """Make the command known."""
    report = commands.add_parser(
        "report",
        help="run everything for one model or all of them and make pages of it",
        description="Converts, compares and evaluates models, each command in a process of its "
        "own, and makes pages to be read in a browser. A run that was interrupted is gone on "
        "with by the same command.",
    )
    report.set_defaults(run=run)
    report.add_argument(
        "sources",
        nargs="*",
        metavar="MODEL_OR_CHECKPOINT",
        help=f"{OFFICIAL_MODELS[0]} to {OFFICIAL_MODELS[-1]}, {ALL}, or a checkpoint as SOURCE of "
        "convert.py; NAME=SOURCE gives the page another name",
    )
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the pages")
    report.add_argument(
        "--from",
        dest="results",
        type=Path,
        metavar="DIR",
        help="make the pages again from the results of an earlier run, without computing",
    )
    report.add_argument(
        "--results",
        dest="keep",
        type=Path,
        metavar="DIR",
        help="for the results the pages are made of (default: results in --out)",
    )
    report.add_argument(
        "--no-data",
        action="store_true",
        help="leave the results' JSON files out of the pages' folder: smaller, the tables remain",
    )
    report.add_argument(
        "--seeded",
        action="store_true",
        help="official names: seeded weights, even where the trained ones could be downloaded",
    )
    report.add_argument("--candidate", help="as for compare.py nodes; default: the converted model")
    report.add_argument("--image", type=Path, help="for the nodes; default: a built-in image")
    report.add_argument("--size", help="HxW in pixels; default: each model's native size")
    report.add_argument("--weights", choices=("ema", "raw"), default="ema", help="default: ema")
    report.add_argument("--model", help="of checkpoints that do not say which they are")
    report.add_argument("--threads", type=int, help="threads within one operation, on both sides")
    report.add_argument(
        "--closeups",
        type=int,
        default=12,
        metavar="N",
        help="as for compare.py nodes (default: 12)",
    )
    report.add_argument("--images", type=Path, metavar="DIR", help="folder of COCO images")
    report.add_argument("--annotations", type=Path, metavar="FILE", help="their annotations")
    report.add_argument("--limit", type=int, metavar="N", help="only the first N images by id")
    report.add_argument(
        "--profile", default="official", metavar="NAME", help="as for compare.py coco"
    )
    report.add_argument(
        "--pictures",
        type=int,
        default=3,
        metavar="N",
        help="of how many images to show both sides' detections (default: 3)",
    )
    report.add_argument(
        "--self-check",
        action="store_true",
        help="also put faults into the model and see that each is found",
    )
    report.add_argument("--cache", type=Path, help="folder for downloads (EFFICIENTDET_CACHE)")


def run(arguments: argparse.Namespace) -> int:
    """``compare.py report``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    if arguments.results:
        if arguments.sources:
            raise InputError("--from computes nothing; leave the models out.", Cause.OPTION)
        results = arguments.results
        if not results.is_dir():
            raise InputError(
                f"{results} is no folder; give the results of an earlier run.", Cause.FILE
            )
    else:
        if not arguments.sources:
            raise InputError("No model is given; name one, a checkpoint, or all.", Cause.OPTION)
        found = subjects(arguments.sources)
        choice = _choice(arguments)
        from reports.run import runner

        make_folder(arguments.out)
        results = arguments.keep or arguments.out / "results"
        command = runner.command_line(arguments.typed)
        runner.run_all(found, choice, results, command)
    from reports.pages import render

    make_folder(arguments.out)
    summary = render.render(results, arguments.out, data=not arguments.no_data)
    print(summary.text)
    print(f"wrote {arguments.out / 'index.html'}")
    return summary.outcome.exit_code


def _choice(arguments: argparse.Namespace) -> Choice:
    for name in ("closeups", "pictures"):
        value = getattr(arguments, name)
        if not 0 <= value <= _MAX_COUNT:
            raise InputError(
                f"--{name} is {value}; give a number from 0 to {_MAX_COUNT}.", Cause.OPTION
            )
    for name in ("threads", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; give a number from 1.", Cause.OPTION)
    if arguments.size:
        parse_size(arguments.size)
    if bool(arguments.images) != bool(arguments.annotations):
        missing, there = (
            ("annotations", "images") if arguments.images else ("images", "annotations")
        )
        raise InputError(
            f"--{there} is of no use without --{missing}; give both or neither.", Cause.OPTION
        )
    if arguments.images and not arguments.images.is_dir():
        raise InputError(
            f"{arguments.images} is no folder; give the folder of the images.", Cause.FILE
        )
    for path in (arguments.annotations, arguments.image):
        if path and not path.is_file():
            raise InputError(f"{path} is no file; give one that exists.", Cause.FILE)
    return Choice(
        seeded=arguments.seeded,
        candidate=arguments.candidate,
        image=arguments.image,
        size=arguments.size,
        weights=arguments.weights,
        model=arguments.model,
        threads=arguments.threads,
        closeups=arguments.closeups,
        images=arguments.images,
        annotations=arguments.annotations,
        limit=arguments.limit,
        profile=arguments.profile,
        pictures=arguments.pictures,
        self_check=arguments.self_check,
        cache=arguments.cache,
    )
