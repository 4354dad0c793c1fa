"""A candidate is run as its users run it, in every mode that should make no difference."""

import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from lockstep import Lockstep
from torch import nn

from parity.diagnosis.suspects import findings
from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare
from parity.process.outcome import Outcome
from parity.sides.naming import own_paths
from torch_model.layers import Fuse, Swish, Upsample


def before(model, change):
    """A model that changes its images first."""
    forward = model.forward
    model.forward = lambda images: forward(change(images))
    return model


def behind(model, change):
    """A model that changes its outputs."""
    forward = model.forward
    model.forward = lambda images: [[change(x) for x in part] for part in forward(images)]
    return model


def patched(model, kind, forward):
    for layer in model.modules():
        if type(layer) is kind:
            layer.forward = forward
    return model


def compared(lockstep, model):
    return compare(lockstep.pairing(model))


def failing(comparison):
    return [node.name for node in comparison.nodes if node.verdict.fails]


# How images lie in memory


def test_images_come_as_users_give_them(lockstep):
    def as_nchw(x):
        return x.view(x.shape[0], -1).view(x.shape)

    comparison = compared(lockstep, before(lockstep.candidate(), as_nchw))
    assert comparison.outcome is Outcome.PARITY
    (note,) = comparison.notes
    assert note.startswith("Not looked at: the candidate on images that lie in memory with the ch")


def test_a_port_that_is_wrong_on_contiguous_images_differs(lockstep):
    model = before(lockstep.candidate(), lambda x: x * 1.5 if x.is_contiguous() else x)
    assert failing(compared(lockstep, model)) == ["backbone.stem_conv"]


@pytest.mark.parametrize("factor", [1.5, 0.0])
def test_a_port_that_needs_contiguous_images_is_not_accused(factor, lockstep):
    model = before(lockstep.candidate(), lambda x: x if x.is_contiguous() else x * factor)
    comparison = compared(lockstep, model)
    assert (comparison.outcome, list(comparison.runs)) == (Outcome.NOT_SHOWN, [])
    assert "give it contiguous images wherever it is used" in comparison.not_shown[0]


def test_another_rounding_of_another_layout_is_judged_there(lockstep):
    def close(x):
        return x if x.is_contiguous() else torch.nextafter(x, x + 1)

    model = lockstep.candidate()
    norm = model.backbone.stem_bn
    norm.register_forward_hook(lambda _, given, out: close(out) if model.last else out)
    model.last = False

    def look(x):
        model.last = not x.is_contiguous()
        return x

    comparison = compared(lockstep, before(model, look))
    assert comparison.outcome is Outcome.PARITY
    assert comparison.notes[0].startswith("Run on images that lie in memory with the channels last")


# Modes of PyTorch


def test_another_function_in_inference_mode_differs(lockstep):
    model = before(
        lockstep.candidate(), lambda x: x * 1.5 if torch.is_inference_mode_enabled() else x
    )
    comparison = compared(lockstep, model)
    assert failing(comparison) == []
    assert comparison.runs[0].text.startswith("a run in inference mode gives other outputs")


def test_another_function_of_images_that_require_gradients_differs(lockstep):
    model = lockstep.candidate().requires_grad_(False)
    comparison = compared(lockstep, before(model, lambda x: x * 1.5 if x.requires_grad else x))
    assert comparison.runs[0].text.startswith("a run with gradients on gives other outputs")


def swish_by_gradients(x):
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.softplus(z).sum(), z)
    return x * slope


def test_gradients_inside_a_candidate_are_its_own_business(lockstep):
    comparison = compared(lockstep, patched(lockstep.candidate(), Swish, swish_by_gradients))
    assert comparison.outcome is Outcome.PARITY
    assert not any("gradients recorded" in note for note in comparison.notes)


def test_a_wrong_port_does_not_hide_behind_gradients_inside(lockstep):
    model = patched(lockstep.candidate(), Swish, swish_by_gradients)
    model = before(model, lambda x: x * 1.5 if torch.is_grad_enabled() else x)
    assert "a run with gradients on" in compared(lockstep, model).runs[0].text


@pytest.mark.parametrize("training", [False, True])
def test_state_that_drifts_is_seen_in_training_mode_too(training, lockstep):
    model = lockstep.candidate()
    norm = model.get_submodule("backbone.blocks.1.project_bn")

    def drifting(x):
        y = F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0, norm.eps
        )
        with torch.no_grad():
            norm.running_mean.lerp_(x.mean((0, 2, 3)), 0.05)
        return y

    norm.forward = drifting
    model.eval().training = training
    kept = norm.running_mean.clone()
    assert compared(lockstep, model).runs
    assert torch.equal(norm.running_mean, kept)


def test_a_compiled_part_does_not_switch_gradients_off(lockstep):
    model = lockstep.candidate()
    model.get_submodule("backbone.stem_act").compile(backend="eager")
    model = before(model, lambda x: x * 1.5 if torch.is_grad_enabled() else x)
    text = compared(lockstep, model).runs[0].text
    torch.compiler.reset()
    assert text.startswith("a run with gradients recorded gives other outputs than a run without")


# What must not be put down to the candidate


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_hook_has_copied_is_not_judged_as_the_references(number, lockstep):
    model, kept = lockstep.candidate(), {}
    part = model.get_submodule("fpn.resample_p6")
    part.bn.register_forward_hook(lambda _, given, out: kept.update(x=out.clone()))
    part.pool.register_forward_pre_hook(lambda _, given: (kept["x"] * number, *given[1:]))
    comparison = compared(lockstep, model)
    pool = next(node for node in comparison.nodes if node.name == "fpn.resample_p6.pool")
    if number == 2:
        # This is no copy of anything.
        assert pool.verdict is Verdict.FUNCTION_DIFFERS
    else:
        assert comparison.outcome is Outcome.NOT_SHOWN
        assert pool.reason.startswith("it reads a copy of fpn.resample_p6.bn that was made before")


