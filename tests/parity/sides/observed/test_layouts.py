"""How tensors can hold a node's elements, and how they are written and read there."""

import numpy as np
import pytest
import torch

from parity.sides.observed.layouts import layouts
from parity.sides.observed.samples import positions, sample
from parity.sides.pytorch.observation.arranging import nchw_of, put

NODE = (2, 3, 5, 4)
"""N, H, W, C, no two of them equal."""


def held(order, shape):
    """A node's values, and a tensor that holds them."""
    array = np.arange(120, dtype=np.float32).reshape(NODE)
    return array, torch.from_numpy(array.transpose(order).copy()).reshape(shape)


@pytest.mark.parametrize(
    "order, shape",
    [
        ((0, 3, 1, 2), (2, 4, 3, 5)),
        ((0, 1, 2, 3), (2, 3, 5, 4)),
        ((3, 0, 1, 2), (4, 2, 3, 5)),
        ((0, 3, 1, 2), (2, 4, 15)),
        ((0, 1, 2, 3), (30, 4)),
        ((0, 3, 1, 2), (2, 4, 1, 3, 5)),
        ((0, 3, 1, 2), (2, 2, 2, 3, 5)),
    ],
)
def test_a_layout_finds_reads_and_writes_every_element(order, shape):
    array, tensor = held(order, shape)
    found = layouts(shape, NODE)
    wanted = [layout for layout in found if torch.equal(nchw_of(tensor, layout), _nchw(array))]
    assert len(wanted) == 1
    (layout,) = wanted
    index = tuple(map(torch.from_numpy, layout.index(positions(NODE))))
    assert np.array_equal(tensor[index].numpy(), sample(array))
    empty = torch.zeros(shape)
    put(empty, array, layout)
    assert torch.equal(empty, tensor)


def _nchw(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def test_vectors_of_channels_are_maps_of_one_pixel():
    (layout,) = layouts((2, 7), (2, 1, 1, 7))
    array = np.arange(14, dtype=np.float32).reshape(2, 1, 1, 7)
    tensor = torch.zeros(2, 7)
    put(tensor, array, layout)
    assert torch.equal(tensor, torch.arange(14.0).reshape(2, 7))


@pytest.mark.parametrize("shape", [(2, 3, 5), (6, 20), (2, 4, 3, 6), (8, 15, 2)])
def test_what_cannot_hold_a_node(shape):
    found = layouts(shape, NODE)
    assert not found or all(len(layout.shape) == len(shape) for layout in found)
    if np.prod(shape) != 120:
        assert found == ()


def test_the_usual_order_comes_first():
    assert layouts((1, 8, 4, 4), (1, 4, 4, 8))[0].order == (0, 3, 1, 2)
    assert layouts((1, 4, 4, 8), (1, 4, 4, 8))[0].order == (0, 1, 2, 3)
    # As many channels as pixels along a side: any order fits, and the usual one is tried first.
    assert layouts((1, 4, 4, 4), (1, 4, 4, 4))[0].order == (0, 3, 1, 2)


def test_positions_are_the_same_for_equal_shapes():
    assert np.array_equal(positions(NODE), positions(NODE))
    assert positions((1, 1, 1, 1)).tolist() == [[0, 0, 0, 0]] * 4
    assert (positions(NODE) < NODE).all() and positions(NODE)[1].tolist() == [1, 2, 4, 3]
