"""The first screen says whether the port is right, where it is not, and what to do."""

import made_results as made
import pytest
from handmade import finding, node, suspect

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from reports.pages.answers import answers, plain_verdict
from reports.pages.elements import Code, Link
from reports.reading.results import read_results
from reports.tables.summary import summarise


def told(tmp_path, run=None, **results):
    """The answers by question, each as lines of text, and the results."""
    made.write(tmp_path, run_values=run, **results)
    (found,) = read_results(tmp_path)
    row = summarise(found)
    texts = {
        answer.question: ["".join(map(text, line)) for line in answer.lines]
        for answer in answers(found, row)
    }
    return texts, plain_verdict(found, row.judgement.outcome)


def text(part):
    """A piece of a line as it reads."""
    return part.code if isinstance(part, Code) else part.text if isinstance(part, Link) else part


def test_a_port_that_is_right(tmp_path):
    found, plain = told(tmp_path, nodes=made.nodes(), structure=made.nodes(dtype="float64"))
    assert plain == "the port is right"
    assert list(found) == ["Is the port right?", "What do I do?", "What was compared?"]
    assert found["Is the port right?"][0].startswith("Yes: 4 of 4 nodes agree on 1 input")
    assert found["What do I do?"] == ["Nothing has to be mended."]
    assert found["What was compared?"] == [
        "The function build of model.py, with TensorFlow's graph, both with the same weights and "
        "on the same images."
    ]


def test_the_converted_model_is_called_so(tmp_path):
    values = made.nodes(candidate="elsewhere/efficientdet-d0/model.pth")
    found, plain = told(tmp_path, nodes=values)
    assert plain == "the converted model is right"
    assert "converted from checkpoints/efficientdet-d0" in found["What was compared?"][0]
    # What else there is to be compared is said where it could be.
    assert "--images and --annotations" in found["What do I do?"][1]
    other, _ = told(tmp_path / "other", nodes=made.nodes(candidate="mine/model.pth"))
    assert other["What was compared?"][0].startswith("mine/model.pth, with")


def test_a_port_that_is_not_right(tmp_path):
    found, plain = told(tmp_path, nodes=made.nodes(failing=True))
    assert plain == "the port is not right"
    assert found["Is the port right?"] == ["No: 4 of 5 nodes agree, 1 differs."]
    assert found["Where is it wrong?"] == [
        "fpn.resample_p6.pool, a max-pool layer, as made by the function build of model.py.",
        "What is wrong there: padded with zeros.",
        "12 nodes and 3 outputs of the network depend on it.",
    ]
    assert (
        found["What do I do?"][0] == "Mend fpn.resample_p6.pool in the function build of model.py."
    )
    assert "same command again" in found["What do I do?"][1]


def test_other_values_are_no_other_layer(tmp_path):
    name = "backbone.stem_conv2"
    guilty = suspect(name, slug="parameters-different", diagnosis="other parameters: one")
    values = made.nodes(
        node(name, Verdict.FUNCTION_DIFFERS),
        suspects=[guilty],
        findings=[finding("parameter-different", f"{name}.weight", "one value")],
    )
    found, _ = told(tmp_path, nodes=values)
    assert (
        "The layer is the right one, its values are not: other parameters: one."
        in (found["Where is it wrong?"])
    )
    assert found["What do I do?"][0] == (
        f"Give {name}.weight the checkpoint's values in the function build of model.py."
    )


def test_more_places_of_the_same_fault_are_counted(tmp_path):
    names = ["a.bn", "b.bn", "c.pool"]
    values = made.nodes(
        *(node(name, Verdict.FUNCTION_DIFFERS) for name in names),
        suspects=[
            suspect("a.bn", slug="epsilon", diagnosis="another epsilon", tried=True),
            suspect("b.bn", slug="epsilon", diagnosis="another epsilon", tried=True),
            suspect("c.pool", slug="max-pool", diagnosis="a maximum"),
        ],
    )
    found, _ = told(tmp_path, nodes=values)
    assert found["Where is it wrong?"][-1] == (
        "2 more places where something is wrong, 1 of them with the same fault, 1 not looked into."
    )


