"""The drawing shows every node's part once, its worst verdict, and the real connections."""

from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from handmade import node, report
from msgspec import structs

from efficientdet_spec import get_config, iterate_nodes
from efficientdet_spec.wiring import bifpn, qufpn
from parity.judge.verdict import Verdict
from reports.pages import structure
from reports.pages.structure import drawing

SVG = "{http://www.w3.org/2000/svg}"


def result(model="efficientdet-d0", **verdicts):
    """Every node of a model as a result lists it."""
    nodes = [
        node(place.name, Verdict(verdicts.get(place.name, "rounding")))
        for place in iterate_nodes(get_config(model))
    ]
    return report(nodes, model=model)


def parts(values):
    svg = drawing(values)
    tree = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
    return tree, {
        unquote(link.get("href")).removeprefix("#node="): link for link in tree.iter(f"{SVG}a")
    }


@pytest.mark.parametrize("model", ["efficientdet-d0", "efficientdet-d6", "efficientdet-d7x"])
def test_every_part_is_drawn_once_with_its_connections(model):
    values, config = result(model), get_config(model)
    tree, links = parts(values)
    levels, repeats = len(config.levels), config.head_repeats + 1
    blocks = 1 + len(config.backbone.blocks)
    cells = sum(len(config.cell_nodes(cell)) for cell in range(config.fpn_cells))
    assert len(links) == blocks + len(config.extra_levels()) + cells + 2 * levels * repeats
    arrows = [item for item in tree.iter(f"{SVG}path") if item.get("class") == "arrow"]
    inputs = sum(
        len(spec.inputs) for cell in range(config.fpn_cells) for spec in config.cell_nodes(cell)
    )
    assert len(arrows) == inputs
    _, _, width, height = map(float, tree.get("viewBox").split())
    for box in tree.iter(f"{SVG}rect"):
        assert 0 <= float(box.get("x")) <= width - float(box.get("width"))
        assert 0 <= float(box.get("y")) <= height - float(box.get("height"))


@pytest.mark.parametrize("verdict", [verdict.value for verdict in Verdict if not verdict.passes])
def test_a_part_has_its_worst_verdict_and_says_which_node(verdict):
    wrong = "backbone.blocks.3.project_bn"
    tree, links = parts(result(**{wrong: verdict}))
    assert f"v-{verdict.replace(' ', '-')} failing" in links[wrong].get("class")
    assert "✕" in "".join(links[wrong].itertext())
    labels = [item.text for item in tree.iter(f"{SVG}text") if item.get("class") == "label"]
    assert labels == [wrong]
    assert sum("failing" in link.get("class") for link in links.values()) == 1


def test_labels_do_not_overlap():
    wrong = {
        place.name: "function differs"
        for place in iterate_nodes(get_config("efficientdet-d0"))
        if place.name.endswith("_bn")
    }
    tree, links = parts(result(**wrong))
    labels = [item for item in tree.iter(f"{SVG}text") if item.get("class") == "label"]
    spans = []
    for item in labels:
        wide = 7 * len(item.text)
        x = float(item.get("x")) - (wide if item.get("text-anchor") == "end" else 0)
        y = float(item.get("y"))
        spans.append((x, y - 9, x + wide, y + 2))
    others = [
        (x, y, x + float(item.get("width")), y + float(item.get("height")))
        for item in tree.iter(f"{SVG}rect")
        for x, y in [(float(item.get("x")), float(item.get("y")))]
    ]
    assert len(labels) > 4
    for place, one in enumerate(spans):
        for other in [*spans[place + 1 :], *others]:
            assert (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
    # All of them bear a cross, named or not.
    assert sum("failing" in link.get("class") for link in links.values()) > len(labels)


def test_a_box_says_what_it_stands_for():
    _, links = parts(result("efficientdet-d7x"))
    said = {link.find(f"{SVG}title").text.partition(":")[0] for link in links.values()}
    assert {
        "stem",
        "block 54",
        "input P8",
        "BiFPN cell 8, node 9",
        "class head, P3, repeat 5",
        "box head, P8, prediction",
    } <= said
    assert "other nodes" not in said


def test_layers_of_the_candidate_alone_are_in_a_box_of_their_own():
    again = "class_head.convs.0.pointwise@P3 again"
    lone = node("backbone.blocks.99.conv"), node(again, Verdict.NOT_COVERED)
    names = [item.name for item in result().nodes]
    values = report([*map(node, names), *lone], model="efficientdet-d0")
    _, links = parts(values)
    assert links[again].find(f"{SVG}title").text.startswith("other nodes: not covered; 2 nodes")


def test_names_are_text():
    hostile = '<img src=x onerror="alert(1)">&"'
    values = result()
    lone = node(hostile, Verdict.NOT_COVERED)
    values = report([lone, *map(node, (item.name for item in values.nodes))])
    values = structs.replace(values, model="no such model <b>")
    tree, links = parts(values)
    # Of a model that is not known no place is known either.
    assert list(links) == [hostile] and not list(tree.iter(f"{SVG}img"))
    assert not [item for item in tree.iter(f"{SVG}path") if item.get("class") == "arrow"]


@pytest.mark.parametrize("wiring", [bifpn, qufpn])
def test_no_two_nodes_of_a_cell_are_drawn_at_one_place(wiring):
    config = replace(get_config("tiny"), fpn_nodes=wiring(range(3, 8)))
    nodes = config.cell_nodes(0)
    passes = structure._passes(nodes)
    places = [(column, node.level) for column, node in zip(passes, nodes, strict=True)]
    assert len(set(places)) == len(places)
    assert sorted(set(passes)) == list(range(2 if wiring is bifpn else 5))
