"""Lines of a given width."""

import pytest

from parity.results.text.layout import (
    Column,
    figure,
    labelled,
    listed,
    plural,
    roundings,
    same_at,
    shortened,
    table,
    wrapped,
)

NAMES = ["backbone.blocks.10.depthwise_conv", "stem"]


def columns():
    return [
        Column("node", NAMES),
        Column("free", ["1.0e-05", "0"], right=True),
        Column("shape", ["1x2x3x4", "-"], 1),
        Column("at", ["[0,0,0,0]", "-"], 2),
    ]


def test_a_table_lines_up_names_and_figures():
    assert table(columns(), 100) == [
        "  node                                  free  shape    at",
        "  backbone.blocks.10.depthwise_conv  1.0e-05  1x2x3x4  [0,0,0,0]",
        "  stem                                     0  -        -",
    ]


def test_columns_go_by_rank_where_the_width_is_too_small():
    assert table(columns(), 60)[0].split() == ["node", "free", "shape"]
    assert table(columns(), 50)[0].split() == ["node", "free"]
    assert max(map(len, table(columns(), 50))) <= 50


def test_only_then_are_names_shortened_and_figures_never():
    for width in range(25, 44):
        lines = table(columns(), width)
        assert max(map(len, lines)) <= width
        assert lines[1].endswith("  1.0e-05") and "..." in lines[1]
        assert lines[1].lstrip().startswith("backb")


@pytest.mark.parametrize("width", range(12, 40))
def test_a_name_keeps_both_its_ends(width):
    found = shortened(NAMES[0], width)
    assert len(found) == min(width, len(NAMES[0]))
    assert found == NAMES[0] or (found[:4], found[-4:]) == ("back", "conv")


def test_texts_wrap_beside_their_labels():
    assert labelled("culprit", "one two three four", 24) == [
        "  culprit    one two",
        "             three four",
    ]
    assert wrapped("one two-three", 12, indent="  ") == ["  one", "  two-three"]
    # A path may be longer than a line.
    assert wrapped("a" * 20, 12, indent="  ") == ["  " + "a" * 10] * 2


def test_lists_say_how_many_more_there_are():
    names = ["a", "b", "c", "d", "e"]
    assert listed(names, None) == "a, b, c, d, e"
    assert listed(names, 4) == "a, b, c, d, e"
    assert listed(names, 3) == "a, b, c and 2 more"
    assert same_at(["a"], verbose=False) == "the same at 1 more place: a"
    assert same_at(names, verbose=False) == "the same at 5 more places: a, b, c and 2 more"
    assert same_at(names, verbose=True) == "the same at 5 more places: a, b, c, d, e"


def test_figures():
    assert [plural(count, "node") for count in (0, 1, 1062)] == ["0 nodes", "1 node", "1,062 nodes"]
    assert [figure(value) for value in (None, 0, 1.26e-5)] == ["-", "0", "1.3e-05"]
    assert [roundings(value) for value in (None, 2.46, 1234.5, float("nan"))] == [
        "-",
        "2.5",
        "1.2e+03",
        "nan",
    ]
