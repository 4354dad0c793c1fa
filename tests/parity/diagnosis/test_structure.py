"""Findings about a candidate's parameters and settings, which no output need show."""

import json
import warnings

import numpy as np
import pytest
import torch

from parity.diagnosis.suspects import findings
from parity.sides.naming import read_names
from torch_model.layers import pad_same

CONV = "backbone.blocks.3.expand_conv"
BN = "backbone.blocks.3.depthwise_bn"
FUSION = "fpn.cells.0.nodes.4.weights"


@pytest.fixture
def found(lockstep):
    """The findings about a candidate after a change, as slug and place, and their texts."""

    def look(change, **options):
        model = lockstep.candidate()
        change(model)
        result = findings(lockstep.pairing(model, **options), lockstep.known())
        return [(item.slug, item.place) for item in result], [item.text for item in result]

    return look


def test_there_are_none_about_the_faithful_model(found):
    assert found(lambda model: None) == ([], [])


def test_settings_of_batch_norms(found):
    def change(model):
        model.get_submodule(BN).momentum = 0.1

    assert found(change) == ([("momentum", BN)], ["its momentum is 0.1 instead of 0.01"])

    def change(model):
        model.get_submodule(BN).eps = 1e-5

    assert found(change) == ([("eps", BN)], ["its eps is 1e-05 instead of 0.001"])

    def change(model):
        model.get_submodule(BN).momentum = None

    assert found(change)[0] == [("momentum", BN)]


def test_training_mode(found):
    places, texts = found(lambda model: model.get_submodule(BN).train())
    assert places == [("training", BN)]
    assert "training mode" in texts[0]


def test_a_parameter_that_differs_in_its_last_bit(found):
    def change(model):
        weight = model.get_submodule(CONV).weight.data
        first = weight[0, 0, 0, 0].item()
        weight[0, 0, 0, 0] = float(np.nextafter(np.float32(first), np.float32(2)))

    places, texts = found(change)
    assert len(places) == 1
    slug, place = places[0]
    assert slug.startswith("parameter-") and place == f"{CONV}.weight"
    assert texts[0].startswith("the candidate's value is ")


def test_statistics_and_biases_of_shared_layers(found):
    def change(model):
        model.get_submodule(BN).running_var[3] *= 2
        model.box_head.predict.pointwise.bias.data[1] += 1

    assert [place for _, place in found(change)[0]] == [
        f"{BN}.running_var",
        "box_head.predict.pointwise.bias",
    ]


def test_weights_of_fusions(found):
    def change(model):
        model.get_parameter(FUSION).data[0] += 0.5

    assert [place for _, place in found(change)[0]] == [FUSION]

    def change(model):
        del model.fpn.cells[0].nodes[4].weights

    assert found(change) == (
        [("parameter-missing", FUSION)],
        ["the candidate has no such parameter"],
    )


def test_parameters_too_many(found):
    def change(model):
        conv = model.get_submodule("box_head.predict.depthwise")
        conv.bias = torch.nn.Parameter(torch.zeros(conv.out_channels))

    places, texts = found(change)
    assert places == [("parameter-extra", "box_head.predict.depthwise.bias")]
    assert "all zero" in texts[0]

    def change(model):
        conv = model.get_submodule("box_head.predict.depthwise")
        conv.bias = torch.nn.Parameter(torch.full((conv.out_channels,), -0.5))

    assert "values up to 0.5" in found(change)[1][0]


def test_parameters_too_few(found):
    def change(model):
        model.get_submodule(CONV.replace("expand_conv", "se.reduce_conv")).bias = None

    place = CONV.replace("expand_conv", "se.reduce_conv.bias")
    assert found(change)[0] == [("parameter-missing", place)]


