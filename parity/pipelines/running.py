"""Runs pipelines over images; what two of them have in common is computed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import EfficientDetConfig
from parity.detections.annotations import CocoImage
from parity.detections.image_sizes import check_size
from parity.detections.rows import Rows
from parity.pipelines.stages import (
    anchors,
    coding,
    decoding,
    normalising,
    resizing,
    suppressing,
    writing,
)
from parity.pipelines.stages.pipeline import ANCHOR_PARTS, Pipeline
from parity.pipelines.stages.resizing import Geometry
from parity.pipelines.stages.selecting import MOST, Predictions
from torch_model.postprocess import Chosen, Outputs, sigmoid

CACHE_BYTES = 2**29
"""Memory for networks' outputs that may be needed again."""


@dataclass(frozen=True)
class Tools:
    """What a pipeline needs of frameworks.

    Attributes:
        decode: A file and ``fast-dct`` or ``accurate-dct`` to uint8 [h, w, 3] in RGB order.
        resizes: Further resizes by name, of float32 or uint8 pixels.
        networks: By name: float32 [H, W, 3] to the network's outputs.
    """

    decode: Callable[[Path, str], NDArray[np.uint8]]
    resizes: Mapping[str, resizing.Resize]
    networks: Mapping[str, Callable[[NDArray[np.float32]], Outputs]]


@dataclass(frozen=True)
class Found:
    """The detections of one image.

    Attributes:
        rows: [K, 6] as a file of results has them, best first.
        reach: [K, 4] how far each number of a box moves where all four of the network's box codes
            move by 1.
        candidates: Gives the same of all candidates, before any is suppressed; None where these
            are they.
    """

    rows: Rows
    reach: NDArray[np.float64]
    candidates: Callable[[], Found] | None = None


@dataclass(frozen=True)
class Boxes:
    """Detections in pixels of the network's input.

    Attributes:
        boxes: [K, 4] as [y1, x1, y2, x2].
        scores: [K].
        classes: [K] class index.
        anchors: [K, 4] what each box was decoded from.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    anchors: NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """What enters a pipeline's suppression, and as what it would be written.

    Attributes:
        entering: As the suppression sees it.
        written: [K, 4] the same boxes as they are written.
    """

    entering: Boxes
    written: NDArray[np.float32]

    def each(self) -> Boxes:
        """All of them, with the scores that they enter with."""
        return replace(self.entering, boxes=self.written)

    def kept(self, pipeline: Pipeline) -> Boxes:
        """Those that the pipeline's suppression leaves, with the scores that it gives them."""
        own = self.entering
        found = suppressing.suppressed(own.boxes, own.scores, own.classes, pipeline)
        those = found.indices
        return Boxes(self.written[those], found.scores, own.classes[those], own.anchors[those])


def prepared(
    pipeline: Pipeline,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    resizes: Mapping[str, resizing.Resize],
) -> tuple[NDArray[np.float32], Geometry]:
    """The network's input [H, W, 3], and how the image lies in it.

    Args:
        pipeline: Decides how.
        image: [h, w, 3] in RGB order.
        size: (height, width) of the input.
        resizes: By name, those of frameworks included.

    Raises:
        InputError: Nothing is left of the image.
    """
    levels = decoding.ordered(image, pipeline.colours)
    h, w = levels.shape[:2]
    place = resizing.geometry(h, w, size, pipeline.fit, pipeline.placement)
    how, resize = pipeline.normalisation, resizes[pipeline.resize]
    if pipeline.resize.endswith("-levels"):
        scaled = normalising.normalised(resize(levels, *place.scaled), how)
    else:
        scaled = resize(normalising.normalised(levels, how), *place.scaled)
    pixels = np.empty((*size, 3), np.float32)
    pixels[:] = normalising.background(pipeline.padding, how)
    (top, left), (height, width) = place.offset, place.scaled
    pixels[top : top + height, left : left + width] = normalising.shifted(scaled, how)
    return pixels, place


def candidates(
    pipeline: Pipeline,
    predictions: Predictions,
    anchored: NDArray[np.float32],
    place: Geometry,
    size: tuple[int, int],
) -> Candidates:
    """What enters the pipeline's suppression.

    Args:
        pipeline: Decides which.
        predictions: The network's.
        anchored: [A, 4] the pipeline's anchors.
        place: How the image lies in the input.
        size: (height, width) of the input.
    """
    chosen = predictions.chosen(pipeline.selection)
    scores = sigmoid(chosen.logits)
    if pipeline.threshold:
        # What is not written suppresses nothing that is: it comes behind it, and no score grows.
        high = scores >= np.float32(pipeline.threshold)
        chosen = Chosen(chosen.anchors[high], chosen.classes[high], chosen.logits[high])
        scores = scores[high]
    near = anchored[chosen.anchors]
    boxes = coding.decode(
        predictions.codes[chosen.anchors], near, pipeline.code_order, pipeline.code_limits
    )
    when = pipeline.clipping
    cut = suppressing.clipped(boxes, when.removesuffix("-first"), place, size)
    entering = cut if when.endswith("-first") else boxes
    return Candidates(Boxes(entering, scores, chosen.classes, near), cut)


@dataclass(frozen=True)
class _Seen:
    geometry: Geometry
    predictions: Predictions


_V = TypeVar("_V")


