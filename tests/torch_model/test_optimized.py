"""The optimised form: folded right, compiled right, and refused where it would not be."""

import copy
import pickle
import threading

import pytest
import torch
from configurations import CONFIGURATIONS, TINY

from efficientdet_spec import InputError
from torch_model import build
from torch_model import optimized as form
from torch_model.folding import FoldedConv2d, FoldedFuse, fold
from torch_model.layers import BatchNorm2d

EVERY = {"release": TINY, **CONFIGURATIONS}
SIZES = {"levels 3 to 8": (130, 260)}
"""Where (97, 130) is too small."""


def drawn(config):
    """A model whose values all matter: no batch norm or fusion weight is a plain one."""
    torch.manual_seed(0)
    model = build(config)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(value, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.2, 0.6)
    for name, value in model.named_parameters():
        if name.endswith("weights"):
            torch.nn.init.uniform_(value, -0.1, 1.1)
    return model


def every(outputs):
    return [output for levels in outputs for output in levels]


def apart(one, other):
    """The largest difference of any output, in units of its rms."""
    return max(
        float((a.double() - b.double()).abs().max() / b.double().square().mean().sqrt())
        for a, b in zip(every(one), every(other), strict=True)
    )


@pytest.fixture(scope="module")
def model():
    return drawn(TINY)


@pytest.mark.parametrize("name", EVERY)
def test_folded_it_is_the_same_function(name):
    model = drawn(EVERY[name]).double()
    images = torch.randn(2, 3, *SIZES.get(name, (97, 130)), dtype=torch.float64)
    network = fold(model)
    with torch.no_grad():
        expected = model(images)
        assert apart(network(images), expected) < 1e-10
        assert not any(isinstance(module, BatchNorm2d) for module in network.modules())
        # What was folded is taken, and each of it counts.
        biased = next(m for m in network.modules() if isinstance(m, FoldedConv2d) and m.groups > 1)
        biased.bias *= 1.1
        assert apart(network(images), expected) > 1e-8


def test_the_model_stays_as_it_is(model):
    before = copy.deepcopy(model.state_dict())
    network = fold(model)
    for value in network.parameters():
        value.mul_(2)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model.class_head.convs[0].pointwise.weight.requires_grad


def test_shares_are_computed_in_double_precision(model):
    node = model.fpn.cells[0].nodes[0]
    weights = torch.relu(node.weights.detach().double())
    expected = weights / (weights.sum() + 1e-4)
    fuse = fold(model).fpn.cells[0].nodes[0].fuse
    assert isinstance(fuse, FoldedFuse) and torch.equal(fuse.shares, expected.float())


LIGHT = ("release", "lite", "head residuals", "several at once", "levels 3 to 8")
SOME = [pytest.param(name, marks=() if name in LIGHT else pytest.mark.heavy) for name in EVERY]


@pytest.mark.parametrize("name", SOME)
def test_compiled_it_returns_what_is_written(name):
    model = drawn(EVERY[name])
    optimized = model.optimized()
    images = torch.randn(1, 3, *SIZES.get(name, (97, 130)))
    with torch.no_grad():
        expected = model(images)
    found = optimized(images)
    # Some tens of roundings of float32; as much as the folded network itself is off.
    assert apart(found, expected) < 2e-4
    with optimized.as_written():
        assert apart(found, optimized(images)) < 2e-4
    assert all(
        torch.equal(a, b) for a, b in zip(every(found), every(optimized(images)), strict=True)
    )


def test_every_shape_has_a_program_of_its_own(model):
    # Of 64x64 pixels the highest level is one position, for which there is no fused program.
    optimized = model.optimized()
    for shape in [(1, 64, 64), (2, 64, 64), (1, 65, 97), (1, 128, 96), (3, 64, 64), (1, 64, 64)]:
        images = torch.randn(shape[0], 3, *shape[1:])
        with torch.no_grad():
            assert apart(optimized(images), model(images)) < 2e-4
    assert len(optimized._programs) == form.MAX_PROGRAMS


def test_layouts_and_types_of_images_do_not_matter(model):
    optimized = model.optimized()
    images = torch.randn(1, 3, 64, 64)
    plain = every(optimized(images))
    for given in (images.contiguous(memory_format=torch.channels_last), images.requires_grad_()):
        assert all(torch.equal(a, b) for a, b in zip(plain, every(optimized(given)), strict=True))
    double = every(optimized(images.double()))
    assert all(
        a.dtype == torch.float64 and torch.equal(a.float(), b)
        for a, b in zip(double, plain, strict=True)
    )


def test_new_values_are_used(model):
    optimized = model.optimized()
    images = torch.randn(1, 3, 64, 64)
    optimized(images)
    other = drawn(TINY)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(0.9)
        expected = other(images)
    optimized.load_state_dict(other.optimized().state_dict())
    assert apart(optimized(images), expected) < 2e-4
    double = drawn(TINY).double()
    with torch.no_grad():
        assert apart(double.optimized()(images.double()), double(images.double())) < 1e-9


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_compile_anew(model, copied):
    optimized = model.optimized()
    images = torch.randn(1, 3, 64, 64)
    expected = every(optimized(images))
    other = copied(optimized)
    assert not other._programs
    assert all(torch.equal(a, b) for a, b in zip(expected, every(other(images)), strict=True))


def test_threads_may_share_it(model):
    optimized = model.optimized()
    images = torch.randn(1, 3, 64, 64)
    found = []
    threads = [threading.Thread(target=lambda: found.append(optimized(images))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(optimized._programs) == 1
    assert all(
        torch.equal(a, b) for one in found for a, b in zip(every(one), every(found[0]), strict=True)
    )


def test_onednn_compiles_what_is_traced(model):
    model.optimized()(torch.randn(1, 3, 160, 160))
    assert "oneDNNFusionGroup" in str(torch.jit.last_executed_optimized_graph())


def test_other_users_of_torchscript_are_left_alone(model):
    before = torch.jit.onednn_fusion_enabled()
    model.optimized()(torch.randn(1, 3, 64, 64))
    assert torch.jit.onednn_fusion_enabled() is before


@pytest.mark.parametrize(
    "wrong", [lambda x: x * 1.05, lambda x: x * float("nan"), torch.zeros_like]
)
def test_a_program_that_computes_something_else_is_refused(model, monkeypatch, wrong):
    right = form.compiled

    def compiled(network, images):
        program = right(network, images)
        return lambda given: ([wrong(x) for x in program(given)[0]], program(given)[1])

    monkeypatch.setattr(form, "compiled", compiled)
    optimized = model.optimized()
    for _ in range(2):
        with pytest.raises(InputError, match="computes something else .*; use the eager model"):
            optimized(torch.randn(1, 3, 64, 64))
    assert not optimized._programs


def test_it_cannot_be_trained(model):
    optimized = model.optimized()
    with pytest.raises(InputError, match="cannot be trained"):
        optimized.train()
    assert not optimized.eval().training
    assert not any(value.requires_grad for value in optimized.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int8])
def test_types_that_cannot_be_computed_in_are_refused(model, dtype):
    with pytest.raises(InputError, match="float16, bfloat16 and float32"):
        model.optimized(dtype=dtype)


@pytest.mark.parametrize("shape", [(3, 128, 128), (1, 4, 128, 128), (1, 3, 8, 512)])
def test_wrong_images_are_refused(model, shape):
    with pytest.raises(InputError):
        model.optimized()(torch.zeros(shape))
