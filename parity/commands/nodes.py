"""``compare.py nodes``: every node's tensor."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.conversion import Conversion, convert
from converter.mapping import iterate_pairs
from converter.progress import Progress
from converter.sources import CheckpointFiles
from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.commands.asking.inputs import Images, open_reference_trace, plan_inputs
from parity.commands.asking.options import (
    add_input,
    check_numbers,
    check_results,
    convert_checkpoint,
    describe_checkpoint,
    resolve_checkpoint,
)
from parity.commands.references import open_reference
from parity.commands.trials import Trial, Trials
from parity.detections.images import PHOTOGRAPH
from parity.gradients.comparison import GradientsReport, Subject, compare_gradients
from parity.gradients.sides import Gradients, map_gradients
from parity.gradients.text import gradients_text
from parity.judge.verdict import NodeResult, Verdict
from parity.process import environment
from parity.process.console import output_width
from parity.process.files import write_text
from parity.results.conclusion import Evidence, nodes_result
from parity.results.junit import junit
from parity.results.ranking import sources
from parity.results.records.nodes import Contribution, Noise, ReferenceDescription
from parity.results.records.record import made
from parity.results.text.nodes import nodes_text
from parity.sides.naming import split_candidate
from parity.sides.tensorflow_import import import_tensorflow
from parity.sides.variations import REPEATED, other_threads, threads_name
from parity.traces.reader import check_matches

if TYPE_CHECKING:
    from parity.lockstep.closeups import Closeup


def add_parser(commands: Any) -> None:
    """Make the command known."""
    nodes = commands.add_parser("nodes", help="compare every node's tensor")
    nodes.set_defaults(run=run, result_file=lambda arguments: arguments.json)
    add_input(nodes, several=True)
    nodes.add_argument(
        "--candidate",
        help="a .pth of convert.py, or FILE.py:FUNCTION that returns an nn.Module; "
        "default: converted on the fly",
    )
    nodes.add_argument(
        "--names",
        type=Path,
        metavar="FILE.json",
        help="submodule of the candidate for each node, for models built differently",
    )
    nodes.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="a checkpoint's own .meta graph, a .pth of convert.py, or a trace.h5 of compare.py "
        "record; default: the graph of this project",
    )
    nodes.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    nodes.add_argument("--tf32", action="store_true", help="let a GPU round inputs to TF32")
    nodes.add_argument(
        "--contributions",
        type=int,
        default=5,
        metavar="N",
        help="of how many nodes to measure what they contribute to the outputs' difference; "
        "each takes a run of the candidate (default: 5)",
    )
    nodes.add_argument(
        "--diagnose",
        type=int,
        default=30,
        metavar="N",
        help="of how many suspects to find out what is wrong with them (default: 30)",
    )
    nodes.add_argument(
        "--closeups",
        type=int,
        default=0,
        metavar="N",
        help="of how many nodes to keep in the JSON result where in their tensors the sides "
        "differ; takes one more run (default: 0)",
    )
    nodes.add_argument(
        "--noise",
        action="store_true",
        help="also measure how much each side differs from itself: repeated, with other thread "
        "counts, without oneDNN",
    )
    nodes.add_argument(
        "--backward",
        action="store_true",
        help="also compare gradients, with batch norms at inference and in training",
    )
    nodes.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    nodes.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    nodes.add_argument("--verbose", action="store_true", help="print a table of all nodes")


def run(arguments: argparse.Namespace) -> int:
    """``compare.py nodes``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    check_numbers(arguments)
    if arguments.backward and (arguments.names or arguments.reference or arguments.device != "cpu"):
        raise InputError(
            "--backward compares this project's model with its own graph on the CPU; leave "
            "--names, --reference and --device out.",
            Cause.OPTION,
        )
    files = resolve_checkpoint(arguments)
    check_results(arguments, files.prefix)
    started = time.perf_counter()
    conversion = convert_checkpoint(arguments, files)
    config = conversion.config
    environment.prepare()
    trace = open_reference_trace(arguments, conversion)
    planned = plan_inputs(arguments, conversion, trace)

    import torch

    from parity.sides.pytorch.device import describe_device, open_device
    from torch_model.checkpoint import from_arrays

    device = open_device(arguments.device, tf32=arguments.tf32)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    # Both sides compute with as many threads, and the result says how many.
    arguments.threads = torch.get_num_threads()
    dtype = getattr(torch, arguments.dtype)
    faithful = from_arrays(config, conversion.arrays, source=str(files.prefix)).to(dtype)
    candidate = _open_candidate(arguments.candidate, config, faithful).to(device, dtype)
    seconds = {"load": time.perf_counter() - started}

    with ExitStack() as stack:
        trials = Trials(
            arguments, planned, conversion, files.prefix, candidate, faithful, trace, stack
        )
        evidence, others = _compare(
            arguments,
            trials=trials,
            conversion=conversion,
            faithful=faithful,
            files=files,
            device=describe_device(device),
            seconds=seconds,
        )
    gradients = None
    if arguments.backward:
        gradients = _compare_gradients(
            arguments, conversion, files.prefix, candidate, planned[0].load(), others
        )
        evidence = replace(evidence, gradients=gradients.result())
    result = nodes_result(evidence, **others)
    paths = trials.telling.pairing.candidate.naming.path_of()
    width = output_width()
    further = gradients_text(gradients, width) if gradients else ""
    print(nodes_text(result, verbose=arguments.verbose, width=width, paths=paths, further=further))
    arguments.place.write(result)
    if arguments.junit:
        write_text(arguments.junit, junit(result))
    return result.outcome.exit_code


