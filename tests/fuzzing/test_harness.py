"""The harness itself: what goes wrong is found, named rightly, kept and can be repeated."""

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from fuzzing import outcomes, table, targets
from fuzzing.damage.raw import RAW, splice
from fuzzing.damage.texts import JSON
from fuzzing.inputs import nearer
from fuzzing.kills import COMMANDS, _shares
from fuzzing.verdict import Kind, wrong_words
from fuzzing.watch import Plan, explored, quiet


def tried(monkeypatch, tmp_path, words, examples=4, seed=1):
    monkeypatch.setenv("FUZZ_BROKEN", words)
    return explored(Plan("broken", seed, examples, 60.0, tmp_path, tmp_path / "kept"))


@pytest.mark.parametrize(
    "word, kind",
    [
        ("wrong", Kind.WRONG),
        ("raise", Kind.TRACEBACK),
        ("unprintable", Kind.MESSAGE),
        ("long", Kind.MESSAGE),
        ("allocate", Kind.MEMORY),
        ("bomb", Kind.MEMORY),
        ("hidden", Kind.MEMORY),
        ("litter", Kind.PROMISE),
    ],
)
def test_a_broken_reader_is_found_by_what_is_wrong_with_it(monkeypatch, tmp_path, word, kind):
    tally = tried(monkeypatch, tmp_path, word)
    assert (tally.tried, tally.failed, tally.held, tally.broken) == (4, 4, 0, None)
    assert {failure["kind"] for failure in tally.failures} == {kind.value}
    # The first ones are kept, with what was read.
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 2 and (kept[0] / "word").read_text().startswith(word)


@pytest.mark.parametrize("word, kind", [("sleep", Kind.HANG), ("die", Kind.CRASH)])
def test_a_worker_that_hangs_or_dies_is_a_failure_and_another_goes_on(
    monkeypatch, tmp_path, word, kind
):
    tally = tried(monkeypatch, tmp_path, word, examples=2)
    assert (tally.tried, tally.failed) == (2, 2)
    assert [failure["kind"] for failure in tally.failures] == [kind.value] * 2
    assert "broken.py" in tally.failures[0]["detail"]


def test_what_is_refused_or_harmless_holds(monkeypatch, tmp_path):
    tally = tried(monkeypatch, tmp_path, "refuse harmless", examples=50)
    assert tally.failures[:2] == []
    assert (tally.tried, tally.failed, tally.held) == (50, 0, 50)
    assert tally.refused > 0 and tally.harmless > 0 and not (tmp_path / "kept").exists()


def test_the_same_seed_tries_the_same_inputs(monkeypatch, tmp_path):
    def kept(place, seed):
        tried(monkeypatch, tmp_path / place, "raise", seed=seed)
        return sorted(path.read_bytes() for path in (tmp_path / place / "kept").glob("*/word"))

    first = kept("a", 1)
    assert first and first == kept("b", 1) != kept("c", 2)


def test_a_kept_input_fails_again_by_the_command_that_is_printed(monkeypatch, tmp_path):
    tally = tried(monkeypatch, tmp_path, "raise")
    command = [sys.executable, "-m", "fuzzing.worker", "broken", "--folder", str(tmp_path / "f")]
    command += ["--material", str(tmp_path), "--kept", str(tmp_path / "k"), "--repeat"]
    (tmp_path / "f").mkdir()
    done = subprocess.run(
        [*command, tally.failures[0]["folder"]], env=quiet(), capture_output=True, text=True
    )
    assert done.returncode == 1 and "KeyError: 'secret'" in done.stderr


def test_words_of_refusals_are_one_printable_line():
    assert wrong_words("a file is damaged; copy it again.") is None
    assert "printed" in wrong_words("two\nlines")
    assert "too long" in wrong_words("\u00e4" * 600)
    assert "empty" in wrong_words(" ")


def test_damage_is_drawn_from_its_generator_alone_and_bears_anything():
    data = json.dumps({"a": [1, {"b": "text"}], "c": None}).encode()
    kinds = {**JSON, **RAW, "splice": splice(data[::-1])}
    for name, damage in kinds.items():
        for content in (data, b"", b"\xff", b"[]"):
            for seed in range(20):
                assert damage(Random(seed), content) == damage(Random(seed), content), name


def test_what_the_failure_does_not_need_is_put_back():
    sound, broken = bytes(100), bytes(range(100))
    assert nearer(sound, broken, lambda data: data[42] == 42) == bytes(42) + b"\x2a" + bytes(57)


def test_every_target_is_listed_and_names_itself():
    assert set(targets.ALL) == targets.MODULES.keys() - targets.HIDDEN
    assert sum(_examples(name) for name in targets.ALL) > 300_000


def _examples(name):
    """Of a target's file, which is not imported: some need TensorFlow."""
    path = Path(targets.__file__).with_name(targets.MODULES[name].rpartition(".")[2] + ".py")
    found = re.search(r"EXAMPLES = ([\d_]+)", path.read_text("utf-8"))
    return int(found[1]) if found else 0


def test_kills_are_shared_among_commands():
    shares = _shares(200, list(COMMANDS))
    assert sum(shares.values()) == 200 and min(shares.values()) >= 20
    assert _shares(5, ["convert"]) == {"convert": 5}


def test_a_file_that_is_half_written_is_told_from_a_complete_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"seconds": 1.5, "other": 2}')
    assert outcomes.incomplete(path) is None and outcomes.normal(path) == '{"other": 2}'
    path.write_text('{"seconds": 1.5, "oth')
    assert "half written" in outcomes.incomplete(path)
    path.rename(tmp_path / ".a.json.1-2.tmp")
    assert outcomes.files(tmp_path) == {} and len(outcomes.litter(tmp_path)) == 1


def test_the_table_stands_between_its_marks(tmp_path):
    document = tmp_path / "security.md"
    document.write_text(f"before\n{table.BEGINS}\nold\n{table.ENDS}\nafter\n")
    table.put_into(document, "| new |")
    assert document.read_text() == f"before\n{table.BEGINS}\n| new |\n{table.ENDS}\nafter\n"
    document.write_text("nothing")
    with pytest.raises(ValueError, match="lacks"):
        table.put_into(document, "| new |")


def test_a_quick_target_runs_and_is_told(tmp_path):
    from converter.tensorflow_files.bundle_writer import write_bundle
    from fuzzing.material import SMALL

    for name, tensors in (("small", SMALL), ("small-2", {k: v * 0 for k, v in SMALL.items()})):
        (tmp_path / name).mkdir()
        write_bundle(tmp_path / name / "model", tensors)
    tally = explored(Plan("bundle", 3, 300, 60.0, tmp_path, tmp_path / "kept"))
    assert tally.tried == 300 and tally.broken is None
    rows = table.rows({"bundle": tally}, None)
    assert "300" in table.text(rows) and "| 300 |" in table.markdown(rows, 3)
    values = table.as_values({"bundle": tally}, None, 3)
    assert values["version"] == 1 and values["targets"]["bundle"]["tried"] == 300
