"""The check of the comparison by faults, and that it fails where a fault is not found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import compare
from parity.commands.self_check import USUAL, chosen
from parity.faults import catalogue
from parity.faults.basics.fault import EVERY, Fault
from parity.faults.table import table

pytest.importorskip("tensorflow")


def check(checkpoint, tmp_path, *options):
    path = tmp_path / "check.json"
    command = ["self-check", str(checkpoint), "--size", "256x192", "--json", str(path), *options]
    code = compare.main(command)
    return code, json.loads(path.read_text())


def nothing(case, base):
    return iter(())


def put_into(monkeypatch, *faults):
    """Make these the whole catalogue."""
    monkeypatch.setattr(catalogue, "CATALOGUE", faults)


def known(slug):
    return next(fault for fault in catalogue.CATALOGUE if fault.slug == slug)


def test_every_usual_fault_is_found_and_named(tiny_checkpoint, tmp_path, capsys):
    code, result = check(tiny_checkpoint, tmp_path)
    assert code == 0 and result["passes"]
    faithful, *broken = result["faults"]
    assert not faithful["detected"] and faithful["nodes"] == []
    assert [item["title"] for item in broken] == [fault.title for fault in chosen(every=False)]
    for item in broken:
        assert item["detected"] and item["located"] and item["named"], item
    printed = capsys.readouterr().out
    assert printed.count("detected, located") == len(USUAL) and "SELF-CHECK PASSED" in printed


def test_all_are_those_that_can_be_put_in():
    every = chosen(every=True)
    assert set(USUAL) <= {fault.slug for fault in every}
    left = [fault for fault in catalogue.CATALOGUE if fault not in every]
    assert left and all(fault.without for fault in left)


def test_a_fault_that_is_not_found_fails_the_check(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    harmless = Fault("nothing", "nothing", EVERY, nothing, change=lambda module: None)
    nowhere = replace(harmless, title="no such layer", where=lambda site: False)
    put_into(monkeypatch, harmless, nowhere)
    code, result = check(tiny_checkpoint, tmp_path, "--all")
    assert code == 1 and not result["passes"] and len(result["faults"]) == 2
    printed = capsys.readouterr().out
    assert "nothing, at backbone.stem_conv: NOT DETECTED, NOT LOCATED, named nothing" in printed
    assert (
        "not put in, since nothing in this model shows them on this input: no such layer" in printed
    )


def test_a_fault_that_is_given_a_wrong_name_fails_the_check(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    # What recognises it calls it by another name than its own.
    put_into(monkeypatch, known("beta-missing"), replace(known("mean-missing"), slug="toy"))
    code, result = check(tiny_checkpoint, tmp_path, "--all")
    assert code == 1 and not result["passes"]
    _, right, wrong = result["faults"]
    assert right["passes"] and right["named"] and right["names"] == ["beta-missing"]
    assert wrong["detected"] and wrong["located"] and wrong["names"] == ["mean-missing"]
    assert not wrong["named"] and not wrong["passes"]
    assert "named WRONGLY mean-missing" in capsys.readouterr().out


def test_the_list_is_the_table_of_the_documentation(capsys):
    assert compare.main(["self-check", "--list"]) == 0
    assert capsys.readouterr().out == table() + "\n"
    page = (Path(__file__).parents[3] / "docs" / "catalogue.md").read_text("utf-8")
    assert page.endswith(f"\n\n{table()}\n"), "write compare.py self-check --list to its end"
