"""PyTorch's side of a comparison: a module that is seen and driven, and the faithful model."""

from parity.sides.pytorch.candidate import TorchCandidate, TorchValue
from parity.sides.pytorch.exact import alike, as_double, copy_in_double, parameters_of
from parity.sides.pytorch.hooks import nchw, nhwc, run, visiting
from parity.sides.pytorch.nested import flatten
from parity.sides.pytorch.operations import expected
from parity.sides.pytorch.referee import FaithfulReferee
from parity.sides.pytorch.wrappers import check_observable, common_prefix, hides_parts

__all__ = [
    "FaithfulReferee",
    "TorchCandidate",
    "TorchValue",
    "alike",
    "as_double",
    "check_observable",
    "common_prefix",
    "copy_in_double",
    "expected",
    "flatten",
    "hides_parts",
    "nchw",
    "nhwc",
    "parameters_of",
    "run",
    "visiting",
]
