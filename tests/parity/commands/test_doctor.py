"""What a machine has, and what is said where something is missing or broken."""

import sys

import pytest

from efficientdet_parity.command_line import main
from parity.commands import doctor
from parity.process import machine
from parity.process.machine import Probed, probe
from parity.results.reading import read
from parity.results.records.doctor import DoctorResult


@pytest.fixture
def probed(monkeypatch):
    """Replaces what the frameworks answer."""
    answers = {
        "torch": Probed(True, {"version": "2", "threads": 2, "devices": ["cpu"]}),
        "tensorflow": Probed(True, {"version": "2", "devices": ["cpu"]}),
    }
    monkeypatch.setattr(machine, "probe", answers.__getitem__)
    return answers


def test_a_machine_that_has_everything(probed, tmp_path, capsys):
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "0123-efficientdet-d0.tar.gz").write_bytes(b"x" * 2_000_000)
    (downloads / "0123-efficientdet-d1.tar.gz.part").write_bytes(b"x" * 1_000_000)
    (downloads / "0123-efficientdet-d1.tar.gz.lock").touch()
    (downloads / "0123-efficientdet-d1.tar.gz.part.json").touch()
    path = tmp_path / "doctor.json"
    words = ["doctor", "--cache", str(tmp_path / "cache"), "--json", str(path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "efficientdet-d0.tar.gz  2.0 MB\n" in out
    assert "efficientdet-d1.tar.gz  1.0 MB, not complete" in out and ".lock" not in out
    assert ".json" not in out
    assert out.endswith("\nEverything that is installed works.\n")
    found = read(path, DoctorResult)
    assert found.healthy and [item.name for item in found.commands][:2] == ["convert", "nodes"]
    assert found.cpus >= 1 and found.cache_free_bytes > 0


def test_a_machine_without_tensorflow(probed, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert main(["doctor", "--cache", str(tmp_path / "none")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  tensorflow  not installed" in lines
    assert "  convert     ready" in lines and "  nodes       needs tensorflow" in lines
    assert any("to install it: pip install '" in line and "[tensorflow]" in line for line in lines)


def test_a_framework_that_is_broken(probed, tmp_path, capsys):
    probed["tensorflow"] = Probed(False, message="illegal instruction (signal 4)")
    assert main(["doctor", "--cache", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "tensorflow  DOES NOT WORK: illegal instruction (signal 4)" in out
    assert out.endswith("\ntensorflow cannot be used: install it again.\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 4)", r"it said nothing \(signal 4\)"),
        ("import no_such_module", r"No module named 'no_such_module' \(exit code 1\)"),
        ("import time; time.sleep(60)", "not imported within 1 seconds"),
    ],
)
def test_what_crashes_takes_only_its_own_process_along(code, message, monkeypatch):
    monkeypatch.setitem(machine._PROBES, "torch", code)
    monkeypatch.setattr(machine, "_SECONDS", 1)
    assert pytest.raises(AssertionError, _works, "torch").match(message)


def _works(framework):
    found = probe(framework)
    assert found.works, found.message


def test_a_framework_that_works():
    assert probe("torch").facts["threads"] >= 1


def test_every_command_is_looked_at():
    looked_at = {item.COMMAND for item in doctor._BARE}
    from efficientdet_parity.command_line import COMMANDS

    others = {"seed", "diff", "doctor", "models", "inspect"}
    assert looked_at | others == {command.name for command in COMMANDS}
