"""Compare the TensorFlow and PyTorch EfficientDet of one checkpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from parity import reading
from parity.commands import coco, detect, nodes, record, seed, self_check
from parity.console import guarded
from reports import command as report

_COMMANDS = (nodes, record, coco, detect, report, self_check, seed)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="compare.py",
        description=__doc__,
        epilog="exit code: 0 parity, 1 a difference that rounding does not explain, 2 wrong input, "
        "3 neither parity nor a difference is shown",
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 parity, 1 a difference, 2 a user's mistake, 3 neither is shown.
    """
    typed = sys.argv[1:] if argv is None else list(argv)
    arguments = parser().parse_args(typed)
    # For results that say how to get them again.
    arguments.typed = typed
    return guarded("compare.py", lambda: arguments.run(arguments))


if __name__ == "__main__":
    reading.start()
    sys.exit(main())
