"""``compare.py detect``: both sides' detections in images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from converter.bundle import checkpoint_files
from converter.progress import Progress
from efficientdet_spec import InputError
from parity.ahead import ahead
from parity.commands.detection import (
    FRAMEWORKS,
    Detection,
    describe_environment,
    open_folder,
    set_up,
)
from parity.commands.options import add_detection, check_numbers, describe_checkpoint
from parity.files import write_json
from parity.images import image_files
from parity.shards import BATCHES_AHEAD, Prepared, Side


def add_parser(commands: Any) -> None:
    """Make the command known."""
    detect = commands.add_parser("detect", help="draw both sides' detections in images")
    detect.set_defaults(run=run)
    add_detection(detect)
    detect.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="image files, or folders of JPEG, PNG and BMP files",
    )
    detect.add_argument(
        "--min-score",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="draw and judge detections from this score on (default: 0.3)",
    )


def run(arguments: argparse.Namespace) -> int:
    """``compare.py detect``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.coco.names import category_names
    from parity.drawing import differing, side_by_side, write_png
    from parity.matching import match_image
    from torch_model.decode import read_image

    check_numbers(arguments)
    if not 0 <= arguments.min_score <= 1:
        raise InputError(f"--min-score is {arguments.min_score}; give a number from 0 to 1.")
    setup = set_up(arguments, 1)
    names = category_names(setup.conversion.config.num_classes)
    paths = _files(arguments.images)
    pictures = _picture_names(paths)
    keep = [*paths, *checkpoint_files(setup.prefix)]
    open_folder(arguments.out, ["detect.json", *pictures], keep)
    found = {framework: _detect_all(setup, framework, paths) for framework in FRAMEWORKS}
    passes, entries = True, []
    for place, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
        sides = {framework: results[place] for framework, results in found.items()}
        entry: dict[str, Any] = {
            "file": str(path),
            "failures": {name: side for name, side in sides.items() if isinstance(side, str)},
            "detections": {
                name: side.tolist() for name, side in sides.items() if not isinstance(side, str)
            },
        }
        entries.append(entry)
        if entry["failures"]:
            passes = False
            for framework, reason in entry["failures"].items():
                print(f"{path}: failed in {framework}: {reason}")
            continue
        tensorflow, torch = (sides[name] for name in FRAMEWORKS)
        image = read_image(path)
        drawn = side_by_side(image, tensorflow, torch, names, min_score=arguments.min_score)
        write_png(arguments.out / picture, drawn)
        apart = sum(map(len, differing(tensorflow, torch, arguments.min_score)))
        passes = passes and not apart
        matched = match_image(place + 1, tensorflow, torch)
        entry |= {"picture": picture, "visibly_different": apart, "matching": matched.to_dict()}
        print(
            f"{path}: {len(matched.pairs)} matched, {matched.unmatched} without a partner, largest "
            f"differences: score {matched.score:.2e}, box {matched.box:.2e} pixels; "
            f"{arguments.out / picture}"
        )
    result = {
        "schema": "efficientdet-parity/detect",
        "version": 1,
        "passes": passes,
        "model": setup.conversion.config.name,
        "checkpoint": describe_checkpoint(arguments, setup.conversion),
        "profile": setup.profile.to_dict(),
        "size": list(setup.size),
        "environment": describe_environment(setup, True),
        "columns": ["x", "y", "width", "height", "score", "category_id"],
        "images": entries,
    }
    write_json(arguments.out / "detect.json", result)
    return 0 if passes else 1


def _files(paths: Sequence[Path]) -> list[Path]:
    """The paths as given, each folder replaced by the images in it; a file need not exist."""
    return [file for path in paths for file in (image_files(path) if path.is_dir() else [path])]


def _picture_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each image's picture, no two alike."""
    names: list[str] = []
    for path in paths:
        name, number = f"{path.stem}.png", 1
        while name in names:
            number += 1
            name = f"{path.stem}_{number}.png"
        names.append(name)
    return names


def _detect_all(setup: Detection, framework: str, paths: Sequence[Path]) -> list[Any]:
    """Each image's detections as rows, or why it failed."""
    from parity.coco.detections import as_rows

    results: list[Any] = []
    with (
        setup.open(framework) as side,
        Progress(f"detecting with {framework}", unit="images") as progress,
        closing(ahead(partial(_prepare, side), paths, BATCHES_AHEAD)) as prepared,
    ):
        for item in prepared:
            try:
                results.append(item if isinstance(item, str) else as_rows(*side.detect([item])[0]))
            except InputError as error:
                results.append(str(error))
            progress(len(results), len(paths))
    return results


def _prepare(side: Side, path: Path) -> Prepared | str:
    """The image, or why it cannot be used."""
    try:
        return side.prepare(path)
    except InputError as error:
        return str(error)
