"""A candidate that does not repeat itself has no parity, and it is said what it depends on."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from lockstep import Lockstep
from torch import nn

from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare
from parity.lockstep.repetition import depends_on_earlier, repetition_findings
from parity.process.outcome import Outcome
from parity.results.records.nodes import NOT_REPEATABLE as SLUG
from parity.sides.pytorch import TorchValue
from parity.sides.pytorch.exact import in_double
from parity.sides.side import OneAtATimeError

ACT = "backbone.stem_act"


class Changed(nn.Module):
    """A layer that is right except under a condition, where it makes another sign."""

    def __init__(self, layer, condition):
        super().__init__()
        self.layer = layer
        self.condition = condition
        self.calls = 0

    def forward(self, *inputs):
        self.calls += 1
        output = self.layer(*inputs)
        return -output if self.condition(self) else output


def changed(lockstep, condition, path=ACT):
    model = lockstep.candidate()
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, Changed(model.get_submodule(path), condition))
    return model


def compared(lockstep, model):
    return compare(lockstep.pairing(model))


def only_finding(comparison):
    (finding,) = comparison.runs
    assert (finding.slug, finding.place) == (SLUG, "the candidate")
    assert comparison.outcome is Outcome.DIFFERENCE
    return finding.text


def test_a_faithful_candidate_repeats_itself(lockstep):
    comparison = compared(lockstep, lockstep.candidate())
    assert list(comparison.runs) == list(comparison.not_shown) == []
    assert comparison.outcome is Outcome.PARITY
    # It is called as often as the conditions below take for granted.
    model = changed(lockstep, lambda layer: False)
    assert compared(lockstep, model).outcome is Outcome.PARITY
    assert model.backbone.stem_act.calls == 5


def test_state_that_the_first_call_changes(lockstep):
    comparison = compared(lockstep, changed(lockstep, lambda layer: layer.calls == 1))
    text = only_finding(comparison)
    assert text.startswith(
        "its first run gives other outputs than a later run on the same input "
        "(class_head.predict.pointwise@P3 by up to "
    )
    assert text.endswith("): it keeps state that its first call changes")
    # What was observed is faithful: the nodes alone would give parity.
    assert all(node.verdict.passes for node in comparison.nodes)


@pytest.mark.parametrize("number", [1, 3])
def test_state_kept_of_an_image_is_used_for_the_next(lockstep, number):
    """What is kept for each shape is that of another image, as it would be for its user."""

    class Kept(nn.Module):
        def __init__(self, gate):
            super().__init__()
            self.gate, self.kept = gate, {}

        def forward(self, x):
            return self.kept.setdefault(tuple(x.shape), self.gate(x).clone())

    model = lockstep.candidate()
    block = model.backbone.blocks[number].se
    block.gate = Kept(block.gate)
    comparison = compared(lockstep, model)
    assert comparison.outcome is Outcome.DIFFERENCE
    failing = [node.name for node in comparison.nodes if node.verdict.fails]
    assert failing == [f"backbone.blocks.{number}.se.gate"]


class Remembers(nn.Module):
    """A candidate whose outputs depend on those of the call before."""

    def __init__(self, model, made_of):
        super().__init__()
        self.model = model
        self.made_of = made_of
        self.before = None

    def forward(self, images):
        classes, boxes = self.model(images)
        made = [*classes, *boxes]
        if self.before is not None:
            made = [self.made_of(a, b) for a, b in zip(made, self.before, strict=True)]
        self.before = made
        return made[: len(classes)], made[len(classes) :]


@pytest.mark.parametrize(
    "made_of, words",
    [
        (
            lambda now, before: 0.6 * now + 0.4 * before,
            "each call's outputs depend on earlier calls: from one call to the next they change "
            "0.4 times as much as before",
        ),
        (lambda now, before: before, "it returns the result of its first call for ever"),
        (lambda now, before: 1.01 * before, "each call multiplies its outputs by 1.01 once more"),
    ],
)
def test_it_is_told_how_outputs_depend_on_the_call_before(lockstep, made_of, words):
    comparison = compared(lockstep, Remembers(lockstep.candidate(), made_of))
    assert words in only_finding(comparison)


def test_outputs_that_are_equal_for_any_image_tell_nothing():
    """No boxes at all, or the zeros behind a dead layer."""
    values = torch.arange(32.0).view(1, 1, 4, 8)
    for kept, telling in ((values, True), (0 * values, False), (torch.zeros(0, 4), False)):
        run = [TorchValue(kept)]
        found = repetition_findings(run, run, run, NAMES, of_first_call=run)
        assert bool(found) is telling


def test_what_is_random_is_no_rule():
    generator = torch.Generator().manual_seed(0)
    runs = [[TorchValue(torch.rand(1, 2, 3, 4, generator=generator))] for _ in range(3)]
    assert depends_on_earlier(runs) == ""
    assert depends_on_earlier(runs[:2]) == depends_on_earlier([runs[0]] * 3) == ""


def test_another_function_where_gradients_are_recorded(lockstep):
    comparison = compared(lockstep, changed(lockstep, lambda layer: torch.is_grad_enabled()))
    text = only_finding(comparison)
    assert text.startswith("a run with gradients on gives other outputs than the other two runs")
    assert text.endswith(": it computes otherwise where gradients are recorded")
    assert all(node.verdict.passes for node in comparison.nodes)


class OtherRounding(nn.Module):
    """A layer that rounds otherwise where gradients are recorded, as some of PyTorch's do."""

    def __init__(self, layer, wrong=1.0):
        super().__init__()
        self.layer = layer
        self.wrong = wrong

    def forward(self, *inputs):
        if not torch.is_grad_enabled():
            return self.layer(*inputs)
        return in_double(self.layer, inputs).float() * self.wrong


