"""What ``record`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.settings.option import RESULTS, option
from parity.settings.shared import ImageSettings


@dataclass(frozen=True, kw_only=True)
class RecordSettings(ImageSettings):
    """A recording of the reference's tensors."""

    COMMAND = "record"
    HELP = "write the reference's tensors to a file, to be compared elsewhere"
    ABOUT = (
        "Runs the TensorFlow reference once and writes every node's tensor to an HDF5 file. "
        "With nodes --reference a candidate is compared with it on a machine without TensorFlow."
    )
    EXAMPLES = (
        ("record efficientdet-d0/ trace.h5 --image photo.jpg", "all nodes on one photograph"),
        ("record efficientdet-d0/ heads.h5 --nodes 'class_head.*'", "only some of them"),
    )

    trace: Path = option("HDF5 file to write", group=RESULTS, positional=True, metavar="TRACE")
    nodes: tuple[str, ...] = option(
        "record only nodes like this; can be given several times",
        default=(),
        group=RESULTS,
        metavar="GLOB",
    )
    compress: bool = option("smaller and slower, as exact", default=False, group=RESULTS)

    def needs(self) -> Sequence[str]:
        """TensorFlow, which computes, and what writes."""
        return ("tensorflow", "traces")
