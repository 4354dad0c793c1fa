"""Compare the TensorFlow and PyTorch EfficientDet of one checkpoint."""

from __future__ import annotations

from parity.process import interruption

if __name__ == "__main__":
    # The imports that follow take long enough to be interrupted.
    interruption.end_at_once("compare.py")

import argparse
import sys
from collections.abc import Sequence

from parity.commands import coco, detect, nodes, record, seed, self_check
from parity.process import reading
from parity.process.console import EXIT_CODES, add_debug, guarded
from parity.results.place import ResultPlace
from reports import command as report

_COMMANDS = (nodes, record, coco, detect, report, self_check, seed)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="compare.py",
        description=__doc__,
        epilog=EXIT_CODES,
    )
    add_debug(result)
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    # Where a command's result goes; those that write none have no such place.
    result.set_defaults(result_file=lambda arguments: None)
    for subparser in commands.choices.values():
        add_debug(subparser, again=True)
        subparser.epilog = EXIT_CODES
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code, as :data:`parity.process.console.EXIT_CODES` lists them.
    """
    typed = sys.argv[1:] if argv is None else list(argv)
    arguments = parser().parse_args(typed)
    # For results that say how to get them again.
    arguments.typed = [word for word in typed if word != "--debug"]
    arguments.place = ResultPlace(
        f"compare.py {arguments.command}", arguments.result_file(arguments)
    )
    return guarded(
        "compare.py",
        lambda: arguments.run(arguments),
        debug=arguments.debug,
        failed=arguments.place.fail,
    )


if __name__ == "__main__":
    reading.start()
    sys.exit(main())
