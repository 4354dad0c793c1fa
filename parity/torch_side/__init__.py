"""PyTorch's side of a comparison: hooks, gauges, exact values. The only part that imports it."""

from parity.torch_side.gauge import gauge
from parity.torch_side.hooks import (
    Visit,
    disturb,
    exact_mean,
    flatten,
    nhwc,
    run,
    substitute,
    terms,
    visiting,
)

__all__ = [
    "Visit",
    "disturb",
    "exact_mean",
    "flatten",
    "gauge",
    "nhwc",
    "run",
    "substitute",
    "terms",
    "visiting",
]
