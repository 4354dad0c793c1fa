"""Converted models in a program: made, written, read."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import efficientdet_parity as ep


def test_a_model_is_converted_written_and_read(tiny_checkpoint, tiny_conversion, tmp_path, capfd):
    events = []
    model = ep.convert(tiny_checkpoint, progress=events.append)
    assert not model.training
    assert model.provenance["checkpoint_fingerprint"]
    for name, array in tiny_conversion.arrays.items():
        assert np.array_equal(model.state_dict()[name].numpy(), array), name
    ep.save(model, tmp_path / "tiny.pth")
    again = ep.load(str(tmp_path / "tiny.pth"))
    assert again.provenance == model.provenance and again.config == model.config
    images = torch.zeros(1, 3, 128, 128)
    with torch.no_grad():
        outputs = [list(itertools.chain(*either(images))) for either in (model, again)]
    assert all(map(torch.equal, *outputs))
    assert capfd.readouterr() == ("", "")
    assert all(isinstance(event, ep.ProgressEvent) for event in events)


def test_what_was_trained_since_is_written(tiny_checkpoint, tmp_path):
    model = ep.convert(str(tiny_checkpoint), weights="raw")
    with torch.no_grad():
        next(model.parameters()).fill_(0.5)
    ep.save(model, tmp_path / "trained.pth")
    trained = ep.load(tmp_path / "trained.pth")
    assert (next(trained.parameters()) == 0.5).all()
    # They are no longer the raw values of that checkpoint.
    assert "weights" not in trained.provenance and "weights" in model.provenance
    assert "changed after they were converted" in trained.provenance["notes"][-1]
    assert trained.provenance["source"] == model.provenance["source"]
    ep.save(trained, tmp_path / "again.pth")
    assert ep.load(tmp_path / "again.pth").provenance == trained.provenance


@pytest.mark.parametrize("to", ["tf1", "tf2", "h5", "safetensors", "effdet"])
def test_a_model_is_written_as_any_kind_of_file(to, tiny_checkpoint, tmp_path):
    model = ep.convert(tiny_checkpoint)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    target = tmp_path / {"tf1": "tf1", "tf2": "tf2", "effdet": "x.pth"}.get(to, f"x.{to}")
    ep.save(model, target, to=to)
    again = ep.convert(target)
    assert again.config == model.config
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize(
    "call, cause, said",
    [
        (lambda folder: ep.convert(folder / "nowhere"), ep.Cause.FILE, "nowhere"),
        (lambda folder: ep.convert(folder, wieghts="raw"), ep.Cause.OPTION, "did you mean weights"),
        (lambda folder: ep.convert(folder, weights="both"), ep.Cause.OPTION, "one value of each"),
        (
            lambda folder: ep.save(ep.build("efficientdet-tiny"), folder / "x", to="tf3"),
            ep.Cause.OPTION,
            "no kind of file 'tf3' to write .did you mean tf[12]",
        ),
        (lambda folder: ep.load(folder / "none.pth"), ep.Cause.FILE, "none.pth"),
        (lambda folder: ep.save(nn.Linear(1, 1), folder / "a.pth"), ep.Cause.MODEL, "A Linear"),
    ],
)
def test_mistakes(tmp_path, call, cause, said):
    with pytest.raises(ep.InputError, match=said) as caught:
        call(tmp_path)
    assert caught.value.cause is cause


def test_a_model_is_not_written_anywhere(tiny_pth, tmp_path):
    model = ep.load(tiny_pth)
    for name, cause in [("model.onnx", ep.Cause.OPTION), ("no/model.pth", ep.Cause.FILE)]:
        with pytest.raises(ep.InputError) as caught:
            ep.save(model, tmp_path / name)
        assert caught.value.cause is cause
    assert not list(tmp_path.iterdir())
