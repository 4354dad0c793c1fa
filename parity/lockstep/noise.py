"""The noise floor, measured: how far each side is from itself when what changes should not matter.

The candidate's layers are evaluated again on the very same inputs, the reference's tensors, under
other settings, so that each shows only its own change, in roundings. The reference runs freely
beside another run of it, node by node, so that its changes accumulate.

What TensorFlow decides once in a process, such as the use of oneDNN, takes another process: it
records a trace, which is then compared with the reference as it runs here.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from efficientdet_spec import InputError
from parity.judge.measure import Difference, difference
from parity.judge.referee import Ruling
from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.pairing import Pairing, Progress, part_of
from parity.lockstep.walk import visited
from parity.process.arrays import Array
from parity.results.records.nodes import Noise
from parity.sides.side import Made, Setting
from parity.sides.stream import Stream
from parity.traces.reader import Trace, open_trace

_SHARED_POOL = "TF_OVERRIDE_GLOBAL_THREADPOOL"
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# As TensorFlow reads them; anything else leaves its default.
_TRUE = ("1", "true")
_FALSE = ("0", "false")

_ROOM = 1.05
"""A trace takes a little more than its tensors, and a disk should not be filled to the last."""


def candidate_noise(pairing: Pairing, progress: Progress | None = None) -> list[Noise]:
    """How far the candidate's layers are from themselves, each on the reference's tensors.

    A node is left out under every variation that its layer cannot be evaluated under by itself.

    Args:
        pairing: What is compared.
        progress: Told how many nodes are done.

    Returns:
        One entry for each variation under which any node could be evaluated.
    """
    tallies = [
        (setting, _Tally("candidate", variation, with_roundings=True))
        for variation, setting in pairing.candidate.variations()
    ]

    def look(met: Meeting) -> None:
        if met.candidate is not None:
            _evaluate(tallies, met.name, met.candidate, met.ruling)

    IsolatedWalk(pairing, look, visited(pairing), progress).run()
    return [noise for _, tally in tallies for noise in tally.result()]


def reference_noise(
    base: Stream,
    others: Sequence[tuple[str, Stream]],
    names: Sequence[str],
    progress: Progress | None = None,
) -> list[Noise]:
    """How far the reference is from other runs of it, both running freely.

    Args:
        base: Makes the reference compute.
        others: Makes another run compute, with the name of what is changed in it. Two runs
            happen at a time, so none of these may be of the reference's own graph.
        names: The nodes in the order of computation; every run has all of them.
        progress: Told how many nodes are done, all runs together.

    Returns:
        One entry for each of the others.

    Raises:
        StreamError: A run failed, or has other nodes.
    """
    found = []
    for number, (variation, other) in enumerate(others):
        tally = _Tally("reference", variation, with_roundings=False)
        told = part_of(progress, number, len(others))
        with base() as ours, other() as theirs:
            for position, name in enumerate(names, 1):
                one, two = ours.take(name), theirs.take(name)
                tally.add(name, None if _identical(one, two) else difference(one, two))
                del one, two
                ours.release()
                theirs.release()
                if told:
                    told(position, len(names))
        found += tally.result()
    return found


def switched_onednn(environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What to change so that TensorFlow uses oneDNN where it does not, or the other way.

    Args:
        environment: This process's variables. Where they say nothing of oneDNN, TensorFlow uses
            it on processors that gain by it, so that off is the change.

    Returns:
        The name of the change and all variables of the other process.
    """
    used = environment.get(_ONEDNN, "").lower() not in _FALSE
    value = "0" if used else "1"
    name = f"oneDNN {'off' if used else 'on'} ({_ONEDNN}={value})"
    return name, {**environment, _ONEDNN: value}


def threads_note(environment: Mapping[str, str]) -> str | None:
    """Why TensorFlow's number of threads cannot be varied in this process; None where it can.

    Sessions share one pool of threads, whose number the first session of the process decides.
    Each has its own if a variable says so before that.
    """
    if environment.get(_SHARED_POOL, "").lower() in _TRUE:
        return None
    return (
        f"noise of TensorFlow with other thread counts not measured: its sessions share their "
        f"threads unless {_SHARED_POOL}=1 is set before it starts"
    )


def room_note(needed: int) -> str | None:
    """Why a trace for comparing with another process cannot be kept; None where it can.

    Args:
        needed: Size of its tensors, in bytes.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free >= needed * _ROOM:
        return None
    return (
        f"noise of TensorFlow with oneDNN switched not measured: its tensors take "
        f"{needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free in {folder}; let TMPDIR name a "
        f"folder with more room"
    )


@contextlib.contextmanager
def recorded(
    command: Callable[[Path], Sequence[str]], environment: Mapping[str, str]
) -> Iterator[Trace]:
    """A trace that another process records, gone after the body.

    Args:
        command: The words of a command line that records to this file.
        environment: All variables of that process.

    Raises:
        InputError: That process failed; the message holds the last that it said.
    """
    with tempfile.TemporaryDirectory(prefix="efficientdet-parity-") as folder:
        path = Path(folder, "trace.h5")
        done = subprocess.run(
            list(command(path)),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
            raise InputError(
                f"Recording in another process failed with the exit code {done.returncode} "
                f"({last:.300}); leave --noise out, or run compare.py record to see why."
            )
        yield open_trace(path)


def _evaluate(
    tallies: Sequence[tuple[Setting, _Tally]], name: str, made: Made, ruling: Ruling
) -> None:
    """Evaluate a candidate's layer under every variation."""
    # The output at hand may be of inputs that the layer has overwritten since.
    base = made.again(contextlib.nullcontext)
    if base is None:
        return
    for setting, tally in tallies:
        other = made.again(setting)
        if other is None:
            continue
        if base.identical(other):
            tally.add(name, None)
        elif base.shape == other.shape:
            # Roundings are those of the faithful layer, which another function may not have.
            scale = ruling.gauge if ruling.shape == base.shape else None
            tally.add(name, difference(base.array(), other.array(), scale))


class _Tally:
    """Adds up one variation node by node."""

    def __init__(
        self, side: Literal["candidate", "reference"], variation: str, *, with_roundings: bool
    ) -> None:
        self._side = side
        self._variation = variation
        self._nodes = self._changed = 0
        self._largest = 0.0
        self._roundings = 0.0 if with_roundings else None
        self._node: str | None = None

    def add(self, name: str, change: Difference | None) -> None:
        """Count a node; None where it is the same bit for bit."""
        self._nodes += 1
        if change is None:
            return
        self._changed += 1
        # A value that is no number in one run only is as far off as can be.
        size = math.inf if math.isnan(change.relative_max) else change.relative_max
        if self._node is None or size > self._largest:
            self._largest, self._node = size, name
        if self._roundings is not None and change.roundings is not None:
            self._roundings = max(self._roundings, change.roundings)

    def result(self) -> list[Noise]:
        """The entry; none where no node was compared."""
        if not self._nodes:
            return []
        return [
            Noise(
                side=self._side,
                variation=self._variation,
                nodes=self._nodes,
                changed=self._changed,
                largest=self._largest,
                roundings=self._roundings,
                node=self._node,
            )
        ]


def _identical(one: Array, other: Array) -> bool:
    """Whether two arrays are the same bit for bit, NaNs and the signs of zeros included."""
    bits = np.dtype(f"u{one.dtype.itemsize}")
    same_kind = one.shape == other.shape and one.dtype == other.dtype
    return same_kind and bool(np.array_equal(one.view(bits), other.view(bits)))
