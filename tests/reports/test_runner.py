"""What fails is written down and the others go on; what was done is not done again."""

import json
import sys
from pathlib import Path

import pytest

import compare
from efficientdet_spec import InputError
from reports import processes, runner
from reports.steps import Choice, Subject

SEEDED = Subject("d0", "efficientdet-d0", True)


class Fake:
    """Writes what each command would, or fails as told."""

    def __init__(self, folder, exit_codes=None):
        self.folder = folder
        self.exit_codes = exit_codes or {}
        self.ran = []

    def name(self, command):
        if command[0] == "convert.py":
            return "convert" if "seeded" in command[1] else "official"
        return "structure" if "float64" in command else command[1]

    def __call__(self, command):
        name = self.name(command)
        self.ran.append(name)
        code = self.exit_codes.get(name, 0)
        if isinstance(code, BaseException):
            raise code
        if code in (0, 1):
            for path in self.files(name, command):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text('{"model": "efficientdet-d0"}')
        return processes.Finished(code, 1.5, 1000, "printed", "it broke" if code else "")

    def files(self, name, command):
        if name == "seed":
            return [Path(command[3]) / "model.index"]
        written = [Path(command[command.index("--json") + 1])]
        return [*written, Path(command[2])] if name in ("convert", "official") else written


def go(tmp_path, subject=SEEDED, choice=None, **exit_codes):
    fake = Fake(tmp_path, exit_codes)
    runner.run_all([subject], choice or Choice(seeded=True), tmp_path, "the command", fake)
    record = json.loads((tmp_path / subject.slug / "run.json").read_text())
    return fake.ran, record, {step["name"]: step for step in record["steps"]}


def test_a_seeded_model(tmp_path):
    ran, record, steps = go(tmp_path)
    assert ran == ["seed", "convert", "nodes", "structure"] == list(steps)
    assert record["trained"] is False and record["model"] == "efficientdet-d0"
    assert record["command"] == "the command" and record["environment"]["packages"]
    assert steps["nodes"]["seconds"] == 1.5 and steps["nodes"]["peak_memory_bytes"] == 1000
    # Seeded weights can be made again at any time.
    assert not (tmp_path / "d0" / "seeded").exists() and not (tmp_path / "d0/model.pth").exists()
    assert (tmp_path / "d0" / "nodes.txt").read_text() == "printed"


def test_nothing_is_run_twice(tmp_path):
    _, first, _ = go(tmp_path)
    ran, second, _ = go(tmp_path)
    assert ran == [] and second == first


def test_a_run_goes_on_where_another_was_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, structure=KeyboardInterrupt())
    ran, _, steps = go(tmp_path)
    assert ran == ["structure"] and list(steps) == ["seed", "convert", "nodes", "structure"]


def test_two_interruptions_lose_no_more_than_one(tmp_path):
    """What the second run had not come to yet is still known to the third."""
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, structure=KeyboardInterrupt())
    (tmp_path / "d0" / "model.pth").unlink()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, convert=KeyboardInterrupt())
    assert go(tmp_path)[0] == ["convert", "structure"]


def test_other_settings_are_another_run(tmp_path):
    go(tmp_path)
    ran, _, _ = go(tmp_path, choice=Choice(seeded=True, size="128x128"))
    assert ran == ["seed", "convert", "nodes"]


def test_another_checkpoint_under_the_same_name_is_another_run(tmp_path):
    index = tmp_path / "model.index"
    index.write_bytes(b"one")
    subject = Subject("mine", str(tmp_path / "model"), False)
    assert go(tmp_path, subject)[0] == ["official", "nodes", "structure"]
    assert go(tmp_path, subject)[0] == []
    index.write_bytes(b"two")
    assert go(tmp_path, subject)[0] == ["official", "nodes", "structure"]


def test_a_mismatch_is_a_result(tmp_path):
    _, _, steps = go(tmp_path, nodes=1)
    assert steps["nodes"]["status"] == "done" and steps["nodes"]["exit_code"] == 1
    assert steps["structure"]["status"] == "done"


