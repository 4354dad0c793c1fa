"""What this machine has: frameworks, each asked in a process of its own, memory and room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "EFFICIENTDET_CACHE",
    "EFFICIENTDET_DOWNLOADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OPENBLAS_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_OVERRIDE_GLOBAL_THREADPOOL",
    "THP_MEM_ALLOC_ENABLE",
)
"""Environment variables that change what is computed, how fast, or what is found."""

_SECONDS = 120
"""In which a framework must have been imported; from a slow disk TensorFlow takes half of it."""

_PROBES = {
    "torch": """
import json, torch
assert float(torch.ones(3) @ torch.ones(3)) == 3
facts = {"version": torch.__version__, "threads": torch.get_num_threads(), "devices": ["cpu"]}
if torch.cuda.is_available():
    facts["devices"] += [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
print(json.dumps(facts))
""",
    "tensorflow": """
import json, os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    assert session.run(tf.reduce_sum(tf.ones([3]))) == 3
devices = [device.name for device in tf.config.list_physical_devices()]
print(json.dumps({"version": tf.__version__, "devices": devices}))
""",
}


@dataclass(frozen=True)
class Probed:
    """What came of asking a framework.

    Attributes:
        works: Whether it can be imported and computes.
        facts: Version, threads and devices.
        message: Why it does not work; empty where it does.
    """

    works: bool
    facts: dict[str, Any] = field(default_factory=dict)
    message: str = ""


def probe(framework: str) -> Probed:
    """Import a framework and compute with it; one that crashes takes only its own process along.

    Args:
        framework: ``torch`` or ``tensorflow``.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBES[framework]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Probed(False, message=f"it was not imported within {_SECONDS} seconds")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        how = (
            f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        )
        return Probed(False, message=f"{lines[-1] if lines else 'it said nothing'} ({how})")
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return Probed(True, facts)


def cpus() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory in all, and of that what is free to use; None where it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return None, None
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}

    def size(name: str) -> int | None:
        words = found.get(name, "").split()
        return int(words[0]) * 1024 if words else None

    return size("MemTotal"), size("MemAvailable")


def room(folder: Path) -> int | None:
    """Bytes that are free on a folder's disk; None where that is not known.

    Args:
        folder: It need not exist yet.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def settings() -> dict[str, str]:
    """The environment variables that are set and change what is computed or found."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}
