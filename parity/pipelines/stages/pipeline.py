"""What a pipeline from an image file to boxes is made of: one choice for each of its parts.

A part names a function of a file in :mod:`parity.pipelines.stages` or a number that one takes. Two
pipelines that have a part in common share its results. A mistake is another choice for a part, so
mistakes in different parts can be put together, and of two in one part the second takes the place
of the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from torch_model.anchors import SQRT_ASPECTS, Factors
from torch_model.preprocess import IMAGENET, Normalisation
from torch_model.surroundings import Surroundings

KINDS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("numpy", "gaussian"): "soft",
        ("numpy", "hard"): "hard",
        ("numpy", "linear"): "linear",
        ("numpy", "diou"): "diou",
        ("tensorflow", "gaussian"): "tf-soft",
        ("tensorflow", "hard"): "tf-hard",
    }
)
"""What a suppression of an implementation and a method is called here."""

STAGES = ("decode", "preprocess", "network", "postprocess", "output")
"""In order."""


@dataclass(frozen=True)
class Pipeline:
    """One choice for each part; what there is to choose is in :mod:`parity.pipelines.stages`.

    Attributes:
        decode: How a JPEG becomes pixels.
        colours: Order of the channels.
        normalisation: How grey levels become the network's input, in numbers.
        resize: How pixels are interpolated, and of what type.
        fit: Which size an image is scaled to.
        placement: Where the scaled image lies in the input.
        padding: What lies around it.
        network: Which network computes.
        aspects: (width, height) factors of an anchor's aspects.
        anchor_scales: Side of an anchor in strides: one for all levels, or one for each.
        num_scales: Sizes of an anchor at a place.
        octave: Sizes into which an octave is divided, as many if nothing is wrong.
        anchor_order: Whether a place's anchors come by ``scales`` or by ``aspects``.
        anchor_centre: Where in its cell an anchor's centre lies.
        code_order: What the four numbers of a box code are.
        code_limits: Whether codes are clamped or divided before they are decoded.
        selection: Which predictions become candidates.
        nms: Which suppression they undergo.
        scope: Which boxes suppress each other.
        last_pixel: Whether areas count the last pixel (+1).
        iou: Overlap above which hard NMS drops a box.
        sigma: Width of soft NMS's Gaussian.
        least: Score below which soft NMS and TensorFlow's op drop a box.
        limit: Most boxes of an image.
        clipping: Where and when boxes are cut off.
        threshold: Least score that is written.
        undo: How boxes come back to the pixels of the image.
        labels: Which number a class is written as.
        layout: What the four numbers of a written box are.
        rounding: To which digits boxes and scores are written.
    """

    decode: str = "fast-dct"
    colours: str = "rgb"
    normalisation: Normalisation = IMAGENET
    resize: str = "half-pixel"
    fit: str = "truncate"
    placement: str = "corner"
    padding: str = "zero"
    network: str = "faithful"
    aspects: tuple[Factors, ...] = SQRT_ASPECTS
    anchor_scales: tuple[float, ...] = (4.0,)
    num_scales: int = 3
    octave: int = 3
    anchor_order: str = "scales"
    anchor_centre: str = "half"
    code_order: str = "ty,tx,th,tw"
    code_limits: str = "none"
    selection: str = "top-5000"
    nms: str = "soft"
    scope: str = "per-class"
    last_pixel: bool = True
    iou: float = 0.5
    sigma: float = 0.5
    least: float = 0.001
    limit: int = 100
    clipping: str = "none"
    threshold: float = 0.0
    undo: str = "scale"
    labels: str = "plus-one"
    layout: str = "xywh"
    rounding: str = "none"

    @classmethod
    def of(cls, around: Surroundings) -> Pipeline:
        """The faithful pipeline of a model and a profile."""
        profile, nms = around.profile, around.suppression
        top, scales = around.max_nms_inputs, around.anchor_scales
        usual = cls()
        least = -math.inf if nms.score_thresh is None else nms.score_thresh
        kind = KINDS[nms.implementation, nms.method]
        return cls(
            decode=profile.decode,
            normalisation=around.normalisation,
            resize=profile.resize,
            aspects=around.aspects,
            anchor_scales=scales[:1] if len(set(scales)) == 1 else scales,
            num_scales=around.num_scales,
            octave=around.num_scales,
            selection=f"top-{top}" if top else "max-per-anchor",
            nms=kind,
            scope=profile.scope,
            iou=usual.iou if nms.iou_thresh is None else nms.iou_thresh,
            sigma=usual.sigma if nms.sigma is None else nms.sigma,
            # NumPy's hard NMS has none, which is not the same as a lowest one.
            least=usual.least if kind in ("hard", "diou") else least,
            limit=nms.max_output_size,
            clipping=profile.clipping,
        )

    def changed(self, changes: Mapping[str, Any]) -> Pipeline:
        """The same with other choices for some parts."""
        return replace(self, **changes)

    @cached_property
    def of_input(self) -> tuple[Any, ...]:
        """The choices that the network's input depends on."""
        return tuple(getattr(self, name) for name in INPUT_PARTS)

    @cached_property
    def before_network(self) -> tuple[Any, ...]:
        """The choices that the network's outputs depend on."""
        return (*self.of_input, self.network)


INPUT_PARTS = (
    "decode",
    "colours",
    "normalisation",
    "resize",
    "fit",
    "placement",
    "padding",
)
"""Parts in front of the network."""

ANCHOR_PARTS = (
    "aspects",
    "anchor_scales",
    "num_scales",
    "octave",
    "anchor_order",
    "anchor_centre",
)
"""Parts that the anchors depend on."""

PARTS = tuple(item.name for item in fields(Pipeline))


@dataclass(frozen=True)
class Mistake:
    """Another choice for some parts of a pipeline than the faithful one.

    Attributes:
        slug: Short name, fit for a folder.
        title: One line for people.
        stage: Where it is made, one of :data:`STAGES`.
        changes: The choice by part.
    """

    slug: str
    title: str
    stage: str
    changes: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Keep the choices from being changed."""
        assert self.stage in STAGES and set(self.changes) <= set(PARTS), self
        object.__setattr__(self, "changes", MappingProxyType(dict(self.changes)))

    def __hash__(self) -> int:
        """By name; no two mistakes have one."""
        return hash(self.slug)

    def excludes(self, other: Mistake) -> bool:
        """Whether both are choices for one part, so that only one can be made."""
        return bool(self.changes.keys() & other.changes.keys())

    @property
    def needs_network(self) -> bool:
        """Whether the network's outputs change."""
        return bool(self.changes.keys() & {*INPUT_PARTS, "network"})


def with_mistakes(pipeline: Pipeline, mistakes: Iterable[Mistake]) -> Pipeline:
    """A pipeline in which mistakes are made.

    Args:
        pipeline: Without them.
        mistakes: To make; of two that exclude each other the later one counts.
    """
    for mistake in mistakes:
        pipeline = pipeline.changed(mistake.changes)
    return pipeline
