"""The bands behind the charts: where each part of a model begins and ends."""

from itertools import pairwise

from handmade import node, report
from msgspec import structs

from efficientdet_spec import get_config, iterate_nodes
from reports.reading.bands import bands


def result(model="efficientdet-d0", extra=()):
    names = [*(place.name for place in iterate_nodes(get_config(model))), *extra]
    return report([node(name) for name in names], model=model)


def test_the_bands_of_a_model_follow_one_another():
    values = result(extra=["backbone.blocks.99.conv", "class_head.acts.0@P3 again"])
    found = bands(values)
    assert [(band.part, band.section) for band in found] == [
        *(("backbone", f"P{level}") for level in range(1, 6)),
        *(("BiFPN", f"cell {cell}") for cell in (1, 2, 3)),
        ("class head", "class head"),
        ("box head", "box head"),
        ("other", "other"),
    ]
    names = [node.name for node in values.nodes]
    starts = {band.section: names[band.first] for band in found}
    # A level begins with the block that leads to it, the first cell with the extra levels.
    assert starts["P2"] == "backbone.blocks.1.expand_conv"
    assert starts["cell 1"] == "fpn.resample_p6.conv"
    assert found[0].first == 0 and found[-1].last == len(names) - 1
    assert all(one.last + 1 == other.first for one, other in pairwise(found))


def test_nothing_is_guessed_of_a_model_that_is_not_known():
    values = structs.replace(result(), model="somebody's own")
    assert [(band.part, band.first) for band in bands(values)] == [("other", 0)]
