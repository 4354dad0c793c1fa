"""The optimised form: folded right, compiled right, and refused where it would not be."""

import copy
import pickle
import threading
import warnings

import pytest
import torch
from configurations import CONFIGURATIONS, TINY

from efficientdet_spec import InputError
from torch_model import build, layers
from torch_model import optimized as form
from torch_model.backbone import MBConvBlock
from torch_model.folding import FoldedConv2d, FoldedFuse, fold
from torch_model.layers import BatchNorm2d
from torch_model.model import EfficientDet
from torch_model.one_image import GatedWeightsBlock, for_one_image

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


@pytest.mark.parametrize("name", EVERY)
def test_for_one_image_it_is_the_same_function(name):
    model = drawn(EVERY[name]).double()
    images = torch.randn(1, 3, *SIZES.get(name, (97, 130)), dtype=torch.float64)
    network = fold(model)
    one = for_one_image(network)
    with torch.no_grad():
        assert apart(one(images), network(images)) < 1e-12
    assert not any(isinstance(part, GatedWeightsBlock) for part in network.modules())
    assert all(a is b for a, b in zip(one.parameters(), network.parameters(), strict=True))


def test_of_one_image_the_gates_of_large_maps_go_into_weights(model):
    network = fold(model)
    one = for_one_image(network)
    block = one.backbone.blocks[0]
    assert type(block) is GatedWeightsBlock
    channels, made = block.project_conv.in_channels, []
    block.se.scale.register_forward_hook(lambda *_: made.append(1))
    side = block.project_conv.out_channels
    with torch.no_grad():
        for large, product in ((2, 1), (3, 0)):
            x = torch.randn(1, channels, large, side)
            expected = network.backbone.blocks[0].projected(x)
            made.clear()
            assert torch.allclose(block.projected(x), expected, atol=1e-5)
            assert len(made) == product


def other_projection(block):
    block.project_conv = layers.Conv2d(block.project_conv.in_channels, 8)


def norm_behind(block):
    block.project_bn = BatchNorm2d(block.project_conv.out_channels)


def own_gates(block):
    block.se.__class__ = type("Own", (layers.SqueezeExcite,), {})


@pytest.mark.parametrize("change", [other_projection, norm_behind, own_gates])
def test_gates_stay_where_something_else_reads_them(model, change):
    network = fold(model)
    change(network.backbone.blocks[0])
    assert type(for_one_image(network).backbone.blocks[0]) is MBConvBlock


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
    assert len(optimized._programs) == 5


def test_it_is_not_compiled_without_end(model, monkeypatch):
    monkeypatch.setattr(form, "MAX_PROGRAMS", 1)
    optimized = model.optimized()
    optimized(torch.randn(1, 3, 96, 128))
    images = torch.randn(1, 3, 97, 130)
    with pytest.warns(UserWarning, match="others folded but not compiled"):
        found = optimized(images)
    assert len(optimized._programs) == 1
    with optimized.as_written():
        written = optimized(images.contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(a, b) for a, b in zip(every(found), every(written), strict=True))
    # It is said once.
    optimized(images)


def test_autocast_changes_nothing(model):
    images = torch.randn(1, 3, 96, 128)
    expected = every(model.optimized()(images))
    optimized = model.optimized()
    with torch.autocast("cpu", torch.bfloat16):
        first = every(optimized(images))
    for found in (first, every(optimized(images))):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_values_that_are_loaded_are_used(model):
    other = drawn(TINY)
    with torch.no_grad():
        for module in other.modules():
            if hasattr(module, "weights"):
                module.weights.copy_(torch.rand_like(module.weights))
        images = torch.randn(1, 3, 96, 128)
        expected = other(images)
    holder = torch.nn.Sequential(model.optimized())
    assert apart(holder(images), expected) > 1e-2
    holder.load_state_dict(torch.nn.Sequential(other.optimized()).state_dict())
    assert apart(holder(images), expected) < 2e-4


