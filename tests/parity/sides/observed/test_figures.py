"""Which nodes of ports are found, and that what is found of them is what their steps make."""

from dataclasses import replace

import numpy as np
import pytest
from pairing_figures import FAULTS, Opened, figures, ported

WHOLE = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def opened(tiny_conversion):
    # Some fusions of the seeded tiny model all but take an input out at this size, so that
    # several of its tensors are alike.
    return Opened(tiny_conversion, (128, 128))


@pytest.mark.parametrize("style, folded", [("by parts", True), ("in place", False)])
def test_each_partner_of_a_faithful_port_is_what_its_step_makes(opened, style, folded):
    port, truth = ported(opened, style, folded=folded)
    found = figures(opened, port, truth)
    assert (found.shares, found.wrong) == (WHOLE, [])


def test_a_fault_hides_at_most_the_steps_around_it(opened):
    node, change = FAULTS["a fusion times 1.25"]
    port, truth = ported(opened, "functions", fault={node: change})
    found = figures(opened, port, truth)
    assert found.shares >= (1.0, 0.99, 0.99)
    assert found.wrong in ([], [node])


def test_a_wrong_partner_counts(opened):
    port, truth = ported(opened, "functions")

    def moved():
        made = truth()
        name = "backbone.stem_conv"
        return made | {name: made[name] + 1}

    found = figures(opened, port, moved)
    assert found.wrong == ["backbone.stem_conv"]
    assert found.right == found.made - 1 == found.paired - 1


def test_a_convolution_is_not_taken_for_the_one_with_its_bias(tiny_conversion):
    """Where a bias is small, what is made before it is added is much like what is made with it."""
    changed = {
        name: np.full_like(array, 1e-4)
        for name, array in tiny_conversion.arrays.items()
        if name.endswith("se.reduce_conv.bias")
    }
    assert changed
    arrays = tiny_conversion.arrays | changed
    opened = Opened(replace(tiny_conversion, arrays=arrays), (96, 128))
    port, truth = ported(opened, "in place")
    found = figures(opened, port, truth)
    assert (found.shares, found.wrong) == (WHOLE, [])
