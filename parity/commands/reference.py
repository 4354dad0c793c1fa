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

from numpy.typing import NDArray

from converter.conversion import Conversion
from efficientdet_spec import EfficientDetConfig, InputError, NodeKind, parse_size
from parity.trace import Trace, check_matches, open_trace

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


def read_input(
    arguments: argparse.Namespace, conversion: Conversion, trace: Trace | None
) -> tuple[Images, dict[str, Any]]:
    """The input [1, H, W, 3] and what to say about it: the trace's, or of the command line."""
    if trace and not arguments.image and not arguments.size:
        return trace.images, dict(trace.header.input)
    config = conversion.config
    height, width = parse_size(arguments.size) if arguments.size else config.image_size
    config.feature_sizes(height, width)
    images, described = make_images(arguments.image, height, width, arguments.dtype)
    if trace:
        _check_trace(trace, arguments, conversion, described["sha256"])
    return images, described


def open_reference_trace(arguments: argparse.Namespace, conversion: Conversion) -> Trace | None:
    """The trace given as reference; None where it is none.

    Raises:
        InputError: It cannot be read, or is of another checkpoint.
    """
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


@contextmanager
def open_reference(
    arguments: argparse.Namespace,
    config: EfficientDetConfig,
    prefix: Path,
    images: Images,
    trace: Trace | None,
) -> Iterator[Reference]:
    """The network to compare with, ready to compute.

    Args:
        arguments: The command line.
        config: The model.
        prefix: The checkpoint.
        images: Input of both networks.
        trace: Recorded tensors to take instead of a graph's.

    Raises:
        InputError: TensorFlow is missing, or the graph is of another model.
    """
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
    built: Any
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


def make_images(
    path: Path | None, height: int, width: int, dtype: str
) -> tuple[Images, dict[str, Any]]:
    """The input [1, height, width, 3] and what to say about it."""
    from parity.images import built_in
    from torch_model.decode import read_image
    from torch_model.preprocess import preprocess

    image = read_image(path) if path else built_in(height, width)
    images = preprocess(image, height, width)[None].astype(dtype)
    return images, {
        "source": str(path) if path else "built-in",
        "height": height,
        "width": width,
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }
