"""No fault is called something that it is not: it has its own name, or a description."""

import pytest
import torch
import torch.nn.functional as F
from faults import held_out
from faults.fault import instead, put, then
from faults.modules import reflects
from lockstep import Lockstep
from sampling import one_in

ACT = "class_head.acts.0"
DEPTHWISE = "class_head.convs.0.depthwise"
PREDICT = "class_head.predict.pointwise"
BLOCK = "backbone.blocks.3"
RESIDUAL = "backbone.blocks.0.residual"


@pytest.fixture(scope="module")
def large(tiny_checkpoint, tiny_conversion):
    """Two images so large that every level of the heads has more than a pixel."""
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model", batch=2, size=(192, 256))
    yield result
    result.session.close()


def told_of(lockstep, where, change):
    model = lockstep.candidate()
    change(model.get_submodule(where))
    told = lockstep.tell(model)
    assert {node.partition("@")[0] for item in told.suspects for node in item.nodes} <= {where}
    return told


def words(suspect):
    return " ".join([suspect.diagnosis or "", *suspect.patterns])


# Where the fault is, what it does, and the name that it must get; a name of None is a description.
FAULTS = {
    "dropout left on, in a head": (ACT, held_out.dropout_left_on(0.001), "dropout"),
    "dropout left on, in the backbone": (
        f"{BLOCK}.depthwise_act", held_out.dropout_left_on(0.001), "dropout",
    ),
    "dropout left on, after a convolution": (
        DEPTHWISE, held_out.dropout_left_on(0.001), "dropout",
    ),
    "partial convolution": (DEPTHWISE, instead(held_out.partial), "padding-partial"),
    "partial convolution of one pixel": (
        "fpn.cells.0.nodes.0.conv.depthwise", instead(held_out.partial), "padding-partial",
    ),
    "weights in int8": (PREDICT, held_out.quantised_in_place, "kernel-quantised"),
    "depthwise weights in int8": (DEPTHWISE, held_out.quantised_in_place, "kernel-quantised"),
    "weights brought to int8 as they are used": (
        PREDICT, held_out.quantised_on_the_fly, "kernel-quantised",
    ),
    "the same in the backbone": (
        f"{BLOCK}.expand_conv", held_out.quantised_on_the_fly, "kernel-quantised",
    ),
    "an output in int8": (PREDICT, then(held_out.quantised_output), None),
    "a sigmoid out of a table": (f"{BLOCK}.se.gate", held_out.table(torch.sigmoid, -8, 8), "table"),
    "a swish out of a table": (f"{BLOCK}.depthwise_act", held_out.table(F.silu, -8, 8), "table"),
    "a swish out of a fine table": (
        f"{BLOCK}.depthwise_act", held_out.table(F.silu, -16, 16, 1 << 16), "table",
    ),
    "a leak between images": (ACT, held_out.leak(0.01), "images-mixed"),
    "a leak between images in a batch norm": (
        f"{BLOCK}.depthwise_bn", held_out.leak(0.01), "images-mixed",
    ),
    "a small leak between images": (DEPTHWISE, held_out.leak(0.001), "images-mixed"),
    "every image the mean of all": (PREDICT, held_out.leak(1.0), "batch-reduced"),
    "the branch smaller": (
        RESIDUAL, instead(lambda m, x, shortcut: 0.999 * x + shortcut), "weighted",
    ),
    "branch and shortcut scaled alike": (
        RESIDUAL, instead(lambda m, x, shortcut: 1.001 * (x + shortcut)), "scaled",
    ),
    "relu": (ACT, instead(lambda m, x: x.relu()), "relu"),
    "relu6": (ACT, instead(lambda m, x: x.clamp(0, 6)), "relu6"),
    "relu6 of small values": (
        "backbone.blocks.1.se.act", instead(lambda m, x: x.clamp(0, 6)), "relu",
    ),
    "gelu": (ACT, instead(lambda m, x: x * (1 + torch.erf(x / 2**0.5)) / 2), "gelu"),
    "hard swish": (ACT, instead(lambda m, x: x * (x + 3).clamp(0, 6) / 6), "hard-swish"),
    "group norm": (f"{BLOCK}.depthwise_bn", held_out.group_norm(4), "group-statistics"),
    "padding by reflection": (DEPTHWISE, instead(reflects), "padding-reflect"),
    "a channel shuffle": (
        ACT, then(lambda x: torch.channel_shuffle(x, 4)), "channels-shuffled",
    ),
    # A swish is never below -1, so that this is hard tanh on top of it.
    "a clamp above": (ACT, then(lambda x: x.clamp(max=1.0)), "activation-extra"),
    "a clamp below": (PREDICT, then(lambda x: x.clamp(min=-4.6)), "clamped"),
    "some channels scaled": (PREDICT, held_out.some_channels(1.001), "channels-scaled"),
    "some channels scaled a little": (ACT, held_out.some_channels(1.00001), "channels-scaled"),
    "noise as large as bfloat16's": (ACT, held_out.noise(2**-9), None),
    "noise as large as TF32's": (PREDICT, held_out.noise(2**-12), None),
    "values of the next pixel mixed in": (DEPTHWISE, then(held_out.smoothed), None),
    "a swish with a sigmoid in float16": (
        f"{BLOCK}.depthwise_act", instead(lambda m, x: x * x.half().sigmoid().float()),
        "reduced-precision",
    ),
    "a swish that cancels": (
        f"{BLOCK}.depthwise_act", instead(lambda m, x: x * (1 - torch.sigmoid(-x))),
        "poor-formula",
    ),
    "one convolution under autocast": (
        PREDICT,
        instead(held_out.under_autocast),
        "reduced-precision",
    ),
    "a mean without its first row": (
        f"{BLOCK}.se.pool", instead(lambda m, x: x[:, :, 1:].mean((2, 3), keepdim=True)),
        "mean-of-part",
    ),
    "a thousandth added to a mean": (f"{BLOCK}.se.pool", then(lambda x: x + 1e-3), "offset"),
}  # fmt: skip