def rounding_otherwise(lockstep, wrong=1.0):
    model = lockstep.candidate()
    model.backbone.stem_conv = OtherRounding(model.backbone.stem_conv, wrong)
    return model


def test_another_rounding_where_gradients_are_recorded_is_judged_there(lockstep):
    comparison = compared(lockstep, rounding_otherwise(lockstep))
    assert comparison.outcome is Outcome.PARITY
    (note,) = comparison.notes
    assert note.startswith("Run with gradients recorded the candidate rounds otherwise:")
    # A little more than roundings is another function.
    comparison = compared(lockstep, rounding_otherwise(lockstep, wrong=1.00001))
    assert "a run with gradients on" in only_finding(comparison)


def test_a_single_call_that_goes_wrong_is_not_put_down_to_gradients(lockstep):
    """The second call is the one that records what gradients need."""
    comparison = compared(lockstep, changed(lockstep, lambda layer: layer.calls == 2))
    assert only_finding(comparison).startswith("a run with gradients on gives other outputs")
    assert list(comparison.notes) == list(comparison.not_shown) == []


def test_what_cannot_be_judged_where_gradients_are_recorded_is_not_shown(lockstep, monkeypatch):
    hidden = replace(compared(lockstep, lockstep.candidate()).nodes[0], verdict=Verdict.NOT_COVERED)
    monkeypatch.setattr(f"{compare.__module__}.compare_isolated", lambda pairing: [hidden])
    comparison = compared(lockstep, rounding_otherwise(lockstep))
    (sentence,) = comparison.not_shown
    assert sentence.startswith("run with gradients recorded the candidate's outputs differ (")
    assert (comparison.outcome, list(comparison.runs)) == (Outcome.NOT_SHOWN, [])


@pytest.fixture(scope="module")
def two_images(tiny_conversion, tiny_checkpoint):
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model", batch=2)
    yield result
    result.session.close()


def taking(lockstep, forward):
    model = lockstep.candidate()
    model.forward = partial(forward, model.forward)
    return model


def one_by_one(forward, images):
    found = [forward(images[[number]]) for number in range(len(images))]
    return [list(map(torch.cat, zip(*part, strict=True))) for part in zip(*found, strict=True)]


def only_the_first(forward, images):
    return forward(images[:1])


def test_a_port_that_takes_one_image_at_a_time_is_not_accused(two_images):
    with pytest.raises(OneAtATimeError, match="give single images") as raised:
        compared(two_images, taking(two_images, one_by_one))
    assert raised.value.otherwise == ""


def test_a_port_that_leaves_images_out_differs(two_images):
    comparison = compared(two_images, taking(two_images, only_the_first))
    assert comparison.outcome is Outcome.DIFFERENCE
    failing = [node for node in comparison.nodes if node.verdict.fails]
    assert [node.name for node in failing] == list(two_images.outputs)
    assert failing[0].reason == "the candidate returns 1 of 2 images in its output number 0"


