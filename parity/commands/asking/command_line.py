"""The command line of a settings class: its options, their help, and what was typed."""

from __future__ import annotations

import argparse
import importlib
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from efficientdet_spec import Cause, InputError, did_you_mean, installed_version
from parity.process.console import EXIT_CODES
from parity.results.place import ResultPlace
from parity.settings.option import Option, Setting, Settings, settings_of

_BEFORE = ("--help", "--version", "--print-completion")
"""Options of the program itself, which stand in the place of a command."""

_WIDEST = 100
"""Columns of a help at most: longer lines are hard to read."""


@dataclass(frozen=True)
class Listing:
    """An option in whose place a text is printed, and nothing is done.

    Attributes:
        flag: Such as ``--list``.
        help: What it shows.
        maker: The function of the command's module that makes the text.
    """

    flag: str
    help: str
    maker: str


@dataclass(frozen=True)
class Command:
    """What a program can be asked to do; nothing of it is imported before it is asked for.

    Attributes:
        name: How it is called, the ``COMMAND`` of its settings.
        told: Where the class is of what it can be told: a module, and its name there.
        module: The module that does it, by a function ``run`` of the settings and of the place
            where the result goes; it prints what came of it and returns the exit code.
        lists: What it has to show without doing anything.
    """

    name: str
    told: str
    module: str
    lists: tuple[Listing, ...] = ()

    @property
    def settings(self) -> type[Settings]:
        """What it can be told."""
        module, _, name = self.told.rpartition(".")
        found: type[Settings] = getattr(importlib.import_module(module), name)
        return found

    def run(self, settings: Settings, place: ResultPlace) -> int:
        """Do it.

        Args:
            settings: What it is told.
            place: Where the result goes.

        Returns:
            The exit code.

        Raises:
            InputError: Something about the input cannot be used.
        """
        code: int = importlib.import_module(self.module).run(settings, place)
        return code

    def listing(self, item: Listing) -> str:
        """The text that is printed in the place of an option.

        Args:
            item: One of ``lists``.
        """
        text: str = getattr(importlib.import_module(self.module), item.maker)()
        return text


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    Attributes:
        command: The command.
        values: By the names of its settings, what was typed; those that were not are left out.
    """

    command: Command
    values: dict[str, Any]

    def settings(self) -> Settings:
        """What the command is told.

        Raises:
            InputError: Something is missing or cannot be used.
        """
        return self.command.settings.of(**self.values)


class Shown(Exception):
    """A help, a version or a list was asked for, and has been printed: that was all."""


class _Parser(argparse.ArgumentParser):
    """Mistakes are one sentence like everybody's, and help is no wider than the terminal."""

    def __init__(self, **more: Any) -> None:
        super().__init__(formatter_class=_formatter, add_help=False, **more)
        self.add_argument("-h", "--help", action="help", help="show this help and exit")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Say that what was asked for has been printed.

        Raises:
            Shown: Always.
        """
        raise Shown

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has found.

        Raises:
            InputError: Always.
        """
        # Such as "argument --json: expected one argument".
        text = message.removeprefix("argument ")
        raise InputError(f"{text}; {self.prog} --help lists what can be given.", Cause.OPTION)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=_width())


def _width() -> int:
    return min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST) - 2


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _width())


def command_parser(
    program: str, about: str, commands: Sequence[Command], typed: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """The command line of a program.

    Args:
        program: How it is called.
        about: What it does.
        commands: What it can be asked to do; where it is a single one, it is not named.
        typed: What will be parsed; None for anything. Where it names a command, the others'
            options are left out, whose settings need not be imported then. A script for a shell
            must know the values of every choice; otherwise the settings judge them, with better
            words.
    """
    completing = any(word.startswith("--print-completion") for word in typed or ())
    if len(commands) == 1:
        (command,) = commands
        result = _Parser(prog=program, **_told(program, command, named=False))
        _add_common(result, again=False)
        _add_options(result, command, completing)
        result.set_defaults(command=command.name)
        return result
    result = _Parser(prog=program, description=_paragraph(about), epilog=_paragraph(EXIT_CODES))
    _add_common(result, again=False)
    asked = [item for item in commands if typed is not None and item.name == command_word(typed)]
    if not asked:
        # It stands in the place of a command, and its library takes long to import.
        shtab = importlib.import_module("shtab")
        shtab.add_argument_to(
            result,
            "--print-completion",
            help="print a script that completes commands and options in this shell, and exit",
        )
    subparsers = result.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in asked or commands:
        told = _told(program, command)
        added = subparsers.add_parser(command.name, help=command.settings.HELP, **told)
        _add_common(added, again=True)
        _add_options(added, command, completing)
    return result


def _told(program: str, command: Command, *, named: bool = True) -> dict[str, Any]:
    """What the help of a command says besides its options.

    Args:
        program: How it is called.
        command: One of its commands.
        named: Whether that is named after the program.
    """
    called = f"{program} {command.name}" if named else program
    return {
        "usage": _usage(called, command),
        "description": _about(command),
        "epilog": _epilog(program, command, named=named),
    }


def parse(
    parser: argparse.ArgumentParser, commands: Sequence[Command], typed: Sequence[str]
) -> Asked:
    """What was typed.

    Args:
        parser: Of :func:`command_parser`.
        commands: The same.
        typed: The words after the program's name.

    Raises:
        InputError: A command or option is not known, or an option lacks its value.
    """
    by_name = {command.name: command for command in commands}
    first = command_word(typed)
    single = parser.get_default("command") is not None
    if not single and first is not None and first not in by_name:
        raise InputError(
            f"There is no command {first!r:.80}{did_you_mean(first, by_name)}; give one of "
            f"{', '.join(by_name)}.",
            Cause.OPTION,
        )
    before = next((word for word in typed if word != "--debug"), "")
    if not single and before.startswith("--") and not before.startswith(_BEFORE):
        raise InputError(
            f"{before:.80} stands where a command should; options of a command follow it, as in "
            f"{next(iter(by_name))} ... {before:.80}.",
            Cause.OPTION,
        )
    found, unknown = parser.parse_known_args(list(typed))
    values = vars(found)
    name = values.pop("command")
    if name is None:
        raise InputError(
            f"No command is given; give one of {', '.join(by_name)}, or --help.", Cause.OPTION
        )
    command = by_name[name]
    if unknown:
        raise _unknown(unknown[0], command.settings)
    fields = {setting.field for setting in settings_of(command.settings)}
    return Asked(command, {name: value for name, value in values.items() if name in fields})


def command_word(typed: Sequence[str]) -> str | None:
    """The word that stands where a command does; None where there is none.

    Args:
        typed: The words after the program's name.
    """
    # The one option before a command that takes a value prints something and is the last.
    before = [word for word in typed if word != "--debug"][:1]
    return next((word for word in before if not word.startswith("-")), None)


def _unknown(word: str, kind: type[Settings]) -> InputError:
    flags = [item.flag for item in settings_of(kind) if not item.option.positional]
    if word.startswith("-"):
        given = word.partition("=")[0]
        return InputError(
            f"{kind.COMMAND} has no option {given:.80}{did_you_mean(given, flags)}; "
            f"{kind.COMMAND} --help lists them.",
            Cause.OPTION,
        )
    return InputError(
        f"{word!r:.80} is one argument too many for {kind.COMMAND}; {kind.COMMAND} --help says "
        f"what it takes.",
        Cause.OPTION,
    )


def _add_common(parser: argparse.ArgumentParser, *, again: bool) -> None:
    """Options that every command has.

    Args:
        parser: A command line, or one of its commands.
        again: Whether the first has them already, so that both places are good.
    """
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="print the traceback of whatever goes wrong",
    )
    if not again:
        parser.add_argument(
            "--version", action=_Show, nargs=0, const=_version, help="show the version and exit"
        )


