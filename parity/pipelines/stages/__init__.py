"""The parts of a pipeline: a file each, with what can be chosen and the mistakes among it.

Each file has the faithful choices beside the mistaken ones, and ``MISTAKES``: a mistake is an
entry there, with a choice that its file's functions know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from parity.pipelines.pipeline import Mistake
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

BY_SLUG: Mapping[str, Mistake] = MappingProxyType({item.slug: item for item in MISTAKES})