class _Cache(Generic[_V]):
    """Keeps what was used last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._items: OrderedDict[Any, tuple[_V, int]] = OrderedDict()

    def get(self, key: Any) -> _V | None:
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key][0]

    def put(self, key: Any, value: _V, size: int) -> None:
        self._items[key] = value, size
        self._bytes += size
        while self._bytes > self._most and len(self._items) > 1:
            _, (_, least) = self._items.popitem(last=False)
            self._bytes -= least


class Runner:
    """Pipelines of one model at one size of input.

    Args:
        tools: What frameworks do.
        config: The model.
        size: (height, width) of the network's input.
        folder: Of the images.
        categories: Ids that the annotations have, rising.
        most: Predictions of an image that are kept, at least as many as a pipeline's candidates.
    """

    def __init__(
        self,
        tools: Tools,
        config: EfficientDetConfig,
        size: tuple[int, int],
        folder: Path,
        categories: Sequence[int],
        most: int = MOST,
    ) -> None:
        self._tools, self._config, self._size = tools, config, size
        self._folder, self._categories, self._most = folder, categories, most
        self._resizes = {**resizing.RESIZES, **tools.resizes}
        self._decoded: _Cache[NDArray[np.uint8]] = _Cache(2**27)
        self._outputs: _Cache[Predictions] = _Cache(CACHE_BYTES)
        self._inputs: _Cache[tuple[Geometry, bytes]] = _Cache(2**14)
        self._anchors: _Cache[NDArray[np.float32]] = _Cache(2**26)
        self.networks_run = 0

    def detect(self, pipeline: Pipeline, image: CocoImage) -> Found:
        """One image through a pipeline.

        Args:
            pipeline: Which.
            image: Which.

        Raises:
            InputError: The image cannot be used, or the network's outputs hold NaN.
        """
        seen = self._seen(pipeline, image)
        # Boxes of a mistaken network may be infinite, which is a result too.
        with np.errstate(all="ignore"):
            return self._found(pipeline, seen)

    def apart(self, one: Pipeline, other: Pipeline, image: CocoImage) -> float:
        """How far two pipelines' inputs of the network are apart: root of the mean square.

        Raises:
            InputError: The image cannot be used.
        """
        first, second = (self._prepared(each, image)[0] for each in (one, other))
        return float(np.sqrt(np.mean((first.astype(np.float64) - second) ** 2)))

    def _image(self, decode: str, image: CocoImage) -> NDArray[np.uint8]:
        key = decode, image.id
        found = self._decoded.get(key)
        if found is None:
            path = self._folder / image.file_name
            found = self._tools.decode(path, decode)
            check_size(path, found.shape[:2], image)
            self._decoded.put(key, found, found.nbytes)
        return found

    def _seen(self, pipeline: Pipeline, image: CocoImage) -> _Seen:
        key = pipeline.of_input, image.id
        known = self._inputs.get(key)
        pixels = None
        if known is None:
            pixels, place = self._prepared(pipeline, image)
            # Different ways often lead to the very same pixels.
            known = place, hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()
            self._inputs.put(key, known, 1)
        place, digest = known
        predictions = self._outputs.get((digest, pipeline.network))
        if predictions is None:
            if pixels is None:
                pixels, _ = self._prepared(pipeline, image)
            network = self._tools.networks[pipeline.network]
            predictions = Predictions.of(network(pixels), self._most)
            self.networks_run += 1
            self._outputs.put((digest, pipeline.network), predictions, predictions.size)
        return _Seen(place, predictions)

    def _prepared(
        self, pipeline: Pipeline, image: CocoImage
    ) -> tuple[NDArray[np.float32], Geometry]:
        return prepared(pipeline, self._image(pipeline.decode, image), self._size, self._resizes)

    def _found(self, pipeline: Pipeline, seen: _Seen) -> Found:
        place, anchored = seen.geometry, self._anchors_of(pipeline)
        all_of = candidates(pipeline, seen.predictions, anchored, place, self._size)
        found = self._written(pipeline, place, all_of.kept(pipeline))
        return replace(found, candidates=lambda: self._written(pipeline, place, all_of.each()))

    def _written(self, pipeline: Pipeline, place: Geometry, these: Boxes) -> Found:
        size, undo = self._size, pipeline.undo
        boxes, scores, classes, near = these.boxes, these.scores, these.classes, these.anchors
        # An edge moves by d (a + side / 2) where the codes move by d.
        sides = (near[:, 2:] - near[:, :2]) + (boxes[:, 2:] - boxes[:, :2]) / 2
        pixels = np.abs(sides.max(axis=1, initial=0.0)) * writing.factors(undo, place, size).max()
        boxes = writing.undone(boxes, undo, place, size)
        columns, moves = writing.laid_out(boxes, pipeline.layout, place, size)
        labels = writing.labelled(classes, pipeline.labels, self._categories)
        rows = np.column_stack([columns, scores, labels]).astype(np.float64)
        rows = writing.rounded(rows, pipeline.rounding)
        kept = (scores >= np.float32(pipeline.threshold)) & ~np.isnan(labels)
        kept &= np.isfinite(rows[:, :5]).all(axis=1)
        return Found(rows[kept], (pixels[:, None] * moves)[kept])

    def _anchors_of(self, pipeline: Pipeline) -> NDArray[np.float32]:
        key = tuple(getattr(pipeline, name) for name in ANCHOR_PARTS)
        found = self._anchors.get(key)
        if found is None:
            found = anchors.of_pipeline(pipeline, self._config, self._size)
            self._anchors.put(key, found, found.nbytes)
        return found