def _version() -> str:
    return f"efficientdet-parity {installed_version('efficientdet-parity') or 'not installed'}"


def _usage(called: str, command: Command) -> str:
    """The command with what it cannot do without; the rest is listed below."""
    shown = [
        setting.usage
        for setting in settings_of(command.settings)
        if setting.required or setting.option.positional
    ]
    return " ".join([called, *shown, "[options]"])


def _about(command: Command) -> str:
    kind = command.settings
    return _paragraph(kind.ABOUT or f"{kind.HELP}.")


def _epilog(program: str, command: Command, *, named: bool = True) -> str:
    """Examples and exit codes.

    Args:
        program: How it is called.
        command: One of its commands.
        named: Whether that is named after the program.
    """
    kind = command.settings
    lines = []
    for words, what in kind.EXAMPLES:
        shown = words if named else words.partition(" ")[2]
        lines += [f"  # {what}", f"  {program} {shown}"]
    examples = ["examples:", *lines, ""] if lines else []
    return "\n".join([*examples, _paragraph(EXIT_CODES)])


def _add_options(parser: argparse.ArgumentParser, command: Command, completing: bool) -> None:
    groups: dict[str, Any] = {}
    for setting in settings_of(command.settings):
        heading = setting.option.group
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add(groups[heading], setting, completing)
    for item in command.lists:
        text = partial(command.listing, item)
        parser.add_argument(item.flag, action=_Show, nargs=0, const=text, help=item.help)


class _Show(argparse.Action):
    """Prints a text and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        """Print what the option is for."""
        print(self.const())
        parser.exit()


def _add(group: Any, setting: Setting, completing: bool) -> None:
    known: Option = setting.option
    more: dict[str, Any] = {"help": _help(setting), "default": argparse.SUPPRESS}
    if setting.kind is bool:
        group.add_argument(setting.flag, dest=setting.field, action="store_true", **more)
        return
    if completing and known.choices:
        more["choices"] = known.choices
    more["metavar"] = known.metavar or (
        "{" + ",".join(known.choices) + "}" if known.choices else None
    )
    if setting.multiple and known.positional:
        # Nothing typed is nothing said, which the settings judge.
        more["nargs"] = "+" if setting.required else "*"
    elif setting.multiple:
        more |= {"nargs": "+", "action": "extend"} if known.several else {"action": "append"}
    elif known.positional and not setting.required:
        more["nargs"] = "?"
    if known.bare is not None:
        more |= {"nargs": "?", "const": known.bare}
    if known.positional:
        group.add_argument(setting.field, **more)
    else:
        more["required"] = setting.required
        group.add_argument(setting.flag, dest=setting.field, **more)


def _help(setting: Setting) -> str:
    text, default = setting.option.help, setting.default
    if setting.required:
        text += "" if setting.option.positional else " (required)"
    elif not (default is None or default == () or isinstance(default, bool)):
        text += f" (default: {setting.option.written(default)})"
    return text.replace("%", "%%")


def result_file(kind: type[Settings], typed: Sequence[str]) -> Path | None:
    """Where a command's result goes, told from words that may be wrong in every other respect.

    Args:
        kind: The command's settings.
        typed: The words after the program's name.
    """
    setting = next((item for item in settings_of(kind) if item.field == kind.RESULT), None)
    if setting is None:
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument(setting.flag, dest="file", nargs="?")
    try:
        found = parser.parse_known_args(list(typed))[0].file
    except argparse.ArgumentError:
        return None
    return kind.result_in(found)
