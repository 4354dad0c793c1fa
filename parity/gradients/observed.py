"""How a port of other names holds what is differentiated."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from parity.gradients.pytorch import View
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.pytorch.observation.holdings import holdings, norms
from parity.sides.pytorch.referee import FaithfulReferee
from parity.sides.side import CandidateError


def observed_view(
    candidate: ObservedCandidate, faithful: nn.Module, referee: FaithfulReferee
) -> tuple[View, bool]:
    """What a port of other names holds at which place, as its last run has shown.

    Args:
        candidate: The port, whose outputs have been taken apart.
        faithful: The faithful model.
        referee: The same, ready to judge.

    Returns:
        The view, and whether batch norms can be put in training mode.

    Raises:
        CandidateError: Where the outputs are in what it returns is not known.
    """
    found, places = candidate.seen()
    processed = any(place.processed for place in places)
    if len(places) != len(found.outputs) or processed:
        what = "does something to its outputs" if processed else "returns its outputs in a way"
        raise CandidateError(
            f"The candidate {what} that is not known here, so that nobody can say which function "
            f"to differentiate; let it return what its last layers make."
        )

    def outputs(returned: Sequence[Tensor]) -> list[Tensor]:
        return [place.taken(returned) for place in places]

    training = norms(candidate.model, found)
    paths = {id(module): path for path, module in candidate.model.named_modules()}
    of_norms = frozenset(paths[id(module)] for module in training or ())
    held = holdings(faithful, referee, candidate.model, found)
    return View(held, of_norms, outputs), training is not None
