"""From failing nodes to suspects, and from each suspect to what is wrong with it."""

import json
from types import SimpleNamespace

import pytest
import torch

from efficientdet_spec import NodeKind
from parity.diagnosis.suspects import agrees_behind, diagnosed, findings, suspects
from parity.judge.verdict import NodeResult, Verdict
from parity.lockstep.comparison import compare
from parity.results.records.record import plain

BN = "backbone.blocks.3.depthwise_bn"


def epsilon(model):
    model.get_submodule(BN).eps = 1e-5


def transposed(model):
    weight = model.fpn.cells[1].nodes[2].conv.depthwise.weight
    weight.data = weight.data.transpose(2, 3).contiguous()


def shared(model):
    model.class_head.bns[1]["P5"] = model.class_head.bns[1]["P4"]


def relu(model):
    model.backbone.blocks[1].se.act = torch.nn.ReLU()


class Garbage(torch.nn.Module):
    """Reproducible, and no function that anybody would guess."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(0)
        return x + torch.randn(x.shape, generator=generator).to(x) * x.std()


def told_of(lockstep, change, **options):
    model = lockstep.candidate()
    change(model)
    told = lockstep.tell(model, **options)
    json.dumps([plain(item) for item in [*told.suspects, *told.findings]], allow_nan=False)
    return told


def test_nobody_suspects_the_faithful_model(lockstep):
    told = told_of(lockstep, lambda model: None)
    assert told.suspects == told.findings == []


@pytest.mark.parametrize(
    "change, nodes, words",
    [
        (epsilon, (BN,), "epsilon"),
        (transposed, ("fpn.cells.1.nodes.2.conv.depthwise",), "transposed"),
        (shared, ("class_head.bns.1.P5",), "class_head.bns.1.P4"),
        (relu, ("backbone.blocks.1.se.act",), ""),
    ],
)
def test_one_fault_is_one_suspect_with_its_diagnosis(lockstep, change, nodes, words):
    told = told_of(lockstep, change)
    (suspect,) = told.suspects
    assert suspect.nodes == nodes
    assert suspect.verdict is Verdict.FUNCTION_DIFFERS
    assert suspect.tried and suspect.slug
    assert words in suspect.diagnosis
    assert suspect.evidence[0].startswith("reproduced to ")


def test_what_depends_on_a_suspect_is_counted(lockstep):
    suspect = told_of(lockstep, epsilon).first
    nodes = list(lockstep.kinds)
    # Nothing goes around a block without a residual, so all that follows depends on it, but for
    # what only needs earlier levels: here nothing.
    assert suspect.outputs == len(lockstep.outputs)
    assert 0 < suspect.affected <= len(nodes) - nodes.index(BN)
    last = told_of(lockstep, lambda model: model.box_head.predict.pointwise.bias.data.add_(1)).first
    assert len(last.nodes) == last.affected == last.outputs == 5


def test_the_most_harmful_suspects_come_first(lockstep):
    def three(model):
        model.box_head.predict.pointwise.bias.data.add_(1)
        epsilon(model)
        model.class_head.bns[0]["P7"].weight.data.mul_(2)
        model.class_head.bns[1]["P7"].weight.data.mul_(2)

    told = told_of(lockstep, three)
    assert [suspect.nodes[0] for suspect in told.suspects] == [
        BN,
        "box_head.predict.pointwise@P3",
        "class_head.bns.0.P7",
        "class_head.bns.1.P7",
    ]
    sizes = [(suspect.outputs, suspect.affected) for suspect in told.suspects]
    assert sizes == sorted(sizes, reverse=True)


def test_verdicts_of_one_module_make_separate_suspects(lockstep):
    def bad(model):
        with torch.no_grad():
            model.class_head.predict.pointwise.bias[5] = float("nan")

    (suspect,) = told_of(lockstep, bad).suspects
    assert len(suspect.nodes) == 5
    assert suspect.verdict is Verdict.FUNCTION_DIFFERS


def test_no_more_suspects_are_looked_at_than_asked_for(lockstep):
    def several(model):
        epsilon(model)
        transposed(model)
        relu(model)

    for limit in (0, 1, 2, 9):
        told = told_of(lockstep, several, limit=limit)
        assert len(told.suspects) == 3
        assert [bool(item.diagnosis) for item in told.suspects] == [
            number < limit for number in range(3)
        ]


def test_progress_is_told(lockstep):
    model = lockstep.candidate()
    epsilon(model)
    relu(model)
    pairing, known = lockstep.pairing(model), lockstep.known()
    nodes = compare(pairing).nodes
    found, done = findings(pairing, known), []
    diagnosed(pairing, suspects(pairing, nodes), nodes, known, found, 5, lambda *n: done.append(n))
    assert done == [(1, 2), (2, 2)]


# What a node reads


def test_inputs_of_another_node(lockstep):
    def change(model):
        se = model.backbone.blocks[2].se

        def forward(x):
            gate = se.gate(se.expand_conv(se.act(se.reduce_conv(se.pool(x)))))
            # The shape is the same, the tensor is not.
            return se.scale(kept["x"], gate)

        se.forward = forward
        act = model.backbone.blocks[2].depthwise_act
        act.register_forward_pre_hook(lambda module, inputs: kept.update(x=inputs[0]))

    kept = {}
    told = told_of(lockstep, change)
    (suspect,) = told.suspects
    assert suspect.nodes == ("backbone.blocks.2.se.scale",)
    assert suspect.slug == "input-from-other-node"
    assert suspect.diagnosis == (
        "reads backbone.blocks.2.depthwise_bn, backbone.blocks.2.se.gate instead of "
        "backbone.blocks.2.depthwise_act, backbone.blocks.2.se.gate"
    )
    assert "in exact arithmetic the functions are" in suspect.evidence[0]


def test_inputs_in_another_order(lockstep):
    def change(model):
        fuse = model.fpn.cells[0].nodes[4].fuse
        fuse.register_forward_pre_hook(lambda module, inputs: (inputs[0][::-1], inputs[1]))

    told = told_of(lockstep, change)
    (suspect,) = told.suspects
    assert suspect.nodes == ("fpn.cells.0.nodes.4.fuse",)
    assert suspect.slug == "inputs-permuted"
    assert "reads its inputs in another order: " in suspect.diagnosis


# Where there is nothing to look at


def test_outputs_in_another_order(lockstep):
    def change(model):
        forward = model.forward
        model.forward = lambda images: forward(images)[::-1]

    told = told_of(lockstep, change)
    assert {suspect.slug for suspect in told.suspects} == {"output-order"}
    assert told.first.diagnosis == (
        "the candidate returns box_head.predict.pointwise@P3 as its output number 0 instead of "
        "class_head.predict.pointwise@P3"
    )


def test_a_layer_too_many(lockstep):
    class Copy(torch.nn.Module):
        def forward(self, x):
            return x.clone()

    def change(model):
        model.copy = Copy()
        forward = model.forward
        model.forward = lambda images: forward(model.copy(images))

    (suspect,) = told_of(lockstep, change).suspects
    assert (suspect.nodes, suspect.slug) == (("copy",), "layer-extra")
    assert (suspect.affected, suspect.outputs) == (0, 0)


def test_a_node_that_is_left_out_explains_the_next(lockstep):
    def change(model):
        block = model.backbone.blocks[4]
        assert not block.has_residual
        block.se.forward = lambda x: x

    told = told_of(lockstep, change)
    slugs = {suspect.nodes[0]: suspect.slug for suspect in told.suspects}
    parts = ("pool", "reduce_conv", "act", "expand_conv", "gate", "scale")
    assert slugs == {f"backbone.blocks.4.se.{part}": "left-out" for part in parts}
    # What works on the wrong tensor because of that fails too, and is no suspect.
    assert not told.nodes["backbone.blocks.4.project_conv"].verdict.passes
    scale = next(item for item in told.suspects if item.nodes[0].endswith("scale"))
    assert scale.diagnosis == "left out: backbone.blocks.4.se.scale is not called for it"
    assert scale.evidence == (
        "backbone.blocks.4.project_conv reads backbone.blocks.4.depthwise_act instead",
    )


# Where no hypothesis fits


def test_what_nobody_can_explain_is_described(lockstep):
    def change(model):
        model.backbone.blocks[2].depthwise_act = Garbage()

    (suspect,) = told_of(lockstep, change).suspects
    assert suspect.nodes == ("backbone.blocks.2.depthwise_act",)
    assert suspect.tried and suspect.diagnosis is None and suspect.slug is None
    assert suspect.patterns
    assert any("in exact arithmetic the functions are" in line for line in suspect.evidence)


def test_parameters_that_account_for_the_output_are_the_diagnosis(lockstep):
    def change(model):
        weight = model.backbone.blocks[3].expand_conv.weight
        generator = torch.Generator().manual_seed(1)
        weight.data = torch.randn(weight.shape, generator=generator)

    told = told_of(lockstep, change)
    (suspect,) = told.suspects
    assert suspect.nodes == ("backbone.blocks.3.expand_conv",)
    assert suspect.diagnosis
    assert "reproduced to " in suspect.evidence[0]
    assert any("backbone.blocks.3.expand_conv.weight" in line for line in [
        suspect.diagnosis, *suspect.evidence
    ])  # fmt: skip


def test_the_other_values_of_the_checkpoint_are_recognised(lockstep):
    other = {name: array * 1.01 + 0.001 for name, array in lockstep.conversion.arrays.items()}

    def change(model):
        bn = model.get_submodule(BN)
        for name, value in [*bn.named_parameters(), *bn.named_buffers()]:
            if f"{BN}.{name}" in other:
                value.data = torch.from_numpy(other[f"{BN}.{name}"]).to(value)

    told = told_of(lockstep, change, alternatives={"raw": other})
    (suspect,) = told.suspects
    assert suspect.slug == "parameters-raw"
    assert {item.slug for item in told.findings} == {"parameter-raw"}


def test_suspects_of_which_nothing_is_known_come_last(lockstep):
    """What is named comes first, though more depends on a node that is merely not covered."""

    def change(model):
        boxes = model.box_head.predict.pointwise
        boxes.register_forward_hook(lambda module, inputs, output: output.double())
        model.get_submodule("class_head.bns.0.P7").eps = 1e-5

    told = told_of(lockstep, change)
    assert [(item.nodes[0], item.slug) for item in told.suspects] == [
        ("class_head.bns.0.P7", "epsilon"),
        ("box_head.predict.pointwise@P3", None),
    ]
    assert told.suspects[1].outputs > told.suspects[0].outputs


def test_a_node_that_only_inherits_nan_is_no_suspect(lockstep):
    def change(model):
        stem = model.backbone.stem_bn
        stem.register_forward_hook(lambda module, inputs, output: output + float("nan"))

    told = told_of(lockstep, change)
    assert [item.nodes for item in told.suspects] == [("backbone.stem_bn",)]
    assert not told.nodes["backbone.stem_act"].verdict.passes


def test_an_output_that_is_no_image_is_described(lockstep):
    def change(model):
        conv = model.get_submodule("class_head.predict.pointwise")
        conv.register_forward_hook(lambda module, inputs, output: output.long())

    (suspect,) = told_of(lockstep, change).suspects
    assert suspect.slug is None and not suspect.tried
    assert suspect.patterns == ("Its type is int64.",)


def seen(name, verdict):
    shape = None if verdict is Verdict.NOT_COVERED else (1, 2, 2, 1)
    return NodeResult(name, NodeKind.ADD, shape, verdict, "")


@pytest.mark.parametrize(
    "last, agrees",
    [
        (Verdict.EXACT, True),
        (Verdict.ROUNDING, True),
        (Verdict.FUNCTION_DIFFERS, False),
        (Verdict.NOT_COVERED, False),
    ],
)
def test_many_ways_through_what_is_not_seen_are_not_gone_one_by_one(last, agrees):
    # Sixty branches that meet again: 2**60 ways lead from the first node to the last.
    sources = {"start": ()}
    meets = "start"
    for level in range(60):
        left, right, meeting = (f"{side}{level}" for side in ("left", "right", "meet"))
        sources |= {left: (meets,), right: (meets,), meeting: (left, right)}
        meets = meeting
    sources["last"] = (meets,)
    results = {name: seen(name, Verdict.NOT_COVERED) for name in sources}
    results["last"] = seen("last", last)
    referee = SimpleNamespace(sources=sources.__getitem__)
    assert agrees_behind("start", results, referee) is agrees


def test_a_tensor_that_something_writes_to_is_named_where_it_is_read(lockstep):
    def clobber(model):
        blocks = model.backbone.blocks
        following = blocks[sorted(model.backbone.level_of_block)[2] + 1]
        inner = following.forward

        def forward(x):
            made = inner(x)
            x.mul_(1.001)
            return made

        following.forward = forward

    (suspect,) = told_of(lockstep, clobber).suspects
    assert suspect.slug == "input-overwritten"
    assert suspect.diagnosis.startswith("reads backbone.blocks.")
    assert suspect.diagnosis.endswith(", to which something has written since it was made")