def test_elements_that_share_memory_can_be_replaced(lockstep):
    plain = Upsample().forward

    def expanded(x, size):
        if x.shape[2:] == (1, 1):
            return x.clone().expand(-1, -1, *size).detach()
        return plain(x, size)

    model = patched(lockstep.candidate(), Upsample, expanded)
    # None of this size has a single element.
    assert compared(lockstep, model).outcome is Outcome.PARITY
    stem = model.backbone.stem_act
    stem.forward = lambda x: F.silu(x[:, :, :1, :1]).expand_as(x).detach()
    assert failing(compared(lockstep, model)) == ["backbone.stem_act"]


def test_layers_in_inference_mode_can_be_replaced(lockstep):
    model = patched(lockstep.candidate(), Swish, torch.inference_mode()(F.silu))
    assert compared(lockstep, model).outcome is Outcome.PARITY


Features = namedtuple("Features", "a b c", defaults=(None,))


def test_named_tuples_are_arguments_as_others_are(lockstep):
    class Named(Fuse):
        def forward(self, maps, weights):
            return super().forward([x for x in maps if x is not None], weights)

    model = lockstep.candidate()
    for layer in model.modules():
        if type(layer) is Fuse:
            layer.__class__ = Named
            layer.register_forward_pre_hook(lambda _, given: (Features(*given[0]), *given[1:]))
    assert compared(lockstep, model).outcome is Outcome.PARITY


def test_heads_may_run_in_threads_of_their_own(lockstep):
    model = lockstep.candidate()
    heads, both = (model.class_head, model.box_head), threading.Barrier(2, timeout=60)

    def forward(images):
        features = model.fpn(model.backbone(images))
        mode = torch.is_grad_enabled()

        def call(head):
            both.wait()
            with torch.set_grad_enabled(mode):
                return head(features)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(call, heads))

    model.forward = forward
    assert compared(lockstep, model).outcome is Outcome.PARITY


def test_parameters_that_are_lent_are_those_that_count(lockstep):
    model = lockstep.candidate()
    real = {name: value.clone() for name, value in model.state_dict().items()}

    class Lending(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return torch.func.functional_call(self.model, real, (images,))

    for value in model.parameters():
        value.data.zero_()
    pairing = lockstep.pairing(Lending(), naming=own_paths(lockstep.kinds, "model."))
    assert compare(pairing).outcome is Outcome.PARITY
    assert findings(pairing, lockstep.known()) == []
    assert not any(value.any() for value in model.parameters())
    # One that is not lent is read as it is stored.
    del real["backbone.stem_conv.weight"]
    compare(pairing)
    pairing.candidate._borrowed.clear()
    compare(pairing)
    (finding,) = findings(pairing, lockstep.known())
    assert finding.place == "backbone.stem_conv.weight"


# What is returned, and what a layer makes


@pytest.fixture(scope="module")
def two_images(tiny_conversion, tiny_checkpoint):
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model", batch=2)
    yield result
    result.session.close()


@pytest.mark.parametrize("change", [lambda x: x.permute(2, 3, 1, 0), lambda x: x[None]])
def test_another_form_of_outputs_leaves_no_image_out(change, two_images):
    comparison = compared(two_images, behind(two_images.candidate(), change))
    assert comparison.outcome is Outcome.NOT_SHOWN
    assert "returns another tensor, of shape" in next(
        node.reason for node in comparison.nodes if not node.verdict.passes
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "sort"),
    [
        (lambda x: x.to_sparse(), "sparse_coo"),
        (lambda x: torch.nested.nested_tensor(list(x)), "nested"),
        (lambda x: x.to(torch.float8_e4m3fn), "of type float8_e4m3fn"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantized"),
    ],
)
def test_a_layer_that_makes_no_plain_tensor_is_not_covered(make, sort, lockstep):
    model = lockstep.candidate()
    layer = model.class_head.predict.pointwise
    forward = layer.forward
    layer.forward = lambda x: make(forward(x).detach())

    def dense(x):
        if x.is_nested:
            return torch.stack(list(x.unbind()))
        return x.dequantize() if x.is_quantized else x.to_dense().float()

    comparison = compared(lockstep, behind(model, dense))
    assert comparison.outcome is Outcome.NOT_SHOWN
    reasons = {node.reason for node in comparison.nodes if not node.verdict.passes}
    assert reasons == {f"it makes a tensor that is {sort}, which is not looked into"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_outputs_of_other_types_are_no_failure(dtype, lockstep):
    comparison = compared(lockstep, behind(lockstep.candidate(), lambda x: x.to(dtype)))
    assert comparison.outcome is not Outcome.PARITY


def test_another_rounding_with_gradients_excuses_no_other_mode(lockstep):
    """Each mode is judged, whatever the others show."""

    def otherwise(x):
        if torch.is_inference_mode_enabled():
            return x * 1.5
        return torch.nextafter(x, x + 1) if torch.is_grad_enabled() else x

    model = lockstep.candidate()
    model.backbone.stem_bn.register_forward_hook(lambda _, given, out: otherwise(out))
    comparison = compared(lockstep, model)
    assert comparison.outcome is Outcome.DIFFERENCE
    assert "in inference mode" in comparison.runs[0].text
