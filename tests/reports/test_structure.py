"""The drawing shows every node's part once, its worst verdict, and the real connections."""

import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from handmade import node, report
from msgspec import structs

from efficientdet_spec import get_config
from parity.judge.verdict import Verdict
from reports.pages.structure import drawing

SVG = "{http://www.w3.org/2000/svg}"


def result(model="efficientdet-d0", **verdicts):
    """Nodes as those of a model: enough of each part for it to be drawn."""
    config = get_config(model)
    names = [("backbone.stem_conv", 2)]
    reduction = 2
    for index, block in enumerate(config.backbone.blocks):
        reduction *= block.stride
        names += [(f"backbone.blocks.{index}.{part}", reduction) for part in ("conv", "bn")]
    names += [(f"fpn.resample_p{level}.pool", 2**level) for level in config.extra_levels()]
    for cell in range(config.fpn_cells):
        for spec in config.cell_nodes(cell):
            names.append((f"fpn.cells.{cell}.nodes.{spec.index}.fuse", 2**spec.level))
    for head in ("class_head", "box_head"):
        for level in config.levels:
            names.append((f"{head}.convs.0.pointwise@P{level}", 2**level))
            names.append((f"{head}.bns.0.P{level}", 2**level))
            names.append((f"{head}.predict.pointwise@P{level}", 2**level))
    nodes = [
        node(
            name,
            Verdict(verdicts.get(name, "rounding")),
            shape=(1, 512 // scale, 512 // scale, 8),
        )
        for name, scale in names
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
    levels, repeats = len(config.levels), 2
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
    wrong = "backbone.blocks.3.bn"
    tree, links = parts(result(**{wrong: verdict}))
    assert f"v-{verdict.replace(' ', '-')} failing" in links[wrong].get("class")
    assert "✕" in "".join(links[wrong].itertext())
    labels = [item.text for item in tree.iter(f"{SVG}text") if item.get("class") == "label"]
    assert labels == [wrong]
    assert sum("failing" in link.get("class") for link in links.values()) == 1


def test_names_are_text():
    hostile = '<img src=x onerror="alert(1)">&"'
    values = result()
    first, second, *others = values.nodes
    nodes = [first, structs.replace(second, name=hostile), *others]
    values = structs.replace(values, nodes=nodes, model="no such model <b>")
    tree, links = parts(values)
    assert hostile in links and not list(tree.iter(f"{SVG}img"))
    # Of a model that is not known the wiring is not known either.
    assert not re.search("fpn", " ".join(links))
