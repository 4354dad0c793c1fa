"""Which predictions become candidates for NMS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake
from torch_model.postprocess import Chosen, Outputs, select_best_class, select_top

MOST = 10_000
"""Of the highest logits so many are kept, more than any selection here takes."""

COUNTS = (300, 1000, 2000, 10_000)
"""Numbers of candidates that ports take instead of 5000."""

MISTAKES = (
    Mistake("top-of-all", "the 5000 highest logits", "postprocess", {"selection": "top-5000"}),
    Mistake(
        "max-per-anchor",
        "only the best class of each anchor",
        "postprocess",
        {"selection": "max-per-anchor"},
    ),
    *(
        Mistake(
            f"top-{count}",
            f"the {count} highest logits instead of 5000",
            "postprocess",
            {"selection": f"top-{count}"},
        )
        for count in COUNTS
    ),
)


@dataclass(frozen=True)
class Predictions:
    """What is kept of a network's outputs for one image: enough for every selection.

    Attributes:
        codes: [A, 4] box codes of all anchors.
        top: The highest logits of all anchors and classes.
        best: The best class of each anchor.
    """

    codes: NDArray[np.float32]
    top: Chosen
    best: Chosen

    @classmethod
    def of(cls, outputs: Outputs, most: int = MOST) -> Predictions:
        """Those of a network's outputs.

        Args:
            outputs: For one image.
            most: So many of the highest logits are kept.

        Raises:
            InputError: The outputs hold NaN.
        """
        top, best = select_top(outputs.classes, most), select_best_class(outputs.classes)
        return cls(outputs.box_codes, top, best)

    @property
    def size(self) -> int:
        """In bytes."""
        arrays = [self.codes]
        arrays += [x for item in (self.top, self.best) for x in vars(item).values()]
        return sum(item.nbytes for item in arrays)

    def chosen(self, selection: str) -> Chosen:
        """The candidates.

        Args:
            selection: ``max-per-anchor`` or ``top-N``.
        """
        if selection == "max-per-anchor":
            return self.best
        count = int(selection.removeprefix("top-"))
        top = self.top
        return Chosen(top.anchors[:count], top.classes[:count], top.logits[:count])
