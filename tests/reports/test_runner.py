"""What fails is written down and the others go on; what was done is not done again."""

import json
import os
from pathlib import Path

import pytest

import compare
from efficientdet_spec import InputError
from parity.results.reading import read
from parity.results.records.failure import Failure
from parity.results.records.record import write
from parity.results.records.run import RunResult
from parity.settings.report import ReportSettings
from reports.run import processes, runner
from reports.run.steps import Subject

SEEDED = Subject("d0", "efficientdet-d0", True)


def choice_of(**settings):
    return ReportSettings(sources=("efficientdet-d0",), out="out", **settings)


class Fake:
    """Writes what each command would, or fails as told."""

    def __init__(self, folder, exit_codes=None, reads=()):
        self.folder = folder
        self.exit_codes = exit_codes or {}
        self.reads = reads
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
        if isinstance(code, Failure):
            write(Path(command[command.index("--json") + 1]), code)
            return processes.Finished(code.exit_code, 1.5, 1000, "", code.message, self.reads)
        if code in (0, 1, 3):
            for path in self.files(name, command):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text('{"model": "efficientdet-d0"}')
        message = "it broke" if code else ""
        return processes.Finished(code, 1.5, 1000, "printed", message, self.reads)

    def files(self, name, command):
        if name == "seed":
            return [Path(command[3]) / "checkpoint"]
        if "--json" not in command:
            name = {"coco": "coco.json", "detect": "detect.json"}[command[1]]
            return [Path(command[command.index("--out") + 1]) / name]
        written = [Path(command[command.index("--json") + 1])]
        return [*written, Path(command[2])] if name in ("convert", "official") else written


def go(tmp_path, subject=SEEDED, choice=None, reads=(), **exit_codes):
    fake = Fake(tmp_path, exit_codes, reads)
    runner.run_all([subject], choice or choice_of(seeded=True), tmp_path, "the command", fake)
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
    ran, second, steps = go(tmp_path)
    assert ran == [] and all(step.pop("reused") for step in steps.values())
    assert not any(step.pop("reused") for step in first["steps"])
    assert second == first


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
    ran, _, _ = go(tmp_path, choice=choice_of(seeded=True, size="128x128"))
    assert ran == ["seed", "convert", "nodes"]


def test_another_checkpoint_under_the_same_name_is_another_run(tmp_path):
    index = tmp_path / "model.index"
    index.write_bytes(b"one")
    subject = Subject("mine", str(tmp_path / "model"), False)
    assert go(tmp_path, subject)[0] == ["official", "nodes", "structure"]
    assert go(tmp_path, subject)[0] == []
    index.write_bytes(b"two")
    assert go(tmp_path, subject)[0] == ["official", "nodes", "structure"]


@pytest.mark.parametrize("code", [1, 3])
def test_a_difference_is_a_result_and_so_is_what_is_not_shown(tmp_path, code):
    _, _, steps = go(tmp_path, nodes=code)
    assert steps["nodes"]["status"] == "done" and steps["nodes"]["exit_code"] == code
    assert steps["structure"]["status"] == "done"


def test_what_fails_is_said_and_tried_again(tmp_path):
    go(tmp_path)
    # With other settings, so that the result of the run before is no longer this one's.
    other = choice_of(seeded=True, size="128x128")
    _, _, steps = go(tmp_path, choice=other, nodes=-9)
    assert steps["nodes"]["status"] == "failed" and steps["nodes"]["message"] == "it broke"
    assert steps["nodes"]["result"] is None and not (tmp_path / "d0" / "nodes.json").exists()
    ran, _, steps = go(tmp_path, choice=other)
    assert ran == ["seed", "convert", "nodes"] and steps["nodes"]["status"] == "done"


def test_a_crash_is_no_mismatch(tmp_path):
    """Python's exit code for a traceback is that of a mismatch; only one leaves a result."""
    fake = Fake(tmp_path, {"nodes": 1})
    fake.files = lambda name, command: [] if name == "nodes" else Fake.files(fake, name, command)
    runner.run_one(SEEDED, choice_of(seeded=True), tmp_path / "d0", "", fake)
    steps = json.loads((tmp_path / "d0" / "run.json").read_text())["steps"]
    assert [step["status"] for step in steps] == ["done", "done", "failed", "done"]


