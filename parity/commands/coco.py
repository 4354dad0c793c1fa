"""``coco``: COCO metrics and every detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from converter.conversion import files_at
from converter.progress import Progress
from efficientdet_spec import MODELS, Cause, EfficientDetConfig, InputError, first_difference
from parity.coco.titles import REFERENCE
from parity.commands.asking.options import describe_checkpoint
from parity.commands.detecting.brought_detection import brought, check_brought
from parity.commands.detecting.candidate_detection import CandidateDetecting
from parity.commands.detecting.detection import (
    Detection,
    describe_environment,
    notes_on_form,
    open_folder,
    set_up,
)
from parity.commands.detecting.detectors import Detecting, detecting, progress_title
from parity.commands.detecting.runner import open_runner, threads_of
from parity.process.console import say
from parity.process.files import write_text
from parity.results.place import ResultPlace
from parity.settings.coco import CANDIDATE, CocoSettings

if TYPE_CHECKING:
    from parity.coco.report import CocoReport
    from parity.detections.annotations import Annotations
    from parity.detections.rows import Rows
    from parity.detections.shard_files import ImageResult, Shard
    from parity.detections.shards import Compute, Work
    from parity.pipelines.explanation import Explanation


def run(settings: CocoSettings, place: ResultPlace) -> int:
    """Evaluate, print, write.

    Args:
        settings: What is asked for.
        place: Where the result goes.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.coco.text import coco_text

    report = evaluate_images(settings, place)
    place.write(report.result())
    say(coco_text(report))
    if len(report.outcomes) == 1 and report.complete:
        # Nothing was to be compared, and what was to be done is.
        return 0
    return report.outcome.exit_code


def evaluate_images(
    settings: CocoSettings, place: ResultPlace, candidate: Detecting | None = None
) -> CocoReport:
    """Detect with each side, and compare.

    Args:
        settings: What is asked for.
        place: Where the result is to go, which is given up where that is no place for one.
        candidate: What takes the converted model's place; None for what the settings name.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.commands.detecting import swaps
    from parity.detections import shards
    from parity.detections.rows import told_of_repeats
    from parity.detections.shard_files import ShardFolder

    if candidate is None and settings.candidate is not None:
        candidate = CandidateDetecting.named(settings.candidate, settings.names)
    if candidate is not None and (settings.workers is not None or settings.scheduler is not None):
        # One that cannot be sent should not be refused after workers have been started.
        candidate.elsewhere()
    if settings.detections is not None:
        check_brought(settings.detections)
    names = settings.sides(candidate=candidate is not None or settings.detections is not None)
    setup = set_up(settings, settings.batch_size, threads_of(settings))
    every, annotations = _annotations(settings, setup)
    if settings.detections is not None:
        known = [image.id for image in every.images]
        candidate = brought(settings.detections, settings.images, annotations, known)
    if settings.stage_swap:
        swaps.check(annotations, names)
    kinds = ("detections", "submission") if settings.submission else ("detections",)
    files = [f"{kind}_{name}.json" for kind in kinds for name in names]
    keep = [settings.annotations, *files_at(setup.prefix)]
    keep += candidate.files() if candidate else []
    sides = [candidate if candidate and name == CANDIDATE else detecting(name) for name in names]
    work = shards.Work(settings.images, annotations.images, setup.batch)
    with ExitStack() as stack:
        files = [settings.RESULT_NAME, *files]
        stack.enter_context(open_folder(settings.out, files, keep, place))
        fingerprint = shards.fingerprint(work)
        if names != (REFERENCE,) or settings.stage_swap:
            from parity.sides.pytorch.device import settings_kept

            stack.enter_context(settings_kept())
        # What is wrong with a candidate should not be said after hours of the reference's work.
        manifests = {side.name: {**side.manifest(setup), "images": fingerprint} for side in sides}
        for name, manifest in manifests.items():
            ShardFolder.claim(settings.out / "shards" / name, manifest)
        with open_runner(settings, setup) as runner:
            computes = {side.name: runner.compute(side) for side in sides}
            results = {
                side.name: _detected(
                    settings, side.name, manifests[side.name], computes[side.name], work
                )
                for side in sides
            }
        brings = settings.detections is not None
        results = {
            name: _written(settings, name, found, annotations, kinds, brings and name == CANDIDATE)
            for name, found in results.items()
        }
        _require_some(results)
        report = _coco_report(settings, setup, annotations, results, runner.environment)
        if candidate is not None:
            repeats = told_of_repeats(_rows_by_image(results.get(CANDIDATE, ())))
            notes = (*report.notes, *candidate.notes(), *([repeats] if repeats else []))
            report = replace(report, candidate=candidate.described, notes=notes)
        if settings.explains and CANDIDATE in names:
            found = [item for shard in results[CANDIDATE] for item in shard.images]
            explanation = _explanation(settings, setup, annotations, found)
            report = replace(report, explanation=explanation)
        if not settings.stage_swap:
            return report
        stage_swap = swaps.run(
            setup,
            settings.out / "shards",
            work,
            fingerprint,
            annotations,
            with_tensorflow=REFERENCE in names,
        )
    return replace(report, stage_swap=stage_swap)


def _explanation(
    settings: CocoSettings,
    setup: Detection,
    annotations: Annotations,
    found: Sequence[ImageResult],
) -> Explanation | None:
    """What explains another program's detections; None where it has none."""
    from parity.commands.detecting.pipelines import explained

    rows = {item.image_id: item.rows for item in found if item.failure is None}
    images = [image for image in annotations.images if image.id in rows]
    if not any(len(item) for item in rows.values()):
        return None
    return explained(setup, settings.images, sorted(annotations.categories), images, rows)


