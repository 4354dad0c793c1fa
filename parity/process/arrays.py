"""What rooms hand to one another: NumPy arrays of whatever type and shape."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
