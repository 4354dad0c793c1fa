"""A closer look at one node's tensors, as a result holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import field

from parity.results.records.record import Count, Figure, Record, says

Values = Sequence[Figure | None]


class PlaneMap(Record, frozen=True):
    """Where in the plane the sides differ."""

    height: Annotated[Count, says("of the tensor, in positions")]
    width: Annotated[Count, says("of the tensor, in positions")]
    rows: Annotated[Count, says("parts that the height is divided into")]
    columns: Annotated[Count, says("parts that the width is divided into")]
    values: Annotated[
        Sequence[Values],
        says(
            "row by row, the largest difference in each part over all channels, in units of the "
            "reference's rms"
        ),
    ]

    def __post_init__(self) -> None:
        """Check that there are as many values as parts."""
        if len(self.values) != self.rows or any(len(row) != self.columns for row in self.values):
            raise ValueError(f"does not hold {self.rows} rows of {self.columns} values")


class Scatter(Record, frozen=True):
    """Pairs of values: those that differ most, and an even sample."""

    reference: Annotated[Values, says("the reference's")]
    candidate: Annotated[Values, says("the candidate's, in the same order")]

    def __post_init__(self) -> None:
        """Check that they are pairs."""
        if len(self.reference) != len(self.candidate):
            raise ValueError("has more values of one side than of the other")


class Zero(Record, frozen=True):
    """Elements that are nearer to the exact value than the first edge."""

    candidate: Annotated[Count, says("the candidate's")]
    reference: Annotated[Count, says("the reference's")]


class Histogram(Record, frozen=True):
    """Number of elements by their roundings from the exact value."""

    edges: Annotated[
        Sequence[Figure], says("between the bars, in roundings, ascending", min_length=1)
    ]
    candidate: Annotated[Sequence[Count], says("the candidate's elements between each two edges")]
    reference: Annotated[Sequence[Count], says("the reference's elements between each two edges")]
    zero: Annotated[Zero, says("those below the first edge")]

    def __post_init__(self) -> None:
        """Check that each side has a number between each two edges."""
        if {len(self.candidate), len(self.reference)} != {len(self.edges) - 1}:
            raise ValueError(f"does not count elements between {len(self.edges)} edges")


class CloseupResult(Record, frozen=True):
    """A closer look at one node."""

    node: Annotated[str, says("the node")]
    plane: Annotated[PlaneMap, says("where in the plane the sides differ")] = field(name="map")
    channels: Annotated[
        Values, says("rms of the difference in each channel, in units of the reference's rms")
    ]
    scatter: Annotated[Scatter, says("pairs of values")]
    histogram: Annotated[Histogram, says("how many elements are how far from the exact value")]
