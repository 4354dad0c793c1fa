"""What the two sides of a comparison are, whatever computes them.

A *reference* is streamed: it offers the tensors of its nodes one after another. A *candidate* is
driven: it runs as its user runs it, is seen at every node, and can be given another tensor to go
on with. Each framework or file format has a module of its own that makes one or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from efficientdet_spec import Cause, InputError, NodeKind
from parity.judge.referee import Referee
from parity.process.arrays import Array
from parity.sides.naming import Naming
from parity.sides.stream import Tensors


@dataclass(frozen=True)
class Reference:
    """A network to compare with, ready to compute.

    Attributes:
        kinds: What each node computes, in the order of computation.
        outputs: Nodes that are the network's outputs: class logits, then box codes, finest first.
        compute: Makes it compute once, on [N, H, W, 3] images of the shape that it is opened for.
        described: Where it comes from: ``kind`` and ``source``, and what else is known of it.
        framework: What computes, or has computed, it.
        recorded: The nodes whose tensors there are; None for all.
        tensors: What the side itself calls each node's tensor.
        sizes: NHWC shape of each node's tensor, where it can compute again; empty where it cannot.
    """

    kinds: Mapping[str, NodeKind]
    outputs: Sequence[str]
    compute: Callable[[Array], AbstractContextManager[Tensors]]
    described: dict[str, Any]
    framework: str
    recorded: frozenset[str] | None = None
    tensors: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The nodes whose tensors there are, in the order of computation."""
        return [name for name in self.kinds if self.has(name)]

    def has(self, node: str) -> bool:
        """Whether there is this node's tensor."""
        return self.recorded is None or node in self.recorded


class CandidateError(InputError):
    """The candidate cannot be run on an input.

    Attributes:
        failure: What it has raised, and where; the message itself where it has raised nothing.
    """

    DEFAULT = Cause.CANDIDATE

    def __init__(self, message: str, failure: str = "") -> None:
        super().__init__(message)
        self.failure = failure or message


class OneAtATimeError(CandidateError):
    """The candidate takes the images of a batch one after another, each in a run of its layers.

    Attributes:
        otherwise: What is wrong with the batch as such; empty where its outputs are, bit for bit,
            those of each image alone.
    """

    def __init__(self, message: str, otherwise: str) -> None:
        super().__init__(message)
        self.otherwise = otherwise


class Value(Protocol):
    """A tensor of a candidate, wherever it is kept."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Its shape as the candidate has it."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """NHWC; None where it is no tensor of feature maps."""

    @property
    def dtype(self) -> str:
        """NumPy's name of its type, or the framework's own where NumPy has none."""

    @property
    def coarseness(self) -> int | None:
        """Bytes of one of its numbers; None where these are no floating-point numbers."""

    @property
    def unreadable(self) -> str | None:
        """What sort of tensor it is, where its values cannot be looked at; None where they can."""

    def array(self) -> Array:
        """Its values, NHWC; possibly its own memory, which must not be written to."""

    def same(self, other: Value | None) -> bool:
        """Whether both are equal in every element, of which NaN equals NaN, in whatever type."""

    def identical(self, other: Value) -> bool:
        """Whether both are the same bit for bit, NaNs and the signs of zeros included."""

    def apart(self, other: Value) -> float:
        """Largest absolute difference from a value of the same shape."""

    @property
    def rounding(self) -> float:
        """One rounding of its largest value; 0 where its numbers are not floating-point ones."""


@dataclass(frozen=True)
class Form:
    """A form in which a candidate runs, where that is not the one whose nodes can be seen.

    Attributes:
        used: What the form is called in which its user runs it.
        seen: What the other one is called.
    """

    used: str
    seen: str


COMPILED = Form("compiled", "uncompiled")
PARALLEL = Form("parallel", "single")
OPTIMIZED = Form("optimised", "folded")


class Made(Protocol):
    """What a candidate has made at a node.

    Attributes:
        value: Its output.
        layer: What made it, as a diagnosis in the same framework looks at it.
        given: What the layer was given, likewise.
    """

    value: Value
    layer: Any
    given: Any

    def read(self) -> tuple[str | None, ...]:
        """The node that each tensor it was given comes from; None where that is not known."""

    def outdated(self) -> tuple[str, ...]:
        """The nodes of which it reads what they made before another tensor took its place."""

    def overwritten(self) -> tuple[str, ...]:
        """The nodes that it reads to whose tensors something else has written since."""

    def exact(self) -> Array | None:
        """Its own function on what it really read, without roundings, NHWC; None if unknown."""

    def again(self, setting: Setting) -> Value | None:
        """What it makes of the same inputs under another setting; None where that is unknown."""

    def kept(self, instead: Array | None) -> Value:
        """A copy of its output, or of what takes its place, as the candidate would return it."""


@dataclass(frozen=True)
class Mode:
    """How a candidate is run, where that should make no difference to its outputs.

    Attributes:
        gradients: Whether it is to record what gradients need, those of the images included.
        inference: Whether it may take for granted that nobody will ever ask for gradients.
        channels_last: Whether the images lie in memory with the channels last.
    """

    gradients: bool = False
    inference: bool = False
    channels_last: bool = False


PLAIN = Mode()
"""How a candidate is run where nothing else is said."""


Setting = Callable[[], AbstractContextManager[None]]
"""Applies a setting while the body runs, and restores what was there."""

Visit = Callable[[str, Made], "Array | None"]
"""Called at each node that a candidate makes.