@pytest.mark.parametrize("fault", one_in(4, FAULTS))
def test_a_fault_has_its_own_name_or_none(large, fault):
    where, change, slug = FAULTS[fault]
    told = told_of(large, where, change)
    assert told.suspects
    for suspect in told.suspects:
        assert suspect.tried
        assert suspect.slug == slug, suspect
        if slug is None:
            assert suspect.patterns
            assert not any(
                name in words(suspect) for name in ("float16", "TF32", "precision", "swish")
            )


def test_a_factor_is_told_as_it_is(large):
    (suspect,) = told_of(large, DEPTHWISE, held_out.dropout_left_on(0.001)).suspects
    told = "dropout with p = 0.001, left on: 0.098% of the values zeroed, the others times 1.001"
    assert suspect.diagnosis == told
    assert " at each of 5 nodes" in suspect.evidence[0]
    (suspect,) = told_of(large, ACT, held_out.some_channels(1.00001)).suspects
    assert "times 1.00001 in 5 of 16, channels 0, 1, 2, 3, 4" in suspect.diagnosis
    (suspect,) = told_of(large, f"{BLOCK}.se.pool", then(lambda x: x + 1e-3)).suspects
    assert suspect.diagnosis == "0.001 added to every value"


@pytest.mark.parametrize("where", [PREDICT, DEPTHWISE, f"{BLOCK}.depthwise_bn"])
def test_the_last_bit_of_one_weight_is_a_finding_about_that_value(large, where):
    told = told_of(large, where, held_out.last_bit)
    assert told.suspects == []
    (finding,) = told.findings
    assert finding.slug == "parameter-different"
    made, right = finding.text.partition("one value: ")[2].partition(" at ")[::2]
    assert made != right.rpartition("not ")[2]


def barely_more(module):
    instead(lambda m, x, shortcut: x + 1.0000001 * shortcut)(module)


def test_a_factor_within_rounding_is_no_fault(large):
    assert told_of(large, RESIDUAL, barely_more).suspects == []


def test_a_factor_never_reads_as_the_faithful_one(double_lockstep):
    (suspect,) = told_of(double_lockstep, RESIDUAL, barely_more).suspects
    assert suspect.slug == "weighted"
    assert suspect.diagnosis == "the branch plus 1.0000001 times the shortcut"


class Gate(torch.nn.Module):
    """A layer followed by dropout that the model forgot to switch off."""

    def __init__(self, layer, rate):
        super().__init__()
        self.layer = layer
        self.dropout = torch.nn.Dropout(rate)

    def forward(self, x):
        generator = torch.random.get_rng_state()
        torch.manual_seed(0)
        x = self.dropout(self.layer(x))
        torch.random.set_rng_state(generator)
        return x


@pytest.mark.parametrize("rate", [0.5, 1e-4])
def test_dropout_in_training_mode_is_named_as_such(large, rate):
    model = large.candidate().eval()
    layer = Gate(model.get_submodule(ACT), rate).eval()
    put(model, ACT, layer)
    assert large.tell(model).suspects == large.tell(model).findings == []
    layer.dropout.train()
    told = large.tell(model)
    (suspect,) = told.suspects
    assert (suspect.slug, suspect.diagnosis) == ("training-mode", "in training mode (Dropout)")
    (finding,) = told.findings
    assert (finding.slug, finding.place) == ("training", ACT)
    assert "drop values at random" in finding.text


def test_a_model_in_training_mode_is_one_finding(large):
    model = large.candidate().train()
    told = large.tell(model, 8)
    (finding,) = told.findings
    assert (finding.slug, finding.place) == ("training", "the candidate")
    assert "call its eval()" in finding.text
    named = {
        suspect.slug for suspect in told.suspects if suspect.tried and "_bn" in suspect.nodes[0]
    }
    assert named <= {"batch-statistics", "training-mode"}
    # Looking at it does not change it.
    for name, value in large.candidate().named_buffers():
        assert torch.equal(value, model.get_buffer(name)), name


class Fixed(torch.nn.Module):
    """A batch norm that is wrong in a way of its own, and in training mode besides."""

    def forward(self, x):
        return 0.5 * x.tanh()


def test_a_mode_that_does_not_matter_is_no_name(large):
    model = large.candidate()
    put(model, f"{BLOCK}.depthwise_bn", Fixed().train())
    (suspect,) = large.tell(model).suspects
    assert suspect.slug is None
