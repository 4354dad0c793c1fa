"""What each kind of operation should give, and what rounding can do to it.

One file holds one kind, or two that are alike.
"""

from parity.judge.operations.activation import (
    ACTIVATIONS,
    Clamp,
    Gate,
    HardSwish,
    Mish,
    Relu,
    Relu6,
    Swish,
)
from parity.judge.operations.batch_norm import BatchNorm
from parity.judge.operations.convolution import Convolution, Depthwise
from parity.judge.operations.mean import Mean
from parity.judge.operations.operation import Operation, by_lines
from parity.judge.operations.products import Scale, WeightedSum
from parity.judge.operations.selection import MaxPool, Upsample

__all__ = [
    "ACTIVATIONS",
    "BatchNorm",
    "Convolution",
    "Depthwise",
    "Clamp",
    "Gate",
    "HardSwish",
    "MaxPool",
    "Mean",
    "Mish",
    "Operation",
    "Relu",
    "Relu6",
    "Scale",
    "Swish",
    "Upsample",
    "WeightedSum",
    "by_lines",
]