def _open_candidate(text: str | None, config: EfficientDetConfig, faithful: Any) -> Any:
    from parity.sides.pytorch.code import from_code
    from torch_model.checkpoint import load_same

    if text is None:
        return faithful
    path, function = split_candidate(text)
    if function is not None:
        return from_code(path, function, faithful)
    return load_same(path, config)


def _compare(
    arguments: argparse.Namespace,
    *,
    trials: Trials,
    conversion: Conversion,
    faithful: Any,
    files: CheckpointFiles,
    device: dict[str, Any],
    seconds: dict[str, float],
) -> tuple[Evidence, dict[str, Any]]:
    """What was found, and the further fields of the result."""
    from parity.diagnosis.suspects import Known, diagnosed, findings, suspects
    from parity.lockstep.closeups import chosen, closeups
    from parity.lockstep.contributions import Observed, contributions

    config = conversion.config
    trials.run(seconds)
    telling = trials.telling
    started = time.perf_counter()
    known = Known(
        faithful=faithful,
        alternatives=alternatives(arguments, files),
        repeats=not trials.runs,
    )
    # Suspects are looked at on the input that shows most; another may show others.
    shown = telling.comparison.nodes
    found = list(trials.runs)
    if any(node.kind is not None and node.shape is not None for node in shown):
        # A candidate none of whose layers has a partner is named otherwise, not built otherwise.
        found += findings(telling.pairing, known)
    guilty = suspects(telling.pairing, shown)
    if guilty and arguments.diagnose:
        with Progress("diagnosing", unit="suspects") as progress:
            guilty = diagnosed(
                telling.pairing, guilty, shown, known, found, arguments.diagnose, progress
            )
    seconds["diagnosis"] = time.perf_counter() - started
    started = time.perf_counter()
    largest = [node.name for node in sources(shown, arguments.contributions)]
    shares: list[Contribution] = []
    if largest and all(map(_can_be_put_in, shown)):
        with Progress("attributing", unit="runs") as progress:
            observed = Observed(
                visited=[node.name for node in shown if node.shape is not None],
                outputs=telling.comparison.outputs,
                own=telling.comparison.own,
            )
            shares = contributions(telling.pairing, largest, progress, observed)
        seconds["contributions"] = time.perf_counter() - started
    looks: list[Closeup] = []
    if arguments.closeups:
        started = time.perf_counter()
        with Progress("looking closer", unit="nodes") as progress:
            looks = closeups(telling.pairing, chosen(shown, guilty, arguments.closeups), progress)
        seconds["closeups"] = time.perf_counter() - started
    noise: list[Noise] = []
    reference = telling.reference
    if arguments.noise:
        started = time.perf_counter()
        noise, notes = _noise(arguments, telling, conversion, files.prefix)
        reference.described.setdefault("notes", []).extend(notes)
        seconds["noise"] = time.perf_counter() - started
    evidence = Evidence(
        nodes=trials.nodes,
        inputs=trials.results(),
        coverage=trials.coverage(config),
        findings=found,
        suspects=guilty,
        not_shown=trials.not_shown,
    )
    return evidence, {
        "tensors": reference.tensors,
        "model": config.name,
        "checkpoint": describe_checkpoint(arguments, conversion),
        "reference": made(
            ReferenceDescription, reference.described | {"framework": reference.framework}
        ),
        "candidate": arguments.candidate or "converted on the fly",
        "dtype": arguments.dtype,
        "environment": environment.describe(arguments.threads) | device,
        "outputs": reference.outputs,
        "contributions": shares,
        "noise": noise,
        "closeups": [look.result() for look in looks],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": environment.peak_memory_bytes(),
    }


def _can_be_put_in(node: NodeResult) -> bool:
    """Whether a node has a difference of its own that can be put into a run.

    A node without a partner leaves nothing to put in its place, and NaN spreads everywhere.
    """
    return node.verdict is not Verdict.NOT_COVERED and (node.own is None or node.own.finite)


