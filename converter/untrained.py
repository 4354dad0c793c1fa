"""Whether the values chosen for a model look as they do before any training.

An exported file may hold each variable twice, once as its initialiser made it; and a network that
was never trained can be saved like any other. Nothing is refused for it: it is said.
"""

from __future__ import annotations

import math

import numpy as np

from converter.mappings.layouts import Array
from converter.mappings.official import iterate_pairs
from converter.recognition import CLASS_BIAS
from efficientdet_spec import EfficientDetConfig

INITIAL_CLASS_BIAS = -math.log((1 - 0.01) / 0.01)
"""What the official initialiser sets the class bias to, so that each class has the probability 0.01
at first (``class_net`` of google/automl's ``efficientdet_arch.py``): -4.59511985013459."""

_INITIAL_GAMMA = 1.0
_SCALE = "/gamma"


class Untrained:
    """Looks at a model's values while they are read, and keeps none.

    Args:
        config: The model.
    """

    def __init__(self, config: EfficientDetConfig) -> None:
        pairs = list(iterate_pairs(config))
        self._scales = {
            pair.parameter
            for pair in pairs
            if any(name.endswith(_SCALE) for name in pair.variables)
        }
        self._class_bias = next(pair.parameter for pair in pairs if CLASS_BIAS in pair.variables)
        self._seen = 0
        self._all_initial = True
        self._classes: tuple[int, float] | None = None

    def look(self, parameter: str, array: Array) -> None:
        """See the values of one parameter.

        Args:
            parameter: Its name in the state dict.
            array: Its values, in any layout.
        """
        if parameter in self._scales:
            self._seen += 1
            # Once one scale has been trained nothing more is to be learned from the others.
            self._all_initial = self._all_initial and bool((array == _INITIAL_GAMMA).all())
        elif parameter == self._class_bias and array.size and bool((array == array.flat[0]).all()):
            self._classes = array.size, float(array.flat[0])

    def notes(self) -> list[str]:
        """What looks untrained of the values seen, a sentence each; empty where nothing does."""
        found = []
        if self._seen and self._all_initial:
            found.append(
                f"The values look untrained: the scale (gamma) of every one of {self._seen} batch "
                f"norms is exactly 1, which training starts from."
            )
        if self._classes is not None:
            count, value = self._classes
            if np.float32(value) == np.float32(INITIAL_CLASS_BIAS):
                found.append(
                    f"The values look untrained: all {count} class biases are {value:.4f}, which "
                    f"training starts from (a probability of 0.01)."
                )
            elif count > 1:
                found.append(
                    f"The values look untrained: all {count} class biases are {value:.4g}, alike as "
                    f"no training leaves them."
                )
        return found
