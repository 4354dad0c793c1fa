"""Ports in many styles without a name: each node found, faithful ones passed, faults placed."""

from dataclasses import replace

import pytest
import torch
from port_styles import STYLES, JoinedInside, Port, pads
from scripted_port import LeftOut, Rolled, Slope, scripted_port

from parity.diagnosis.suspects import diagnosed, suspects
from parity.lockstep.comparison import compare, compare_isolated
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.side import PLAIN, Mode

BLOCK = "backbone.blocks.2"


def observed(lockstep, model):
    """A pairing of the tiny model's reference and a candidate without names."""
    plain = lockstep.pairing(lockstep.faithful)
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    return Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)


def port(lockstep, style, *, fault=None, folded=False):
    return Port(lockstep.referee, lockstep.outputs, STYLES[style](), fault, folded).eval()


# Each style either folded or not, in turn; the other is heavy.
@pytest.mark.parametrize(
    "style, folded",
    [
        pytest.param(style, folded, marks=pytest.mark.heavy if (number + folded) % 2 else ())
        for number, style in enumerate(STYLES)
        for folded in (False, True)
    ],
)
def test_every_node_of_a_faithful_port_is_found_and_right(lockstep, style, folded):
    found = compare(observed(lockstep, port(lockstep, style, folded=folded)))
    wrong = [(node.name, node.reason) for node in found.nodes if not node.verdict.passes]
    assert (found.outcome, wrong, found.runs) == (Outcome.PARITY, [], [])
    together = [node.name for node in found.nodes if node.within]
    # A convolution that shows itself is no part of a span.
    assert bool(together) == folded
    assert all(".bn" not in name and "act" not in name for name in together)


def scaled(style, layer, given, step):
    return step() * 1.25


def slope(style, layer, given, step):
    x = given[0].clone()
    return x * torch.sigmoid(1.5 * x)


def rolled(style, layer, given, step):
    return step().roll(1, 2)


def left_out(style, layer, given, step):
    return given[0]


FAULTS = {
    "another slope": (f"{BLOCK}.depthwise_act", slope),
    "no activation": (f"{BLOCK}.depthwise_act", left_out),
    "no gate": (f"{BLOCK}.se.gate", left_out),
    "no shortcut": (f"{BLOCK}.residual", left_out),
    "a mean times 1.25": (f"{BLOCK}.se.pool", scaled),
    "a fusion times 1.25": ("fpn.cells.0.nodes.3.fuse", scaled),
    "an up-sampling by a pixel": ("fpn.cells.0.nodes.3.resamples.1.upsample", rolled),
    "a convolution by a pixel": ("backbone.stem_conv", rolled),
}
ELSEWHERE = ("no activation", "no shortcut")
"""Of these another style is in the suite, further below."""
CASES = [
    *(
        pytest.param(
            *(fault, list(STYLES)[number % len(STYLES)], False),
            marks=[] if number % 2 and fault not in ELSEWHERE else [pytest.mark.heavy],
        )
        for number, fault in enumerate(FAULTS)
    ),
    *((fault, style, False) for fault, style in (("no activation", "einsum"),)),
    *(
        pytest.param(
            *(fault, "functions", True),
            marks=pytest.mark.heavy if fault in ELSEWHERE else [],
        )
        for fault in list(FAULTS)[::3]
    ),
    *((fault, style, folded) for fault, style, folded in (("no shortcut", "in place", True),)),
]
"""Each fault in one style, and some in others; all of them in all styles take minutes."""


@pytest.mark.parametrize("fault, style, folded", CASES)
def test_a_fault_is_placed_and_nothing_else_is_accused(lockstep, fault, style, folded):
    node, change = FAULTS[fault]
    model = port(lockstep, style, fault={node: change}, folded=folded)
    pairing = observed(lockstep, model)
    found = compare(pairing)
    failing = {item.name for item in found.nodes if item.verdict.fails}
    near = {node} | readers(lockstep, {node})
    if folded:
        # What is folded shows in the batch norm behind, or in what reads that.
        near |= readers(lockstep, near)
    assert found.outcome is Outcome.DIFFERENCE
    assert failing and failing <= near
    uncovered = {item.name for item in found.nodes if not item.verdict.passes} - failing
    inside = {item.name for item in found.nodes if item.within}
    assert uncovered <= near | inside
    (first, *_) = diagnosed(
        pairing, suspects(pairing, found.nodes), found.nodes, lockstep.known(), [], 5
    )
    assert set(first.nodes) <= near
    if change is left_out and not folded and style != "by parts":
        # By parts a mean has two steps, of which the first could have been the activation.
        assert (first.nodes, first.slug) == ((node,), "left-out")
    elif change is scaled:
        # Where the step too many is written.
        assert any("made by" in text and "port_styles.py" in text for text in first.evidence)


