"""The network that a candidate is compared with, and the input of both."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.conversion import Conversion
from efficientdet_spec import Cause, EfficientDetConfig, InputError, NodeKind, parse_size
from parity.traces.reader import Trace, check_matches, open_trace

Images = NDArray[Any]
"""Normalised images, [N, H, W, 3]."""


def import_tensorflow() -> None:
    """Import TensorFlow without the notices about processors that it prints while starting.

    Raises:
        InputError: TensorFlow is not installed; says which extra to install.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            "Comparing needs TensorFlow, which is not installed; install it with "
            "pip install 'efficientdet-parity[tensorflow]'.",
            Cause.MISSING_PACKAGE,
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
            "pip install 'efficientdet-parity[tensorflow]'.",
            Cause.MISSING_PACKAGE,
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@dataclass(frozen=True)
class Reference:
    """A network to compare with, ready to compute.

    Attributes:
        kinds: What each node computes, in the order of computation.
        stream: Makes it compute once, on [N, H, W, 3] images of the shape that it is built for.
        tensors: Name of each node's TensorFlow tensor.
        graph_tensors: These tensors themselves; empty where there is no graph.
        outputs: Nodes that are the network's outputs.
        recorded: The nodes whose tensors there are; None for all.
        described: Where it comes from.
    """

    kinds: Mapping[str, NodeKind]
    stream: Callable[[Images], AbstractContextManager[Any]]
    tensors: Mapping[str, str]
    graph_tensors: Mapping[str, Any]
    outputs: Sequence[str]
    recorded: frozenset[str] | None
    described: dict[str, Any]


def read_input(
    arguments: argparse.Namespace, conversion: Conversion
) -> tuple[Images, dict[str, Any]]:
    """The one input [1, H, W, 3] of a command line and what to say about it."""
    config = conversion.config
    height, width = parse_size(arguments.size) if arguments.size else config.image_size
    config.feature_sizes(height, width)
    return make_images(arguments.image, height, width, arguments.dtype)


def open_reference_trace(arguments: argparse.Namespace, conversion: Conversion) -> Trace | None:
    """The trace given as reference; None where it is none.

    Raises:
        InputError: It cannot be read, or is of another checkpoint.
    """
    if arguments.reference is None or is_metagraph(arguments.reference):
        return None
    trace = open_trace(arguments.reference)
    check_trace(trace, arguments, conversion)
    return trace


def is_metagraph(path: Path) -> bool:
    """Whether a reference is a checkpoint's own graph, by its name."""
    return path.suffix == ".meta"


def check_trace(
    trace: Trace,
    arguments: argparse.Namespace,
    conversion: Conversion,
    images_sha256: str | None = None,
) -> None:
    """Raise where a trace is of another checkpoint, type or input.

    Raises:
        InputError: Says what differs.
    """
    check_matches(
        trace,
        config=conversion.config,
        fingerprint=conversion.provenance["checkpoint_fingerprint"],
        weights=arguments.weights,
        images_sha256=images_sha256,
        dtype=arguments.dtype,
    )


@contextmanager
def open_reference(
    arguments: argparse.Namespace,
    config: EfficientDetConfig,
    prefix: Path,
    shape: tuple[int, ...],
    trace: Trace | None,
) -> Iterator[Reference]:
    """The network to compare with, ready to compute.

    Args:
        arguments: The command line.
        config: The model.
        prefix: The checkpoint.
        shape: Of the images, [N, H, W, 3].
        trace: Recorded tensors to take instead of a graph's.

    Raises:
        InputError: TensorFlow is missing, or the graph is of another model.
    """
    if trace:
        yield Reference(
            kinds=trace.kinds,
            stream=lambda images: trace.stream(),
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
    from parity.sides.tensorflow_graph import TensorflowReference

    batch, height, width, _ = shape
    described: dict[str, Any] = {"kind": "graph", "source": "built in"}
    built: Any
    if getattr(arguments, "reference", None):
        from reference_tf.metagraph import load_metagraph

        built = load_metagraph(
            arguments.reference, config, (height, width), dtype=arguments.dtype, batch=batch
        )
        described = {
            "kind": "metagraph",
            "source": str(arguments.reference),
            "notes": list(built.notes),
        }
    else:
        built = reference_tf.build(config, height, width, batch=batch, dtype=arguments.dtype)
    streaming = TensorflowReference(built.graph, built.images, built.nodes, built.kinds)
    device = getattr(arguments, "device", "cpu")
    with reference_tf.open_session(built.graph, arguments.threads, device=device) as session:
        built.restore(session, prefix, ema=arguments.weights == "ema")
        yield Reference(
            kinds=built.kinds,
            stream=partial(streaming.stream, session),
            tensors={name: tensor.name for name, tensor in built.nodes.items()},
            graph_tensors=built.nodes,
            outputs=built.output_nodes,
            recorded=None,
            described=described,
        )


def make_images(
    path: Path | None, height: int, width: int, dtype: str
) -> tuple[Images, dict[str, Any]]:
    """The input [1, height, width, 3] and what to say about it."""
    from parity.detections.images import PHOTOGRAPH, photograph_like
    from torch_model.decode import read_image

    image = read_image(path) if path else photograph_like(height, width)
    return prepared([image], str(path) if path else PHOTOGRAPH, (height, width), dtype)


def prepared(
    images: Sequence[NDArray[Any]], source: str, size: tuple[int, int], dtype: str
) -> tuple[Images, dict[str, Any]]:
    """Images as the network takes them, [N, height, width, 3], and what to say about them.

    Args:
        images: Each [h, w, 3] in RGB order, uint8.
        source: Where they are from.
        size: Height and width of the input in pixels.
        dtype: Type in which both sides compute.
    """
    from torch_model.preprocess import preprocess

    stacked = np.stack([preprocess(image, *size) for image in images]).astype(dtype)
    return stacked, {
        "source": source,
        "height": size[0],
        "width": size[1],
        "batch": len(stacked),
        "sha256": hashlib.sha256(stacked.tobytes()).hexdigest(),
    }