def test_what_fails_is_said_and_tried_again(tmp_path):
    go(tmp_path)
    # With other settings, so that the result of the run before is no longer this one's.
    other = Choice(seeded=True, size="128x128")
    _, _, steps = go(tmp_path, choice=other, nodes=-9)
    assert steps["nodes"]["status"] == "failed" and steps["nodes"]["message"] == "it broke"
    assert steps["nodes"]["result"] is None and not (tmp_path / "d0" / "nodes.json").exists()
    ran, _, steps = go(tmp_path, choice=other)
    assert ran == ["seed", "convert", "nodes"] and steps["nodes"]["status"] == "done"


def test_a_crash_is_no_mismatch(tmp_path):
    """Python's exit code for a traceback is that of a mismatch; only one leaves a result."""
    fake = Fake(tmp_path, {"nodes": 1})
    fake.files = lambda name, command: [] if name == "nodes" else Fake.files(fake, name, command)
    runner.run_one(SEEDED, Choice(seeded=True), tmp_path / "d0", "", fake)
    steps = json.loads((tmp_path / "d0" / "run.json").read_text())["steps"]
    assert [step["status"] for step in steps] == ["done", "done", "failed", "done"]


def test_without_a_conversion_there_is_nothing_to_compare(tmp_path):
    subject = Subject("mine", str(tmp_path / "model"), False)
    ran, record, steps = go(tmp_path, subject, official=2)
    assert ran == ["official"] and record["trained"]
    assert [step["status"] for step in steps.values()] == ["failed", "skipped", "skipped"]
    assert "not converted" in steps["nodes"]["message"]


def test_where_there_is_no_trained_checkpoint_weights_are_seeded(tmp_path):
    ran, record, steps = go(tmp_path, choice=Choice(), official=2)
    assert ran == ["official", "seed", "convert", "nodes", "structure"]
    assert record["trained"] is False and "it broke" in record["note"]
    assert steps["convert"]["status"] == "done"
    ran, record, _ = go(tmp_path / "other", choice=Choice())
    assert ran == ["official", "nodes", "structure"] and record["trained"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "d0").write_text("a file")
    with pytest.raises(InputError, match="cannot be made a folder"):
        go(tmp_path)


def test_processes_are_watched_and_measured(monkeypatch, tmp_path, capfd):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nx = bytearray(300 * 2**20)\nprint('result')\n"
        "print('progress\\n\\nlast words', file=sys.stderr)\nsys.exit(1)\n"
    )
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    done = processes.run(["program.py"])
    assert (done.exit_code, done.output, done.message) == (1, "result\n", "last words")
    # Linux counts what this process had when it started the other.
    assert done.peak_memory > 300e6 and 0 < done.seconds < 60
    assert "last words" in capfd.readouterr().err
    program.write_text("import os\nos.kill(os.getpid(), 9)\n")
    assert processes.run(["program.py"]).exit_code == -9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No model is given"),
        (["nonsense"], "neither a checkpoint"),
        (["efficientdet-d0", "--size", "big"], "size"),
        (["efficientdet-d0", "--images", "."], "of no use without --annotations"),
        (["efficientdet-d0", "--closeups", "-1"], "--closeups is -1"),
        (["efficientdet-d0", "--limit", "0"], "--limit is 0"),
        (["efficientdet-d0", "--image", "missing.jpg"], "missing.jpg is no file"),
        (["--from", "missing"], "missing is no folder"),
        (["efficientdet-d0", "--from", "."], "--from computes nothing"),
    ],
)
def test_wrong_input(arguments, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare.main(["report", *arguments, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_the_command_can_be_typed_again():
    assert runner.command_line(["report", "my model", "--out", "x"]) == (
        "python compare.py report 'my model' --out x"
    )
    assert sys.executable not in runner.command_line(["report"])
