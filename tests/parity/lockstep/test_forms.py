"""What is run in the place of what was written: held against it at the outputs, with a bound."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from port_styles import STYLES, Port
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from parity.lockstep import forms
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.results.records.nodes import OTHER_FORM
from parity.sides.pytorch import TorchCandidate, TorchValue
from parity.sides.pytorch.observation.candidate import ObservedCandidate

ACT = "backbone.blocks.2.depthwise_act"


@pytest.fixture(autouse=True)
def dynamo():
    """What was compiled is forgotten afterwards."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def backend(change):
    """A backend without a compiler that changes what it returns."""

    def compiler(graph, inputs):
        def run(*arguments):
            return tuple(
                change(made) if torch.is_tensor(made) and made.is_floating_point() else made
                for made in graph(*arguments)
            )

        return run

    return compiler


def plus(value):
    return backend(lambda made: made + value)


ROUNDED = backend(lambda made: made * (1 + 2**-22))
"""Off by a rounding or two."""


def port(lockstep, step=None):
    """Somebody else's port; one step of it is done otherwise."""
    fault = {} if step is None else {ACT: lambda style, layer, given, own: step(given[0])}
    return Port(lockstep.referee, lockstep.outputs, STYLES["functions"](), fault, False).eval()


def paired(lockstep, model, *, own_paths=False):
    plain = lockstep.pairing(lockstep.faithful)
    candidate = (
        TorchCandidate(model, lockstep.naming)
        if own_paths
        else ObservedCandidate(model, list(lockstep.kinds))
    )
    return Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)


def swish(x):
    return x * torch.sigmoid(x)


def of_compiler(lockstep, how, compiler):
    """A pairing of a candidate of which something is compiled."""
    if how == "model":
        return paired(lockstep, torch.compile(port(lockstep), backend=compiler))
    if how == "function":
        return paired(lockstep, port(lockstep, torch.compile(swish, backend=compiler)))
    model = lockstep.candidate()
    model.backbone.blocks[0].se.compile(backend=compiler)
    return paired(lockstep, model, own_paths=True)


def the_only_text(texts):
    (text,) = texts
    assert text.lower().startswith("nodes were judged on the uncompiled form; the compiled form")
    return text


@pytest.mark.parametrize("how", ["function", "own paths"])
def test_what_a_compiler_rounds_otherwise_is_within_the_bound(lockstep, how):
    found = compare(of_compiler(lockstep, how, ROUNDED))
    assert (found.outcome, list(found.runs)) == (Outcome.PARITY, [])
    assert ", within the bound " in the_only_text(found.notes)


@pytest.mark.parametrize(
    "how, value",
    [
        # Compiling a whole model takes as long as all others together; that its outputs are held
        # against those of what was written is seen on its parts.
        pytest.param("model", 1e-4, marks=pytest.mark.heavy),
        pytest.param("method", 1e-2, marks=pytest.mark.heavy),
        ("function", 1e-2),
        pytest.param("function", 1e-4, marks=pytest.mark.heavy),
        ("own paths", 1e-2),
    ],
)
def test_what_a_compiler_gets_wrong_is_a_difference(lockstep, how, value):
    found = compare(of_compiler(lockstep, how, plus(value)))
    assert found.outcome is Outcome.DIFFERENCE and found.outcome.exit_code == 1
    # What was written is right.
    assert all(node.verdict.passes for node in found.nodes)
    (finding,) = found.runs
    assert (finding.slug, finding.place) == (OTHER_FORM, "the candidate")
    assert ", beyond the bound " in the_only_text([finding.text])


@pytest.fixture
def outputs(lockstep):
    """A pairing and what its candidate returns."""
    pairing = paired(lockstep, port(lockstep))
    return pairing, pairing.run_unobserved()


@pytest.mark.parametrize(
    "change, what",
    [
        (torch.Tensor.double, "returns float64 of the shape [1, 63, 12, 16] as output number 0"),
        (lambda made: made[..., 1:], "returns float32 of the shape [1, 63, 12, 15] as output"),
        (lambda made: made * float("nan"), "differ from it by nan (output number 0), beyond the"),
    ],
    ids=["type", "shape", "no numbers"],
)
def test_other_tensors_of_a_compiler_are_a_difference(lockstep, outputs, change, what):
    pairing, written = outputs
    real = [TorchValue(change(written[0].tensor)), *written[1:]]
    found = forms.compared_forms(pairing, real, written, lockstep.kinds, judged=True)
    assert what in the_only_text([finding.text for finding in found.findings])
    found = forms.compared_forms(pairing, written[1:], written, lockstep.kinds, judged=True)
    assert "returns 9 tensors, not 10" in the_only_text([item.text for item in found.findings])


@pytest.mark.parametrize(
    "seen, judged, what",
    [(0, False, "differ from it by up to "), (1, True, "where the last nodes are not seen")],
    ids=["nodes differ", "a last node is not seen"],
)
def test_where_nothing_is_said_of_the_bound(lockstep, outputs, seen, judged, what):
    pairing, written = outputs
    real = [TorchValue(value.tensor.double().add(1e-6).float()) for value in written]
    visited = [name for name in lockstep.kinds if name not in lockstep.outputs[:seen]]
    found = forms.compared_forms(pairing, real, written, visited, judged=judged)
    assert not found.findings and bool(found.notes) != judged
    text = the_only_text([*found.notes, *found.not_shown])
    assert what in text and "the bound" not in text


# What is no compiler, and not the same where it is watched


def watched(x):
    return swish(x) * (1.0 if _get_current_dispatch_mode() is not None else 1.01)


def compiling(x):
    return swish(x) * (1.01 if torch.compiler.is_compiling() else 1.0)


@pytest.mark.parametrize("step", [watched, torch.compile(compiling, backend="eager")])
def test_what_is_right_only_where_it_is_watched_is_a_difference(lockstep, step):
    found = compare(paired(lockstep, port(lockstep, step)))
    assert (found.outcome, bool(found.runs)) == (Outcome.DIFFERENCE, True)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_what_threads_get_wrong_is_seen_by_what_reads_it(lockstep, threads):
    def wrong(x):
        return threads.submit(lambda: swish(x) * 1.01).result()

    found = compare(paired(lockstep, port(lockstep, wrong)))
    assert found.outcome is Outcome.DIFFERENCE


def test_what_threads_do_as_a_whole_is_not_shown(lockstep, threads):
    class Threaded(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return threads.submit(torch.no_grad()(self.model), images).result()

    found = compare(paired(lockstep, Threaded(port(lockstep)).eval()))
    assert found.outcome is Outcome.NOT_SHOWN


def test_exported_and_vectorised_ports_are_seen_through(lockstep):
    images = torch.from_numpy(lockstep.images).permute(0, 3, 1, 2).contiguous()
    exported = torch.export.export(port(lockstep), (images,)).module()
    vectorised = port(lockstep, torch.vmap(swish))
    for model in (exported, vectorised):
        found = compare(paired(lockstep, model))
        assert [node.name for node in found.nodes if not node.verdict.passes] == []
        assert found.outcome is Outcome.PARITY


def test_a_distributed_wrapper_is_seen_through(lockstep):
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = port(lockstep)
        # It wants something to train, and hands buffers round before each run.
        model.spare = nn.Parameter(torch.zeros(1))
        model.register_buffer("counter", torch.zeros(3))
        wrapped = nn.parallel.DistributedDataParallel(model).eval()
        assert compare(paired(lockstep, wrapped)).outcome is Outcome.PARITY
    finally:
        distributed.destroy_process_group()
