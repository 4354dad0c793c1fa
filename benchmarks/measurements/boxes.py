"""From image files to boxes with D0: everything that a user waits for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.agreement import detections_apart
from benchmarks.measurements.plan import Plan, Way, Work, measured
from benchmarks.records import Measurement
from benchmarks.runtimes.packages import missing_of
from benchmarks.workers import Opened

MODEL = "efficientdet-d0"
PROFILES = ("official", "official-tf-nms", "hparams", "interactive")
"""With the official evaluation's NMS in NumPy, and with TensorFlow's operation; with the candidates
of the model's own hyperparameters; and as in exported models."""

CHUNK = 40
"""Images of a turn at most. Several processes are ahead by some of up to 16 when it begins, and by
as many only on average when it ends."""

ONE_RUN = "TensorFlow, one session.run"
OURS = {
    "eager": ("eager", 0),
    "eager, images ahead": ("eager", 1),
    "optimised": ("optimized", 0),
    "optimised, images ahead": ("optimized", 1),
    "optimised, 2 processes": ("optimized", 2),
}
"""Form of the model, and the processes that have images ahead: with none each image is finished
before the next one is read."""


def measure(plan: Plan) -> Iterator[Measurement]:
    """Every profile."""
    with plan.preparing():
        paths = _paths(plan)
    for profile in PROFILES:
        yield _of_profile(plan, paths, profile)


def _paths(plan: Plan) -> list[Path]:
    if plan.images is None:
        return plan.material.photographs()
    return sorted(path for path in plan.images.iterdir() if path.suffix.lower() in (".jpg", ".png"))


def _of_profile(plan: Plan, paths: Sequence[Path], profile: str) -> Measurement:
    material = plan.material
    chunks = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    if len(chunks) > 1 and len(chunks[-1]) < len(chunks[0]):
        chunks.pop()
    common = {"chunks": chunks, "profile": profile, "threads": plan.threads}
    ways = {
        name: Way(
            f"{__name__}:open_detector",
            lambda form=form, processes=processes: {
                **common,
                "source": material.converted(MODEL),
                "form": form,
                "processes": processes,
            },
        )
        for name, (form, processes) in OURS.items()
    }
    left_out = {}
    reason = missing_of(["tensorflow"])
    if reason is None:
        ways[ONE_RUN] = Way(
            f"{__name__}:open_one_run",
            lambda: {**common, "checkpoint": str(material.checkpoint(MODEL))},
        )
    else:
        left_out[ONE_RUN] = reason
    first = next(iter(OURS))
    subject = f"{MODEL}, profile {profile}, {sum(map(len, chunks))} images, {plan.threads} threads"
    if known := plan.known("boxes", subject, [*OURS, ONE_RUN]):
        return known
    work = Work(
        what="boxes",
        subject=subject,
        settings={
            "model": MODEL,
            "profile": profile,
            "images": sum(map(len, chunks)),
            "built_in_images": plan.images is None,
            "seeded": MODEL not in material.given,
            "images_of_a_turn": len(chunks[0]),
            "threads": plan.threads,
        },
        unit="an image",
        per=len(chunks[0]),
        expected=first,
        apart=detections_apart,
        bound=1,
        checked="scores of an image in order within 0.001, and each detection that scores over "
        f"0.3 has its like within half a pixel, against {first}, on a turn's images",
        reference=ONE_RUN if ONE_RUN in ways else first,
    )
    return measured(plan, work, ways, left_out)


def open_detector(
    chunks: Sequence[Sequence[Path]],
    profile: str,
    threads: int,
    source: Path,
    form: str,
    processes: int,
) -> Opened:
    """This project's detector; for a process of its own.

    Of several processes a turn takes as many images as of one, from those that they never stop to
    detect but while other ways have their turns: their start is in no turn.
    """
    from benchmarks.material import Case
    from benchmarks.runtimes.pytorch import prepared

    prepared(Case(MODEL, (0, 0), 1, threads))
    import torch_model
    from torch_model.decode import read_image
    from torch_model.detector import Detector
    from torch_model.profiles import get_profile

    detector = Detector(torch_model.load(source).eval(), get_profile(profile), form=form)
    detector.prepare()
    stages = {"decode": 0.0, "preprocess": 0.0, "network": 0.0, "postprocess": 0.0}
    began = 0.0

    def lap(stage: str) -> None:
        nonlocal began
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - began
        began = now

    if not processes:
        detector.model.register_forward_hook(lambda module, given, made: lap("network"))

    def one(path: Path) -> Any:
        nonlocal began
        began = time.perf_counter()
        image = read_image(path, fast_dct=detector.profile.decode == "fast-dct")
        lap("decode")
        given = detector.preprocess(image)
        lap("preprocess")
        (found,) = detector.detect_inputs([given])
        lap("postprocess")
        return found

    endless = itertools.cycle(itertools.chain.from_iterable(chunks))
    going_on = detector.detect(endless, processes=processes) if processes > 1 else None

    def run(turn: int) -> Any:
        paths = chunks[max(turn, 0) % len(chunks)]
        if going_on is not None:
            return list(itertools.islice(going_on, len(paths)))
        if not processes:
            return [one(path) for path in paths]
        with closing(detector.detect(paths)) as found:
            return list(found)

    def outputs(result: Any) -> Any:
        return [(item.boxes, item.scores, item.classes) for item in result]

    # Stages that overlap do not add up.
    return Opened(run, outputs, {} if processes else stages, repeatable=False)


def open_one_run(
    chunks: Sequence[Sequence[Path]], profile: str, threads: int, checkpoint: str
) -> Opened:
    """TensorFlow from a file's bytes to boxes; for a process of its own."""
    from benchmarks.one_session import opened

    detect = opened(checkpoint, MODEL, profile, threads)

    def run(turn: int) -> Any:
        return [detect(path) for path in chunks[max(turn, 0) % len(chunks)]]

    def outputs(result: Any) -> Any:
        return [tuple(item) for item in result]

    return Opened(run, outputs, repeatable=False)
