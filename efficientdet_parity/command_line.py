"""The programs: ``efficientdet-parity``, and ``compare.py`` and ``convert.py`` beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from parity.commands.asking.command_line import (
    Command,
    Listing,
    Shown,
    command_parser,
    command_word,
    parse,
    result_file,
)
from parity.process.console import guarded
from parity.results.place import ResultPlace

CONVERT = Command("convert", "parity.settings.convert.ConvertSettings", "parity.commands.convert")
"""All that ``convert.py`` does."""

COMMANDS = (
    CONVERT,
    Command("inspect", "parity.settings.inspect.InspectSettings", "parity.commands.inspect"),
    Command("nodes", "parity.settings.nodes.NodesSettings", "parity.commands.nodes"),
    Command("record", "parity.settings.record.RecordSettings", "parity.commands.record"),
    Command("coco", "parity.settings.coco.CocoSettings", "parity.commands.coco"),
    Command("detect", "parity.settings.detect.DetectSettings", "parity.commands.detect"),
    Command("report", "parity.settings.report.ReportSettings", "reports.commands.report"),
    Command("diff", "parity.settings.diff.DiffSettings", "reports.commands.diff"),
    Command(
        "self-check",
        "parity.settings.self_check.SelfCheckSettings",
        "parity.commands.self_check",
        (Listing("--list", "list the catalogue of faults and exit", "listed"),),
    ),
    Command("seed", "parity.settings.seed.SeedSettings", "parity.commands.seed"),
    Command("models", "parity.settings.models.ModelsSettings", "parity.commands.models"),
    Command("doctor", "parity.settings.doctor.DoctorSettings", "parity.commands.doctor"),
)
"""All that ``efficientdet-parity`` can be asked to do. A command is imported when it is asked for,
so that none waits for what the others need."""

COMPARISONS = tuple(item for item in COMMANDS if item is not CONVERT)
"""What ``compare.py`` can be asked to do."""

_ABOUT = (
    "Moves EfficientDet models between TensorFlow and PyTorch with proof: converts checkpoints, "
    "compares every node of two implementations, and evaluates COCO AP for each."
)


def main(
    argv: Sequence[str] | None = None,
    program: str = "efficientdet-parity",
    commands: Sequence[Command] = COMMANDS,
) -> int:
    """Run a command line.

    Args:
        argv: The words after the program's name; None for those of this process.
        program: Its name.
        commands: What it can be asked to do; where it is a single one, it is not named.

    Returns:
        The exit code, as :data:`parity.process.console.EXIT_CODES` lists them.
    """
    typed = sys.argv[1:] if argv is None else list(argv)
    place = ResultPlace(program)

    def work() -> int:
        _expect_result(place, program, commands, typed)
        parser = command_parser(program, _ABOUT, commands, typed)
        try:
            asked = parse(parser, commands, typed)
        except Shown:
            return 0
        settings = asked.settings()
        settings.require()
        return asked.command.run(settings, place)

    return guarded(program, work, debug="--debug" in typed, failed=place.fail)


def _expect_result(
    place: ResultPlace, program: str, commands: Sequence[Command], typed: Sequence[str]
) -> None:
    """Say where the result is to go: a mistake among the other words is written there too."""
    if len(commands) == 1:
        (command,) = commands
        place.expect(program, result_file(command.settings, typed))
        return
    first = command_word(typed)
    for command in commands:
        if first == command.name:
            place.expect(f"{program} {first}", result_file(command.settings, typed))
