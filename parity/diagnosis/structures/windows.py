"""Kernels, strides and paddings: what a window is moved over."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from parity.diagnosis.structures.flow import Kind, Layer, Window
from parity.diagnosis.structures.seen import Seen, numbers
from parity.results.records.nodes import Statement


def pools(seen: Seen) -> Iterator[Statement]:
    """Max-pools whose kernel or padding is not the model's for their stride."""
    layers = seen.flow.of_kind(Kind.POOL)
    others: dict[str, list[Layer]] = {}
    for layer in seen.wrong(layers):
        window = seen.flow.window(layer)
        told = _pool(window) if window is not None else ""
        if told:
            others.setdefault(told, []).append(layer)
    for told, wrong in others.items():
        text = f"{len(wrong)} of {len(layers)} max-pools have {told}"
        yield seen.statement("max-pool-other", text, wrong)


def _pool(window: Window) -> str:
    rows, columns = window.stride
    due = (rows + 1, columns + 1)
    same = window.same(due)
    padded = f"padding {window.padding}" if any(window.padding) else "without padding"
    if window.kernel != due:
        stride = numbers(window.stride)
        found = f"kernel {numbers(window.kernel)} and stride {stride} instead of kernel {due[0]}"
        own = window.same(window.kernel)
        known = window.padding in (same, own)
        return found if known else f"{found}, {padded} instead of SAME padding"
    if window.padding != same:
        return f"{padded} instead of SAME padding {same} (left, right, above, below)"
    if window.fill not in (-inf, None) and any(same):
        return f"SAME padding with {window.fill:g} instead of minus infinity"
    return ""


def paddings(seen: Seen) -> Iterator[Statement]:
    """Convolutions that are not padded as SAME says."""
    windows = {
        layer.number: window
        for layer in seen.flow.of_kind(Kind.CONV)
        if (window := seen.flow.window(layer)) is not None
        and max(window.kernel) > 1
        and window.dilation == (1, 1)
    }
    others: dict[tuple[bool, int], list[Layer]] = {}
    for layer in seen.wrong(seen.flow.layers[number] for number in windows):
        window = windows[layer.number]
        left, right, top, bottom = window.padding
        if window.padding != window.same(window.kernel):
            key = (left, top) == (right, bottom), max(window.stride)
            others.setdefault(key, []).append(layer)
    for (symmetric, step), wrong in others.items():
        total = sum(max(window.stride) == step for window in windows.values())
        window = windows[wrong[0].number]
        how = "no padding" if not any(window.padding) else "symmetric padding"
        text = (
            f"{len(wrong)} of {total} convolutions of stride {step} have "
            f"{how if symmetric else 'another padding'} instead of SAME: the first "
            f"{window.padding} pixels left, right, above and below instead of "
            f"{window.same(window.kernel)}"
        )
        yield seen.statement("padding-other", text, wrong)
