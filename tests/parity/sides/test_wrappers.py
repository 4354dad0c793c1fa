"""Models inside of others: what is seen through, what is refused in one sentence, what passes."""

import dataclasses
import warnings
from contextlib import nullcontext

import pytest
import torch
from lockstep import Remembered
from paired import reference as streamed
from torch import nn
from torch.nn.utils import parametrizations

from efficientdet_spec import InputError
from parity.commands.comparing.trials import pair
from parity.diagnosis.suspects import diagnosed, findings, suspects
from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare
from parity.process.outcome import Outcome
from parity.results.records.record import plain
from parity.sides.pytorch import TorchCandidate, check_observable, common_prefix, wrappers
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.side import COMPILED, PARALLEL, CandidateError
from torch_model import layers


@pytest.fixture
def paired(lockstep):
    """Pairs a candidate with the remembered reference, as the command does."""

    def remembered():
        return nullcontext(Remembered(lockstep.tensors))

    reference = streamed(remembered, lockstep.kinds, lockstep.outputs)

    def make(model):
        return pair(None, reference, model, lockstep.faithful, lockstep.images, lockstep.referee)

    return make


@pytest.fixture
def refused(lockstep):
    """The one sentence with which a candidate is refused where its modules are to be looked at."""

    def make(model):
        with pytest.raises(InputError) as raised:
            check_observable(model, lockstep.naming, lockstep.referee)
        text = str(raised.value)
        assert "\n" not in text and text.endswith(".") and "give " in text
        return text

    return make


def seen_through(pairing):
    """The comparison of a candidate whose operations are looked at."""
    assert isinstance(pairing.candidate, ObservedCandidate)
    return compare(pairing)


class Holder(nn.Module):
    """Keeps a model in an attribute, as wrappers do."""

    def __init__(self, model, attribute="m"):
        super().__init__()
        self.add_module(attribute, model)
        self.attribute = attribute

    def forward(self, images):
        return getattr(self, self.attribute)(images)


WRAPPERS = {
    "m.": Holder,
    "module.": nn.DataParallel,
    "_orig_mod.": lambda model: Holder(model, "_orig_mod"),
    "m.module.": lambda model: Holder(nn.DataParallel(model)),
}


def broken(lockstep):
    """A candidate with a wrong layer, a wrong parameter and a wrong momentum."""
    model = lockstep.candidate()
    model.backbone.blocks[3].depthwise_bn.eps = 1e-5
    model.fpn.cells[0].nodes[5].conv.pointwise.weight.data[1, 2] += 0.1
    model.backbone.stem_bn.momentum = 0.1
    return model


def told(lockstep, pairing):
    """All that a comparison tells, as plain values."""
    nodes = compare(pairing).nodes
    known = lockstep.known()
    found = findings(pairing, known)
    guilty = diagnosed(pairing, suspects(pairing, nodes), nodes, known, found, 30)
    return [
        [(node.name, node.verdict, node.reason) for node in nodes],
        [plain(item) for item in found],
        [plain(item) for item in guilty],
    ]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrapped_models_are_told_the_same_of_as_plain_ones(prefix, lockstep, paired):
    plain, wrapped = paired(broken(lockstep)), paired(WRAPPERS[prefix](broken(lockstep)))
    assert (plain.candidate.naming.prefix, wrapped.candidate.naming.prefix) == ("", prefix)
    expected = told(lockstep, plain)
    assert told(lockstep, wrapped) == expected
    nodes, found, guilty = expected
    failing = [name for name, verdict, _ in nodes if verdict is Verdict.FUNCTION_DIFFERS]
    assert failing == ["backbone.blocks.3.depthwise_bn", "fpn.cells.0.nodes.5.conv.pointwise"]
    assert {item["slug"] for item in found} >= {"eps", "momentum"}
    assert {item["place"] for item in found} >= {
        "backbone.stem_bn", "fpn.cells.0.nodes.5.conv.pointwise.weight",
    }  # fmt: skip
    assert {name for item in guilty for name in item["nodes"]} == set(failing)


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrapped_models_that_are_faithful_pass(prefix, lockstep, paired):
    pairing = paired(WRAPPERS[prefix](lockstep.candidate()))
    assert compare(pairing).outcome is Outcome.PARITY
    assert findings(pairing, lockstep.known()) == []


