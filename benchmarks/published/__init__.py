"""Ports that others have published, as their users run them; nothing of theirs is in here.

Each module makes one port's network with the checkpoint's values, for ``compare.py nodes`` and
``coco --candidate``, and runs its whole pipeline on image files, for ``coco --detections``. The
ports are installed by the user, or lie where an environment variable says.
"""

from collections.abc import Callable, Sequence

import numpy as np

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""An image's boxes [K, 4] as x1, y1, x2, y2 in its pixels, scores [K] and classes [K]."""


def one_by_one(found: Callable[[str], Found], paths: Sequence[str]) -> tuple[list[np.ndarray], ...]:
    """What a function finds in each image, as ``coco --detections`` takes it.

    Args:
        found: Gives the detections in an image file.
        paths: The files.
    """
    boxes, scores, classes = zip(*map(found, paths), strict=True)
    return list(boxes), list(scores), list(classes)
