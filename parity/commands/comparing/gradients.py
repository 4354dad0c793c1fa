"""The comparison of gradients that goes with one of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converter.progress import Progress
from efficientdet_spec import InputError
from parity.commands.comparing.opened import Opened
from parity.commands.references import kind_of
from parity.gradients.comparison import GradientsReport, Subject, compare_gradients
from parity.gradients.inputs import require_positions
from parity.results.records.gradients import Mode, is_statistic
from parity.sides.side import CandidateError

if TYPE_CHECKING:
    from torch import nn

    from parity.gradients.pytorch import View
    from parity.lockstep.pairing import Pairing


@dataclass(frozen=True)
class Differentiated:
    """What came of comparing gradients.

    Attributes:
        report: The comparison; None where there could be none.
        not_shown: Sentences on what could not be compared.
    """

    report: GradientsReport | None
    not_shown: list[str] = field(default_factory=list)


def compared_gradients(
    opened: Opened,
    pairing: Pairing,
    described: Mapping[str, Any],
    compared: Mapping[str, Any],
    threads: int,
) -> Differentiated:
    """Both sides' gradients in both precisions, whatever the nodes were compared in.

    Args:
        opened: The checkpoint.
        pairing: What is compared, on the images to differentiate on.
        described: What to say about the images.
        compared: Of the comparison of nodes, the fields of its result.
        threads: Within one operation, on both sides.

    Raises:
        InputError: TensorFlow is missing, or the reference cannot be differentiated.
    """
    from parity.diagnosis.suspects import torch_sides
    from parity.gradients.pytorch import TorchGradients

    candidate, _ = torch_sides(pairing)
    wanted = opened.wanted(pairing.images.shape, threads)
    reference = kind_of(wanted.path).gradients(wanted)
    subject = Subject(
        model=opened.config.name,
        checkpoint=compared["checkpoint"],
        candidate=compared["candidate"],
        images=described,
        environment=compared["environment"],
    )
    not_shown = []
    modes = list(Mode)
    batch, height, width, _ = pairing.images.shape
    try:
        require_positions(opened.config, batch, height, width)
    except InputError as error:
        modes.remove(Mode.TRAINING)
        not_shown.append(f"gradients with batch norms in training were not compared ({error})")
    try:
        view, training = _view(opened, pairing)
        if not training and Mode.TRAINING in modes:
            modes.remove(Mode.TRAINING)
            not_shown.append(
                "gradients with batch norms in training were not compared: not every one of the "
                "candidate's is a module of its own that could be put in training mode"
            )
        with Progress("differentiating", unit="runs") as progress:
            report = compare_gradients(
                opened.config,
                reference,
                TorchGradients(candidate.model, view),
                pairing.images,
                subject,
                modes=modes,
                constants_rounded=candidate.seen_through,
                progress=progress,
            )
    except CandidateError as error:
        return Differentiated(None, [f"gradients could not be compared ({error})"])
    return Differentiated(report, [*not_shown, *_untrained(candidate.model, view)])


def _untrained(model: nn.Module, view: View) -> list[str]:
    """Sentences on what is differentiated here and would not be trained, or not in this way."""
    trained = dict(model.named_parameters())
    held = [item for ours, item in view.held.items() if not is_statistic(ours)]
    names = [name for item in held for name in item.names]
    buffers = [name for name in names if name not in trained]
    hooked = [name for name in names if name in trained and trained[name]._backward_hooks]
    found = []
    for what, which in (
        ("buffers of the candidate, which no optimizer trains", buffers),
        ("changed by hooks of the candidate's when they are trained, which is not seen", hooked),
    ):
        if which:
            listed = which[0] if len(which) == 1 else f"{which[0]} and {len(which) - 1} more"
            found.append(f"some of the model's parameters are {what} ({listed})")
    return found


def _view(opened: Opened, pairing: Pairing) -> tuple[View, bool]:
    """How the candidate holds what is differentiated, and whether its norms can be trained."""
    from parity.diagnosis.suspects import torch_sides
    from parity.gradients.observed import observed_view
    from parity.gradients.pytorch import View
    from parity.sides.pytorch.observation.candidate import ObservedCandidate

    candidate, referee = torch_sides(pairing)
    if isinstance(candidate, ObservedCandidate):
        candidate.outputs(pairing.run(lambda name, made: None))
        return observed_view(candidate, opened.faithful, referee)
    return View.of(candidate.model, candidate.naming.prefix), True
