"""``detect``: both sides' detections in images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from converter.conversion import files_at
from converter.progress import Progress
from efficientdet_spec import InputError, printable
from efficientdet_spec.prefetch import ahead
from parity.coco.titles import REFERENCE, TITLES, titles
from parity.commands.asking.options import describe_checkpoint
from parity.commands.detecting.candidate_detection import CandidateDetecting
from parity.commands.detecting.detection import (
    Detection,
    describe_environment,
    notes_on_form,
    open_folder,
    set_up,
)
from parity.commands.detecting.detectors import Detecting, detecting, progress_title
from parity.detections.images import image_files, told_of_hidden
from parity.detections.shards import BATCHES_AHEAD, Prepared, Side
from parity.process.console import say
from parity.process.outcome import Outcome
from parity.results.place import ResultPlace
from parity.results.records.detect import DetectCompared, DetectImage, DetectResult
from parity.results.records.stages import StageValues
from parity.settings.coco import FRAMEWORKS
from parity.settings.detect import DetectSettings


def run(settings: DetectSettings, place: ResultPlace) -> int:
    """Detect, draw, judge, print, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    result = detect_images(settings, place)
    place.write(result)
    called = titles(result.candidate)
    for entry in result.images:
        say("\n".join(_told(entry, settings.out, called)))
    for note in result.notes:
        say(printable(note))
    say(f"hyperparameters {result.checkpoint.told}")
    say(f"{result.outcome.value}: {printable(result.sentence)}")
    return result.outcome.exit_code


def detect_images(
    settings: DetectSettings, place: ResultPlace, candidate: Detecting | None = None
) -> DetectResult:
    """Detect with each side, draw, and judge.

    Args:
        settings: What is asked for.
        place: Where the result is to go, which is given up where that is no place for one.
        candidate: What takes the converted model's place; None for what the settings name.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.coco.names import class_names
    from parity.sides.pytorch.device import settings_kept

    if candidate is None and settings.candidate is not None:
        candidate = CandidateDetecting.named(settings.candidate, settings.names)
    setup = set_up(settings, settings.batch_size)
    config = setup.conversion.config
    names = class_names(config)
    paths = _files(settings.images)
    pictures = [settings.out / name for name in _picture_names(paths)]
    keep = [*paths, *files_at(setup.prefix), *(candidate.files() if candidate else [])]
    names_in_folder = [settings.RESULT_NAME, *(path.name for path in pictures)]
    with open_folder(settings.out, names_in_folder, keep, place), settings_kept():
        if candidate is not None:
            # What is wrong with it should not be said after TensorFlow has been started.
            candidate.manifest(setup)
        sides = [detecting(REFERENCE), candidate or detecting(FRAMEWORKS[1])]
        found = [_detect_all(setup, side, paths) for side in sides]
        described = describe_environment(setup, True)
        called = titles(candidate.described if candidate else None)
        shown = _Shown(called, names, settings.min_score)
        entries = [
            _compare(setup, path, picture, dict(zip(called, rows, strict=True)), shown)
            for path, picture, rows in zip(paths, pictures, zip(*found, strict=True), strict=True)
        ]
    outcome, sentence, compared = judge(entries, settings.min_score, called)
    return DetectResult(
        outcome=outcome,
        passes=outcome is Outcome.PARITY,
        sentence=sentence,
        compared=compared,
        min_score=settings.min_score,
        model=setup.conversion.config.name,
        checkpoint=describe_checkpoint(settings, setup.conversion),
        candidate=candidate.described if candidate else None,
        notes=(
            *(candidate.notes() if candidate else ()),
            *notes_on_form(setup),
            *told_of_hidden(path for path in settings.images if path.is_dir()),
        ),
        profile=setup.profile.to_dict(),
        stages=StageValues.of(setup.around.to_dict()),
        size=setup.size,
        environment=described,
        columns=["x", "y", "width", "height", "score", "category_id"],
        images=entries,
    )


def _told(entry: DetectImage, folder: Path, titles: Mapping[str, str]) -> list[str]:
    """What is printed of an image."""
    found = entry.matching
    if not found:
        return [
            printable(f"{entry.file}: failed in {titles[side]}: {reason}")
            for side, reason in entry.failures.items()
        ]
    return [
        f"{entry.file}: {found.matched} matched, {found.reference_only + found.candidate_only} "
        f"without a partner, largest differences: score {found.largest_score_difference:.2e}, box "
        f"{found.largest_box_difference_pixels:.2e} pixels; {folder / str(entry.picture)}"
    ]


@dataclass(frozen=True)
class _Shown:
    """How detections are drawn.

    Attributes:
        titles: What people call the sides, the reference first.
        names: Name by category id.
        min_score: Those below it are left out.
    """

    titles: Mapping[str, str]
    names: Mapping[int, str]
    min_score: float


def _compare(
    setup: Detection,
    path: Path,
    picture: Path,
    named: Mapping[str, Any],
    shown_as: _Shown,
) -> DetectImage:
    """Draw and judge one image; what ``detect.json`` tells of it.

    Args:
        setup: The model and the stages around it.
        path: The image.
        picture: To be drawn.
        named: By side, the detections as rows, or why there are none.
        shown_as: How they are drawn.
    """
    from parity.detections.drawing import differing, side_by_side, write_png
    from parity.detections.matching import match_image
    from torch_model.decode import read_image

    entry = DetectImage(
        file=str(path),
        failures={name: side for name, side in named.items() if isinstance(side, str)},
        detections={
            name: side.tolist() for name, side in named.items() if not isinstance(side, str)
        },
    )
    if entry.failures:
        return entry
    reference, judged = named.values()
    low = shown_as.min_score
    image = read_image(path)
    (anchor,) = setup.longest_anchors([image.shape[:2]])
    drawn = side_by_side(
        image,
        reference,
        judged,
        shown_as.names,
        min_score=low,
        anchor=anchor,
        titles=tuple(shown_as.titles.values()),
    )
    write_png(picture, drawn)
    found = match_image(0, reference, judged, anchor)
    apart = sum(map(len, differing(found, reference, judged, low)))
    shown = {name: int((side[:, 4] >= low).sum()) for name, side in named.items()}
    return structs.replace(
        entry,
        picture=picture.name,
        shown=shown,
        visibly_different=apart,
        matching=found.result(),
    )


def judge(
    entries: Sequence[DetectImage], min_score: float, titles: Mapping[str, str] = TITLES
) -> tuple[Outcome, str, DetectCompared]:
    """What the images show together: the outcome, why, and what was compared.

    Args:
        entries: Of each image, as in ``detect.json``.
        min_score: Detections below it were not judged.
        titles: What people call the sides.
    """
    done = [entry for entry in entries if not entry.failures]
    compared = DetectCompared(
        images=len(done),
        failed=len(entries) - len(done),
        detections={
            name: sum(entry.shown[name] for entry in done if entry.shown) for name in titles
        },
        matched=sum(entry.matching.matched for entry in done if entry.matching),
    )
    apart = sum(entry.visibly_different or 0 for entry in done)
    counts = " and ".join(
        f"{number} of {titles[name]}" for name, number in compared.detections.items()
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


def _detect_all(setup: Detection, detector: Detecting, paths: Sequence[Path]) -> list[Any]:
    """Each image's detections as rows, or why it failed."""
    from parity.detections.rows import as_rows

    results: list[Any] = []
    with (
        detector.open(setup) as side,
        Progress(progress_title(detector.name), unit="images") as progress,
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
