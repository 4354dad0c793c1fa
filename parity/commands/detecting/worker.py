"""The program of a worker process of ``--workers``."""

from __future__ import annotations

from parity.commands.detecting.recipes import opened
from parity.detections.worker import serve


def main(name: str) -> None:
    """Compute shards until standard input ends.

    Args:
        name: What messages call this worker.
    """
    serve(opened, name)
