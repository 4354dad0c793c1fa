"""How a changed parameter came from the checkpoint's is told from the values alone."""

import numpy as np
import pytest

from parity.diagnosis.relations import Pool, relate

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


KERNEL, SQUARE, VECTOR = draw(6, 4, 3, 3), draw(5, 5, 3, 3), np.abs(draw(12)) + 0.1
TWIN, OTHER, EXPAND = draw(12), draw(12), draw(4, 6, 3, 3)
POOL = Pool({"a.weight": KERNEL, "b.bias": VECTOR, "c.bias": OTHER, "se.expand": EXPAND})


def with_value(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def bfloat16(array):
    return (array.view(np.uint32) + 0x7FFF + (array.view(np.uint32) >> 16 & 1) & 0xFFFF0000).view(
        np.float32
    )


def hwio_memory(array):
    return array.transpose(2, 3, 1, 0).reshape(array.shape)


RELATIONS = {
    "another parameter": (VECTOR, OTHER, "other-parameter", "that of c.bias"),
    "another, transposed": (
        KERNEL, EXPAND.swapaxes(0, 1), "other-parameter", "se.expand, transposed",
    ),
    "raw": (VECTOR, TWIN, "raw", "raw value"),
    "transposed": (KERNEL, KERNEL.swapaxes(2, 3), "transposed", "height and width"),
    "flipped": (KERNEL, KERNEL[:, :, ::-1, ::-1], "flipped", "height and width"),
    "rows flipped": (KERNEL, KERNEL[:, :, ::-1], "flipped", "rows"),
    "rotated": (KERNEL, np.rot90(KERNEL, 3, (2, 3)), "rotated", "270"),
    "in and out": (SQUARE, SQUARE.swapaxes(0, 1), "in-out", "exchanged"),
    "HWIO memory": (KERNEL, hwio_memory(KERNEL), "reshaped", "HWIO"),
    "HWIO layout": (KERNEL, KERNEL.transpose(2, 3, 1, 0), "layout", "HWIO"),
    "reversed": (VECTOR, VECTOR[::-1], "reversed", "output channels"),
    "input reversed": (KERNEL, KERNEL[:, ::-1], "reversed-input", "input channels"),
    "moved": (VECTOR, np.roll(VECTOR, -1), "moved", "-1"),
    "permuted": (KERNEL, KERNEL[[0, 3, 2, 1, 4, 5]], "permuted", "2 of 6"),
    "negated": (KERNEL, -KERNEL, "negated", "sign"),
    "absolute": (KERNEL, np.abs(KERNEL), "absolute", "sign"),
    "zeros": (KERNEL, np.zeros_like(KERNEL), "zeros", "0 throughout"),
    "ones": (VECTOR, np.ones_like(VECTOR), "ones", "1 throughout"),
    "constant": (VECTOR, np.full_like(VECTOR, 0.5), "constant", "0.5"),
    "float16": (KERNEL, KERNEL.astype(np.float16).astype(np.float32), "rounded", "float16"),
    "bfloat16": (KERNEL, bfloat16(KERNEL), "rounded", "bfloat16"),
    "scaled": (KERNEL, KERNEL * np.float32(1.25), "scaled", "times 1.25"),
    "offset": (VECTOR, VECTOR + np.float32(0.001), "offset", "plus 0.001"),
    "root": (VECTOR, np.sqrt(VECTOR), "root", "square root"),
    "one value": (
        KERNEL, with_value(KERNEL, (3, 1, 0, 2), 0.5), "different", "0.5 at [3, 1, 0, 2]",
    ),
    "some values": (
        KERNEL, with_value(KERNEL, (slice(1, 3), 1), 0.5), "different", "output channels 1, 2",
    ),
    "not finite": (VECTOR, with_value(VECTOR, 2, np.nan), "not-finite", "1 of 12"),
    "shape": (VECTOR, draw(13), "shape", "[13], not [12]"),
    "empty": (VECTOR, draw(0), "shape", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", RELATIONS)
def test_a_relation_is_found(name):
    ours, theirs, slug, title = RELATIONS[name]
    found = relate("x", ours, theirs, POOL, {"raw": TWIN})
    assert found is not None and (found.slug, title in found.title) == (slug, True), found


def test_equal_values_have_no_relation():
    assert relate("a.weight", KERNEL, KERNEL.copy(), POOL, {}) is None
    zero = np.zeros(3, np.float32)
    assert relate("z", zero, -zero, POOL, {}) is None


def test_another_type_does_not_hide_a_relation():
    found = relate("x", VECTOR, OTHER.astype(np.float64), POOL, {})
    assert (found.slug, found.title) == ("other-parameter", "that of c.bias")


def test_unrelated_values_are_only_counted():
    found = relate("x", KERNEL, draw(6, 4, 3, 3), POOL, {"raw": SQUARE})
    assert found.slug == "different"
    assert "216 of 216 values" in found.title and "correlation" in found.title


def test_a_value_that_several_parameters_hold_names_one():
    pool = Pool({"a": TWIN, "b": TWIN, "x": VECTOR})
    assert relate("x", VECTOR, TWIN, pool, {}).title == "that of a (and 1 more)"


def test_a_fusion_weight_of_one_value_is_told():
    ours, theirs = np.float32([[0.5]])[0], np.float32([[0.75]])[0]
    assert relate("w", ours, theirs, POOL, {}).slug == "different"


def with_last_bit(array, *indices):
    array = array.copy()
    for index in indices:
        array[index] = np.nextafter(array[index], np.float32(99))
    return array


ONES = np.ones(3, np.float32) * np.float32(1.25)
NEAR_ONE = np.float32([1, 1.0000004, 0.9999996, 1.0000009])


@pytest.mark.parametrize(
    "ours, indices",
    [
        (KERNEL, [(0, 0, 0, 0)]),
        (VECTOR, [0, 3, 5]),
        (ONES, [1]),
        (ONES, [0, 2]),
        (NEAR_ONE, [3]),
        (np.float32([100, 0.001, 0.002, 0.003]), [0]),
    ],
)
def test_last_bits_are_no_factor_and_no_offset(ours, indices):
    found = relate("x", ours, with_last_bit(ours, *indices), POOL, {})
    assert found.slug == "different", found


def test_one_value_is_told_with_the_digits_that_differ():
    found = relate("x", VECTOR, with_last_bit(VECTOR, 4), POOL, {})
    made, right = found.title.removeprefix("different in one value: ").split(" at [4], not ")
    assert made != right
    assert np.float32(made) == np.nextafter(np.float32(right), np.float32(99))


@pytest.mark.parametrize("factor, text", [(1.0000002, "times 1.0000002"), (1.00001, "1.00001")])
def test_a_factor_near_one_is_told_as_it_is(factor, text):
    ours = np.abs(draw(50, 4)) + np.float32(0.5)
    found = relate("x", ours, (ours * np.float32(factor)), POOL, {})
    assert (found.slug, text in found.title) == ("scaled", True), found