def test_another_function_where_it_is_observed(lockstep):
    def observed(layer):
        return any(part._forward_hooks for part in layer.modules())

    model = changed(lockstep, lambda layer: not observed(layer))
    comparison = compared(lockstep, model)
    text = only_finding(comparison)
    assert text.startswith("the observed run gives other outputs than the other two runs")
    assert text.endswith(": observing its layers changes it, as it changes compiled code")
    assert all(node.verdict.passes for node in comparison.nodes)


def test_dropout_left_on(lockstep):
    model = lockstep.candidate()
    model.backbone.stem_act = nn.Sequential(model.backbone.stem_act, nn.Dropout(0.2)).train()
    comparison = compared(lockstep, model)
    text = only_finding(comparison)
    assert text.startswith("no two runs on the same input give the same outputs (")
    assert text.endswith("such as dropout left on")
    failing = [node.name for node in comparison.nodes if node.verdict.fails]
    assert failing == [ACT]


def test_a_counter_that_changes_every_run(lockstep):
    model = lockstep.candidate()
    forward, calls = model.forward, []

    def counting(images):
        calls.append(None)
        return forward(images * (1 + 0.01 * len(calls)))

    model.forward = counting
    assert only_finding(compared(lockstep, model)).startswith("no two runs on the same input")


@pytest.mark.parametrize("change", [torch.sigmoid_, torch.Tensor.neg_])
def test_outputs_that_are_changed_after_their_layer_made_them(lockstep, change):
    """What hooks saw is right, what the user gets is not."""
    model = lockstep.candidate()
    forward = model.forward

    def in_place(images):
        classes, boxes = forward(images)
        for logits in classes:
            change(logits)
        return classes, boxes

    model.forward = in_place
    comparison = compared(lockstep, model)
    assert comparison.outcome is Outcome.DIFFERENCE and comparison.outcome.exit_code == 1
    failing = {node.name: node for node in comparison.nodes if not node.verdict.passes}
    assert set(failing) == {name for name in lockstep.outputs if name.startswith("class_head")}
    for node in failing.values():
        assert node.verdict is Verdict.FUNCTION_DIFFERS
        assert "they are changed after its last layer made them" in node.reason
    # It does so in every run.
    assert list(comparison.runs) == []


def test_nan_is_not_taken_for_a_change_after_the_last_layer(lockstep):
    model = lockstep.candidate()
    with torch.no_grad():
        model.class_head.predict.pointwise.bias[5] = float("nan")
    comparison = compared(lockstep, model)
    assert list(comparison.runs) == []
    failing = [node for node in comparison.nodes if not node.verdict.passes]
    assert {node.verdict for node in failing} == {Verdict.FUNCTION_DIFFERS}
    assert {node.name for node in failing} == set(lockstep.outputs[:5])
    assert all("a value of the candidate is NaN or infinite" in node.reason for node in failing)


# On outputs alone

NAMES = ("classes", "boxes")


def outputs(*values):
    return [TorchValue(torch.tensor(value)) for value in values]


def test_equal_bits_are_equal_whatever_they_say():
    run = outputs([1.0, float("nan")], [float("inf")])
    again = outputs([1.0, float("nan")], [float("inf")])
    assert repetition_findings(run, again, run, NAMES) == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (outputs([1.0, 2.0]), "(2 tensors and 1)"),
        (outputs([1.0, 2.0], [3.5]), "(boxes by up to 0.5)"),
        (outputs([1.0, 2.25], [9.0]), "(classes by up to 0.25)"),
        (outputs([1.0], [3.0]), "(classes has another shape or type)"),
        (outputs([1.0, 2.0], [3]), "(boxes has another shape or type)"),
    ],
)
def test_the_first_output_that_differs_is_named(other, told):
    run = outputs([1.0, 2.0], [3.0])
    for runs in ((other, run, run), (run, other, run), (run, run, other)):
        (finding,) = repetition_findings(*runs, NAMES)
        assert finding.slug == SLUG
        # In whatever order the two are named.
        assert told in finding.text or "(1 tensors and 2)" in finding.text


def test_outputs_without_names_are_numbered():
    (finding,) = repetition_findings(outputs(1.0), outputs(2.0), outputs(2.0), NAMES)
    assert "(output number 0 by up to 1)" in finding.text
