"""PyTorch's side of a comparison: a module that is seen and driven, and the faithful model."""

from parity.sides.pytorch.candidate import TorchCandidate, TorchValue
from parity.sides.pytorch.code import failure
from parity.sides.pytorch.exact import alike, as_double, copy_in_double, own_exact, parameters_of
from parity.sides.pytorch.hooks import (
    Provenance,
    Visit,
    flatten,
    may_overwrite,
    nchw,
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
from parity.sides.pytorch.referee import FaithfulReferee
from parity.sides.pytorch.wrappers import check_observable, common_prefix, eager, is_compiled

__all__ = [
    "FaithfulReferee",
    "Provenance",
    "TorchCandidate",
    "TorchValue",
    "Visit",
    "alike",
    "as_double",
    "check_observable",
    "common_prefix",
    "copy_in_double",
    "eager",
    "expected",
    "failure",
    "flatten",
    "identical",
    "is_compiled",
    "may_overwrite",
    "nchw",
    "nhwc",
    "nhwc_shape",
    "own_exact",
    "parameters_of",
    "replacement",
    "run",
    "same",
    "unchanged",
    "visiting",
]
