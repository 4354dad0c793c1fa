"""Detection by a candidate: its network between official pre- and postprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.progress import Progress
from efficientdet_spec import Cause, InputError, iterate_nodes
from efficientdet_spec.prefetch import Cores
from parity.commands.comparing.candidates import (
    Candidate,
    check_candidate,
    name_of,
    open_candidate,
    placed,
)
from parity.commands.comparing.opened import computing
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.torch_detection import PACKAGES, TorchSide, cores_of
from parity.detections.messages import SideName
from parity.settings.coco import CANDIDATE
from parity.sides.naming import check_paths, read_names, split_candidate
from parity.sides.side import CandidateError

if TYPE_CHECKING:
    from parity.sides.pytorch.observation.reading import Reading
    from torch_model.postprocess import Outputs


class CandidateDetecting:
    """A port's network; see :class:`parity.commands.detecting.detectors.Detecting`.

    Args:
        text: As of ``--candidate``; None for a live module.
        names: A file that names its submodules for some nodes; None for no names.
        live: A module that a caller has handed over, which stays as it is.

    Attributes:
        described: What results call it.
    """

    name = CANDIDATE

    def __init__(self, text: str | None, names: Path | None, live: Any = None) -> None:
        self._text = text
        self._names = names
        self._live = live
        self._ready: _Ready | None = None
        self.described = text if text is not None else name_of(live)

    @classmethod
    def named(cls, text: str, names: Path | None = None) -> CandidateDetecting:
        """One that a file or a package has.

        Raises:
            InputError: There is no such file, function or package.
        """
        check_candidate(text)
        return cls(text, names)

    @classmethod
    def alive(cls, module: Any, names: Path | None = None) -> CandidateDetecting:
        """One that a caller has.

        Raises:
            InputError: It is no module, or has no values.
        """
        from parity.sides.pytorch.code import checked

        return cls(None, names, checked(module, "The candidate"))

    def files(self) -> Sequence[Path]:
        """The file that it is read from."""
        file = split_candidate(self._text).file if self._text is not None else None
        return [path for path in (file, self._names) if path is not None]

    def manifest(self, setup: Detection) -> Mapping[str, Any]:
        """The checkpoint, the stages, the versions, and what the candidate is and returns."""
        from parity.sides.pytorch.identity import identity

        ready = self._made(setup)
        maker = split_candidate(self._text).maker if self._text is not None else None
        return setup.manifest(self.name, PACKAGES) | {
            "candidate": {
                "function": maker,
                **identity(ready.module, self.files()),
                "together": ready.reading.batch,
                "returns": list(ready.reading.notes),
            }
        }

    def open(self, setup: Detection) -> AbstractContextManager[CandidateSide]:
        """The candidate with the stages around it."""
        return _side(setup, self._made(setup))

    def notes(self) -> Sequence[str]:
        """How it takes images and returns its outputs."""
        return () if self._ready is None else self._ready.reading.notes

    def elsewhere(self) -> SideName:
        """Its name, with the absolute paths of its files.

        Raises:
            InputError: It is alive.
        """
        if self._text is None:
            raise InputError(
                "A live module cannot be sent to other processes; leave workers and scheduler "
                "out, or give the candidate as FILE.py:FUNCTION.",
                Cause.OPTION,
            )
        name = split_candidate(self._text)
        text = self._text
        if name.file is not None:
            path = str(name.file.absolute())
            text = f"{path}:{name.maker}" if name.maker is not None else path
        names = str(self._names.absolute()) if self._names else None
        return SideName(kind="candidate", text=text, names=names)

    def _made(self, setup: Detection) -> _Ready:
        """The candidate for this size, and how its outputs are read; made once."""
        if self._ready is None:
            with computing(setup.threads):
                self._ready = _make_ready(setup, self._text, self._names, self._live)
        return self._ready


@dataclass(frozen=True)
class _Ready:
    """A candidate that can be run.

    Attributes:
        module: The candidate, for the images' size and on the device.
        faithful: The faithful model, on the CPU.
        reading: How it takes images, and where its outputs are in what it returns.
    """

    module: Any
    faithful: Any
    reading: Reading


def _make_ready(setup: Detection, text: str | None, names: Path | None, live: Any) -> _Ready:
    import torch

    from parity.commands.asking.inputs import prepared
    from parity.detections.images import PHOTOGRAPH, photograph_like
    from parity.sides.pytorch.device import open_device
    from parity.sides.pytorch.observation.reading import read_outputs
    from torch_model.checkpoint import from_arrays

    done, size = setup.conversion, setup.size
    place = partial(
        placed, device=open_device(setup.device), dtype=torch.float32, alive=live is not None
    )
    faithful = from_arrays(done.config, done.arrays, source=str(setup.prefix)).eval()
    naming = None
    if names is not None:
        nodes = [node.name for node in iterate_nodes(done.config)]
        naming = read_names(names, nodes, done.config.name)
    # Of nobody's own, so that how outputs are read does not depend on which images come first.
    photographs = [photograph_like(*size, seed) for seed in range(setup.batch)]
    images, _ = prepared(photographs, PHOTOGRAPH, done.config, size, "float32")
    made = (
        Candidate(lambda size: place(live))
        if live is not None
        else open_candidate(text, done.config, faithful, place)
    )
    with made, Progress("finding the candidate's outputs", unit="candidates") as progress:
        progress(0, 1)
        module = made.at(size)
        if naming is not None:
            check_paths(naming, [path for path, _ in module.named_modules()], str(names))
        try:
            reading = read_outputs(module, faithful, done.config, images, naming)
        except CandidateError as error:
            raise _with_advice(error, setup.batch) from error
        progress(1, 1)
    return _Ready(module, faithful, reading)


def _with_advice(error: CandidateError, batch: int) -> InputError:
    """What is said of a candidate that cannot be run, with what may be the reason here."""
    if batch > 1 or not error.failure:
        return error
    advice = "If it takes only so many images together, give that number with --batch-size."
    return CandidateError(f"{error} {advice}", error.failure)


class CandidateSide(TorchSide):
    """Detection by a candidate's network within the stages of a profile.

    Args:
        detector: Its stages around the network.
        ready: The candidate.
        cores: What images are prepared on.
    """

    def __init__(self, detector: Any, ready: _Ready, cores: Cores) -> None:
        from parity.sides.naming import own_paths
        from parity.sides.pytorch import TorchCandidate

        super().__init__(detector, cores)
        self._reading = ready.reading
        # As its user runs it; what a run changes in it no later one sees.
        self._network = TorchCandidate(ready.module, own_paths([]))

    def detect(self, images: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        """See :class:`parity.detections.shards.Side`."""
        from torch_model.postprocess import postprocess

        self._watch.start()
        with self._cores.taken():
            outputs = self._outputs([item.value.pixels for item in images])
        self._watch.lap("network")
        detector = self._detector
        found = [
            postprocess(output, detector.anchors, detector.size, item.value.scale, detector.around)
            for output, item in zip(outputs, images, strict=True)
        ]
        self._watch.lap("postprocess")
        return [(item.boxes, item.scores, item.classes) for item in found]

    def _outputs(self, pixels: Sequence[Any]) -> list[Outputs]:
        """What the network makes of each image, which is given as many together as it takes."""
        from torch_model.postprocess import split_outputs

        together = self._reading.batch
        found: list[Outputs] = []
        for start in range(0, len(pixels), together):
            part = pixels[start : start + together]
            # Filled up with the last one: what is made of the others is thrown away.
            filled = [*part, *(part[-1] for _ in range(together - len(part)))]
            classes, boxes = self._reading.run(self._network, np.stack(filled))
            count = self._detector.model.config.num_classes
            found += split_outputs(classes, boxes, count)[: len(part)]
        return found


@contextmanager
def _side(setup: Detection, ready: _Ready) -> Iterator[CandidateSide]:
    from parity.sides.pytorch.device import open_device
    from torch_model.detector import Detector

    # Only its stages around the network compute.
    detector = Detector(ready.faithful, setup.profile, device="cpu", size=setup.size)
    with computing(setup.threads):
        # The candidate is there already; what is meant is how it computes.
        open_device(setup.device)
        yield CandidateSide(detector, ready, cores_of(setup))
