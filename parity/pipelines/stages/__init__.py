"""The parts of a pipeline: a file each, with what can be chosen and the mistakes among it.

Each file has the faithful choices beside the mistaken ones, and ``MISTAKES``: a mistake is an
entry there, with a choice that its file's functions know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from parity.detections.rows import Rows
from parity.pipelines.stages import (
    anchors,
    coding,
    decoding,
    networks,
    normalising,
    resizing,
    selecting,
    suppressing,
    writing,
)
from parity.pipelines.stages.pipeline import Mistake, Pipeline

MISTAKES: tuple[Mistake, ...] = (
    *decoding.MISTAKES,
    *normalising.MISTAKES,
    *resizing.MISTAKES,
    *networks.MISTAKES,
    *anchors.MISTAKES,
    *coding.MISTAKES,
    *selecting.MISTAKES,
    *suppressing.MISTAKES,
    *writing.MISTAKES,
)
"""Every known mistake, in the order of the stages."""


def of_model(faithful: Pipeline) -> tuple[Mistake, ...]:
    """Every mistake that can be made of a model: those of the lists, and some of its own numbers.

    A normalisation that does what the model's does is none: where only the padding differs, that
    is what is wrong.

    Args:
        faithful: The model's pipeline.
    """
    how = faithful.normalisation
    known = [item.changes for item in MISTAKES]
    own = (*normalising.of_model(how), *anchors.of_model(faithful))
    every = (*MISTAKES, *(item for item in own if item.changes not in known))

    def is_one(mistake: Mistake) -> bool:
        wrong = mistake.changes.get("normalisation")
        return wrong is None or not normalising.does_the_same(wrong, how)

    return tuple(filter(is_one, every))


def read_off(port: Mapping[int, Rows]) -> tuple[Mistake, ...]:
    """Mistakes with numbers that no list has, and a program's detections show.

    Args:
        port: Its detections by image.
    """
    counts = [len(rows) for rows in port.values()]
    scores = np.concatenate([np.zeros(0), *(rows[:, 4] for rows in port.values())])
    return (*suppressing.read_off(counts), *writing.read_off(scores))


BY_SLUG: Mapping[str, Mistake] = MappingProxyType({item.slug: item for item in MISTAKES})
