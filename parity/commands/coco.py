"""``compare.py coco``: COCO metrics and every detection."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.bundle import checkpoint_files
from converter.progress import Progress
from efficientdet_spec import Cause, InputError
from parity.commands.asking.options import add_detection, check_numbers, describe_checkpoint
from parity.commands.detecting.detection import (
    FRAMEWORKS,
    Detection,
    describe_environment,
    open_folder,
    set_up,
)
from parity.commands.detecting.runner import add_runner, check_runner, open_runner
from parity.process.files import write_text

if TYPE_CHECKING:
    from parity.coco.report import CocoReport
    from parity.detections.annotations import Annotations
    from parity.detections.shards import Shard


_FILE = "coco.json"
_MAX_BATCH = 1024
_MAX_IMAGES = 10**9


def add_parser(commands: Any) -> None:
    """Make the command known."""
    coco = commands.add_parser("coco", help="compare COCO metrics and every detection")
    coco.set_defaults(run=run, result_file=lambda arguments: arguments.out / _FILE)
    add_detection(coco)
    coco.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of the images"
    )
    coco.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="FILE",
        help="COCO annotations, such as instances_val2017.json",
    )
    coco.add_argument("--limit", type=int, metavar="N", help="only the first N images by id")
    coco.add_argument("--image-ids", metavar="ID,ID,...", help="only these images")
    coco.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images at a time (default: 1)"
    )
    coco.add_argument(
        "--framework",
        choices=(*FRAMEWORKS, "both"),
        default="both",
        help="default: both",
    )
    add_runner(coco)
    coco.add_argument(
        "--stage-swap",
        action="store_true",
        help="also what each stage is worth: the metrics of PyTorch's pipeline with one stage at a "
        "time taken from TensorFlow, or as ports get it wrong; some ten times the work",
    )
    coco.add_argument(
        "--submission",
        action="store_true",
        help="also write detections rounded for COCO's evaluation server; the annotations may "
        "then be those of test images, without boxes",
    )


def run(arguments: argparse.Namespace) -> int:
    """``compare.py coco``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.coco.text import coco_text
    from parity.commands.detecting import swaps
    from parity.detections import shards
    from parity.detections.annotations import choose, read_annotations
    from parity.detections.rows import results_json

    check_numbers(arguments)
    check_runner(arguments)
    for name, highest in (("batch_size", _MAX_BATCH), ("limit", _MAX_IMAGES)):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= highest:
            option = name.replace("_", "-")
            raise InputError(
                f"--{option} is {value}; give a number from 1 to {highest}.", Cause.OPTION
            )
    setup = set_up(arguments, arguments.batch_size)
    found = read_annotations(
        arguments.annotations,
        setup.conversion.config.num_classes,
        need_boxes=not arguments.submission,
    )
    annotations = choose(found, _image_ids(arguments.image_ids), arguments.limit)
    folder, images = arguments.images, annotations.images
    if not any((folder / image.file_name).is_file() for image in images):
        raise InputError(
            f"{folder} has none of the {len(images)} images of {arguments.annotations}, the first "
            f"being {images[0].file_name}; give the folder of these images.",
            Cause.FILE,
        )
    frameworks = FRAMEWORKS if arguments.framework == "both" else (arguments.framework,)
    if arguments.stage_swap:
        swaps.check(annotations, frameworks)
    kinds = ("detections", "submission") if arguments.submission else ("detections",)
    names = [f"{kind}_{framework}.json" for kind in kinds for framework in frameworks]
    keep = [arguments.annotations, *checkpoint_files(setup.prefix)]
    open_folder(arguments, [_FILE, *names], keep)

    work = shards.Work(folder, images, setup.batch)
    fingerprint = shards.fingerprint(work)
    results = {}
    with open_runner(arguments, setup) as runner:
        for framework in frameworks:
            with Progress(f"detecting with {framework}", unit="images") as progress:
                results[framework] = shards.run(
                    arguments.out / "shards" / framework,
                    setup.manifest(framework) | {"images": fingerprint},
                    work,
                    runner.compute(framework),
                    progress,
                )
            rows = [
                (item.image_id, item.rows) for shard in results[framework] for item in shard.images
            ]
            for kind in kinds:
                path = arguments.out / f"{kind}_{framework}.json"
                write_text(path, results_json(rows, submission=kind == "submission"))
    report = _coco_report(arguments, setup, annotations, results, runner.environment)
    if arguments.stage_swap:
        stage_swap = swaps.run(
            setup,
            arguments.out / "shards",
            work,
            fingerprint,
            annotations,
            with_tensorflow="tensorflow" in frameworks,
        )
        report = replace(report, stage_swap=stage_swap)
    arguments.place.write(report.result())
    print(coco_text(report))
    if len(frameworks) == 1 and report.complete:
        # Nothing was to be compared, and what was to be done is.
        return 0
    return report.outcome.exit_code


def _image_ids(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--image-ids {text!r:.80} is no list of numbers; write it as in 139,285.",
            Cause.OPTION,
        ) from None


def _coco_report(
    arguments: argparse.Namespace,
    setup: Detection,
    annotations: Annotations,
    results: Mapping[str, Sequence[Shard]],
    ran_on: Mapping[str, Any],
) -> CocoReport:
    from parity.coco.bootstrap import ap_difference
    from parity.coco.metrics import evaluate
    from parity.coco.report import CocoReport, SideResults
    from parity.detections.matching import match

    tables = {
        name: {item.image_id: item.rows for shard in shards for item in shard.images}
        for name, shards in results.items()
    }
    failed = {
        item.image_id
        for shards in results.values()
        for shard in shards
        for item in shard.images
        if item.failure is not None
    }
    # What one framework cannot process says nothing about the other.
    usable = [image.id for image in annotations.images if image.id not in failed]
    evaluations = {
        name: evaluate(annotations, usable, table) if annotations.boxes is not None else None
        for name, table in tables.items()
    }
    matching = interval = None
    if len(tables) == 2:
        reference, candidate = (
            {number: tables[name][number] for number in usable} for name in FRAMEWORKS
        )
        sizes = {image.id: (image.height, image.width) for image in annotations.images}
        longest = setup.longest_anchors(sizes.values())
        matching = match(reference, candidate, dict(zip(sizes, longest, strict=True)))
        first, second = (evaluations[name] for name in FRAMEWORKS)
        if usable and first and second:
            with Progress("resampling", unit="resamples") as progress:
                interval = ap_difference(first, second, progress=progress)
    return CocoReport(
        model=setup.conversion.config.name,
        checkpoint=describe_checkpoint(arguments, setup.conversion),
        annotations=str(annotations.source),
        profile=setup.profile.to_dict(),
        size=setup.size,
        environment={**describe_environment(setup, "torch" in results), **ran_on},
        outcomes={name: SideResults(shards, evaluations[name]) for name, shards in results.items()},
        categories=annotations.categories,
        file_names={image.id: image.file_name for image in annotations.images},
        matching=matching,
        interval=interval,
    )
