"""TensorFlow is imported so that PyTorch still works beside it."""

import sys
from types import ModuleType

import pytest

from parity.sides import tensorflow_import

TRITON = "triton._C.libtriton"


@pytest.fixture
def imported(monkeypatch):
    """What is imported, in a machine that has Triton."""
    names = []
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(tensorflow_import.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tensorflow_import.importlib, "import_module", names.append)
    return names


def test_triton_comes_before_tensorflow(imported, monkeypatch):
    monkeypatch.setattr(tensorflow_import, "require_extra", lambda *_: None)
    tensorflow_import.import_tensorflow()
    assert imported == [TRITON, "tensorflow"]


def test_triton_does_not_come_after_tensorflow(imported, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    tensorflow_import.import_triton_first()
    assert imported == []


def test_triton_that_cannot_be_imported_is_left_alone(imported, monkeypatch):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(tensorflow_import.importlib, "import_module", fail)
    tensorflow_import.import_triton_first()
