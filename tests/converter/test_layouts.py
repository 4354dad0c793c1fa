"""Each layout puts every element where PyTorch wants it, and back."""

from itertools import permutations

import numpy as np
import pytest

from converter.layouts import CONVOLUTION, DEPTHWISE, SCALARS, VECTOR, Layout

# All extents differ, so that a wrong axis shows in the shape, and all values differ, so that it
# shows in the elements even where the extents are equal.
HWIO = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
HWC1 = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4, 1)
SQUARE = np.arange(3**4, dtype=np.float32).reshape(3, 3, 3, 3)


def convolution_is_right(layout, kernel):
    turned = layout.to_torch(kernel)
    return all(turned[o, i, y, x] == kernel[y, x, i, o] for y, x, i, o in np.ndindex(*kernel.shape))


def depthwise_is_right(layout, kernel):
    turned = layout.to_torch(kernel)
    return all(turned[c, m, y, x] == kernel[y, x, c, m] for y, x, c, m in np.ndindex(*kernel.shape))


def test_convolution_elements():
    turned = CONVOLUTION.to_torch(HWIO)
    assert turned.shape == (5, 4, 2, 3)
    assert turned[4, 2, 0, 1] == HWIO[0, 1, 2, 4] == 34
    assert convolution_is_right(CONVOLUTION, HWIO)


def test_depthwise_elements():
    turned = DEPTHWISE.to_torch(HWC1)
    assert turned.shape == (4, 1, 2, 3)
    assert turned[3, 0, 1, 0] == HWC1[1, 0, 3, 0] == 15
    assert depthwise_is_right(DEPTHWISE, HWC1)


def test_vector_is_left_alone():
    vector = np.arange(7.0)
    assert VECTOR.to_torch(vector).tolist() == vector.tolist()
    assert VECTOR.to_tensorflow(vector).tolist() == vector.tolist()


@pytest.mark.parametrize(
    ("right", "check"),
    [(CONVOLUTION, convolution_is_right), (DEPTHWISE, depthwise_is_right)],
    ids=["convolution", "depthwise"],
)
def test_only_one_permutation_is_right(right, check):
    """On a kernel of equal extents no shape tells, only the elements do."""
    passing = [axes for axes in permutations(range(4)) if check(Layout("", axes), SQUARE)]
    assert passing == [right.to_torch_axes]


@pytest.mark.parametrize(
    ("layout", "array"),
    [(CONVOLUTION, HWIO), (DEPTHWISE, HWC1), (VECTOR, np.arange(5.0))],
    ids=["convolution", "depthwise", "vector"],
)
def test_both_directions_are_inverse(layout, array):
    there = layout.to_torch(array)
    assert there.shape == layout.torch_shape(array.shape)
    assert array.shape == layout.tensorflow_shape(there.shape)
    np.testing.assert_array_equal(layout.to_tensorflow(there), array, strict=True)
    np.testing.assert_array_equal(layout.to_torch(layout.to_tensorflow(there)), there, strict=True)


@pytest.mark.parametrize("axes", list(permutations(range(4))), ids=str)
def test_any_permutation_is_inverted(axes):
    layout = Layout("", axes)
    np.testing.assert_array_equal(layout.to_tensorflow(layout.to_torch(HWIO)), HWIO)
    assert layout.tensorflow_shape(layout.torch_shape((2, 3, 4, 5))) == (2, 3, 4, 5)


def test_layouts_are_told_apart():
    layouts = [CONVOLUTION, DEPTHWISE, VECTOR, SCALARS]
    assert len({layout.name for layout in layouts}) == len(layouts)
