"""SAME padding against its definition, one window after another."""

from __future__ import annotations

import pytest

from efficientdet_spec import same_outputs, same_padding


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("size", range(1, 12))
def test_windows_fill_the_padded_input(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    starts = range(0, before + size + after - kernel + 1, stride)
    assert len(starts) == same_outputs(size, stride) == len(range(0, size, stride))
    assert after - before in (0, 1)
    if before + after:
        # Nothing is added behind the last window.
        assert starts[-1] + kernel == before + size + after
