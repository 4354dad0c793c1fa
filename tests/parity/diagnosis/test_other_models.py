"""Whatever a model's hyperparameters are: faithful ports pass, and the release's habits are named.

The reference is the faithful model itself; that both frameworks agree on it is shown elsewhere.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from other_models import MODELS, PLAIN_STAGES, TINY, OtherModel
from port_styles import STYLES, Port
from sampling import one_in

from efficientdet_spec import Activation, Fusion, NodeKind
from efficientdet_spec.wiring import qufpn
from parity.process.outcome import Outcome

A = Activation


@cache
def reference(name, side=128):
    return OtherModel(MODELS[name], (side, side))


@pytest.mark.parametrize("name, style", one_in(44, [(m, s) for m in MODELS for s in STYLES]))
def test_a_faithful_port_without_names_passes(name, style):
    at = reference(name)
    told = at.tell(Port(at.referee, at.outputs, STYLES[style]()).eval(), observed=True)
    dead = [node for node in told.failing if not bool(_values(at, node).any())]
    # What is zero throughout, by weights below zero or by relu, is not covered on this input.
    assert (told.outcome, told.failing, told.statements) == (Outcome.PARITY, dead, [])


def _values(at, node):
    found = {}
    name, _, level = node.partition("@")

    def keep(module, given, made):
        found.setdefault(len(found), made)

    with at.faithful.get_submodule(name).register_forward_hook(keep):
        images = torch.from_numpy(at.images).permute(0, 3, 1, 2)
        with torch.no_grad():
            at.faithful(images)
    return found[int(level[1:]) - at.config.min_level if level else 0]


SLUGS = {
    A.SWISH: {"swish"},
    A.RELU: {"relu"},
    # Where no value is above 6 either name is right, and the name says so.
    A.RELU6: {"relu6", "relu"},
    A.HARD_SWISH: {"hard-swish"},
    A.MISH: {"mish"},
}
WITH = {A.SWISH: "release", A.RELU: "relu", A.RELU6: "lite", A.HARD_SWISH: "hard swish",
        A.MISH: "mish"}  # fmt: skip


@pytest.mark.parametrize(
    "own, other", one_in(6, [(one, two) for one in A for two in A if one is not two])
)
def test_an_activation_in_the_place_of_another_is_named(own, other):
    at = reference(WITH[own])
    told = at.tell(at.other(activation=other), limit=3)
    assert told.outcome is Outcome.DIFFERENCE
    assert {at.kinds[name] for name in told.failing} == {NodeKind.ACTIVATION}
    named = [suspect for suspect in told.suspects if suspect.slug]
    assert len(named) == 3
    for suspect in named:
        assert suspect.slug in SLUGS[other]
        if other is A.RELU6 and suspect.slug == "relu":
            assert "or ReLU6 (no value is above 6)" in suspect.diagnosis


FUSIONS = [
    ("release", Fusion.SOFTMAX_ATTENTION, "softmax"),
    ("softmax", Fusion.FAST_ATTENTION, "fast-attention"),
    ("channels", Fusion.FAST_ATTENTION, "weights-of-one-channel"),
    ("softmax of channels", Fusion.CHANNEL_FAST_ATTENTION, "fast-attention"),
    ("lite", Fusion.FAST_ATTENTION, "fast-attention-of-ones"),
    ("softmax", Fusion.SUM, "plain-sum"),
    ("channels", Fusion.CHANNEL_SOFTMAX_ATTENTION, "softmax"),
    ("channels", Fusion.SUM, "plain-sum"),
    ("softmax of channels", Fusion.SOFTMAX_ATTENTION, "weights-of-one-channel"),
    ("softmax of channels", Fusion.FAST_ATTENTION, "weights-of-one-channel"),
    ("lite", Fusion.SOFTMAX_ATTENTION, "plain-mean"),
]


@pytest.mark.parametrize("name, other, slug", one_in(4, FUSIONS))
def test_a_fusion_in_the_place_of_another_is_named(name, other, slug):
    at = reference(name)
    model = at.other(fusion=other)
    if at.config.fusion.is_per_channel and other.is_weighted and not other.is_per_channel:
        for path, weights in at.faithful.named_parameters():
            if path.endswith(".weights"):
                node = model.get_submodule(path.removesuffix(".weights"))
                node.weights.data = weights.detach().mean(1)
    told = at.tell(model, limit=3)
    assert {at.kinds[node] for node in told.failing} == {NodeKind.FUSE}
    assert [suspect.slug for suspect in told.suspects][:3] == [slug] * 3


def relu(style, layer, given, step):
    return given[0].relu()


def swish(style, layer, given, step):
    return F.silu(given[0])


def one_weight(style, layer, given, step):
    maps, weights = given
    shares = F.relu(weights.mean(1))
    shares = shares / (shares.sum() + 1e-4)
    return sum(x * share for x, share in zip(maps, shares, strict=True))


ACT = "fpn.cells.0.nodes.3.act"
IN_PORTS = [
    ("lite", "by parts", ACT, relu, "relu"),
    ("channels", "functions", "fpn.cells.0.nodes.3.fuse", one_weight, "weights-of-one-channel"),
    ("hard swish", "by parts", ACT, swish, "swish"),
    # Its map has not as many rows as channels, which would leave open how it is held.
    ("mish", "channels last", "fpn.cells.0.nodes.2.act", swish, "swish"),
    ("lite", "in place", "backbone.blocks.2.expand_act", swish, "swish"),
]


@pytest.mark.parametrize("name, style, node, fault, slug", one_in(4, IN_PORTS))
def test_a_mistake_of_a_port_without_names_is_found_at_its_node(name, style, node, fault, slug):
    at = reference(name)
    port = Port(at.referee, at.outputs, STYLES[style](), {node: fault}).eval()
    told = at.tell(port, observed=True, limit=1)
    assert (told.failing, told.suspects[0].slug) == ([node], slug)


DEPARTURES = [
    # The model, what is other in the candidate, and what is said of its structure.
    ("lite", {"activation": A.SWISH}, ["activation-other"] * 3),
    ("lite", {"backbone_stages": None}, ["squeeze-excite-extra"]),
    ("release", {"backbone_stages": PLAIN_STAGES}, ["squeeze-excite-missing"]),
    ("release", {"conv_bn_act": True}, ["activation-missing", "activation-extra"]),
    ("norm before activation", {"conv_bn_act": False}, ["activation-missing", "activation-extra"]),
    ("release", {"conv_after_downsample": True}, ["pool-order"]),
    ("pool first", {"conv_after_downsample": False}, ["pool-order"]),
    ("release", {"resample_bn": False}, ["batch-norm-missing"]),
    ("no norm of features", {"resample_bn": True}, ["batch-norm-extra"]),
    ("release", {"separable_conv": False}, ["convolution-not-separable"] * 2),
    ("whole convolutions", {"separable_conv": True}, ["convolution-separable"] * 2),
    ("release", {"head_survival_probability": 0.8}, ["residual-extra"]),
    ("residuals", {"head_survival_probability": None}, ["residual-missing"]),
    ("release", {"fpn_nodes": qufpn(TINY.levels)}, ["wiring-other"]),
    ("quad FPN", {"fpn_nodes": None}, ["wiring-other"]),
]


@pytest.mark.parametrize("name, changes, due", one_in(4, DEPARTURES))
def test_what_a_candidate_is_built_of_otherwise_is_said(name, changes, due):
    at = reference(name)
    told = at.tell(at.other(**changes), observed=True)
    assert told.outcome is Outcome.DIFFERENCE
    assert [item.slug for item in told.statements] == due
    for item in told.statements:
        assert set(item.nodes) <= set(at.kinds) and item.nodes


@pytest.mark.parametrize("own, other", one_in(2, [(A.RELU6, A.RELU), (A.RELU, A.RELU6)]))
def test_activations_that_are_alike_on_all_values_count_as_others_too(own, other):
    at = OtherModel(replace(TINY, activation=own), (96, 128))
    told = at.tell(at.other(activation=other), observed=True)
    acts = [node for node, kind in at.kinds.items() if kind is NodeKind.ACTIVATION]
    backbone = [node for node in acts if node.startswith("backbone.")]
    failing = [node for node in backbone if told.nodes[node].verdict.fails]
    first = told.statements[0]
    names = f"{other.value} instead of {at.config.activation.value}"
    assert first.slug == "activation-other" and set(first.nodes) == set(backbone)
    alike = f"; at {len(backbone) - len(failing)} of these no value tells the two apart, as none is"
    due = f"{len(backbone)} of {len(backbone)} activations of the backbone are {names}{alike}"
    assert 0 < len(failing) < len(backbone) and first.text.startswith(due)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "changes, due",
    [
        ({"min_level": 2, "max_level": 6}, {"features-other", "levels-other"}),
        ({"min_level": 4, "max_level": 8}, {"levels-other"}),
        ({"max_level": 8}, {"levels-other"}),
    ],
)
def test_levels_that_are_off_are_said(changes, due):
    at = reference("release", 256)
    told = at.tell(at.other(**changes), observed=True)
    assert {item.slug for item in told.statements} == due