def test_without_a_conversion_there_is_nothing_to_compare(tmp_path):
    subject = Subject("mine", str(tmp_path / "model"), False)
    ran, record, steps = go(tmp_path, subject, official=2)
    assert ran == ["official"] and record["trained"]
    assert [step["status"] for step in steps.values()] == ["failed", "skipped", "skipped"]
    assert "not converted" in steps["nodes"]["message"]


def failure(cause):
    """What ``convert.py`` writes where it fails."""
    return Failure(command="convert.py", cause=cause, message="it broke", exit_code=2)


def test_where_there_is_no_trained_checkpoint_weights_are_seeded(tmp_path):
    ran, record, steps = go(tmp_path, choice=choice_of(), official=failure("network"))
    assert ran == ["official", "seed", "convert", "nodes", "structure"]
    assert record["trained"] is False and "it broke" in record["note"]
    assert steps["convert"]["status"] == "done"
    ran, record, _ = go(tmp_path / "other", choice=choice_of())
    assert ran == ["official", "nodes", "structure"] and record["trained"]


@pytest.mark.parametrize("code", [-9, 143, 2, *map(failure, ("format", "model", "file"))])
def test_seeded_weights_do_not_hide_a_checkpoint_that_cannot_be_used(tmp_path, code):
    """Only where the network gives none is there none; a damaged one is a failure."""
    ran, record, steps = go(tmp_path, choice=choice_of(), official=code)
    assert ran == ["official"] and record["trained"] and not record.get("note")
    assert [step["status"] for step in steps.values()] == ["failed", "skipped", "skipped"]
    assert steps["convert"]["message"] == "it broke"


def outside(tmp_path, name):
    path = tmp_path / name
    path.write_text("as it was")
    # Files that were written to while a step ran are not trusted.
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize("name", ["helper.py", "photo.jpg", "model.data-00000-of-00001"])
def test_whatever_a_step_had_read_is_read_again(tmp_path, name, capsys):
    path = outside(tmp_path, name)
    assert go(tmp_path, reads=[str(path)])[0] == ["seed", "convert", "nodes", "structure"]
    assert go(tmp_path, reads=[str(path)])[0] == []
    status = path.stat()
    path.write_text("as it is!")
    # Neither the size nor the time tells.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    ran, record, steps = go(tmp_path, reads=[str(path)])
    assert ran == ["seed", "convert", "nodes", "structure"]
    assert steps["nodes"]["again"] == f"{path} has changed" and not steps["nodes"]["reused"]
    assert f"Compare every node: again, for {path} has changed" in capsys.readouterr().err
    path.unlink()
    assert go(tmp_path, reads=[str(path)])[0] == ["seed", "convert", "nodes", "structure"]


def test_the_files_that_a_command_names(tmp_path):
    """Those of a checkpoint too, however it is named; what is written is none of them."""
    names = ["model.index", "model.data-00000-of-00001", "model.meta", "port.py", "a.json", "b.jpg"]
    for name in [*names, "modelling.txt"]:
        (tmp_path / name).touch()
    # A config.yaml that comes later makes another result.
    checkpoint = [str(tmp_path / name) for name in sorted([*names[:3], "config.yaml"])]
    for source in (tmp_path / "model", tmp_path):
        command = ["compare.py", "nodes", str(source), "--json", str(tmp_path / "a.json")]
        assert runner.command_files(command) == checkpoint
    given = ["compare.py", "nodes", "--candidate", f"{tmp_path}/port.py:build", "--size", "9x9"]
    assert runner.command_files(given) == [str(tmp_path / "port.py")]
    assert runner.command_files(["compare.py", "https://x/**[", f"{tmp_path}/b.jpg"]) == [
        str(tmp_path / "b.jpg")
    ]


def test_a_file_that_was_missing_is_looked_for_again(tmp_path):
    path = tmp_path / "missing.jpg"
    go(tmp_path, reads=[str(path)])
    assert go(tmp_path, reads=[str(path)])[0] == []
    path.write_text("there now")
    assert len(go(tmp_path, reads=[str(path)])[0]) == 4


def test_a_file_that_changed_while_it_was_read_is_read_again(tmp_path):
    path = outside(tmp_path, "helper.py")
    os.utime(path, (2**32, 2**32))
    go(tmp_path, reads=[str(path)])
    ran, _, steps = go(tmp_path, reads=[str(path)])
    assert len(ran) == 4 and "was changed while it was read" in steps["nodes"]["again"]


