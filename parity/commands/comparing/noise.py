"""How far each side is from itself: what needs references opened anew, or another process."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from converter.progress import Progress
from efficientdet_spec import InputError
from parity.commands.comparing.opened import Opened
from parity.commands.comparing.trials import Trial
from parity.commands.references import open_reference
from parity.detections.images import PHOTOGRAPH
from parity.results.records.nodes import Noise
from parity.settings.nodes import NodesSettings
from parity.settings.programs import ROOT, program_words
from parity.settings.record import RecordSettings
from parity.sides.variations import REPEATED, other_threads, threads_name
from parity.traces.reader import check_matches


def measured_noise(
    opened: Opened, settings: NodesSettings, trial: Trial, threads: int
) -> tuple[list[Noise], list[str]]:
    """How far each side is from itself, and what of that could not be measured.

    Args:
        opened: The checkpoint, with the references.
        settings: Of the comparison.
        trial: The comparison on one input.
        threads: With which both sides have computed.
    """
    from parity.lockstep import noise
    from parity.traces.header import trace_bytes

    pairing, reference, described = trial.pairing, trial.reference, trial.described
    stream = pairing.stream

    with Progress("measuring PyTorch's noise", unit="nodes") as progress:
        found = noise.candidate_noise(pairing, progress)
    if reference.described["kind"] == "exact":
        return found, ["exact values are the same in each run: the reference has no noise"]
    if not reference.sizes:
        return found, [
            "noise of the reference not measured: it is no graph that can be opened again otherwise"
        ]
    notes, names = [], list(pairing.kinds)
    runs = [(REPEATED, threads)]
    note = noise.threads_note(os.environ)
    if note:
        notes.append(note)
    else:
        runs += [(threads_name(count), count) for count in other_threads(threads)]
    with Progress("measuring TensorFlow's noise", unit="nodes") as progress:
        for variation, count in runs:
            with open_reference(opened.wanted(pairing.images.shape, count)) as other:
                runs_again = partial(other.compute, pairing.images)
                found += noise.reference_noise(stream, [(variation, runs_again)], names, progress)
    if reference.described["kind"] == "metagraph" or settings.device == "cuda":
        notes.append(
            "noise of TensorFlow with oneDNN switched not measured: another process records this "
            "project's own graph on the CPU only"
        )
        return found, notes
    shapes = list(reference.sizes.values())
    image = next((path for path in settings.image if str(path) == described["source"]), None)
    if described["batch"] > 1 or (image is None and described["source"] != PHOTOGRAPH):
        notes.append(
            "noise of TensorFlow with oneDNN switched not measured: another process records a "
            "single image; give one with --image"
        )
        return found, notes
    note = noise.room_note(trace_bytes(shapes, settings.dtype))
    if note:
        return found, [*notes, note]
    variation, variables = noise.switched_onednn(os.environ)
    recording = RecordSettings(
        checkpoint=settings.checkpoint,
        trace=Path("trace.h5"),
        size=(described["height"], described["width"]),
        weights=settings.weights,
        dtype=settings.dtype,
        threads=threads,
        image=image,
        model=settings.model,
        cache=settings.cache,
        sha256=settings.sha256,
        offline=settings.offline,
    )

    def command(trace: Path) -> list[str]:
        script, *rest = program_words(replace(recording, trace=trace))
        return [sys.executable, str(ROOT / script), *rest]

    try:
        with noise.recorded(command, variables) as trace:
            # The other process has read the checkpoint anew.
            fingerprint = opened.conversion.provenance["checkpoint_fingerprint"]
            check_matches(trace, fingerprint=fingerprint, images_sha256=described["sha256"])
            found += noise.reference_noise(stream, [(variation, trace.stream)], names)
    except InputError as error:
        # What was measured so far must not be lost.
        notes.append(f"noise of TensorFlow with oneDNN switched not measured: {error}")
    return found, notes
