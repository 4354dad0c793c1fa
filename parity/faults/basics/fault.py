"""What a fault is: how it is put into a faithful model, and the hypotheses that recognise it.

Both come from one function. It makes of an operation the operation with the fault, on tensors of
any floating type: in the type of the model where the fault is put in, in float64 where it is held
against what a candidate made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from efficientdet_spec import NodeKind
from parity.faults.basics.case import ALL, Case, Evaluation, Hypothesis, Operation, Site
from parity.faults.basics.operations import faithful

Kinds = frozenset[NodeKind]

CONVOLUTIONS: Kinds = frozenset({NodeKind.CONV, NodeKind.DEPTHWISE})
EVERY: Kinds = frozenset(NodeKind)


def kernel_of(site: Site) -> Tensor:
    """The kernel of a convolution, OIHW."""
    layer: Any = site.module
    kernel: Tensor = layer.weight
    return kernel


Faulty = Callable[[Operation, Evaluation], Evaluation | None]
"""Makes the operation with the fault of an operation and its faithful evaluation; None where the
operation cannot have it."""

Variant = tuple[str, Evaluation]
"""One form of a fault: the fault as part of a sentence, and what the operation with it gives."""

Variants = Callable[[Operation, Evaluation], Iterable[Variant]]
"""The forms that a fault may take in an operation, the likeliest first."""

_SEEN = 1e-4
"""Part of the largest output that a fault has to move one by in order to count as seen: a hundred
times more than what float32 loses anywhere."""


@dataclass(frozen=True)
class Fault:
    """One way in which ports go wrong.

    Attributes:
        slug: The name that a diagnosis gives it; the same between versions.
        title: What is wrong, in words.
        kinds: The kinds of node that can have it.
        recognise: All that may be said of a case if this is what is wrong with it.
        faulty: The operation with the fault, as it is put into a model; None where no output
            shows it, or where it is not put in.
        change: Puts it into a layer's parameters or settings, where ports have it; None where
            the layer computes something else instead.
        where: Which layers of these kinds can have it.
        alike: Other names that are as right, since inputs need not tell the faults apart.
        without: Why it is never put in; None where it is.
    """

    slug: str
    title: str
    kinds: Kinds
    recognise: Callable[[Case, Evaluation], Iterator[Hypothesis]]
    faulty: Faulty | None = None
    change: Callable[[Any], None] | None = None
    where: Callable[[Site], bool] = lambda site: True
    alike: frozenset[str] = frozenset()
    without: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """Every right name of it."""
        return self.alike | {self.slug}

    def fits(self, site: Site) -> bool:
        """Whether a layer can have it, whatever it is given."""
        return self.without is None and site.kind in self.kinds and self.where(site)

    def can_be_seen(self, operation: Operation, right: Tensor) -> bool:
        """Whether a layer with the fault makes something else of what it is given.

        Nothing of the comparison takes part in that.

        Args:
            operation: The faithful layer and what it is given.
            right: What the layer makes of it. An output of another shape counts as nothing:
                what follows in a model could not work on it.
        """
        if not self.fits(operation):
            return False
        if self.faulty is None:
            return True
        try:
            with torch.no_grad():
                made = _output(operation, self.faulty)
        # What a fault asks for is not always possible for the shapes at hand.
        except (RuntimeError, ValueError, IndexError):
            return False
        if made is None or made.shape != right.shape:
            return False
        return bool((made - right).abs().amax() > _SEEN * right.abs().amax())

    @contextmanager
    def inject(self, site: Site) -> Iterator[None]:
        """Within it the layer has the fault; afterwards it is as before, bit for bit.

        Args:
            site: A layer that the fault fits.

        Raises:
            ValueError: The fault is never put in.
        """
        if self.change is not None:
            with _restored(site.module):
                self.change(site.module)
                yield
        elif self.faulty is not None:
            layer: Any = site.module
            layer.forward = _Forward(site, self.faulty)
            try:
                yield
            finally:
                del layer.forward
        else:
            raise ValueError(f"{self.slug} is never put in: {self.without}")


class _Forward:
    """What a layer with a fault computes. A copy of the layer computes with its own parameters."""

    def __init__(self, site: Site, faulty: Faulty) -> None:
        self._site = site
        self._faulty = faulty

    def __call__(self, *inputs: Any) -> Tensor:
        output = _output(self._site.given(inputs), self._faulty)
        if output is None:
            # Such as a stride at another level, where the layer cannot have the fault.
            own: Tensor = type(self._site.module).forward(self._site.module, *inputs)
            return own
        # A tensor of its own, which no other layer holds.
        return output.clone(memory_format=torch.contiguous_format)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Forward:
        around = self._site.around() | {"module": copy.deepcopy(self._site.module, memo)}
        return _Forward(Site(**around), self._faulty)


def _output(operation: Operation, faulty: Faulty) -> Tensor | None:
    evaluate = faulty(operation, faithful(operation))
    return None if evaluate is None else evaluate(ALL)[0].to(operation.dtype)


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Afterwards a layer's parameters, buffers and settings are as before."""
    tensors = [*module.parameters(), *module.buffers()]
    values = [value.detach().clone() for value in tensors]
    settings = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        for name, setting in settings.items():
            setattr(module, name, setting)


def in_variants(
    slug: str,
    title: str,
    kinds: Kinds,
    variants: Variants,
    *,
    put_in: int = 0,
    change: Callable[[Any], None] | None = None,
    where: Callable[[Site], bool] = lambda site: True,
    alike: Iterable[str] = (),
    without: str | None = None,
) -> Fault:
    """A fault that takes one of some forms, none of them with a number that has to be fitted.

    Args:
        slug: As for :class:`Fault`.
        title: As for :class:`Fault`.
        kinds: As for :class:`Fault`.
        variants: Its forms.
        put_in: The number of the form that is put into models.
        change: As for :class:`Fault`.
        where: As for :class:`Fault`.
        alike: As for :class:`Fault`.
        without: As for :class:`Fault`.
    """

    def recognise(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
        for words, evaluate in variants(case, base):
            yield Hypothesis(slug, words, evaluate)

    def faulty(operation: Operation, base: Evaluation) -> Evaluation | None:
        chosen = next(islice(variants(operation, base), put_in, None), None)
        return None if chosen is None else chosen[1]

    return Fault(
        slug,
        title,
        kinds,
        recognise,
        faulty if without is None else None,
        change,
        where,
        frozenset(alike),
        without,
    )


def with_numbers(
    slug: str,
    title: str,
    kinds: Kinds,
    fit: Callable[[Case, Evaluation], Iterator[Hypothesis]],
    example: Faulty,
    *,
    where: Callable[[Site], bool] = lambda site: True,
    alike: Iterable[str] = (),
) -> Fault:
    """A fault with numbers that are fitted to what a candidate made.

    Args:
        slug: As for :class:`Fault`.
        title: As for :class:`Fault`.
        kinds: As for :class:`Fault`.
        fit: The hypotheses with the numbers that fit.
        example: The operation with the fault and some numbers, which is put into models.
        where: As for :class:`Fault`.
        alike: As for :class:`Fault`.
    """
    return Fault(slug, title, kinds, fit, example, where=where, alike=frozenset(alike))
