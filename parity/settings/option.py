"""How a setting is declared, checked, read from text and written as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from efficientdet_spec import Cause, InputError, did_you_mean, listed, require_extra

PRINTED = "-"
"""Stands for standard output in the place of a file."""

HEADINGS = (
    CHECKPOINT := "checkpoint",
    SIDES := "what is compared",
    INPUT := "what to compare on",
    STEPS := "what is run",
    COMPUTING := "how to compute",
    EXPLAINING := "what else to find out",
    RESULTS := "results",
)
"""Under which a help lists settings, in this order."""

_KEY = "option"

_S = TypeVar("_S", bound="Settings")

_TEXT_TYPES = (Path, int, float, str)


@dataclass(frozen=True)
class Option:
    """What is known of a setting besides its type and default.

    Attributes:
        help: What it means, without the default.
        group: Heading under which the help lists it.
        metavar: Stands for its value in the help; None for the name in capitals.
        choices: The values that there are; empty where they are not a short list.
        lowest: The least value of a number.
        highest: The greatest value of a number.
        positional: Whether it is given by its place and not by its name.
        several: Of a setting with several values, whether all may follow the option once.
        bare: The value of an option that is given without one; None where it needs one.
        read: Makes a value of a text where the type alone does not say how.
        written: Makes the text of a value again.
        path: Whether it may name a file, whose ``~`` stands for the home folder.
    """

    help: str
    group: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    lowest: float | None = None
    highest: float | None = None
    positional: bool = False
    several: bool = False
    bare: str | None = None
    read: Callable[[str], Any] | None = None
    written: Callable[[Any], str] = str
    path: bool = False


def option(help: str, group: str, *, default: Any = MISSING, **more: Any) -> Any:
    """A field of a settings class.

    Args:
        help: What it means, without the default.
        group: Heading under which the help lists it, one of :data:`HEADINGS`.
        default: Its value where nothing is said; without one it must be given.
        more: Further attributes of :class:`Option`.
    """
    return dataclasses.field(default=default, metadata={_KEY: Option(help, group, **more)})


def json_option(what: str) -> Any:
    """The option of a command that writes its result, or prints it where no file is named.

    Args:
        what: What is written, in words.
    """
    return option(
        f"write {what} as JSON to FILE, or print it in place of the text",
        default=None,
        group=RESULTS,
        metavar="FILE",
        bare=PRINTED,
        path=True,
    )


@dataclass(frozen=True)
class Setting:
    """A field of a settings class, with all that is known of it.

    Attributes:
        field: Its name in the class.
        kind: Type of the value, or of one of several.
        multiple: Whether there can be several values.
        default: Where nothing is said; ``MISSING`` where it must be given.
        option: The rest.
    """

    field: str
    kind: type
    multiple: bool
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """How a command line names it: ``--num-classes``, or ``IMAGE`` where its place does."""
        if self.option.positional:
            return self.option.metavar or self.field.upper()
        return f"--{self.field.strip('_').replace('_', '-')}"

    @property
    def usage(self) -> str:
        """How the first line of a help shows it."""
        placed = self.option.positional
        value = self.option.metavar or self.field.upper()
        if placed and self.multiple:
            value += " ..."
        text = value if placed else f"{self.flag} {value}"
        return text if self.required else f"[{text}]"

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    def read(self, value: Any) -> Any:
        """One value from text, or from what a caller in Python gives in its place.

        Raises:
            InputError: It is none that the setting can have; the message says which it can.
        """
        if self.option.read is not None:
            value = self.option.read(value if isinstance(value, str) else self._text(value))
        elif self.kind in _TEXT_TYPES:
            value = self._converted(value)
        self._check(value)
        return value

    def _converted(self, value: Any) -> Any:
        if self.kind is Path or (self.option.path and isinstance(value, Path)):
            value = self._path(value)
        elif self.option.path and isinstance(value, str):
            # Only a home folder is spelled out; any other text stays as it was typed.
            named = self._path(value)
            value = str(named) if value.startswith("~") else value
        if self.kind is str and isinstance(value, Path):
            return str(value)
        if isinstance(value, str) and not (self.option.path or value.isprintable()):
            raise self._refused(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
            raise self._refused(value)
        try:
            return self.kind(value)
        except (ValueError, OverflowError, TypeError):
            raise self._refused(value) from None

    def _text(self, value: Any) -> str:
        try:
            return self.option.written(value)
        except (TypeError, ValueError, IndexError):
            raise self._refused(value) from None

    def _path(self, value: Any) -> Path:
        if value == "" or "\0" in str(value):
            raise self._refused(value)
        try:
            return Path(value).expanduser()
        except (RuntimeError, TypeError):
            raise self._refused(value) from None

    def _refused(self, value: Any) -> InputError:
        kind = Path if self.option.path else self.kind
        number = {int: "whole number", float: "number", Path: "path"}.get(kind, "text")
        wanted = self.option.metavar if self.option.read and self.option.metavar else f"a {number}"
        return InputError(f"{self.flag} is {value!r:.80}; give {wanted}.", Cause.OPTION)

    def _check(self, value: Any) -> None:
        known, lowest, highest = self.option.choices, self.option.lowest, self.option.highest
        if known and value not in known:
            raise InputError(
                f"{self.flag} is {value!r:.80}; give one of {', '.join(known)}"
                f"{did_you_mean(value, known)}.",
                Cause.OPTION,
            )
        too_low = lowest is not None and not value >= lowest
        if too_low or (highest is not None and not value <= highest):
            limits = f"from {lowest:g}" + (f" to {highest:.16g}" if highest is not None else "")
            raise InputError(
                f"{self.flag} is {value}; give a number {limits}.",
                Cause.OPTION,
            )

    def words(self, value: Any) -> list[str]:
        """The words of a command line that give this value.

        Args:
            value: A value other than the default.
        """
        if self.option.positional:
            return [self.option.written(item) for item in (value if self.multiple else [value])]
        if self.kind is bool:
            return [self.flag]
        if self.multiple:
            texts = [self.option.written(item) for item in value]
            return [word for text in texts for word in self._pair(text)]
        text = self.option.written(value)
        return [self.flag] if text == self.option.bare else self._pair(text)

    def _pair(self, text: str) -> list[str]:
        return [f"{self.flag}={text}"] if text.startswith("-") else [self.flag, text]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a command is told.

    Attributes:
        COMMAND: Its name, such as ``nodes``.
        HELP: What it does, in a line.
        ABOUT: The same in a paragraph.
        EXAMPLES: Command lines without the name of the program, each with what it is for.
        RESULT: The setting that says where the result goes; empty where the command writes none.
        RESULT_NAME: Of the result's file, where that setting is a folder.
    """

    COMMAND: ClassVar[str]
    HELP: ClassVar[str]
    ABOUT: ClassVar[str] = ""
    EXAMPLES: ClassVar[Sequence[tuple[str, str]]] = ()
    RESULT: ClassVar[str] = ""
    RESULT_NAME: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Read and check every value.

        Raises:
            InputError: One cannot be used.
        """
        for setting in settings_of(type(self)):
            value = getattr(self, setting.field)
            if setting.multiple:
                several = isinstance(value, list | tuple)
                value = tuple(setting.read(item) for item in (value if several else [value]))
            elif value is not None and setting.kind is not bool:
                value = setting.read(value)
            # Whoever gives text for a path or a list for a tuple finds what is declared.
            object.__setattr__(self, setting.field, value)
        self.check()

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Says which.
        """

    def needs(self) -> Sequence[str]:
        """The extras without which the command cannot come to a result."""
        return ()

    def require(self) -> None:
        """Refuse to begin where something would turn out to be missing later.

        Raises:
            InputError: An extra is not installed; says how to install it.
        """
        for extra in self.needs():
            require_extra(extra, f"{self.COMMAND} with these settings")

    @property
    def result_file(self) -> Path | None:
        """The file of the command's result; None where it writes none."""
        return self.result_in(getattr(self, self.RESULT)) if self.RESULT else None

    @classmethod
    def result_in(cls, given: Path | str | None) -> Path | None:
        """The file of the result where :attr:`RESULT` has this value.

        Args:
            given: The value.
        """
        if given is None or str(given) == PRINTED:
            return None
        return Path(given).expanduser() / cls.RESULT_NAME

    @classmethod
    def of(cls: type[_S], **values: Any) -> _S:
        """The settings with these values.

        Args:
            values: By the names of the fields.

        Raises:
            InputError: One is missing, unknown, or cannot be used.
        """
        known = {setting.field: setting for setting in settings_of(cls)}
        for name in values:
            if name not in known:
                raise InputError(
                    f"{cls.COMMAND} has no setting {name!r:.80}{did_you_mean(name, known)}; "
                    f"it has {listed(known, 30)}.",
                    Cause.OPTION,
                )
        missing = [
            item.flag for name, item in known.items() if item.required and name not in values
        ]
        if missing:
            raise InputError(
                f"{cls.COMMAND} is not given {' and '.join(missing)}; add what is missing.",
                Cause.OPTION,
            )
        return cls(**values)