def test_without_a_list_of_what_was_read_a_step_is_run_again(tmp_path):
    assert len(go(tmp_path, reads=None)[0]) == len(go(tmp_path, reads=None)[0]) == 4


def test_a_digit_changed_in_a_result_is_noticed(tmp_path):
    go(tmp_path)
    path = tmp_path / "d0" / "nodes.json"
    path.write_text(path.read_text().replace("d0", "d1"))
    ran, _, steps = go(tmp_path)
    assert (
        ran == ["seed", "convert", "nodes"] and "nodes.json has changed" in steps["nodes"]["again"]
    )


def test_an_earlier_result_is_an_input(tmp_path):
    """What is converted anew is compared anew, unless it is the same."""
    index = tmp_path / "model.index"
    index.write_bytes(b"one")
    subject = Subject("mine", str(tmp_path / "model"), False)
    go(tmp_path, subject)
    (tmp_path / "mine" / "model.pth").write_text("another")
    assert go(tmp_path, subject)[0] == ["official"]
    assert go(tmp_path, subject)[0] == []


def test_shards_of_other_images_are_not_gone_on_with(tmp_path, monkeypatch):
    """But those of a try that was ended from outside are."""
    photo = outside(tmp_path, "photo.jpg")
    annotations = outside(tmp_path, "a.json")
    choice = choice_of(images=tmp_path, annotations=annotations, pictures=0)
    subject = Subject("mine", str(annotations), False)

    class Detecting(Fake):
        def files(self, name, command):
            if name != "coco":
                return super().files(name, command)
            folder = Path(command[command.index("--out") + 1])
            self.found = sorted(path.name for path in folder.rglob("0*.json"))
            return [folder / "shards" / "torch" / "00000.json", folder / "coco.json"]

    def detect(**exit_codes):
        fake = Detecting(tmp_path, exit_codes, [str(photo)])
        runner.run_all([subject], choice, tmp_path, "", fake)
        return fake

    detect()
    os.utime(photo, (1, 1))
    photo.write_text("another")
    os.utime(photo, (1, 1))
    fake = detect(coco=-9)
    assert "coco" in fake.ran
    (tmp_path / "mine" / "coco" / "shards" / "torch").mkdir(parents=True, exist_ok=True)
    (tmp_path / "mine" / "coco" / "shards" / "torch" / "00007.json").touch()
    assert detect().found == ["00007.json"]
    photo.write_text("a third")
    os.utime(photo, (1, 1))
    assert detect().found == []
    # Of other code they are as useless, even where the evaluation itself was interrupted.
    with pytest.raises(KeyboardInterrupt):
        photo.write_text("a fourth")
        detect(coco=KeyboardInterrupt())
    shards = tmp_path / "mine" / "coco" / "shards" / "torch"
    shards.mkdir(parents=True)
    (shards / "00008.json").touch()
    monkeypatch.setattr(runner, "own_code", lambda: [str(photo)])
    assert detect().found == []


def test_an_evaluation_depends_on_all_code(tmp_path):
    """Where its parts were there before, the process has not loaded what had computed them."""
    names = {Path(name).name for name in runner.own_code()}
    assert {"nms.py", "compare.py", "matching.py", "detection.py"} <= names
    assert "judgement.py" not in names and not [name for name in names if name.startswith("test_")]


def test_what_is_asked_for_is_written_down_before_it_is_made(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, nodes=KeyboardInterrupt())
    record = json.loads((tmp_path / "d0" / "run.json").read_text())
    assert [step["name"] for step in record["planned"]] == ["seed", "convert", "nodes", "structure"]
    assert record["complete"] is False
    assert [step["name"] for step in record["steps"]] == ["seed", "convert"]
    # An earlier run's steps are kept for the next, but are no part of this one.
    go(tmp_path)
    other = choice_of(seeded=True, size="128x128")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, choice=other, nodes=KeyboardInterrupt())
    record = json.loads((tmp_path / "d0" / "run.json").read_text())
    earlier = {step["name"] for step in record["steps"] if step["earlier"]}
    assert earlier == {"nodes", "structure"} and record["complete"] is False
    assert go(tmp_path)[1]["complete"] is True


