"""Detection by PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet_spec.forms import EAGER
from efficientdet_spec.prefetch import Cores
from parity.commands.detecting.detection import Detection, Stopwatch
from parity.detections.messages import SideName

PACKAGES = ("torch", "numpy", "opencv-python", "simplejpeg")
"""What computes and decodes."""


@dataclass(frozen=True)
class TorchDetecting:
    """The converted model; see :class:`parity.commands.detecting.detectors.Detecting`."""

    name = "torch"
    described = "PyTorch"

    def files(self) -> Sequence[Path]:
        """None but the checkpoint's."""
        return ()

    def manifest(self, setup: Detection) -> Mapping[str, Any]:
        """The checkpoint, the stages and the versions."""
        form = {} if setup.form == EAGER else {"form": setup.form}
        return setup.manifest(self.name, PACKAGES) | form

    def open(self, setup: Detection) -> AbstractContextManager[TorchSide]:
        """The model with the checkpoint's values, and the stages around it."""
        return torch_side(setup)

    def notes(self) -> Sequence[str]:
        """None."""
        return ()

    def elsewhere(self) -> SideName:
        """The framework's name."""
        return SideName(kind="torch")


class TorchSide:
    """Detection by :class:`torch_model.detector.Detector`.

    Args:
        detector: With the stages around the network, and mostly the network.
        cores: What images are prepared on.
    """

    def __init__(self, detector: Any, cores: Cores) -> None:
        self._detector = detector
        self._cores = cores
        self._watch = Stopwatch()
        self.seconds = self._watch.seconds

    def prepare(self, path: Path) -> Any:
        """See :class:`parity.detections.shards.Side`."""
        from parity.detections.shards import Prepared
        from torch_model.decode import read_image

        self._cores.wait()
        watch = Stopwatch()
        image = read_image(path, fast_dct=self._detector.profile.decode == "fast-dct")
        watch.lap("decode")
        prepared = self._detector.preprocess(image)
        watch.lap("preprocess")
        return Prepared(image.shape[0], image.shape[1], prepared, watch.seconds)

    def detect(self, images: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        """See :class:`parity.detections.shards.Side`."""
        self._watch.start()
        # It gives them back behind the network.
        with self._cores.taken():
            found = self._detector.detect_inputs([item.value for item in images])
        self._watch.lap("postprocess")
        return [(item.boxes, item.scores, item.classes) for item in found]

    def leaving_network(self, *_: Any) -> None:
        """The network has ended, or will have when the GPU is waited for."""
        if self._detector.device.type == "cuda":
            import torch

            # A GPU computes while Python goes on.
            torch.cuda.synchronize(self._detector.device)
        self._watch.lap("network")
        self._cores.give()


def cores_of(setup: Detection) -> Cores:
    """What a network computes on, and images are prepared on; a GPU leaves the cores alone."""
    return Cores(setup.threads if setup.device == "cpu" else 0)


@contextmanager
def torch_side(setup: Detection) -> Iterator[TorchSide]:
    """The model with the checkpoint's values, and the stages around it."""
    import torch

    from parity.sides.pytorch.device import open_device
    from torch_model.checkpoint import from_arrays
    from torch_model.detector import Detector

    device = open_device(setup.device)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    done = setup.conversion
    model = from_arrays(done.config, done.arrays, source=str(setup.prefix)).eval()
    detector = Detector(model, setup.profile, device=device, size=setup.size, form=setup.form)
    detector.prepare(setup.batch)
    side = TorchSide(detector, cores_of(setup))
    hook = detector.model.register_forward_hook(side.leaving_network)
    try:
        yield side
    finally:
        hook.remove()
        torch.set_num_threads(before)
