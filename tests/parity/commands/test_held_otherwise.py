"""Parameters that are held in another way accuse nobody whose nodes are right."""

from handmade import node

from efficientdet_spec import NodeKind
from parity.commands.comparing.nodes import _held_otherwise
from parity.judge.verdict import Verdict
from parity.results.records.nodes import Finding


def told(finding, *nodes):
    found, notes = _held_otherwise([finding], [], nodes)
    return bool(found), notes


def test_only_what_is_right_for_any_input_is_a_note():
    norm = node("stem_bn", Verdict.ROUNDING, kind=NodeKind.BATCH_NORM)
    kernel = node("stem_conv", Verdict.ROUNDING, kind=NodeKind.CONV)
    eps = Finding("eps", "stem_bn", "its eps is 0.0 instead of 0.001")
    assert told(eps, norm)[0] is False
    assert told(eps, node("stem_bn", Verdict.FUNCTION_DIFFERS, kind=NodeKind.BATCH_NORM))[0]
    values = Finding("parameter-different", "stem_conv.weight", "other values")
    # Another input may reach the values that this one does not.
    assert told(values, kernel)[0]
    (note,) = told(Finding("parameter-shape", "stem_conv.weight", "of another shape"), kernel)[1]
    assert note.startswith("Held otherwise, with the same result on these inputs: of another shape")
    assert told(Finding("training", "stem_bn", "it is in training mode"), norm)[0]
