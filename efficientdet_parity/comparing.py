"""Comparisons of live modules, or of what files hold, with the reference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientdet_parity.progress import Callback, reporting
from efficientdet_parity.results import Comparison
from efficientdet_parity.wording import as_arguments
from efficientdet_spec import Cause, InputError
from parity.settings.nodes import NodesSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from parity.commands.comparing.opened import Opened

_WRITTEN = {"json", "junit", "write_names", "verbose"}
"""Settings that say what a command line writes and prints."""

_IMAGE = "image"
"""The setting whose place the argument ``images`` takes."""

_OPENING = (
    "weights",
    "model",
    "num_classes",
    "hparams",
    "cache",
    "sha256",
    "offline",
    "dtype",
    "threads",
    "device",
    "reference",
)
"""Settings that belong to an opened reference, and are the same for all it is compared with."""


class Reference:
    """A checkpoint that stays open, to compare several candidates or inputs with.

    What takes seconds is done once: reading the checkpoint, building TensorFlow's graph for each
    size of images, and the faithful model that judges.

    Example:
        with ep.open_reference("efficientdet-d0/") as reference:
            reference.compare(my_module).assert_parity()

    Args:
        opened: The checkpoint.
        settings: With which it was opened.
    """

    def __init__(self, opened: Opened, settings: dict[str, Any]) -> None:
        self._opened = opened
        self._settings = settings

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what it holds; it cannot be used any more."""
        self._opened.close()

    def compare(
        self,
        candidate: nn.Module | str | os.PathLike[str] | None = None,
        *,
        images: Sequence[Any] | NDArray[Any] | None = None,
        progress: Callback | None = None,
        **settings: Any,
    ) -> Comparison:
        """As :func:`efficientdet_parity.compare`, with the checkpoint of this reference.

        Raises:
            InputError: Something cannot be used, or a setting belongs to the opening.
        """
        fixed = [name for name in settings if name in (*_OPENING, "checkpoint")]
        if fixed:
            raise InputError(
                f"{fixed[0]} belongs to the opening of a reference; give it to open_reference.",
                Cause.OPTION,
            )
        _check_names(settings)
        with _worded():
            values = {**self._settings, **settings}
            return _compared(self._opened, values, candidate, images, progress)


def open_reference(
    checkpoint: str | os.PathLike[str], *, progress: Callback | None = None, **settings: Any
) -> Reference:
    """Open a checkpoint to compare several candidates with.

    Args:
        checkpoint: As of :func:`efficientdet_parity.convert`.
        progress: Called as the work proceeds.
        settings: ``weights``, ``model``, ``num_classes``, ``hparams``, ``cache``, ``sha256``,
            ``offline``, ``dtype``, ``threads``, ``device``, ``reference``, as of the command line.

    Raises:
        InputError: The checkpoint or the reference cannot be used.
    """
    others = [name for name in settings if name not in _OPENING]
    if others:
        raise InputError(
            f"open_reference has no setting {others[0]!r:.80}; it has {', '.join(_OPENING)}. "
            f"Others belong to its method compare.",
            Cause.OPTION,
        )
    values = {"checkpoint": str(checkpoint), **settings}
    with reporting(progress), _worded():
        return Reference(_opened(values), values)


def compare(
    candidate: nn.Module | str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    images: Sequence[Any] | NDArray[Any] | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Comparison:
    """Compare every node of a candidate with the reference.

    Args:
        candidate: A live module, which stays as it is; the name of a ``.pth`` file;
            FILE.py:FUNCTION; or PACKAGE:MODEL such as ``effdet:tf_efficientdet_d0``. None for the
            checkpoint, converted on the fly.
        checkpoint: As of :func:`efficientdet_parity.convert`.
        images: Paths of image files or folders; or arrays, each a photograph [h, w, 3] in RGB
            order of type uint8; or one array [N, H, W, 3] of floating point, the network's input
            itself, normalised. None for a generated set.
        progress: Called as the work proceeds; None for silence.
        settings: Any other of ``efficientdet-parity nodes``, such as ``size=(512, 512)``,
            ``dtype="float64"`` or ``names="names.json"``.

    Raises:
        InputError: Something cannot be used; its ``cause`` says of which kind the reason is.
    """
    if checkpoint is None:
        raise InputError("No checkpoint is given; name one to compare with.", Cause.OPTION)
    _check_names(settings)
    values = {"checkpoint": str(checkpoint), **settings}
    with reporting(progress), _worded(), _opened(values) as opened:
        return _compared(opened, values, candidate, images, progress)


def _worded() -> AbstractContextManager[None]:
    return as_arguments(NodesSettings, {_IMAGE: "images"})


def _check_names(settings: dict[str, Any]) -> None:
    """Refuse settings that only a command line has."""
    for name in settings:
        if name in _WRITTEN:
            raise InputError(
                f"{name} says what a command line writes; use the methods of the result.",
                Cause.OPTION,
            )
        if name == _IMAGE:
            raise InputError("compare has no setting image; give images.", Cause.OPTION)


def _opened(values: dict[str, Any]) -> Opened:
    from parity.commands.asking.options import resolve_checkpoint
    from parity.commands.comparing.opened import Opened

    asked = NodesSettings.of(**values)
    asked.require()
    files = resolve_checkpoint(asked)
    return Opened(asked, files, reference=asked.reference, device=asked.device)


def _compared(
    opened: Opened,
    values: dict[str, Any],
    candidate: Any,
    images: Any,
    progress: Callback | None,
) -> Comparison:
    from parity.commands.asking.inputs import of_arrays
    from parity.commands.comparing.candidates import check_candidate
    from parity.commands.comparing.nodes import compare as compare_nodes

    named = isinstance(candidate, str | os.PathLike)
    if named:
        values = {**values, "candidate": str(candidate)}
    paths, arrays = _paths_or_arrays(images)
    asked = NodesSettings.of(**{**values, _IMAGE: paths})
    check_candidate(asked.candidate)
    planned = None
    if arrays is not None:
        planned = of_arrays(arrays, asked, opened.conversion, opened.trace)
    with reporting(progress):
        found = compare_nodes(
            opened, asked, candidate=None if named else candidate, planned=planned
        )
    return Comparison(found.result, found.names, found.paths, found.gradients)


def _paths_or_arrays(images: Any) -> tuple[list[Path], Any]:
    """What is given as images: paths, or else what should be arrays; neither for None."""
    if images is None:
        return [], None
    if isinstance(images, str | os.PathLike):
        return [Path(images)], None
    # An array is one image or several; it must not be taken apart.
    several = images if getattr(images, "ndim", 0) else _listed(images)
    if len(several) and all(isinstance(item, str | os.PathLike) for item in several):
        return [Path(item) for item in several], None
    return [], several


def _listed(images: Any) -> list[Any]:
    try:
        return list(images)
    except TypeError:
        raise InputError(
            f"images is of type {type(images).__name__}; give paths of images, arrays, or None.",
            Cause.OPTION,
        ) from None
