"""Whatever bytes a result file holds, it is read or refused in one sentence."""

import copy
import json
import random

import made_results as made
import pytest
from handmade import gradients, node

from efficientdet_spec import Cause, InputError
from parity.judge.verdict import Verdict
from parity.results.reading import MAX_DEPTH, StepFailed, is_result, read
from parity.results.records.coco import CocoResult
from parity.results.records.conversion import ConversionResult
from parity.results.records.detect import DetectResult
from parity.results.records.failure import CAUSES, Failure
from parity.results.records.nodes import NodesResult
from parity.results.records.record import plain, write
from parity.results.records.run import RunResult
from parity.results.records.self_check import SelfCheckResult

FAILURE = Failure(
    command="compare.py nodes", cause="file", message="compare.py: error: no.", exit_code=2
)


def comparison():
    odd = node("odd", Verdict.CANDIDATE_DIFFERS, from_exact=None, detectable=float("inf"))
    found = gradients(False, {"training": {"candidate differs": 1}})
    values = made.nodes(odd, failing=True, gradients=found)
    values["closeups"] = [made.closeup("odd")]
    return values


EVERYTHING = {
    NodesResult: comparison(),
    CocoResult: made.coco(complete=False),
    DetectResult: made.detect(),
    SelfCheckResult: made.self_check(),
    ConversionResult: made.conversion(),
    RunResult: made.run("efficientdet-d0", steps=[made.step("nodes", "failed", -9, "killed")]),
    Failure: plain(FAILURE),
}
KINDS = pytest.mark.parametrize("kind", EVERYTHING, ids=lambda kind: kind.__name__)
STRANGE = (
    None, True, False, 0, -1, 1.5, 10**30, 10**400, -(2**63), 1e308, "", "nan", "inf", "\ud800",
    "x" * 10_000, "\0", [], [[]], {}, {"": None}, [None], ["nan"], {"a": {"b": [1]}}, "exact",
)  # fmt: skip


def wild(tmp_path, text):
    path = tmp_path / "wild.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def places(values, path=()):
    """Every place in some values."""
    yield path
    if isinstance(values, dict | list):
        for name, item in values.items() if isinstance(values, dict) else enumerate(values):
            yield from places(item, (*path, name))


def mutated(values, rng):
    """A copy with something changed, added or taken away in it."""
    result = copy.deepcopy(values)
    path = rng.choice([path for path in places(result) if path])
    place = result
    for name in path[:-1]:
        place = place[name]
    how, last = rng.randrange(5), path[-1]
    if how == 0 and isinstance(place, dict):
        del place[last]
    elif how == 1 and isinstance(place, dict):
        place[rng.choice(("unknown", "schema", "\ud800", ""))] = rng.choice(STRANGE)
    elif how == 2 and isinstance(place, list):
        place.append(rng.choice(STRANGE))
    else:
        place[last] = rng.choice(STRANGE)
    return result


def is_read(path, kind):
    """Whether a file is read; it is refused by one sentence if not."""
    try:
        found = read(path, kind)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 1000 and message.endswith(".")
        assert error.cause in (Cause.FORMAT, Cause.FILE)
        return False
    assert isinstance(found, kind)
    json.dumps(plain(found), allow_nan=False)
    return True


@KINDS
def test_what_was_written_is_read_and_written_alike(kind, tmp_path):
    path = wild(tmp_path, json.dumps(EVERYTHING[kind]))
    found = read(path, kind)
    write(tmp_path / "again.json", found)
    again = json.loads((tmp_path / "again.json").read_text())
    assert EVERYTHING[kind].items() <= again.items() or kind is RunResult
    assert plain(read(tmp_path / "again.json", kind)) == again


@KINDS
def test_some_hundreds_of_mutations(kind, tmp_path):
    rng = random.Random(7)
    outcomes = [
        is_read(wild(tmp_path, json.dumps(mutated(EVERYTHING[kind], rng))), kind)
        for _ in range(400)
    ]
    # Some do no harm, such as a field that is not known; most do.
    assert 20 < sum(outcomes) < 380


@KINDS
def test_damaged_bytes(kind, tmp_path):
    rng, data = random.Random(8), json.dumps(EVERYTHING[kind]).encode()
    for _ in range(100):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        is_read(wild(tmp_path, bytes(broken)), kind)
        is_read(wild(tmp_path, data[: rng.randrange(len(data))]), kind)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\xff\xfe", b"null", b"[]", b'"nodes"', b"{}", b"NaN", b"[" * 200_000,
        b'{"a":' * 5000, b"1" * 10_000, b'{"schema": "efficientdet-parity/nodes", "version": NaN}',
    ],
)  # fmt: skip
def test_what_is_no_result(text, tmp_path):
    assert not is_read(wild(tmp_path, text), NodesResult)
    assert not is_result(wild(tmp_path, text))


