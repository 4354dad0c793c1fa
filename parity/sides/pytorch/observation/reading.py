"""Reads class logits and box codes out of whatever a candidate returns, on any images.

On one input it is observed where among the returned tensors each output of the network is, as a
comparison of nodes finds it: by which of the candidate's operations make it. From then on the
candidate runs unobserved, and its outputs are taken from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efficientdet_spec import Cause, EfficientDetConfig, InputError, iterate_nodes
from parity.process.arrays import Array
from parity.sides.naming import Naming, own_paths
from parity.sides.pytorch.candidate import TorchCandidate, TorchValue
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.pytorch.observation.returned import Place, in_order
from parity.sides.pytorch.referee import FaithfulReferee
from parity.sides.pytorch.streaming import streaming
from parity.sides.replay import kept
from parity.sides.side import CandidateError, Made, OneAtATimeError, Value

_HEADS = ("class", "box")

_WANTED = (
    "let it return what its last layers make: class outputs before box outputs, one tensor "
    "[N, C, H, W] for each level, finest level first"
)


@dataclass(frozen=True)
class Reading:
    """How a candidate is run, and where its outputs are in what it returns.

    Attributes:
        places: Of the class outputs, then of the box outputs, each from the finest level.
        batch: Number of images that it is given together, always as many.
        notes: Sentences on how its outputs are arranged.
    """

    places: tuple[Place, ...]
    batch: int
    notes: tuple[str, ...] = ()

    def run(self, candidate: TorchCandidate, images: Array) -> tuple[list[Tensor], list[Tensor]]:
        """A candidate's class logits and box codes for some images; see :meth:`heads`.

        Args:
            candidate: It is run as its user does.
            images: :attr:`batch` of them, [N, H, W, 3].

        Raises:
            CandidateError: It fails, or returns something else than before.
        """
        return self.heads(_tensors(candidate.run_unobserved(images)))

    def heads(self, returned: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and box codes, [N, C, H, W] each, from the finest level.

        Args:
            returned: The tensors that it returns for :attr:`batch` images.

        Raises:
            CandidateError: They are not arranged as they were when its outputs were found.
        """
        try:
            taken = [_taken(place, returned) for place in self.places]
        except (IndexError, RuntimeError, ValueError) as error:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in returned[:12])
            raise CandidateError(
                f"The candidate returns tensors of other shapes than before on images of the same "
                f"size ({shapes:.300}), so that its outputs are not found among them; {_WANTED}."
            ) from error
        half = len(taken) // 2
        return taken[:half], taken[half:]


def _taken(place: Place, returned: Sequence[Tensor]) -> Tensor:
    tensor = place.taken(returned)
    batch, height, width, channels = place.node
    if tuple(tensor.shape) != (batch, channels, height, width):
        raise ValueError("another shape")
    if not place.is_sigmoid:
        return tensor
    # Its logarithms in float32 would lose the last digits of scores near 1.
    return torch.logit(tensor.double()).to(tensor.dtype)


def read_outputs(
    model: nn.Module,
    faithful: nn.Module,
    config: EfficientDetConfig,
    images: Array,
    names: Naming | None = None,
) -> Reading:
    """Find out how a candidate takes images, and where in what it returns its outputs are.

    Args:
        model: The candidate.
        faithful: The faithful model with the checkpoint's parameters, on the CPU.
        config: The model.
        images: As many as it is to be given together, [N, H, W, 3]. If it cannot be run on them, or
            takes them one after another, it is given single images.
        names: Submodules that a user names; None for no names.

    Raises:
        CandidateError: It cannot be run.
        InputError: Where its outputs are in what it returns cannot be determined.
    """
    single = images[:1]
    try:
        plain = TorchCandidate(model, own_paths([])).run_unobserved(images)
    except CandidateError as error:
        if len(images) == 1:
            raise
        told = (
            f"The candidate was given single images, for it fails on {len(images)} together "
            f"({error.failure})."
        )
        return _told(read_outputs(model, faithful, config, single, names), told)
    try:
        return _read(_Seen(model, faithful, config, images, names), _tensors(plain))
    except OneAtATimeError:
        told = (
            f"The candidate takes the images of a batch one after another; it was given single "
            f"images in the place of {len(images)} together."
        )
        return _told(read_outputs(model, faithful, config, single, names), told)


def _tensors(values: Sequence[Value]) -> list[Tensor]:
    return [value.tensor for value in values if isinstance(value, TorchValue)]


def _told(reading: Reading, note: str) -> Reading:
    return Reading(reading.places, reading.batch, (note, *reading.notes))


