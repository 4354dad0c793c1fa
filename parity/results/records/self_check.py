"""``efficientdet-parity/self-check``: whether faults put into a model are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from parity.results.records.record import Record, ResultFile, says
from parity.results.records.shared import Checkpoint, Environment, Images


class FaultResult(Record, kw_only=True, frozen=True):
    """What became of a fault that was put into the model."""

    title: Annotated[str, says("what is wrong")]
    place: Annotated[
        str | None,
        says("the module it was put into; null for the faithful model, which must raise no alarm"),
    ] = ""
    detected: Annotated[bool, says("whether there was an alarm")]
    located: Annotated[
        bool, says("whether all failing nodes are the module's; of the faithful model, no alarm")
    ]
    named: Annotated[bool, says("whether a right name was given")]
    nodes: Annotated[Sequence[str], says("the nodes that failed")]
    names: Annotated[Sequence[str], says("all names that were given")] = ()
    passes: Annotated[
        bool, says("whether it was detected and located; of the faithful model, no alarm")
    ] = False

    @property
    def is_control(self) -> bool:
        """Whether it is the model without a fault."""
        return self.place is None


class SelfCheckResult(ResultFile, kw_only=True, frozen=True):
    """Whether the comparison finds faults in this very model."""

    schema: Annotated[Literal["efficientdet-parity/self-check"], says("what the file is")] = (
        "efficientdet-parity/self-check"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    passes: Annotated[
        bool,
        says("whether every fault was detected and located, and none was given wrong names only"),
    ]
    model: Annotated[str, says("name of the model")]
    checkpoint: Annotated[Checkpoint, says("what both sides were filled from")]
    images: Annotated[Images, says("what both sides were run on")]
    environment: Environment
    faults: Annotated[
        Sequence[FaultResult], says("the faithful model, then each fault that was put in")
    ]