def settings_of(kind: type[Settings]) -> list[Setting]:
    """Every setting of a command, by heading, and under each in the order of declaration.

    Args:
        kind: The command's class.
    """
    hints = get_type_hints(kind)
    found = []
    for item in fields(kind):
        if _KEY in item.metadata:
            inner, multiple = _inner(hints[item.name])
            found.append(Setting(item.name, inner, multiple, item.default, item.metadata[_KEY]))
    return sorted(found, key=lambda item: HEADINGS.index(item.option.group))


def _inner(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether there can be several."""
    parts = get_args(hint)
    if len(parts) == 2 and parts[1] is type(None):
        return _inner(parts[0])[0], False
    if len(parts) == 2 and parts[1] is Ellipsis:
        return _inner(parts[0])[0], True
    return hint, False


def words(settings: Settings) -> list[str]:
    """The command and its options as a command line, with what is not as by default.

    Args:
        settings: What the command is told.
    """
    placed: list[str] = []
    named: list[str] = []
    for setting in settings_of(type(settings)):
        value = getattr(settings, setting.field)
        if value is None or (not setting.required and value == setting.default):
            continue
        (placed if setting.option.positional else named).extend(setting.words(value))
    if any(word.startswith("-") for word in placed):
        # Behind the two dashes a name may begin with a dash.
        return [settings.COMMAND, *named, "--", *placed]
    return [settings.COMMAND, *placed, *named]
