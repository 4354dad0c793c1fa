"""Which of a variable's values are there, and which can be taken."""

import numpy as np
import pytest
from listed_source import ListedSource
from made_entries import checkpoint

from converter.conversion import account, convert
from converter.fetch.cached import CheckpointFiles
from converter.fetch.sources import resolve
from converter.formats.registry import formats
from converter.formats.target import Values
from converter.ledger import make_ledger
from converter.untrained import INITIAL_CLASS_BIAS
from converter.values import ALIKE
from converter.variables import EMA
from efficientdet_spec import TINY, Cause, InputError

SUFFIX = f"/{EMA}"


def files_of(folder):
    return CheckpointFiles(folder / "model", "here", None)


def untrained(name, value):
    if name.endswith("/gamma"):
        return np.ones_like(value)
    if name == "class_net/class-predict/bias":
        return np.full_like(value, INITIAL_CLASS_BIAS)
    return value


@pytest.fixture
def bare(rewrite):
    """What is left of a SavedModel of TensorFlow 1 without its graph."""

    def change(tensors):
        for name in [name for name in tensors if name.endswith(SUFFIX)]:
            tensors[name] = untrained(name.removesuffix(SUFFIX), tensors[name])

    return files_of(rewrite(change))


def test_averages_that_look_untrained_beside_trained_values_are_refused(bare, tiny_conversion):
    message = "look untrained and its raw values do not .*saved_model.pb; give the folder"
    with pytest.raises(InputError, match=message) as refused:
        convert(bare)
    assert refused.value.cause is Cause.MODEL
    # The way out that it names.
    done = convert(bare, weights="raw")
    assert done.ledger.counts()["raw"] == tiny_conversion.ledger.counts()["ema"]


def test_values_that_all_look_untrained_are_noted(rewrite):
    def change(tensors):
        for name in tensors:
            tensors[name] = untrained(name.removesuffix(SUFFIX), tensors[name])

    notes = convert(files_of(rewrite(change))).provenance["notes"]
    assert sum("look untrained" in note for note in notes) == 2


def test_twins_that_are_alike_say_nothing_of_which_they_are(tiny_conversion, tmp_path):
    done = tiny_conversion
    one = Values(done.config, done.arrays, None, done.provenance)
    formats()["tf1"].write(tmp_path / "tf1", one)
    again = convert(files_of(tmp_path / "tf1"))
    assert ALIKE in again.ledger.notes and again.provenance["weights"] == "only"
    # Nor does a file that is made of it.
    values = Values(again.config, again.arrays, None, again.provenance)
    formats()["pth"].write(tmp_path / "x.pth", values)
    last = convert(resolve(str(tmp_path / "x.pth"), tmp_path))
    assert last.ledger.counts() == {"only": len(last.ledger.sources)}
    assert last.provenance["converted_from"]["weights"] == "only"


def test_twins_of_which_one_differs_are_not_alike(tiny_conversion, tmp_path):
    done = tiny_conversion
    name = next(iter(done.arrays))
    raw = {**done.arrays, name: done.arrays[name] * np.float32(2)}
    formats()["tf1"].write(tmp_path / "tf1", Values(done.config, done.arrays, raw))
    again = convert(files_of(tmp_path / "tf1"))
    assert ALIKE not in again.ledger.notes and again.provenance["weights"] == "ema"


def without(names):
    def change(tensors):
        for name in [name for name in tensors if names(name)]:
            del tensors[name]

    return change


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (lambda name: name.endswith(SUFFIX), "both", "holds no moving averages .EMA. beside"),
        (lambda name: name.startswith("box_net") and name.endswith(SUFFIX), "both",
         "lacks the moving average .EMA. of [0-9]+ variables"),
        (lambda name: not name.endswith(SUFFIX), "raw", "holds the moving averages .EMA. alone"),
        (lambda name: not name.endswith(SUFFIX), "both", "holds the moving averages .EMA. alone"),
    ],
)  # fmt: skip
def test_values_that_are_not_there(rewrite, names, weights, message):
    files = files_of(rewrite(without(names)))
    for attempt in (convert, account):
        with pytest.raises(InputError, match=f"{message}.*--weights {weights} asks for"):
            attempt(files, weights=weights)
    assert not account(files).findings


class Contradicting(ListedSource):
    def check(self, config, part=""):
        raise InputError("contradicts itself", Cause.MODEL)


def test_a_file_is_held_against_its_own_model_only():
    """Of another one, whose names are looked for in vain, it would seem to contradict itself."""
    entries = checkpoint(TINY)
    with pytest.raises(InputError, match="contradicts itself"):
        make_ledger(Contradicting(entries), TINY)
    fewer = {name: entry for name, entry in entries.items() if "box_net/box-0/bias" not in name}
    assert len(make_ledger(Contradicting(fewer), TINY).findings) == 1