def test_a_program_of_it_is_made_of_the_folded_network(model):
    optimized = model.optimized()
    images = torch.randn(1, 3, 96, 128)
    optimized(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(optimized, images, strict=False)
    assert apart(traced(images), optimized(images)) < 2e-4
    exported = torch.export.export(optimized, (images,)).module()
    assert apart(exported(images), optimized(images)) < 2e-4


class OwnConv(layers.Conv2d):
    """A layer that computes something else."""

    def forward(self, x):
        return super().forward(x) * 2


def own_conv(model):
    model.backbone.stem_conv = OwnConv(3, 8, 3, 2, bias=False)


def other_norm(model):
    model.backbone.stem_bn = torch.nn.GroupNorm(2, 8)


def plain_prediction(model):
    model.class_head.predict = torch.nn.Conv2d(16, 63, 1)


def own_forward(model):
    model.box_head.forward = lambda features: []


def hooked(model):
    model.fpn.cells[0].nodes[0].bn.register_forward_hook(lambda *_: None)


def without_statistics(model):
    model.backbone.stem_bn.running_var = None


CHANGES = (own_conv, other_norm, plain_prediction, own_forward, hooked, without_statistics)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_known_is_refused(change):
    model = drawn(TINY)
    change(model)
    with pytest.raises(InputError, match="would not know what it computes; optimise a model as"):
        model.optimized()


def test_a_model_of_another_forward_is_refused():
    class Own(EfficientDet):
        def forward(self, images):
            return (*super().forward(images), images)

    with pytest.raises(InputError, match="Own has a forward of its own"):
        Own(TINY).eval().optimized()


def test_no_image_gives_no_output(model):
    classes, boxes = model.optimized()(torch.zeros(0, 3, 96, 128))
    assert all(len(output) == 0 for output in [*classes, *boxes])


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


def test_values_that_are_changed_in_place_are_used(model):
    optimized = model.optimized()
    images = torch.randn(1, 3, 96, 128)
    before = optimized(images)
    with torch.no_grad():
        optimized.network.class_head.predict.pointwise.bias.add_(1)
    after = optimized(images)
    assert apart(after, before) > 1e-3
    with optimized.as_written():
        assert apart(after, optimized(images)) < 2e-4


def test_values_that_take_the_place_of_others_are_used(model):
    optimized = model.optimized()
    images = torch.randn(1, 3, 96, 128)
    before = optimized(images)
    values = {name: value * 1.01 for name, value in optimized.state_dict().items()}
    optimized.load_state_dict(values, assign=True)
    after = optimized(images)
    assert apart(after, before) > 1e-2
    with optimized.as_written():
        assert apart(after, optimized(images)) < 2e-4


def test_another_network_that_takes_the_place_is_used(model):
    optimized, images = model.optimized(), torch.randn(1, 3, 96, 128)
    before = optimized(images)
    other = drawn(TINY)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(1.05)
        expected = other(images)
    optimized.network = other.optimized().network
    assert apart(optimized(images), before) > 1e-2
    assert apart(optimized(images), expected) < 2e-4


def test_who_looks_at_it_last_does_not_leave_it_as_written(model):
    optimized = model.optimized()
    one, other = optimized.as_written(), optimized.as_written()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    optimized(torch.randn(1, 3, 64, 64))
    assert not optimized._programs
    other.__exit__(None, None, None)
    optimized(torch.randn(1, 3, 64, 64))
    assert optimized._programs


def test_it_may_be_made_where_nothing_is_recorded(model):
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        optimized = model.optimized()
        expected = optimized(images)
    found = optimized(images)
    assert all(torch.equal(a, b) for a, b in zip(every(found), every(expected), strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_compile_anew(model, copied):
    optimized = model.optimized()
    images = torch.randn(1, 3, 64, 64)
    expected = every(optimized(images))
    other = copied(optimized)
    assert not other._programs and not other._compilations
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
