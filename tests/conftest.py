"""Material that several tests use: the tiny checkpoint, its conversion and optional test data."""

import os
from pathlib import Path

import pytest

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from converter.tensorflow_files.bundle import open_bundle
from converter.tensorflow_files.bundle_writer import write_bundle
from parity.process.environment import prepare
from parity.sides.tensorflow_import import import_triton_first

# Before any test imports PyTorch or TensorFlow, as compare.py does it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
prepare()
import_triton_first()


@pytest.fixture(scope="session")
def test_data():
    """The folder of optional material: Google's lists of variables, index files, outputs."""
    name = os.environ.get("EFFICIENTDET_TEST_DATA")
    if not name:
        pytest.skip("EFFICIENTDET_TEST_DATA names no folder with the official models' files")
    folder = Path(name)
    assert folder.is_dir(), f"EFFICIENTDET_TEST_DATA is {name!r}, which is no folder"
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """The folder of a seeded checkpoint of the tiny model; its prefix is ``folder / "model"``.

    Nothing may be written to it; :func:`rewrite` gives changed copies.
    """
    import compare

    folder = tmp_path_factory.mktemp("tiny")
    assert compare.main(["seed", "tiny", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_conversion(tiny_checkpoint):
    """The tiny checkpoint's values in PyTorch's layout; not to be changed."""
    prefix = tiny_checkpoint / "model"
    return convert(CheckpointFiles(prefix, str(prefix), None))


@pytest.fixture(scope="session")
def tiny_pth(tiny_conversion, tmp_path_factory):
    """The tiny checkpoint as a ``.pth`` file; not to be changed."""
    from torch_model.saving import save_arrays

    path = tmp_path_factory.mktemp("converted") / "tiny.pth"
    done = tiny_conversion
    save_arrays(path, done.config, done.arrays, done.provenance)
    return path


@pytest.fixture
def rewrite(tiny_checkpoint, tmp_path):
    """Writes a copy of the tiny checkpoint after a change and returns its folder.

    The change gets all tensors, writable and by name, and alters, adds or deletes some.
    """

    def make(change, name="changed"):
        bundle = open_bundle(tiny_checkpoint / "model")
        tensors = {entry: bundle.read(entry).copy() for entry in bundle.index.entries}
        change(tensors)
        folder = tmp_path / name
        folder.mkdir()
        write_bundle(folder / "model", tensors)
        return folder

    return make
