"""NaN and infinities, wherever they are, end no comparison and get no name made of numbers."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from hypothesis_cases import MODULES, SWISH, case, conv, depthwise, features, norm
from sampling import one_in

from parity.diagnosis import patterns
from parity.diagnosis.relations import Pool, relate
from parity.faults import Account, Hypothesis, account_for_parameters, catalogue, diagnose
from parity.judge.verdict import Verdict

VALUES = {"nan": float("nan"), "inf": float("inf"), "minus inf": float("-inf")}


def poisoned(value, poison, index=1):
    """A copy of nested values with one element of the first tensor changed."""
    if isinstance(value, torch.Tensor):
        value = value.clone()
        # It need not lie in memory in the order of its axes.
        value[torch.unravel_index(torch.tensor(index % value.numel()), value.shape)] = poison
        return value
    if isinstance(value, list):
        return [poisoned(value[0], poison, index), *value[1:]]
    return value


def with_parameter(module, poison):
    """A copy of a module with one element of its first parameter or statistic changed."""
    module = copy.deepcopy(module)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(poisoned(tensor.data, poison))
    return module


def speaks_of_numbers(diagnosis):
    text = f"{diagnosis.slug} {diagnosis.title}"
    return re.search(r"\b(nan|-?inf)\b", text, re.IGNORECASE) is not None


def places(name):
    module, arguments = MODULES[name]
    held = [*module.parameters(), *module.buffers()]
    return ["candidate", "argument", *(["parameter"] if held else [])]


CASES = [(name, place, poison) for name in MODULES for place in places(name) for poison in VALUES]


@pytest.mark.parametrize("name, place, poison", one_in(8, CASES))
def test_no_diagnosis_fails_or_names_what_is_no_number(name, place, poison):
    module, arguments = MODULES[name]
    value = VALUES[poison]
    clean = module(*arguments)
    if place == "candidate":
        for wrong in (clean, 1.001 * clean, clean + 0.25, 0 * clean):
            assert diagnose(case(module, arguments, poisoned(wrong, value))) is None
            whole = torch.full_like(clean, value)
            assert diagnose(case(module, arguments, whole)) is None
        return
    if place == "argument":
        arguments = [poisoned(arguments[0], value), *arguments[1:]]
    else:
        module = with_parameter(module, value)
    made = module(*arguments)
    assert diagnose(case(module, arguments, made)) is None
    for wrong in (clean, 1.001 * made, 1.001 * clean, made + 0.25, made.relu(), -made):
        found = diagnose(case(module, arguments, wrong))
        assert found is None or not speaks_of_numbers(found), found
        assert patterns.describe(made.double(), wrong) is not None


def test_an_infinite_magnitude_makes_nothing_near():
    """An overflowing gauge is no licence: anything would be within its roundings."""
    x = poisoned(features(), float("inf"))
    clamped = SWISH(x.clamp(-20, 20))
    assert diagnose(case(SWISH, [x], poisoned(clamped, 3.0))) is None


@pytest.mark.parametrize(
    "name",
    one_in(2, ["channels-offset", "channels-affine", "scaled", "clamped", "zeroed", "moved"]),
)
def test_a_fault_that_fails_does_not_keep_the_others_from_speaking(monkeypatch, name):
    def fails(case, base):
        raise torch.linalg.LinAlgError("the matrix is singular")
        yield

    faults = [
        replace(fault, recognise=fails) if fault.slug == name else fault
        for fault in catalogue.CATALOGUE
    ]
    monkeypatch.setattr(catalogue, "CATALOGUE", tuple(faults))
    module, x = depthwise(), features()
    bias = torch.linspace(-0.5, 0.7, 8).view(1, -1, 1, 1)
    without = "channels-affine" if name == "channels-offset" else "channels-offset"
    for wrong, slug in ((module(x).relu(), "activation-extra"), (module(x) + bias, without)):
        assert diagnose(case(module, [x], wrong)).slug == slug


def test_a_hypothesis_that_fails_does_not_keep_the_others_from_speaking(monkeypatch):
    def fails(channels):
        raise ZeroDivisionError

    def evaluates(case, base):
        yield Hypothesis("relu", "ReLU", fails)

    faults = [
        replace(fault, recognise=evaluates) if fault.slug == "relu" else fault
        for fault in catalogue.CATALOGUE
    ]
    monkeypatch.setattr(catalogue, "CATALOGUE", tuple(faults))
    x = features()
    found = diagnose(case(SWISH, [x], x.relu()))
    assert found is None or found.slug != "relu"
    assert diagnose(case(SWISH, [x], x.tanh())).slug == "tanh"


def test_a_faithful_operation_that_fails_has_no_name():
    module, x = conv(), features()
    assert diagnose(case(module, [x.flatten()], module(x))) is None


# Parameters that are not finite are a name of their own.


@pytest.mark.parametrize("poison", VALUES)
def test_parameters_that_are_not_finite_account_for_what_is_not(poison):
    module, x = conv(), features()
    broken = with_parameter(module, VALUES[poison])
    values = dict(broken.named_parameters())
    account = Account()
    account_for_parameters(account, case(module, [x], broken(x)), values)
    assert account.holds
    # Where something else is not finite too they do not.
    account = Account()
    elsewhere = poisoned(broken(x), VALUES[poison], -1)
    account_for_parameters(account, case(module, [x], elsewhere), values)
    assert not account.holds


@pytest.mark.parametrize("poison", VALUES)
def test_a_relation_to_values_that_are_not_finite_is_told(poison):
    import numpy as np

    clean = np.linspace(0.5, 2, 12, dtype=np.float32)
    broken = clean.copy()
    broken[3] = VALUES[poison]
    pool = Pool({"a": clean})
    assert relate("x", clean, broken, pool, {}).slug == "not-finite"
    for theirs in (clean, 2 * clean, np.float32(1.5) * broken[::-1], clean + 1):
        found = relate("x", broken, theirs, Pool({"x": broken}), {})
        assert found.slug in ("different", "not-finite"), found


# In a whole model


def output_with(poison):
    return lambda module, inputs, output: poisoned(output, poison)


def in_turn(places):
    """Every value at every place; of each place one value, each value in its turn, is not heavy."""
    return [
        pytest.param(where, poison, marks=() if place % len(VALUES) == turn else pytest.mark.heavy)
        for place, where in enumerate(places)
        for turn, poison in enumerate(VALUES)
    ]


WHERE = [
    "backbone.stem_conv",
    "backbone.blocks.1.depthwise_conv",
    "backbone.blocks.1.depthwise_bn",
    "backbone.blocks.1.se.gate",
    "class_head.predict.pointwise",
]


@pytest.mark.parametrize("where, poison", in_turn(WHERE))
def test_a_candidate_with_one_is_compared_to_the_end(lockstep, where, poison):
    model = lockstep.candidate()
    handle = model.get_submodule(where).register_forward_hook(output_with(VALUES[poison]))
    told = lockstep.tell(model)
    handle.remove()
    assert {node.partition("@")[0] for item in told.suspects for node in item.nodes} == {where}
    for suspect in told.suspects:
        assert suspect.verdict is Verdict.CANDIDATE_DIFFERS and suspect.tried
        assert suspect.slug is None
        assert any("not finite" in line for line in suspect.patterns)


PARAMETERS = [
    "backbone.stem_conv.weight",
    "backbone.blocks.1.depthwise_conv.weight",
    "backbone.blocks.1.depthwise_bn.running_mean",
    "class_head.predict.pointwise.bias",
]


@pytest.mark.parametrize(
    "where, poison",
    in_turn(PARAMETERS),
)
def test_a_parameter_that_is_not_finite_is_named(lockstep, where, poison):
    model = lockstep.candidate()
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state[where].data.copy_(poisoned(state[where].data, VALUES[poison]))
    told = lockstep.tell(model)
    (suspect,) = told.suspects
    assert suspect.nodes[0].partition("@")[0] == where.rpartition(".")[0]
    assert suspect.slug == "parameters-not-finite", suspect
    assert "not finite in 1 of" in suspect.diagnosis
    assert [item.slug for item in told.findings] == ["parameter-not-finite"]


def test_the_statistics_of_a_batch_norm_may_not_be_finite():
    module, x = norm(), features()
    module.running_var[2] = float("inf")
    assert diagnose(case(module, [x], module(x))) is None
    # Its channel is constant then, and everything is a number.
    assert diagnose(case(module, [x], 1.5 * module(x))).title == "every value times 1.5"