def test_a_folder_a_missing_file_and_one_that_is_too_large(tmp_path, monkeypatch):
    assert not is_read(tmp_path, NodesResult) and not is_read(tmp_path / "none", NodesResult)
    path = wild(tmp_path, json.dumps(EVERYTHING[NodesResult]))
    assert is_read(path, NodesResult)
    monkeypatch.setattr("parity.results.reading.MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(InputError, match="cannot be read .it has .* bytes, and at most"):
        read(path, NodesResult)


@pytest.mark.parametrize("depth, good", [(MAX_DEPTH - 3, True), (MAX_DEPTH, False)])
def test_settings_lie_within_each_other_so_deep_and_no_deeper(depth, good, tmp_path):
    deep = "x"
    for _ in range(depth):
        deep = [deep]
    values = {**EVERYTHING[NodesResult], "environment": {"deep": deep}}
    assert is_read(wild(tmp_path, json.dumps(values)), NodesResult) is good


def test_unknown_fields_are_passed_over(tmp_path):
    values = copy.deepcopy(EVERYTHING[NodesResult])
    values["later"] = values["nodes"][0]["later"] = values["inputs"][0]["later"] = {"a": [1]}
    assert (
        read(wild(tmp_path, json.dumps(values)), NodesResult).nodes[0].name
        == (values["nodes"][0]["name"])
    )


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("nodes", 3, "verdict"), "fine", r"\$\.nodes\[3\]\.verdict is 'fine', expected one of"),
        (("nodes", 0, "kind"), "magic", r"\$\.nodes\[0\]\.kind is 'magic', expected one of"),
        (("nodes", 0, "free", "rms"), "1.5", r"\$\.nodes\[0\]\.free\.rms is '1.5', expected a num"),
        (("nodes", 0, "free", "max_index", 1), -1, r"max_index\[1\] is -1, expected a whole"),
        (("inputs", 0, "sha256"), "abc", r"\$\.inputs\[0\]\.sha256 is 'abc', expected a text"),
        (("inputs", 0, "counts"), {"x": 1}, r"a name within \$\.inputs\[0\]\.counts is not one of"),
        (("seconds", "load"), None, r"\$\.seconds\.load is None, expected a number"),
        (("counts",), {"exact": 1}, r"has no counts of rounding, candidate differs"),
        (("closeups", 0, "map", "rows"), 3, r"does not hold 3 rows of 2 values"),
        (("closeups", 0, "scatter", "candidate"), [], r"has more values of one side"),
        (("closeups", 0, "histogram", "candidate"), [1], r"does not count elements between 3"),
        (("nodes", 0, "limit", "candidate"), 10**400, r"expected a number"),
        (("peak_memory_bytes",), 2**60, r"peak_memory_bytes is 11529.*expected a whole number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(path, value, message, tmp_path):
    values = copy.deepcopy(EVERYTHING[NodesResult])
    place = values
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(InputError, match=message):
        read(wild(tmp_path, json.dumps(values)), NodesResult)


def test_a_lone_surrogate_in_a_name_is_read(tmp_path):
    values = copy.deepcopy(EVERYTHING[NodesResult])
    values["inputs"][0]["source"] = "photo\udcff.jpg"
    found = read(wild(tmp_path, json.dumps(values)), NodesResult)
    assert found.inputs[0].source == "photo\udcff.jpg"


@pytest.mark.parametrize("version", [True, 3.0, "3", 4, None])
def test_another_version_is_refused(version, tmp_path):
    values = {**EVERYTHING[NodesResult], "version": version}
    with pytest.raises(InputError, match="expected efficientdet-parity/nodes version 3; make"):
        read(wild(tmp_path, json.dumps(values)), NodesResult)


def test_a_failure_in_the_place_of_a_result_says_why(tmp_path):
    path = tmp_path / "nodes.json"
    write(path, FAILURE)
    with pytest.raises(
        StepFailed, match=r"compare.py nodes failed with exit code 2 \(.*no.\)"
    ) as e:
        read(path, NodesResult)
    assert e.value.failure == FAILURE == read(path, Failure)
    assert is_result(path)


def test_causes_are_those_of_mistakes_and_of_other_endings(tmp_path):
    assert {cause.value for cause in Cause} < set(CAUSES)
    values = {**plain(FAILURE), "cause": "bad luck"}
    assert not is_read(wild(tmp_path, json.dumps(values)), Failure)
