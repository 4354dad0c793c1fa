"""Detections: COCO metrics and pictures, of both frameworks or of a candidate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientdet_parity.progress import Callback, reporting
from efficientdet_parity.results import Drawn, Evaluation
from efficientdet_parity.wording import as_arguments
from parity.results.place import ResultPlace
from parity.settings.coco import CocoSettings
from parity.settings.detect import DetectSettings

if TYPE_CHECKING:
    from torch import nn


def evaluate(
    checkpoint: str | os.PathLike[str],
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    *,
    candidate: nn.Module | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Evaluation:
    """Detect with both sides, evaluate COCO's metrics, and match every detection.

    Args:
        checkpoint: As of :func:`efficientdet_parity.convert`.
        images: Folder of the images.
        annotations: COCO annotations, such as ``instances_val2017.json``.
        candidate: As of :func:`efficientdet_parity.compare`, a live module among others: its
            network runs between official pre- and postprocessing. None for the converted model.
        out: Folder in which an interrupted evaluation is gone on with; None for none.
        progress: Called as the work proceeds; None for silence.
        settings: Any other of ``efficientdet-parity coco``, such as ``limit=100`` or
            ``profile="coco2-2020"``.

    Raises:
        InputError: Something cannot be used; its ``cause`` says of which kind the reason is.
    """
    from parity.commands.coco import evaluate_images
    from parity.commands.detecting.candidate_detection import CandidateDetecting

    with ExitStack() as stack:
        stack.enter_context(reporting(progress))
        stack.enter_context(as_arguments(CocoSettings))
        live, names, settings = _taken(candidate, settings)
        folder = out or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="efficientdet-parity-")
        )
        asked = CocoSettings.of(
            checkpoint=str(checkpoint),
            images=Path(images),
            annotations=Path(annotations),
            out=Path(folder),
            **settings,
        )
        asked.require()
        detecting = None if live is None else CandidateDetecting.alive(live, names)
        found = evaluate_images(asked, ResultPlace("evaluate"), detecting)
        return Evaluation(found.result())


def detect(
    checkpoint: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    candidate: nn.Module | str | os.PathLike[str] | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Drawn:
    """Detect in single images with both sides, draw what each finds, and compare it.

    Args:
        checkpoint: As of :func:`efficientdet_parity.convert`.
        images: Image files, or folders of them.
        out: Folder for the pictures and ``detect.json``.
        candidate: As of :func:`evaluate`.
        progress: Called as the work proceeds; None for silence.
        settings: Any other of ``efficientdet-parity detect``, such as ``min_score=0.5``.

    Raises:
        InputError: Something cannot be used; its ``cause`` says of which kind the reason is.
    """
    from parity.commands.detect import detect_images
    from parity.commands.detecting.candidate_detection import CandidateDetecting

    with reporting(progress), as_arguments(DetectSettings):
        live, names, settings = _taken(candidate, settings)
        given = [images] if isinstance(images, str | os.PathLike) else images
        paths = [Path(item) for item in given]
        asked = DetectSettings.of(
            checkpoint=str(checkpoint), images=paths, out=Path(out), **settings
        )
        asked.require()
        detecting = None if live is None else CandidateDetecting.alive(live, names)
        found = Drawn(detect_images(asked, ResultPlace("detect"), detecting))
        found.to_json(asked.out / asked.RESULT_NAME)
        return found


def _taken(candidate: Any, settings: dict[str, Any]) -> tuple[Any, Path | None, dict[str, Any]]:
    """A live module with the file of its names, or None twice; and the settings that remain."""
    if candidate is None or isinstance(candidate, str | os.PathLike):
        named = {} if candidate is None else {"candidate": str(candidate)}
        return None, None, {**named, **settings}
    names = settings.get("names")
    rest = {name: value for name, value in settings.items() if name != "names"}
    return candidate, None if names is None else Path(names).expanduser(), rest
