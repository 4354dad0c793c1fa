"""Compare the TensorFlow and PyTorch EfficientDet of one checkpoint."""

from __future__ import annotations

from parity.process import interruption

if __name__ == "__main__":
    # The imports that follow take long enough to be interrupted.
    interruption.end_at_once("compare.py")

import sys
from collections.abc import Sequence

from efficientdet_parity import command_line
from parity.process import reading


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The words after the program's name; None for those of this process.

    Returns:
        The exit code, as :data:`parity.process.console.EXIT_CODES` lists them.
    """
    return command_line.main(argv, "compare.py", command_line.COMPARISONS)


if __name__ == "__main__":
    reading.start()
    sys.exit(main())
