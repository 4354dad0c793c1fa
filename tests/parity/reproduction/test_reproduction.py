"""What is reproduced, what is refused and why, and the files that are written."""

import json
import os
from dataclasses import replace
from inspect import getsource

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from port_styles import Port, Style
from reproductions import FAULTS, evidence_of, faulty, numbers, reproduction_of

import compare
import efficientdet_parity as ep
from efficientdet_spec import InputError
from parity.diagnosis.suspects import diagnosed, suspects
from parity.lockstep.comparison import compare as compared
from parity.lockstep.pairing import Pairing
from parity.reproduction import making
from parity.reproduction.computation import Along, Computation, Function, Tensor
from parity.reproduction.files import check_folder, digest_of, files_in, packed, write_files
from parity.reproduction.reduction import counted, with_fewer_inputs
from parity.reproduction.sample import take
from parity.reproduction.script import Facts, script_of
from parity.sides.pytorch.observation.candidate import ObservedCandidate

POOL = "fpn.resample_p6.pool"
FUSE = "fpn.cells.0.nodes.4.fuse"


def sample_of(lockstep, name):
    _, node, change, _ = FAULTS[name]
    model = faulty(lockstep, node, change)
    told = lockstep.tell(model)
    sample = take(lockstep.pairing(model), told.nodes[node])
    return sample, told.first


def observed(lockstep, folder, **options):
    """What is told and written of a port that is seen operation by operation."""
    port = Port(lockstep.referee, lockstep.outputs, Style(), **options).eval()
    candidate = ObservedCandidate(port, list(lockstep.kinds))
    pairing = Pairing(
        lockstep.pairing(port).reference, candidate, lockstep.referee, lockstep.images
    )
    nodes = compared(pairing).nodes
    guilty = suspects(pairing, nodes)
    guilty = diagnosed(pairing, guilty, nodes, lockstep.known(), [], 5)
    found = {node.name: node for node in nodes}
    told = type("Told", (), {"nodes": found, "findings": [], "suspects": guilty})
    return told, making.reproduced(
        pairing, evidence_of(told), nodes, folder, model="tiny", candidate="port"
    )


def test_a_script_that_does_not_show_the_difference_is_refused(lockstep):
    sample, suspect = sample_of(lockstep, "pool")
    making.written_of(sample, suspect, "tiny", "port")
    with pytest.raises(making.RefusedError, match="within the 1e.18 that are allowed"):
        limit = replace(sample.node.limit, candidate=1e18)
        high = replace(sample, node=replace(sample.node, limit=limit))
        making.written_of(high, suspect, "tiny", "port")
    with pytest.raises(making.RefusedError, match="as the right value, the comparison"):
        making.written_of(replace(sample, truth=sample.truth + 1), suspect, "tiny", "port")
    with pytest.raises(making.RefusedError, match="right value could not be computed"):
        other = replace(sample, truth=sample.truth[:, :, :1])
        making.written_of(other, suspect, "tiny", "port")


def test_a_wrong_value_that_is_not_the_candidates_is_refused(lockstep):
    sample, suspect = sample_of(lockstep, "pool")
    written = making.written_of(sample, suspect, "tiny", "port")
    making._check(sample, written)
    other = replace(written, found={**written.found, "wrong": 0.5})
    with pytest.raises(making.RefusedError, match="gives 0.5 as the wrong value, and 0 is what"):
        making._check(sample, other)
    rounded = written.found["right"] * 1.001
    other = replace(written, found={**written.found, "rounded": rounded})
    with pytest.raises(making.RefusedError, match="further off than rounding goes"):
        making._check(sample, other)


def test_a_diagnosis_that_does_not_reproduce_the_output_gives_way_to_what_was_recorded(lockstep):
    sample, suspect = sample_of(lockstep, "pool")
    moved = sample.output.copy()
    moved[0, 0, 0, 0] += 1
    written = making.written_of(replace(sample, output=moved), suspect, "tiny", "port")
    assert not written.computed and "has no text for it" in " ".join(written.notes)
    assert written.found["wrong"] == written.found["recorded"]
    assert "def wrong" not in written.script


def test_a_script_that_fails_is_refused(lockstep):
    sample, suspect = sample_of(lockstep, "pool")
    written = making.written_of(sample, suspect, "tiny", "port")
    with pytest.raises(making.RefusedError, match="SystemExit"):
        making.carried_out(written.script, written.tensors + b" ")
    broken = written.script.replace("max_pool2d", "no_pool")
    with pytest.raises(making.RefusedError, match="AttributeError"):
        making.carried_out(broken, written.tensors)


