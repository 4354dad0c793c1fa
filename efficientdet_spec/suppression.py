"""What becomes of overlapping boxes, as a model's own hyperparameters say it.

Source: google/automl ``efficientdet/hparams_config.py`` (``nms_configs``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from efficientdet_spec.errors import InputError

METHODS = ("gaussian", "hard", "linear", "diou")
"""The official methods: soft NMS with a Gaussian, hard NMS, soft NMS that is linear in the overlap,
and hard NMS by the overlap less the distance of the centres (arXiv 1911.08287)."""

NUMPY_METHODS = ("linear", "diou")
"""Those that the official code has in NumPy alone, so that it refuses them without ``pyfunc``."""

_MOST = 1_000_000


@dataclass(frozen=True)
class Suppression:
    """The official ``nms_configs``, under the official names.

    Attributes:
        method: One of :data:`METHODS`.
        iou_thresh: IoU above which hard NMS drops a box and linear NMS lowers its score; None: the
            method's own.
        score_thresh: Scores below it are dropped.
        sigma: Width of soft NMS; None: the method's own.
        pyfunc: Whether the NumPy form is meant, or else TensorFlow's op.
        max_nms_inputs: So many of the highest logits of all anchors and classes are candidates;
            0: the best class of each anchor is.
        max_output_size: Boxes kept at most.
    """

    method: str = "gaussian"
    iou_thresh: float | None = None
    score_thresh: float | None = 0.0
    sigma: float | None = None
    pyfunc: bool = False
    max_nms_inputs: int = 0
    max_output_size: int = 100

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: One is impossible; the message names it.
        """
        if self.method not in METHODS:
            raise InputError(
                f"nms_configs.method is {self.method!r:.80}; give one of {', '.join(METHODS)}."
            )
        if self.method in NUMPY_METHODS and self.pyfunc is False:
            raise InputError(
                f"nms_configs.method is {self.method}, which the official code has with pyfunc "
                f"alone; set nms_configs.pyfunc to true, or give gaussian or hard."
            )
        for name in ("iou_thresh", "score_thresh", "sigma"):
            value = getattr(self, name)
            number = type(value) in (int, float) and math.isfinite(value) and value >= 0
            if not (value is None or number):
                raise InputError(
                    f"nms_configs.{name} is {value!r:.80}; give a number that is not negative."
                )
        if type(self.pyfunc) is not bool:
            raise InputError(f"nms_configs.pyfunc is {self.pyfunc!r:.80}; give true or false.")
        for name, low in (("max_nms_inputs", 0), ("max_output_size", 1)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= _MOST:
                raise InputError(
                    f"nms_configs.{name} is {value!r:.80}; give a whole number from {low} to "
                    f"{_MOST}."
                )
