"""Compare the TensorFlow and PyTorch EfficientDet of one checkpoint."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converter.bundle import checkpoint_files
from converter.conversion import Conversion, convert
from converter.ledger import WEIGHTS
from converter.mapping import iterate_pairs
from converter.progress import Progress
from converter.seeded import write_seeded
from converter.sources import CheckpointFiles, default_cache, resolve
from efficientdet_spec import (
    MODELS,
    EfficientDetConfig,
    InputError,
    NodeKind,
    get_config,
    parse_size,
)
from parity import environment
from parity.console import guarded
from parity.files import check_writable, write_json, write_text
from parity.gradients import Gradients, GradientsReport, Subject, compare_gradients, map_gradients
from parity.gradients_text import gradients_text
from parity.junit import junit
from parity.naming import check_paths, own_paths, read_names, split_candidate
from parity.nodes_text import nodes_text
from parity.result import Contribution, NodesReport, Noise, largest_sources
from parity.trace import Trace, check_matches, open_trace
from parity.verdict import Verdict

if TYPE_CHECKING:
    from parity.coco.annotations import Annotations
    from parity.coco.report import CocoReport
    from parity.nodes import Pairing
    from parity.shards import Shard
    from torch_model.profiles import Profile

Images = NDArray[Any]
"""Normalised images, [N, H, W, 3]."""

_MAX_THREADS = 1024
_MAX_RUNS = 10_000
_MAX_BATCH = 1024
_MAX_IMAGES = 10**9

FRAMEWORKS = ("tensorflow", "torch")
"""Those whose detections are compared; the second is judged by the first."""

_CALIBRATION_SIZE = (512, 512)
"""Of the image on which seeded models' batch norms are calibrated: P8 still has 2x2 positions."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="compare.py",
        description=__doc__,
        epilog="exit code: 0 parity, 1 a difference that rounding does not explain, 2 wrong input",
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")

    nodes = commands.add_parser("nodes", help="compare every node's tensor")
    nodes.set_defaults(run=run_nodes)
    _add_input(nodes)
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
        help="a checkpoint's own .meta graph, or a trace.h5 of compare.py record; "
        "default: the graph of this project",
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

    record = commands.add_parser(
        "record", help="write the reference's tensors to a file, to be compared elsewhere"
    )
    record.set_defaults(run=run_record)
    _add_input(record)
    record.add_argument("trace", metavar="TRACE", type=Path, help="HDF5 file to write")
    record.add_argument(
        "--nodes",
        action="append",
        default=[],
        metavar="GLOB",
        help="record only nodes like this; can be given several times",
    )
    record.add_argument("--compress", action="store_true", help="smaller and slower, as exact")

    seed = commands.add_parser(
        "seed", help="write a checkpoint in the official layout with seeded, untrained weights"
    )
    seed.set_defaults(run=run_seed)
    seed.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    seed.add_argument("folder", metavar="FOLDER", type=Path, help="folder to write it to")
    seed.add_argument("--salt", default="seed", help="another text gives other weights")
    add_parsers(commands)
    return result


def add_parsers(commands: Any) -> None:
    """The commands that compare detections rather than nodes."""
    coco = commands.add_parser("coco", help="compare COCO metrics and every detection")
    coco.set_defaults(run=run_coco)
    _add_detection(coco)
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
    coco.add_argument(
        "--submission",
        action="store_true",
        help="also write detections rounded for COCO's evaluation server; the annotations may "
        "then be those of test images, without boxes",
    )

    detect = commands.add_parser("detect", help="draw both sides' detections in images")
    detect.set_defaults(run=run_detect)
    _add_detection(detect)
    detect.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    detect.add_argument(
        "--min-score",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="draw and judge detections from this score on (default: 0.3)",
    )


def _add_detection(command: argparse.ArgumentParser) -> None:
    """The model, what surrounds it, and where results go."""
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="as SOURCE of convert.py")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    command.add_argument(
        "--profile",
        default="official",
        metavar="NAME",
        help="variants of the stages around the network (default: official); another name lists "
        "them all",
    )
    command.add_argument(
        "--stage",
        action="append",
        default=[],
        metavar="STAGE=VARIANT",
        help="another variant of one stage, such as nms=hard; can be given several times",
    )
    command.add_argument("--size", help="HxW in pixels; default: the model's native size")
    command.add_argument("--weights", choices=WEIGHTS, default="ema", help="default: ema")
    command.add_argument("--model", help=f"default: recognised; one of {', '.join(MODELS)}")
    command.add_argument("--num-classes", type=int, help="refuse a file with another class count")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    command.add_argument("--threads", type=int, help="threads within one operation, on both sides")
    command.add_argument("--cache", type=Path, help="folder for downloads (EFFICIENTDET_CACHE)")


