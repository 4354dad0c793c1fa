"""The layer that a fault is about, what is asked of a diagnosis, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from efficientdet_spec import NodeKind

Channels = slice | Tensor
"""An index along axis 1 of an NCHW tensor: which output channels to evaluate."""

Evaluation = Callable[[Channels], tuple[Tensor, Tensor]]
"""Gives the output at some channels, in the type of the arguments, and its gauge: the magnitude of
each element on which roundings act (same shape)."""

ALL = slice(None)
"""Every channel."""

ROUNDINGS = 16.0
"""Roundings that an implementation may carry where nothing else is known; see
``parity.judge.limits``."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A layer of a faithful model, and what a fault may need to know of what is around it.

    Attributes:
        name: The node, for example ``class_head.convs.0.pointwise@P4``.
        kind: What the reference computes there.
        module: The layer.
        siblings: Other faithful modules of the model by path, of any type.
        alternatives: Other values of the module's parameters by what they are, for example
            ``{"raw": {"weight": ...}}`` for those that are no moving averages.
        is_input: Whether the node reads the network's images.
        outputs_per_anchor: Number of classes, or 4 for boxes; None where nothing is predicted.
        num_anchors: Anchors at each location; None likewise.
        fusion_weights: The weights of the model's other fusions, by node.
    """

    name: str
    kind: NodeKind
    module: nn.Module
    siblings: Mapping[str, nn.Module] = field(default_factory=dict)
    alternatives: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    is_input: bool = False
    outputs_per_anchor: int | None = None
    num_anchors: int | None = None
    fusion_weights: Mapping[str, Tensor] = field(default_factory=dict)

    def around(self) -> dict[str, Any]:
        """All that a :class:`Site` holds, by name."""
        return {item.name: getattr(self, item.name) for item in fields(Site)}

    def given(self, arguments: tuple[Any, ...]) -> Operation:
        """The layer with what it is given."""
        return Operation(**self.around(), arguments=arguments)


@dataclass(frozen=True, kw_only=True)
class Operation(Site):
    """A layer and what it is given, in any floating type.

    Attributes:
        arguments: What the layer takes: NCHW tensors; a list of them and weights (fusion); a
            tensor and a size (max-pool, up-sampling).
    """

    arguments: tuple[Any, ...]

    @property
    def dtype(self) -> torch.dtype:
        """The type that is computed in."""
        first = self.arguments[0]
        found: torch.dtype = (first if isinstance(first, Tensor) else first[0]).dtype
        return found

    @property
    def unit(self) -> float:
        """Unit roundoff of :attr:`dtype`."""
        return torch.finfo(self.dtype).eps / 2

    @property
    def underflow(self) -> float:
        """The magnitude one rounding of which is the smallest normal number."""
        return torch.finfo(self.dtype).tiny / self.unit


@dataclass(frozen=True, kw_only=True)
class Case(Operation):
    """A node at which a candidate fails: the faithful layer and its arguments are in float64.

    Attributes:
        candidate: What the candidate made of them, [N, C, H, W], in the type it computes in.
        limit: Roundings that a correct implementation of the node may carry.
    """

    candidate: Tensor
    limit: float = ROUNDINGS

    @property
    def dtype(self) -> torch.dtype:
        """The type that the candidate computes in."""
        return self.candidate.dtype

    @property
    def bound(self) -> float:
        """Roundings within which a hypothesis reproduces the candidate's output.

        A correct implementation's for the candidate's own arithmetic, and as many for faults that
        are two operations in one, whose first rounding the second carries on.
        """
        return 2 * max(self.limit, ROUNDINGS)


Again = Callable[[Case, Evaluation], Evaluation]
"""Makes one fault, with the very same numbers, of another case and its faithful operation."""


@dataclass(frozen=True)
class Hypothesis:
    """One way in which the candidate may have gone wrong.

    Attributes:
        slug: Short name that stays the same between versions.
        title: The fault as part of a sentence: "batch norm with epsilon 1e-05 instead of 0.001".
        evaluate: What the operation with this fault gives.
        constants: How many numbers were fitted to the candidate's output. Of two hypotheses that
            fit, the one with fewer is the simpler.
        again: The same fault at another node that the same module makes, with the numbers fitted
            here. None where nothing is fitted: there the same title says the same fault.
        stored: The type of lower precision that the output is rounded to; None for no other.
        words: What there is to say of each node that it holds at, such as the number fitted there.
        of_sizes: Whether its numbers are rows, columns or images, which are others in maps or
            batches of other sizes.
    """

    slug: str
    title: str
    evaluate: Evaluation
    constants: int = 0
    again: Again | None = None
    stored: LowerPrecision | None = None
    words: Callable[[Case, Evaluation], str] | None = None
    of_sizes: bool = False


class LowerPrecision(Protocol):
    """A type with fewer bits than the one that both sides compute in."""

    @property
    def unit(self) -> float:
        """Its unit roundoff."""

    @property
    def smallest(self) -> float:
        """Its smallest number of full precision."""

    def rounded(self, x: Tensor) -> Tensor:
        """Float64 values brought to it."""


def fitted(
    slug: str,
    title: str,
    case: Case,
    base: Evaluation,
    again: Again,
    constants: int,
    *,
    of_sizes: bool = False,
) -> Hypothesis:
    """A hypothesis with numbers that were fitted to the candidate's output.

    Args:
        slug: As for :class:`Hypothesis`.
        title: As for :class:`Hypothesis`.
        case: The node whose output they were fitted to.
        base: Its faithful operation.
        again: As for :class:`Hypothesis`.
        constants: As for :class:`Hypothesis`.
        of_sizes: As for :class:`Hypothesis`.
    """
    return Hypothesis(slug, title, again(case, base), constants, again, of_sizes=of_sizes)


def with_these(function: Callable[..., Evaluation], *numbers: Any) -> Again:
    """A fault with numbers, to be made again of other nodes.

    Args:
        function: Makes it of an operation and the numbers.
        numbers: That were fitted.
    """
    return lambda case, base: function(case, *numbers)


@dataclass(frozen=True)
class Diagnosis:
    """The hypothesis that reproduces the candidate's output.

    Attributes:
        slug: Its short name.
        title: The fault as part of a sentence.
        roundings: Distance of the candidate from it, in units of ``unit * gauge``.
        without: Distance of the candidate from the faithful operation, likewise; infinite where
            the shapes differ.
        tried: Number of hypotheses looked at, this one included.
        unit: The unit roundoff in which both are counted. Larger than the candidate's own where
            the output was rounded to a type of lower precision.
        constants: How many numbers were fitted to the candidate's output.
        stored: Whether the output was rounded to a type of lower precision.
    """

    slug: str
    title: str
    roundings: float
    without: float
    tried: int
    unit: float
    constants: int = 0
    stored: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "slug": self.slug,
            "title": self.title,
            "roundings": self.roundings,
            "without": self.without if math.isfinite(self.without) else str(self.without),
            "tried": self.tried,
            "unit": self.unit,
            "constants": self.constants,
            "stored": self.stored,
        }


def computed(evaluate: Evaluation) -> Evaluation:
    """The same, computed now and only once."""
    output, gauge = evaluate(ALL)
    return lambda channels: (output[:, channels], gauge[:, channels])


def number(value: float) -> str:
    """A value with three significant digits, for a sentence."""
    return f"{value:.3g}"


def counted(items: list[int], limit: int = 6) -> str:
    """A few of some indices, for a sentence: "3, 7 and 12 more"."""
    shown = ", ".join(str(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def by_resemblance(name: str, others: Mapping[str, Any]) -> list[str]:
    """Names of other modules, those first that a slip of the hand would take instead.

    One that differs in fewer parts of its path comes earlier, and among these one that differs
    in a later part: another level of the same repeat, then another repeat of the same level.
    """
    own = name.split("@")[0].split(".")

    def distance(other: str) -> tuple[int, int]:
        parts = other.split("@")[0].split(".")
        if len(parts) != len(own):
            return len(own) + len(parts), 0
        changed = [i for i, (a, b) in enumerate(zip(own, parts, strict=True)) if a != b]
        return len(changed), -(changed[0] if changed else 0)

    return sorted((other for other in others if other != name), key=distance)