def readers(lockstep, nodes):
    return {name for name, read in lockstep.referee.wiring.items() if nodes & set(read)}


def test_what_has_no_weight_proves_nothing(lockstep):
    """A fusion that takes an input out says nothing of what makes that input."""
    model = port(lockstep, "functions")
    pairing = observed(lockstep, model)
    compare(pairing)
    partners = next(iter(pairing.candidate._found.values())).partners.found
    closed = [
        (node, call.sources[number])
        for node, call in lockstep.referee.calls.items()
        if node.endswith(".fuse")
        for number, weight in enumerate(call.arguments[1].tolist())
        if weight <= 0
    ]
    assert closed
    for _, source in closed:
        assert source in partners


def test_a_candidate_that_does_something_else_each_time_is_refused(lockstep):
    from parity.sides.side import CandidateError

    class Moody(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.runs = model, 0

        def forward(self, images):
            self.runs += 1
            if self.runs % 2:
                images = (images + 1) - 1
            return self.model(images)

    model = Moody(port(lockstep, "functions")).eval()
    with pytest.raises(CandidateError, match="does not do the same in each run"):
        compare(observed(lockstep, model))


@pytest.mark.parametrize("style", ["boxes first and joined", "channels last"])
def test_outputs_are_recognised_in_any_arrangement(lockstep, style):
    found = compare(observed(lockstep, port(lockstep, style)))
    joined = [note for note in found.notes if "joined to [N, anchors, values]" in note]
    assert len(joined) == (2 if style.startswith("boxes") else 0)


def test_outputs_that_are_changed_behind_the_last_layer_are_not_passed(lockstep):
    class Changed(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            boxes, classes = self.model(images)
            return boxes * 1.0001, classes

    model = Changed(port(lockstep, "boxes first and joined")).eval()
    found = compare(observed(lockstep, model))
    assert found.outcome is Outcome.NOT_SHOWN
    assert "box outputs in an arrangement" in found.not_shown[0]


class Returning(torch.nn.Module):
    """Returns something else of what a port returns."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images):
        return self.change(*self.model(images), images)


@pytest.mark.parametrize(
    "change, outcome",
    [
        (lambda classes, boxes, images: (boxes, classes), Outcome.PARITY),
        (lambda classes, boxes, images: (classes[::-1], boxes[::-1]), Outcome.PARITY),
        (
            lambda classes, boxes, images: ([classes[1], classes[0], *classes[2:]], boxes),
            Outcome.DIFFERENCE,
        ),
        (
            lambda classes, boxes, images: ([classes[0] + 1e-3, *classes[1:]], boxes),
            Outcome.DIFFERENCE,
        ),
        (lambda classes, boxes, images: classes, Outcome.NOT_SHOWN),
        # What is right is computed, and something else is returned.
        (
            lambda classes, boxes, images: ([images.sum() + x * 0 for x in classes], boxes),
            Outcome.DIFFERENCE,
        ),
    ],
    ids=["boxes first", "coarsest first", "two exchanged", "moved", "no boxes", "a decoy"],
)
def test_what_is_returned_counts(lockstep, change, outcome):
    model = Returning(port(lockstep, "functions"), change).eval()
    assert compare(observed(lockstep, model)).outcome is outcome


def test_steps_in_half_precision_are_the_very_steps_that_fail(lockstep):
    def half(style, layer, given, step):
        return torch.nn.functional.silu(given[0].half()).float()

    acts = [name for name in lockstep.kinds if name.endswith("_act")]
    model = port(lockstep, "functions", fault=dict.fromkeys(acts, half))
    nodes = compare(observed(lockstep, model)).nodes
    assert [node.name for node in nodes if not node.verdict.passes] == acts


def test_inference_mode_gradients_and_threads_see_the_same_nodes(lockstep):
    pairing = observed(lockstep, port(lockstep, "by parts"))
    for mode in (Mode(inference=True), Mode(gradients=True), Mode(channels_last=True)):
        nodes = compare_isolated(replace(pairing, mode=mode))
        assert [node.name for node in nodes if not node.verdict.passes] == []


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_traced_model_is_seen_through(lockstep):
    model = port(lockstep, "functions")
    images = torch.from_numpy(lockstep.images).permute(0, 3, 1, 2).contiguous()
    # Its first run, in which it is compiled, is none that is watched.
    found = compare(observed(lockstep, torch.jit.trace(model, images)))
    assert [node.name for node in found.nodes if not node.verdict.passes] == []
    assert found.outcome is Outcome.PARITY


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "change", [None, pytest.param(torch.jit.optimize_for_inference, marks=pytest.mark.heavy)]
)
def test_a_script_is_seen_through(lockstep, change):
    script = scripted_port(lockstep.referee, lockstep.outputs)
    model = script if change is None else change(script)
    pairing = observed(lockstep, model)
    # In the first of these modes it is compiled, which fails while operations are watched.
    for mode in (Mode(inference=True), PLAIN):
        nodes = compare_isolated(replace(pairing, mode=mode))
        assert [node.name for node in nodes if not node.verdict.passes] == []
    found = compare(pairing)
    assert (found.outcome, found.runs, found.notes) == (Outcome.PARITY, [], [])
    # oneDNN's convolutions have the batch norms in them.
    assert any(node.within for node in found.nodes) == (change is not None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "node, step",
    [
        (f"{BLOCK}.depthwise_act", Slope),
        pytest.param(f"{BLOCK}.residual", LeftOut, marks=pytest.mark.heavy),
        pytest.param("backbone.stem_conv", Rolled, marks=pytest.mark.heavy),
    ],
)
def test_a_fault_in_a_script_is_placed(lockstep, node, step):
    model = scripted_port(lockstep.referee, lockstep.outputs, {node: step})
    found = compare(observed(lockstep, model))
    failing = {item.name for item in found.nodes if not item.verdict.passes}
    assert found.outcome is Outcome.DIFFERENCE
    assert failing and failing <= {node} | readers(lockstep, {node})


@pytest.mark.parametrize(
    "change", [None, lambda product: product * 1.25, lambda product: product.flip(1)]
)
def test_levels_joined_within_the_network_are_never_passed_nor_accused(lockstep, change):
    """A layer over all levels at once is none that has a partner: it is not covered."""
    model = JoinedInside(lockstep.referee, lockstep.outputs, STYLES["functions"]()).eval()
    if change is not None:
        model.change = change
    found = compare(observed(lockstep, model))
    assert found.outcome is Outcome.NOT_SHOWN
    assert {node.name for node in found.nodes if not node.verdict.passes} == {*lockstep.outputs}
    assert not any(node.verdict.fails for node in found.nodes)


def test_a_fault_before_joined_levels_is_placed(lockstep):
    node = f"{BLOCK}.residual"
    style = STYLES["functions"]()
    model = JoinedInside(lockstep.referee, lockstep.outputs, style, {node: left_out}).eval()
    found = compare(observed(lockstep, model))
    failing = {item.name for item in found.nodes if item.verdict.fails}
    assert node in failing and failing <= {node} | readers(lockstep, {node})


class Shifted(STYLES["functions"]):
    """A depthwise convolution is a sum of shifted maps, the corner of the kernel first."""

    def depthwise(self, x, layer):
        x = torch.nn.functional.pad(x, pads(x, layer.kernel_size, layer.stride))
        rows, columns = layer.kernel_size
        (down, across), total = layer.stride, 0
        height, width = x.shape[2] - rows + 1, x.shape[3] - columns + 1
        for i in range(rows):
            for j in range(columns):
                shifted = x[:, :, i : i + height : down, j : j + width : across]
                total = total + shifted * layer.weight[:, 0, i, j][:, None, None]
        return total


def test_a_convolution_may_be_a_sum_of_many_products(lockstep):
    """At P7 the first of them read nothing but padding, and are zero."""
    model = Port(lockstep.referee, lockstep.outputs, Shifted()).eval()
    assert compare(observed(lockstep, model)).outcome is Outcome.PARITY
