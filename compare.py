"""Compare the TensorFlow and PyTorch EfficientDet of one checkpoint."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converter.bundle import checkpoint_files
from converter.conversion import convert
from converter.ledger import WEIGHTS
from converter.progress import Progress
from converter.seeded import write_seeded
from converter.sources import default_cache, resolve
from efficientdet_spec import MODELS, EfficientDetConfig, InputError, get_config, parse_size
from parity import environment
from parity.console import guarded, nodes_text
from parity.result import (
    Contribution,
    NodesReport,
    Verdict,
    check_writable,
    largest_sources,
    write_json,
)

_MAX_THREADS = 1024
_MAX_CONTRIBUTIONS = 1000

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
    nodes.add_argument("checkpoint", metavar="CHECKPOINT", help="as SOURCE of convert.py")
    nodes.add_argument(
        "--candidate", type=Path, help="a .pth of convert.py; default: converted on the fly"
    )
    nodes.add_argument("--image", type=Path, help="image file; default: a built-in image")
    nodes.add_argument("--size", help="HxW in pixels; default: the model's native size")
    nodes.add_argument("--weights", choices=WEIGHTS, default="ema", help="default: ema")
    nodes.add_argument("--model", help=f"default: recognised; one of {', '.join(MODELS)}")
    nodes.add_argument("--num-classes", type=int, help="refuse a file with another class count")
    nodes.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="type in which both sides compute; float64 shows that their structure is one",
    )
    nodes.add_argument("--threads", type=int, help="threads within one operation, on both sides")
    nodes.add_argument(
        "--contributions",
        type=int,
        default=5,
        metavar="N",
        help="of how many nodes to measure what they contribute to the outputs' difference; "
        "each takes a run of the candidate (default: 5)",
    )
    nodes.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    nodes.add_argument("--quiet", action="store_true", help="print no table of all nodes")
    nodes.add_argument("--cache", type=Path, help="folder for downloads (EFFICIENTDET_CACHE)")

    seed = commands.add_parser(
        "seed", help="write a checkpoint in the official layout with seeded, untrained weights"
    )
    seed.set_defaults(run=run_seed)
    seed.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    seed.add_argument("folder", metavar="FOLDER", type=Path, help="folder to write it to")
    seed.add_argument("--salt", default="seed", help="another text gives other weights")
    return result


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


def run_nodes(arguments: argparse.Namespace) -> int:
    """``compare.py nodes``.

    Raises:
        InputError: Something about the input cannot be used.
    """
    if arguments.threads is not None and not 1 <= arguments.threads <= _MAX_THREADS:
        raise InputError(
            f"--threads is {arguments.threads}; give a number from 1 to {_MAX_THREADS}."
        )
    if not 0 <= arguments.contributions <= _MAX_CONTRIBUTIONS:
        raise InputError(
            f"--contributions is {arguments.contributions}; give a number from 0 to "
            f"{_MAX_CONTRIBUTIONS}."
        )
    size = None if arguments.size is None else parse_size(arguments.size)
    with Progress("downloading") as progress:
        files = resolve(arguments.checkpoint, arguments.cache or default_cache(), progress)
    if arguments.json:
        others = (Path(arguments.checkpoint), arguments.candidate, arguments.image)
        inputs = [*checkpoint_files(files.prefix), *(path for path in others if path)]
        check_writable(arguments.json, inputs)
    started = time.perf_counter()
    conversion = convert(
        files,
        model=arguments.model,
        num_classes=arguments.num_classes,
        weights=arguments.weights,
    )
    config = conversion.config
    height, width = size or config.image_size
    config.feature_sizes(height, width)
    environment.prepare()
    import_tensorflow()
    images, described = _images(arguments.image, height, width, arguments.dtype)

    import torch

    from torch_model.checkpoint import from_arrays

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    # Both sides compute with as many threads, and the result says how many.
    arguments.threads = torch.get_num_threads()
    if arguments.candidate:
        model = _candidate(arguments.candidate, config)
    else:
        model = from_arrays(config, conversion.arrays, source=str(files.prefix))
    state = model.state_dict()
    changed = [
        name
        for name, array in conversion.arrays.items()
        if not np.array_equal(state[name].numpy(), array, equal_nan=True)
    ]
    model = model.to(getattr(torch, arguments.dtype))
    provenance = dict(conversion.provenance)
    del conversion
    seconds = {"load": time.perf_counter() - started}

    report = _compare(
        config,
        model,
        images,
        prefix=files.prefix,
        arguments=arguments,
        seconds=seconds,
        checkpoint={
            "source": provenance["source"],
            "fingerprint": provenance["checkpoint_fingerprint"],
            "weights": arguments.weights,
        },
        described=described,
        parameters_changed=changed,
    )
    print(nodes_text(report, every_node=not arguments.quiet))
    if arguments.json:
        write_json(arguments.json, report.to_dict())
    return 0 if report.passes else 1


def _candidate(path: Path, config: EfficientDetConfig) -> Any:
    from torch_model.checkpoint import load

    model = load(path)
    if model.config != config:
        raise InputError(
            f"{path} holds {model.config.name} with {model.config.num_classes} classes, but the "
            f"checkpoint {config.name} with {config.num_classes}; give files of one model."
        )
    return model


def _images(
    path: Path | None, height: int, width: int, dtype: str
) -> tuple[np.ndarray[Any, np.dtype[Any]], dict[str, Any]]:
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


def _compare(
    config: EfficientDetConfig,
    model: Any,
    images: np.ndarray[Any, np.dtype[Any]],
    *,
    prefix: Path,
    arguments: argparse.Namespace,
    seconds: dict[str, float],
    checkpoint: dict[str, Any],
    described: dict[str, Any],
    parameters_changed: list[str],
) -> NodesReport:
    import reference_tf
    from parity.attribution import contributions
    from parity.nodes import Pairing, compare
    from parity.tensorflow_side import TensorflowReference

    started = time.perf_counter()
    built = reference_tf.build(config, *images.shape[1:3], dtype=arguments.dtype)
    reference = TensorflowReference(built.graph, built.images, built.nodes, built.kinds)
    with reference_tf.open_session(built.graph, arguments.threads) as session:
        built.restore(session, prefix, ema=arguments.weights == "ema")
        seconds["build and restore"] = time.perf_counter() - started
        pairing = Pairing(
            stream=partial(reference.stream, session, images),
            model=model,
            levels=config.levels,
            images=images,
            outputs=built.output_nodes,
        )
        with Progress("comparing", unit="nodes") as progress:
            nodes, timings = compare(built.kinds, pairing, progress)
        seconds |= {f"{timing.name} pass": timing.seconds for timing in timings}
        started = time.perf_counter()
        sources = [node.name for node in largest_sources(nodes, arguments.contributions)]
        shares: list[Contribution] = []
        # A node without a partner leaves nothing to put in its place.
        if sources and not any(node.verdict is Verdict.NOT_COVERED for node in nodes):
            with Progress("attributing", unit="runs") as progress:
                shares = contributions(pairing, sources, progress)
            seconds["contributions"] = time.perf_counter() - started
    return NodesReport(
        model=config.name,
        checkpoint=checkpoint,
        candidate=str(arguments.candidate or "converted on the fly"),
        parameters_changed=parameters_changed,
        images=described,
        dtype=arguments.dtype,
        environment=environment.describe(arguments.threads),
        nodes=nodes,
        tensors={name: tensor.name for name, tensor in built.nodes.items()},
        outputs=built.output_nodes,
        contributions=shares,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_memory=environment.peak_memory_bytes(),
    )


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