def _noise(
    arguments: argparse.Namespace, trial: Trial, conversion: Conversion, prefix: Path
) -> tuple[list[Noise], list[str]]:
    """How far each side is from itself, and what of that could not be measured."""
    from parity.lockstep import noise
    from parity.traces.header import trace_bytes

    pairing, reference, described = trial.pairing, trial.reference, trial.described
    stream = pairing.stream

    with Progress("measuring PyTorch's noise", unit="nodes") as progress:
        found = noise.candidate_noise(pairing, progress)
    if not reference.sizes:
        return found, [
            "noise of the reference not measured: it is no graph that can be opened again otherwise"
        ]
    notes, names = [], list(pairing.kinds)
    runs = [(REPEATED, arguments.threads)]
    note = noise.threads_note(os.environ)
    if note:
        notes.append(note)
    else:
        runs += [(threads_name(count), count) for count in other_threads(arguments.threads)]
    with Progress("measuring TensorFlow's noise", unit="nodes") as progress:
        for variation, threads in runs:
            changed = argparse.Namespace(**{**vars(arguments), "threads": threads})
            with open_reference(changed, conversion, prefix, pairing.images.shape) as other:
                runs_again = partial(other.compute, pairing.images)
                found += noise.reference_noise(stream, [(variation, runs_again)], names, progress)
    if reference.described["kind"] == "metagraph" or arguments.device == "cuda":
        notes.append(
            "noise of TensorFlow with oneDNN switched not measured: another process records this "
            "project's own graph on the CPU only"
        )
        return found, notes
    shapes = list(reference.sizes.values())
    image = next((path for path in arguments.image if str(path) == described["source"]), None)
    if described["batch"] > 1 or (image is None and described["source"] != PHOTOGRAPH):
        notes.append(
            "noise of TensorFlow with oneDNN switched not measured: another process records a "
            "single image; give one with --image"
        )
        return found, notes
    note = noise.room_note(trace_bytes(shapes, arguments.dtype))
    if note:
        return found, [*notes, note]
    variation, variables = noise.switched_onednn(os.environ)
    recording = noise.Recording(
        program=sys.executable,
        script=Path(__file__).resolve().parents[2] / "compare.py",
        checkpoint=arguments.checkpoint,
        height=described["height"],
        width=described["width"],
        weights=arguments.weights,
        dtype=arguments.dtype,
        threads=arguments.threads,
        image=image,
        model=arguments.model,
        cache=arguments.cache,
    )
    try:
        with noise.recorded(recording, variables) as trace:
            check_matches(trace, images_sha256=described["sha256"])
            found += noise.reference_noise(stream, [(variation, trace.stream)], names)
    except InputError as error:
        # What was measured so far must not be lost.
        notes.append(f"noise of TensorFlow with oneDNN switched not measured: {error}")
    return found, notes


def _compare_gradients(
    arguments: argparse.Namespace,
    conversion: Conversion,
    prefix: Path,
    candidate: Any,
    loaded: tuple[Images, dict[str, Any]],
    compared: Mapping[str, Any],
) -> GradientsReport:
    """Both frameworks' gradients in both precisions, whatever the nodes were compared in."""
    import_tensorflow()
    from parity.gradients.pytorch import TorchGradients
    from reference_tf.gradients import gradients

    config = conversion.config
    images, described = loaded
    pairs = list(iterate_pairs(config))

    def reference(
        images: Images, patterns: Sequence[Images], *, dtype: str, training: bool
    ) -> Gradients:
        found = gradients(
            config,
            prefix,
            images,
            patterns,
            ema=arguments.weights == "ema",
            dtype=dtype,
            training=training,
            threads=arguments.threads,
        )
        return Gradients(
            found.scalar,
            found.images,
            map_gradients(pairs, found.variables),
            map_gradients(pairs, found.statistics),
        )

    subject = Subject(
        model=config.name,
        checkpoint=compared["checkpoint"],
        candidate=compared["candidate"],
        images=described,
        environment=compared["environment"],
    )
    with Progress("differentiating", unit="runs") as progress:
        return compare_gradients(
            config, reference, TorchGradients(candidate), images, subject, progress=progress
        )


def alternatives(
    arguments: argparse.Namespace, files: CheckpointFiles
) -> dict[str, Mapping[str, Any]]:
    """The checkpoint's other values, which a candidate may have been given by mistake."""
    other = "raw" if arguments.weights == "ema" else "ema"
    try:
        conversion = convert(files, model=arguments.model, weights=other)
    except InputError:
        # A checkpoint with one kind of values only.
        return {}
    return {other: conversion.arrays}
