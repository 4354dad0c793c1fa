"""PyTorch's side of a comparison: hooks, gauges, exact values. The only part that imports it."""

from parity.sides.pytorch.candidate import failure
from parity.sides.pytorch.exact import (
    alike,
    as_double,
    copy_in_double,
    own_exact,
    parameters_of,
    statistics,
)
from parity.sides.pytorch.hooks import (
    Provenance,
    Visit,
    disturbed,
    flatten,
    may_overwrite,
    nhwc,
    nhwc_shape,
    replacement,
    run,
    same,
    unchanged,
    visiting,
)
from parity.sides.pytorch.noise import identical
from parity.sides.pytorch.operations import expected
from parity.sides.pytorch.referee import Referee, Ruling
from parity.sides.pytorch.wrappers import check_observable, common_prefix, eager, is_compiled

__all__ = [
    "Provenance",
    "Referee",
    "Ruling",
    "Visit",
    "alike",
    "as_double",
    "check_observable",
    "common_prefix",
    "copy_in_double",
    "disturbed",
    "eager",
    "expected",
    "failure",
    "flatten",
    "identical",
    "is_compiled",
    "may_overwrite",
    "nhwc",
    "nhwc_shape",
    "own_exact",
    "parameters_of",
    "replacement",
    "run",
    "same",
    "statistics",
    "unchanged",
    "visiting",
]
