"""The check of the comparison by faults, and that it fails where a fault is not found."""

import json

import pytest

import compare
from parity.commands import faults
from parity.commands.faults import FAULTS, Fault

pytest.importorskip("tensorflow")


def check(checkpoint, tmp_path):
    path = tmp_path / "check.json"
    code = compare.main(["self-check", str(checkpoint), "--size", "256x192", "--json", str(path)])
    return code, json.loads(path.read_text())


def test_every_fault_is_found(tiny_checkpoint, tmp_path, capsys):
    code, result = check(tiny_checkpoint, tmp_path)
    assert code == 0 and result["passes"]
    faithful, *broken = result["faults"]
    assert not faithful["detected"] and faithful["nodes"] == []
    assert [item["title"] for item in broken] == [fault.title for fault in FAULTS]
    for item in broken:
        assert item["detected"] and item["located"], item
    assert sum(item["named"] for item in broken) >= len(broken) - 1
    printed = capsys.readouterr().out
    assert printed.count("detected, located") == len(FAULTS) and "SELF-CHECK PASSED" in printed


def test_a_fault_that_is_not_found_fails_the_check(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    harmless = Fault("nothing", frozenset(), lambda module: True, lambda module: None)
    nowhere = Fault("no such module", frozenset(), lambda module: False, lambda module: None)
    monkeypatch.setattr(faults, "FAULTS", (harmless, nowhere))
    code, result = check(tiny_checkpoint, tmp_path)
    assert code == 1 and not result["passes"] and len(result["faults"]) == 2
    assert "nothing, at : NOT DETECTED, NOT LOCATED" in capsys.readouterr().out
