"""Names override what is found by looking on, and what was found can be read as names again."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.results.records.names import NamedNode, NamesResult
from parity.results.records.record import made, write
from parity.sides.naming import base, own_paths, read_names
from parity.sides.pytorch.observation.candidate import ObservedCandidate

BLOCK = "backbone.blocks.2"


@pytest.fixture
def named(lockstep, tmp_path):
    """The pairing of a candidate with a file of names, and what is found there."""

    def make(model, given=None):
        nodes = list(lockstep.kinds)
        naming = None
        if given is not None:
            path = tmp_path / "names.json"
            path.write_text(json.dumps(given))
            naming = read_names(path, nodes)
        plain = lockstep.pairing(lockstep.faithful)
        candidate = ObservedCandidate(model, nodes, naming)
        return Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)

    return make


def found_in(pairing):
    """What was found of a candidate, once it has been compared."""
    return next(iter(pairing.candidate._found.values()))


def verdicts(comparison):
    return {node.name: node.verdict for node in comparison.nodes}


def without_distances(origins):
    return {node: replace(origin, distance=None) for node, origin in origins.items()}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *given):
        return self.function(*given)


def test_names_that_say_what_is_found_change_nothing(lockstep, named):
    given = {base(node): base(node) for node in lockstep.kinds}
    without, pairing = (named(lockstep.candidate(), names) for names in (None, given))
    plain, comparison = map(compare, (without, pairing))
    found = found_in(pairing)
    assert verdicts(comparison) == verdicts(plain)
    assert (comparison.outcome, comparison.notes) == (Outcome.PARITY, plain.notes)
    assert not found.named.overrides and not found.named.unmet
    assert found.named.paths == own_paths(lockstep.kinds).path_of()
    assert without_distances(pairing.candidate.origins()) == without_distances(
        without.candidate.origins()
    )


def test_a_name_is_followed_against_what_was_surely_found_and_that_is_told(lockstep, named):
    node, path = f"{BLOCK}.expand_act", f"{BLOCK}.depthwise_act"
    pairing = named(lockstep.candidate(), {node: path})
    comparison = compare(pairing)
    origin = pairing.candidate.origins()[node]
    assert (origin.path, origin.found, origin.sure) == (path, "name", True)
    (note,) = [text for text in comparison.notes if "name" in text]
    assert note.startswith(f"At {node} the name {path} is followed, though silu")
    assert note.endswith(f" in {node} was found to make it, by its values.")
    assert comparison.outcome is Outcome.DIFFERENCE
    assert note[len(f"At {node} ") : -1] in pairing.candidate.steps(node)


def test_a_name_says_where_a_node_ends_that_is_wrong(lockstep, named):
    """By itself an activation seems to end at the tanh, which is one, and not behind it."""
    node = f"{BLOCK}.depthwise_act"

    def build():
        model = lockstep.candidate()
        model.backbone.blocks[2].depthwise_act = Function(lambda x: torch.tanh(x) + 0.25)
        return model

    ends = {}
    for given in (None, {node: node}):
        pairing = named(build(), given)
        comparison = compare(pairing)
        failing = [item.name for item in comparison.nodes if item.verdict.fails]
        assert failing[0] == node
        ends[given is None] = pairing.candidate.origins()[node].operations[-1].split()[0]
        assert not [text for text in comparison.notes if "name" in text]
        assert "is followed" not in pairing.candidate.steps(node)
    assert ends == {True: "tanh", False: "add"}
    # Where the name says that the node ends, nothing else is wrong.
    assert failing == [node]


@pytest.mark.parametrize(
    "given, says",
    [
        (
            {"backbone.stem_act": "fpn.cells"},
            "The name of backbone.stem_act is not followed: fpn.cells is named for it and is never "
            "called; it was found without.",
        ),
        (
            {"class_head.acts.0": "class_head.acts.0", "class_head.acts.1": "class_head.acts.0"},
            "The name of class_head.acts.1@P3 and 4 more is not followed: class_head.acts.0 is "
            "named for 10 nodes, one for each call, and is called 5 times; it was found without.",
        ),
        (
            {"backbone.stem_conv": "fpn.resample_p6.conv"},
            "The name of backbone.stem_conv is not followed: fpn.resample_p6.conv, which is named "
            "for it, makes a tensor of shape [1, 16, 3, 4], expected is one that holds "
            "[1, 48, 64, 8]; it was found without.",
        ),
    ],
    ids=["never called", "too few calls", "another shape"],
)
def test_a_name_that_cannot_be_is_told_and_not_followed(lockstep, named, given, says):
    comparison = compare(named(lockstep.candidate(), given))
    assert says in comparison.notes
    assert comparison.outcome is Outcome.PARITY


def test_a_module_that_only_passes_on_is_no_second_partner(lockstep, named):
    """A batch norm was folded into its convolution, and both are named."""
    model = lockstep.candidate()
    block, folded = model.backbone.blocks[2], lockstep.referee.calls
    conv, norm = block.depthwise_conv, folded[f"{BLOCK}.depthwise_bn"].module
    with torch.no_grad():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight.mul_(scale.view(-1, 1, 1, 1))
        conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
    block.depthwise_bn = nn.Identity()
    given = {f"{BLOCK}.{name}": f"{BLOCK}.{name}" for name in ("depthwise_conv", "depthwise_bn")}
    pairing = named(model, given)
    comparison = compare(pairing)
    assert comparison.outcome is Outcome.PARITY
    assert [node.name for node in comparison.nodes if node.within] == [f"{BLOCK}.depthwise_conv"]


class Renamed(nn.Module):
    """The faithful model with other paths, where some steps are no modules."""

    def __init__(self, model):
        super().__init__()
        self.body, self.neck = model.backbone, model.fpn
        self.classes, self.boxes = model.class_head, model.box_head
        stem = (self.body.stem_conv, self.body.stem_bn, self.body.stem_act)
        del self.body.stem_conv, self.body.stem_bn, self.body.stem_act
        self.body.stem_conv = nn.Sequential(*stem)
        self.body.stem_bn = self.body.stem_act = lambda x: x
        for block in self.body.blocks:
            act = block.depthwise_act
            del block.depthwise_act
            block.depthwise_act = act.forward

    def forward(self, images):
        features = self.neck(self.body(images))
        return self.classes(features), self.boxes(features)


def test_what_was_found_is_written_read_and_found_again(lockstep, named, tmp_path):
    first = named(Renamed(lockstep.candidate()))
    comparison = compare(first)
    origins = first.candidate.origins()
    assert comparison.outcome is Outcome.PARITY
    assert origins.keys() == lockstep.kinds.keys()
    # The innermost that makes it and nothing else.
    assert origins["backbone.stem_bn"].path == "body.stem_conv.1"
    assert origins["backbone.stem_act"].path == "body.stem_conv.2"
    assert origins["class_head.acts.0@P4"].path == "classes.acts.0"
    assert origins[f"{BLOCK}.depthwise_act"].path is None
    assert "silu at " in origins[f"{BLOCK}.depthwise_act"].operations[0]
    path = tmp_path / "written.json"
    nodes = {node: made(NamedNode, origin) for node, origin in origins.items()}
    write(path, NamesResult(model="tiny", candidate="renamed", nodes=nodes))
    naming = read_names(path, list(lockstep.kinds))
    assert f"{BLOCK}.depthwise_act" not in naming.path_of()
    assert naming.path_of()["backbone.stem_bn"] == "body.stem_conv.1"
    again = named(Renamed(lockstep.candidate()), json.loads(path.read_text()))
    assert verdicts(compare(again)) == verdicts(comparison)
    assert again.candidate.origins() == origins
    assert not found_in(again).named.unmet


def _of_more(style, layer, given, step):
    return style.norm(given[0] * 1.25, layer)


def test_other_layouts_and_ways_are_told(lockstep, named):
    from port_styles import STYLES, Port

    fault = {f"{BLOCK}.depthwise_bn": _of_more}
    pairing = named(
        Port(lockstep.referee, lockstep.outputs, STYLES["channels last"](), fault).eval()
    )
    compare(pairing)
    origins = pairing.candidate.origins()
    stem = origins["backbone.stem_act"]
    assert (stem.found, stem.layout, stem.path) == ("values in another layout", "NHWC", None)
    assert (stem.sure, stem.shape) == (True, (1, 48, 64, 8))
    assert origins["backbone.stem_conv"].found == "values"
    wrong = origins[f"{BLOCK}.depthwise_bn"]
    assert (wrong.found, wrong.path) == ("parameters", None)
