"""Operations on arrays whatever their layout in memory."""

import numpy as np
import pytest

from parity.judge import operations

RNG = np.random.default_rng(0)
SHAPE = (2, 5, 7, 6)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


OPERATIONS = {
    "swish": (operations.Swish(), [SHAPE]),
    "relu": (operations.Relu(), [SHAPE]),
    "relu6": (operations.Relu6(), [SHAPE]),
    "hard swish": (operations.HardSwish(), [SHAPE]),
    "mish": (operations.Mish(), [SHAPE]),
    "gate": (operations.Gate(), [SHAPE]),
    "batch norm": (
        operations.BatchNorm(numbers(6), np.abs(numbers(6)), numbers(6), numbers(6), 1e-3),
        [SHAPE],
    ),
    "scale": (operations.Scale(), [SHAPE, (2, 1, 1, 6)]),
    "sum": (operations.WeightedSum([0.3, 0.7]), [SHAPE, SHAPE]),
    "sum by channels": (operations.WeightedSum(np.abs(numbers(2, 6))), [SHAPE, SHAPE]),
    "mean": (operations.Mean(), [SHAPE]),
    "pointwise": (operations.Convolution(numbers(4, 6, 1, 1), numbers(4), (1, 1)), [SHAPE]),
    "convolution": (operations.Convolution(numbers(4, 6, 3, 3), None, (2, 2)), [SHAPE]),
    "depthwise": (operations.Depthwise(numbers(6, 1, 3, 3), None, (2, 2)), [SHAPE]),
    "pool": (operations.MaxPool((3, 4)), [SHAPE]),
    "upsample": (operations.Upsample((10, 14)), [SHAPE]),
}


def channels_first(array):
    """The same values in the memory of an NCHW tensor."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_figures_do_not_depend_on_the_layout(name, batch):
    operation, shapes = OPERATIONS[name]
    inputs = [numbers(batch, *shape[1:]) for shape in shapes]
    expected = operation.whole(inputs)
    found = operation.whole([channels_first(array) for array in inputs])
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one, other)
        assert np.isfinite(one).all()
    assert (expected[1] > 0).any()