def test_another_structure_is_held_to_what_it_has(found, lockstep, tmp_path):
    """A convolution inside another module, and no fusion weights under the faithful names."""

    class Wrapped(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.inner = conv

        def forward(self, x):
            return self.inner(x)

    path = tmp_path / "names.json"
    path.write_text(f'{{"{CONV}": "{CONV}", "{BN}": "{BN}"}}')
    naming = read_names(path, list(lockstep.kinds))

    def wrap(model):
        block = model.get_submodule(CONV.rpartition(".")[0])
        block.expand_conv = Wrapped(block.expand_conv)

    assert found(wrap, naming=naming) == ([], [])

    def wrap_and_change(model):
        wrap(model)
        model.get_submodule(CONV).inner.weight.data[0, 0] += 1

    assert [place for _, place in found(wrap_and_change, naming=naming)[0]] == [f"{CONV}.weight"]


def test_weights_that_are_computed_are_compared_as_what_they_are(found):
    norms = torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm
    for norm in norms:

        def change(model, norm=norm):
            norm(model.get_submodule(CONV))

        def change_and_spoil(model, norm=norm):
            conv = norm(model.get_submodule(CONV))
            next(p for p in conv.parameters() if p.dim() == 4 and p.shape[1:].numel() == 1).data[
                2
            ] *= 1.5

        with warnings.catch_warnings():
            # The older of the two is deprecated, and still in use.
            warnings.simplefilter("ignore", FutureWarning)
            assert found(change) == ([], [])
            places, texts = found(change_and_spoil)
        assert places == [("parameter-different", f"{CONV}.weight")]
        assert "in output channels 2" in texts[0]


def test_a_container_does_not_own_what_is_named_for_other_nodes(found, lockstep, tmp_path):
    """A port names a whole block for its last layer, and the block's layers for themselves."""

    class Block(torch.nn.Module):
        def __init__(self, conv, norm):
            super().__init__()
            self.conv, self.norm = conv, norm

        def forward(self, x):
            return self.norm(self.conv(x))

    first, second = "backbone.blocks.3.expand_conv", "backbone.blocks.3.expand_bn"

    def wrap(model):
        block = model.backbone.blocks[3]
        block.expand_conv = Block(block.expand_conv, block.expand_bn)
        block.expand_bn = torch.nn.Identity()

    path = tmp_path / "names.json"
    path.write_text(json.dumps({first: f"{first}.conv", second: first}))
    naming = read_names(path, list(lockstep.kinds))
    assert found(wrap, naming=naming) == ([], [])

    def wrap_and_change(model):
        wrap(model)
        model.get_submodule(f"{first}.norm").momentum = 0.1
        model.get_submodule(first).gain = torch.nn.Parameter(torch.full((1,), 0.125))

    # What is none of the checkpoint's is one too many, and comes last.
    assert found(wrap_and_change, naming=naming)[0] == [
        ("momentum", second),
        ("parameter-extra", f"{second}.gain"),
    ]
    # A layer that the names leave out is nobody's mistake either.
    path.write_text(json.dumps({second: first}))
    assert found(wrap, naming=read_names(path, list(lockstep.kinds))) == ([], [])


def test_what_acts_most_comes_first(found):
    def change(model):
        conv = model.get_submodule("backbone.stem_conv")
        conv.bias = torch.nn.Parameter(torch.ones(conv.out_channels))
        model.get_submodule(CONV).weight.data[0, 0] += 1
        model.get_submodule(BN).momentum = 0.1
        model.get_submodule("fpn.resample_p6.bn").eps = 1e-5
        model.get_submodule("class_head.bns.0.P3").train()
        del model.fpn.cells[0].nodes[4].weights

    assert [slug for slug, _ in found(change)[0]] == [
        "training",
        "eps",
        "momentum",
        "parameter-different",
        "parameter-missing",
        "parameter-extra",
    ]


class DropConnect(torch.nn.Module):
    """As other people write it."""

    def __init__(self, rate):
        super().__init__()
        self.drop_prob = rate


@pytest.mark.parametrize(
    "layer, told",
    [
        (torch.nn.Dropout(0.2), True),
        (torch.nn.Dropout(0.0), False),
        (DropConnect(0.1), True),
        (torch.nn.ReLU(), False),
    ],
)
def test_what_drops_values_is_told_wherever_it_is(found, layer, told):
    def change(model):
        model.eval()
        model.backbone.extra = layer.train()

    places = found(change)[0]
    assert places == ([("training", "backbone.extra")] if told else [])
    assert found(lambda model: (change(model), layer.eval())) == ([], [])


def test_parameters_in_bfloat16_are_compared(found):
    def change(model):
        model.get_submodule(CONV).bfloat16()

    assert [slug for slug, _ in found(change)[0]] == ["parameter-rounded"]


class Padded(torch.nn.Module):
    """The same convolution, kept one level deeper."""

    def __init__(self, conv):
        super().__init__()
        size = conv.kernel_size
        self.conv = torch.nn.Conv2d(
            conv.in_channels, conv.out_channels, size, conv.stride, groups=conv.groups, bias=False
        )
        self.conv.load_state_dict(conv.state_dict())

    def forward(self, x):
        return self.conv(pad_same(x, self.conv.kernel_size, self.conv.stride))


class Affine(torch.nn.Module):
    """A batch norm as ``x a + b``, from parameters that no checkpoint has."""

    def __init__(self, bn):
        super().__init__()
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        offset = bn.bias.double() - scale * bn.running_mean.double()
        self.a, self.b = (
            torch.nn.Parameter(value.detach().float()[:, None, None]) for value in (scale, offset)
        )

    def forward(self, x):
        return x * self.a + self.b


class OwnWeights(torch.nn.Module):
    """A fusion that keeps its weights itself, as they are or above zero only."""

    def __init__(self, weights):
        super().__init__()
        self.w = torch.nn.Parameter(weights.detach())

    def forward(self, features, weights):
        shares = torch.relu(self.w)
        shares = shares / (shares.sum() + 1e-4)
        return sum(x * share for x, share in zip(features, shares, strict=True))


def deeper(model):
    model.backbone.stem_conv = Padded(model.backbone.stem_conv)


def affine(model):
    model.backbone.blocks[3].depthwise_bn = Affine(model.get_submodule(BN))


def own_weights(model, change=lambda weights: weights):
    node = model.fpn.cells[0].nodes[4]
    node.fuse = OwnWeights(change(node.weights))
    del node._parameters["weights"]
    node.weights = None


def own_positive_weights(model):
    own_weights(model, torch.relu)


@pytest.mark.parametrize("change", [deeper, affine, own_weights, own_positive_weights])
def test_a_layer_that_keeps_its_parameters_elsewhere_is_judged_at_its_node(found, lockstep, change):
    assert found(change) == ([], [])
    model = lockstep.candidate()
    change(model)
    assert lockstep.failing(model) == []


def test_a_value_that_is_kept_elsewhere_is_compared(found):
    def change(model):
        deeper(model)
        model.backbone.stem_conv.conv.weight.data[0, 0, 0, 0] += 1

    assert found(change)[0] == [("parameter-different", "backbone.stem_conv.weight")]


def test_nothing_is_asked_of_a_fusion_that_the_candidate_does_not_have(found):
    def change(model):
        node = model.fpn.cells[0].nodes[4]
        del node.fuse, node._parameters["weights"]

    assert FUSION not in [place for _, place in found(change)[0]]
