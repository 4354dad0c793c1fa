"""What runtimes in PyTorch share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.material import Case
from benchmarks.workers import Opened
from parity.process import environment


def prepared(case: Case) -> None:
    """Set PyTorch's threads, and huge pages as this project's commands do; nothing else."""
    environment.prepare(in_turns=False)
    import torch

    torch.set_num_threads(case.threads)


def opened(network: Callable[[Any], Any], images: Path, **other: Any) -> Opened:
    """A network that returns class outputs and box outputs by level.

    Args:
        network: Takes [N, 3, H, W].
        images: The file of [N, H, W, 3].
        other: More of :class:`Opened`.
    """
    import torch

    # As a user has it who makes a batch of images: the network arranges it as it likes.
    given = torch.from_numpy(np.load(images).transpose(0, 3, 1, 2).copy())

    @torch.inference_mode()
    def run(turn: int) -> Any:
        return network(given)

    return Opened(run, flat, profile=lambda: profiled(lambda: run(0)), **other)


def flat(result: Any) -> list[Any]:
    """Outputs as NumPy arrays, NCHW, class outputs by level first."""
    return [output.float().contiguous().numpy() for levels in result for output in levels]


def profiled(call: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of a call's operations, each without those that it calls."""
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        call()
    taken: dict[str, float] = defaultdict(float)
    for item in found.key_averages():
        # Parts that a compiler has made are numbered.
        taken[re.sub(r"_\d+$", "", item.key)] += item.self_cpu_time_total / 1000
    return dict(taken)
