"""Files with the keys of other code bases: written by convert, recognised as a candidate."""

import argparse
import json

import numpy as np
import pytest
import torch

import convert
import efficientdet_parity as ep
from converter.formats.registry import formats
from converter.formats.target import Values
from converter.listing import written_lines
from converter.mappings.official import iterate_pairs
from converter.mappings.state_dicts import from_naming, get_naming, to_naming
from efficientdet_spec import TINY, Cause, InputError, get_config


@pytest.fixture
def written(tiny_checkpoint, tmp_path):
    """The file that ``--to effdet`` writes."""
    target = tmp_path / "effdet.pth"
    assert convert.main([str(tiny_checkpoint), str(target), "--to", "effdet"]) == 0
    return target


def test_a_file_holds_the_checkpoints_values_under_the_keys(written, tiny_conversion):
    state = torch.load(written, weights_only=True)
    keys = list(get_naming("effdet").keys(TINY))
    assert list(state) == [key.name for key in keys]
    arrays = from_naming(
        get_naming("effdet"), TINY, {name: value.numpy() for name, value in state.items()}
    )
    for name, array in tiny_conversion.arrays.items():
        assert arrays[name].dtype == np.float32 and np.array_equal(arrays[name], array)


def test_what_is_printed(tiny_checkpoint, tmp_path, capsys):
    target = tmp_path / "x.pth"
    assert convert.main([str(tiny_checkpoint), str(target), "--to", "effdet"]) == 0
    keys = list(get_naming("effdet").keys(TINY))
    printed = capsys.readouterr().out
    counters = sum(key.name.endswith("num_batches_tracked") for key in keys)
    assert (
        f"  {len(keys) - counters} tensors written for {len(keys) - counters} parameters; "
        f"{counters} counter of training steps, not read at inference\n"
    ) in printed
    what = "a state dict with the keys of effdet (rwightman/efficientdet-pytorch)"
    assert f"\nwrote {target} (" in printed and f" MB, {what}) in " in printed


def test_how_many_keys_are_never_read_is_printed(tmp_path):
    config = get_config("d6")
    arrays = {pair.parameter: np.zeros(pair.shape, np.float32) for pair in iterate_pairs(config)}
    written = formats()["zylo117"].write(tmp_path / "d6.pth", Values(config, arrays))
    text = "\n".join(written_lines(written, 100))
    assert len(written.rows) == 1882 and "; 64 never read" in text.replace("\n", " ")


def test_the_result_says_whose_keys_they_are(tiny_checkpoint, tmp_path):
    for options, expected in ((["--to", "effdet"], "effdet"), ([], "pth")):
        result = tmp_path / "result.json"
        words = [str(tiny_checkpoint), str(tmp_path / "x.pth"), "--json", str(result), *options]
        assert convert.main(words) == 0
        assert json.loads(result.read_text())["to"] == expected


@pytest.mark.parametrize(
    "options, said",
    [
        (
            ["--to", "efdet"],
            "no kind of file 'efdet' to write (did you mean effdet?); give one of",
        ),
        (["--to", "effdet", "--list"], "--to is about TARGET, which --list does not"),
        (["--to", "zylo117"], "which zylo117/Yet-Another-EfficientDet-Pytorch cannot build"),
    ],
)
def test_mistakes(options, said, tiny_checkpoint, tmp_path, capsys):
    target = tmp_path / "x.pth"
    assert convert.main([str(tiny_checkpoint), str(target), *options]) == 2
    assert said in capsys.readouterr().err and not target.exists()


def test_in_python_a_model_is_returned(tiny_checkpoint):
    with pytest.raises(InputError, match="^to says what a command line writes"):
        ep.convert(tiny_checkpoint, to="effdet")


def wrapped(state):
    return {f"module.{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda state: state,
        wrapped,
        lambda state: {f"model.{key}": value for key, value in state.items()},
        lambda state: {"epoch": 3, "arch": "d0", "state_dict": wrapped(state)},
        lambda state: {key: value for key, value in state.items() if "class_net" not in key},
    ],
)
def test_as_a_candidate_it_is_recognised(content, written, tiny_checkpoint, tmp_path):
    path = tmp_path / "theirs.pth"
    torch.save(content(torch.load(written, weights_only=True)), path)
    with pytest.raises(InputError) as raised:
        ep.compare(path, tiny_checkpoint)
    assert raised.value.cause is Cause.FORMAT
    assert str(raised.value) == (
        f"{path} was not written by convert: it is a state dict with the keys of "
        f"rwightman/efficientdet-pytorch, which does not hold the code that computes with it; give "
        f"FILE.py:FUNCTION, a function that makes the model and loads the file, or effdet:MODEL "
        f"for its own model with the checkpoint's values."
    )


def test_a_code_base_without_a_package_is_recognised_too(tiny_checkpoint, tmp_path):
    config = get_config("d0")
    arrays = {pair.parameter: np.zeros(pair.shape, "float32") for pair in iterate_pairs(config)}
    named = to_naming(get_naming("zylo117"), config, arrays)
    path = tmp_path / "theirs.pth"
    torch.save({name: torch.from_numpy(value) for name, value in named.items()}, path)
    with pytest.raises(InputError) as raised:
        ep.compare(path, tiny_checkpoint)
    assert "keys of zylo117/Yet-Another-EfficientDet-Pytorch, which" in str(raised.value)
    assert str(raised.value).endswith("a function that makes the model and loads the file.")


def test_the_keys_of_a_training_checkpoint_are_recognised_without_loading_it(
    tiny_checkpoint, tmp_path
):
    """As timm's trainer writes it: beside the state dict stands a pickled object."""
    state = {f"model.{key.name}": torch.zeros(1) for key in get_naming("effdet").keys(TINY)}
    path = tmp_path / "last.pth"
    torch.save({"state_dict": state, "optimizer": {}, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(InputError, match="keys of rwightman/efficientdet-pytorch, which"):
        ep.compare(path, tiny_checkpoint)


@pytest.mark.parametrize(
    "content", [{"weight": torch.zeros(2)}, [torch.zeros(2)], {"state_dict": 3}, {3: torch.ones(1)}]
)
def test_other_files_are_refused_as_before(content, tiny_checkpoint, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(
        InputError, match="is a PyTorch file( of 1 tensors .*| with .*)?, but not one that"
    ):
        ep.compare(path, tiny_checkpoint)
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="is not a PyTorch file of plain tensors"):
        ep.compare(path, tiny_checkpoint)
