"""Every fault: what may be wrong with a node, and what can be put into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from parity.faults.basics.case import Case, Evaluation, Hypothesis
from parity.faults.basics.fault import Fault
from parity.faults.families import (
    activations,
    batch,
    batch_norm,
    changed_inputs,
    changed_values,
    channels_read,
    convolution,
    elementwise,
    fitted_activations,
    fusion,
    general,
    images,
    inexact_activations,
    kernel_fit,
    kernels,
    mean,
    other_norms,
    padding,
    parameters,
    parts,
    pixels,
    pooling,
    precision,
    predictions,
    quantised,
    resampling,
    tiles,
    upsampling,
)

_OPERATIONS: Mapping[str, tuple[Fault, ...]] = {
    "the whole output": general.WHOLE,
    "predictions": predictions.FAULTS,
    "images": images.FAULTS,
    "convolution": convolution.FAULTS,
    "batch norm": batch_norm.FAULTS,
    "norms of other kinds": other_norms.FAULTS,
    "activation and gate": activations.FAULTS,
    "activations with numbers": fitted_activations.FAULTS,
    "activations less exact": inexact_activations.FAULTS,
    "fusion": fusion.FAULTS,
    "mean": mean.FAULTS,
    "scale and sum": elementwise.FAULTS,
    "max-pool and up-sampling": resampling.FAULTS,
}
"""What is done to the whole output, and what the operation does."""

FAMILIES: Mapping[str, tuple[Fault, ...]] = {
    **_OPERATIONS,
    "some channels or images": parts.in_parts(
        [fault for family in _OPERATIONS.values() for fault in family], changed_values.UNIFORM
    ),
    "values in other places": general.MOVED,
    "other padding": padding.FAULTS,
    "what is made of a kernel": kernels.FAULTS,
    "channels that are read": channels_read.FAULTS,
    "values of images": pixels.FAULTS,
    "other windows of a max-pool": pooling.FAULTS,
    "other pixels of an up-sampling": upsampling.FAULTS,
    "operations of a part": parts.LEFT_OUT,
    "inputs changed before": changed_inputs.FAULTS,
    "tiles": tiles.FAULTS,
    "images of a batch": batch.FAULTS,
    "values changed": changed_values.FAULTS,
    "values of a kernel": kernel_fit.FAULTS,
    "precision": precision.FAULTS,
    "few levels": quantised.FAULTS,
    "parameters and settings": parameters.FAULTS,
}
"""The faults by what they are about, in the order of simplicity.

Of two that reproduce an output the one with fewer fitted constants is preferred, and of two with
equally many the one that comes earlier: what was done to the whole output, then to the operation,
then where its values went, then what was added to it, then precision. Within each of these the
likelier stands first.
"""

CATALOGUE: tuple[Fault, ...] = tuple(fault for family in FAMILIES.values() for fault in family)
"""Every fault, in this order."""


def hypotheses(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """All hypotheses about a node, in the order of the catalogue.

    Args:
        case: The failing node.
        base: The faithful operation.
    """
    for fault in CATALOGUE:
        if case.kind in fault.kinds:
            yield from _as_far_as_it_goes(fault, case, base)


def _as_far_as_it_goes(fault: Fault, case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    try:
        yield from fault.recognise(case, base)
    # A fit may fail on values that nobody foresaw (NaN, a singular matrix): the other faults
    # still have something to say, and so has the comparison.
    except Exception:
        return