def test_layers_of_the_wrapper_itself_are_extra(lockstep, paired):
    class Doubling(Holder):
        def __init__(self, model):
            super().__init__(model)
            self.twice = layers.Swish()

        def forward(self, images):
            self.twice(images)
            return super().forward(images)

    comparison = compare(paired(Doubling(lockstep.candidate())))
    failing = {node.name: node.reason for node in comparison.nodes if not node.verdict.passes}
    assert failing == {"twice": "the reference has no such node"}
    assert comparison.outcome is Outcome.NOT_SHOWN


def test_a_prefix_is_that_of_most_nodes_and_of_no_fewer_than_half():
    nodes = ["a.conv", "a.bn", "head.conv@P3", "head.conv@P4"]
    assert common_prefix(["a.conv", "a.bn", "head.conv"], nodes) == ""
    assert common_prefix(["m.a.conv", "m.a.bn", "m.head.conv"], nodes) == "m."
    assert common_prefix(["m.a.conv", "n.a.conv", "n.a.bn", "n.head.conv"], nodes) == "n."
    assert common_prefix(["m.a.conv", "other"], nodes) == ""
    assert common_prefix(["xa.conv", "xa.bn", "xhead.conv"], nodes) == ""
    assert common_prefix([], nodes) == common_prefix(["a"], []) == ""


# What cannot be looked at module by module