What it returns, NHWC, takes the output's place; None leaves it.
"""


@dataclass(frozen=True)
class Origin:
    """What makes a node in a candidate, and how that was found.

    Attributes:
        path: Of the part that makes it by itself; None where none does.
        found: How it was found.
        sure: Whether nothing else could be it.
        operations: All that make it, in words; empty where they are not seen.
        distance: From the reference's tensor where it was found, in units of its rms; None where
            that was not looked at.
        layout: The order of the axes N, H, W, C in its tensor, as letters; None where unknown.
        shape: Of its tensor; None where that was not looked at.
    """

    path: str | None
    found: str
    sure: bool = True
    operations: Sequence[str] = ()
    distance: float | None = None
    layout: str | None = None
    shape: Sequence[int] | None = None


class Candidate(Protocol):
    """A network that is compared, and can be driven."""

    @property
    def naming(self) -> Naming:
        """Which of its parts make which nodes."""

    @property
    def framework(self) -> str:
        """What computes it."""

    @property
    def seen_through(self) -> bool:
        """Whether every operation of it is seen, and not only what some of its parts make."""

    @property
    def form(self) -> Form | None:
        """The form that its user runs, where nodes can be seen in another one alone."""

    def prepare(self, reference: Reference, referee: Referee, images: Array, mode: Mode) -> None:
        """Find out how its nodes are made, where that is not known from names.

        Args:
            reference: What it is compared with.
            referee: The faithful model.
            images: [N, H, W, 3].
            mode: How it will be run.
        """

    def left_out(self) -> Mapping[str, str]:
        """Nodes that it was seen not to compute, each with what stands at their place."""

    def not_found(self) -> Mapping[str, str]:
        """Nodes that it may compute and none of its operations was found to make, and why."""

    def origins(self) -> Mapping[str, Origin]:
        """What makes each of its nodes; a node that it does not make may be among them."""

    def regroup(self, nodes: Collection[str]) -> Callable[[], None]:
        """From now on take some nodes together with those that read them.

        Args:
            nodes: The nodes, which are then made by no operation of their own.

        Returns:
            What takes that back.
        """

    def reorder(self, orders: Mapping[str, tuple[int, ...]]) -> Callable[[], None]:
        """From now on take some nodes' channels in other orders than those they lie in.

        Args:
            orders: By node for each of its channels where the candidate has it; only nodes whose
                tensors are of the right shape.

        Returns:
            What takes that back.
        """

    def steps(self, node: str) -> str:
        """The operations that make a node, where they are known; empty elsewhere."""

    def settings(self, node: str) -> Mapping[str, Mapping[str, Any]]:
        """With which settings a node is made, and those before it that do not show themselves.

        By node, where they are known; see :data:`parity.sides.observed.settings.Settings`.
        """

    def outputs(self, returned: Sequence[Value]) -> list[Value]:
        """What it has returned last, a tensor for each output of the network where it can be told.

        Args:
            returned: As :meth:`run` has given it.
        """

    def remarks(self) -> tuple[list[str], list[str]]:
        """Sentences on what it returned last: what was found, and what was not recognised."""

    def run(
        self,
        images: Array,
        visit: Visit,
        inputs_of: Mapping[str, tuple[int, ...]],
        sources_of: Mapping[str, tuple[str, ...]],
        mode: Mode = PLAIN,
    ) -> list[Value]:
        """Run it, calling ``visit`` at each node.

        Args:
            images: [N, H, W, 3].
            visit: What to do at each node.
            inputs_of: By node the NHWC shape of the first tensor that it should be given, by
                which calls of one module are told apart.
            sources_of: By node the nodes that it should read, by which they are too.
            mode: How it is run.

        Returns:
            Copies of its outputs, as it returns them.

        Raises:
            CandidateError: It fails.
            InputError: It returns no tensor.
        """

    def run_unobserved(self, images: Array, mode: Mode = PLAIN) -> list[Value]:
        """Run it as its user does; as :meth:`run`.

        Args:
            images: [N, H, W, 3].
            mode: How it is run.
        """

    def restored(self) -> AbstractContextManager[None]:
        """Behind it its state is what it was before, and not behind each run in it."""

    def observable(self) -> AbstractContextManager[None]:
        """Within it it runs in the form that can be seen; observed runs always do."""

    def variations(self) -> list[tuple[str, Setting]]:
        """Settings that should not matter, each with its name; first nothing at all."""
