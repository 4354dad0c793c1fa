"""How far a batch norm's input goes, in the deviations of its statistics."""

import math

import numpy as np
import pytest

from parity.judge import measure
from parity.judge.reach import reach


@pytest.mark.parametrize("chunk", [1, 50, 1 << 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_figures_are_those_of_numpy(chunk, dtype, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 7, 9, 5)).astype(dtype)
    mean, deviation = rng.standard_normal(5), rng.uniform(0.1, 3, 5)
    found = reach(values, mean, deviation)
    far = (values - mean) / deviation
    assert found.spread == pytest.approx(np.sqrt(np.mean(far**2)))
    assert found.largest == pytest.approx(np.abs(far).max())


def test_what_is_as_in_training_spreads_by_one():
    rng = np.random.default_rng(0)
    values = 3 + 2 * rng.standard_normal((1, 100, 100, 2))
    found = reach(values, np.full(2, 3.0), np.full(2, 2.0))
    assert found.spread == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("place", [0, 60, 99])
def test_a_nan_is_told(place, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", 30)
    values = np.ones((1, 5, 10, 2), np.float32)
    values.reshape(-1)[place] = np.nan
    assert math.isnan(reach(values, np.zeros(2), np.ones(2)).largest)