@pytest.mark.parametrize("make", ["trace", "script"])
def test_torchscript_is_seen_through_and_refused_module_by_module(make, lockstep, paired, refused):
    class Scale(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(x)

    with warnings.catch_warnings():
        # That TorchScript is deprecated.
        warnings.simplefilter("ignore")
        layer = Scale()
        compiled = (
            torch.jit.trace(layer, torch.zeros(1, 3, 4, 4))
            if make == "trace"
            else torch.jit.script(layer)
        )
    model = lockstep.candidate()
    model.backbone.stem_act = compiled
    assert seen_through(paired(model)).outcome is Outcome.PARITY
    for module, part in ((compiled, ""), (model, "backbone.stem_act")):
        text = refused(module)
        assert "is a TorchScript module" in text and "give the eager module" in text
        assert (f"(at {part})" in text) == bool(part)


@pytest.mark.parametrize("make", ["parametrization", "hook"])
def test_weights_that_are_computed_before_each_use(make, lockstep, paired, refused):
    model = lockstep.candidate()
    conv = model.backbone.blocks[1].project_conv
    if make == "parametrization":
        parametrizations.weight_norm(conv)
    else:
        with pytest.warns(FutureWarning, match="weight_norm"):
            nn.utils.weight_norm(conv)
    assert seen_through(paired(model)).outcome is Outcome.PARITY
    text = refused(model)
    assert "computes a weight from other parameters" in text
    assert "(at backbone.blocks.1.project_conv)" in text and "remove_weight_norm" in text


def norms(model):
    return [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]


def replace(model, path, module):
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def fold(model, referee, path):
    """Fold a batch norm into the convolution before it, in float64."""
    node = next(name for name in referee.calls if name.partition("@")[0] == path)
    conv = model.get_submodule(referee.sources(node)[0].partition("@")[0])
    norm = model.get_submodule(path)
    with torch.no_grad():
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        conv.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
        shift = norm.bias.double() - norm.running_mean.double() * scale
        if conv.bias is not None:
            shift = shift + conv.bias * scale
        conv.bias = nn.Parameter(shift.float())
    replace(model, path, nn.Identity())


@pytest.mark.parametrize("wrap", [lambda model: model, Holder])
def test_a_model_whose_batch_norms_are_folded(wrap, lockstep, paired, refused):
    model = lockstep.candidate()
    # Those of the heads, which levels share no convolution with, cannot be folded.
    paths = [path for path in norms(model) if path.startswith("backbone.")]
    for path in paths:
        fold(model, lockstep.referee, path)
    found = seen_through(paired(wrap(model)))
    assert found.outcome is Outcome.PARITY
    assert {node.within for node in found.nodes if node.within} == set(paths)
    text = refused(model)
    assert text.startswith(f"The candidate has {len(paths)} batch norms folded into their conv")
    assert "give the model before it is folded" in text


def test_one_batch_norm_that_is_left_out_is_a_difference(lockstep, paired):
    model = lockstep.candidate()
    path = "backbone.blocks.2.expand_bn"
    model.backbone.blocks[2].expand_bn = nn.Identity()
    comparison = compare(paired(model))
    failing = {node.name: node.verdict for node in comparison.nodes if not node.verdict.passes}
    assert failing == {path: Verdict.FUNCTION_DIFFERS}
    assert comparison.outcome is Outcome.DIFFERENCE
    # All but one are not all.
    for other in norms(model)[1:]:
        replace(model, other, nn.Identity())
    assert compare(paired(model)).outcome is Outcome.DIFFERENCE


# Other ways to run a model


def in_inference_mode(model):
    forward = model.forward

    @torch.inference_mode()
    def run(images):
        return forward(images)

    model.forward = run
    return model


def test_inference_mode_of_its_own_passes(lockstep, paired):
    comparison = compare(paired(in_inference_mode(lockstep.candidate())))
    assert comparison.outcome is Outcome.PARITY
    assert list(comparison.runs) == []


def test_faults_are_found_in_inference_mode_too(lockstep, paired):
    plain, other = broken(lockstep), in_inference_mode(broken(lockstep))
    assert told(lockstep, paired(other)) == told(lockstep, paired(plain))


@pytest.fixture
def dynamo():
    """What was compiled is forgotten afterwards."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_a_compiled_model_of_the_same_outputs_passes(dynamo, lockstep, paired):
    compiled = torch.compile(lockstep.candidate(), backend="eager")
    pairing = paired(compiled)
    assert (pairing.candidate.form, pairing.candidate.naming.prefix) == (COMPILED, "_orig_mod.")
    assert paired(lockstep.candidate()).candidate.form is None
    comparison = compare(pairing)
    assert comparison.outcome is Outcome.PARITY
    assert list(comparison.runs) == list(comparison.not_shown) == []
    (note,) = comparison.notes
    assert note.endswith("the compiled form's outputs are the same bit for bit.")
    assert findings(pairing, lockstep.known()) == []


# A part of a model compiles in a fraction of the time.


def with_compiled_part(model, method, backend="eager"):
    """A model in which one layer is compiled, in place or wrapped."""
    if method:
        model.backbone.blocks[0].se.compile(backend=backend)
    else:
        model.backbone.blocks[0].se = torch.compile(model.backbone.blocks[0].se, backend=backend)
    return model


@pytest.mark.parametrize("method", [False, True])
def test_a_compiled_part_of_the_same_outputs_passes(method, dynamo, lockstep, paired):
    pairing = paired(Holder(with_compiled_part(lockstep.candidate(), method)))
    # A part that was compiled has paths of its own, and its operations are looked at.
    assert isinstance(pairing.candidate, TorchCandidate if method else ObservedCandidate)
    assert pairing.candidate.form is COMPILED
    assert compare(pairing).outcome is Outcome.PARITY


@pytest.mark.parametrize("method", [False, True])
def test_a_fault_in_a_compiled_model_is_a_difference(method, dynamo, lockstep, paired):
    pairing = paired(with_compiled_part(broken(lockstep), method))
    comparison = compare(pairing)
    assert comparison.outcome is Outcome.DIFFERENCE
    failing = [node.name for node in comparison.nodes if node.verdict.fails]
    assert failing == ["backbone.blocks.3.depthwise_bn", "fpn.cells.0.nodes.5.conv.pointwise"]
    # A diagnosis looks at the form that was judged.
    known = lockstep.known()
    (first, *_) = diagnosed(
        pairing, suspects(pairing, comparison.nodes), comparison.nodes, known, [], 5
    )
    assert first.slug == "epsilon"


def test_threads_that_overlap_leave_nothing_switched_off(dynamo):
    """As a reference in a thread of its own that begins before the candidate and ends within."""

    def one_more(graph, inputs):
        return lambda *given: tuple(made + 1 for made in graph(*given))

    model = torch.compile(nn.Sequential(nn.ReLU()), backend=one_more)
    one, other = wrappers.as_written(model), wrappers.as_written(model)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    # The second one still needs it.
    assert model(torch.ones(2)).tolist() == [1, 1]
    other.__exit__(None, None, None)
    assert model(torch.ones(2)).tolist() == [2, 2]


def test_copies_on_several_devices_are_seen_on_one(lockstep):
    """What runs in threads cannot be seen; without another device this is all that can be tried."""
    model = nn.DataParallel(lockstep.candidate())
    assert TorchCandidate(model, lockstep.naming).form is None
    model.device_ids = [0, 1]
    candidate = TorchCandidate(model, lockstep.naming)
    assert candidate.form is PARALLEL
    with candidate.observable():
        assert model.device_ids == []
    assert model.device_ids == [0, 1]


def test_modules_that_have_no_truth_can_be_held(lockstep, paired):
    class WithoutLength(Holder):
        def __len__(self):
            raise TypeError("has no len()")

    # Above the model and as a layer that computes nothing.
    model = lockstep.candidate()
    model.backbone.nothing = nn.Sequential()
    comparison = compare(paired(Holder(WithoutLength(model))))
    assert comparison.outcome is Outcome.PARITY


def test_one_folded_batch_norm_is_refused_and_one_left_out_is_a_difference(lockstep):
    path = "backbone.blocks.3.project_bn"
    model = lockstep.candidate()
    fold(model, lockstep.referee, path)
    with pytest.raises(InputError, match=f"1 batch norms folded .*{path}"):
        check_observable(model, lockstep.naming, lockstep.referee)
    model = lockstep.candidate()
    replace(model, path, nn.Identity())
    check_observable(model, lockstep.naming, lockstep.referee)


ARRANGEMENTS = {
    "channels last": lambda classes, boxes: [x.permute(0, 2, 3, 1) for x in (*classes, *boxes)],
    "coarsest first": lambda classes, boxes: [*classes[::-1], *boxes[::-1]],
    "by level": lambda classes, boxes: [
        x for pair in zip(classes, boxes, strict=True) for x in pair
    ],
    "scores": lambda classes, boxes: [*map(torch.sigmoid, classes), *boxes],
    "scores in place": lambda classes, boxes: [*(x.sigmoid_() for x in classes), *boxes],
    "and more": lambda classes, boxes: {"all": [classes, boxes], "mean": classes[0].mean()},
}


class Arranging(nn.Module):
    def __init__(self, model, arrangement):
        super().__init__()
        self.model, self._arranged = model, ARRANGEMENTS[arrangement]

    def forward(self, images):
        return self._arranged(*self.model(images))


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_what_holds_the_model_may_return_its_outputs_as_any_port_may(lockstep, paired, arrangement):
    assert compare(paired(Arranging(lockstep.candidate(), arrangement))).outcome is Outcome.PARITY


def test_class_outputs_behind_a_sigmoid_are_recognised(lockstep):
    model = Arranging(lockstep.candidate(), "scores")
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    usual = lockstep.pairing(lockstep.faithful)
    pairing = dataclasses.replace(usual, candidate=candidate)
    found = compare(pairing)
    assert found.outcome is Outcome.PARITY
    assert "The candidate returns its class outputs behind a sigmoid." in found.notes
    model._arranged = lambda classes, boxes: [*map(torch.tanh, classes), *boxes]
    other = ObservedCandidate(model, list(lockstep.kinds))
    assert compare(dataclasses.replace(usual, candidate=other)).outcome is Outcome.DIFFERENCE


def filled_up(forward):
    """A run of always four images, of which those that were given are returned."""

    def call(images):
        filled = torch.cat([images, images.new_zeros(4 - len(images), *images.shape[1:])])
        return [[x[: len(images)] for x in part] for part in forward(filled)]

    return call


class FixedBatch(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return filled_up(self.model)(images)


def test_a_batch_that_is_filled_up_accuses_nobody(lockstep, paired):
    with pytest.raises(CandidateError, match="computes 4 images where 1 are given"):
        compare(paired(FixedBatch(lockstep.candidate())))
    # A model that does so itself is looked at module by module.
    model = lockstep.candidate()
    model.forward = filled_up(model.forward)
    found = compare(paired(model))
    assert found.outcome is Outcome.NOT_SHOWN
    assert "it computes 4 images where 1 are given" in found.nodes[0].reason