def test_a_fault_without_a_name(tmp_path):
    found, _ = told(tmp_path, nodes=made.nodes(node("lost", Verdict.CANDIDATE_DIFFERS)))
    assert "No fault that is known by name" in found["Where is it wrong?"][1]
    assert found["What do I do?"][0].startswith("Compare the code of lost in the function build")


@pytest.mark.parametrize(
    "slug, what", [("momentum", "Set it as the checkpoint"), ("not-repeatable", "two runs of")]
)
def test_what_no_node_shows(tmp_path, slug, what):
    values = made.nodes(findings=[finding(slug, "the place", "is off")])
    found, _ = told(tmp_path, nodes=values)
    assert found["Where is it wrong?"] == ["the place: is off."]
    assert what in found["What do I do?"][0]


def test_a_fault_of_the_converted_model_is_ours(tmp_path):
    values = made.nodes(failing=True, candidate="efficientdet-d0/model.pth")
    found, plain = told(tmp_path, nodes=values)
    assert plain == "the converted model is not right"
    assert "report it" in found["What do I do?"][0]


def test_a_difference_around_the_network(tmp_path):
    found, _ = told(tmp_path, nodes=made.nodes(), coco=made.coco(delta=-0.01))
    assert found["Where is it wrong?"][0].startswith("Not in the network, whose nodes agree")


def test_a_run_that_was_interrupted(tmp_path):
    names = ("convert", "nodes", "structure")
    planned = [{"name": name, "title": f"Do {name}"} for name in names]
    steps = [made.step("convert"), made.step("nodes")]
    run = made.run("efficientdet-d0", steps=steps, complete=False, planned=planned)
    found, plain = told(tmp_path, run, nodes=made.nodes())
    assert plain == "whether the port is right is not known"
    assert found["Is the port right?"] == [
        "Not known: not everything that was asked for was done. So far 4 of 4 nodes agree."
    ]
    assert found["What is missing?"] == [
        "Do structure: the run was interrupted before it.",
        "2 steps came to a result.",
    ]
    assert found["What do I do?"] == [
        "Run the same command again: it goes on where it stopped, and what is done is not made "
        "again."
    ]


def test_before_any_comparison_the_command_names_the_candidate(tmp_path):
    steps = [made.step("convert", "failed", 2, "cut short", result=None)]
    command = "python compare.py report x --candidate 'my port.py:make'"
    found, plain = told(tmp_path, made.run("efficientdet-d0", steps=steps, command=command))
    assert "No node was compared." in found["Is the port right?"][0]
    assert found["What is missing?"][0] == "Do convert: cut short."
    assert "as its reason says" in found["What do I do?"][0]
    assert found["What was compared?"][0].startswith("The function make of my port.py")
    command = "python compare.py report x --candidate effdet:tf_efficientdet_d0"
    named, _ = told(tmp_path / "named", made.run("efficientdet-d0", steps=steps, command=command))
    assert named["What was compared?"][0].startswith("The model tf_efficientdet_d0 of effdet, with")
    # A command that no shell could read names nobody.
    other = made.run("efficientdet-d0", steps=steps, command="it's")
    assert told(tmp_path / "other", other)[1] == "whether the converted model is right is not known"


def test_nodes_that_are_not_covered(tmp_path):
    values = made.nodes(node("lost", Verdict.NOT_COVERED, "no partner"))
    found, _ = told(tmp_path, nodes=values)
    assert found["What is missing?"] == ["lost: no partner."]
    assert "--names" in found["What do I do?"][0]


def test_every_end_has_its_words(tmp_path):
    made.write(tmp_path, nodes=made.nodes())
    (results,) = read_results(tmp_path)
    assert len({plain_verdict(results, outcome) for outcome in Outcome}) == len(Outcome)


def test_a_model_that_a_program_compared_is_named(tmp_path):
    live = "port.Net (a live module)"
    _, plain = told(tmp_path / "live", nodes=made.nodes(failing=True) | {"candidate": live})
    assert plain == "the port is not right"
    own = {"candidate": "converted on the fly"}
    _, plain = told(tmp_path / "own", nodes=made.nodes(failing=True) | own)
    assert plain == "the converted model is not right"
