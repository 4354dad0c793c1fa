"""What nodes are compared on: images of the command line, a trace's, or a generated set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.conversion import Conversion
from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.commands.references import check_trace, kind_of
from parity.detections.images import PHOTOGRAPH, high_amplitude, image_files, photograph_like
from parity.settings.nodes import NodesSettings
from parity.settings.shared import ImageSettings, size_text
from parity.traces.reader import Trace

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
        instead: What is compared on where the candidate cannot be run on this one; None where
            there is nothing else.
    """

    size: tuple[int, int]
    batch: int
    load: Callable[[], tuple[Images, dict[str, Any]]]
    asked_for: bool = True
    instead: PlannedInput | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, 3]."""
        return (self.batch, *self.size, 3)

    def singly(self) -> Sequence[PlannedInput]:
        """Each of its images as an input of its own."""
        read = cache(self.load)

        def load(number: int) -> tuple[Images, dict[str, Any]]:
            images, about = read()
            single = images[number : number + 1]
            source = f"{about['source']}, number {number + 1} of {self.batch}"
            return single, {**about, "source": source, **described(single, source)}

        return [
            replace(self, batch=1, load=partial(load, number), instead=None)
            for number in range(self.batch)
        ]


def plan_inputs(
    settings: NodesSettings, conversion: Conversion, trace: Trace | None
) -> list[PlannedInput]:
    """The inputs that a comparison asks for, each checked, none kept in memory.

    Args:
        settings: Of the comparison.
        conversion: The checkpoint's values.
        trace: Recorded tensors that are the reference; None where they are not.

    Raises:
        InputError: An image cannot be read, the model cannot process the size, or a trace is of
            another input.
    """
    config = conversion.config
    size = settings.size or config.image_size
    config.feature_sizes(*size)
    if trace:
        return [_of_trace(settings, conversion, trace, size)]
    if settings.image:
        return _of_files(_files(settings.image), config, size, settings.batch or 1, settings.dtype)
    other = _odd_size(config, size) if kind_of(settings.reference).ANY_SIZE else size
    return _generated(config, (size, other), settings.batch, settings.dtype)


def _of_trace(
    settings: NodesSettings, conversion: Conversion, trace: Trace, size: tuple[int, int]
) -> PlannedInput:
    if settings.image or settings.size or settings.batch:
        files = _files(settings.image)
        if len(files) > 1 or settings.batch:
            given = f"--batch {settings.batch} is" if settings.batch else f"{len(files)} images are"
            raise InputError(
                f"A trace is of one input, but {given} given; leave --image, --size and --batch "
                f"out to use the trace's own.",
                Cause.OPTION,
            )
        if files:
            planned = _of_files(files, conversion.config, size, 1, settings.dtype)[0]
        else:
            planned = _generated(conversion.config, (size, size), 1, settings.dtype)[0]
        digest = planned.load()[1]["sha256"]
        check_trace(trace, conversion, settings.weights, settings.dtype, digest)
        return planned
    facts = {"batch": len(trace.images), **trace.header.input}
    shape = trace.images.shape
    return PlannedInput((shape[1], shape[2]), shape[0], lambda: (trace.images, facts))


def _files(paths: Sequence[Path]) -> list[Path]:
    """The image files among files and folders, in the order given."""
    found: list[Path] = []
    for path in paths:
        found += image_files(path) if path.is_dir() else [path]
    return found


def _of_files(
    files: Sequence[Path],
    config: EfficientDetConfig,
    size: tuple[int, int],
    batch: int,
    dtype: str,
) -> list[PlannedInput]:
    from torch_model.decode import read_image

    for path in files:
        # A file that cannot be read should not end a comparison when most of it is done.
        read_image(path)

    def planned(group: Sequence[Path]) -> PlannedInput:
        name = str(group[0]) if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"
        return PlannedInput(
            size,
            len(group),
            lambda: prepared([read_image(p) for p in group], name, config, size, dtype),
        )

    return [planned(files[start : start + batch]) for start in range(0, len(files), batch)]


def of_arrays(
    images: Any, settings: NodesSettings, conversion: Conversion, trace: Trace | None
) -> list[PlannedInput]:
    """The inputs that a caller hands over as arrays.

    Args:
        images: Arrays [h, w, 3] in RGB order of type uint8, to be prepared as photographs are; or
            one array [N, H, W, 3] of floating point, the network's input itself, normalised.
        settings: Of the comparison.
        conversion: The checkpoint's values.
        trace: Recorded tensors that are the reference; None where they are not.

    Raises:
        InputError: They are something else, the model cannot process their size, or a trace is
            of another input.
    """
    planned = _planned_arrays(images, settings, conversion.config)
    if trace:
        if len(planned) > 1:
            raise InputError(
                f"A trace is of one input, but {len(planned)} are given; give the one that was "
                f"recorded, or None to use the trace's own.",
                Cause.OPTION,
            )
        digest = planned[0].load()[1]["sha256"]
        check_trace(trace, conversion, settings.weights, settings.dtype, digest)
    return planned


def _planned_arrays(
    images: Any, settings: NodesSettings, config: EfficientDetConfig
) -> list[PlannedInput]:
    size = settings.size or config.image_size
    config.feature_sizes(*size)
    if isinstance(images, np.ndarray) and images.ndim == 4 and images.dtype.kind == "f":
        return [_of_network_input(images, settings, config)]
    if isinstance(images, np.ndarray) and images.ndim == 3:
        images = [images]
    photographs = [_as_array(image) for image in images]
    if not photographs:
        raise InputError("No image is given; give one, or None.", Cause.OPTION)
    for image in photographs:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(
                f"An image is an array {list(image.shape)} of {image.dtype}; give [h, w, 3] in "
                f"RGB order of uint8, or one array [N, H, W, 3] of floating point that is the "
                f"network's input.",
                Cause.OPTION,
            )
    batch = settings.batch or 1

    def planned(group: Sequence[NDArray[Any]]) -> PlannedInput:
        dtype = settings.dtype
        return PlannedInput(
            size, len(group), lambda: prepared(group, "given as an array", config, size, dtype)
        )

    starts = range(0, len(photographs), batch)
    return [planned(photographs[start : start + batch]) for start in starts]


def _as_array(image: Any) -> NDArray[Any]:
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"An image of type {type(image).__name__} cannot be taken as an array "
            f"({error!s:.100}); give one [h, w, 3] in RGB order of uint8.",
            Cause.OPTION,
        ) from error


def _of_network_input(
    images: NDArray[Any], settings: NodesSettings, config: EfficientDetConfig
) -> PlannedInput:
    size = (images.shape[1], images.shape[2])
    if images.shape[3] != 3 or not len(images):
        raise InputError(
            f"The network's input is an array {list(images.shape)}; give [N, H, W, 3], with the "
            f"colours last.",
            Cause.OPTION,
        )
    if settings.size not in (None, size):
        raise InputError(
            f"The images are {size_text(size)}, but size says {size_text(settings.size)}; leave "
            f"size out.",
            Cause.OPTION,
        )
    config.feature_sizes(*size)
    if not np.isfinite(images).all():
        raise InputError(
            "The network's input has values that are not finite; give an array without them.",
            Cause.OPTION,
        )
    stacked = np.ascontiguousarray(images, settings.dtype)
    return PlannedInput(
        size, len(stacked), lambda: (stacked, described(stacked, "given as an array"))
    )


def _generated(
    config: EfficientDetConfig,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    batch: int | None,
    dtype: str,
) -> list[PlannedInput]:
    """A small set that gives every part of a network something to do.

    One image like a photograph at the size asked for; two of the highest amplitude that images can
    have, together, so that a leak between the images of a batch shows, at an odd and oblong size.
    A candidate that is made for one size takes them at that, and one that is made for single
    images takes one.
    """

    def planned(
        make: Callable[[int, int, int], Any],
        name: str,
        pixels: tuple[int, int],
        count: int,
        instead: PlannedInput | None = None,
    ) -> PlannedInput:
        return PlannedInput(
            pixels,
            count,
            lambda: prepared(
                [make(*pixels, seed) for seed in range(count)], name, config, pixels, dtype
            ),
            asked_for=make is photograph_like,
            instead=instead,
        )

    size, other = sizes
    count = max(2, batch or 2)
    instead = planned(high_amplitude, AMPLITUDE, size, batch or 1)
    for pixels, images in ((size, count), (other, count)):
        if (pixels, images) != (instead.size, instead.batch):
            instead = planned(high_amplitude, AMPLITUDE, pixels, images, instead)
    return [planned(photograph_like, PHOTOGRAPH, size, batch or 1), instead]


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
    settings: ImageSettings, config: EfficientDetConfig
) -> tuple[Images, dict[str, Any]]:
    """The one input [1, H, W, 3] that is asked for and what to say about it.

    Args:
        settings: Of the command.
        config: The model.

    Raises:
        InputError: The image cannot be read, or the model cannot process the size.
    """
    from parity.detections.images import PHOTOGRAPH, photograph_like
    from torch_model.decode import read_image

    path, size = settings.image, settings.size or config.image_size
    config.feature_sizes(*size)
    image = read_image(path) if path else photograph_like(*size)
    return prepared([image], str(path) if path else PHOTOGRAPH, config, size, settings.dtype)


def prepared(
    images: Sequence[NDArray[Any]],
    source: str,
    config: EfficientDetConfig,
    size: tuple[int, int],
    dtype: str,
) -> tuple[Images, dict[str, Any]]:
    """Images as the network takes them, [N, height, width, 3], and what to say about them.

    Args:
        images: Each [h, w, 3] in RGB order, uint8.
        source: Where they are from.
        config: The model, which says how grey levels are normalised.
        size: Height and width of the input in pixels.
        dtype: Type in which both sides compute.
    """
    from torch_model.preprocess import Normalisation, preprocess_with_scale

    own = Normalisation.of(config)
    found = [preprocess_with_scale(image, *size, normalisation=own).pixels for image in images]
    stacked = np.stack(found).astype(dtype)
    return stacked, described(stacked, source)


def described(images: Images, source: str) -> dict[str, Any]:
    """What results say about an input.

    Args:
        images: The network's input, [N, H, W, 3].
        source: Where it is from.
    """
    return {
        "source": source,
        "height": images.shape[1],
        "width": images.shape[2],
        "batch": len(images),
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }
