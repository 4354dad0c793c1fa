"""Convert a TensorFlow 1 EfficientDet checkpoint to a PyTorch .pth file."""

from __future__ import annotations

from parity.process import interruption

if __name__ == "__main__":
    # The imports that follow take long enough to be interrupted.
    interruption.end_at_once("convert.py")

import gc
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
    return command_line.main(argv, "convert.py", (command_line.CONVERT,))


if __name__ == "__main__":
    reading.start()
    # A conversion leaves no cycles to collect, and each collection would walk all of PyTorch:
    # off while it runs, and nothing left to walk at exit.
    gc.disable()
    exit_code = main()
    gc.freeze()
    sys.exit(exit_code)
