"""What every candidate promises: it is seen at every node, and goes on with what it is given."""

import numpy as np
import pytest
import torch
from torch import nn

from parity.sides.naming import own_paths
from parity.sides.pytorch import FaithfulReferee, TorchCandidate
from parity.sides.side import CandidateError, Mode
from torch_model.checkpoint import from_arrays

SIZE = (96, 128)
CANDIDATES = {
    "module": lambda model, naming: TorchCandidate(model, naming),
    "wrapped": lambda model, naming: TorchCandidate(
        nn.Sequential(model), own_paths(naming.nodes, "0.")
    ),
}


class Opened:
    def __init__(self, conversion):
        import reference_tf

        built = reference_tf.build(conversion.config, *SIZE)
        self.kinds, self.outputs = built.kinds, built.output_nodes
        self.conversion = conversion
        self.images = np.random.default_rng(5).standard_normal((1, *SIZE, 3)).astype("float32")
        self.referee = FaithfulReferee(self.model(), self.kinds, self.images.shape)

    def model(self):
        arrays = {name: array.copy() for name, array in self.conversion.arrays.items()}
        return from_arrays(self.conversion.config, arrays, "tiny")

    def run(self, candidate, visit):
        referee = self.referee
        return candidate.run(self.images, visit, referee.inputs_of, referee.wiring)


@pytest.fixture(scope="module")
def opened(tiny_conversion):
    return Opened(tiny_conversion)


@pytest.fixture(params=CANDIDATES)
def candidate(request, opened):
    return CANDIDATES[request.param](opened.model(), own_paths(opened.kinds))


def test_every_node_is_seen_once_with_its_tensor(candidate, opened):
    seen = {}
    opened.run(
        candidate, lambda name, made: seen.update({name: (made.value.shape, made.value.dtype)})
    )
    assert list(seen) == list(opened.kinds)
    sitting = opened.referee.inputs_of
    for name, (shape, dtype) in seen.items():
        assert dtype == "float32" and len(shape) == 4
        for reader, shape_read in sitting.items():
            if opened.referee.sources(reader)[0] == name:
                assert shape_read == shape


def test_what_it_reads_is_known(candidate, opened):
    read = {}
    opened.run(candidate, lambda name, made: read.update({name: made.read()}))
    for name in opened.kinds:
        known = [node for node in read[name] if node is not None]
        assert known == [node for node in opened.referee.sources(name) if node in opened.kinds]


def test_it_goes_on_with_what_it_is_given(candidate, opened):
    name = next(iter(opened.kinds))
    reader = next(node for node in opened.kinds if opened.referee.sources(node) == (name,))
    given, read = {}, {}

    def visit(node, made):
        if node == name:
            given[node] = made.value.array() * 3 + 1
            assert np.array_equal(made.kept(given[node]).array(), given[node])
            return given[node]
        if node == reader:
            read["exact"] = made.exact()
            read["nodes"] = made.read()
        return None

    with_it = opened.run(candidate, visit)
    assert read["nodes"] == (name,)
    operation = opened.referee.operation(reader)
    exact, gauge = operation.whole([given[name]])
    assert np.abs(read["exact"] - exact).max() <= 1e-6 * gauge.max()
    without = candidate.run_unobserved(opened.images)
    assert not any(one.identical(other) for one, other in zip(with_it, without, strict=True))


def test_seeing_changes_nothing(candidate, opened):
    seen = opened.run(candidate, lambda name, made: None)
    for gradients in (False, True):
        alone = candidate.run_unobserved(opened.images, Mode(gradients=gradients))
        assert len(alone) == len(opened.outputs)
        assert all(one.identical(other) for one, other in zip(seen, alone, strict=True))


def test_an_error_of_whoever_looks_is_not_the_candidates(candidate, opened):
    def visit(name, made):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        opened.run(candidate, visit)


def test_an_error_of_its_own_is_one_sentence(opened):
    model = opened.model()
    model.backbone.stem_act.forward = lambda x: x @ x
    candidate = TorchCandidate(model, own_paths(opened.kinds))
    with pytest.raises(CandidateError) as raised:
        candidate.run_unobserved(opened.images)
    assert "\n" not in str(raised.value) and "run it by itself" in str(raised.value)


def test_values_of_any_type_can_be_held_against_each_other(opened):
    class Half(nn.Module):
        def forward(self, x):
            return [x.to(torch.bfloat16), x.double(), x[0]]

    naming = own_paths(opened.kinds)
    half, wide, flat = TorchCandidate(Half(), naming).run_unobserved(opened.images)
    assert (half.dtype, half.coarseness, wide.coarseness) == ("bfloat16", 2, 8)
    assert flat.shape is None and flat.dims == (3, *SIZE)
    assert half.same(half) and half.identical(half) and not half.identical(wide)
    assert not half.same(wide) and 0 < half.apart(wide) < 0.1
    assert wide.shape == (1, *SIZE, 3) and np.array_equal(wide.array(), opened.images)
