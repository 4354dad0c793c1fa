"""A plugin for pytest: a reference that stays open for all tests, and a marker for them.

Options, on the command line or in ``pytest.ini``:

    efficientdet_checkpoint  what to compare with, as of ``efficientdet-parity nodes``
    efficientdet_threads     threads within one operation

Importing this imports no framework; the fixture does when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from efficientdet_parity import Reference

_CHECKPOINT = "efficientdet_checkpoint"
_THREADS = "efficientdet_threads"
_MARKER = "efficientdet_parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the options known.

    Args:
        parser: Pytest's.
    """
    group = parser.getgroup("efficientdet-parity")
    group.addoption(
        "--efficientdet-checkpoint",
        metavar="CHECKPOINT",
        help="the checkpoint with which the fixture efficientdet_reference compares",
    )
    parser.addini(_CHECKPOINT, "the same, where the option is not given")
    parser.addini(_THREADS, "threads within one operation; default: as many as processors")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known.

    Args:
        config: Pytest's.
    """
    config.addinivalue_line(
        "markers",
        f"{_MARKER}: compares a port with the EfficientDet reference; deselect with "
        f"-m 'not {_MARKER}', since it takes seconds and TensorFlow",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the reference.

    Args:
        items: The tests.
    """
    for item in items:
        if "efficientdet_reference" in getattr(item, "fixturenames", ()):
            item.add_marker(_MARKER)


@pytest.fixture(scope="session")
def efficientdet_reference(pytestconfig: pytest.Config) -> Iterator[Reference]:
    """The reference of the checkpoint in ``efficientdet_checkpoint``, opened once.

    Example:
        def test_my_port(efficientdet_reference):
            efficientdet_reference.compare(my_module()).assert_parity()

    Args:
        pytestconfig: Pytest's configuration.
    """
    import efficientdet_parity

    checkpoint = pytestconfig.getoption("--efficientdet-checkpoint") or pytestconfig.getini(
        _CHECKPOINT
    )
    if not checkpoint:
        pytest.fail(
            "efficientdet_reference needs a checkpoint; set efficientdet_checkpoint in pytest.ini "
            "or give --efficientdet-checkpoint.",
            pytrace=False,
        )
    settings: dict[str, Any] = {}
    if threads := pytestconfig.getini(_THREADS):
        settings["threads"] = threads
    try:
        reference = efficientdet_parity.open_reference(checkpoint, **settings)
    except efficientdet_parity.InputError as error:
        pytest.fail(f"efficientdet_checkpoint: {error}", pytrace=False)
    with reference:
        yield reference
