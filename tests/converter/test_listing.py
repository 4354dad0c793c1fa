"""What becomes of every variable, readable in 100 columns and filtered by a pattern."""

from dataclasses import replace

import pytest

from converter.ledger import Ledger, LedgerRow
from converter.listing import account_lines, listing
from efficientdet_spec import MODELS

BLOCK = "efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel"
WIDTHS = (80, 100, 160)


def row(variable, use="excluded", parameter="", layout="", reason="raw twin of an EMA value"):
    return LedgerRow(variable, (3, 3, 32, 1), use, parameter, layout, reason)


ROWS = (
    row(BLOCK),
    row(
        f"{BLOCK}/ExponentialMovingAverage",
        "ema",
        "backbone.blocks.0.depthwise_conv.weight",
        "HWC1->C1HW",
        "EMA preferred",
    ),
    row("box_net/w", "ema", "box_head.w", "vector", "EMA preferred"),
    replace(row("global_step", reason="training step counter"), shape=()),
)
LEDGER = Ledger(
    MODELS["efficientdet-d0"], "ema", ROWS, (), ("one is missing",), ("A note " + "on " * 60,)
)


def test_a_variable_and_its_parameter_stand_in_one_line_where_all_fit():
    assert listing(LEDGER, 160).splitlines()[:10] == [
        "2 EMA values used (EMA preferred)",
        f"  {BLOCK}/ExponentialMovingAverage  3x3x32x1  -> backbone.blocks.0.depthwise_conv.weight"
        "  HWC1->C1HW",
        f"  {'box_net/w'.ljust(83)}  3x3x32x1  -> box_head.w  vector",
        "",
        "1 excluded (raw twin of an EMA value)",
        f"  {BLOCK}  3x3x32x1",
        "",
        "1 excluded (training step counter)",
        "  global_step  scalar",
        "",
    ]


def test_in_a_hundred_columns_the_parameter_has_a_line_of_its_own():
    assert listing(LEDGER, 100).splitlines()[:5] == [
        "2 EMA values used (EMA preferred)",
        f"  {BLOCK}/ExponentialMovingAverage",
        "    3x3x32x1  -> backbone.blocks.0.depthwise_conv.weight  HWC1->C1HW",
        "  box_net/w",
        "    3x3x32x1  -> box_head.w  vector",
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_and_no_name_is_cut(width):
    text = listing(LEDGER, width)
    wide = [line for line in text.splitlines() if len(line) > width]
    # A name alone may be longer than a narrow terminal.
    assert all(line.strip() in {item.variable for item in ROWS} for line in wide)
    for item in ROWS:
        assert item.variable in text and item.parameter in text


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/blocks_0/*", [0, 1]),
        ("backbone.*", [1]),
        ("depthwise", [0, 1]),
        ("box_head.?", [2]),
        ("*step", [3]),
        ("DEPTHWISE", []),
        ("blocks_0*", []),
    ],
)
def test_a_pattern_fits_variables_and_parameters(pattern, found):
    text = listing(LEDGER, 200, pattern)
    lines = text.partition(" variables fit")[0].splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == sorted(
        ROWS[index].variable for index in found
    )
    assert f"\n\n{len(found)} of 4 variables fit {pattern!r}.\n\n" in f"\n\n{text}"


def test_the_account_is_that_of_the_whole_file():
    assert account_lines(LEDGER, 60)[:4] == [
        "efficientdet-d0, 90 classes",
        "  4 variables: 2 EMA used for 0 parameters",
        "  excluded: 1 raw twin of an EMA value, 1 training step",
        "    counter",
    ]
    lines = account_lines(LEDGER, 60)
    assert lines[-1] == "  FINDING: one is missing" and lines[4].startswith("  note: A note on")
    assert max(map(len, lines)) <= 60
    assert listing(LEDGER, 60, "nothing").endswith("\n".join(lines))


def test_every_variable_of_a_checkpoint_is_listed_in_a_hundred_columns(tiny_conversion):
    text = listing(tiny_conversion.ledger, 100)
    assert max(map(len, text.splitlines())) <= 100
    names = {line.strip() for line in text.splitlines()}
    listed = {name.split()[0] for name in names if name}
    assert {item.variable for item in tiny_conversion.ledger.rows} <= listed
