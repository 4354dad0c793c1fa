"""The enumeration of nodes against both networks as they are built."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from configurations import CONFIGURATIONS

import reference_tf
from efficientdet_spec import (
    IMAGES,
    MODELS,
    TINY,
    Activation,
    EfficientDetConfig,
    InputError,
    Node,
    NodeKind,
    Part,
    get_config,
    iterate_nodes,
)
from parity.sides.pytorch import FaithfulReferee
from torch_model.model import build

SIZE = (256, 384)
"""Height and width of images at which every level of every model has more than a pixel."""

QUICK = ["efficientdet-tiny", "efficientdet-d0", "efficientdet-d6"]
SLOW = [pytest.param(name, marks=pytest.mark.heavy) for name in MODELS if name not in QUICK]
VARIANTS = CONFIGURATIONS


@cache
def reference(
    config: EfficientDetConfig, size: tuple[int, int]
) -> tuple[dict[str, NodeKind], list[str]]:
    """The kinds of the nodes of the reference's graph, in its order, and the outputs."""
    built = reference_tf.build(config, *size)
    return dict(built.kinds), built.output_nodes


def differences(
    nodes: list[Node], config: EfficientDetConfig, size: tuple[int, int] = SIZE
) -> list[str]:
    """What tells an enumeration from the reference's graph."""
    kinds, outputs = reference(config, size)
    found = []
    if [node.name for node in nodes] != list(kinds):
        found.append("names or order")
    if {node.name: node.kind for node in nodes} != kinds:
        found.append("kinds")
    if [node.name for node in nodes if node.is_output] != outputs:
        found.append("outputs")
    return found


def inputs_of(config: EfficientDetConfig, nodes: list[Node]) -> dict[str, tuple[str, ...]]:
    """What each node reads in the faithful model."""
    kinds = {node.name: node.kind for node in nodes}
    referee = FaithfulReferee(build(config), kinds, (1, *SIZE, 3))
    return {name: referee.sources(name) for name in kinds}


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_the_nodes_are_those_of_the_reference(name: str) -> None:
    config = get_config(name)
    assert differences(list(iterate_nodes(config, SIZE)), config) == []


@pytest.mark.parametrize("name", VARIANTS)
def test_the_nodes_of_any_configuration(name: str) -> None:
    config = VARIANTS[name]
    nodes = list(iterate_nodes(config, SIZE))
    assert differences(nodes, config) == []
    assert {node.name: node.inputs for node in nodes} == inputs_of(config, nodes)


@pytest.mark.parametrize("name", ["tiny", "d0"])
def test_the_inputs_are_what_the_faithful_model_reads(name: str) -> None:
    config = get_config(name)
    nodes = list(iterate_nodes(config, SIZE))
    assert {node.name: node.inputs for node in nodes} == inputs_of(config, nodes)


def test_levels_of_one_pixel_need_no_resampling() -> None:
    size = (64, 64)
    nodes = list(iterate_nodes(TINY, size))
    assert differences(nodes, TINY, size) == []
    assert len(nodes) < len(list(iterate_nodes(TINY)))
    with pytest.raises(InputError, match="cannot process"):
        list(iterate_nodes(TINY, (64, 640)))


@pytest.mark.parametrize("what", ["names or order", "kinds", "outputs"])
def test_a_wrong_enumeration_is_found(what: str) -> None:
    nodes = list(iterate_nodes(TINY, SIZE))
    if what == "names or order":
        nodes[3], nodes[4] = nodes[4], nodes[3]
    elif what == "kinds":
        nodes[5] = replace(nodes[5], kind=NodeKind.POOL)
    else:
        nodes[5] = replace(nodes[5], is_output=True)
    assert differences(nodes, TINY) == [what]


def test_the_inputs_come_before_their_readers() -> None:
    for config in MODELS.values():
        made = {IMAGES}
        for node in iterate_nodes(config):
            assert made.issuperset(node.inputs), node.name
            made.add(node.name)


def test_the_place_of_each_node_is_data() -> None:
    config = get_config("d7x")
    nodes = {node.name: node for node in iterate_nodes(config)}

    def place(name: str) -> tuple[Part, int, int | None, int | None, int | None, int | None]:
        node = nodes[name]
        return node.part, node.level, node.block, node.cell, node.index, node.repeat

    assert place("backbone.stem_act") == (Part.BACKBONE, 1, None, None, None, None)
    # The first block of a level halves its input, and leads there with all its nodes.
    last = config.backbone.feature_blocks()[2]
    assert place(f"backbone.blocks.{last}.se.gate") == (Part.BACKBONE, 2, last, None, None, None)
    following = f"backbone.blocks.{last + 1}.expand_conv"
    assert place(following) == (Part.BACKBONE, 3, last + 1, None, None, None)
    assert place("fpn.resample_p8.pool") == (Part.BIFPN, 8, None, None, None, None)
    spec = config.cell_nodes(2)[7]
    name = "fpn.cells.2.nodes.7.resamples.2.pool"
    assert place(name) == (Part.BIFPN, spec.level, None, 2, 7, None)
    assert place("class_head.bns.4.P8") == (Part.CLASS_HEAD, 8, None, None, None, 4)
    assert place("box_head.acts.0@P3") == (Part.BOX_HEAD, 3, None, None, None, 0)
    assert place("box_head.predict.depthwise@P3") == (Part.BOX_HEAD, 3, None, None, None, None)


def test_activations_say_which_they_are() -> None:
    for node in iterate_nodes(TINY):
        expected = Activation.SWISH if node.kind is NodeKind.ACTIVATION else None
        assert node.activation is expected
