"""Each layout puts every element where PyTorch wants it, and back."""

from itertools import permutations

import numpy as np
import pytest

from converter.mappings.layouts import CONVOLUTION, DEPTHWISE, SCALARS, VECTOR, Permuted, Stacked

# All extents differ, so that a wrong axis shows in the shape, and all values differ, so that it
# shows in the elements even where the extents are equal.
HWIO = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
HWC1 = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4, 1)
SQUARE = np.arange(3**4, dtype=np.float32).reshape(3, 3, 3, 3)


def convolution_is_right(layout, kernel):
    turned = layout.to_torch([kernel])
    return all(turned[o, i, y, x] == kernel[y, x, i, o] for y, x, i, o in np.ndindex(*kernel.shape))


def depthwise_is_right(layout, kernel):
    turned = layout.to_torch([kernel])
    return all(turned[c, m, y, x] == kernel[y, x, c, m] for y, x, c, m in np.ndindex(*kernel.shape))


def test_convolution_elements():
    turned = CONVOLUTION.to_torch([HWIO])
    assert turned.shape == (5, 4, 2, 3)
    assert turned[4, 2, 0, 1] == HWIO[0, 1, 2, 4] == 34
    assert convolution_is_right(CONVOLUTION, HWIO)


def test_depthwise_elements():
    turned = DEPTHWISE.to_torch([HWC1])
    assert turned.shape == (4, 1, 2, 3)
    assert turned[3, 0, 1, 0] == HWC1[1, 0, 3, 0] == 15
    assert depthwise_is_right(DEPTHWISE, HWC1)


def test_vector_is_left_alone():
    vector = np.arange(7.0)
    assert VECTOR.to_torch([vector]).tolist() == vector.tolist()
    assert [item.tolist() for item in VECTOR.to_tensorflow(vector)] == [vector.tolist()]


@pytest.mark.parametrize(
    ("right", "check"),
    [(CONVOLUTION, convolution_is_right), (DEPTHWISE, depthwise_is_right)],
    ids=["convolution", "depthwise"],
)
def test_only_one_permutation_is_right(right, check):
    """On a kernel of equal extents no shape tells, only the elements do."""
    passing = [axes for axes in permutations(range(4)) if check(Permuted("", axes), SQUARE)]
    assert passing == [right.to_torch_axes]


def test_scalars_become_one_vector_in_their_order():
    scalars = [np.float32(value) for value in (3, 1, 2)]
    vector = SCALARS.to_torch(scalars)
    assert vector.dtype == np.float32 and vector.tolist() == [3, 1, 2]
    assert [(item.shape, item.item()) for item in SCALARS.to_tensorflow(vector)] == [
        ((), 3),
        ((), 1),
        ((), 2),
    ]


@pytest.mark.parametrize(
    ("layout", "arrays"),
    [
        (CONVOLUTION, [HWIO]),
        (DEPTHWISE, [HWC1]),
        (VECTOR, [np.arange(5.0)]),
        (SCALARS, [np.array(value, np.float32) for value in (0.5, -1, 2)]),
        (Stacked("matrices"), list(HWC1)),
        *((Permuted("", axes), [HWIO]) for axes in permutations(range(4))),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_both_directions_are_inverse(layout, arrays):
    there = layout.to_torch(arrays)
    assert there.flags.c_contiguous and there.flags.owndata and there.flags.writeable
    assert layout.tensorflow_shapes(there.shape) == tuple(array.shape for array in arrays)
    back = layout.to_tensorflow(there)
    assert all(array.flags.c_contiguous for array in back)
    for one, other in zip(back, arrays, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    np.testing.assert_array_equal(layout.to_torch(back), there, strict=True)


@pytest.mark.parametrize("layout", [CONVOLUTION, DEPTHWISE, VECTOR], ids=lambda layout: layout.name)
def test_a_permuted_parameter_is_made_of_one_variable(layout):
    with pytest.raises(ValueError, match="unpack"):
        layout.to_torch([HWIO, HWIO])


def test_layouts_are_told_apart():
    layouts = [CONVOLUTION, DEPTHWISE, VECTOR, SCALARS]
    assert len({layout.name for layout in layouts}) == len(layouts)
