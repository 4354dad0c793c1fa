"""What several commands ask for, and its checks."""

from __future__ import annotations

import argparse
from pathlib import Path

from converter.bundle import checkpoint_files
from converter.conversion import Conversion, convert
from converter.ledger import WEIGHTS
from converter.progress import READING_PATIENCE, Progress
from converter.sources import CheckpointFiles, default_cache, resolve
from efficientdet_spec import MODELS, Cause, InputError, parse_size
from parity.process.files import check_writable
from parity.results.records.shared import Checkpoint, Weights
from parity.sides.naming import split_candidate

_MAX_THREADS = 1024
_MAX_RUNS = 10_000
_MAX_BATCH = 1024


def add_detection(command: argparse.ArgumentParser) -> None:
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


def add_input(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """What both networks are filled with and run on.

    Args:
        command: The command.
        several: Whether it takes more than one image.
    """
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="as SOURCE of convert.py")
    if several:
        command.add_argument(
            "--image",
            type=Path,
            nargs="+",
            action="extend",
            default=[],
            metavar="FILE",
            help="image files and folders of them; the verdict is the worst of all; default: a "
            "generated set (like a photograph at the model's size, and two images of high "
            "amplitude together at an odd size, half of it where the model can process that)",
        )
        command.add_argument(
            "--batch", type=int, metavar="N", help="images run together (default: one)"
        )
    else:
        command.add_argument("--image", type=Path, help="image file; default: a generated one")
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


def check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse numbers that make no sense.

    Raises:
        InputError: One is out of its range; the message states it.
    """
    limits = {
        "threads": (1, _MAX_THREADS),
        "batch": (1, _MAX_BATCH),
        "contributions": (0, _MAX_RUNS),
        "diagnose": (0, _MAX_RUNS),
        "closeups": (0, _MAX_RUNS),
    }
    for name, (lowest, highest) in limits.items():
        value = getattr(arguments, name, None)
        if value is not None and not lowest <= value <= highest:
            raise InputError(
                f"--{name} is {value}; give a number from {lowest} to {highest}.", Cause.OPTION
            )


def resolve_checkpoint(arguments: argparse.Namespace) -> CheckpointFiles:
    """The checkpoint's files, downloaded if need be.

    Raises:
        InputError: There is no such checkpoint, or the size is none.
    """
    if arguments.size is not None:
        parse_size(arguments.size)
    with Progress("downloading") as progress:
        return resolve(arguments.checkpoint, arguments.cache or default_cache(), progress)


def convert_checkpoint(arguments: argparse.Namespace, files: CheckpointFiles) -> Conversion:
    """The checkpoint's values as the PyTorch model has them.

    Raises:
        InputError: The checkpoint is damaged, of another model or holds NaN.
    """
    with Progress("reading", patience=READING_PATIENCE) as progress:
        return convert(
            files,
            model=arguments.model,
            num_classes=arguments.num_classes,
            weights=arguments.weights,
            progress=progress,
        )


def check_results(arguments: argparse.Namespace, prefix: Path) -> None:
    """Raise where a result cannot be written, or would destroy an input.

    Raises:
        InputError: Says which.
    """
    image = arguments.image
    others: list[Path | None] = [Path(arguments.checkpoint)]
    others += image if isinstance(image, list) else [image]
    for name in ("names", "reference"):
        others.append(getattr(arguments, name, None))
    if getattr(arguments, "candidate", None):
        others.append(split_candidate(arguments.candidate)[0])
    inputs = [*checkpoint_files(prefix), *(path for path in others if path)]
    targets = [getattr(arguments, name, None) for name in ("json", "junit", "trace")]
    for target in filter(None, targets):
        try:
            check_writable(target, inputs)
        except InputError:
            arguments.place.refuse()
            raise
        inputs.append(target)


def describe_checkpoint(arguments: argparse.Namespace, conversion: Conversion) -> Checkpoint:
    """The checkpoint as results name it."""
    provenance = conversion.provenance
    return Checkpoint(
        source=provenance["source"],
        fingerprint=provenance["checkpoint_fingerprint"],
        weights=Weights(arguments.weights),
    )
