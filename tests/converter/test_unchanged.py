"""TensorFlow reads the checkpoint again, later: it must still be the one that was converted."""

import os
import shutil

import numpy as np
import pytest

import compare
from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.unchanged import unchanged
from efficientdet_spec import Cause, InputError
from parity.commands.comparing.opened import Opened
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.tensorflow_detection import tensorflow_stages
from parity.commands.references import graph
from parity.settings.nodes import NodesSettings
from torch_model.profiles import get_profile

SHAPE = (1, 64, 64, 3)


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    """A sound checkpoint of the same model, with other values."""
    folder = tmp_path_factory.mktemp("another")
    assert compare.main(["seed", "tiny", str(folder), "--salt", "another"]) == 0
    return folder


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    """A copy of the checkpoint that can be changed."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "tiny")


@pytest.fixture
def opened(folder):
    settings = NodesSettings(checkpoint=str(folder), size=SHAPE[1:3])
    with Opened(settings, resolve(str(folder), folder)) as found:
        yield found


def swap(folder, another):
    for path in another.glob("model.*"):
        shutil.copy(path, folder / path.name)


CHANGED = "model.index changed after it was converted by this run: its SHA-256 is .*, expected"


def test_the_reference_of_a_comparison(opened, folder, another):
    opened.reference(SHAPE)
    swap(folder, another)
    with pytest.raises(InputError, match=CHANGED) as caught:
        opened.reference((2, *SHAPE[1:]))
    assert caught.value.cause is Cause.FILE and len(str(caught.value)) < 1000


def test_gradients(opened, folder, another):
    compute = graph.gradients(opened.wanted(SHAPE, 1))
    swap(folder, another)
    with pytest.raises(InputError, match=CHANGED):
        compute(np.zeros(SHAPE, np.float32), [], dtype="float32", training=False)


def test_detection(folder, another):
    prefix = folder / "model"
    setup = Detection(
        conversion=convert(resolve(str(folder), folder)),
        prefix=prefix,
        profile=get_profile("official"),
        size=SHAPE[1:3],
        weights="ema",
        device="cpu",
        threads=1,
        batch=1,
    )
    with tensorflow_stages(setup, optimised=True):
        pass
    swap(folder, another)
    with pytest.raises(InputError, match=CHANGED), tensorflow_stages(setup, optimised=True):
        pass


def test_an_exchange_while_it_is_read(tiny_conversion, folder, another):
    with (
        pytest.raises(InputError, match=CHANGED),
        unchanged(tiny_conversion, folder / "model"),
    ):
        swap(folder, another)


def test_data_that_is_swapped_alone_does_not_fit_the_index(opened, folder, another):
    name = "model.data-00000-of-00001"
    shutil.copy(another / name, folder / name)
    with pytest.raises(InputError, match="TensorFlow cannot restore"):
        opened.reference(SHAPE)


@pytest.mark.parametrize("how", ["missing", "pipe"])
def test_a_checkpoint_that_is_gone(tiny_conversion, folder, how):
    index = folder / "model.index"
    index.unlink()
    if how == "pipe":
        os.mkfifo(index)
    with (
        pytest.raises(InputError, match="cannot be read any more .*; leave the checkpoint where"),
        unchanged(tiny_conversion, folder / "model"),
    ):
        pytest.fail("it is read")
