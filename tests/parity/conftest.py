"""The tiny model's reference, built once."""

import pytest
from lockstep import Lockstep


@pytest.fixture(scope="session")
def lockstep(tiny_checkpoint, tiny_conversion):
    """The tiny model in float32; candidates are to be changed, the reference is not."""
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model")
    yield result
    result.session.close()


@pytest.fixture(scope="session")
def double_lockstep(tiny_checkpoint, tiny_conversion):
    """The same in float64."""
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model", "float64")
    yield result
    result.session.close()
