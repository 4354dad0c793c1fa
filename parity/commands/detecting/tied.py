"""The reference's own predictions, for images on which a tie may explain what differs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.progress import Progress
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.swaps import of_tensorflow
from parity.detections import ties
from parity.detections.annotations import CocoImage
from parity.detections.matching import ImageMatch, Matching
from parity.detections.rows import Rows, as_rows


def explained_ties(
    setup: Detection,
    folder: Path,
    images: Mapping[int, CocoImage],
    matching: Matching,
    rows: tuple[Mapping[int, Rows], Mapping[int, Rows]],
    longest: Mapping[int, float],
) -> Matching:
    """A matching with the ties that TensorFlow's own scores show.

    Args:
        setup: The model and the stages around it.
        folder: Of the images.
        images: By id.
        matching: Of all images.
        rows: The reference's detections and the candidate's, by image.
        longest: By image the longest side of an anchor in its pixels.
    """
    looked_at = ties.candidates_for_ties(matching)
    if not looked_at:
        return matching
    found: dict[int, ImageMatch] = {}
    with ExitStack() as stack:
        # As the reference's detections were computed.
        stages = of_tensorflow(replace(setup, batch=1), stack, optimised=True)
        progress = stack.enter_context(Progress("looking for ties", unit="images"))
        for number, item in enumerate(looked_at):
            name = item.image_id
            untied = _Untied.of(setup, stages, folder / images[name].file_name)
            reference, candidate = (table[name] for table in rows)
            found[name] = ties.with_ties(item, reference, candidate, longest[name], untied)
            progress(number + 1, len(looked_at))
    return Matching([found.get(item.image_id, item) for item in matching.images])


@dataclass(frozen=True)
class _Untied:
    """See :class:`parity.detections.ties.Untied`."""

    stages: Mapping[str, Any]
    outputs: Any
    scale: Any
    boxes: Rows

    @classmethod
    def of(cls, setup: Detection, stages: Mapping[str, Any], path: Path) -> _Untied:
        """The predictions for an image."""
        from torch_model.postprocess import decode_boxes

        image = stages["tensorflow-preprocess"](path, stages["tensorflow-decode"](path))
        outputs = stages["tensorflow-network"](image.pixels)
        decoded = decode_boxes(outputs.box_codes, setup.anchors()).astype(np.float64) * float(
            image.scale
        )
        y1, x1, y2, x2 = decoded.T
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
        return cls(stages, outputs, image.scale, boxes)

    def again(self, raised: Any, by: float) -> Rows:
        """See :class:`parity.detections.ties.Untied`."""
        classes = [level.copy() for level in self.outputs.classes]
        starts = np.cumsum([0, *(len(level) for level in classes)])
        for anchor, category in raised:
            level = int(np.searchsorted(starts, anchor, side="right")) - 1
            place = anchor - starts[level], category - 1
            score = 1 / (1 + np.exp(-float(classes[level][place]))) + by
            score = min(score, 1 - 1e-7)
            classes[level][place] = np.float32(np.log(score / (1 - score)))
        changed = replace(self.outputs, classes=classes)
        return as_rows(*self.stages["tensorflow-postprocess"](changed, self.scale))