def test_input_channels_are_dropped_where_both_values_can_be_computed():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, 8, 1, 1)), rng.normal(size=(1, 8, 1, 1))
    tensors = {
        "x": Tensor(x, ("images", "input channels", "rows", "columns")),
        "weight": Tensor(weight, ("output channels", "input channels", None, None)),
    }
    takes, text = ("x", "weight"), "F.conv2d(x, weight)"
    functions = {
        "right": Function(takes, (text,), ""),
        "magnitude": Function(takes, ("F.conv2d(x.abs(), weight.abs())",), ""),
    }
    recorded = Computation(tensors, functions, along=(Along(), Along()))
    assert with_fewer_inputs(recorded, 2.0**-24, 16) is recorded
    known = replace(
        recorded,
        functions={**functions, "wrong": Function(takes, (f"{text} * 2",), "")},
        _defined={},
    )
    small = with_fewer_inputs(known, 2.0**-24, 16)
    assert small.tensors["x"].values.shape == small.tensors["weight"].values.shape == (1, 1, 1, 1)
    assert with_fewer_inputs(known, 2.0**-24, 2.0**30) is known


@pytest.mark.parametrize(
    "values, expected",
    [((1.0, 1.0, 0.0), 0.0), ((1.0, 0.0, 0.0), np.inf), ((np.nan, 1.0, 1.0), np.inf),
     ((2.0, 1.0, 4.0), 0.25)],
)  # fmt: skip
def test_roundings(values, expected):
    assert counted(*values, 1.0) == expected


def test_windows_begin_where_strides_do():
    along = Along(down=2, before=1, window=3)
    assert along.part(0, 10, 0) == (slice(0, 2), 0)
    assert along.part(3, 10, 0) == (slice(4, 8), 1)
    assert along.part(4, 9, 0) == (slice(6, 9), 1)
    assert Along(up=2).part(5, 4, 0) == (slice(2, 3), 1)


def test_a_faithful_comparison_writes_nothing(tiny_checkpoint, tmp_path, capsys):
    folder, path = tmp_path / "made", tmp_path / "nodes.json"
    arguments = ["nodes", str(tiny_checkpoint), "--size", "64x64", "--reference", "exact"]
    options = ["--reproduce", str(folder), "--json", str(path), "--threads", "1"]
    assert compare.main([*arguments, *options]) == 0
    assert not folder.exists()
    told = " ".join(capsys.readouterr().out.split())
    assert "nothing was written: nothing differs, so that there is nothing to reproduce" in told
    found = json.loads(path.read_text())["reproduction"]
    assert found["files"] == [] and found["reason"].startswith("nothing differs")


PORT = f"""
import torch
import torch.nn.functional as F

{getsource(FAULTS["pool"][2])}

def build(faithful):
    faithful.get_submodule("{POOL}").forward = lambda x, size: pool_with_zeros(None, x, size)
    return faithful
"""


