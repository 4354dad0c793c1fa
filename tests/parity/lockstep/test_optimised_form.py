"""The optimised form is proven as any candidate is: its folded nodes, and what it returns."""

import pytest
import torch

from efficientdet_spec import InputError, NodeKind
from parity.commands.comparing.trials import pair
from parity.diagnosis.suspects import findings
from parity.lockstep.comparison import compare
from parity.process.outcome import Outcome
from parity.results.records.nodes import OTHER_FORM
from parity.sides.pytorch import wrappers
from parity.sides.side import OPTIMIZED
from torch_model import optimized as form


@pytest.fixture
def paired(lockstep):
    plain = lockstep.pairing(lockstep.faithful)

    def make(model):
        images, referee = lockstep.images, lockstep.referee
        return pair(None, plain.reference, model, lockstep.faithful, images, referee)

    return make


def test_every_node_is_judged_on_the_folded_form(lockstep, paired):
    optimized = lockstep.candidate().optimized()
    assert wrappers.form_of(optimized) is OPTIMIZED
    found = compare(paired(optimized))
    assert (found.outcome, list(found.runs)) == (Outcome.PARITY, [])
    by_name = {node.name: node for node in found.nodes}
    assert set(by_name) == set(lockstep.kinds)
    # A convolution is judged together with the batch norm that was folded into it.
    folded = [name for name, kind in lockstep.kinds.items() if kind is NodeKind.BATCH_NORM]
    assert folded and all(by_name[name].verdict.passes for name in folded)
    (text,) = [note for note in found.notes if "optimised form" in note]
    assert text.startswith("Nodes were judged on the folded form; ") and "within the bound" in text


def test_a_value_that_was_folded_wrong_is_found(lockstep, paired):
    optimized = lockstep.candidate().optimized()
    with torch.no_grad():
        optimized.network.backbone.blocks[2].project_conv.bias[3] += 0.01
    found = compare(paired(optimized))
    assert found.outcome is Outcome.DIFFERENCE
    accused = [node.name for node in found.nodes if node.verdict.fails]
    assert accused[0] == "backbone.blocks.2.project_bn"


def test_the_values_of_a_convolution_are_not_called_those_of_the_norm_that_it_took_in(
    lockstep, paired
):
    model = lockstep.candidate()
    with torch.no_grad():
        model.backbone.blocks[2].project_bn.running_var.mul_(1.3)
    pairing = paired(model.optimized())
    found = compare(pairing)
    accused = [node.name for node in found.nodes if node.verdict.fails]
    assert accused == ["backbone.blocks.2.project_bn"]
    assert findings(pairing, lockstep.known()) == []


def test_a_program_that_is_a_little_off_is_found(lockstep, paired, monkeypatch):
    right = form.compiled

    def compiled(network, images):
        program = right(network, images)
        return lambda given: ([x + 1e-4 for x in program(given)[0]], program(given)[1])

    monkeypatch.setattr(form, "compiled", compiled)
    found = compare(paired(lockstep.candidate().optimized()))
    assert found.outcome is Outcome.DIFFERENCE
    assert all(node.verdict.passes for node in found.nodes)
    (finding,) = found.runs
    assert finding.slug == OTHER_FORM and "beyond the bound" in finding.text


class Named(torch.nn.Module):
    """Somebody's model with something of that name."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, images):
        return self.m(images)


@pytest.mark.parametrize("other", [True, staticmethod(lambda: None), lambda self, it: None])
def test_something_else_of_that_name_is_left_alone(lockstep, other):
    kind = type("Own", (Named,), {"as_written": other})
    model = kind(lockstep.candidate())
    assert wrappers.form_of(model) is None
    with wrappers.as_written(model):
        pass


def fails(self):
    raise RuntimeError("engine gone")


@pytest.mark.parametrize(
    "method, said",
    [(fails, "fails with RuntimeError: engine gone"), (lambda self: "text", "gives a str")],
)
def test_a_method_that_gives_no_written_form_is_said(lockstep, method, said):
    model = type("Own", (Named,), {"as_written": method})(lockstep.candidate())
    with pytest.raises(InputError, match=said), wrappers.as_written(model):
        pass