class _Seen:
    """A candidate beside the faithful model, on some images.

    Args:
        model: The candidate.
        faithful: The faithful model.
        config: The model.
        images: [N, H, W, 3].
        names: Submodules that a user names; None for no names.

    Attributes:
        candidate: The candidate.
        shapes: NHWC, of the network's outputs in order.
    """

    def __init__(
        self,
        model: nn.Module,
        faithful: nn.Module,
        config: EfficientDetConfig,
        images: Array,
        names: Naming | None,
    ) -> None:
        nodes = list(iterate_nodes(config, (images.shape[1], images.shape[2])))
        kinds = {node.name: node.kind for node in nodes}
        outputs = [node.name for node in nodes if node.is_output]
        whole = TorchCandidate(faithful, own_paths(kinds))
        self._reference = kept(streaming(whole, kinds, outputs, {"kind": "module"}))
        self._referee = FaithfulReferee(faithful, kinds, images.shape)
        self._images = images
        self.candidate = ObservedCandidate(model, list(kinds), names)
        self.shapes = [_nhwc(self._referee.shapes[node]) for node in outputs]

    def run(self) -> list[Place]:
        """Run it, and find its outputs in what it returns; empty where they are not found."""
        candidate, referee, images = self.candidate, self._referee, self._images
        candidate.prepare(self._reference, referee, images)
        made = candidate.run(images, _passed, referee.inputs_of, referee.wiring)
        candidate.outputs(made)
        return candidate.seen()[1]


def _passed(node: str, made: Made) -> None:
    """What is met at a node stays as it is."""


def _read(seen: _Seen, returned: Sequence[Tensor]) -> Reading:
    try:
        places = seen.run()
    except OneAtATimeError:
        raise
    except CandidateError as error:
        # What cannot be observed may return its outputs in the usual arrangement all the same.
        return _as_usual(returned, seen.shapes, [error.failure])
    notes, reasons = seen.candidate.remarks()
    if len(places) != len(seen.shapes):
        return _as_usual(returned, seen.shapes, reasons)
    half = len(places) // 2
    for head, part in zip(_HEADS, (places[:half], places[half:]), strict=True):
        if any(place.processed and not place.is_sigmoid for place in part):
            raise InputError(
                f"The candidate does something to its {head} outputs behind its last layers that "
                f"is not known here, so that they cannot be turned back into what these make; "
                f"{_WANTED}.",
                Cause.CANDIDATE,
            )
        if not in_order([place.number for place in part]):
            notes.append(
                f"The candidate returns the levels of its {head} outputs in no order; each was "
                f"taken for the level whose layers make it."
            )
    if any(place.is_sigmoid for place in places):
        notes.append("The sigmoid is undone by logit, for official postprocessing takes logits.")
    return Reading(tuple(places), places[0].node[0], tuple(notes))


def _as_usual(
    returned: Sequence[Tensor],
    shapes: Sequence[tuple[int, int, int, int]],
    reasons: Sequence[str],
) -> Reading:
    """What is returned in the arrangement that is asked of ports, where layers were not found.

    Args:
        returned: The tensors.
        shapes: NHWC, of the outputs in the reference's order.
        reasons: Why they were not found, in sentences.

    Raises:
        InputError: It is in no such arrangement, or looks as if it were behind a sigmoid.
    """
    why = f" ({reasons[0].rstrip('.'):.300})" if reasons else ""
    due = [(n, c, h, w) for n, h, w, c in shapes]
    if [tuple(tensor.shape) for tensor in returned] != due:
        found = ", ".join(str(list(tensor.shape)) for tensor in returned[:12])
        raise InputError(
            f"Which of the tensors that the candidate returns are its class and box outputs could "
            f"not be determined{why}; it returns {len(returned)}, of shapes {found:.200}; "
            f"{_WANTED}.",
            Cause.CANDIDATE,
        )
    classes = returned[: len(returned) // 2]
    if all(float(level.min()) >= 0 and float(level.max()) <= 1 for level in classes):
        raise InputError(
            f"The candidate returns class outputs that all lie between 0 and 1, as behind a "
            f"sigmoid, but how they are made could not be seen{why}; let it return logits, which "
            f"are what its last layers make.",
            Cause.CANDIDATE,
        )
    places = tuple(Place(number, shape) for number, shape in enumerate(shapes))
    note = (
        "The layers that make the candidate's outputs were not found; what it returns has the "
        "shapes of class and then box outputs, finest level first, and was taken for these."
    )
    return Reading(places, shapes[0][0], (note,))


def _nhwc(shape: Sequence[int]) -> tuple[int, int, int, int]:
    batch, height, width, channels = shape
    return batch, height, width, channels
