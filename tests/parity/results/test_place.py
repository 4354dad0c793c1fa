"""A command that fails says why in the place of its result, and destroys nothing by that."""

import os
import signal
import time
from pathlib import Path

import pytest

import compare
import convert
from efficientdet_spec import Cause
from parity.process.console import Ended
from parity.process.outcome import Ending
from parity.results.place import ResultPlace
from parity.results.reading import read
from parity.results.records.failure import Failure
from parity.results.records.record import write

ENDED = Ended(2, Cause.FILE, "compare.py: error: there is no such file.")
EARLIER = Failure(command="compare.py nodes", cause="defect", message="it broke", exit_code=70)


def failed(path, ended=ENDED):
    ResultPlace("compare.py nodes", path).fail(ended)
    return read(path, Failure)


def test_a_failure_is_written(tmp_path):
    found = failed(tmp_path / "new" / "nodes.json")
    assert (found.command, found.cause, found.exit_code) == ("compare.py nodes", "file", 2)
    assert found.message == ENDED.message
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["nodes.json"]


def test_an_earlier_result_makes_way(tmp_path):
    path = tmp_path / "nodes.json"
    write(path, EARLIER)
    assert failed(path, Ended(130, Ending.INTERRUPTED, "stopped")).cause == "interrupted"


@pytest.mark.parametrize(
    "content", [b"", b"weights", b"{}", b'{"schema": "another/nodes"}', b'["efficientdet-parity/"]']
)
def test_what_is_no_result_stays(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    ResultPlace("compare.py nodes", path).fail(ENDED)
    assert path.read_bytes() == content


def test_a_result_of_this_very_run_stays(tmp_path):
    place = ResultPlace("compare.py nodes", tmp_path / "nodes.json")
    place.write(EARLIER)
    place.fail(ENDED)
    assert read(tmp_path / "nodes.json", Failure) == EARLIER


def test_no_place_and_a_refused_one(tmp_path):
    ResultPlace("compare.py nodes", None).fail(ENDED)
    place = ResultPlace("compare.py nodes", tmp_path / "nodes.json")
    place.refuse()
    place.fail(ENDED)
    place.write(EARLIER)
    assert list(tmp_path.iterdir()) == []


# The command lines


def failure_of(capsys, program, arguments, path, code=2):
    """What stands in the place of the result of a command that fails."""
    assert program.main(list(map(str, arguments))) == code
    found = read(path, Failure)
    assert capsys.readouterr().err.splitlines()[-1] == found.message
    assert found.exit_code == code
    return found


@pytest.mark.parametrize("command", ["nodes", "self-check"])
def test_a_missing_checkpoint(command, tmp_path, capsys):
    path = tmp_path / "result.json"
    found = failure_of(capsys, compare, [command, tmp_path / "none", "--json", path], path)
    assert (found.command, found.cause) == (f"compare.py {command}", "file")


def test_a_wrong_option(tmp_path, capsys):
    path = tmp_path / "result.json"
    arguments = ["nodes", tmp_path / "none", "--threads", "0", "--json", path]
    assert failure_of(capsys, compare, arguments, path).cause == "option"


def test_detections_and_evaluations(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["detect", tmp_path / "none", tmp_path / "a.jpg", "--out", out]
    assert failure_of(capsys, compare, arguments, out / "detect.json").command.endswith("detect")
    arguments = [
        "coco",
        tmp_path / "none",
        "--images",
        tmp_path,
        "--annotations",
        "a",
        "--out",
        out,
    ]
    assert failure_of(capsys, compare, arguments, out / "coco.json").command.endswith("coco")


def test_a_conversion(tmp_path, capsys):
    path = tmp_path / "conversion.json"
    arguments = [tmp_path / "none", tmp_path / "a.pth", "--json", path]
    assert failure_of(capsys, convert, arguments, path).command == "convert.py"


def test_a_defect(tmp_path, capsys, monkeypatch):
    def broken(arguments):
        raise KeyError("nobody expected this")

    monkeypatch.setattr("parity.commands.nodes.resolve_checkpoint", broken)
    path = tmp_path / "result.json"
    found = failure_of(capsys, compare, ["nodes", "x", "--json", path], path, 70)
    assert found.cause == "defect" and "nobody expected this" in found.message


def test_options_that_cannot_be_read(tmp_path, capsys):
    for words, message in (
        (["--threads", "many"], "--threads is 'many'; give a whole number."),
        (["--wieghts", "raw"], "has no option --wieghts (did you mean --weights?)"),
        (["--batch"], "--batch: expected one argument"),
    ):
        path = tmp_path / "result.json"
        path.unlink(missing_ok=True)
        words = ["nodes", "x", "--json", path, *words]
        found = failure_of(capsys, compare, words, path, 2)
        assert found.cause == "option" and message in found.message


def test_a_place_that_is_refused_is_left_alone(tiny_checkpoint, tmp_path, capsys):
    before = {path: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    index = next(path for path in before if path.suffix == ".index")
    same = tmp_path / "same.json"
    for options in (["--json", index], ["--json", same, "--junit", same], ["--json", os.devnull]):
        assert compare.main(["nodes", str(tiny_checkpoint), *map(str, options)]) == 2
    assert {path: path.read_bytes() for path in tiny_checkpoint.iterdir()} == before
    assert not same.exists() and not Path(os.devnull).is_file()
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert compare.main(["nodes", str(tmp_path / "none"), "--json", str(notes)]) == 2
    assert notes.read_text() == "mine"


@pytest.mark.parametrize(
    "number, cause", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_signals(number, cause, tmp_path, capsys, monkeypatch):
    def stopped(arguments):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("parity.commands.nodes.resolve_checkpoint", stopped)
    path = tmp_path / "result.json"
    found = failure_of(capsys, compare, ["nodes", "x", "--json", path], path, 128 + number)
    assert found.cause == cause and "nothing half-written is left" in found.message
