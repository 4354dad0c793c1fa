"""What ``nodes`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import Cause, InputError
from parity.settings.option import COMPUTING, EXPLAINING, INPUT, RESULTS, SIDES, option
from parity.settings.shared import (
    MAX_BATCH,
    MAX_RUNS,
    ComputeSettings,
    DeviceSettings,
    FormSettings,
)

EXACT = Path("exact")
"""As ``--reference``: the exact values of each node, for which TensorFlow is not needed."""

GRAPH = Path("graph")
"""As ``--reference``: this project's own TensorFlow graph, as where nothing is said."""


def needs_of_reference(path: Path | None) -> Sequence[str]:
    """The extras that a reference needs.

    Args:
        path: As of ``--reference``.
    """
    if path is None or path == GRAPH or path.suffix == ".meta":
        return ("tensorflow",)
    # A converted model computes with PyTorch, exact values with NumPy; what is left are traces.
    return () if path == EXACT or path.suffix == ".pth" else ("traces",)


@dataclass(frozen=True, kw_only=True)
class NodesSettings(ComputeSettings, DeviceSettings, FormSettings):
    """A comparison of every node's tensor."""

    COMMAND = "nodes"
    RESULT = "json"
    HELP = "compare every node's tensor: is this port right, and if not, where and why"
    ABOUT = (
        "Feeds the same images to the reference and to a candidate and judges every node: does it "
        "differ by more than roundings explain, where does a difference begin, and what is it."
    )
    EXAMPLES = (
        ("nodes efficientdet-d0/ --candidate port.py:build", "check a port of your own"),
        ("nodes efficientdet-d0/ --reference exact", "without TensorFlow"),
        ("nodes d0/ --candidate effdet:tf_efficientdet_d0", "check a published port"),
        ("nodes efficientdet-d0/ --candidate d0.pth", "check a converted model"),
        ("nodes efficientdet-d0/ --image photos/ --json nodes.json", "on photographs"),
        ("nodes efficientdet-d7 --dtype float64 --size 256x256", "the structure alone"),
    )

    candidate: str | None = option(
        "a .pth of convert; FILE.py:FUNCTION, a function or class that makes an nn.Module (FILE.py "
        "alone lists them); or PACKAGE:MODEL of an installed package, such as "
        "effdet:tf_efficientdet_d0; default: the checkpoint, converted on the fly",
        default=None,
        metavar="MODEL",
        group=SIDES,
        path=True,
    )
    names: Path | None = option(
        "submodules of the candidate for some or all nodes, where what is found without them is "
        "to be overridden",
        default=None,
        group=SIDES,
        metavar="FILE.json",
    )
    reference: Path | None = option(
        "exact (each node's exact value, rounded once: needs no TensorFlow), a checkpoint's own "
        ".meta graph, a .pth of convert, or a trace.h5 of record; default: graph, the TensorFlow "
        "graph of this project",
        default=None,
        group=SIDES,
        metavar="WHICH",
    )
    image: tuple[Path, ...] = option(
        "image files and folders of them; the verdict is the worst of all; default: a generated "
        "set (like a photograph at the model's size, and two images of high amplitude together at "
        "an odd size, half of it where the model can process that)",
        default=(),
        group=INPUT,
        metavar="FILE",
        several=True,
    )
    batch: int | None = option(
        "images run together; default: one",
        default=None,
        lowest=1,
        highest=MAX_BATCH,
        group=INPUT,
        metavar="N",
    )
    tf32: bool = option("let a GPU round inputs to TF32", default=False, group=COMPUTING)
    contributions: int = option(
        "of how many nodes to measure what they contribute to the outputs' difference; each takes "
        "a run of the candidate",
        default=5,
        lowest=0,
        highest=MAX_RUNS,
        group=EXPLAINING,
        metavar="N",
    )
    diagnose: int = option(
        "of how many suspects to find out what is wrong with them",
        default=30,
        lowest=0,
        highest=MAX_RUNS,
        group=EXPLAINING,
        metavar="N",
    )
    closeups: int = option(
        "of how many nodes to keep in the JSON result where in their tensors the sides differ; "
        "takes one more run",
        default=0,
        lowest=0,
        highest=MAX_RUNS,
        group=EXPLAINING,
        metavar="N",
    )
    noise: bool = option(
        "also measure how much each side differs from itself: repeated, with other thread counts, "
        "without oneDNN",
        default=False,
        group=EXPLAINING,
    )
    backward: bool = option(
        "also compare gradients, with batch norms at inference and in training",
        default=False,
        group=EXPLAINING,
    )
    reproduce: Path | None = option(
        "write a script that needs PyTorch and NumPy alone, and a few numbers, which show on one "
        "value what is wrong with the node that is accused first; takes one more run",
        default=None,
        group=EXPLAINING,
        metavar="DIR",
    )
    json: Path | None = option(
        "write the result as JSON", default=None, group=RESULTS, metavar="FILE"
    )
    junit: Path | None = option(
        "write the result as JUnit XML", default=None, group=RESULTS, metavar="FILE"
    )
    write_names: Path | None = option(
        "write which submodule and which operations of the candidate make which node, as --names "
        "reads it",
        default=None,
        group=RESULTS,
        metavar="FILE.json",
    )
    verbose: bool = option("print a table of all nodes", default=False, group=RESULTS)

    def needs(self) -> Sequence[str]:
        """TensorFlow, unless another reference is given."""
        return needs_of_reference(self.reference)

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Says which.
        """
        self.check_form(self.candidate)
        reference = self.reference
        differentiable = reference in (None, EXACT, GRAPH) or reference.suffix == ".pth"
        if self.backward and not differentiable:
            raise InputError(
                f"--backward differentiates the reference, which {reference} does not allow; give "
                f"graph, exact or a .pth of convert as --reference.",
                Cause.OPTION,
            )
