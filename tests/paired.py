"""A stream and a module as the two sides of a comparison."""

from parity.lockstep.pairing import Pairing
from parity.sides.pytorch import TorchCandidate
from parity.sides.side import Reference


def reference(stream, kinds, outputs, recorded=None):
    """A reference that gives the tensors of ``stream`` whatever the images are."""
    return Reference(
        kinds=kinds,
        outputs=outputs,
        compute=lambda images: stream(),
        described={"kind": "test", "source": "a test"},
        framework="TensorFlow",
        recorded=recorded,
    )


def paired(stream, model, naming, referee, images, outputs, recorded=None):
    """A pairing of a stream of the referee's nodes and a module in evaluation mode."""
    side = reference(stream, referee.kinds, outputs, recorded)
    return Pairing(side, TorchCandidate(model, naming), referee, images)