def _add_input(command: argparse.ArgumentParser) -> None:
    """What both networks are filled with and run on."""
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="as SOURCE of convert.py")
    command.add_argument("--image", type=Path, help="image file; default: a built-in image")
    command.add_argument("--size", help="HxW in pixels; default: the model's native size")
    command.add_argument("--weights", choices=WEIGHTS, default="ema", help="default: ema")
    command.add_argument("--model", help=f"default: recognised; one of {', '.join(MODELS)}")
    command.add_argument("--num-classes", type=int, help="refuse a file with another class count")
    command.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="type in which both sides compute; float64 shows that their structure is one",
    )
    command.add_argument("--threads", type=int, help="threads within one operation, on both sides")
    command.add_argument("--cache", type=Path, help="folder for downloads (EFFICIENTDET_CACHE)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 parity, 1 a mismatch, 2 a user's mistake.
    """
    arguments = parser().parse_args(argv)
    return guarded("compare.py", lambda: arguments.run(arguments))


def import_tensorflow() -> None:
    """Import TensorFlow without the notices about processors that it prints while starting.

    Raises:
        InputError: TensorFlow is not installed; says which extra to install.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            "Comparing needs TensorFlow, which is not installed; install it with "
            "pip install 'efficientdet-parity[tensorflow]'."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # They come from native code before any log level applies, so only the descriptor helps.
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise InputError(
            f"TensorFlow is installed but cannot be imported ({error}); install it again with "
            "pip install 'efficientdet-parity[tensorflow]'."
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@dataclass(frozen=True)
class Reference:
    """A network to compare with, ready to compute.

    Attributes:
        kinds: What each node computes, in the order of computation.
        stream: Makes it compute once.
        tensors: Name of each node's TensorFlow tensor.
        graph_tensors: These tensors themselves; empty where there is no graph.
        outputs: Nodes that are the network's outputs.
        recorded: The nodes whose tensors there are; None for all.
        described: Where it comes from.
    """

    kinds: Mapping[str, NodeKind]
    stream: Callable[[], AbstractContextManager[Any]]
    tensors: Mapping[str, str]
    graph_tensors: Mapping[str, Any]
    outputs: Sequence[str]
    recorded: frozenset[str] | None
    described: dict[str, Any]


def run_nodes(arguments: argparse.Namespace) -> int:
    """``compare.py nodes``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    _check_numbers(arguments)
    if arguments.backward and (arguments.names or arguments.reference or arguments.device != "cpu"):
        raise InputError(
            "--backward compares this project's model with its own graph on the CPU; leave "
            "--names, --reference and --device out."
        )
    files = _resolve(arguments)
    _check_results(arguments, files.prefix)
    started = time.perf_counter()
    conversion = _convert(arguments, files)
    config = conversion.config
    environment.prepare()
    trace = _open_trace(arguments, conversion)
    images, described = _input(arguments, conversion, trace)

    import torch

    from parity.torch_side.device import describe_device, open_device
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

    started = time.perf_counter()
    with ExitStack() as stack:
        reference = stack.enter_context(
            _open_reference(arguments, config, files.prefix, images, trace)
        )
        seconds["open reference"] = time.perf_counter() - started
        report = _compare(
            arguments,
            pairing=_pair(arguments, reference, candidate, faithful, images),
            reference=reference,
            conversion=conversion,
            faithful=faithful,
            files=files,
            described=described,
            device=describe_device(device),
            seconds=seconds,
        )
    gradients = None
    if arguments.backward:
        gradients = _compare_gradients(
            arguments, conversion, files.prefix, candidate, images, report
        )
        report = replace(report, gradients=gradients.to_dict())
    print(nodes_text(report, every_node=arguments.verbose))
    if gradients:
        print(f"\n{gradients_text(gradients)}")
    if arguments.json:
        write_json(arguments.json, report.to_dict())
    if arguments.junit:
        write_text(arguments.junit, junit(report))
    return 0 if report.passes else 1


def _check_numbers(arguments: argparse.Namespace) -> None:
    limits = {
        "threads": (1, _MAX_THREADS),
        "contributions": (0, _MAX_RUNS),
        "diagnose": (0, _MAX_RUNS),
    }
    for name, (lowest, highest) in limits.items():
        value = getattr(arguments, name, None)
        if value is not None and not lowest <= value <= highest:
            raise InputError(f"--{name} is {value}; give a number from {lowest} to {highest}.")


def _resolve(arguments: argparse.Namespace) -> CheckpointFiles:
    if arguments.size is not None:
        parse_size(arguments.size)
    with Progress("downloading") as progress:
        return resolve(arguments.checkpoint, arguments.cache or default_cache(), progress)


def _convert(arguments: argparse.Namespace, files: CheckpointFiles) -> Conversion:
    return convert(
        files,
        model=arguments.model,
        num_classes=arguments.num_classes,
        weights=arguments.weights,
    )


def _check_results(arguments: argparse.Namespace, prefix: Path) -> None:
    """Raise where a result cannot be written, or would destroy an input."""
    others: list[Path | None] = [Path(arguments.checkpoint), arguments.image]
    for name in ("names", "reference"):
        others.append(getattr(arguments, name, None))
    if getattr(arguments, "candidate", None):
        others.append(split_candidate(arguments.candidate)[0])
    inputs = [*checkpoint_files(prefix), *(path for path in others if path)]
    targets = [getattr(arguments, name, None) for name in ("json", "junit", "trace")]
    for target in filter(None, targets):
        check_writable(target, inputs)
        inputs.append(target)


def _input(
    arguments: argparse.Namespace, conversion: Conversion, trace: Trace | None
) -> tuple[Images, dict[str, Any]]:
    """The input [1, H, W, 3] and what to say about it: the trace's, or of the command line."""
    if trace and not arguments.image and not arguments.size:
        return trace.images, dict(trace.header.input)
    config = conversion.config
    height, width = parse_size(arguments.size) if arguments.size else config.image_size
    config.feature_sizes(height, width)
    images, described = _images(arguments.image, height, width, arguments.dtype)
    if trace:
        _check_trace(trace, arguments, conversion, described["sha256"])
    return images, described


def _open_trace(arguments: argparse.Namespace, conversion: Conversion) -> Trace | None:
    if arguments.reference is None or _is_metagraph(arguments.reference):
        return None
    trace = open_trace(arguments.reference)
    _check_trace(trace, arguments, conversion)
    return trace


def _is_metagraph(path: Path) -> bool:
    return path.suffix == ".meta"


def _check_trace(
    trace: Trace,
    arguments: argparse.Namespace,
    conversion: Conversion,
    images_sha256: str | None = None,
) -> None:
    check_matches(
        trace,
        config=conversion.config,
        fingerprint=conversion.provenance["checkpoint_fingerprint"],
        weights=arguments.weights,
        images_sha256=images_sha256,
        dtype=arguments.dtype,
    )


def _open_candidate(text: str | None, config: EfficientDetConfig, faithful: Any) -> Any:
    from parity.torch_side.candidate import from_code
    from torch_model.checkpoint import load

    if text is None:
        return faithful
    path, function = split_candidate(text)
    if function is not None:
        return from_code(path, function, faithful)
    model = load(path)
    if model.config != config:
        raise InputError(
            f"{path} holds {model.config.name} with {model.config.num_classes} classes, but the "
            f"checkpoint {config.name} with {config.num_classes}; give files of one model."
        )
    return model


@contextmanager
def _open_reference(
    arguments: argparse.Namespace,
    config: EfficientDetConfig,
    prefix: Path,
    images: Images,
    trace: Trace | None,
) -> Iterator[Reference]:
    if trace:
        yield Reference(
            kinds=trace.kinds,
            stream=trace.stream,
            tensors=trace.tensors,
            graph_tensors={},
            outputs=trace.outputs,
            recorded=trace.recorded,
            described={
                "kind": "trace",
                "source": str(trace.path),
                "environment": dict(trace.header.environment),
            },
        )
        return
    import_tensorflow()
    import reference_tf
    from parity.tensorflow_side import TensorflowReference

    height, width = images.shape[1:3]
    described: dict[str, Any] = {"kind": "graph", "source": "built in"}
    if getattr(arguments, "reference", None):
        from reference_tf.metagraph import load_metagraph

        built = load_metagraph(arguments.reference, config, (height, width), dtype=arguments.dtype)
        described = {
            "kind": "metagraph",
            "source": str(arguments.reference),
            "notes": list(built.notes),
        }
    else:
        built = reference_tf.build(config, height, width, dtype=arguments.dtype)
    streaming = TensorflowReference(built.graph, built.images, built.nodes, built.kinds)
    device = getattr(arguments, "device", "cpu")
    with reference_tf.open_session(built.graph, arguments.threads, device=device) as session:
        built.restore(session, prefix, ema=arguments.weights == "ema")
        yield Reference(
            kinds=built.kinds,
            stream=partial(streaming.stream, session, images),
            tensors={name: tensor.name for name, tensor in built.nodes.items()},
            graph_tensors=built.nodes,
            outputs=built.output_nodes,
            recorded=None,
            described=described,
        )


def _pair(
    arguments: argparse.Namespace,
    reference: Reference,
    candidate: Any,
    faithful: Any,
    images: Images,
) -> Pairing:
    from parity.nodes import Pairing
    from parity.torch_side import Referee

    nodes = list(reference.kinds)
    naming = own_paths(nodes)
    if arguments.names:
        naming = read_names(arguments.names, nodes)
        paths = [name for name, _ in candidate.named_modules()]
        check_paths(naming, paths, str(arguments.names))
    return Pairing(
        stream=reference.stream,
        model=candidate,
        naming=naming,
        referee=Referee(faithful, reference.kinds, images.shape),
        images=images,
        outputs=reference.outputs,
        recorded=reference.recorded,
    )


def _compare(
    arguments: argparse.Namespace,
    *,
    pairing: Pairing,
    reference: Reference,
    conversion: Conversion,
    faithful: Any,
    files: CheckpointFiles,
    described: dict[str, Any],
    device: dict[str, Any],
    seconds: dict[str, float],
) -> NodesReport:
    from parity.attribution import contributions
    from parity.diagnosis import Known, diagnosed, findings, suspects
    from parity.nodes import compare

    with Progress("comparing", unit="nodes") as progress:
        nodes, timings = compare(pairing, progress)
    seconds |= {f"{timing.name} pass": timing.seconds for timing in timings}
    started = time.perf_counter()
    known = Known(
        faithful=faithful,
        alternatives=_alternatives(arguments, files),
        num_anchors=conversion.config.num_anchors,
        num_classes=conversion.config.num_classes,
    )
    found = findings(pairing, known)
    guilty = suspects(pairing, nodes)
    if guilty and arguments.diagnose:
        with Progress("diagnosing", unit="suspects") as progress:
            guilty = diagnosed(pairing, guilty, nodes, known, found, arguments.diagnose, progress)
    seconds["diagnosis"] = time.perf_counter() - started
    started = time.perf_counter()
    sources = [node.name for node in largest_sources(nodes, arguments.contributions)]
    shares: list[Contribution] = []
    # A node without a partner leaves nothing to put in its place.
    if sources and not any(node.verdict is Verdict.NOT_COVERED for node in nodes):
        with Progress("attributing", unit="runs") as progress:
            shares = contributions(pairing, sources, progress)
        seconds["contributions"] = time.perf_counter() - started
    noise: list[Noise] = []
    if arguments.noise:
        started = time.perf_counter()
        noise, notes = _noise(arguments, pairing, reference, conversion, files.prefix, described)
        reference.described.setdefault("notes", []).extend(notes)
        seconds["noise"] = time.perf_counter() - started
    return NodesReport(
        model=conversion.config.name,
        checkpoint=_checkpoint(arguments, conversion),
        reference=reference.described,
        candidate=arguments.candidate or "converted on the fly",
        images=described,
        dtype=arguments.dtype,
        environment=environment.describe(arguments.threads) | device,
        nodes=nodes,
        tensors=reference.tensors,
        outputs=reference.outputs,
        contributions=shares,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_memory=environment.peak_memory_bytes(),
        findings=found,
        suspects=guilty,
        noise=noise,
    )


def _noise(
    arguments: argparse.Namespace,
    pairing: Pairing,
    reference: Reference,
    conversion: Conversion,
    prefix: Path,
    described: Mapping[str, Any],
) -> tuple[list[Noise], list[str]]:
    """How far each side is from itself, and what of that could not be measured."""
    from parity import noise
    from parity.trace_header import trace_bytes

    with Progress("measuring PyTorch's noise", unit="nodes") as progress:
        found = noise.torch_noise(pairing, progress)
    if not reference.graph_tensors:
        return found, ["noise of TensorFlow not measured: a trace cannot compute again"]
    notes, names = [], list(pairing.kinds)
    runs = [(noise.REPEATED, arguments.threads)]
    note = noise.threads_note(os.environ)
    if note:
        notes.append(note)
    else:
        counts = noise.other_threads(arguments.threads)
        runs += [(noise.threads_name(count), count) for count in counts]
    with Progress("measuring TensorFlow's noise", unit="nodes") as progress:
        for variation, threads in runs:
            changed = argparse.Namespace(**{**vars(arguments), "threads": threads})
            with _open_reference(changed, conversion.config, prefix, pairing.images, None) as other:
                found += noise.tensorflow_noise(
                    reference.stream, [(variation, other.stream)], names, progress
                )
    if reference.described["kind"] == "metagraph" or arguments.device == "cuda":
        notes.append(
            "noise of TensorFlow with oneDNN switched not measured: another process records this "
            "project's own graph on the CPU only"
        )
        return found, notes
    shapes = [tensor.shape.as_list() for tensor in reference.graph_tensors.values()]
    note = noise.room_note(trace_bytes(shapes, arguments.dtype))
    if note:
        return found, [*notes, note]
    variation, variables = noise.switched_onednn(os.environ)
    recording = noise.Recording(
        program=sys.executable,
        script=Path(__file__).resolve(),
        checkpoint=arguments.checkpoint,
        height=described["height"],
        width=described["width"],
        weights=arguments.weights,
        dtype=arguments.dtype,
        threads=arguments.threads,
        image=arguments.image,
        model=arguments.model,
        cache=arguments.cache,
    )
    try:
        with noise.recorded(recording, variables) as trace:
            check_matches(trace, images_sha256=described["sha256"])
            found += noise.tensorflow_noise(reference.stream, [(variation, trace.stream)], names)
    except InputError as error:
        # What was measured so far must not be lost.
        notes.append(f"noise of TensorFlow with oneDNN switched not measured: {error}")
    return found, notes


def _compare_gradients(
    arguments: argparse.Namespace,
    conversion: Conversion,
    prefix: Path,
    candidate: Any,
    images: Images,
    report: NodesReport,
) -> GradientsReport:
    """Both frameworks' gradients in both precisions, whatever the nodes were compared in."""
    import_tensorflow()
    from parity.torch_side.gradients import TorchGradients
    from reference_tf.gradients import gradients

    config = conversion.config
    pairs = list(iterate_pairs(config))

    def reference(
        pixels: Images, patterns: Sequence[Images], *, dtype: str, training: bool
    ) -> Gradients:
        found = gradients(
            config,
            prefix,
            pixels,
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
        checkpoint=report.checkpoint,
        candidate=report.candidate,
        images=report.images,
        environment=report.environment,
    )
    with Progress("differentiating", unit="runs") as progress:
        return compare_gradients(
            config, reference, TorchGradients(candidate), images, subject, progress=progress
        )


def _checkpoint(arguments: argparse.Namespace, conversion: Conversion) -> dict[str, Any]:
    provenance = conversion.provenance
    return {
        "source": provenance["source"],
        "fingerprint": provenance["checkpoint_fingerprint"],
        "weights": arguments.weights,
    }


def _alternatives(
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


def _images(
    path: Path | None, height: int, width: int, dtype: str
) -> tuple[Images, dict[str, Any]]:
    """The input [1, height, width, 3] and what to say about it."""
    from parity.images import built_in, read_image
    from torch_model.preprocess import preprocess

    image = read_image(path) if path else built_in(height, width)
    images = preprocess(image, height, width)[None].astype(dtype)
    return images, {
        "source": str(path) if path else "built-in",
        "height": height,
        "width": width,
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }


def run_record(arguments: argparse.Namespace) -> int:
    """``compare.py record``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.trace_header import TraceHeader
    from parity.trace_writer import graph_nodes, summary, write_trace

    _check_numbers(arguments)
    files = _resolve(arguments)
    _check_results(arguments, files.prefix)
    conversion = _convert(arguments, files)
    config = conversion.config
    images, described = _input(arguments, conversion, None)
    environment.prepare()
    with _open_reference(arguments, config, files.prefix, images, None) as reference:
        header = TraceHeader(
            config=config,
            checkpoint=_checkpoint(arguments, conversion),
            input=described,
            dtype=arguments.dtype,
            environment=environment.describe(arguments.threads) | {"device": "cpu"},
            outputs=tuple(reference.outputs),
            globs=tuple(arguments.nodes),
            nodes=graph_nodes(reference.kinds, reference.graph_tensors, arguments.nodes),
        )
        print(summary(header))
        with Progress("recording", unit="nodes") as progress:
            write_trace(
                arguments.trace,
                header,
                images,
                reference.stream,
                compress=arguments.compress,
                progress=progress,
            )
    size = arguments.trace.stat().st_size
    print(f"wrote {arguments.trace} ({size / 1e9:.2f} GB)")
    return 0


@dataclass(frozen=True)
class Detection:
    """What either framework needs to find boxes in images.

    Attributes:
        conversion: The checkpoint's values.
        prefix: The checkpoint.
        profile: The variant of each stage around the network.
        size: (height, width) of the network's input in pixels.
        weights: Which of the checkpoint's values.
        device: Where the network runs.
        threads: Within one operation.
        batch: Images that go through the network together.
    """

    conversion: Conversion
    prefix: Path
    profile: Profile
    size: tuple[int, int]
    weights: str
    device: str
    threads: int
    batch: int

    def manifest(self, framework: str) -> dict[str, Any]:
        """Everything but the images that this framework's detections depend on."""
        config, packages = self.conversion.config, environment.describe(None)["packages"]
        return {
            "framework": framework,
            "version of framework": packages[framework],
            "model": config.name,
            "classes": config.num_classes,
            "checkpoint": self.conversion.provenance["checkpoint_fingerprint"],
            "weights": self.weights,
            "profile": self.profile.stages(),
            "size": list(self.size),
            "device": self.device,
            "threads": self.threads,
            "batch": self.batch,
        }

    def open(self, framework: str) -> AbstractContextManager[Any]:
        """A :class:`parity.shards.Side`."""
        return _torch_side(self) if framework == "torch" else _tensorflow_side(self)


class _Stopwatch:
    """Seconds of each stage, counted from the end of the one before."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("decode", "preprocess", "network", "postprocess"), 0.0)
        self.start()

    def start(self) -> None:
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._since
        self._since = now


class _TorchSide:
    """Detection by :class:`torch_model.detector.Detector`."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self._watch = _Stopwatch()
        self.seconds = self._watch.seconds

    def prepare(self, path: Path) -> Any:
        from parity.shards import Prepared
        from torch_model.decode import read_image

        self._watch.start()
        image = read_image(path, fast_dct=self._detector.profile.decode == "fast-dct")
        self._watch.lap("decode")
        return Prepared(*image.shape[:2], image)

    def detect(self, images: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        self._watch.start()
        found = list(self._detector.detect([item.value for item in images], len(images)))
        self._watch.lap("postprocess")
        return [(item.boxes, item.scores, item.classes) for item in found]

    def entering_network(self, *_: Any) -> None:
        self._watch.lap("preprocess")

    def leaving_network(self, *_: Any) -> None:
        if self._detector.device.type == "cuda":
            import torch

            # A GPU computes while Python goes on.
            torch.cuda.synchronize(self._detector.device)
        self._watch.lap("network")


@contextmanager
def _torch_side(setup: Detection) -> Iterator[_TorchSide]:
    import torch

    from parity.torch_side.device import open_device
    from torch_model.checkpoint import from_arrays
    from torch_model.detector import Detector

    device = open_device(setup.device)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    done = setup.conversion
    model = from_arrays(done.config, done.arrays, source=str(setup.prefix)).eval()
    detector = Detector(model, setup.profile, device=device, size=setup.size)
    side = _TorchSide(detector)
    hooks = [
        detector.model.register_forward_pre_hook(side.entering_network),
        detector.model.register_forward_hook(side.leaving_network),
    ]
    try:
        yield side
    finally:
        for hook in hooks:
            hook.remove()
        torch.set_num_threads(before)


class _TensorflowSide:
    """Detection by the reference's graph and the stages around it, each run on its own."""

    def __init__(self, session: Any, graph: Mapping[str, Any], batch: int) -> None:
        self._session = session
        self._graph = graph
        self._batch = batch
        self._watch = _Stopwatch()
        self.seconds = self._watch.seconds

    def _run(self, path: Path, fetches: Any, feeds: dict[Any, Any]) -> Any:
        import tensorflow as tf

        try:
            return self._session.run(fetches, feeds)
        except tf.errors.InvalidArgumentError as error:
            # A stack of places in the graph, then why, then indented the operation once more.
            lines = str(error.message).splitlines()
            reason = [line for line in lines if line and not line[0].isspace()][-1]
            raise InputError(
                f"{path} is no image that TensorFlow processes ({reason:.120}); give a JPEG, PNG "
                f"or BMP file."
            ) from error

    def prepare(self, path: Path) -> Any:
        from parity.shards import Prepared

        graph = self._graph
        self._watch.start()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); give an image file."
            ) from error
        image = self._run(path, graph["decoded"], {graph["data"]: data})
        self._watch.lap("decode")
        if image.ndim != 3:
            raise InputError(f"{path} is a sequence of frames; give a JPEG, PNG or BMP file.")
        prepared = self._run(path, graph["prepared"], {graph["image"]: image})
        self._watch.lap("preprocess")
        return Prepared(*image.shape[:2], prepared)

    def detect(self, images: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        graph = self._graph
        self._watch.start()
        pixels = np.zeros((self._batch, *images[0].value[0].shape[1:]), np.float32)
        for place, item in enumerate(images):
            pixels[place] = item.value[0][0]
        outputs = self._session.run(graph["outputs"], {graph["pixels"]: pixels})
        self._watch.lap("network")
        results = []
        for place, item in enumerate(images):
            feeds = {
                placeholder: output[place : place + 1]
                for placeholder, output in zip(graph["levels"], outputs, strict=True)
            }
            feeds[graph["scale"]] = item.value[1]
            results.append(self._session.run(graph["found"], feeds))
        self._watch.lap("postprocess")
        return results


@contextmanager
def _tensorflow_side(setup: Detection) -> Iterator[_TensorflowSide]:
    import_tensorflow()
    import tensorflow as tf

    import reference_tf
    from reference_tf import detection

    v1 = tf.compat.v1
    config, stages = setup.conversion.config, setup.profile.stages()
    built = reference_tf.build(config, *setup.size, batch=setup.batch)
    outputs = [*built.class_outputs, *built.box_outputs]
    with built.graph.as_default(), tf.device("/cpu:0"):
        data = v1.placeholder(tf.string, [])
        image = v1.placeholder(tf.uint8, [None, None, 3])
        scale = v1.placeholder(tf.float32, [])
        levels = [v1.placeholder(tf.float32, [1, *output.shape[1:]]) for output in outputs]
        half = len(built.class_outputs)
        found = detection.postprocess(
            levels[:half], levels[half:], config, setup.size, scale, stages
        )
        graph = {
            "data": data,
            "decoded": detection.decode(data, stages),
            "image": image,
            "prepared": detection.preprocess(image, *setup.size, stages),
            "pixels": built.images,
            "outputs": outputs,
            "levels": levels,
            "scale": scale,
            "found": (found.boxes, found.scores, found.classes),
        }
    with reference_tf.open_session(built.graph, setup.threads, device=setup.device) as session:
        built.restore(session, setup.prefix, ema=setup.weights == "ema")
        yield _TensorflowSide(session, graph, setup.batch)


def _detection(arguments: argparse.Namespace, batch: int) -> Detection:
    from torch_model.profiles import get_profile, with_stages

    changes = dict(_stage(text) for text in arguments.stage)
    profile = with_stages(get_profile(arguments.profile), changes)
    files = _resolve(arguments)
    conversion = _convert(arguments, files)
    config = conversion.config
    size = parse_size(arguments.size) if arguments.size else config.image_size
    config.feature_sizes(*size)
    environment.prepare()
    return Detection(
        conversion=conversion,
        prefix=files.prefix,
        profile=profile,
        size=size,
        weights=arguments.weights,
        device=arguments.device,
        # Stated for both sides, whose defaults may differ.
        threads=arguments.threads or os.cpu_count() or 1,
        batch=batch,
    )


def _stage(text: str) -> tuple[str, str]:
    name, separator, variant = text.partition("=")
    if not separator:
        raise InputError(f"--stage {text!r} names no variant; write it as in nms=hard.")
    return name, variant


def _open_folder(folder: Path, names: Sequence[str], keep: Sequence[Path]) -> list[Path]:
    """Make a folder of results and check that each file in it can be written.

    Raises:
        InputError: The folder cannot be made, or a file in it is one to keep.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made a folder ({error.strerror}); choose another --out."
        ) from error
    paths = [folder / name for name in names]
    for path in paths:
        check_writable(path, keep)
    return paths


def _image_ids(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--image-ids {text!r:.80} is no list of numbers; write it as in 139,285."
        ) from None


def run_coco(arguments: argparse.Namespace) -> int:
    """``compare.py coco``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity import shards
    from parity.coco.annotations import choose, read_annotations
    from parity.coco.detections import results_json
    from parity.coco_text import coco_text

    _check_numbers(arguments)
    for name, highest in (("batch_size", _MAX_BATCH), ("limit", _MAX_IMAGES)):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= highest:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {value}; give a number from 1 to {highest}.")
    setup = _detection(arguments, arguments.batch_size)
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
            f"being {images[0].file_name}; give the folder of these images."
        )
    frameworks = FRAMEWORKS if arguments.framework == "both" else (arguments.framework,)
    kinds = ("detections", "submission") if arguments.submission else ("detections",)
    names = [f"{kind}_{framework}.json" for kind in kinds for framework in frameworks]
    keep = [arguments.annotations, *checkpoint_files(setup.prefix)]
    _open_folder(arguments.out, ["coco.json", *names], keep)

    work = shards.Work(folder, images, setup.batch)
    fingerprint = shards.fingerprint(work)
    results = {}
    for framework in frameworks:
        with Progress(f"detecting with {framework}", unit="images") as progress:
            results[framework] = shards.run(
                arguments.out / "shards" / framework,
                setup.manifest(framework) | {"images": fingerprint},
                work,
                partial(setup.open, framework),
                progress,
            )
        rows = [(item.image_id, item.rows) for shard in results[framework] for item in shard.images]
        for kind in kinds:
            path = arguments.out / f"{kind}_{framework}.json"
            write_text(path, results_json(rows, submission=kind == "submission"))
    report = _coco_report(arguments, setup, annotations, results)
    write_json(arguments.out / "coco.json", report.to_dict())
    print(coco_text(report))
    return 0 if report.passes else 1


def _coco_report(
    arguments: argparse.Namespace,
    setup: Detection,
    annotations: Annotations,
    results: Mapping[str, Sequence[Shard]],
) -> CocoReport:
    from parity.coco.bootstrap import ap_difference
    from parity.coco.metrics import evaluate
    from parity.coco.report import CocoReport, Outcome
    from parity.matching import match

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
        matching = match(reference, candidate)
        first, second = (evaluations[name] for name in FRAMEWORKS)
        if usable and first and second:
            with Progress("resampling", unit="resamples") as progress:
                interval = ap_difference(first, second, progress=progress)
    return CocoReport(
        model=setup.conversion.config.name,
        checkpoint=_checkpoint(arguments, setup.conversion),
        annotations=str(annotations.source),
        profile=setup.profile.to_dict(),
        size=setup.size,
        environment=_detection_environment(setup, "torch" in results),
        outcomes={name: Outcome(shards, evaluations[name]) for name, shards in results.items()},
        categories=annotations.categories,
        file_names={image.id: image.file_name for image in annotations.images},
        matching=matching,
        interval=interval,
    )


def _detection_environment(setup: Detection, with_torch: bool) -> dict[str, Any]:
    described = environment.describe(setup.threads) | {
        "device": setup.device,
        "batch": setup.batch,
    }
    if with_torch:
        from parity.torch_side.device import describe_device, open_device

        described |= describe_device(open_device(setup.device))
    return described


def run_detect(arguments: argparse.Namespace) -> int:
    """``compare.py detect``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    from parity.coco.names import category_names
    from parity.drawing import differing, side_by_side, write_png
    from parity.matching import match_image
    from torch_model.decode import read_image

    _check_numbers(arguments)
    if not 0 <= arguments.min_score <= 1:
        raise InputError(f"--min-score is {arguments.min_score}; give a number from 0 to 1.")
    setup = _detection(arguments, 1)
    names = category_names(setup.conversion.config.num_classes)
    pictures = _picture_names(arguments.images)
    keep = [*arguments.images, *checkpoint_files(setup.prefix)]
    _open_folder(arguments.out, ["detect.json", *pictures], keep)
    found = {framework: _detect_all(setup, framework, arguments.images) for framework in FRAMEWORKS}
    passes, entries = True, []
    for place, (path, picture) in enumerate(zip(arguments.images, pictures, strict=True)):
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
        "checkpoint": _checkpoint(arguments, setup.conversion),
        "profile": setup.profile.to_dict(),
        "size": list(setup.size),
        "environment": _detection_environment(setup, True),
        "columns": ["x", "y", "width", "height", "score", "category_id"],
        "images": entries,
    }
    write_json(arguments.out / "detect.json", result)
    return 0 if passes else 1


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
    ):
        for path in paths:
            try:
                results.append(as_rows(*side.detect([side.prepare(path)])[0]))
            except InputError as error:
                results.append(str(error))
            progress(len(results), len(paths))
    return results


def run_seed(arguments: argparse.Namespace) -> int:
    """``compare.py seed``.

    Raises:
        InputError: There is no such model, or the folder cannot be written.
    """
    config = get_config(arguments.model)
    from torch_model.calibrate import calibrated_statistics

    images, _ = _images(None, *_CALIBRATION_SIZE, "float32")
    statistics = partial(calibrated_statistics, images)
    prefix = write_seeded(config, arguments.folder, arguments.salt, statistics)
    print(f"wrote {prefix} ({config.name}, seeded weights, not trained; salt {arguments.salt!r})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