def _require_some(results: Mapping[str, Sequence[Shard]]) -> None:
    """Refuse a candidate that fails on every image, which compares nothing.

    Raises:
        InputError: With the first reason.
    """
    found = [item.failure for shard in results.get(CANDIDATE, ()) for item in shard.images]
    if found and all(found):
        more = f" So it does on all {len(found)} images." if len(found) > 1 else ""
        raise InputError(f"{found[0]}{more}", Cause.CANDIDATE)


def _annotations(settings: CocoSettings, setup: Detection) -> tuple[Annotations, Annotations]:
    """All images, and those that are asked for, of which at least one must be there."""
    from parity.coco.names import category_names, stated_names
    from parity.detections.annotations import choose, read_annotations
    from parity.detections.classes import Classes
    from parity.detections.image_sizes import located

    config = setup.conversion.config
    classes = Classes(config.num_classes, stated_names(config), category_names(config.num_classes))
    found = read_annotations(settings.annotations, classes, need_boxes=not settings.submission)
    numbers = None if settings.image_ids is None else list(settings.image_ids)
    return found, located(choose(found, numbers, settings.limit), settings.images)


def _detected(
    settings: CocoSettings,
    side: str,
    manifest: Mapping[str, Any],
    compute: Compute,
    work: Work,
) -> Sequence[Shard]:
    """One side's detections."""
    from parity.detections import shards

    with Progress(progress_title(side), unit="images") as progress:
        return shards.run(settings.out / "shards" / side, manifest, work, compute, progress)


def _written(
    settings: CocoSettings,
    side: str,
    found: Sequence[Shard],
    annotations: Annotations,
    kinds: Sequence[str],
    brought: bool,
) -> Sequence[Shard]:
    """One side's detections, written as COCO's evaluation reads them: with the file's ids.

    Args:
        settings: What is asked for.
        side: Its name.
        found: Its detections.
        annotations: Of these images.
        kinds: Of the files.
        brought: Whether they have the ids of the annotation file already.

    Returns:
        The same with the model's class ids.
    """
    from parity.detections.rows import results_json

    rows = _rows_by_image(found)
    if not brought:
        rows = [(number, annotations.in_file(table)) for number, table in rows]
    for kind in kinds:
        path = settings.out / f"{kind}_{side}.json"
        write_text(path, results_json(rows, submission=kind == "submission"))
    if not brought:
        return found
    return [
        replace(
            shard,
            images=[replace(item, rows=annotations.of_model(item.rows)) for item in shard.images],
        )
        for shard in found
    ]


def _rows_by_image(found: Sequence[Shard]) -> list[tuple[int, Rows]]:
    return [(item.image_id, item.rows) for shard in found for item in shard.images]


def _coco_report(
    settings: CocoSettings,
    setup: Detection,
    annotations: Annotations,
    results: Mapping[str, Sequence[Shard]],
    ran_on: Mapping[str, Any],
) -> CocoReport:
    from parity.coco.bootstrap import ap_difference
    from parity.coco.metrics import evaluate
    from parity.coco.report import CocoReport, SideResults
    from parity.commands.detecting.tied import explained_ties
    from parity.detections.matching import match
    from parity.results.records.stages import StageValues

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
    # What one side cannot process says nothing about the other.
    usable = [image.id for image in annotations.images if image.id not in failed]
    evaluations = {
        name: evaluate(annotations, usable, table) if annotations.boxes is not None else None
        for name, table in tables.items()
    }
    matching = interval = None
    if len(tables) == 2:
        reference, judged = (
            {number: table[number] for number in usable} for table in tables.values()
        )
        sizes = {image.id: (image.height, image.width) for image in annotations.images}
        longest = setup.longest_anchors(sizes.values())
        anchors = dict(zip(sizes, longest, strict=True))
        matching = match(reference, judged, anchors)
        if REFERENCE in tables:
            images = {image.id: image for image in annotations.images}
            both = reference, judged
            matching = explained_ties(setup, settings.images, images, matching, both, anchors)
        first, second = evaluations.values()
        if usable and first and second:
            with Progress("resampling", unit="resamples") as progress:
                interval = ap_difference(first, second, progress=progress)
    return CocoReport(
        model=setup.conversion.config.name,
        checkpoint=describe_checkpoint(settings, setup.conversion),
        annotations=str(annotations.source),
        profile=setup.profile.to_dict(),
        size=setup.size,
        environment={**describe_environment(setup, set(results) != {REFERENCE}), **ran_on},
        outcomes={name: SideResults(shards, evaluations[name]) for name, shards in results.items()},
        categories=annotations.categories,
        file_names={image.id: image.file_name for image in annotations.images},
        file_ids=annotations.file_ids,
        notes=(*annotations.notes, *notes_on_form(setup)),
        matching=matching,
        interval=interval,
        stages=StageValues.of(setup.around.to_dict()),
        own=_own(setup.conversion.config),
    )


def _own(config: EfficientDetConfig) -> str | None:
    """A hyperparameter in which a model differs from the official one of its name."""
    official = MODELS.get(config.name)
    if official is None:
        return None
    # The size is chosen anew, and the names change nothing.
    same = replace(config, image_size=official.image_size, label_map=official.label_map)
    found = first_difference(same, official)
    return None if found is None else found.key
