"""All nodes in few bytes: what the page's script unpacks is what the result file holds."""

import csv
import io
import json

import made_results as made
from handmade import distance, node

from parity.judge.limits import Limit
from parity.judge.verdict import Verdict
from reports.tables.node_csv import node_csv
from reports.tables.node_table import EMA, FIGURES, compact, front_coded, node_table


def decoded(values):
    """What report.js makes of front-coded names."""
    result, before = [], ""
    for shared, rest in zip(values[::2], values[1::2], strict=True):
        before = before[:shared] + rest
        result.append(before)
    return result


def indexed(column):
    return [column["texts"][row] for row in column["rows"]]


def with_numbers(column):
    result = []
    for row in column["rows"]:
        index, *numbers = row.split(" ")
        pieces = column["texts"][int(index)].split("\x01")
        result.append("".join(a + b for a, b in zip(pieces, [*numbers, ""], strict=True)))
    return result


def test_names_come_back():
    names = ["a.b.c", "a.b.d", "", "a", "a.b", "ünï.b", "ünï"]
    assert decoded(front_coded(names)) == names
    assert front_coded(["stem_conv", "stem_bn"]) == [0, "stem_conv", 5, "bn"]


def test_every_node_comes_back():
    odd = node("odd", Verdict.NOT_COVERED, "1 of 2; -3e-05 and \x01 v1.2.3", kind=None, shape=None)
    values = made.nodes(odd, failing=True)
    found = values["nodes"]
    table = json.loads(
        json.dumps(node_table(made.as_record(values), None, {"odd": "closeup-0"}), allow_nan=False)
    )
    assert decoded(table["name"]) == [item["name"] for item in found]
    assert decoded(table["tensor"]) == [item["tensor"] for item in found]
    assert indexed(table["verdict"]) == [item["verdict"] for item in found]
    assert indexed(table["kind"]) == [item["kind"] or "none" for item in found]
    assert with_numbers(table["reason"]) == [item["reason"].replace("\x01", " ") for item in found]
    place = [item["name"] for item in found].index("odd")
    assert table["closeups"] == {str(place): "closeup-0"}
    assert table["suspects"] == {"2": 0}
    assert table["outputs"] == [len(found) - 1]
    assert table["parameters"] is None
    assert [field["key"] for field in table["fields"]] == list(table["figures"])


def test_figures_keep_three_digits_and_limits_all():
    odd = node(
        "odd",
        from_exact=distance(1.23456e-5, float("inf")),
        own=None,
        limit=Limit(16, 65552, "so"),
        inherited=0.98765,
    )
    table = node_table(made.as_record(made.nodes(odd)), None, {})
    figures = {name: values[3] for name, values in table["figures"].items()}
    assert (figures["torch"], figures["torch_relative"]) == ("inf", 1.23e-5)
    assert (figures["torch_limit"], figures["tf_limit"]) == (16, 65552)
    assert figures["own"] is None and figures["inherited"] == 0.988
    assert (compact(0.0), compact(1234.5), compact(2.5)) == (0, 1230, 2.5)


def test_parameters_name_their_variables():
    parameters = node_table(made.as_record(made.nodes()), made.as_record(made.conversion()), {})[
        "parameters"
    ]
    assert decoded(parameters["name"]) == ["backbone.stem_bn.weight", "fpn.cells.0.nodes.0.weights"]
    assert decoded(parameters["variable"]) == ["stem/gamma", "cell_0/WSM"]
    # The second is not a moving average.
    assert parameters["raw"] == [1] and parameters["suffix"] == EMA
    assert indexed(parameters["shape"]) == ["3×4", "3×4"]


def test_wrong_and_disturbed_inputs_are_told():
    values = made.nodes(node("odd", wrong_inputs=("stem",), certain=False))
    table = node_table(made.as_record(values), None, {})
    assert table["wrong"] == {3: ["stem"]} and table["disturbed"] == [3]


def test_csv_has_everything_in_full():
    odd = node("odd", reason='says "so", twice', from_exact=distance(1.23456789e-5, 2.0))
    values = made.nodes(odd)
    rows = list(csv.DictReader(io.StringIO(node_csv(made.as_record(values)))))
    assert [row["node"] for row in rows] == [item["name"] for item in values["nodes"]]
    row = rows[3]
    assert float(row["torch_relative"]) == 1.23456789e-5
    assert row["reason"] == 'says "so", twice' and row["shape"] == "1x4x5x6"
    assert set(row) == {"node", "tensor", "kind", "shape", "verdict", "input", "reason"} | {
        item.key for item in FIGURES
    }


def test_csv_holds_no_formula():
    rows = list(
        csv.DictReader(io.StringIO(node_csv(made.as_record(made.nodes(node("=HYPERLINK(1)"))))))
    )
    assert rows[3]["node"] == "'=HYPERLINK(1)"