def test_detections_are_the_candidates(tmp_path):
    annotations = outside(tmp_path, "a.json")
    outside(tmp_path, "photo.jpg")
    choice = choice_of(images=tmp_path, annotations=annotations, candidate="port.py:build")
    subject = Subject("mine", str(annotations), False)
    ran, _, steps = go(tmp_path, subject, choice)
    assert ran == ["official", "nodes", "structure", "coco", "detect"]
    for name in ("nodes", "structure", "coco", "detect"):
        command = steps[name]["command"]
        assert command[command.index("--candidate") + 1] == "port.py:build"
    # Nobody knows all that somebody's code depends on.
    again, _, _ = go(tmp_path, subject, choice)
    assert {"coco", "detect"} <= set(again)


def test_stages_of_a_candidates_pipeline_are_not_exchanged(tmp_path):
    annotations = outside(tmp_path, "a.json")
    with pytest.raises(InputError, match="of which a candidate has only the network"):
        choice_of(
            images=tmp_path, annotations=annotations, candidate="port.py:build", stage_swap=True
        )


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
    killed = processes.run(["program.py"])
    assert killed.exit_code == -9 and killed.reads is None


def test_processes_tell_what_they_have_read(monkeypatch, tmp_path):
    """Files of any kind, modules too, but neither Python's nor what the process itself wrote."""
    (tmp_path / "photo.jpg").write_bytes(b"x")
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path.insert(1, {str(Path(compare.__file__).parent)!r})\n"
        "from parity.process import reading\nreading.start()\nimport os, numpy, helper, json.tool\n"
        f"os.chdir({str(tmp_path)!r})\nopen('photo.jpg').read()\nreading.note('native.h5')\n"
        "open('out.tmp', 'w').close()\nos.replace('out.tmp', 'out.txt')\nopen('out.txt').read()\n"
        "os.makedirs('made')\nopen('made/x.tmp', 'w').close()\nos.replace('made', 'out.tmp')\n"
        "open('out.tmp/x.tmp').read()\nos.remove('out.tmp/x.tmp')\nos.rmdir('out.tmp')\n"
        "try:\n    open('missing.png')\nexcept OSError:\n    pass\n"
        "import pathlib\nfrom efficientdet_spec import replacing\n"
        "with replacing(pathlib.Path('out.txt')) as made:\n    made.write_text('x')\n"
    )
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    names = ("photo.jpg", "helper.py", "program.py", "native.h5", "missing.png")
    own = str(Path(processes.reading.__file__))
    for _ in range(2):
        # At the second time the helper comes from its compiled form.
        done = processes.run(["program.py"])
        assert done.exit_code == 0
        assert set(done.reads) >= {*(str(tmp_path / name) for name in names), own}
        assert not [name for name in done.reads if "out.t" in name or "numpy" in name]
        assert not [name for name in done.reads if "x.tmp" in name]
        assert str(tmp_path) not in done.reads
        assert len(done.reads) < 30


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


def test_why_a_step_failed_is_what_its_command_wrote(tmp_path):
    """Not the last line that it printed, which may be another's, such as a library's."""
    failure = Failure(
        command="compare.py nodes", cause="candidate", message="it is no model", exit_code=2
    )

    class Telling(Fake):
        def __call__(self, command):
            if self.name(command) == "nodes":
                write(Path(command[command.index("--json") + 1]), failure)
            return super().__call__(command)

    fake = Telling(tmp_path, {"nodes": 2, "structure": 2})
    runner.run_all([SEEDED], choice_of(seeded=True), tmp_path, "the command", fake)
    run = read(tmp_path / "d0" / "run.json", RunResult)
    steps = {step.name: step for step in run.steps}
    assert (steps["nodes"].message, steps["nodes"].cause) == ("it is no model", "candidate")
    assert (steps["structure"].message, steps["structure"].cause) == ("it broke", None)


def test_what_a_users_code_has_made_is_made_again(tmp_path):
    """It may have read a file from a library's own code, or a variable of the environment."""
    choice = choice_of(seeded=True, candidate="port.py:build")
    ran, _, _ = go(tmp_path, choice=choice)
    assert ran == ["seed", "convert", "nodes", "structure"]
    ran, _, steps = go(tmp_path, choice=choice)
    assert ran[-2:] == ["nodes", "structure"]
    assert "a candidate's code may depend on more" in steps["nodes"]["again"]
    ran, _, _ = go(tmp_path / "file", choice=choice_of(seeded=True, candidate="other.pth"))
    ran, _, _ = go(tmp_path / "file", choice=choice_of(seeded=True, candidate="other.pth"))
    assert ran == []
