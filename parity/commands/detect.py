"""``detect``: both sides' detections in images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from converter.bundle import checkpoint_files
from converter.progress import Progress
from efficientdet_spec import InputError
from parity.coco.text import TITLES
from parity.commands.asking.options import describe_checkpoint
from parity.commands.detecting.detection import (
    Detection,
    describe_environment,
    open_folder,
    set_up,
)
from parity.commands.detecting.detectors import open_detector
from parity.detections.images import image_files
from parity.detections.shards import BATCHES_AHEAD, Prepared, Side
from parity.process.outcome import Outcome
from parity.process.prefetch import ahead
from parity.results.place import ResultPlace
from parity.results.records.detect import DetectCompared, DetectImage, DetectResult
from parity.settings.coco import FRAMEWORKS
from parity.settings.detect import DetectSettings

SETTINGS = DetectSettings


def run(settings: DetectSettings, place: ResultPlace) -> int:
    """Detect, draw, judge, print, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.coco.names import category_names

    setup = set_up(settings, 1)
    names = category_names(setup.conversion.config.num_classes)
    paths = _files(settings.images)
    pictures = [settings.out / name for name in _picture_names(paths)]
    keep = [*paths, *checkpoint_files(setup.prefix)]
    names_in_folder = [settings.RESULT_NAME, *(path.name for path in pictures)]
    open_folder(settings.out, names_in_folder, keep, place)
    found = {framework: _detect_all(setup, framework, paths) for framework in FRAMEWORKS}
    entries = [
        _compare(setup, path, picture, sides, names, settings.min_score)
        for path, picture, sides in zip(
            paths, pictures, zip(*found.values(), strict=True), strict=True
        )
    ]
    outcome, sentence, compared = judge(entries, settings.min_score)
    result = DetectResult(
        outcome=outcome,
        passes=outcome is Outcome.PARITY,
        sentence=sentence,
        compared=compared,
        min_score=settings.min_score,
        model=setup.conversion.config.name,
        checkpoint=describe_checkpoint(settings, setup.conversion),
        profile=setup.profile.to_dict(),
        size=setup.size,
        environment=describe_environment(setup, True),
        columns=["x", "y", "width", "height", "score", "category_id"],
        images=entries,
    )
    place.write(result)
    print(f"{outcome.value}: {sentence}")
    return outcome.exit_code


def _compare(
    setup: Detection,
    path: Path,
    picture: Path,
    sides: Sequence[Any],
    names: Mapping[int, str],
    min_score: float,
) -> DetectImage:
    """Draw and judge one image; what ``detect.json`` tells of it."""
    from parity.detections.drawing import differing, side_by_side, write_png
    from parity.detections.matching import match_image
    from torch_model.decode import read_image

    named = dict(zip(FRAMEWORKS, sides, strict=True))
    entry = DetectImage(
        file=str(path),
        failures={name: side for name, side in named.items() if isinstance(side, str)},
        detections={
            name: side.tolist() for name, side in named.items() if not isinstance(side, str)
        },
    )
    if entry.failures:
        for framework, reason in entry.failures.items():
            print(f"{path}: failed in {framework}: {reason}")
        return entry
    tensorflow, torch = sides
    image = read_image(path)
    (anchor,) = setup.longest_anchors([image.shape[:2]])
    drawn = side_by_side(image, tensorflow, torch, names, min_score=min_score, anchor=anchor)
    write_png(picture, drawn)
    found = match_image(0, tensorflow, torch, anchor)
    apart = sum(map(len, differing(found, tensorflow, torch, min_score)))
    print(
        f"{path}: {len(found.pairs)} matched, {found.unmatched} without a partner, largest "
        f"differences: score {found.score:.2e}, box {found.box:.2e} pixels; {picture}"
    )
    shown = {name: int((side[:, 4] >= min_score).sum()) for name, side in named.items()}
    return structs.replace(
        entry,
        picture=picture.name,
        shown=shown,
        visibly_different=apart,
        matching=found.result(),
    )


def judge(entries: Sequence[DetectImage], min_score: float) -> tuple[Outcome, str, DetectCompared]:
    """What the images show together: the outcome, why, and what was compared.

    Args:
        entries: Of each image, as in ``detect.json``.
        min_score: Detections below it were not judged.
    """
    done = [entry for entry in entries if not entry.failures]
    compared = DetectCompared(
        images=len(done),
        failed=len(entries) - len(done),
        detections={
            name: sum(entry.shown[name] for entry in done if entry.shown) for name in FRAMEWORKS
        },
        matched=sum(entry.matching.matched for entry in done if entry.matching),
    )
    apart = sum(entry.visibly_different or 0 for entry in done)
    counts = " and ".join(
        f"{number} of {TITLES[name]}" for name, number in compared.detections.items()
    )
    if apart:
        text = f"{apart} of the detections with a score of at least {min_score:g} differ visibly"
        return Outcome.DIFFERENCE, text, compared
    if compared.failed:
        text = f"{compared.failed} of {len(entries)} images failed; nothing else differs"
        return Outcome.NOT_SHOWN, text, compared
    if not all(compared.detections.values()):
        text = f"nothing was detected with a score of at least {min_score:g}, so nothing is proven"
        return Outcome.NOT_SHOWN, text, compared
    text = f"none of the detections with a score of at least {min_score:g} differs visibly"
    return Outcome.PARITY, f"{text} ({counts})", compared


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
    from parity.detections.rows import as_rows

    results: list[Any] = []
    with (
        open_detector(setup, framework) as side,
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
