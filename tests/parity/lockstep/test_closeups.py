"""A closer look at nodes shows where in a tensor two sides differ, and which nodes to look at."""

import json

import numpy as np
import pytest

import compare
from parity.judge.verdict import Verdict
from parity.lockstep.closeups import CELLS, EDGES, LARGEST, chosen, closeup, closeups
from parity.results.records.nodes import Suspect
from parity.results.records.record import plain

FAULTY = "backbone.blocks.1.project_conv"


def tensors(shape=(1, 50, 70, 6)):
    rng = np.random.default_rng(0)
    exact = rng.normal(size=shape)
    return exact, exact.astype(np.float32)


def gauges(exact):
    return dict.fromkeys(("candidate", "reference"), np.abs(exact))


def test_a_single_wrong_value_is_found():
    exact, reference = tensors()
    candidate = reference.copy()
    candidate[0, 20, 60, 4] += 3
    look = closeup("node", reference, candidate, exact, gauges(exact))
    rms = np.sqrt(np.mean(np.square(reference, dtype=np.float64)))
    assert look.cells.shape == (CELLS, CELLS) and (look.height, look.width) == (50, 70)
    row, column = np.argwhere(look.cells)[0]
    assert np.count_nonzero(look.cells) == 1
    assert look.cells[row, column] == pytest.approx(3 / rms, rel=1e-5)
    assert abs(row - 20 * CELLS / 50) <= 1 and abs(column - 60 * CELLS / 70) <= 1
    assert np.flatnonzero(look.channels).tolist() == [4]
    assert look.channels[4] == pytest.approx(3 / rms / np.sqrt(50 * 70), rel=1e-5)
    assert look.pairs[1, 0] - look.pairs[0, 0] == pytest.approx(3, rel=1e-5)
    assert (look.pairs[0, 1:] == look.pairs[1, 1:]).all() and look.pairs.shape[1] > LARGEST
    for side in ("candidate", "reference"):
        assert look.counts[side].sum() + look.zero[side] == reference.size
    far = EDGES[:-1] > 1e4
    assert look.counts["candidate"][far].sum() == 1 and look.counts["reference"][far].sum() == 0
    # Rounding to float32 takes a value at most one rounding from the exact one.
    assert look.counts["reference"][EDGES[:-1] >= 1].sum() == 0


def test_small_tensors_and_values_that_are_no_numbers():
    exact, reference = tensors((1, 1, 1, 3))
    candidate = reference.copy()
    candidate[..., 1] = np.nan
    look = closeup("node", reference, candidate, exact, gauges(exact))
    assert look.cells.shape == (1, 1) and np.isnan(look.cells).all()
    assert np.isnan(look.pairs[1, 0]) and look.counts["candidate"][-1] == 1
    values = json.loads(json.dumps(plain(look.result()), allow_nan=False))
    assert values["map"]["values"] == [["nan"]] and values["scatter"]["candidate"][0] == "nan"
    assert values["histogram"]["zero"].keys() == {"candidate", "reference"}


def test_equal_tensors_differ_nowhere():
    exact, reference = tensors()
    look = closeup("node", reference, reference, exact, gauges(exact))
    assert not look.cells.any() and not look.channels.any()
    assert (look.counts["candidate"] == look.counts["reference"]).all()


def shifted(lockstep):
    model = lockstep.candidate()
    layer = model.get_submodule(FAULTY)

    def wrong(module, inputs, output):
        output[:, 2] += 1
        return output

    layer.register_forward_hook(wrong)
    return model


def test_a_look_into_a_comparison(lockstep):
    pairing = lockstep.pairing(shifted(lockstep))
    before = lockstep.run(lockstep.candidate())
    names = [FAULTY, "backbone.blocks.2.project_conv"]
    faulty, sound = closeups(pairing, names)
    assert [faulty.node, sound.node] == names
    assert faulty.channels.argmax() == 2 and faulty.channels[2] > 0.1
    assert (np.delete(faulty.channels, 2) < 1e-5).all()
    # Each node is given TensorFlow's tensors, so what comes later is sound.
    assert sound.cells.max() == pytest.approx(before[sound.node].own.relative_max, rel=1e-6)
    assert closeups(pairing, []) == []


def test_suspects_come_first_then_the_worst(lockstep):
    nodes = list(lockstep.run(lockstep.candidate()).values())
    suspect = Suspect((FAULTY,), Verdict.FUNCTION_DIFFERS, 1, 1)
    names = chosen(nodes, [suspect], 5)
    assert names[0] == FAULTY and len(names) == len(set(names)) == 5
    largest = max(nodes, key=lambda node: node.own.relative_max)
    nearest = max(nodes, key=lambda node: node.roundings)
    assert {largest.name, nearest.name} <= set(names[:3])
    assert chosen(nodes, [], 10**6) and chosen(nodes, [], 0) == []


def test_the_result_has_them(tiny_checkpoint, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    path = tmp_path / "nodes.json"
    arguments = ["nodes", str(tiny_checkpoint), "--size", "64x64", "--closeups", "3"]
    assert compare.main([*arguments, "--json", str(path)]) == 0
    looks = json.loads(path.read_text())["closeups"]
    assert len(looks) == 3
    for look in looks:
        map_ = look["map"]
        assert np.shape(map_["values"]) == (map_["rows"], map_["columns"])


def test_a_ruling_is_computed_once_and_only_if_asked(lockstep):
    sitting = lockstep.referee.sitting(lockstep.images)
    name = next(iter(lockstep.kinds))
    ruling = sitting.rule(name)
    assert "_figures" not in vars(ruling)
    truth = ruling.truth
    assert ruling.truth is truth and truth.dtype == np.float64
