"""What nodes are compared on: images of the command line, a trace's, or a generated set."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from converter.conversion import Conversion
from efficientdet_spec import Cause, EfficientDetConfig, InputError, parse_size
from parity.commands.references import Kind, kind_of
from parity.commands.references import trace as recorded
from parity.detections.images import PHOTOGRAPH, high_amplitude, image_files, photograph_like
from parity.traces.reader import Trace, check_matches, open_trace

Images = NDArray[Any]
"""Normalised images, [N, H, W, 3]."""

AMPLITUDE = "generated, of high amplitude"


@dataclass(frozen=True)
class PlannedInput:
    """An input of a comparison before it is read.

    Attributes:
        size: Height and width in pixels.
        batch: Number of images.
        load: Reads it: [N, H, W, 3], and what to say about it.
        asked_for: Whether the user gave it, or it is of the size that he runs the model at. A
            candidate that cannot be run on another one has done nothing wrong.
    """

    size: tuple[int, int]
    batch: int
    load: Callable[[], tuple[Images, dict[str, Any]]]
    asked_for: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, 3]."""
        return (self.batch, *self.size, 3)


def plan_inputs(
    arguments: argparse.Namespace, conversion: Conversion, trace: Trace | None
) -> list[PlannedInput]:
    """The inputs that a command line asks for, each checked, none kept in memory.

    Raises:
        InputError: An image cannot be read, the model cannot process the size, or a trace is of
            another input.
    """
    config = conversion.config
    size = parse_size(arguments.size) if arguments.size else config.image_size
    config.feature_sizes(*size)
    if trace:
        return [_of_trace(arguments, conversion, trace, size)]
    if arguments.image:
        return _of_files(_files(arguments.image), size, arguments.batch or 1, arguments.dtype)
    other = _odd_size(config, size) if kind_of(arguments.reference).ANY_SIZE else size
    return _generated((size, other), arguments.batch, arguments.dtype)


def _of_trace(
    arguments: argparse.Namespace, conversion: Conversion, trace: Trace, size: tuple[int, int]
) -> PlannedInput:
    if arguments.image or arguments.size or arguments.batch:
        files = _files(arguments.image)
        if len(files) > 1 or arguments.batch:
            given = (
                f"--batch {arguments.batch} is" if arguments.batch else f"{len(files)} images are"
            )
            raise InputError(
                f"A trace is of one input, but {given} given; leave --image, --size and --batch "
                f"out to use the trace's own.",
                Cause.OPTION,
            )
        if files:
            planned = _of_files(files, size, 1, arguments.dtype)[0]
        else:
            planned = _generated((size, size), 1, arguments.dtype)[0]
        check_trace(trace, arguments, conversion, planned.load()[1]["sha256"])
        return planned
    described = {"batch": len(trace.images), **trace.header.input}
    shape = trace.images.shape
    return PlannedInput((shape[1], shape[2]), shape[0], lambda: (trace.images, described))


def _files(paths: Sequence[Path]) -> list[Path]:
    """The image files among files and folders, in the order given."""
    found: list[Path] = []
    for path in paths:
        found += image_files(path) if path.is_dir() else [path]
    return found


def _of_files(
    files: Sequence[Path], size: tuple[int, int], batch: int, dtype: str
) -> list[PlannedInput]:
    from torch_model.decode import read_image

    for path in files:
        # A file that cannot be read should not end a comparison when most of it is done.
        read_image(path)

    def planned(group: Sequence[Path]) -> PlannedInput:
        name = str(group[0]) if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"
        return PlannedInput(
            size, len(group), lambda: prepared([read_image(p) for p in group], name, size, dtype)
        )

    return [planned(files[start : start + batch]) for start in range(0, len(files), batch)]


def _generated(
    sizes: tuple[tuple[int, int], tuple[int, int]], batch: int | None, dtype: str
) -> list[PlannedInput]:
    """A small set that gives every part of a network something to do.

    One image like a photograph at the size asked for; two of the highest amplitude that images can
    have, together, so that a leak between the images of a batch shows, at an odd and oblong size.
    """

    def planned(
        make: Callable[[int, int, int], Any], name: str, pixels: tuple[int, int], count: int
    ) -> PlannedInput:
        return PlannedInput(
            pixels,
            count,
            lambda: prepared([make(*pixels, seed) for seed in range(count)], name, pixels, dtype),
            asked_for=make is photograph_like,
        )

    return [
        planned(photograph_like, PHOTOGRAPH, sizes[0], batch or 1),
        planned(high_amplitude, AMPLITUDE, sizes[1], max(2, batch or 2)),
    ]


def _odd_size(config: EfficientDetConfig, size: tuple[int, int]) -> tuple[int, int]:
    """Half of the height and three quarters of the width, both odd; else the size itself, made so.

    The map of every level is then oblong, so that height and width cannot be mixed up unseen, and
    odd at the finest, so that padding is not that of a power of two.
    """
    height, width = size
    smaller = height // 2 | 1, max(3 * width // 4 | 1, 3)
    whole = height | 1, 3 * width // 2 | 1
    for odd in (smaller, whole):
        try:
            config.feature_sizes(*odd)
        except InputError:
            continue
        return odd
    return size


def read_input(
    arguments: argparse.Namespace, conversion: Conversion
) -> tuple[Images, dict[str, Any]]:
    """The one input [1, H, W, 3] of a command line and what to say about it."""
    config = conversion.config
    height, width = parse_size(arguments.size) if arguments.size else config.image_size
    config.feature_sizes(height, width)
    return make_images(arguments.image, height, width, arguments.dtype)


def open_reference_trace(arguments: argparse.Namespace, conversion: Conversion) -> Trace | None:
    """The trace given as reference; None where the reference is none.

    Raises:
        InputError: It cannot be read, or is of another checkpoint.
    """
    if kind_of(arguments.reference) is not cast(Kind, recorded):
        return None
    trace = open_trace(arguments.reference)
    check_trace(trace, arguments, conversion)
    return trace


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
