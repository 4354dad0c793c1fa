"""``efficientdet-parity/names``: what of a candidate makes which node, as ``--names`` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Literal

from parity.results.records.record import Count, Figure, Record, ResultFile, says


class FoundBy(str, Enum):
    """How it was found what makes a node."""

    VALUES = "values"
    """By its values, in the usual order N, C, H, W of axes."""
    ANOTHER_LAYOUT = "values in another layout"
    """By its values, in another order of axes."""
    PARAMETERS = "parameters"
    """By the bits of the parameters that it is made with."""
    PLACE = "place"
    """By what it is made from and what reads it."""
    NAME = "name"
    """By a name that was given, other than what was found without."""
    OWN_PATH = "own path"
    """By the path of its module, which is that of the faithful model."""


class NamedNode(Record, kw_only=True, frozen=True):
    """What makes a node in the candidate."""

    path: Annotated[
        str | None,
        says(
            "path of the submodule that makes it by itself; null where none does, and the node is "
            "found by what the candidate does when the file is read back. Any submodule that "
            "returns it may be put here"
        ),
    ] = None
    operations: Annotated[
        Sequence[str],
        says(
            "all operations that make it, with the line of the candidate's code where each stands; "
            "empty where operations were not looked at"
        ),
    ] = ()
    found: Annotated[FoundBy | None, says("how it was found; null where it was not")] = None
    sure: Annotated[
        bool,
        says("whether nothing else could be it, as far as was seen; false where it is a guess"),
    ] = False
    distance: Annotated[
        Figure | None,
        says(
            "how far it was from the reference's tensor where it was found, in units of its rms, "
            "of some hundred elements; null where its shape is another or it was not looked at"
        ),
    ] = None
    layout: Annotated[
        str | None, says("the order of axes in its tensor, such as `NHWC`; null where unknown")
    ] = None
    shape: Annotated[
        Sequence[Count] | None, says("of its tensor, some of these axes perhaps joined")
    ] = None
    reason: Annotated[str | None, says("why it was not found; null where it was")] = None


class NamesResult(ResultFile, kw_only=True, frozen=True):
    """What of a candidate makes which node."""

    schema: Annotated[Literal["efficientdet-parity/names"], says("what the file is")] = (
        "efficientdet-parity/names"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    model: Annotated[str, says("name of the model")]
    candidate: Annotated[str, says("where the candidate came from")]
    nodes: Annotated[
        Mapping[str, NamedNode],
        says("by node what makes it, in the order of computation, of the input that shows most"),
    ]
