"""A plugin for pytest: a reference that stays open for all tests, and a marker for them.

Options, on the command line or in ``pytest.ini``:

    efficientdet_checkpoint  what to compare with, as of ``efficientdet-parity nodes``
    efficientdet_reference   what computes it, as of ``--reference``: ``exact`` where nothing is
                             said, which needs no TensorFlow; ``graph`` for TensorFlow's graph
    efficientdet_hparams     hyperparameters that the weights do not show, as of ``--hparams``
    efficientdet_threads     threads within one operation

Importing this imports no framework; the fixture does when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from efficientdet_spec import InputError

if TYPE_CHECKING:
    from efficientdet_parity import Reference

_CHECKPOINT = "efficientdet_checkpoint"
_REFERENCE = "efficientdet_reference"
_HPARAMS = "efficientdet_hparams"
_THREADS = "efficientdet_threads"
_MARKER = "efficientdet_parity"
_PUBLIC = {
    f"efficientdet_parity.{name}" for name in ("comparing", "converting", "evaluating", "reporting")
}


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
    group.addoption(
        "--efficientdet-reference",
        metavar="WHICH",
        help="what computes the reference, as of efficientdet-parity nodes; default: exact, which "
        "needs no TensorFlow",
    )
    group.addoption(
        "--efficientdet-hparams",
        metavar="FILE|KEY=VALUE,...",
        help="hyperparameters that the weights do not show, as --hparams of efficientdet-parity "
        "nodes",
    )
    parser.addini(_HPARAMS, "the same, where the option is not given", default="")
    parser.addini(_CHECKPOINT, "the same, where the option is not given")
    parser.addini(_REFERENCE, "the same, where the option is not given", default="exact")
    parser.addini(_THREADS, "threads within one operation; default: as many as processors")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known.

    Args:
        config: Pytest's.
    """
    config.addinivalue_line(
        "markers",
        f"{_MARKER}: compares a port with the EfficientDet reference; deselect with "
        f"-m 'not {_MARKER}', since it takes seconds",
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Show of a mistake the sentence and the test's own lines, not where it was noticed.

    Args:
        item: The test.
    """
    __tracebackhide__ = True
    try:
        return (yield)
    except InputError as error:
        if item.get_closest_marker(_MARKER) is None:
            raise
        raise error.with_traceback(_without_ours(error.__traceback__)) from None


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback before the public functions are called."""
    found = []
    while trace is not None and trace.tb_frame.f_globals.get("__name__") not in _PUBLIC:
        found.append(trace)
        trace = trace.tb_next
    kept: TracebackType | None = None
    for part in reversed(found):
        kept = TracebackType(kept, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return kept


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
    which = pytestconfig.getoption("--efficientdet-reference") or pytestconfig.getini(_REFERENCE)
    settings: dict[str, Any] = {"reference": which}
    if hparams := pytestconfig.getoption("--efficientdet-hparams") or pytestconfig.getini(_HPARAMS):
        settings["hparams"] = hparams
    if threads := pytestconfig.getini(_THREADS):
        settings["threads"] = threads
    mistake = ""
    try:
        reference = efficientdet_parity.open_reference(checkpoint, **settings)
    except InputError as error:
        mistake = f"{_CHECKPOINT} = {checkpoint}, {_REFERENCE} = {which}: {error}"
    if mistake:
        # Said while it is handled, it would be shown twice.
        pytest.fail(mistake, pytrace=False)
    with reference:
        yield reference
