"""COCO metrics of a checkpoint in both frameworks."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from efficientdet_parity.progress import Callback, reporting
from efficientdet_parity.results import Evaluation
from efficientdet_parity.wording import as_arguments
from parity.results.place import ResultPlace
from parity.settings.coco import CocoSettings


def evaluate(
    checkpoint: str | os.PathLike[str],
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    progress: Callback | None = None,
    **settings: Any,
) -> Evaluation:
    """Detect with both frameworks, evaluate COCO's metrics, and match every detection.

    Args:
        checkpoint: As of :func:`efficientdet_parity.convert`.
        images: Folder of the images.
        annotations: COCO annotations, such as ``instances_val2017.json``.
        out: Folder in which an interrupted evaluation is gone on with; None for none.
        progress: Called as the work proceeds; None for silence.
        settings: Any other of ``efficientdet-parity coco``, such as ``limit=100`` or
            ``framework="torch"``.

    Raises:
        InputError: Something cannot be used; its ``cause`` says of which kind the reason is.
    """
    from parity.commands.coco import evaluate_images

    with ExitStack() as stack:
        stack.enter_context(reporting(progress))
        stack.enter_context(as_arguments(CocoSettings))
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
        found = evaluate_images(asked, ResultPlace("evaluate"))
        return Evaluation(found.result())
