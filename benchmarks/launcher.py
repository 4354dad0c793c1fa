"""Runs one process and says how long it took and how much memory it had at most.

It is a program of its own, and a small one, because Linux counts what a process was before it
became another program: one that is started by a process of a gigabyte seems to have needed as much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SAID = 2000
"""Characters that are kept of what a process that failed has said last."""


def launched(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a process to its end.

    Args:
        command: Program and arguments.
        folder: Where it runs, and whose Python modules it imports.

    Returns:
        ``seconds``, ``peak_bytes``, ``status`` and, of one that failed, ``said``.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    # A checkout is compiled once more by every process where this is set; an installed package is
    # compiled when it is installed.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    told = subprocess.run(
        # Isolated, and without packages: it is to be as small as can be.
        [sys.executable, "-I", "-S", __file__, *command],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def _main(command: Sequence[str]) -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        except OSError as error:
            print(json.dumps({"seconds": 0.0, "peak_bytes": 0, "status": 127, "said": str(error)}))
            return
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        errors.seek(0)
        said = errors.read()[-_SAID:] if status else ""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {
        "seconds": seconds,
        "peak_bytes": usage.ru_maxrss * unit,
        "status": os.waitstatus_to_exitcode(status),
        "said": said,
    }
    print(json.dumps(found))
    process.returncode = found["status"]


if __name__ == "__main__":
    _main(sys.argv[1:])