def test_the_command_line(tiny_checkpoint, tmp_path, capsys):
    folder, path, port = tmp_path / "a" / "b", tmp_path / "nodes.json", tmp_path / "port.py"
    port.write_text(PORT)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    files_in(folder)[0].write_text("of before")
    arguments = ["nodes", str(tiny_checkpoint), "--candidate", f"{port}:build", "--size", "64x64"]
    arguments += ["--reference", "exact", "--threads", "1", "--contributions", "0"]
    assert compare.main([*arguments, "--reproduce", str(folder), "--json", str(path)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert f"{POOL}, element" in told and "checked by running the script" in told
    found = json.loads(path.read_text())
    made = found["reproduction"]
    assert made["files"] == [str(item) for item in files_in(folder)] and made["computed"]
    assert made["node"] == found["summary"]["node"] == POOL
    assert (folder / "notes.txt").read_text() == "mine"
    assert sorted(item.name for item in folder.iterdir()) == [
        "notes.txt",
        "reproduce.npz",
        "reproduce.py",
    ]
    assert "padded with zeros instead of -inf" in files_in(folder)[0].read_text()
    # As the result of the comparison itself and its exit code, nothing else is another.
    assert compare.main([*arguments, "--json", str(path)]) == 1
    without = json.loads(path.read_text())
    assert without["reproduction"] is None and without["sentence"] == found["sentence"]


def test_the_api(tiny_checkpoint, tmp_path, lockstep):
    folder = tmp_path / "made"
    _, node, change, _ = FAULTS["norm"]
    model = faulty(lockstep, node, change)
    options = {"size": (64, 64), "reference": "exact", "threads": 1}
    found = ep.compare(model, tiny_checkpoint, reproduce=folder, **options)
    made = found.record.reproduction
    assert made.node == node and made.computed and files_in(folder)[0].exists()
    assert "eps=1e-05" in files_in(folder)[0].read_text()


def test_a_folder_that_cannot_be_is_refused_before_anything_runs(tmp_path, tiny_checkpoint, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    command = ["nodes", str(tiny_checkpoint), "--size", "64x64", "--reference", "exact"]
    assert compare.main([*command, "--reproduce", str(file)]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert compare.main([*command, "--reproduce", str(file / "below")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    folder = tmp_path / "made"
    folder.mkdir()
    result = files_in(folder)[0]
    assert compare.main([*command, "--reproduce", str(folder), "--json", str(result)]) == 2
    assert "in use by this very run" in capsys.readouterr().err
    assert file.read_text() == "mine" and not list(folder.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_rights_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="is not writable"):
        check_folder(tmp_path / "made")
    tmp_path.chmod(0o700)


def test_files_are_replaced_together_or_not_at_all(tmp_path, monkeypatch):
    write_files(tmp_path, "one", b"1")
    numbers_path = files_in(tmp_path)[1]

    def fails(self, *given):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(numbers_path), "write_text", fails)
        with pytest.raises(InputError, match="No space left"):
            write_files(tmp_path, "two", b"2")
    script, tensors = files_in(tmp_path)
    assert (script.read_text(), tensors.read_bytes()) == ("one", b"1")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_same_numbers_are_the_same_bytes():
    arrays = {"x": np.arange(4.0)}
    assert packed(arrays) == packed(arrays)


@pytest.mark.parametrize("text", ['"""', "\\", "line\nfeed", "\x1b[1m", "é", "{x}", "a" * 500])
def test_no_text_ends_the_script_or_a_string(text):
    function = Function(("x",), ("x",), "A function.")
    tensors = {"x": Tensor(np.ones((1, 1, 1, 1)), (None,) * 4)}
    small = Computation(tensors, {"right": function, "magnitude": function})
    hostile = f'{text}""" + print(1) + """{text}'
    content = packed({"x": np.ones((1, 1, 1, 1)), "recorded": np.float32(2)})
    facts = Facts(hostile, hostile, [hostile], 16.0, "float32", None, digest_of(content))
    found = making.carried_out(script_of(small, facts), content)
    assert found["wrong"] == 2 and found["right"] == 1


def test_what_is_accused_first_is_taken_and_else_it_is_said_why(lockstep, tmp_path, monkeypatch):
    model = faulty(lockstep, *FAULTS["norm"][1:3])
    layer = model.get_submodule(POOL)
    layer.forward = lambda x, size: FAULTS["pool"][2](layer, x, size)
    told, result = reproduction_of(lockstep, model, tmp_path / "first")
    assert [suspect.nodes[0] for suspect in told.suspects] == [FAULTS["norm"][1], POOL]
    assert result.node == FAULTS["norm"][1]
    real = making.take

    def without(pairing, node, progress=None):
        return "of a reason" if node.name == FAULTS["norm"][1] else real(pairing, node, progress)

    monkeypatch.setattr(making, "take", without)
    _, result = reproduction_of(lockstep, model, tmp_path / "second")
    assert result.node == POOL
    assert result.passed_over == [f"{FAULTS['norm'][1]}: of a reason"]
    monkeypatch.setattr(making, "take", lambda *given: "of a reason")
    _, result = reproduction_of(lockstep, model, tmp_path / "third")
    assert result.reason == "no script shows any of these nodes" and len(result.passed_over) == 2
    assert not (tmp_path / "third").exists()


def test_another_shape_is_no_number_to_show(lockstep, tmp_path):
    model = lockstep.candidate()
    model.get_submodule("box_head.predict.pointwise").forward = lambda x: torch.zeros(1, 3, 4, 4)
    _, result = reproduction_of(lockstep, model, tmp_path)
    assert result.reason and "its output cannot be held against" in result.passed_over[0]


def test_a_node_that_reads_another_tensor(lockstep, tmp_path):
    due = lockstep.referee.sources(FUSE)[0]
    other = "fpn.cells.0.nodes.2.conv.depthwise"
    told, result = observed(lockstep, tmp_path, wired={FUSE: {due: other}})
    assert f"reads {other}" in told.suspects[0].diagnosis or other in told.suspects[0].diagnosis
    assert result.node == FUSE, (result, told.suspects)
    script = files_in(tmp_path)[0].read_text()
    assert result.computed and "x0_read" in script
    assert making.carried_out(script, files_in(tmp_path)[1].read_bytes())["wrong"] == result.wrong


def test_a_norm_that_is_folded_into_its_convolution(lockstep, tmp_path):
    node = "backbone.blocks.2.expand_bn"
    conv = "backbone.blocks.2.expand_conv"

    def other(style, layer, given, step):
        weight = layer.weight * (
            1 + 0.1 * torch.sin(torch.arange(layer.weight.numel())).reshape(layer.weight.shape)
        )
        return F.conv2d(given[0], weight, layer.bias)

    _, result = observed(lockstep, tmp_path, folded=True, fault={conv: other})
    assert result.node == node and not result.computed
    assert any("makes this node together with the one before it" in n for n in result.notes)
    assert result.roundings > result.limit


def test_a_convolution_of_another_padding_is_known_by_its_settings(lockstep, tmp_path):
    node = "backbone.stem_conv"

    def symmetric(style, layer, given, step):
        return F.conv2d(given[0], layer.weight, None, layer.stride, 1)

    _, result = observed(lockstep, tmp_path, fault={node: symmetric})
    assert result.node == node and result.computed
    script = files_in(tmp_path)[0].read_text()
    assert "F.pad(x, (1, 1, 1, 1))" in script and "F.pad(x, (0, 1, 0, 1))" in script


def test_numbers_are_read_from_what_is_printed():
    assert numbers("wrong: 0.5 (x)\nin roundings: 3, where\nother: 1") == {
        "wrong": 0.5,
        "in roundings": 3.0,
    }


def test_double_precision(double_lockstep, tmp_path):
    model = faulty(double_lockstep, *FAULTS["norm"][1:3])
    told, result = reproduction_of(double_lockstep, model, tmp_path)
    assert result.node == FAULTS["norm"][1] and result.computed
    script = files_in(tmp_path)[0].read_text()
    assert "DTYPE = torch.float64" in script and "UNIT = 2.0**-53" in script
    assert result.roundings == pytest.approx(told.nodes[result.node].roundings, rel=1e-2)


def test_statistics_of_the_batch_keep_what_they_are_of(lockstep, tmp_path):
    model = faulty(lockstep, "backbone.blocks.2.expand_bn", lambda layer: layer.train())
    _, result = reproduction_of(lockstep, model, tmp_path)
    assert result.node == "backbone.blocks.2.expand_bn" and result.computed, result
    with np.load(files_in(tmp_path)[1]) as file:
        _, channels, rows, columns = file["x"].shape
    assert channels == 1 and min(rows, columns) > 1
    assert "training=True" in files_in(tmp_path)[0].read_text()


@pytest.mark.parametrize(
    "name, what, text",
    [
        ("fpn.cells.0.nodes.0.fuse", lambda layer, maps, weights: type(layer).forward(
            layer, [F.relu(x) for x in maps], weights), "F.relu(x0)"),
        ("backbone.blocks.2.se.reduce_conv", lambda layer, x: F.conv2d(
            x, layer.weight, layer.bias.flip(0)), "bias.flip(0)"),
        ("fpn.cells.0.nodes.0.fuse", lambda layer, maps, weights: type(layer).forward(
            layer, [1.25 * maps[0], *maps[1:]], weights), "x0 = 1.25 * x0"),
        ("backbone.stem_act", lambda layer, x: x, "return x"),
        (POOL, lambda layer, x, size: 0 * type(layer).forward(layer, x, size), "0 * right(x)"),
        ("backbone.stem_bn", lambda layer, x: F.relu(type(layer).forward(layer, x)),
         "F.relu(right(x, mean, variance, gamma, beta))"),
    ],
)  # fmt: skip
def test_further_names_are_computed(name, what, text, lockstep, tmp_path):
    with torch.no_grad():
        _, result = reproduction_of(lockstep, faulty(lockstep, name, what), tmp_path)
    assert result.node == name and result.computed, result
    assert text in files_in(tmp_path)[0].read_text()
