"""Results are read and checked: what is not as it should be is named, and nothing else happens."""

import json

import made_results as made
import pytest

from efficientdet_spec import InputError
from parity.process.outcome import Outcome
from parity.results.records.failure import Failure
from parity.results.records.record import write
from reports.reading.results import read_results
from reports.tables.judgement import judge


def changed(values, path, value):
    """A copy with one entry replaced, or deleted where the value is ``...``."""
    copy = json.loads(json.dumps(values))
    place = copy
    for name in path[:-1]:
        place = place[name]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


def test_everything_is_read(tmp_path):
    made.write_all(tmp_path)
    (found,) = read_results(tmp_path)
    assert (found.slug, found.model) == ("efficientdet-d0", "efficientdet-d0")
    assert found.nodes.model == "efficientdet-d0" and found.coco.complete
    assert found.structure_error == 3e-4
    assert found.files()[0] == "run.json" and len(found.files()) == 7
    assert found.pictures() == ["one.png"]


def test_what_is_missing_is_none(tmp_path):
    made.write(tmp_path)
    (found,) = read_results(tmp_path)
    assert found.nodes is found.conversion is found.coco is found.structure_error is None
    assert found.files() == ["run.json"] and found.pictures() == []


def test_official_models_come_first_and_in_their_order(tmp_path):
    for slug in ("efficientdet-d7x", "a-port", "efficientdet-d7", "efficientdet-d10", "unknown"):
        model = "efficientdet-d0" if slug == "a-port" else slug
        made.write(tmp_path, slug, made.run(slug, model=model))
    (tmp_path / "no-model").mkdir()
    found = [item.slug for item in read_results(tmp_path)]
    assert found == ["a-port", "efficientdet-d7", "efficientdet-d7x", "efficientdet-d10", "unknown"]


def test_no_results(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        read_results(tmp_path)
    with pytest.raises(InputError, match="holds no results"):
        read_results(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800"])
def test_a_file_that_is_no_json(tmp_path, text):
    place = made.write_all(tmp_path)
    (place / "nodes.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=r"nodes.json cannot be read \(.*make it again"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "values, found",
    [
        ([], "no result"),
        ({}, "no result"),
        ({"schema": "efficientdet-parity/coco", "version": 2}, "'efficientdet-parity/coco'"),
        ({"schema": "efficientdet-parity/nodes", "version": 2}, ".*version 2"),
    ],
)
def test_another_schema(tmp_path, values, found):
    made.write_all(tmp_path, nodes=values)
    with pytest.raises(InputError, match=f"nodes.json is {found}.*expected.*nodes version 3"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "name, path, value, message",
    [
        ("nodes", ("nodes",), {}, "nodes is an object, expected a list"),
        ("nodes", ("nodes", 1, "name"), 7, r"nodes\[1\].name is 7, expected a text"),
        (
            "nodes",
            ("nodes", 1, "verdict"),
            "fine",
            r"nodes\[1\].verdict is 'fine', expected one",
        ),
        ("nodes", ("nodes", 0, "free", "rms"), "many", "free.rms is 'many', expected a number"),
        ("nodes", ("nodes", 0, "free", "rms"), True, "free.rms is True, expected a number"),
        ("nodes", ("nodes", 0, "reason"), ..., r"nodes\[0\] has no reason"),
        ("nodes", ("passes",), "yes", "passes is 'yes', expected true or false"),
        ("nodes", ("outcome",), "fine", "outcome is 'fine', expected one of parity"),
        ("nodes", ("inputs",), [], "inputs is empty, expected at least one entry"),
        ("nodes", ("inputs", 0, "batch"), ..., r"inputs\[0\] has no batch"),
        ("nodes", ("coverage", "text"), "all", "coverage.text is 'all', expected a list"),
        ("nodes", ("nodes", 0, "input"), 7, "names input 7 for 'backbone.stem_conv', expected one"),
        ("coco", ("compared", "matched"), None, "compared.matched is None, expected a whole"),
        ("nodes", ("counts", "exact"), 1.5, "counts.exact is 1.5, expected a whole number"),
        ("nodes", ("closeups", 0, "map"), None, r"closeups\[0\].map is None, expected an object"),
        ("conversion", ("ledger", "variables"), ..., "ledger has no variables"),
        ("coco", ("metrics", "torch", "AP"), [], "metrics.torch.AP is a list, expected a number"),
        ("detect", ("images",), None, "images is None, expected a list"),
        ("self_check", ("faults", 0, "detected"), 1, r"faults\[0\].detected is 1"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, name, path, value, message):
    place = made.write_all(tmp_path)
    file = place / made.FILES[name]
    file.write_text(json.dumps(changed(json.loads(file.read_text()), path, value)))
    with pytest.raises(InputError, match=f"{file.name}.*{message}.*make it again"):
        read_results(tmp_path)


def test_numbers_that_json_cannot_hold(tmp_path):
    place = made.write_all(tmp_path)
    file = place / "nodes.json"
    for value in ("nan", "inf", "-inf"):
        values = changed(json.loads(file.read_text()), ("nodes", 0, "free", "rms"), value)
        file.write_text(json.dumps(values))
        assert str(read_results(tmp_path)[0].nodes.nodes[0].free.rms) == value


@pytest.mark.parametrize("slug", ["index", "Assets", "report", "-rf", ".hidden", "a b", "a" * 101])
def test_names_that_no_page_can_have(tmp_path, slug):
    made.write(tmp_path, slug)
    with pytest.raises(InputError, match="rename the folder"):
        read_results(tmp_path)


def test_a_name_that_is_not_the_folders(tmp_path):
    made.write(tmp_path, "one", made.run("../two"))
    with pytest.raises(InputError, match="is of '../two', expected its folder's name"):
        read_results(tmp_path)


@pytest.mark.parametrize("name", ["../one.png", "a/b.png", "a\\b.png", "one.html", "", "x\0.png"])
def test_pictures_elsewhere(tmp_path, name):
    made.write_all(tmp_path, detect=made.detect(name))
    with pytest.raises(InputError, match="names the picture"):
        read_results(tmp_path)


def test_a_picture_that_is_not_there(tmp_path):
    made.write_all(tmp_path, detect=made.detect("two.png"))
    assert read_results(tmp_path)[0].pictures() == []


def test_a_failure_in_the_place_of_a_result_is_a_step_that_failed(tmp_path):
    """As where one step was run again by hand, and failed."""
    place = made.write_all(tmp_path)
    message = "compare.py: error: no such file."
    failure = Failure(command="compare.py nodes", cause="file", message=message, exit_code=2)
    write(place / "nodes.json", failure)
    (found,) = read_results(tmp_path)
    assert found.nodes is None and found.structure is not None
    judgement = judge(found)
    assert judgement.outcome is Outcome.NOT_SHOWN
    assert judgement.sentence == f"the step “Do nodes” failed: {message}"
